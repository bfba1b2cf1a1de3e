"""`log`: tables, CSV, pictures; a log that grows."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from test_training_log import MAINLINE, NVIDIA, RESUMED

from resnet_proto.cli import main
from resnet_proto.report import curves
from resnet_proto.training_log import Row, Run

ROOT = "http://www.w3.org/2000/svg"


@pytest.fixture
def logs(tmp_path):
    for name, text in (("a.log", MAINLINE), ("b.log", RESUMED), ("nv.log", NVIDIA)):
        (tmp_path / name).write_text(text)
    return tmp_path


def run(*args, **kwargs):
    return CliRunner().invoke(main, ["log", *map(str, args)], **kwargs)


def test_table(logs):
    result = run(logs / "a.log", logs / "b.log", logs / "nv.log")
    assert result.exit_code == 0, result.output
    first, second = result.output.split("\n\n")
    rows = [line.split() for line in first.splitlines()]
    assert ["train", "smoothed", "loss", "0.25", "0.25", "300"] in rows
    assert ["test", "#0", "accuracy", "0.125", "0.125", "0"] in rows
    assert (
        "Tiny net; iteration 300 of 400; 33 s in all; 9.12 iterations/s; resumed at 150 " in first
    )
    assert first.endswith("from a_iter_150.solverstate; done")
    assert "nv.log: a net without a name; iteration 196" in second


def test_time_left(logs):
    """100 iterations to go, at 200 in 18.9 seconds."""
    assert "; 9.45 s left if it still runs" in run(logs / "a.log").output


def test_not_finite(logs):
    (logs / "c.log").write_text(MAINLINE.replace("loss = 1.5", "loss = -nan"))
    assert "not finite from iteration 100" in run(logs / "c.log").output
    assert "not finite" not in run(logs / "a.log").output


def test_csv(logs):
    result = run(logs / "a.log", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 5
    assert rows[2] == {
        "run": str(logs / "a.log"), "iteration": "0", "phase": "train", "net": "0",
        "seconds": "1.5", "lr": "0.1", "accuracy": "", "loss": "2.0", "smoothed loss": "3.0",
        "aux": "10.0",
    }  # fmt: skip
    written = run(logs / "a.log", "--csv", logs / "x.csv")
    assert written.output.startswith("net ")
    assert written.stderr == f"wrote {logs / 'x.csv'}\n"
    assert (logs / "x.csv").read_text() == result.stdout


def test_json(logs):
    (found,) = json.loads(run(logs / "a.log", logs / "b.log", "--json").stdout)
    assert found["parts"][1] == {"iteration": 150, "from": "a_iter_150.solverstate"}
    assert [row["iteration"] for row in found["rows"]] == [0, 0, 0, 100, 200, 300]
    (logs / "c.log").write_text(MAINLINE.replace("loss = 1.5", "loss = nan"))
    assert json.loads(run(logs / "c.log", "--json").stdout)[0]["rows"][3]["values"] == {
        "smoothed loss": None,
        "loss": 1.25,
    }


def lines_of(path):
    """(x, y) of each curve of an SVG, by the width of its stroke."""
    found = {}
    for group in ElementTree.parse(path).iter(f"{{{ROOT}}}path"):
        style = dict(part.strip().split(":") for part in group.get("style", ":").split(";"))
        width = style.get(" stroke-width", style.get("stroke-width", "")).strip()
        steps = group.get("d", "").split()
        if set(steps[::3]) - {"M", "L"}:
            continue  # a marker
        points = [(float(x), float(y)) for x, y in zip(steps[1::3], steps[2::3], strict=True)]
        found.setdefault(width, []).append(points)
    return found


def test_plot(logs):
    """Train thin, test bold; a curve's heights follow its values."""
    # a loss that is far above all later ones would be cut off
    (logs / "a.log").write_text(MAINLINE.replace("aux = 10", "aux = 2.75"))
    result = run(logs / "a.log", "--plot", logs / "x.svg")
    assert result.exit_code == 0, result.output
    text = (logs / "x.svg").read_text()
    for words in ("error (%)", "loss", "iteration", "test #0", "test #1", "train aux"):
        assert f">{words}</text>" in text
    curves = lines_of(logs / "x.svg")
    thin = next(points for points in curves["0.8"] if len(points) == 3)  # the smoothed loss
    (x0, y0), (x1, y1), (x2, y2) = thin
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert (y1 - y0) / (y2 - y0) == pytest.approx((3 - 1.5) / (3 - 1.4))
    again = logs / "y.svg"
    assert run(logs / "a.log", "--plot", again).exit_code == 0
    assert again.read_text() == text  # the same bytes
    assert (logs / "y.svg").read_bytes()[:5] == b"<?xml"


