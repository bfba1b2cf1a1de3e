"""``convert`` to PyTorch: the proof, and the names of other packages."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import PRESETS, __version__, deploy_net, load, random_weights, save, to_prototxt
from resnet_proto.cli import main
from resnet_proto.layers import make_layer

torch = pytest.importorskip("torch", reason="torch is not here: make oracles says how to get it")

SPEC = replace(PRESETS["resnet-18"].spec, stages=(1, 1, 1, 1), input_size=33, classes=5)
NET = deploy_net(replace(SPEC, pool="padded"))


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
    """Nothing is left, and an old file stays; without the proof the file is written."""
    model, *net = given(folder)
    monkeypatch.setitem(
        __import__("resnet_proto.engine.torch_layers", fromlist=["FUNCTIONS"]).FUNCTIONS,
        "ReLU",
        lambda layer, bottoms, weights: [bottoms[0].clamp(min=1e-2)],
    )

    (tmp_path / "old.pt").write_bytes(b"old")
    assert convert(model, tmp_path / "old.pt", *net, "--force").exit_code == 1
    assert (tmp_path / "old.pt").read_bytes() == b"old"
    (tmp_path / "old.pt").unlink()
    wrong = convert(model, tmp_path / "new" / "x.pt", *net)
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


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt", "h5"])
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
    elif suffix == "h5":
        import h5py

        with h5py.File(path) as file:
            metadata = {name: file[name][()].decode() for name in file if name != "data"}
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
    assert len(weights) == 74  # as torchvision's ResNet(BasicBlock, [1, 1, 1, 1])


def test_their_model_is_run_with_the_names(torch_models, folder, tmp_path, monkeypatch):
    """Where it does not compute what the net does nothing is left, no model.py either."""
    model, *net = given(folder)
    norm = __import__("resnet_proto.layers.batch_norm", fromlist=["BatchNorm"]).BatchNorm
    exact = norm.forward
    with monkeypatch.context() as patch:
        patch.setattr(norm, "forward", lambda self, bottoms, blobs: [
            top * 1.001 for top in exact(self, bottoms, blobs)
        ])  # fmt: skip
        wrong = convert(model, tmp_path / "new" / "x.pt", *net, "--names", "timm")
    assert wrong.exit_code == 1
    assert "x.pt: timm's model does not compute what the net does: 'fc5' has" in wrong.output
    assert list(tmp_path.iterdir()) == []

    right = convert(model, tmp_path / "x.pt", *net, "--names", "timm", "--json")
    row = json.loads(right.stdout)
    assert (row["verified"], row["worst_blob"]) == (True, "fc5")
    assert 0 < row["relative_l2"] < 1e-6
    assert "timm's model against the net, random input, float64: 'fc5' has" in right.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["x.pt", "--names", "timm"], 2, "--names needs the net"),
        (["-", "--to", "pt", "--names", "timm"], 2, "--names needs a .safetensors or .pt"),
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


# ---- back from other packages


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, torch_models):
    """The state dict of a ResNet-18 of torchvision's, as torch saves it in a checkpoint."""
    from torchvision.models.resnet import BasicBlock, ResNet

    torch.manual_seed(3)
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=6)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("theirs") / "best.pth"
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "arch": "resnet10", "state_dict": state}, path)
    return path


def test_a_state_dict_becomes_a_net(theirs, tmp_path):
    """With its prototxt beside, the proof, and what was taken for granted."""
    target = tmp_path / "net.caffemodel"

    said = convert(theirs, target, "--set", "input_size=65")

    assert said.exit_code == 0, said.output
    lines = said.stderr.splitlines()
    assert lines[0] == (
        f"{theirs}: ResNet-10, a net of 1,1,1,1 basic units, a stem 7x7 of 64, shortcut B, widths "
        "64,128,256,512, 6 classes"
    )
    assert lines[1].startswith("keys and shapes do not tell pool padded, eps 1e-05: taken as in t")
    assert lines[2] == "images: as the model took them, mostly --preprocess torchvision"
    assert lines[3].startswith(f"Warning: {theirs}: an anti-aliased (resnetaa*, resnetblur*) or")
    assert lines[4].startswith("the net against timm's model, random input, float64: 'fc6' has rel")
    assert float(lines[4].rpartition(" ")[2]) < 1e-12
    assert lines[5].startswith(f"wrote {target}: 74 blobs, ")
    assert lines[6:] == [f"written {target.with_suffix('.prototxt')}"]
    text = target.with_suffix(".prototxt").read_text()
    assert "round_mode: FLOOR" in text
    assert "global_pooling: true" in text
    weights = load(target)
    state = torch.load(theirs, weights_only=True)["state_dict"]
    assert weights["fc6.bias"].tolist() == state["module.fc.bias"].tolist()


