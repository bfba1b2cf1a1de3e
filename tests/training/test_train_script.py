"""train.sh, with programs in the place of Caffe and mpirun that say how they were called."""

import os
import subprocess

import pytest

from resnet_proto.errors import ResNetProtoError
from resnet_proto.generate import launch_files, write_files
from resnet_proto.recipe import RECIPES, Training

ONE = {"gpus": 1, "solver_mode": "CPU"}
MPI = {"launcher": "mpirun", "solver_mode": "CPU"}
STUB = '#!/bin/sh\necho "${0##*/}" "$@"\n'
WARMING = STUB + 'case "$3" in *warmup*) touch net_iter_$REACHED.solverstate;; esac\n'


@pytest.fixture
def start(tmp_path):
    """Write the files of a training called net, run the script; status, stdout and stderr."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def run(training, *arguments, name="net", stub=STUB, without=None, **environment):
        for program in ("caffe", "mpirun"):
            (programs / program).write_text(stub)
            (programs / program).chmod(0o755)
        write_files(launch_files(name, training), tmp_path / "a folder", force=True)
        for path in {*training.reads} - {without}:
            (tmp_path / "a folder" / path).touch()
        path = f"{programs}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "a folder/train.sh", *arguments], cwd=tmp_path, capture_output=True,
            text=True, check=False, env={**os.environ, "PATH": path, **environment},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


def test_as_many_gpus_as_the_solver_is_for(start):
    """All of a larger machine would be another batch than base_lr is for."""
    said = "caffe train --solver solver.prototxt --gpu"

    assert start(Training(gpus=3)) == (0, f"{said} 0,1,2\n", "")
    assert start(Training(gpus=1))[1] == f"{said} 0\n"
    assert start(Training(gpus=3), "all")[1] == f"{said} all\n"
    assert start(Training(**ONE))[1] == "caffe train --solver solver.prototxt\n"


def test_a_process_for_each_batch_on_each_node(start):
    training = Training(**MPI, nodes=4, gpus=2)

    _, said, _ = start(training)

    assert training.effective_batch == 8 * training.batch
    assert said == "mpirun -n 8 -ppn 2 caffe train --solver solver.prototxt\n"
    assert "x 2 processes x 4 nodes" in launch_files("net", training)["solver.prototxt"]


def test_no_caffe(start, tmp_path):
    status, said, complaint = start(Training(**ONE), CAFFE="/nowhere/caffe")

    assert (status, said) == (127, "")
    assert complaint == "/nowhere/caffe: no such program; CAFFE=FILE names the caffe binary\n"
    assert not (tmp_path / "a folder/logs").exists()


@pytest.mark.parametrize("said", ["Cannot use GPU in CPU-only Caffe: check mode.", "out of memory"])
def test_a_caffe_without_gpu(said, start):
    """What it says is common.hpp's NO_GPU; the status stays its own."""
    status, _, complaint = start(Training(gpus=1), stub=f"#!/bin/sh\necho '{said}' >&2; exit 134\n")

    assert status == 134
    assert ("training.solver_mode=CPU and training.gpus=1" in complaint) == ("CPU-only" in said)


def test_a_path_to_caffe_is_seen_from_where_the_script_is_started(start):
    assert start(Training(**ONE), CAFFE="programs/caffe")[0] == 0


def test_names_of_weights(start, tmp_path):
    """Nothing in them is taken for the shell's."""
    weights = "it's $(here).caffemodel"
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / weights).touch()

    assert start(Training(**ONE, weights=weights))[1].endswith(f"--weights {weights}\n")
    assert "WEIGHTS: names the caffemodel" in start(Training(**ONE, freeze_batch_norm=True))[2]


def test_weights_that_are_not_there(start, tmp_path):
    """Caffe would say so behind a thousand lines about the net; with commas there are several."""
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder/a.caffemodel").touch()

    status, said, complaint = start(Training(**ONE, weights="a.caffemodel,it's.caffemodel"))

    assert (status, said) == (1, "")
    assert complaint.startswith("it's.caffemodel: no such file; the training begins with these")
    (tmp_path / "a folder/it's.caffemodel").touch()
    assert start(Training(**ONE, weights="a.caffemodel,it's.caffemodel"))[0] == 0


MEAN = {"data": "image-list", "train_source": "-e", "mean_file": "it's $(mean)"}


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({}, "train_lmdb"),
        ({"data": "hdf5", "test_source": "a list.txt", "mean_file": "not read"}, "a list.txt"),
        (MEAN, "-e"),
        (MEAN, "it's $(mean)"),
    ],
)
def test_data_that_is_not_there(values, path, start, tmp_path):
    """Said before Caffe sets up a net, whatever the name; a mean too, where the nets have one."""
    training = Training(**ONE, **values)

    status, said, complaint = start(training, without=path)

    assert (status, said) == (1, "")
    assert complaint == (
        f"{path}: no such file or folder; the nets read it, as seen from {tmp_path}/a folder\n"
    )
    assert not (tmp_path / "a folder/logs").exists()
    assert start(training) == (0, "caffe train --solver solver.prototxt\n", "")


@pytest.mark.parametrize("data", ["dummy", "lmdb"])
def test_data_that_is_not_looked_for(data, start):
    """There is none, or it lies on other machines."""
    training = Training(**ONE, data=data) if data == "dummy" else Training(**MPI)

    assert start(training, without="train_lmdb")[0] == 0


@pytest.mark.parametrize("name", ["-net", 'it\'s "a" $(net)\nof `mine`', "日本"])
def test_any_name_goes_on_from_its_snapshots(name, start, tmp_path):
    start(Training(**ONE), name=name)
    text = (tmp_path / "a folder/solver.prototxt").read_text()
    prefix = text.partition('snapshot_prefix: "')[2].partition('"')[0]
    for iteration in (9, 10):
        (tmp_path / f"a folder/{prefix}_iter_{iteration}.solverstate").touch()

    status, said, _ = start(Training(**ONE), name=name)

    assert status == 0
    assert said.endswith(f"--snapshot {prefix}_iter_10.solverstate\n")


def test_a_warm_up_that_was_stopped_is_ended_first(start):
    """Caffe keeps a snapshot where it is stopped; the high rate comes only after the warm-up."""
    training = RECIPES["cifar-warm-up"].training
    first, then = "--solver solver_warmup.prototxt", "--solver solver.prototxt"

    status, said, complaint = start(training, stub=WARMING, REACHED="37")
    assert (status, then in said) == (1, False)
    assert "the warm-up is not over; start again" in complaint

    status, said, _ = start(training, stub=WARMING, REACHED="400")
    one, two = said.splitlines()
    assert status == 0
    assert first in one
    assert one.endswith("--snapshot net_iter_37.solverstate")
    assert then in two
    assert two.endswith("--snapshot net_iter_400.solverstate")

    assert first not in start(training)[1]


def test_only_a_program_fills_memory():
    assert launch_files("net", Training(data="memory")).keys() == {"solver.prototxt"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nodes": 2}, "nodes is 2, launcher caffe, .* launcher mpirun"),
        ({"launcher": "mpirun"}, "solver_mode CPU goes with it, not GPU"),
        ({"solver_mode": "CPU"}, "gpus is 8, solver_mode CPU, .* gpus 1 goes with it"),
    ],
)
def test_what_no_launcher_can_start(values, message):
    with pytest.raises(ResNetProtoError, match=message):
        Training(**values)