def test_names_of_runs(logs):
    """By their nets; by their files where those are alike, or have no name."""
    (logs / "c.log").write_text(MAINLINE.replace("Tiny net", "Other net"))
    (logs / "sub").mkdir()
    (logs / "sub" / "a.log").write_text(MAINLINE)
    for others, words in (
        (["c.log"], ["Tiny net train loss", "Other net test #0"]),
        (["nv.log"], ["a train loss", "nv train loss"]),
        (["sub/a.log"], ["a.log train loss", "sub/a.log train loss"]),
    ):
        files = [logs / "a.log", *(logs / other for other in others)]
        assert run(*files, "--plot", logs / "x.svg").exit_code == 0
        text = (logs / "x.svg").read_text()
        for found in words:
            assert f"{found}</text>" in text, (others, found)


def test_plot_as_png(logs):
    from PIL import Image

    result = run(logs / "a.log", logs / "nv.log", "--plot", logs / "x.png")
    assert result.exit_code == 0, result.output
    with Image.open(logs / "x.png") as picture:
        assert picture.size == (2400, 660)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["nothing.log"], 1, "nothing.log: no such file; did you mean no.log"),
        (["a.log", "--plot", "x.gif"], 2, "give it one of the suffixes .svg, .png, .pdf"),
        (["a.log", "nv.log", "--follow"], 2, "--follow takes one LOG"),
        (["a.log", "--csv", "-", "--json"], 2, "both write to stdout"),
        (["-", "-"], 2, "stdin can be read only once"),
        (["no.log"], 1, "no line of `caffe train` is in it"),
        (["only.log", "--plot", "x.svg"], 1, "nothing to draw"),
        (["net"], 1, "net: cannot be read: Is a directory; give net/logs/a.log"),
    ],
)
def test_refused(logs, monkeypatch, args, status, words):
    monkeypatch.chdir(logs)
    (logs / "no.log").write_text("hello\n")
    (logs / "only.log").write_text("Solving Net\n")
    (logs / "net" / "logs").mkdir(parents=True)
    (logs / "net" / "logs" / "a.log").touch()
    result = run(*args)
    assert result.exit_code == status
    assert words in result.output
    assert not (logs / "x.svg").exists()


def test_names_that_look_like_formulas(logs):
    (logs / "a.log").write_text(MAINLINE.replace(" aux = ", " $x_{ = "))
    assert run(logs / "a.log", "--plot", logs / "x.svg").exit_code == 0
    assert "$x_{" in (logs / "x.svg").read_text()


def test_a_log_is_not_overwritten(logs):
    result = run(logs / "a.log", "--csv", logs / "a.log")
    assert (result.exit_code, (logs / "a.log").read_text()) == (2, MAINLINE)


def test_a_log_without_an_iteration_is_passed_by(logs):
    (logs / "c.log").write_text("F0425 10:13:23.0 9 db.hpp:15] Check failed: no database\n")
    result = run(logs / "c.log", logs / "a.log")
    assert result.exit_code == 0
    assert "Caffe died before the first iteration: Check failed: no database" in result.stderr
    assert "Tiny net" in result.stdout


def test_follow_a_pipe_whose_last_line_has_no_end(logs):
    text = MAINLINE[: MAINLINE.rindex(", loss = 1.4")] + ", loss = 1.4"
    result = run("-", "--follow", "--csv", logs / "x.csv", input=text.encode())
    assert result.exit_code == 0
    assert "200,train,0" in (logs / "x.csv").read_text()


def test_follow_a_pipe(logs):
    result = run("-", "--follow", "--csv", logs / "x.csv", input=MAINLINE.encode())
    assert result.exit_code == 0, result.output
    assert "iteration 0: test #1 accuracy 0.25\n" in result.stderr
    assert "iteration 100: train smoothed loss 1.5, loss 1.25, lr 1e-05\n" in result.stderr
    assert len((logs / "x.csv").read_text().splitlines()) == 6


