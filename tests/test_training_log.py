"""Logs of several Caffes, in the spelling of each one's solver.cpp; the values are made up."""

import math

import pytest

from resnet_proto.errors import FormatError
from resnet_proto.training_log import LONGEST, SMOOTHED, TEST, TRAIN, Reader, read_log, read_logs

MAINLINE = """\
I0711 23:59:58.000000  7 solver.cpp:44] Initializing solver from parameters:
max_iter: 300
base_lr: 0.1
I0711 23:59:58.100000  7 solver.cpp:279] Solving Tiny net
I0711 23:59:58.200000  7 solver.cpp:336] Iteration 0, Testing net (#0)
I0711 23:59:59.000000  7 solver.cpp:403]     Test net output #0: accuracy = 0.125
I0711 23:59:59.000000  7 solver.cpp:403]     Test net output #1: loss = 2.5 (* 1 = 2.5 loss)
I0711 23:59:59.100000  7 solver.cpp:336] Iteration 0, Testing net (#1)
I0711 23:59:59.200000  9 data_layer.cpp:73] Restarting data prefetching from start.
I0711 23:59:59.300000  7 solver.cpp:403]     Test net output #0: accuracy = 0.25
I0711 23:59:59.600000  7 solver.cpp:218] Iteration 0 (-nan iter/s, 1.4s/100 iters), loss = 3
I0711 23:59:59.600000  7 solver.cpp:237]     Train net output #0: loss = 2 (* 1 = 2 loss)
I0711 23:59:59.600000  7 solver.cpp:237]     Train net output #1: aux = 10 (* 0.1 = 1 loss)
I0711 23:59:59.600000  7 sgd_solver.cpp:105] Iteration 0, lr = 0.1
I0712 00:00:08.100000  7 solver.cpp:218] Iteration 100 (11.8 iter/s, 8.5s/100 iters), loss = 1.5
I0712 00:00:08.100000  7 solver.cpp:237]     Train net output #0: loss = 1.25 (* 1 = 1.25 loss)
I0712 00:00:08.100000  7 sgd_solver.cpp:105] Iteration 100, lr = 1e-05
I0712 00:00:08.200000  7 solver.cpp:447] Snapshotting to binary proto file a_iter_150.caffemodel
I0712 00:00:17.100000  7 solver.cpp:218] Iteration 200 (11.8 iter/s, 8.5s/100 iters), loss = 1.4
I0712 00:00:17.200000  7 solver.cpp:336] Iteration 200, Testing net (#0)
"""
RESUMED = """\
max_iter: 400
I0712 01:00:00.000000  8 caffe.cpp:204] Resuming from a_iter_150.solverstate
I0712 01:00:00.100000  8 solver.cpp:279] Solving Tiny net
I0712 01:00:05.100000  8 solver.cpp:218] Iteration 200 (12 iter/s, 5s/100 iters), loss = 0.5
I0712 01:00:14.100000  8 solver.cpp:317] Iteration 300, loss = 0.25
I0712 01:00:14.200000  8 solver.cpp:322] Optimization Done.
I0712 01:00:14.200000  8 caffe.cpp:222] Optimization Done.
"""
NVIDIA = """\
I0329 06:59:55.182549 1 solver.cpp:334] Iteration 0 (0.2 s), loss = 2.5
I0329 06:59:55.182579 1 solver.cpp:356]     Train net output #0: loss = 2.5 (* 1 = 2.5 loss)
I0329 06:59:55.182588 1 sgd_solver.cpp:161] Iteration 0, lr = 0.1, m = 0.9, wd = 0.0005, gs = 1
I0329 06:59:56.082549 1 solver.cpp:334] Iteration 98 (497 iter/s, 0.19s/98 iter), loss = 2.25
I0329 06:59:56.082588 5 sgd_solver.cpp:161] Iteration 98, lr = 0.05, m = 0.9, wd = 0.0005, gs = 1
I0329 06:59:56.082579 1 solver.cpp:356]     Train net output #0: loss = 2.25 (* 1 = 2.25 loss)
I0329 06:59:56.082588 1 sgd_solver.cpp:161] Iteration 98, lr = 0.05, m = 0.9, wd = 0.0005, gs = 1
I0329 06:59:57.182549 1 s.cpp:334] [0.0] Iteration 196 (497 iter/s, 0.2s/98 iter), 1.5/9ep, loss = 2
"""
INTEL = """\
I0329 06:59:55.182549 1 s.cpp:334] [0] Iteration 0 (2 iter/s, 1s/20 iter), loss = 3, 2 iter/s avg
I0329 06:59:55.182550 2 s.cpp:334] [1] Iteration 0 (2 iter/s, 1s/20 iter), loss = 5, 2 iter/s avg
I0329 06:59:55.182579 1 s.cpp:356] [0]     Train net output #0: loss = 3 (* 1 = 3 loss)
I0329 06:59:55.182580 2 s.cpp:356] [1]     Train net output #0: loss = 5 (* 1 = 5 loss)
I0329 06:59:56.182580 2 s.cpp:356] [1] Iteration 20, loss = 7
"""
OLDEST = """\
I0425 10:13:21.205826  9167 solver.cpp:208] Iteration 220, lr = 0.01
I0425 10:13:21.206111  9167 solver.cpp:65] Iteration 220, loss = nan
I0425 10:13:22.206111  9167 solver.cpp:65] Iteration 240, loss = -1.#IND
F0425 10:13:23.000000  9167 blob.cpp:32] Check failed: shape[i] >= 0
"""


