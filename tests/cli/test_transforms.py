"""Net-to-net transforms of ``convert``: a new prototxt beside, a proof, and the real Caffe."""

import json
import re

import numpy as np
import onnxruntime
import pytest
from safetensors import safe_open
from test_convert_onnx import DEPLOY, NET, TRAIN_VAL, WEIGHTS, X, run

from resnet_proto import forward, load, read_prototxt, save
from resnet_proto.cli import transform_options
from resnet_proto.engine import run as run_engine
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.formats import net_of

SCALE = np.float32([0.5, 2, 3]).reshape(3, 1, 1)
OLD = X * SCALE
"""What the old net takes where a new one takes X, but for the order of channels."""
BOTH = ("--to-rgb", "--input-scale", "0.5,2,3")


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


def expected(x):
    whole = NET.with_input_shapes({"data": x.shape})
    return forward(whole, WEIGHTS, np.ascontiguousarray(x), dtype="float64", outputs=["fc"])["fc"]


@pytest.mark.parametrize("fold", [(), ("--fold-bn",)], ids=["", "fold-bn"])
@pytest.mark.parametrize(
    ("options", "old"),
    [
        (("--to-rgb",), X[:, ::-1]),
        (("--input-scale", "0.5,2,3"), OLD),
        (BOTH, OLD[:, ::-1]),
    ],
    ids=["to-rgb", "input-scale", "both"],
)
def test_the_real_caffe_runs_it(tmp_path, model, net, caffe_python, options, old, fold):
    """A caffemodel and its prototxt; the second net of the two has the old one's scores."""
    out = tmp_path / "new.caffemodel"

    result = run(model, out, "--net", net, *options, *fold)

    assert result.exit_code == 0, result.output
    assert re.search(
        r"^the new net against the old, random input: 3 blobs within 1e-05; the worst is '\w+' "
        rf"with \S+\nwrote {out}: .*read back equal\nwritten {tmp_path}/new.prototxt$",
        result.stderr, re.MULTILINE,
    )  # fmt: skip
    new = read_prototxt(tmp_path / "new.prototxt")
    assert ("BatchNorm" in {layer.type for layer in new.layers}) == (not fold)
    files = {"net_file": tmp_path / "new.prototxt", "weights_file": out}
    blobs = run_engine("caffe", new, load(out), {"data": X[:1]}, caffe_python=caffe_python, **files)
    theirs = run_engine(
        "caffe", NET, WEIGHTS, {"data": np.ascontiguousarray(old[:1])}, caffe_python=caffe_python
    )
    for name in ("conv", "fc", "prob"):
        assert relative_l2(blobs[name], theirs[name]) <= TOLERANCE, name
    assert relative_l2(blobs["fc"], expected(old[:1])) <= TOLERANCE
    assert relative_l2(blobs["fc"], expected(X[:1])) > 0.1


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "h5", "pt"])
def test_other_formats(tmp_path, model, net, suffix):
    """They carry the new net, and no prototxt lies beside."""
    if suffix == "pt":
        pytest.importorskip("torch", reason="torch is not here: make oracles says how to get it")
    out = tmp_path / f"new.{suffix}"

    result = run(model, out, "--net", net, *BOTH)

    assert result.exit_code == 0, result.output
    assert not (tmp_path / "new.prototxt").exists()
    weights = load(out)
    ours = forward(net_of(weights), weights, X[:1], dtype="float64", outputs=["fc"])["fc"]
    assert relative_l2(ours, expected(OLD[:1, ::-1])) <= TOLERANCE


def test_what_was_asked_is_kept(tmp_path, model, net):
    out = tmp_path / "new.safetensors"

    assert run(model, out, "--net", net, "--fold-bn", *BOTH).exit_code == 0
    with safe_open(out, "np") as file:
        options = json.loads(file.metadata()["options"])

    assert options == {"fold-bn": "yes", "to-rgb": "yes", "input-scale": "0.5,2.0,3.0"}


@pytest.mark.parametrize("fold", ["--fold-bn", "--no-fold-bn"])
def test_onnx(tmp_path, model, net, fold):
    out = tmp_path / "new.onnx"

    result = run(model, out, "--net", net, *BOTH, fold)

    assert result.exit_code == 0, result.output
    assert "the new net against the old, random input" in result.stderr
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["prob"], {"data": X})
    fc = expected(OLD[:, ::-1])
    assert relative_l2(scores, np.exp(fc) / np.exp(fc).sum(axis=1, keepdims=True)) <= TOLERANCE


def test_of_a_train_val_net(tmp_path, model):
    """Its deploy net is the old one."""
    path, out = tmp_path / "train_val.prototxt", tmp_path / "new.caffemodel"
    path.write_text(TRAIN_VAL)

    result = run(model, out, "--net", path, "--to-rgb")

    assert result.exit_code == 0, result.output
    new = read_prototxt(tmp_path / "new.prototxt").with_input_shapes({"data": X.shape})
    ours = forward(new, load(out), X, dtype="float64", outputs=["fc"])["fc"]
    assert relative_l2(ours, expected(X[:, ::-1])) <= TOLERANCE


