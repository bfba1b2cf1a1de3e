"""The command ``inspect``."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from click.testing import CliRunner
from terminal import shown
from wire import field, layer, legacy, packed, shape

from resnet_proto.cli import main
from resnet_proto.formats import load, save
from resnet_proto.report.inspect import fitted, measure

NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer {
  name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 bias_term: false }
}
layer {
  name: "more" type: "InnerProduct" bottom: "fc" top: "more"
  inner_product_param { num_output: 5 }
}
"""
FC = layer("fc", "InnerProduct", legacy(1, 1, 4, 3) + packed(5, *range(12)))
HEAD = ["min", "max", "mean"]
OLD = layer("old", "Python", shape(2) + packed(8, 0.1, -1e300), shape(0) + packed(5))


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], input=stdin)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer("data", "Data") + FC + OLD)
    return path


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def test_table(model):
    result = run(model)

    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["layer", "type", "blob", "shape", "dtype", "bytes"],
        ["-" * n for n in (5, 12, 6, 7, 7, 5)],
        ["fc", "InnerProduct", "weight", "1x1x4x3", "float32", "48"],
        ["old", "Python", "0", "2", "float64", "16"],
        ["old", "Python", "1", "0", "float32", "0"],
        [f"{model}:", *["3", "layers,", "3", "blobs,", "14", "values,", "64", "bytes"]],
    ]


def test_json(model):
    shown = json.loads(run(model, "--json").stdout)

    assert {k: v for k, v in shown.items() if k != "rows"} == {
        "source": str(model), "layers": 3, "values": 14, "bytes": 64, "verdicts": None,
        "release": None,
    }  # fmt: skip
    assert shown["rows"][1] == {
        "layer": "old", "type": "Python", "blob": "0", "shape": [2], "dtype": "float64",
        "bytes": 16, "stats": None,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "caffemodel"])
def test_every_format_shows_the_same(model, net, tmp_path, suffix):
    """A net that carries no type of its own is told by the metadata."""
    pytest.importorskip("safetensors")
    net.write_text(NET.partition('layer {\n  name: "more"')[0])
    path = tmp_path / f"copy.{suffix}"
    assert (
        CliRunner().invoke(main, ["convert", str(model), str(path), "--net", str(net)]).exit_code
        == 0
    )

    rows = run(path, "--stats").stdout.splitlines()[:-1]

    assert rows == run(model, "--stats").stdout.splitlines()[:-1]


@pytest.mark.parametrize("arguments", [(), ("--stats",)])
def test_a_terminal_has_the_columns_that_it_has_room_for(tmp_path, arguments):
    """On a wide one all, as in a pipe."""
    path = tmp_path / "net.npz"
    blobs = {f"layer_number_{i}.scale_factor": np.arange(3.0) / 7 for i in range(3)}
    np.savez(path, **blobs, **{"other.weight": np.full((2, 3, 5, 7), -1e-9)})

    wide = shown(200, "inspect", path, *arguments)
    narrow = shown(55, "inspect", path, *arguments)[:-1]

    assert wide == run(path, *arguments).stdout.splitlines()
    assert max(map(len, narrow[:-1])) <= 55 < max(map(len, wide[:-1]))
    gone = "not finite (all 0), dtype, type, bytes" if arguments else "dtype"
    assert narrow[-1] == f"no room for the columns {gone}; --json has them"
    figures = [["layer", "type", "blob", "shape", "bytes"], ["layer", "blob", "shape", *HEAD]]
    assert narrow[0].split() == figures[bool(arguments)]
    assert [line.split()[-1] for line in narrow[2:-1]] == [
        line.split()[-2 if arguments else -1] for line in wide[2:-1]
    ]


def test_values_that_are_not_finite_are_seen_on_any_terminal():
    rows = [("layer", "type", "not finite"), ("a", "Convolution", "0"), ("b", "Convolution", "2")]

    lines = list(fitted(rows, width=17))

    assert lines[0].split() == ["layer", "not", "finite"]
    assert lines[-1] == "no room for the columns type; --json has them"


def stats(tmp_path, *values, dtype=np.float32):
    save(tmp_path / "x.npz", {"x.0": np.array(values, dtype)})
    text = run(tmp_path / "x.npz", "--stats", "--json").stdout
    assert "NaN" not in text
    assert "Infinity" not in text
    return json.loads(text)["rows"][0]["stats"]