def read(text, source="a.log"):
    return read_log(text.splitlines(keepends=True), source)


def test_mainline():
    run = read(MAINLINE)
    assert (run.name, run.max_iter, run.end, run.parts) == ("Tiny net", 300, "", ((0, ""),))
    assert run.test_nets == [0, 1]
    assert run.outputs(TEST, 0) == {"accuracy": [(0, 0.125)], "loss": [(0, 2.5)]}
    assert run.outputs(TEST, 1) == {"accuracy": [(0, 0.25)]}
    assert run.outputs(TRAIN) == {
        SMOOTHED: [(0, 3), (100, 1.5), (200, 1.4)],
        "loss": [(0, 2), (100, 1.25)],
        "aux": [(0, 10)],
    }
    rows = [row for row in run.rows if row.phase == TRAIN]
    assert [row.rate for row in rows] == [0.1, 1e-5, None]
    # over midnight, since the line of Solve
    assert [row.seconds for row in rows] == pytest.approx([1.5, 10, 19])
    assert rows[0].losses == {"loss", "aux"}
    assert not run.rows[0].losses - {"loss"}


def test_a_resume_takes_the_place_of_what_it_repeats():
    """In one log, and in two; the test that was interrupted has no row."""
    for runs in ([read(MAINLINE + RESUMED)], logs(("a.log", MAINLINE), ("b.log", RESUMED))):
        (run,) = runs
        assert run.parts == ((0, ""), (150, "a_iter_150.solverstate"))
        assert (run.max_iter, run.end) == (400, "done")
        smoothed = run.outputs(TRAIN)[SMOOTHED]
        assert smoothed == [(0, 3), (100, 1.5), (200, 0.5), (300, 0.25)]
        assert run.rows[-1].seconds == pytest.approx(19 + 14)  # what was repeated cost time too
    assert run.source == "a.log, b.log"


def logs(*texts):
    return read_logs((name, text.splitlines()) for name, text in texts)


def test_runs_of_their_own():
    """A log that begins at nothing, or is of another net, does not go on with the one before."""
    assert len(logs(("a.log", MAINLINE), ("b.log", MAINLINE))) == 2
    assert len(logs(("a.log", MAINLINE), ("b.log", RESUMED.replace("Tiny", "Other")))) == 2
    assert len(logs(("b.log", RESUMED))) == 1


def test_a_run_that_begins_without_a_word_is_its_own():
    """Neither display nor a test at iteration 0: no resume, and nothing of another run is lost."""
    quiet = "".join(
        line for line in MAINLINE.splitlines(keepends=True) if "(#" not in line
        and "Iteration 0" not in line and "net output" not in line
    )  # fmt: skip
    first, second = logs(("a.log", quiet), ("b.log", quiet))
    assert first.parts == second.parts == ((0, ""),)
    assert first.outputs(TRAIN)[SMOOTHED] == [(100, 1.5), (200, 1.4)]
    cut = quiet[quiet.index("I0712 00:00:08") :]
    assert read(cut).parts == ((100, ""),)
    renamed = RESUMED.replace("a_iter_150.solverstate", "best.solverstate")
    assert read(renamed).parts == ((200, "best.solverstate"),)