def test_other_targets(theirs, tmp_path):
    """Any that a net goes to; as a plain file it stays what it is."""
    as_json = convert(theirs, tmp_path / "x.caffemodel", "--json")
    row = json.loads(as_json.stdout)
    assert (row["worst_blob"], row["blobs"]) == ("fc6", 74)
    assert 0 < row["relative_l2"] < 1e-12

    onnx = convert(theirs, tmp_path / "x.onnx", "--set", "input_size=33")
    assert onnx.exit_code == 0, onnx.output
    assert "onnxruntime against float64" in onnx.output

    again = convert(theirs, tmp_path / "y.safetensors", "--names", "timm")
    assert again.exit_code == 0, again.output
    assert load(tmp_path / "y.safetensors")["layer4.0.bn2.running_var"].shape == (512,)

    state = torch.load(theirs, weights_only=True)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = convert(tmp_path / "old.pth", tmp_path / "w.caffemodel", "--no-verify")
    assert old.exit_code == 0, old.output
    assert (tmp_path / "w.caffemodel").read_bytes() == (tmp_path / "x.caffemodel").read_bytes()

    plain = convert(theirs, tmp_path / "z.npz")
    assert plain.exit_code == 0, plain.output
    assert "module.layer4.0.bn2.running_var" in load(tmp_path / "z.npz")


def test_out_and_back(folder, tmp_path):
    """v1 pooling, another size: the file says it itself, so nothing is set or warned of."""
    net = deploy_net(replace(SPEC, input_size=35))
    (tmp_path / "net.prototxt").write_text(to_prototxt(net))
    save(tmp_path / "net.caffemodel", random_weights(net), net)

    out = convert(tmp_path / "net.caffemodel", tmp_path / "x.safetensors", "--net",
                  tmp_path / "net.prototxt", "--names", "torchvision", "--force")  # fmt: skip
    back = convert(tmp_path / "x.safetensors", tmp_path / "back.caffemodel")

    assert (out.exit_code, back.exit_code) == (0, 0), back.output
    assert "pool ceil, eps 1e-05, input_size 35: taken as the file says" in back.output
    assert "anti-aliased" not in back.output
    assert (tmp_path / "back.prototxt").read_text() == to_prototxt(net)


def test_a_net_that_is_wrong(theirs, tmp_path, monkeypatch):
    """Over the tolerance nothing is written, and what was there stays."""
    (tmp_path / "x.caffemodel").write_bytes(b"old")
    norm = __import__("resnet_proto.layers.batch_norm", fromlist=["BatchNorm"]).BatchNorm
    exact = norm.forward
    monkeypatch.setattr(norm, "forward", lambda self, bottoms, blobs: [
        top * 1.001 for top in exact(self, bottoms, blobs)
    ])  # fmt: skip

    wrong = convert(theirs, tmp_path / "x.caffemodel")

    assert wrong.exit_code == 1
    assert "the net does not compute what timm's model does with" in wrong.output
    assert [path.name for path in tmp_path.iterdir()] == ["x.caffemodel"]
    assert (tmp_path / "x.caffemodel").read_bytes() == b"old"
    (tmp_path / "x.caffemodel").unlink()
    assert convert(theirs, tmp_path / "x.caffemodel", "--no-verify").exit_code == 0


