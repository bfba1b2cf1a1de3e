"""The command ``upgrade``: texts, solvers, caffemodels, pipes and what is refused."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import wire
from click.testing import CliRunner
from old_nets import LENET, NETS, V0

from resnet_proto import load, random_weights, read_prototxt, save
from resnet_proto.cli import main
from resnet_proto.formats.upgrade import upgrade
from resnet_proto.prototxt import to_prototxt
from resnet_proto.schema import decode

INNER = wire.legacy(1, 1, 3, 2) + wire.packed(5, 1, 2, 3, 4, 5, 6)
V1_MODEL = wire.field(1, b"n") + wire.layers("fc", 14, INNER) + wire.layers("r", 18)
V0_MODEL = wire.field(1, b"n") + wire.field(
    2, wire.field(1, wire.field(1, b"fc") + wire.field(2, b"innerproduct") + wire.field(50, INNER))
)
RELU = 'layers { name: "r" type: RELU bottom: "x" top: "y" }'


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["upgrade", *map(str, arguments)], input=stdin)


def text(content, name="old"):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_net(folder):
    (folder / "old.prototxt").write_text("# a comment\n" + LENET)

    first = run("old.prototxt", "new.prototxt")
    again = run("old.prototxt", "new.prototxt")

    assert (first.exit_code, first.stdout) == (0, "new.prototxt  written\n")
    assert first.stderr == "old.prototxt (net): upgraded V1 layers, old inputs\n"
    assert again.stdout == "new.prototxt  unchanged\n"
    text = (folder / "new.prototxt").read_text()
    assert read_prototxt(text) == read_prototxt(LENET).upgraded()
    assert "comment" not in text


def test_a_pipe():
    result = run("-", "-", stdin=V0)

    assert result.exit_code == 0
    assert result.stderr == "stdin (net): upgraded V0 layers, old inputs\n"
    assert read_prototxt(result.stdout) == read_prototxt(V0).upgraded()


def test_json(folder):
    (folder / "old").write_text(V0)

    result = run("old", "new", "--json")

    assert json.loads(result.stdout) == {
        "file": "new",
        "kind": "net",
        "upgraded": ["V0 layers", "old inputs"],
        "state": "written",
    }
    assert result.stderr == ""
    assert run("old", "-", "--json").exit_code == 2


def test_a_file_that_is_current(folder):
    """It is written all the same, as Caffe's tools do."""
    (folder / "old").write_text(to_prototxt(read_prototxt(LENET).upgraded()))

    result = run("old", "new")

    assert result.stderr == "old (net): current already\n"
    assert (folder / "new").read_text() == (folder / "old").read_text()


def test_overwriting(folder):
    """Other content is kept, unless --force is given; OLD itself may be NEW."""
    (folder / "old").write_text(LENET)
    (folder / "new").write_text("mine")

    refused = run("old", "new")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "Error: new exists with other content; --force overwrites it\n"
    assert (folder / "new").read_text() == "mine"
    assert run("old", "new", "--force").stdout == "new  written\n"
    assert run("old", "old", "--force").exit_code == 0
    assert (folder / "old").read_text() == (folder / "new").read_text()
    assert {path.name for path in folder.iterdir()} == {"new", "old"}


def test_a_solver(folder):
    (folder / "old").write_text('net: "n"\nbase_lr: 1e-5  # small\nsolver_type: NESTEROV\n')

    result = run("old", "new")

    assert result.stderr == "old (solver): upgraded solver_type\n"
    assert (folder / "new").read_text() == 'net: "n"\nbase_lr: 1e-05\ntype: "Nesterov"\n'


def test_a_net_within_a_solver(folder):
    """Caffe upgrades none, so it stays as it is; `check` refuses it. The twin is current."""
    solver = f'base_lr: 1 solver_type: SGD net_param {{ input: "x" {RELU} }}'
    twin = solver.replace('input: "x"', "").replace(RELU, to_prototxt(read_prototxt(RELU)))

    warned, silent = run(text(solver), "new"), run(text(twin, "twin"), "twin.new")

    reason = "Caffe upgrades nets in files only, and passes over layers and input of this one"
    assert warned.stderr.startswith(f"Warning: old: net_param: {reason}; write it to a file")
    assert "layers {" in (folder / "new").read_text()
    assert silent.stderr == "twin (solver): upgraded solver_type\n"
    for name, found in (("old", True), ("twin", False)):
        report = CliRunner().invoke(main, ["check", name]).stdout
        assert (f"{name}: error: field 'net_param': {reason}" in report) == found


