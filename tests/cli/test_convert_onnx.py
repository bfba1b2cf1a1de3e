"""``convert`` to ONNX: what is written, what is said, what is refused."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from resnet_proto import forward, load, random_weights, read_prototxt, save
from resnet_proto.cli import main
from resnet_proto.engine.compare import TOLERANCE, relative_l2

LAYERS = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 2 stride: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 6 } }
"""
DEPLOY = f"""name: "tiny"
layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 7 dim: 5 }} }} }}
{LAYERS}
layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}
"""  # noqa: E501
TRAIN_VAL = f"""name: "tiny"
layer {{ name: "d" type: "DummyData" top: "data" top: "label"
  dummy_data_param {{ shape {{ dim: 9 dim: 3 dim: 7 dim: 5 }} shape {{ dim: 9 }} }} }}
{LAYERS}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
layer {{ name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc"
  include {{ phase: TEST }} }}
"""
NET = read_prototxt(DEPLOY)
WEIGHTS = random_weights(NET)
X = np.random.default_rng(3).uniform(0, 255, (2, 3, 7, 5)).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "in.caffemodel"
    save(path, WEIGHTS, NET)
    return path


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(DEPLOY)
    return path


def outputs(file, **feeds):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def ops(file):
    return [node.op_type for node in onnx.load(file).graph.node]


def expected(x):
    net = NET.with_input_shapes({"data": x.shape})
    return forward(net, WEIGHTS, x, dtype="float64", outputs=["prob"])["prob"]


def test_folded_and_for_any_batch(tmp_path, model, net):
    out = tmp_path / "out.onnx"

    result = run(model, out, "--net", net)

    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first == f"wrote {out}: {out.stat().st_size:,} bytes, opset 13"
    assert second.startswith(
        "onnxruntime against float64, random input: 3 blobs within 1e-05; the worst is '"
    )
    onnx.checker.check_model(out, full_check=True)
    assert ops(out) == ["Conv", "Relu", "Flatten", "Gemm", "Softmax"]
    answer = outputs(out, data=X)
    assert answer.keys() == {"prob"}
    assert relative_l2(answer["prob"], expected(X)) <= TOLERANCE


def test_not_folded(tmp_path, model, net):
    out = tmp_path / "out.onnx"

    result = run(model, out, "--net", net, "--no-fold-bn", "--dynamic", "none", "--opset", 18)

    assert result.exit_code == 0, result.output
    loaded = onnx.load(out)
    assert "BatchNormalization" in ops(out)
    made = {name for node in loaded.graph.node for name in node.output}
    assert made >= {"conv", "conv@conv", "conv@bn", "conv@scale", "fc", "prob"}
    assert loaded.opset_import[0].version == 18
    (value,) = loaded.graph.input
    assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [1, 3, 7, 5]


def test_the_net_is_carried(tmp_path, model, net):
    npz, out = tmp_path / "a.npz", tmp_path / "b.onnx"
    assert run(model, npz, "--net", net).exit_code == 0

    result = run(npz, out)

    assert result.exit_code == 0, result.output
    assert relative_l2(outputs(out, data=X)["prob"], expected(X)) <= TOLERANCE
    assert "contains no net; add --net NET" in run(model, out).output


def test_a_train_val_net(tmp_path, model):
    """Data becomes an input, the loss a softmax; nothing is left of labels."""
    path, out = tmp_path / "train_val.prototxt", tmp_path / "out.onnx"
    path.write_text(TRAIN_VAL)

    result = run(model, out, "--net", path)

    assert result.exit_code == 0, result.output
    assert relative_l2(outputs(out, data=X)["prob"], expected(X)) <= TOLERANCE


@pytest.mark.parametrize("options", [
    ["--preprocess", "torchvision"],
    ["--mean", "104,117,123", "--scale", "0.017"],
    ["--mean", "MAP"],
])  # fmt: skip
def test_preprocessing_in_the_model(tmp_path, model, net, options):
    """An RGB image goes in; padding behind the mean is 0, as in Caffe."""
    out = tmp_path / "out.onnx"
    mean = np.array([123, 117, 104]).reshape(3, 1, 1)
    scale = np.full((3, 1, 1), 0.017 if "--scale" in options else 1)
    order = [2, 1, 0]
    if options[-1] == "MAP":
        mean = np.random.default_rng(5).uniform(0, 255, (3, 7, 5)).astype(np.float32)
        np.save(tmp_path / "mean.npy", mean)
        options = ["--mean", tmp_path / "mean.npy"]
    elif options[-1] == "torchvision":
        mean = 255 * np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
        scale = 1 / (255 * np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1))
        order = [0, 1, 2]
    else:
        mean = mean[::-1]
    image = np.round(X)

    result = run(model, out, "--net", net, "--with-preprocessing", *options)

    assert result.exit_code == 0, result.output
    onnx.checker.check_model(out, full_check=True)
    x = ((image[:, order] - mean) * scale).astype(np.float32)
    assert relative_l2(outputs(out, image=image)["prob"], expected(x)) <= TOLERANCE


def test_preprocessing_as_metadata(tmp_path, model, net):
    """Said, and not done; without options nothing is said."""
    said, silent = tmp_path / "said.onnx", tmp_path / "silent.onnx"

    assert run(model, said, "--net", net, "--preprocess", "vgg").exit_code == 0
    assert run(model, silent, "--net", net).exit_code == 0

    assert {prop.key: prop.value for prop in onnx.load(said).metadata_props} == {
        "input": "data", "channels": "BGR", "mean": "103.939,116.779,123.68",
        "scale": "1.0", "crop": "256", "preprocessing": "before the model",
    }  # fmt: skip
    assert not onnx.load(silent).metadata_props
    assert ops(said) == ops(silent)