def test_stats(tmp_path):
    """Of the finite values; the others are counted."""
    nan, inf = np.nan, np.inf

    assert stats(tmp_path, 1, nan, -2.5, inf, 7, -inf) == {
        "min": -2.5, "max": 7, "mean": pytest.approx(5.5 / 3), "not_finite": 3,
    }  # fmt: skip
    assert stats(tmp_path, nan, inf) == {"min": None, "max": None, "mean": None, "not_finite": 2}
    assert stats(tmp_path) == {"min": None, "max": None, "mean": None, "not_finite": 0}
    assert stats(tmp_path, 1, -3, dtype=np.int64)["mean"] == -1
    assert stats(tmp_path, True, False, dtype=bool)["mean"] == 0.5


def test_stats_of_huge_values(tmp_path):
    """Their sum is beyond float64."""
    shown = stats(tmp_path, 1.7e308, 1.7e308, 1.7e308, dtype=np.float64)

    assert (shown["min"], shown["mean"], shown["not_finite"]) == (1.7e308, None, 0)


def test_stats_go_by_pieces(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=1001).astype(np.float32)
    monkeypatch.setattr("resnet_proto.formats.npz.PART", 64)
    monkeypatch.setattr("resnet_proto.weights.PART", 64)

    shown = stats(tmp_path, *values)

    assert (shown["min"], shown["max"]) == (values.min(), values.max())
    assert shown["mean"] == pytest.approx(values.mean(dtype=np.float64), rel=1e-12)


@pytest.mark.parametrize("bits", [0x7FA00001, 0xFF800001, 0x7FC00000])
def test_stats_of_signalling_nan(tmp_path, bits):
    """Warnings are errors here."""
    values = np.array([bits, 0x3F800000], np.uint32).view(np.float32)

    assert stats(tmp_path, *values.view(np.uint32), dtype=np.uint32)["not_finite"] == 0
    np.savez(tmp_path / "y.npz", **{"x.0": values})
    assert json.loads(run(tmp_path / "y.npz", "--stats", "--json").stdout)["rows"][0]["stats"] == {
        "min": 1, "max": 1, "mean": 1, "not_finite": 1,
    }  # fmt: skip


def test_stats_take_little_memory(tmp_path):
    """Whatever the format is: a blob may be larger than the memory."""
    arrays = {"x.0": np.ones((2000, 2000), np.float32)}
    for name in ("npz", "safetensors"):
        save(tmp_path / f"x.{name}", arrays)
        (blob,) = load(tmp_path / f"x.{name}").blobs.values()
        tracemalloc.start()
        assert measure(blob).mean == 1
        assert tracemalloc.get_traced_memory()[1] < 12e6  # of 16 MB, and 32 as float64
        tracemalloc.stop()


def test_columns_of_names_that_cannot_be_shown(model):
    """An escape is as wide as it is shown."""
    model.write_bytes(layer(b"a\nb\x1b", "Crop", shape(1) + packed(5, 1)) + FC)

    head, rule, *rows, _ = run(model).stdout.splitlines()

    assert [row.index("float32") for row in rows] == [head.index("dtype")] * 2
    assert rows[0].startswith(r"a\nb\x1b  Crop")
    assert len(rule.split()[0]) == len(r"a\nb\x1b")


def test_stats_in_the_table(model):
    lines = run(model, "--stats").stdout.splitlines()

    assert lines[0].split()[6:] == ["min", "max", "mean", "not", "finite"]
    assert lines[2].split()[6:] == ["0", "11", "5.5", "0"]
    assert lines[4].split()[6:] == ["-", "-", "-", "0"]


def test_verdicts(model, net):
    """Refused and left are said and are the exit status; ignored is not."""
    result = run(model, "--net", net)

    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert lines[0].endswith("  verdict")
    assert lines[1].endswith("  -------")
    assert lines[2].endswith("  copied")
    assert lines[3].endswith("  ignored: the net has no such layer")
    assert lines[4].endswith("  0")
    assert lines[5].split() == ["more", "left", "at", "its", "filler"]
    assert lines[-2:] == [
        "Caffe: 1 layer copied, 1 layer ignored, 1 layer left at its filler",
        "does not fit: 1 layer of the net is not in the file and would stay at its filler",
    ]
    some = run(model, "--net", net, "--problems")
    assert some.exit_code == 1
    assert [line.split()[0] for line in some.stdout.splitlines()[2:5]] == ["old", "old", "more"]
    assert some.stdout.splitlines()[-2:] == lines[-2:]
    shown = json.loads(run(model, "--net", net, "--problems", "--json").stdout)
    assert [row["layer"] for row in shown["rows"]] == ["old", "old"]
    assert [v["layer"] for v in shown["verdicts"]] == ["old", "more"]
    assert run(model, "--problems").exit_code == 2

    net.write_text(NET.partition('layer {\n  name: "more"')[0])
    result = run(model, "--net", net)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "Caffe: 1 layer copied, 1 layer ignored"
    net.write_text(NET)

    model.write_bytes(layer("fc", "InnerProduct", shape(3, 4) + packed(5, *range(12))))
    result = run(model, "--net", net)

    assert result.exit_code == 1
    assert result.stderr == ""
    assert "refused: weight is 3x4 in the weights, the net needs 4x3" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        "Caffe: 1 layer refused, 1 layer left at its filler",
        "does not fit: 1 layer refused, where Caffe ends; 1 layer of the net is not in the file "
        "and would stay at its filler; no layer is copied",
    ]
    shown = json.loads(run(model, "--net", net, "--json").stdout)
    assert [v["verdict"] for v in shown["verdicts"]] == ["refused", "left at its filler"]