def test_without_their_package(theirs, tmp_path, monkeypatch):
    """It is written, and that it was not run against theirs is said."""
    for package in ("timm", "torchvision"):
        for name in [n for n in sys.modules if n.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    said = convert(theirs, tmp_path / "x.caffemodel")

    assert said.exit_code == 0, said.output
    assert "Warning: the net is not run against theirs: timm cannot be imported: " in said.output
    assert (tmp_path / "x.prototxt").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["x.caffemodel", "--set", "stride_in=3x3"], 1, "stride_in 3x3 goes with unit bottleneck"),
        (["x.caffemodel", "--set", "strid_in=3x3"], 1, "strid_in"),
        (["x.caffemodel", "--set", "pool"], 1, "--set pool: write field=value"),
        (
            ["x.caffemodel", "--net", "NET"],
            2,
            "a state dict, which gives the net; leave --net o",
        ),
        (["x.npz", "--set", "pool=ceil"], 2, "--set is for state dicts of torchvision or timm"),
    ],
)
def test_wrong_usage_of_state_dicts(
    folder, theirs, tmp_path, monkeypatch, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    net = str(folder / "net.prototxt")

    result = convert(theirs, *(net if part == "NET" else part for part in arguments))

    assert result.exit_code == status, result.output
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_a_tensor_that_is_larger_than_its_file(theirs, tmp_path):
    """One value repeated to terabytes: nothing of that size is made."""
    state = torch.load(theirs, weights_only=True)["state_dict"]
    state["module.fc.weight"] = torch.zeros(1).expand(1 << 30, 1 << 10)
    torch.save(state, tmp_path / "x.pt")

    result = convert(tmp_path / "x.pt", tmp_path / "x.caffemodel")

    assert result.exit_code == 1
    assert "'module.fc.weight' has 4,398,046,511,104 bytes in a file of" in result.output


def test_a_pickle_that_would_run(tmp_path, monkeypatch):
    """It is looked at, and not run, beside tensors too."""
    monkeypatch.chdir(tmp_path)

    class Touch:
        def __reduce__(self):
            return Path.touch, (Path("touched"),)

    for content in (Touch(), {"state_dict": {"conv1.weight": torch.ones(2)}, "args": Touch()}):
        torch.save(content, "evil.pt")
        result = convert("evil.pt", "x.caffemodel")
        assert result.exit_code == 1
        assert "evil.pt: its pickle asks for '" in result.output
        assert "nothing else is run" in result.output.replace("\n", " ")
        assert [path.name for path in tmp_path.iterdir()] == ["evil.pt"]


def test_names_for_rgb(folder, tmp_path):
    """The first convolution takes the channels in torchvision's own order, and is the same else."""
    model, *net = given(folder)
    (tmp_path / "rgb").mkdir()

    assert convert(model, tmp_path / "x.pt", *net, "--names", "torchvision").exit_code == 0
    rgb = convert(model, tmp_path / "rgb" / "x.pt", *net, "--names", "torchvision", "--to-rgb")

    assert rgb.exit_code == 0, rgb.output
    before, after = (
        torch.load(path, weights_only=True) for path in (tmp_path / "x.pt", tmp_path / "rgb/x.pt")
    )
    before["conv1.weight"] = before["conv1.weight"].flip(1)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_copy_of_a_state_dict_says_so(tmp_path):
    """Under its own keys; weights of Caffe's layers are no state dict."""
    state = {"conv1.weight": torch.ones(2, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(2)}
    torch.save(state, tmp_path / "x.pt")
    torch.save({"conv1.weight": torch.ones(2, 3, 7, 7)}, tmp_path / "y.pt")

    said = convert(tmp_path / "x.pt", tmp_path / "x.npz")
    silent = convert(tmp_path / "y.pt", tmp_path / "y.npz")

    assert said.stderr.splitlines()[0] == (
        f"{tmp_path / 'x.pt'} is a state dict, and keeps its own keys; with OUT.caffemodel it "
        "becomes a Caffe net"
    )
    assert list(load(tmp_path / "x.npz")) == list(state)
    assert len(silent.stderr.splitlines()) == 1
