"""Careless values for every option of every command, and what JSON cannot hold."""

import json
import os
import resource
import shlex
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import random_weights, read_prototxt, save
from resnet_proto.cli import COMMANDS, main
from resnet_proto.memory import available, human
from resnet_proto.words import printable

DIGITS = Path(__file__).parents[2] / "examples/digits"
NET = DIGITS / "deploy.prototxt"
WEIGHTS = f"--weights {DIGITS}/digits.caffemodel"
VALUES = ["nan", "-1e999", str(10**30), "-1", "0", "", "\u0663", "1,3,99999999,99999999", "a\udcff"]
RIGHT = {
    "gen": "--preset cifar-resnet-20 --out g --force",
    "list": "",
    "spec": f"{NET}",
    "train-val": f"{NET} --out tv --force",
    "deploy": f"{DIGITS}/train_val.prototxt --force",
    "summary": f"{NET}",
    "draw": f"{NET}",
    "view": f"{NET} -o view.html",
    "check": f"{NET}",
    "upgrade": f"{NET} new.prototxt --force",
    "log": f"{DIGITS}/train.log",
    "memory": f"{NET}",
    "inspect": f"{DIGITS}/digits.caffemodel",
    "diff": f"{NET} {NET}",
    "convert": f"{DIGITS}/digits.caffemodel new.npz --net {NET} --force",
    "forward": f"{NET} {WEIGHTS} --channels GRAY --input {DIGITS}/images/00.png",
    "classify": f"{NET} {DIGITS}/images/00.png {WEIGHTS} --channels GRAY",
    "eval": f"{NET} list.txt {WEIGHTS} --channels GRAY --jobs 1",
    "verify": f"{NET} {WEIGHTS} --against float64",
    "bn-stats": f"{NET} {WEIGHTS} --data list.txt --batches 2 --batch 2 --out b.npz --force "
    "--channels GRAY --jobs 1",
    "data lmdb": "list.txt new_lmdb",
    "data mean": "lmdb mean.npy",
    "data show": "lmdb sheet.png",
    "completion": "bash",
}
"""A command line that is right, for each command."""


