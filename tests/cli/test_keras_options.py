"""``convert`` to Keras: what is written, what is said, what is refused."""

import json

import numpy as np
import pytest
from cli.test_convert_onnx import DEPLOY, NET, TRAIN_VAL, WEIGHTS
from click.testing import CliRunner

from resnet_proto import forward, save
from resnet_proto.cli import main
from resnet_proto.engine import keras_layers
from resnet_proto.engine.compare import TOLERANCE, relative_l2

pytestmark = [pytest.mark.usefixtures("keras"), pytest.mark.filterwarnings("ignore")]


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


def test_a_model_and_its_proof(model, net, tmp_path, keras):
    out = tmp_path / "x.keras"

    result = run(model, out, "--net", net)

    assert result.exit_code == 0, result.output
    first, second = result.stderr.splitlines()
    assert first == f"wrote {out}: {out.stat().st_size:,} bytes"
    assert second.startswith(
        "Keras on torch against float64, random input: 3 blobs within 1e-05; the worst is '"
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)
    loaded = keras.saving.load_model(out, safe_mode=True)
    exact = forward(NET.with_input_shapes({"": x.shape}), WEIGHTS, x, dtype="float64")
    found = loaded.predict(np.moveaxis(x, 1, 3), verbose=0)
    assert relative_l2(found, exact["prob"]) <= TOLERANCE


@pytest.mark.parametrize("text", [DEPLOY, TRAIN_VAL])
def test_json_and_other_names(model, tmp_path, text):
    """A train_val net becomes a deploy net first; --to goes before the suffix."""
    (tmp_path / "net.prototxt").write_text(text)

    shape = [] if text is DEPLOY else ["--input-shape", "2,3,7,5"]
    result = run(
        model, tmp_path / "x.bin", "--to", "keras", "--net", tmp_path / "net.prototxt", *shape,
        "--json",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert row["verified"]
    assert row["blobs"] == 3
    assert row["worst"]["distance"] <= TOLERANCE
    assert (tmp_path / "x.bin").stat().st_size == row["bytes"]


def test_fold_bn_and_input_shape(model, net, tmp_path, keras):
    """Weights of the npz carry its net; the folded model has no BatchNormalization."""
    run(model, tmp_path / "x.npz", "--net", net)

    for options, classes in (([], True), (["--fold-bn"], False)):
        out = tmp_path / "x.keras"
        result = run(tmp_path / "x.npz", out, "--input-shape", "4,3,8,6", "--force", *options)

        assert result.exit_code == 0, result.output
        loaded = keras.saving.load_model(out)
        kinds = {type(layer).__name__ for layer in loaded.layers}
        assert ("BatchNormalization" in kinds) == classes
        assert loaded.input_shape == (None, 8, 6, 3)


def test_a_wrong_model_is_not_kept(model, net, tmp_path, monkeypatch):
    monkeypatch.setitem(
        keras_layers.FUNCTIONS,
        "ReLU",
        lambda site, layer: site.layer("ReLU", site.bottoms[0], negative_slope=1e-2),
    )
    out = tmp_path / "x.keras"
    out.write_text("old")

    wrong = run(model, out, "--net", net)

    assert wrong.exit_code == 1
    assert "blobs are not what the net computes" in wrong.output
    assert out.read_text() == "old"
    unproven = run(model, out, "--net", net, "--no-verify", "--force")
    assert (unproven.exit_code, len(unproven.stderr.splitlines())) == (0, 1)


def test_types_without_a_way(model, tmp_path):
    odd = DEPLOY + 'layer { name: "odd" type: "Guess" bottom: "fc" top: "y" }'
    (tmp_path / "odd.prototxt").write_text(odd)

    result = run(model, tmp_path / "x.keras", "--net", tmp_path / "odd.prototxt")

    assert result.exit_code == 1
    assert "odd.prototxt: these layer types cannot be written as Keras: Guess ('odd')" in (
        result.output
    )
    assert not (tmp_path / "x.keras").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.keras"], "contains no net; add --net NET"),
        (["x.keras", "--net", "NET", "--dynamic", "size"], "--dynamic is for ONNX"),
        (["x.keras", "--net", "NET", "--mean", "1"], "--mean is for ONNX"),
        (["x.keras", "--net", "NET", "--names", "timm"], "a Keras model has no keys"),
        (["-", "--to", "keras", "--net", "NET"], "give it a name"),
    ],
)
def test_wrong_usage(model, net, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)

    result = run(model, *(net if part == "NET" else part for part in arguments))

    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "x.keras").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.keras", "x.keras: Keras files can only be written; give"),
        ("x.npz", "x.npz is a Keras model, not an npz file; `convert` writes these and reads none"),
        ("x.caffemodel", "x.caffemodel is a Keras model, not a caffemodel"),
    ],
)
def test_a_keras_file_is_not_read(model, net, tmp_path, name, said):
    """Whatever it is called; and so is said what to give."""
    run(model, tmp_path / "x.keras", "--net", net, "--no-verify")
    (tmp_path / "x.keras").replace(tmp_path / name)

    result = run(tmp_path / name, tmp_path / "y.npz")

    assert result.exit_code == 1
    assert said in result.output
    assert "give the weight file that it was made from" in result.output