def test_one_label_for_two(net, tmp_path):
    """The second 'fc' of the file goes to the net's first; the net's second gets nothing."""
    net.write_text(NET.replace('"more" t', '"fc" t'))
    model = tmp_path / "x.caffemodel"
    model.write_bytes(FC + layer("fc", "InnerProduct", shape(2) + packed(5, 1, 2)))

    lines = run(model, "--net", net).stdout.splitlines()

    assert "fc#2" in lines[3]
    assert "refused" in lines[3]
    assert lines[4].split()[:2] == ["fc#2", "left"]


def test_several_layers_that_are_left(model, tmp_path):
    more = "".join(
        f'layer {{ name: "x{i}" type: "PReLU" bottom: "data" top: "x{i}" }}\n' for i in range(2)
    )
    net = tmp_path / "more.prototxt"
    net.write_text(f'input: "data" input_shape {{ dim: 1 dim: 2 }}\n{more}')

    shown = run(model, "--net", net).stdout

    assert "2 layers left at their filler\n" in shown


def test_stdin(model, net):
    from_stdin = run("-", "--net", net, stdin=model.read_bytes())

    assert from_stdin.exit_code == 1
    assert from_stdin.stdout == run(model, "--net", net).stdout.replace(str(model), "stdin")
    assert (
        run(model, "--net", "-", stdin=net.read_bytes()).stdout == run(model, "--net", net).stdout
    )


def test_names_that_cannot_be_shown(tmp_path):
    """No UTF-8, a line feed, and a code that would paint the terminal red."""
    path = tmp_path / "x.caffemodel"
    path.write_bytes(
        layer(b"\xff\n", "InnerProduct", packed(5, 1)) + layer("\x1b[31mé", "Crop\t", packed(5, 1))
    )

    lines = run(path).stdout.splitlines()

    assert lines[2].startswith(r"\udcff\n ")
    assert lines[3].startswith(r"\x1b[31mé ")
    assert r" Crop\t " in lines[3]
    assert json.loads(run(path, "--json").stdout)["rows"][0]["layer"] == "\udcff\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FC[:-1], "offset 0: field 100 needs"),
        (b"", "an empty file"),
        (b"<!DOCTYPE html>", "a web page"),
        (field(1, b"net"), "no layer"),
    ],
)
def test_refused_without_a_traceback(model, data, message):
    model.write_bytes(data)

    result = run(model)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {model}")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_and_wrong_arguments(tmp_path):
    missing = run(tmp_path / "no.caffemodel")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no.caffemodel: no such file" in missing.stderr

    assert run().exit_code == 2
    folder = run(tmp_path)
    assert (folder.exit_code, folder.stderr) == (
        1,
        f"Error: {tmp_path}: cannot be read: Is a directory; give the name of a file within\n",
    )
    assert run("x", "--nett", "y").exit_code == 2


def test_a_released_net(half_width):
    net, model = half_width

    result = run(model, "--net", net, "--json")

    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert {v["verdict"] for v in shown["verdicts"]} == {"copied"}
    assert shown["bytes"] == sum(row["bytes"] for row in shown["rows"])
    assert 0.99 < shown["bytes"] / Path(model).stat().st_size < 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("suffix", ["", ".caffemodel"])
def test_a_pipe(tmp_path, model, suffix):
    """As in ``inspect <(...)``: it can be read once, from its beginning to its end."""
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    Thread(target=pipe.write_bytes, args=[model.read_bytes()], daemon=True).start()
    done = subprocess.run(  # a process of its own: it may wait for ever if this is wrong
        [sys.executable, "-c", "from resnet_proto.cli import main; main()", "inspect", str(pipe)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout == run(model).stdout.replace(str(model), str(pipe))


def test_a_device(tmp_path):
    result = run("/dev/zero")

    assert result.exit_code == 1
    assert "/dev/zero is a device" in result.stderr
