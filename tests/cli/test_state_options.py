"""``--phase``, ``--level``, ``--net-stage``, ``--input-shape``: every command that has them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from resnet_proto import forward, load, random_weights, read_prototxt, save
from resnet_proto.cli import main
from resnet_proto.prototxt import parse_net

NET = """
name: "both"
layer {
  name: "data" type: "HDF5Data" top: "data" top: "label" include { stage: "data" }
  hdf5_data_param { source: "list" batch_size: 6 }
}
layer {
  name: "data" type: "Input" top: "data" exclude { stage: "data" }
  input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 }
}
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" include { min_level: 1 }
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" exclude { min_level: 1 }
  pooling_param { pool: MAX global_pooling: true } }
layer {
  name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" exclude { stage: "fine" }
  inner_product_param { num_output: 5 }
}
layer {
  name: "fine" type: "InnerProduct" bottom: "pool" top: "fc" include { stage: "fine" }
  inner_product_param { num_output: 11 }
}
layer {
  name: "more" type: "InnerProduct" bottom: "pool" top: "more" include { phase: TRAIN }
  inner_product_param { num_output: 8 }
}
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" exclude { stage: "data" } }
layer {
  name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
  include { stage: "data" }
}
"""
FINE = ("--level", "1", "--net-stage", "fine")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def call(*arguments, status=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def rows(*arguments):
    return {row["layer"]: row for row in json.loads(call(*arguments, "--json").stdout)["rows"]}


def test_summary(file):
    plain, fine = rows("summary", file), rows("summary", file, *FINE, "--phase", "TRAIN")

    assert [*plain] == ["data", "conv", "pool", "fc", "prob"]
    assert [*fine] == ["data", "conv", "pool", "fine", "more", "prob"]
    assert fine["fine"]["parameters"] == 11 * 5
    assert call("summary", file, "--phase", "train").stdout.count("InnerProduct") == 2


def test_summary_of_another_size(file):
    of = rows("summary", file, "--input-shape", "4,3,9,8")
    data = rows("summary", file, "--net-stage", "data", "--input-shape", "1,3,9,8")

    assert of["conv"]["tops"] == {"conv": [4, 4, 7, 6]}
    assert of == rows("summary", file, "--input-shape", "data=4,3,9,8")
    assert data["data"]["tops"] == {"data": [6, 3, 9, 8], "label": [6]}  # its batch_size stands
    assert data["conv"]["tops"] == {"conv": [6, 4, 7, 6]}


@pytest.mark.parametrize(
    ("shapes", "status", "message"),
    [
        (["4,4,9,8"], 1, "layer 'conv' (Convolution): weight is 4x3x3x3, and with data 4x4x9x8"),
        (["dat=4,3,9,8"], 1, "the net has no input 'dat'; did you mean data?"),
        (["data=4,3,9,8", "data=4,3,9,9"], 2, "the shape of data is given twice"),
        (["4,3,9,8", "4,3,9,9"], 2, "the shape of the input is given twice"),
        (["4,3,x"], 2, "'4,3,x' is not a list of positive whole numbers"),
        (["data="], 2, "is not a list of positive whole numbers"),
        (["1,3,2,2"], 1, "kernel 3x3 is too large"),
    ],
)
def test_shapes_that_are_refused(file, shapes, status, message):
    options = [part for shape in shapes for part in ("--input-shape", shape)]
    assert message in call("summary", file, *options, status=status).stderr


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--phase", "both"], 2, "'both' is not one of"),
        (["--level", "x"], 2, "'x' is not a whole number"),
        (["--level", str(2**31)], 1, "level is 2147483648; a number of 32 bits is needed"),
    ],
)
def test_states_that_are_refused(file, options, status, message):
    assert message in call("summary", file, *options, status=status).stderr


@pytest.mark.parametrize("command", ["forward", "verify", "spec", "deploy", "train-val", "check"])
def test_phase_train_is_not_for_what_computes(file, command):
    """Layers are defined at TEST; what is recognised and deployed is what runs then."""
    assert "No such option '--phase'" in call(command, file, "--phase", "TRAIN", status=2).stderr


def weights_of(net, path):
    save(path, random_weights(net, 3), net)
    return path


def test_convert_and_inspect(file, tmp_path):
    net = read_prototxt(file)
    given = weights_of(net.at(phase="TRAIN", level=1, stages="fine"), tmp_path / "w.safetensors")
    state = ("--phase", "TRAIN", *FINE)

    call("convert", given, tmp_path / "w.caffemodel", "--net", file, *state)
    converted = call("inspect", tmp_path / "w.caffemodel", "--net", file, *state).stdout
    assert "Caffe: 3 layers copied" in converted
    assert "is left" not in call("inspect", given, "--net", file, *state).stdout
    other = call("inspect", given, "--net", file, status=1).stdout
    assert "does not fit: 1 layer of the net is not in the file" in other
    assert (
        "does not fit"
        in call("convert", given, tmp_path / "x.caffemodel", "--net", file, status=1).stderr
    )
    with load(tmp_path / "w.caffemodel") as written:
        assert {key.split(".")[0] for key in written} == {"conv", "fine", "more"}


def test_the_net_that_a_file_carries(file, tmp_path):
    """It has all layers, and is read for the state again."""
    net = read_prototxt(file).at(stages="fine")
    weights_of(net, tmp_path / "w.npz")
    carried = ["convert", tmp_path / "w.npz", tmp_path / "w.caffemodel"]

    assert "does not fit" in call(*carried, status=1).stderr
    call(*carried, "--net-stage", "fine")
    for words in (carried, ["inspect", tmp_path / "w.caffemodel"]):
        words = [
            word if word != tmp_path / "w.npz" else tmp_path / "w.caffemodel" for word in words
        ]
        assert "add --net NET" in call(*words, "--level", "1", status=2).stderr


@pytest.mark.parametrize("engine", ["numpy", "float64", "caffe", "opencv", "onnxruntime", "torch"])
def test_forward(file, tmp_path, engine, request):
    if engine == "torch":
        request.getfixturevalue("torch")
    net = read_prototxt(file).at(level=1, stages="fine")
    given = weights_of(net, tmp_path / "w.caffemodel")
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    python = (
        ["--caffe-python", request.getfixturevalue("caffe_python")] if engine == "caffe" else []
    )

    call("forward", file, "--weights", given, "--input", tmp_path / "x.npy", "--engine", engine,
         *python, "--out", tmp_path / "y.npz", *FINE)  # fmt: skip

    with np.load(tmp_path / "y.npz") as blobs:
        assert [*blobs] == ["prob"]
        expected = forward(net, random_weights(net, 3), x)["prob"]
        assert expected.shape == (2, 11)
        np.testing.assert_allclose(blobs["prob"], expected, rtol=1e-4)


def test_verify(file, caffe_python):
    """Caffe reads the same file for the same state, and for the same size."""
    result = call("verify", file, "--weights", "random", "--against", "caffe", "--caffe-python",
                  caffe_python, *FINE, "--input-shape", "3,3,9,6")  # fmt: skip

    assert "5 blobs within 1e-05" in result.stdout
    assert "3x11" in result.stdout


def test_forward_of_another_size(file, tmp_path):
    """One image is warped to the size and repeated, several are the batch."""
    net = read_prototxt(file)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 3), np.uint8)
    names = []
    for i, image in enumerate(pixels):
        names.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(names[-1])
    given = weights_of(net, tmp_path / "w.npz")
    common = ["forward", file, "--weights", given, "--blob", "data,prob"]
    common += ["--out", tmp_path / "y.npz"]
    x = pixels[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)

    def run(*arguments):
        call(*common, *arguments)
        with np.load(tmp_path / "y.npz") as blobs:
            return dict(blobs)

    images = [part for name in names for part in ("--input", name)]
    batch = run(*images, "--input-shape", "3,3,9,8")
    np.testing.assert_array_equal(batch["data"], x)
    np.testing.assert_allclose(
        batch["prob"],
        forward(net.with_input_shapes({"": x.shape}), random_weights(net, 3), x)["prob"],
        rtol=1e-5,
    )
    one = run("--input", f"data={names[1]}", "--input-shape", "data=4,3,9,8")
    np.testing.assert_array_equal(one["data"], x[[1, 1, 1, 1]])
    assert run("--input", names[0], "--input-shape", "1,3,6,13")["data"].shape == (1, 3, 6, 13)

    assert run(*images)["data"].shape == (3, 3, 7, 5)  # some at a time
    wrong = call("verify", *common[1:4], "--against", "float64", *images, status=1).stderr
    assert "3 images are given for input 'data', which takes 2; --input-shape data=3,3,7,5" in wrong
    np.save(tmp_path / "x.npy", x)
    array = ["--input", tmp_path / "x.npy"]
    wrong = call(*common, *array, status=1).stderr
    assert "3x3x9x8, input 'data' needs 2x3x7x5; --input-shape data=3,3,9,8 makes it" in wrong
    assert run(*array, "--input-shape", "data=3,3,9,8")["prob"].shape == (3, 5)
    assert "only images make a batch" in call(*common, *array, *images, status=2).stderr


def test_memory(file):
    def figures(*arguments):
        return json.loads(call("memory", file, *arguments, "--json").stdout)

    plain, fine = figures(), figures(*FINE)
    assert fine["phases"]["test"]["weights"] - plain["phases"]["test"]["weights"] == 4 * 5 * 6
    assert plain["phases"]["train"]["weights"] - plain["phases"]["test"]["weights"] == 4 * 5 * 8
    large = figures("--input-shape", "4,3,7,5")
    assert large["batch"] == 4
    assert large["phases"] == figures("--batch", "4")["phases"]
    assert figures("--input-shape", "1,3,7,5", "--batch", "4") == large
    data = figures("--net-stage", "data", "--input-shape", "1,3,7,5")
    assert data["batch"] == 6  # its own


def test_deploy_and_summary_agree(file, tmp_path):
    deployed = tmp_path / "deploy.prototxt"
    state = ("--net-stage", "data", "--net-stage", "fine")

    call("deploy", file, *state, "--input-shape", "3,3,9,8", "--out", deployed)

    found = rows("summary", deployed)
    assert [*found] == ["input", "conv", "pool", "fine", "prob"]
    assert found["conv"]["tops"] == {"conv": [3, 4, 7, 6]}
    assert (
        "the deploy net has one input, 'data'"
        in call("deploy", file, *state, "--input-shape", "label=3", status=2).stderr
    )
    assert "give the shape (--input-shape" in call("deploy", file, *state, status=1).stderr


def test_train_val_of_a_stage(file):
    """The layers of the state are trained; the others are not there."""
    options = ("--net-stage", "fine", "--set", "data=dummy", "--only", "train_val", "--out", "-")

    trained = call("train-val", file, *options).stdout

    names = [layer.name for layer in parse_net(trained).filtered("TRAIN").layers]
    assert names == ["data", "conv", "pool", "fine", "loss"]


def test_spec_of_a_stage(tmp_path):
    """The layers of other stages are in no one's way."""
    text = call("gen", "--preset", "cifar-resnet-20", "--only", "deploy", "--out", "-").stdout
    path = tmp_path / "net.prototxt"
    path.write_text(text + 'layer { name: "x" type: "Exotic" include { not_stage: "clean" } }')

    assert call("spec", path, status=1)
    assert "preset cifar-resnet-20" in call("spec", path, "--net-stage", "clean").stderr
    sized = call("spec", path, "--net-stage", "clean", "--input-shape", "1,3,64,64")
    assert "preset cifar-resnet-20 but for input_size=64" in sized.stderr


