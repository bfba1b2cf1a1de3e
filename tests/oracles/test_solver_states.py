"""Solver states that the real Caffe writes, by each type of solver, in both formats."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from oracles.training import ABORTED, in_solver, run_caffe

from resnet_proto import load, read_prototxt
from resnet_proto.cli import main
from resnet_proto.formats.solverstate import HISTORIES, fit_history, read_solverstate
from resnet_proto.memory import memory

NET = """
layer { name: "in" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }
                           data_filler { type: "gaussian" std: 1 } } }
layer { name: "one" type: "InnerProduct" bottom: "data" top: "one"
        inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "two" type: "InnerProduct" bottom: "one" top: "two" param { name: "w" }
        inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "three" type: "InnerProduct" bottom: "two" top: "three" param { name: "w" }
        inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "only" type: "Scale" bottom: "three" top: "three" include { phase: TRAIN } }
layer { name: "end" type: "InnerProduct" bottom: "three" top: "end"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "end" bottom: "label" top: "loss" }
"""
LEARNED = [(5, 3), (5,), (5, 5), (5,), (2, 5), (2,)]
"""`two` and `three` are one, and the Scale is there in training only."""
SOLVER = """
net: "net.prototxt"
type: "TYPE"
base_lr: 0.01 lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 5
max_iter: 7 snapshot_format: FORMAT snapshot_prefix: "x" snapshot_diff: DIFF
random_seed: 1 display: 0
"""
ENDS = {"BINARYPROTO": ("x_iter_7.caffemodel", "x_iter_7.solverstate"),
        "HDF5": ("x_iter_7.caffemodel.h5", "x_iter_7.solverstate.h5")}  # fmt: skip


def solver_text(type, format, diff="false"):
    momentum = "" if type in ("AdaGrad", "RMSProp") else "momentum: 0.9\n"
    text = SOLVER.replace("TYPE", type).replace("FORMAT", format).replace("DIFF", diff)
    return text + momentum + ("rms_decay: 0.9\n" if type == "RMSProp" else "")


def trained(binary, folder, type, format, diff="false"):
    """Train, and give the files of weights and state."""
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(solver_text(type, format, diff))
    status, log = run_caffe(binary, folder, "train", "-solver", "solver.prototxt")
    assert status == 0, log[-3000:]
    return tuple(folder / name for name in ENDS[format])


def inspect(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


@pytest.mark.parametrize("type", HISTORIES)
def test_both_formats_say_the_same(caffe_binary, tmp_path, type):
    """The same training twice; and Caffe goes on from what fits."""
    folders = {format: tmp_path / format for format in ENDS}
    files = {}
    for format, folder in folders.items():
        folder.mkdir()
        files[format] = trained(caffe_binary, folder, type, format, "true")
    net = read_prototxt(NET)
    weights, states = zip(*((load(a), read_solverstate(b)) for a, b in files.values()), strict=True)

    for state, (model, _) in zip(states, files.values(), strict=True):
        assert (state.iter, state.current_step, state.learned_net) == (7, 2, model.name)
        assert [blob.shape for blob in state.history] == LEARNED * HISTORIES[type]
        kept = memory(net, phases=["train"], histories=HISTORIES[type]).phases["train"]["momentum"]
        assert kept == sum(blob.array().nbytes for blob in state.history)
        fit = fit_history(state, net)
        assert (fit.reason, type in fit.types) == ("", True)
        assert [HISTORIES[name] for name in fit.types] == [HISTORIES[type]] * len(fit.types)
        assert fit.of(4) == "end.weight"
        assert fit_history(state, net, type).types == (type,)
    for a, b in zip(*(state.history for state in states), strict=True):
        assert a.array().tobytes() == b.array().tobytes()
        assert a.array().any()
    assert sorted(weights[1]) == ["end.0", "end.1", "one.0", "one.1", "only.0", "two.0"]
    assert weights[1]["end.0"].tobytes() == weights[0]["end.weight"].tobytes()
    assert weights[1]["two.0"].tobytes() == weights[0]["three.weight"].tobytes()
    for folder, (_, state_file) in zip(folders.values(), files.values(), strict=True):
        text = (folder / "solver.prototxt").read_text().replace("max_iter: 7", "max_iter: 8")
        (folder / "more.prototxt").write_text(text)
        more = ("train", "-solver", "more.prototxt", "-snapshot", state_file.name)
        assert run_caffe(caffe_binary, folder, *more)[0] == 0


@pytest.mark.parametrize("format", ENDS)
@pytest.mark.parametrize(("had", "has"), [("SGD", "Adam"), ("AdaDelta", "Nesterov")])
def test_a_history_of_another_length(caffe_binary, tmp_path, format, had, has):
    """Caffe ends, as we say; with the solver that wrote it, it does not."""
    _, state_file = trained(caffe_binary, tmp_path, had, format)
    (tmp_path / "other.prototxt").write_text(solver_text(has, format))
    n = len(LEARNED)

    good = inspect(state_file, "--net", tmp_path / "solver.prototxt")
    bad = inspect(state_file, "--net", tmp_path / "other.prototxt")

    assert (good.exit_code, bad.exit_code) == (0, 1), good.output + bad.output
    assert f"solvers that keep such a history for this net: {had}\n" in good.output
    assert (
        f"does not fit: {n * HISTORIES[had]} blobs of history, and {has} keeps "
        f"{n * HISTORIES[has]} for this net: Caffe ends"
    ) in bad.output
    status, log = run_caffe(
        caffe_binary, tmp_path, "train", "-solver", "other.prototxt", "-snapshot", state_file.name
    )
    assert status == ABORTED
    assert "Incorrect length of history blobs" in log


def test_a_history_of_other_shapes(caffe_binary, tmp_path):
    """Of a binary one Caffe does not look at the shapes; mainline does with HDF5."""
    _, state_file = trained(caffe_binary, tmp_path, "SGD", "BINARYPROTO")
    (tmp_path / "wider.prototxt").write_text(NET.replace("dim: 4 dim: 3 ", "dim: 4 dim: 6 "))

    shown = inspect(state_file, "--net", tmp_path / "wider.prototxt", "--stats", "--json")

    assert shown.exit_code == 1
    found = json.loads(shown.stdout)
    assert found["misfit"] == (
        "history 0 is 5x3, one.weight is 5x6: Caffe takes it, and computes past its end"
    )
    first = read_solverstate(state_file).history[0].array()
    assert found["rows"][0]["stats"]["max"] == first.max()
    assert found["rows"][0]["parameter"] == "one.weight"


def test_a_net_within_the_solver(caffe_binary, tmp_path):
    """In HDF5, its weights read back equal to those of the net in a file."""
    model, _ = trained(caffe_binary, tmp_path, "SGD", "HDF5")
    first = {key: value.copy() for key, value in load(model).items()}
    inner = solver_text("SGD", "HDF5").replace('net: "net.prototxt"', in_solver(NET))
    (tmp_path / "solver.prototxt").write_text(inner)

    status, log = run_caffe(caffe_binary, tmp_path, "train", "-solver", "solver.prototxt")
    shown = inspect(tmp_path / "x_iter_7.solverstate.h5", "--net", tmp_path / "solver.prototxt")

    assert status == 0, log[-2000:]
    assert all(np.array_equal(first[key], value) for key, value in load(model).items())
    assert shown.exit_code == 0, shown.output
    assert "its net at phase TRAIN: " in shown.stderr
    assert "(net_param)" in shown.stderr