@pytest.mark.parametrize(("model", "what"), [(V1_MODEL, "V1 layers"), (V0_MODEL, "V0 layers")])
def test_a_caffemodel(folder, model, what):
    """The suffix does not matter: a caffemodel is known by its content."""
    (folder / "old.bin").write_bytes(model)

    result = run("old.bin", "new.caffemodel")
    piped = run("-", "-", stdin=model)

    assert result.stderr == f"old.bin (caffemodel): upgraded {what}\n"
    assert (result.exit_code, result.stdout) == (0, "new.caffemodel  written\n")
    data = (folder / "new.caffemodel").read_bytes()
    assert piped.stdout_bytes == data
    assert INNER in data
    assert load("new.caffemodel")["fc.weight"].tolist() == [[[[1, 2], [3, 4], [5, 6]]]]
    assert "layers" not in decode("NetParameter", data)


def test_a_caffemodel_that_is_current_is_copied(folder):
    """Byte for byte, with what only its fork knows."""
    model = wire.field(1, b"n") + wire.layer(
        "fc", "InnerProduct", INNER, more=wire.field(777, b"x")
    )
    (folder / "old").write_bytes(model + wire.field(888, 8))

    assert run("old", "new").stderr == "old (caffemodel): current already\n"
    assert (folder / "new").read_bytes() == (folder / "old").read_bytes()


def test_current_layers_keep_what_forks_know(folder):
    """Only the inputs and the rates of BatchNorm are old here."""
    statistics = [wire.shape(2) + wire.packed(5, 1, 2)] * 2 + [wire.shape(1) + wire.packed(5, 1)]
    params = wire.field(6, b"") * 2 + wire.field(6, wire.field(1, b"s"))
    own = wire.field(139, wire.field(2000, b"fork's"))
    model = wire.field(3, b"data") + b"".join(wire.field(4, x) for x in (2, 3, 7, 5))
    model += wire.layer("fc", "InnerProduct", INNER, more=wire.field(777, b"x"))
    model += wire.layer("bn", "BatchNorm", *statistics, more=params + own)
    (folder / "old").write_bytes(model)

    result = run("old", "new", "--json")

    assert json.loads(result.stdout)["upgraded"] == ["old inputs", "rates of 1 BatchNorm layer"]
    data = (folder / "new").read_bytes()
    assert wire.layer("fc", "InnerProduct", INNER, more=wire.field(777, b"x")) in data
    assert own in data
    tree = decode("NetParameter", data)
    rates = {"lr_mult": 0.0, "decay_mult": 0.0}
    assert tree.keys() == {"layer"}
    assert [layer["name"] for layer in tree["layer"]] == ["input", "fc", "bn"]
    assert tree["layer"][0]["input_param"] == {"shape": ({"dim": (2, 3, 7, 5)},)}
    assert tree["layer"][2]["param"] == (rates, rates, {"name": "s", **rates})
    assert list(load("new")) == [
        "fc.weight", "bn.mean", "bn.variance", "bn.scale_factor",
    ]  # fmt: skip