SOLVER = """net: "%s"
base_lr: 0.1 lr_policy: "fixed" max_iter: 10 test_iter: 1 test_interval: 5
train_state { stage: "data" %s } test_state { stage: "data" stage: "wrong" }
"""
WRONG = """layer {
  name: "bad" type: "Slice" bottom: "pool" top: "x" top: "y" include { stage: "wrong" }
  slice_param { axis: 7 }
}
"""


def test_the_level_of_a_solver(tmp_path, file):
    """``caffe train`` sets that of the net it trains, whatever the solver says; no test net's."""
    up = 'layer { name: "up" type: "AbsVal" bottom: "prob" top: "up" include { min_level: 1 } }'
    file.write_text(NET + up)
    solver = tmp_path / "solver.prototxt"
    states = "train_state { level: 1 } test_state { level: 1 }"
    solver.write_text(f'net: "{file}" test_iter: 1 base_lr: 0.1 {states}')

    assert "up" in rows("summary", solver)
    assert "up" not in rows("summary", solver, "--phase", "TRAIN")
    assert "up" in rows("summary", solver, "--phase", "TRAIN", "--level", "1")


def test_check(tmp_path, file):
    """A net in a state, and a solver's nets in theirs."""
    file.write_text(NET + WRONG)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(SOLVER % (file, ""))

    def errors(*arguments, status):
        size = ("--input-shape", "data=1,3,7,5")
        result = call("check", *arguments, *size, "--json", status=status)
        found = json.loads(result.stdout)["findings"]
        return [(row["layers"], row["reason"]) for row in found if row["rule"] == "does-not-fit"]

    assert errors(file, status=0) == []
    assert errors(file, "--net-stage", "wrong", status=1)[0][0] == ["bad"]
    ((layers, reason),) = errors(solver, status=1)
    assert layers == ["bad"]
    assert reason.startswith("at phase TEST")
    assert len(errors(solver, "--net-stage", "wrong", status=1)) == 1  # now in both phases
    assert "phase" not in errors(solver, "--net-stage", "wrong", status=1)[0][1]