def test_json(tmp_path, model, net):
    out = tmp_path / "out.onnx"

    verified = json.loads(run(model, out, "--net", net, "--json").stdout)
    not_verified = json.loads(run(model, out, "--net", net, "--json", "--no-verify").stdout)

    assert verified["verified"]
    assert verified["blobs"] == 3
    assert verified["worst"]["distance"] <= TOLERANCE
    assert (not_verified["verified"], not_verified["worst"]) == (False, None)


def test_a_wrong_file_is_not_kept(tmp_path, model, net, monkeypatch):
    """With a writer that is wrong by one percent, the proof fails, and the old file stays."""
    from resnet_proto.formats import onnx_layers as ours

    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    right = ours.WRITERS["ReLU"]

    def wrong(site, layer):
        x = site.op("Mul", [*site.bottoms, site.number("wrong", 1.01)])
        right(ours.replace(site, bottoms=(x,)), layer)

    monkeypatch.setitem(ours.WRITERS, "ReLU", wrong)

    result = run(model, out, "--net", net)
    kept = out.read_bytes()
    anyway = run(model, out, "--net", net, "--no-verify", "--force")

    assert result.exit_code == 1
    assert "the worst is 'conv' with relative L2 1.00e-02, over 1e-05" in result.output
    assert kept == b"old"
    assert anyway.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "deploy.prototxt", "in.caffemodel", "out.onnx"
    ]  # fmt: skip


def test_without_onnxruntime(tmp_path, model, net, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)

    result = run(model, tmp_path / "out.onnx", "--net", net)

    assert result.exit_code == 0
    assert "our own reading of the file against float64" in result.stderr


def test_a_smaller_net_for_caffe(tmp_path, model, net, caffe_python):
    """--fold-bn to a caffemodel: a new prototxt lies beside it, and the real Caffe runs both."""
    from resnet_proto.engine import run as run_engine

    out = tmp_path / "small.caffemodel"

    result = run(model, out, "--net", net, "--fold-bn")

    assert result.exit_code == 0, result.output
    assert "the new net against the old, random input: 3 blobs within 1e-05" in result.stderr
    small = read_prototxt(tmp_path / "small.prototxt")
    assert [layer.type for layer in small.layers] == [
        "Input", "Convolution", "ReLU", "InnerProduct", "Softmax"
    ]  # fmt: skip
    assert list(load(out)) == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]
    files = {"net_file": tmp_path / "small.prototxt", "weights_file": out}
    caffes = run_engine(
        "caffe", small, load(out), {"data": X[:1]}, caffe_python=caffe_python, **files
    )
    assert relative_l2(caffes["prob"], expected(X[:1])) <= TOLERANCE


def test_a_smaller_net_elsewhere(tmp_path, model, net):
    """Without --fold-bn nothing is folded; npz carries the net; a prototxt is not overwritten."""
    as_it_is, small = tmp_path / "a.npz", tmp_path / "b.npz"

    assert run(model, as_it_is, "--net", net).exit_code == 0
    assert run(model, small, "--net", net, "--fold-bn").exit_code == 0
    (tmp_path / "c.prototxt").write_text("mine")
    refused = run(model, tmp_path / "c.caffemodel", "--net", net, "--fold-bn")
    missing = run(model, tmp_path / "d.npz", "--fold-bn")

    assert "bn.mean" in load(as_it_is)
    assert "bn.mean" not in load(small)
    assert "BatchNorm" not in load(small).net_text
    assert refused.exit_code == 1
    assert "c.prototxt exists with other content" in refused.output
    assert not (tmp_path / "c.caffemodel").exists()
    assert (missing.exit_code, "add --net NET" in missing.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["OUT.onnx", "--opset", "12"], 2, "'12' is not a whole number from 13 to 21"),
        (["OUT.npz", "--opset", "13"], 2, "--opset is for ONNX; give OUT the suffix .onnx"),
        (["OUT.npz", "--mean", "3"], 2, "--mean is for ONNX"),
        (["-", "--to", "onnx"], 2, "OUT is -: a model needs a file, because it is run"),
        (["OUT.onnx", "--dynamic", "size"], 1, "no such size; --dense makes a Convolution of it"),
        (
            ["OUT.onnx", "--with-preprocessing", "--channels", "GRAY"],
            1,
            "images of 1 channel need one such input",
        ),
        (["new/OUT.onnx", "--dynamic", "size"], 1, "the weights allow no such size"),
    ],
)
def test_refused(tmp_path, model, net, arguments, status, message):
    target, *options = arguments
    result = run(model, target if target == "-" else tmp_path / target, *options, "--net", net)

    assert (result.exit_code, message in result.output) == (status, True), result.output
    assert {path.name for path in tmp_path.iterdir()} == {model.name, net.name}


def test_the_weights_of_a_file_are_read_once(tmp_path, model, net):
    """A file is a file: what is written is what the caffemodel has."""
    out = tmp_path / "out.onnx"
    run(model, out, "--net", net, "--no-fold-bn")

    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    for name in ("conv.weight", "conv.bias", "fc.weight", "scale.bias"):
        np.testing.assert_array_equal(stored[name].ravel(), load(model)[name].ravel())