def test_follow_a_file_that_grows(logs):
    """Half a line at a time; it ends when Caffe is done."""
    path = logs / "grows.log"
    path.write_text("")
    text = MAINLINE + RESUMED
    process = subprocess.Popen(
        [sys.executable, "-m", "resnet_proto", "log", path, "--follow", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def grow():
        with path.open("a") as file:
            for i in range(0, len(text), 700):
                file.write(text[i : i + 700])
                file.flush()
                time.sleep(0.1)

    writer = threading.Thread(target=grow)
    writer.start()
    out, err = process.communicate(timeout=300)
    writer.join()
    assert process.returncode == 0, err
    (found,) = json.loads(out)
    assert found["end"] == "done"
    assert [row["iteration"] for row in found["rows"]] == [0, 0, 0, 100, 200, 300]
    assert err.count("iteration 100: train") == 1


@pytest.mark.parametrize("how", ["cut off", "replaced"])
def test_follow_a_log_that_is_begun_anew(logs, how):
    """What was in it counts no more; one that is taken away may still grow."""
    path = logs / "anew.log"
    path.write_text(MAINLINE)
    process = subprocess.Popen(
        [sys.executable, "-m", "resnet_proto", "log", path, "--follow", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "iteration 100: train" not in process.stderr.readline():
        assert process.poll() is None
    if how == "cut off":
        path.write_text("")
    else:
        path.rename(logs / "old.log")
        time.sleep(1)
        (logs / "new.log").write_text("")
        (logs / "new.log").rename(path)
    while (said := process.stderr.readline()) != f"{path} was started anew; reading it again\n":
        assert process.poll() is None, said
    path.write_text(RESUMED)
    out, err = process.communicate(timeout=300)

    assert process.returncode == 0, err
    (found,) = json.loads(out)
    assert {row["iteration"] for row in found["rows"]} == {
        row["iteration"] for row in json.loads(run(path, "--json").stdout)[0]["rows"]
    }
    assert 0 not in {row["iteration"] for row in found["rows"]}


def test_check_draws_the_rate(tmp_path):
    solver = tmp_path / "solver.prototxt"
    text = (
        '# 40 training images, 4 iterations an epoch\nnet: "none"\nbase_lr: 0.1\nmax_iter: 100\n'
        'lr_policy: "multistep"\ngamma: 0.1\nstepvalue: 50\nstepvalue: 75\n'
    )
    solver.write_text(text)
    args = ["check", str(solver), "--plot", str(tmp_path / "r.svg")]
    assert CliRunner().invoke(main, args).exit_code == 1  # its net is not there
    drawn = (tmp_path / "r.svg").read_text()
    assert ">epoch</text>" in drawn
    assert ">learning rate</text>" in drawn
    solver.write_text(text.replace("multistep", "plateau"))
    args[-1] = str(tmp_path / "s.svg")
    result = CliRunner().invoke(main, args)
    assert "no learning rate to draw" in result.output
    assert not (tmp_path / "s.svg").exists()
    result = CliRunner().invoke(main, ["check", str(solver), str(solver), *args[2:]])
    assert result.exit_code == 2


def test_follow_waits_for_the_log_and_ctrl_c_ends_with_the_table(logs):
    """Twice: with what was read, and with nothing read."""
    for text, status in ((MAINLINE, 0), (None, 130)):
        path = logs / f"later{status}.log"
        process = subprocess.Popen(
            [sys.executable, "-m", "resnet_proto", "log", path, "--follow"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = process.stderr.readline()
        assert said == f"waiting for {path}, which does not exist yet; Ctrl-C ends it\n"
        if text:
            path.write_text(text)
            while "iteration 100: train" not in process.stderr.readline():
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)

        assert process.returncode == status, err
        assert "Traceback" not in err
        assert ("iteration 200 of 300" in out) == bool(text)


def run_of(name, drop, value=1.0):
    """A run whose rate falls at an iteration."""
    rows = tuple(
        Row(at, "train", rate=0.1 if at < drop else 0.01, values={"odd": value / (at + 1)})
        for at in range(0, 500, 100)
    )
    return Run(f"{name}.log", name, rows, ((0, ""),))


def dotted(path):
    """The colours of the dotted lines of an SVG, in their order."""
    return re.findall(r"stroke-dasharray: [^\"]*?stroke: (#\w+)", path.read_text())


def test_each_run_has_its_dotted_lines(tmp_path):
    """In its colour; in grey where several fall together, or there is one run only."""
    path = tmp_path / "x.svg"
    for drops, expected in (
        ((200, 300), ["#1f77b4", "#d62728"]),
        ((200, 200), ["#999999"]),
        ((200,), ["#999999"]),
    ):
        curves.plot(path, [run_of(f"n{i}", drop) for i, drop in enumerate(drops)])
        assert dotted(path) == expected


@pytest.mark.parametrize(
    ("said", "fallen"),
    [
        ({}, [200, 400]),
        ({"steps": (107, 350)}, [107, 350]),
        ({"steps": (350,)}, [200, 350]),
        ({"stepsize": 170}, [170, 340]),
        ({"stepsize": 450}, [200, 400]),
    ],
)
def test_a_rate_falls_where_the_log_says_so(said, fallen):
    """Else where it is first seen, and never where it is seen not to."""
    rates = dict(zip(range(0, 500, 100), (1.0, 1.0, 0.1, 0.1, 0.01), strict=True))
    rows = tuple(Row(at, "train", rate=rate) for at, rate in rates.items())

    assert list(curves.drops(Run("a.log", "", rows, ((0, ""),), **said))) == fallen


def test_a_panel_without_a_finite_value_says_so(tmp_path):
    path = tmp_path / "x.svg"
    for value, said in ((float("nan"), True), (1.0, False)):
        curves.plot(path, [run_of("n", 200, value)])
        assert ("no finite value" in path.read_text()) == said