def test_large_blobs_are_not_held(folder):
    """Nothing of 48 MB of weights is in Python's memory, and the values are the same."""
    n = 12 << 20
    values = np.random.default_rng(0).standard_normal(n, np.float32)
    content = wire.shape(3, n // 3) + b"\x2a" + wire.varint(4 * n) + values.tobytes()
    (folder / "old").write_bytes(wire.layers("fc", 14, content))
    upgrade("old", "first")  # what is imported by now is no part of it

    tracemalloc.start()
    upgrade("old", "new")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4e6
    assert (load("new")["fc.weight"].reshape(-1) == values).all()


@pytest.mark.parametrize(
    ("bad", "good", "message"),
    [
        ("layers { } layer { }", "layers { } layers { }", "old: the net has both 'layer' and"),
        ("layers { type: 40 }", "layers { type: 39 }", "old:1:16: type cannot be '40'; known: NO"),
        ('layers { type: "RELU" }', "layers { type: RELU }", "old:1:16: type cannot be"),
        ("", "layer { }", "old: this is empty"),
        ("# x", "# x\nlayer { }", "old: this is empty"),
        ("layers {", "layers { }", "old:1:1: the block 'layers'"),
        ('base_lr: 1 solver_type: SGD type: "SGD"', 'base_lr: 1 type: "SGD"', "keep type"),
        ("base_lr: 1 solver_type: 6", "base_lr: 1 solver_type: 5", "old:1:25: solver_type cannot"),
        ('net: "n" base_lr: x', 'net: "n" base_lr: 1', "old:1:19: expected a number"),
        (b"\x89HDF\r\n\x1a\n\0\0", "layer { }", "old is an HDF5 file; upgrade takes a prototxt"),
        (b"PK\x03\x04\x14\0", "layer { }", "old is a zip archive"),
        (V1_MODEL[:-1], V1_MODEL, "old: offset"),
        (V1_MODEL + wire.layer("x", "ReLU"), V1_MODEL, "this one has both"),
        (V0_MODEL.replace(b"inner", b"outer"), V0_MODEL, "old: layer 'fc' (V0 type 'outerprod"),
        (V1_MODEL + wire.field(2, wire.field(19, b"\x08")), V1_MODEL, "are not a V1LayerParameter"),
        (b"\x01\x02\x03", V1_MODEL, "old: offset 0"),
    ],
)  # fmt: skip
def test_refused_and_its_twin(folder, bad, good, message):
    assert run(text(good), "twin").exit_code == 0

    result = run(text(bad), "new")

    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert not Path("new").exists()
    assert not list(Path().glob(".resnet-proto*"))


def test_files_that_are_not_there(folder):
    assert "Error: nosuch: no such file; the current folder is " in run("nosuch", "new").stderr
    assert "cannot be read: Is a directory" in run(".", "new").stderr
    assert run("-", "-", "-", stdin="").exit_code == 2
    assert run("old").exit_code == 2


def test_lenient(folder):
    text("layers { type: POOLING pooling_param { no_mode: false } }")

    assert "has no field 'no_mode'" in run("old", "new").stderr
    result = run("old", "new", "--lenient")
    assert result.stderr.startswith("Warning: old:1:40: PoolingParameter has no field 'no_mode'")
    assert "no_mode: false" in (folder / "new").read_text()


def test_what_caffe_drops_is_said(folder):
    text(V0.replace("force_backward", "debug_info: true force_backward"))

    assert run("old", "new").stderr.startswith(
        "Warning: old: Caffe drops what a net with V0 layers has besides: debug_info\n"
    )


def test_damaged_models(folder):
    """Cut and mutated files are refused, or give a file that can be loaded."""
    rng = np.random.default_rng(0)
    taken = 0
    for model in (V1_MODEL, V0_MODEL) * 150:
        data = bytearray(model)
        for _ in range(rng.integers(0, 3)):
            data[rng.integers(len(data))] = rng.integers(256)
        text(bytes(data[: len(data) - rng.choice([0, 0, 1, 7])]))
        result = run("old", "new", "--force")
        assert result.exit_code in (0, 1), result.exception
        if result.exit_code == 0:
            taken += 1
        else:
            assert isinstance(result.exception, SystemExit)
    assert 10 < taken < 290


# ---- other commands take old nets and weights as they are


@pytest.mark.parametrize("name", ["lenet", "v0"])
def test_other_commands(folder, name):
    """A V1 and a V0 net with weights of a current one."""
    text(NETS[name], "old.prototxt")
    net = read_prototxt(NETS[name])
    save("w.caffemodel", random_weights(net), net)

    for command in (
        ("summary", "old.prototxt"),
        ("check", "old.prototxt"),
        ("memory", "old.prototxt"),
        ("inspect", "w.caffemodel", "--net", "old.prototxt"),
        ("convert", "w.caffemodel", "w.npz", "--net", "old.prototxt"),
        ("summary", "w.npz"),
        ("forward", "old.prototxt", "--weights", "w.caffemodel", "--input", "x.npy"),
    ):
        np.save("x.npy", np.ones(net.inputs()["data"], np.float32))
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, (command, result.output)


FORCE = "--force"


def test_inspect_and_convert_an_old_model(folder):
    """Four axes and the names of today; Caffe would copy them."""
    net = 'input: "x" input_dim: [1, 2, 1, 1] layers { name: "fc" type: INNER_PRODUCT bottom: "x" '
    text(net + 'top: "fc" inner_product_param { num_output: 3 bias_term: false } }', "net.prototxt")
    for model in (V1_MODEL, V0_MODEL):
        text(model, "old.caffemodel")

        listed = CliRunner().invoke(main, ["inspect", "old.caffemodel", "--net", "net.prototxt"])
        converted = CliRunner().invoke(main, ["convert", "old.caffemodel", "w.safetensors", FORCE])

        assert (listed.exit_code, converted.exit_code) == (0, 0)
        assert "fc     InnerProduct  weight  1x1x3x2" in listed.stdout
        assert "Caffe: 1 layer copied" in listed.stdout
        assert load("w.safetensors")["fc.weight"].tobytes() == INNER[-24:]


@pytest.mark.parametrize(
    ("old", "wrong", "right"),
    [(V1_MODEL, "new.prototxt", "new.caffemodel"), (LENET, "new.caffemodel", "new.prototxt")],
)
def test_the_name_is_not_that_of_something_else(folder, old, wrong, right):
    refused = run(text(old), wrong)

    assert refused.exit_code == 1
    assert f"Error: {wrong}: " in refused.stderr
    assert f"give it the suffix .{right.partition('.')[2]}" in refused.stderr
    assert not (folder / wrong).exists()
    assert run(text(old), right).exit_code == 0