def test_a_wrong_transform_writes_nothing(tmp_path, model, net, monkeypatch):
    """One that is wrong by one percent: the proof fails, both old files stay; unproven it goes."""
    out, beside = tmp_path / "new.caffemodel", tmp_path / "new.prototxt"
    out.write_bytes(b"old")
    others = [each for each in transform_options.TRANSFORMS if each.name != "input_scale"]
    (last,) = set(transform_options.TRANSFORMS) - set(others)

    def wrong(net, weights, scale):
        return last.make(net, weights, [1.01 * value for value in scale])

    changed = transform_options.replace(last, make=wrong)
    monkeypatch.setattr(transform_options, "TRANSFORMS", (*others, changed))

    result = run(model, out, "--net", net, "--input-scale", 2)
    kept = out.read_bytes(), beside.exists()
    anyway = run(model, out, "--net", net, "--input-scale", 2, "--no-verify", "--force")

    assert result.exit_code == 1
    assert "blob 'conv' of the new net differs by " in result.output
    assert kept == (b"old", False)
    assert (anyway.exit_code, beside.exists()) == (0, True)
    assert load(out)["fc.weight"].tolist() == WEIGHTS["fc.weight"].tolist()


def test_nothing_is_left_of_what_fails(tmp_path, model, net):
    """The prototxt goes when the caffemodel is not written; one that was there, stays."""
    bad = tmp_path / "new.npz"

    wrong = run(model, bad, "--to", "caffemodel", "--net", net, "--to-rgb")
    (tmp_path / "mine.prototxt").write_text("mine")
    refused = run(model, tmp_path / "mine.caffemodel", "--net", net, "--to-rgb")

    assert (wrong.exit_code, refused.exit_code) == (1, 1)
    assert "its suffix is that of another format" in wrong.output
    assert "mine.prototxt exists with other content" in refused.output
    assert (tmp_path / "mine.prototxt").read_text() == "mine"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"in.caffemodel", "deploy.prototxt", "mine.prototxt"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["new.npz", "--input-scale", "a"],
            2,
            "'a' is not a finite number other than 0, or one for each channel",
        ),
        (["new.npz", "--input-scale", "0"], 2, "'0' is not a finite number other than 0"),
        (["new.npz", "--input-scale", "1,2"], 1, "input 'data' is 1x3x7x5, and 2 factors are"),
        (["new.onnx", "--to-rgb", "--preprocess", "vgg"], 2, "--preprocess describes the net's"),
        (
            ["new.onnx", "--input-scale", "2", "--with-preprocessing"],
            2,
            "--with-preprocessing describes",
        ),
        (["-", "--to", "caffemodel", "--to-rgb"], 2, "OUT is -: the new net's prototxt is writt"),
    ],
)
def test_refused(tmp_path, model, net, arguments, status, message):
    target, *options = arguments

    result = run(model, target if target == "-" else tmp_path / target, *options, "--net", net)

    assert (result.exit_code, message in result.output) == (status, True), result.output
    assert not list(tmp_path.glob("new*"))


def test_without_a_net(tmp_path, model):
    result = run(model, tmp_path / "new.npz", "--to-rgb")

    assert (result.exit_code, "contains no net; add --net NET" in result.output) == (2, True)


def test_a_shape_for_a_net_that_is_changed(tmp_path, model, net):
    """`--input-shape` goes with every transform, and with a caffemodel; not with a plain copy."""
    shape = ["--input-shape", ",".join(map(str, (4, *X.shape[1:])))]
    assert run(model, tmp_path / "a.npz", "--net", net, "--fold-bn", *shape).exit_code == 0
    assert run(model, tmp_path / "b.caffemodel", "--net", net, *shape).exit_code == 0
    assert run(model, tmp_path / "c.npz", "--net", net, *shape).exit_code == 2


def test_what_the_file_says_of_a_target(tmp_path, model, net):
    out = tmp_path / "new.npz"
    result = run(model, out, "--net", net, "--target", "caffe-1.0")
    assert result.exit_code == 0, result.output
    assert load(out).options == {"target": "caffe-1.0"}
    both = run(model, out, "--net", net, "--target", "ncnn", "--floor", "ceil_mode")
    assert (both.exit_code, "leave --floor out" in both.output) == (2, True)


def test_one_path_for_weights_and_prototxt(tmp_path, model, net):
    out = tmp_path / "new.prototxt"
    result = run(model, out, "--net", net, "--fold-bn", "--to", "caffemodel")
    assert (result.exit_code, out.exists()) == (2, False)