def run(*arguments, **options):
    return CliRunner().invoke(main, [*map(str, arguments)], **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a list of four images, and their LMDB."""
    folder = tmp_path_factory.mktemp("careless")
    images = [f"{DIGITS}/images/0{i}.png {i}" for i in range(4)]
    (folder / "list.txt").write_text("\n".join(images))
    if not (done := run("data", "lmdb", folder / "list.txt", folder / "lmdb", "--gray")).stdout:
        pytest.skip(done.stderr)
    return folder


def test_every_command_has_a_line():
    assert {name.split()[0] for name in RIGHT} == {*COMMANDS}


@pytest.mark.parametrize("name", RIGHT)
def test_every_option_takes_or_refuses_any_value(folder, monkeypatch, name):
    """Without a traceback or a gigabyte; what is refused is named: the option, or what it holds."""
    monkeypatch.chdir(folder)
    first, *rest = name.split()
    command = main.get_command(None, first)
    for part in rest:
        command = command.commands[part]
    line = [*name.split(), *shlex.split(RIGHT[name])]
    result = run(*line)
    assert result.exit_code == 0, result.stderr
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for option in command.params:
        if not isinstance(option, click.Option) or option.is_flag:
            continue
        flag = max(option.opts, key=len)
        for value in VALUES:
            if flag == "--jobs" and value in ("0", "\u0663"):  # as many as there are processors
                continue
            shutil.rmtree("new_lmdb", ignore_errors=True)
            given = [f"{flag}={value}"] if option.nargs == 1 else [flag, *[value] * option.nargs]
            result = run(*line, *given)

            what = f"{name} {given}: {result.output[-300:]}"
            assert result.exception is None or isinstance(result.exception, SystemExit), what
            assert result.exit_code in (0, 1, 2), what
            if result.exit_code:
                parts = value.split(",")
                named = {flag, flag.rpartition("-")[2].rstrip("s"), f"{len(parts)} factors"}
                said = {
                    printable(value),
                    "x".join(parts),
                    *(f"'{part}'" for part in parts),
                    *named,
                } - {""}
                assert any(one in result.output for one in said), what
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used < 1_000_000  # KiB


def test_odd_names_of_files(tmp_path, monkeypatch):
    """Bytes that are no UTF-8, and a dash at the beginning."""
    monkeypatch.chdir(tmp_path)
    Path("w\udcff.caffemodel").write_bytes((DIGITS / "digits.caffemodel").read_bytes())
    Path("-net.prototxt").write_bytes(NET.read_bytes())

    done = run("convert", "w\udcff.caffemodel", "w\udcff.npz", "--net", "./-net.prototxt")
    assert (done.exit_code, done.stderr[:18]) == (0, "wrote w\\udcff.npz:")
    assert run("diff", "w\udcff.caffemodel", "w\udcff.npz").exit_code == 0
    assert run("summary", "--", "-net.prototxt").exit_code == 0
    monkeypatch.setattr("sys.argv", ["resnet-proto", "summary", "-net.prototxt"])
    refused = run("summary", "-net.prototxt")
    assert refused.exit_code == 2
    assert "; the file is given as ./-net.prototxt\n" in refused.stderr


# ---- memory


def test_what_does_not_fit_is_said_before_it_is_made(monkeypatch):
    """All blobs, of 4 bytes a value and of 8; in `forward` the two that a sum reads."""
    net = read_prototxt(NET)
    sizes = {
        n: int(np.prod(s)) for x in net.walk() for n, s in zip(x.layer.tops, x.tops, strict=True)
    }
    both = 12 * sum(sizes.values())
    verify = ["verify", NET, "--weights", "random", "--against", "float64"]

    monkeypatch.setattr("resnet_proto.memory.available", lambda: both - 1)
    refused = run(*verify)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"its blobs in numpy and float64 take {human(both)}, and " in refused.stderr
    assert run(*verify, "--until", "conv1").exit_code == 0
    monkeypatch.setattr("resnet_proto.memory.available", lambda: both)
    assert run(*verify).exit_code == 0

    monkeypatch.setattr("resnet_proto.memory.available", lambda: 4 * 2 * 16 * 64 - 1)
    forward = ["forward", *shlex.split(RIGHT["forward"])]
    assert f"its blobs in numpy take {human(2 * 4 * 16 * 64)}, and " in run(*forward).stderr
    monkeypatch.setattr("resnet_proto.memory.available", lambda: None)  # no such system
    assert run(*forward).exit_code == 0


def test_a_net_that_cannot_be_run_is_refused_first():
    """9 GiB of random input would be made of this shape."""
    shape = ["--input-shape", "1,1,100000,20000"]
    refused = run("verify", NET, "--weights", "random", "--against", "float64", *shape)

    assert "blob 'conv1' would be 1x16x100000x20000; Caffe's limit" in refused.stderr


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="not this system")
def test_what_is_available():
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    swap = [int(row.split()[2]) for row in Path("/proc/swaps").read_text().splitlines()[1:]]

    assert 0 < available() <= pages + 1024 * sum(swap)


# ---- JSON


ODD = """
input: "data" input_shape { dim: 1 dim: 3 dim: 7 dim: 5 }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { value: nan } } }
layer { name: "p" type: "Power" bottom: "c" top: "p" power_param { scale: nan shift: -inf } }
"""


@pytest.mark.parametrize(
    "line",
    [
        "summary odd.prototxt", "draw odd.prototxt", "check odd.prototxt", "memory odd.prototxt",
        "check odd_solver.prototxt", "upgrade odd.prototxt new.prototxt --force",
        f"diff odd.prototxt {NET}", "inspect odd.npz --net odd.prototxt", "diff odd.npz other.npz",
        "convert odd.npz new.caffemodel --net odd.prototxt --force",
        "forward odd.prototxt --weights odd.npz --input x.npy",
        "verify odd.prototxt --weights odd.npz --against float64", "log odd.log",
    ],
)  # fmt: skip
def test_json_has_no_nan(tmp_path, monkeypatch, line):
    """Nor an infinity: no parser but Python's takes them."""
    monkeypatch.chdir(tmp_path)
    Path("odd.prototxt").write_text(ODD)
    Path("odd_solver.prototxt").write_text('net: "odd.prototxt" base_lr: nan momentum: inf')
    log = (DIGITS / "train.log").read_text().replace("loss = 0", "loss = nan #")
    Path("odd.log").write_text(log)
    np.save("x.npy", np.full((1, 3, 7, 5), np.inf, np.float32))
    net = read_prototxt("odd.prototxt")
    weights = {key: np.array(value) for key, value in random_weights(net).items()}
    save("other.npz", weights)
    weights["c.weight"][0], weights["c.bias"][1:] = np.nan, np.inf
    save("odd.npz", weights)

    def refuse(token):
        raise AssertionError(token)

    done = run(*line.split(), "--json")

    assert json.loads(done.stdout, parse_constant=refuse), done.stderr
