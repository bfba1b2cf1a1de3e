"""Solver states: what a file says, and hostile ones; ``tests/oracles`` has those of Caffe."""

import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import field, layer, legacy, packed, shape

from resnet_proto.cli import main
from resnet_proto.errors import FormatError
from resnet_proto.formats import held_by, load
from resnet_proto.formats.solverstate import fit_history, read_solverstate
from resnet_proto.prototxt import read_prototxt

NET = """
layer { name: "in" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "x" batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" }
"""
HISTORY = [
    shape(4, 3, 3, 2) + packed(5, *range(72)),
    shape(4) + packed(5, 1, 2, 3, 4),
    legacy(1, 1, 1, 4) + packed(5, 1, 2, 3, 4),
    shape(4) + packed(8, 1, 2, 3, 4),
    shape(1) + packed(5, 9),
]
STATE = field(1, 1234) + field(2, b"x.caffemodel") + field(4, 3)


def binary(*blobs):
    return STATE + b"".join(field(3, blob) for blob in blobs)


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], input=stdin)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.solverstate"


def test_binary(path):
    path.write_bytes(binary(*HISTORY))

    state = read_solverstate(path)

    assert held_by(path) == "state"
    assert (state.iter, state.learned_net, state.current_step) == (1234, "x.caffemodel", 3)
    assert [blob.shape for blob in state.history][1:4] == [(4,), (1, 1, 1, 4), (4,)]
    assert state.history[0].array().ravel().tolist() == [*range(72)]


def test_a_net_whose_data_is_not_known(path):
    """What its files only know may be any size; the rest is compared."""
    net = read_prototxt(NET)
    path.write_bytes(binary(*(b for i, b in enumerate(HISTORY) if i != 2), HISTORY[1]))
    misplaced = fit_history(read_solverstate(path), net)
    path.write_bytes(binary(*HISTORY[:2], HISTORY[3], HISTORY[3], HISTORY[4]))
    good = fit_history(read_solverstate(path), net)

    assert good.reason == ""
    assert good.types == ("SGD", "Nesterov", "AdaGrad", "RMSProp")
    assert good.learned[-1] == "bn.scale_factor"
    assert misplaced.reason == (
        "history 4 is 4, bn.scale_factor is 1: Caffe takes it, and computes past its end"
    )


def test_a_net_with_unknown_layers(path):
    path.write_bytes(binary(*HISTORY))
    net = read_prototxt(NET.replace('"Convolution"', '"Guess"'))

    found = fit_history(read_solverstate(path), net)

    assert (found.reason, found.types) == ("", ())
    assert found.unknown.startswith("how many blobs layer 'conv' has: ")
    (path.parent / "net").write_text(NET.replace('"Convolution"', '"Guess"'))
    shown = run(path, "--net", path.parent / "net")
    assert shown.exit_code == 0
    assert "not known whether it fits: how many blobs layer 'conv'" in shown.stdout


def test_the_command(path, tmp_path):
    path.write_bytes(binary(*HISTORY[:2]))
    (tmp_path / "net").write_text(NET)

    text, stdin = run(path), run("-", "--json", "--stats", stdin=path.read_bytes())
    misfit = run(path, "--net", tmp_path / "net")

    assert text.stdout.splitlines()[2].split() == ["0", "4x3x3x2", "float32", "288"]
    assert text.stdout.splitlines()[-2:] == [
        f"{path}: iter 1,234, current_step 3, 2 blobs of history, 304 bytes",
        "learned_net: x.caffemodel",
    ]
    found = json.loads(stdin.stdout)
    assert (found["source"], found["iter"], found["misfit"]) == ("stdin", 1234, "")
    assert found["rows"][1]["stats"] == {"min": 1, "max": 4, "mean": 2.5, "not_finite": 0}
    assert misfit.exit_code == 1
    assert misfit.stdout.splitlines()[-1] == (
        "does not fit: 2 blobs of history, and a solver keeps 5 or 10 for this net: Caffe ends"
    )


def test_where_weights_are_wanted(path):
    path.write_bytes(binary(*HISTORY))
    with pytest.raises(FormatError, match=r"is a solver state, not a caffemodel; `inspect` shows"):
        load(path)
    path.write_bytes(legacy(1, 3, 4, 5) + packed(5, *range(60)))
    with pytest.raises(FormatError, match=r"is a binaryproto .*, not a caffemodel; a mean goes to"):
        load(path)
    with h5py.File(path, "w") as file:
        file.create_group("history")
    with pytest.raises(FormatError, match="this is a solver state, not weights"):
        load(path)
    path.write_bytes(layer("fc", "InnerProduct", shape(1) + packed(5, 1)))
    with pytest.raises(FormatError, match="is a caffemodel, not a solver state"):
        read_solverstate(path)
    assert list(load(path)) == ["fc.weight"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (field(1, b"x") + STATE, "a number: expected a varint, found a length"),
        (STATE + field(2, 7), "learned_net: expected a length, found a varint"),
        (STATE + field(3, 7), "a blob: expected a length, found a varint"),
        (STATE + field(4, b""), "a number: expected a varint, found a length"),
        (STATE + field(3, shape(3) + packed(5, 1)), "the blob|is 3 and has 1 values"),
        (STATE[:-1], "expected a varint, the data ends"),
        (STATE + field(3, b"") * 200_000, "more than 131,072 blobs"),
        (b"", "an empty file"),
    ],
)
def test_damaged(path, content, words):
    path.write_bytes(content)

    with pytest.raises(FormatError, match=words):
        read_solverstate(path)


def hdf5(path, **changes):
    """A state as Caffe writes it, but for some parts; a part that is None is left out."""
    parts = {
        "iter": np.array([7], "i4"),
        "current_step": np.array([1], "i4"),
        "learned_net": np.bytes_(b"x.caffemodel.h5"),
        "history/0": np.ones((2, 3), "f4"),
        "history/1": np.ones(2, "f4"),
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[name] = value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iter": None}, "'iter' is missing, without which Caffe ends"),
        ({"current_step": None}, "'current_step' is missing"),
        ({"iter": np.ones(1, "f4")}, "'iter' is no whole number"),
        ({"iter": np.ones(1 << 20, "i4")}, "'iter' is no whole number"),
        ({"iter": h5py.SoftLink("/current_step")}, "a link to another place"),
        ({"history/0": None}, "not numbered 0, 1"),
        ({"history/2/0": np.ones(2)}, "not numbered 0, 1"),
        ({"history/x": np.ones(2)}, "'x' is not a blob"),
        ({"history/2": np.bytes_(b"x")}, "holds no numbers"),
        ({"history/0": None, "history/1": None, "history": np.ones(2)}, "is not a group"),
        ({"history/0": None, "history/1": None}, "no group 'history'"),
    ],
)
def test_damaged_hdf5(path, changes, words):
    hdf5(path, **changes)
    with pytest.raises(FormatError, match=words):
        read_solverstate(path)

    hdf5(path)
    state = read_solverstate(path)
    assert (state.iter, state.current_step, state.learned_net) == (7, 1, "x.caffemodel.h5")
    assert [blob.shape for blob in state.history] == [(2, 3), (2,)]
    hdf5(path, learned_net=None)
    assert read_solverstate(path).learned_net == ""


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_anywhere(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("x") / "x.solverstate"
    if data.draw(st.booleans()):
        hdf5(path)
        content = bytearray(path.read_bytes())
    else:
        content = bytearray(binary(*HISTORY[1:]))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    result = run(path, "--stats")

    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit)
