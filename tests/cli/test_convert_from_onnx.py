"""``convert`` from ONNX: what is written, what is said, what is refused."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from oracles.onnx_graphs import Model

from resnet_proto import forward, load, read_prototxt
from resnet_proto.cli import main
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.formats import onnx_reader

X = np.random.default_rng(3).normal(size=(1, 3, 7, 6)).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.fixture
def model(tmp_path):
    """Convolution, BatchNorm, ReLU, a pooling that rounds down, an inner product."""
    rng = np.random.default_rng(1)
    model = Model(rng, 13)
    values = [rng.normal(size=4), rng.normal(size=4), rng.normal(size=4), rng.uniform(0.5, 2, 4)]
    y = model.node("Conv", model.input(*X.shape), model.constant(rng.normal(size=(4, 3, 3, 3))),
                   pads=[1, 1, 1, 1])  # fmt: skip
    y = model.node("BatchNormalization", y, *map(model.constant, values))
    y = model.node("MaxPool", model.node("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    y = model.node("Flatten", y)
    model.node("Gemm", y, model.constant(rng.normal(size=(36, 5))))
    model.proto(path=tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def expected(path, x=X):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (value,) = session.run(None, {"x0": x})
    return value


def result(net, weights, x=X):
    last = net.layers[-1].tops[0]
    return forward(net, weights, x, dtype="float64", outputs=[last])[last]


def test_a_caffemodel_and_its_prototxt(tmp_path, model):
    out = tmp_path / "out.caffemodel"

    done = run(model, out)

    assert done.exit_code == 0, done.output
    proof, wrote, beside = done.stderr.splitlines()
    assert proof.startswith(
        "the new net against onnxruntime, random input: 3 blobs within 1e-05; the worst is '"
    )
    assert wrote == f"wrote {out}: 7 blobs, 1,220 bytes of values, read back equal"
    assert beside == f"written {tmp_path / 'out.prototxt'}"
    text = (tmp_path / "out.prototxt").read_text()
    assert "round_mode: FLOOR" in text
    net = read_prototxt(text)
    assert [layer.type for layer in net.layers] == [
        "Input", "Convolution", "BatchNorm", "Scale", "ReLU", "Pooling", "InnerProduct"
    ]  # fmt: skip
    assert relative_l2(result(net, load(out)), expected(model)) <= TOLERANCE


def test_with_a_transform(tmp_path, model):
    done = run(model, tmp_path / "out.npz", "--fold-bn", "--json")

    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["blobs"] == 3
    assert answer["worst_blob"]
    assert 0 <= answer["relative_l2"] <= TOLERANCE
    weights = load(tmp_path / "out.npz")
    net = read_prototxt(weights.net_text)
    assert relative_l2(result(net, weights), expected(model)) <= TOLERANCE


def test_to_onnx_again(tmp_path, model):
    done = run(model, tmp_path / "out.onnx")

    assert done.exit_code == 0, done.output
    assert relative_l2(expected(tmp_path / "out.onnx"), expected(model)) <= TOLERANCE
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == [
        "Conv", "Relu", "MaxPool", "Flatten", "Gemm"
    ]  # fmt: skip


def test_what_is_far_is_not_written(tmp_path, model, monkeypatch):
    """The files that are there stay; --no-verify writes what is asked for."""
    out = tmp_path / "out.caffemodel"
    out.write_bytes(b"old")
    read = onnx_reader.read

    def wrong(*arguments):
        net, weights = read(*arguments)
        changed = {key: value * np.float32(1.001) for key, value in weights.items()}
        return net, type(weights).of(changed, weights.source)

    monkeypatch.setattr(onnx_reader, "read", wrong)

    done = run(model, out)

    assert done.exit_code == 1
    assert "from what onnxruntime computes, over 1e-05 (relative L2)" in done.stderr
    assert "nothing was written" in done.stderr
    assert out.read_bytes() == b"old"
    assert not (tmp_path / "out.prototxt").exists()
    assert run(model, out, "--no-verify", "--force").exit_code == 0
    assert out.read_bytes() != b"old"


def test_without_onnxruntime(tmp_path, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    done = run(model, tmp_path / "out.caffemodel")

    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("Warning: not verified: onnxruntime is not installed")
    assert (tmp_path / "out.caffemodel").exists()


def test_ops_in_the_way(tmp_path):
    model = Model(np.random.default_rng(1), 13)
    model.node("Sign", model.node("Erf", model.input(2, 3)))
    model.proto(path=tmp_path / "m.onnx")

    done = run(tmp_path / "m.onnx", tmp_path / "out.caffemodel")

    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"Error: {tmp_path / 'm.onnx'}: 2 nodes cannot be written as layers of mainline Caffe: "
        "Erf (1), Sign (1)",
        "  Erf 'node0': no layer does this",
        "  Sign 'node1': no layer does this",
        "end the model before them (onnx.utils.extract_model) and compute the rest elsewhere, or "
        "export it without them",
    ]
    assert not (tmp_path / "out.caffemodel").exists()


def test_sizes(tmp_path, model):
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "rows"
    onnx.save(proto, model)

    without = run(model, tmp_path / "out.caffemodel")
    done = run(model, tmp_path / "out.caffemodel", "--input-shape", "x0=2,3,7,6")

    assert without.exit_code == 1
    assert "--input-shape x0=N,C,H,W" in without.stderr
    assert done.exit_code == 0, done.output
    assert read_prototxt((tmp_path / "out.prototxt").read_text()).inputs() == {"x0": (2, 3, 7, 6)}


@pytest.mark.parametrize("option", [["--net", "m.onnx"], ["--phase", "TRAIN"], ["--level", 1]])
def test_what_goes_with_nets_only(option, tmp_path, model):
    arguments = [tmp_path / "m.onnx" if value == "m.onnx" else value for value in option]

    done = run(model, tmp_path / "out.caffemodel", *arguments)

    assert done.exit_code == 2
    assert "an ONNX model contains its net, at phase TEST" in done.stderr


def test_no_model(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 9)

    done = run(tmp_path / "m.onnx", tmp_path / "out.caffemodel")

    assert done.exit_code == 1
    assert done.stderr == f"Error: {tmp_path / 'm.onnx'} is no ONNX model, or is cut off\n"
