"""``convert`` to PyTorch: the proof, and the names of other packages."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import PRESETS, __version__, deploy_net, load, random_weights, save, to_prototxt
from resnet_proto.cli import main
from resnet_proto.layers import make_layer

torch = pytest.importorskip("torch", reason="torch is not here: make oracles says how to get it")

NET = deploy_net(replace(PRESETS["resnet-18"].spec, input_size=33, classes=5, pool="padded"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A net and its weights, which no test changes."""
    path = tmp_path_factory.mktemp("given")
    (path / "net.prototxt").write_text(to_prototxt(NET))
    save(path / "net.caffemodel", random_weights(NET), NET)
    return path


def convert(*arguments):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def given(folder):
    return folder / "net.caffemodel", "--net", folder / "net.prototxt"


def test_the_proof(folder, tmp_path):
    """In words and as JSON; a file that carries its net needs no other."""
    model, *net = given(folder)

    said = convert(model, tmp_path / "x.pt", *net)
    as_json = convert(tmp_path / "x.pt", tmp_path / "y.pth", "--json")

    assert said.exit_code == 0
    assert (
        "read back equal; run on random input against float64, the worst blob is '" in said.output
    )
    row = json.loads(as_json.stdout)
    assert 0 < row["relative_l2"] < 1e-5
    assert row["worst_blob"] in {top for layer in NET.layers for top in layer.tops}


def test_a_file_that_carries_its_net(folder, tmp_path):
    model, *net = given(folder)
    convert(model, tmp_path / "x.pt", *net, "--no-verify")

    theirs, ours = (
        CliRunner().invoke(main, ["summary", str(path)]) for path in (net[1], tmp_path / "x.pt")
    )

    assert ours.exit_code == 0, ours.output
    assert ours.stdout == theirs.stdout


def test_a_module_that_is_wrong(folder, tmp_path, monkeypatch):
    """Nothing is left; without the proof the file is written."""
    model, *net = given(folder)
    monkeypatch.setitem(
        __import__("resnet_proto.engine.torch_layers", fromlist=["FUNCTIONS"]).FUNCTIONS,
        "ReLU",
        lambda layer, bottoms, weights: [bottoms[0].clamp(min=1e-2)],
    )

    wrong = convert(model, tmp_path / "x.pt", *net)
    assert wrong.exit_code == 1
    assert "x.pt: its module does not compute what the net does: the worst blob is" in wrong.output
    assert not list(tmp_path.iterdir())

    assert convert(model, tmp_path / "x.pt", *net, "--no-verify").exit_code == 0
    assert (tmp_path / "x.pt").exists()


def test_what_cannot_be_run(folder, tmp_path):
    """It is written and read back, and that it was not run is said."""
    odd = replace(NET, layers=(*NET.layers, make_layer("odd", "Guess", ("prob",), ("y",))))
    (tmp_path / "odd.prototxt").write_text(to_prototxt(odd))

    unknown = convert(
        folder / "net.caffemodel", tmp_path / "x.pt", "--net", tmp_path / "odd.prototxt"
    )
    without = convert(folder / "net.caffemodel", tmp_path / "y.pt")

    assert (unknown.exit_code, without.exit_code) == (0, 0)
    assert "x.pt is not run: " in unknown.output
    assert "has type 'Guess'" in unknown.output
    assert "read back equal; not run, because no net is known" in without.output


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_provenance(folder, tmp_path, suffix):
    """Whose weights they are, without a word of the machine; the same twice."""
    model, *net = given(folder)
    for name in ("x", "y"):
        assert convert(model, tmp_path / f"{name}.{suffix}", *net, "--no-verify").exit_code == 0
    path = tmp_path / f"x.{suffix}"

    assert path.read_bytes() == (tmp_path / f"y.{suffix}").read_bytes()
    assert str(folder).encode() not in path.read_bytes()
    if suffix == "safetensors":
        import safetensors

        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata()
    else:
        import zipfile

        with zipfile.ZipFile(path) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("metadata.json"))
            metadata = json.loads(archive.read(name))
    assert metadata["source"] == "net.caffemodel"
    assert metadata["source_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert metadata["tool"] == f"resnet-proto {__version__}"
    assert metadata["net"] == (folder / "net.prototxt").read_text()
    assert "options" not in metadata


def test_no_source(tmp_path):
    """What was in memory has none; the options stand there by name."""
    save(tmp_path / "x.npz", {"a.0": np.ones(2)}, options={"b": "2", "a": "1"})

    with np.load(tmp_path / "x.npz") as file:
        metadata = json.loads(file["metadata.json"])
    assert "source" not in metadata
    assert metadata["options"] == '{"a": "1", "b": "2"}'


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_names(folder, tmp_path, suffix):
    model, *net = given(folder)

    said = convert(model, tmp_path / f"x.{suffix}", *net, "--names", "torchvision")

    assert said.exit_code == 0, said.output
    assert "for torchvision, read back equal, and " in said.output
    compile((tmp_path / "model.py").read_text(), "model.py", "exec")
    weights = load(tmp_path / f"x.{suffix}")
    assert weights["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert weights["fc.bias"].shape == (5,)
    assert len(weights) == 122  # as torchvision's resnet18


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["x.pt", "--names", "timm"], 2, "--names needs the net"),
        (["-", "--to", "pt", "--names", "timm"], 2, "--names goes with a file OUT"),
        (["x.pt", "--force"], 2, "--force goes with --names"),
        (["x.npz", "--net", "NET", "--names", "timm"], 1, "names of timm go into .safetensors"),
        (["x.pt", "--names", "keras"], 2, "'keras' is not one of"),
    ],
)
def test_wrong_usage(folder, tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    model, _, net = given(folder)

    result = convert(model, *(str(net) if part == "NET" else part for part in arguments))

    assert result.exit_code == status
    assert message in result.output
    assert not list(tmp_path.iterdir())
