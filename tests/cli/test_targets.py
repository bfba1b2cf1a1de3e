"""``convert --target`` and ``check --target``: what is written passes, and Caffe gives the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from oracles.training import run_net

from resnet_proto import forward, load, random_weights, read_prototxt, save, to_prototxt
from resnet_proto.build import deploy_net
from resnet_proto.check.target import NAMES
from resnet_proto.cli import main
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.layers import Convolution
from resnet_proto.presets import PRESETS


def small(**fields):
    """ResNet-50 with few channels for small images: all of its layers, little of the work."""
    sizes = {"width": 4, "stem_width": 8, "classes": 10, "input_size": 100}
    return deploy_net(replace(PRESETS["resnet-50"].spec, **sizes, **fields))


V1, V1_5 = small(), small(stride_in="3x3", pool="padded", head="global")
X = np.random.default_rng(0).normal(size=(1, 3, 100, 100)).astype(np.float32)


def invoke(*args):
    return CliRunner().invoke(main, [*map(str, args)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """v1, as released with ``input_dim``, and v1.5 with floor pooling: prototxt and caffemodel."""
    folder = tmp_path_factory.mktemp("nets")
    found = {}
    for name, net in (("v1", V1), ("v1.5", V1_5)):
        weights = random_weights(net)
        (folder / f"{name}.prototxt").write_text(to_prototxt(net))
        save(folder / f"{name}.caffemodel", weights, net)
        found[name] = net, weights, folder / f"{name}.prototxt", folder / f"{name}.caffemodel"
    return found


WHICH = [(name, which) for name in NAMES for which in ("v1", "v1.5")]


@pytest.fixture(scope="module")
def converted(tmp_path_factory, files):
    """Target and net -> what the command says, and the folder that it writes to."""
    folder = tmp_path_factory.mktemp("converted")
    found = {}
    for name, which in WHICH:
        place = folder / f"{name}-{which}"
        place.mkdir()
        _, _, proto, model = files[which]
        args = ("convert", model, place / "out.caffemodel", "--net", proto, "--target", name)
        found[name, which] = invoke(*args), place
    return found


@pytest.mark.parametrize(("name", "which"), WHICH)
def test_convert(files, converted, name, which):
    """Every target takes both, and the result is the same."""
    net, weights, _, _ = files[which]
    result, place = converted[name, which]
    assert result.exit_code == 0, result.output
    beside, out = place / "out.prototxt", place / "out.caffemodel"
    checked = invoke("check", beside, "--target", name, "--weights", out, "--json")
    rules = {finding["rule"] for finding in json.loads(checked.output)["findings"]}
    assert not [rule for rule in rules if rule.startswith("target-")]
    assert checked.exit_code == 0
    ours = forward(read_prototxt(beside), load(out), X, outputs=["prob"])["prob"]
    theirs = forward(net, weights, X, outputs=["prob"])["prob"]
    assert relative_l2(ours, theirs) <= TOLERANCE


def test_the_real_caffe_runs_what_is_written(tmp_path, files, converted, caffe_python):
    """The very files, but for those with a field that this Caffe does not know."""
    places = {}
    for (_, which), (_, made) in converted.items():
        proto = made / "out.prototxt"
        if proto.exists() and "ceil_mode" not in proto.read_text():
            places[tmp_path / made.name] = which
            (tmp_path / made.name).mkdir()
            write_job(tmp_path / made.name, proto, made / "out.caffemodel", {"data": X})
    run_jobs(caffe_python, list(places))

    assert len(places) == len(WHICH) - 2
    for place, which in places.items():
        net, weights, _, _ = files[which]
        theirs = forward(net, weights, X, outputs=["prob"])["prob"]
        assert relative_l2(read_job(place)["prob"], theirs) <= TOLERANCE, place.name


def test_a_forks_caffe_runs_ceil_mode(tmp_path, files, converted, caffe_binary):
    """The others: net and weights as they were written."""
    made = converted["openvino", "v1.5"][1]
    new, weights = read_prototxt(made / "out.prototxt"), load(made / "out.caffemodel")

    status, log, blobs = run_net(caffe_binary, tmp_path, new, {"data": X}, weights, ["prob"])

    assert status == 0, log[-2000:]
    net, weights, _, _ = files["v1.5"]
    theirs = forward(net, weights, X, outputs=["prob"])["prob"]
    assert relative_l2(blobs["prob"].reshape(theirs.shape), theirs) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("caffe-1.0", "pool1_floor"),
        ("openvino", "ceil_mode: false"),
        ("mindspore-lite", "round_mode: FLOOR"),
    ],
)
def test_floor_in_the_words_of_the_target(tmp_path, files, name, floor):
    _, _, proto, model = files["v1.5"]

    result = invoke("convert", model, tmp_path / "o.caffemodel", "--net", proto, "--target", name)

    text = (tmp_path / "o.prototxt").read_text()
    words = ("pool1_floor", "ceil_mode: false", "round_mode: FLOOR")
    assert [word for word in words if word in text] == [floor]
    assert ("floor pooling" in result.stderr) == (name != "mindspore-lite")


def test_check_says_which_target_and_source(files):
    result = invoke("check", files["v1.5"][2], "--target", "tensorrt")

    assert result.exit_code == 1
    assert "layer 'pool1': round_mode in a Pooling" in result.stdout
    assert "opParsers/parsePooling.cpp" in result.stdout
    assert "`convert --target tensorrt` writes what it takes" in result.stdout


def test_what_is_left_is_refused(tmp_path):
    """Each finding is said, and nothing is written."""
    net = read_prototxt("""
    input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 7
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
      convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "t" type: "Threshold" bottom: "c" top: "t" }
    layer { name: "p" type: "Pooling" bottom: "t" top: "p"
      pooling_param { pool: STOCHASTIC kernel_size: 3 } }
    """)
    (tmp_path / "n.prototxt").write_text(to_prototxt(net))
    save(tmp_path / "n.npz", random_weights(net), net)

    result = invoke(
        "convert", tmp_path / "n.npz", tmp_path / "o.caffemodel", "--target", "openvino"
    )

    assert result.exit_code == 1
    assert "does not accept the net; nothing was written" in result.output
    assert "layer 't': OpenVINO's Model Optimizer takes no Threshold" in result.output
    assert "layer 'p': pool stochastic in a Pooling" in result.output
    assert not (tmp_path / "o.caffemodel").exists()


def test_what_is_left_of_an_onnx_model_has_the_name_of_its_file(tmp_path):
    pytest.importorskip("onnx")
    net = read_prototxt("""
    input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 7
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
      convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "t" type: "Threshold" bottom: "c" top: "t" }
    """)
    (tmp_path / "n.prototxt").write_text(to_prototxt(net))
    save(tmp_path / "n.npz", random_weights(net), net)
    assert invoke("convert", tmp_path / "n.npz", tmp_path / "m.onnx").exit_code == 0

    result = invoke(
        "convert", tmp_path / "m.onnx", tmp_path / "o.caffemodel", "--target", "openvino"
    )

    assert result.exit_code == 1
    assert f"\n{tmp_path / 'm.onnx'}: error: layer " in result.output


def test_a_batch_of_one(tmp_path):
    """Without batches, as in ncnn; the proof is with one image too."""
    net = read_prototxt("""
    input: "data" input_dim: 5 input_dim: 3 input_dim: 9 input_dim: 7
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
      convolution_param { num_output: 4 kernel_size: 3 } }
    """)
    (tmp_path / "n.prototxt").write_text(to_prototxt(net))
    save(tmp_path / "n.npz", random_weights(net), net)

    result = invoke("convert", tmp_path / "n.npz", tmp_path / "o.caffemodel", "--target", "ncnn")

    assert result.exit_code == 0, result.output
    assert "for ncnn's caffe2ncnn: the only batch size" in result.stderr
    assert "1 blob within 1e-05" in result.stderr
    assert read_prototxt(tmp_path / "o.prototxt").inputs() == {"data": (1, 3, 9, 7)}


def test_weights_go_with_a_target(tmp_path, files):
    _, weights, proto, model = files["v1"]
    few = {key: value for key, value in weights.items() if key != "conv1.weight"}
    save(tmp_path / "few.npz", few)

    missing = invoke("check", proto, "--target", "mnn", "--weights", tmp_path / "few.npz")
    whole = invoke("check", proto, "--target", "mnn", "--weights", model)
    alone = invoke("check", proto, "--weights", model)

    assert "layer 'conv1': no weight in the weights" in missing.stdout
    assert missing.exit_code == 1
    assert whole.exit_code == 0
    assert alone.exit_code == 2
    assert "--weights goes with --target" in alone.stderr


def test_a_train_val_net_becomes_a_deploy_net(tmp_path, files):
    """Data and loss are nothing that a tool chain takes."""
    _, _, proto, model = files["v1"]
    made = invoke("train-val", proto, "--out", tmp_path)
    assert made.exit_code == 0, made.output
    out = tmp_path / "out.caffemodel"

    result = invoke(
        "convert", model, out, "--net", tmp_path / "train_val.prototxt", "--target", "rknn-toolkit"
    )

    assert result.exit_code == 0, result.output
    types = {layer.type for layer in read_prototxt(tmp_path / "out.prototxt").layers}
    assert not types & {"Data", "SoftmaxWithLoss", "Accuracy"}


def test_the_target_is_in_the_help():
    for command in ("check", "convert"):
        assert "tpu-mlir" in invoke(command, "--help").stdout


def test_subsample_is_fixed():
    """The layer that old-layers puts in is no parameter of a net."""
    assert Convolution.subsample("s", "a", "b", 4, (2, 1)).fixed


def test_a_net_that_trains_is_sent_to_deploy(tmp_path):
    """And what is found is nothing for that target alone."""
    train_val, deploy = tmp_path / "train_val.prototxt", tmp_path / "deploy.prototxt"
    invoke("gen", "--depth", 18, "--out", tmp_path)

    refused = invoke("check", train_val, "--target", "opencv-4")
    passed = invoke("check", deploy, "--target", "opencv-4")

    assert refused.exit_code == 1
    assert (
        "this is a train_val net, OpenCV 4's dnn takes the net for inference; `re" in refused.stdout
    )
    assert refused.stdout.count(": error: ") == 1
    assert passed.stdout == f"nothing found in {deploy} (net), for OpenCV 4's dnn\n"