def test_a_start_that_died_at_once_is_passed_by():
    dead = "F0425 10:13:23.000000  9167 db_lmdb.hpp:15] Check failed: mdb_status == 0\n"
    warnings = []
    (run,) = read_logs([("dead", dead.splitlines()), ("a", MAINLINE.splitlines())], warnings)
    assert run.source == "a"
    (warning,) = warnings
    assert warning == "dead: Caffe died before the first iteration: Check failed: mdb_status == 0"
    with pytest.raises(FormatError, match="dead: Caffe died"):
        read_logs([("dead", dead.splitlines())])


def test_began_again():
    """From nothing, in one log: the first part is left out."""
    run = read(MAINLINE + MAINLINE.replace("loss = 3", "loss = 4"))
    assert run.outputs(TRAIN)[SMOOTHED][0] == (0, 4)
    assert len(run.parts) == 1


def test_nvidia():
    """Two GPUs say the rate, between loss and outputs too."""
    run = read(NVIDIA)
    assert run.outputs(TRAIN) == {
        SMOOTHED: [(0, 2.5), (98, 2.25), (196, 2)],
        "loss": [(0, 2.5), (98, 2.25)],
    }
    assert [row.rate for row in run.rows] == [0.1, 0.05, None]


def test_intel():
    assert read(INTEL).outputs(TRAIN) == {SMOOTHED: [(0, 3)], "loss": [(0, 3)]}


def test_oldest_and_windows():
    """The rate comes first; nan in Linux' and in Windows' spelling; how it died."""
    run = read(OLDEST)
    assert run.rows[0].rate == 0.01
    assert [math.isnan(row.values[SMOOTHED]) for row in run.rows] == [True, True]
    assert run.end == "Check failed: shape[i] >= 0"


def test_glog_with_a_year_and_lines_without_a_head():
    text = MAINLINE.replace("I0711", "I20231231").replace("I0712", "I20240101")
    assert read(text).rows == read(MAINLINE).rows
    bare = "".join(line.partition("] ")[2] for line in MAINLINE.splitlines(keepends=True))
    run = read(bare)
    assert [row.values for row in run.rows] == [row.values for row in read(MAINLINE).rows]
    assert {row.seconds for row in run.rows} == {None}


def test_new_year():
    text = MAINLINE.replace("I0711", "I1231").replace("I0712", "I0101")
    assert read(text).rows == read(MAINLINE).rows
    times = [
        f"I{day} 12:00:00.000000 1 s.cpp:1] Iteration {i}, loss = 1"
        for i, day in enumerate(("1231", "0101", "0128", "0130", "0131", "0203"))
    ]
    assert [row.seconds for row in read_log(times).rows] == [
        86400 * days for days in (0, 1, 28, 30, 31, 34)
    ]


def test_several_values_of_one_output():
    text = MAINLINE.replace("Train net output #1: aux", "Train net output #1: loss")
    outputs = read(text).outputs(TRAIN)
    assert (outputs["loss[0]"], outputs["loss[1]"]) == ([(0, 2)], [(0, 10)])
    assert read(text).rows[2].losses == {"loss[0]", "loss[1]"}


def test_stopped():
    text = MAINLINE + "Optimization stopped early.\nOptimization Done.\n"
    assert read(text).end == "stopped"


@pytest.mark.parametrize("text", ["", "nothing\n" * 10, "\0\xff" * 1000, "max_iter: 4\n"])
def test_no_log(text):
    with pytest.raises(FormatError, match=r"x: no line of `caffe train` is in it; .* 2>&1"):
        read(text, "x")


def test_hostile_lines():
    """A line of any length is read in a time of its own length."""
    reader = Reader()
    for piece in (" = 1", "Iteration ", "( ", "9"):
        reader.read("Train net output #0: a" + piece * 1_000_000)
        reader.read("Iteration 1 (" + piece * 1_000_000)
    reader.read("x" * LONGEST + "\n")
    with pytest.raises(FormatError):
        reader.run("x")
    reader.read(f"Iteration {'9' * 5000}, loss = 1")  # int() refuses so many digits
    reader.read(f"max_iter: {'9' * 5000}")
