"""What the shell gives to a command, or does not: closed, full and broken streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GENERATED = Path(__file__).parents[2] / "generated/resnet-18/deploy.prototxt"
COMMAND = f"{sys.executable} -c 'from resnet_proto.cli import main; main()'"
SUMMARY = f"{COMMAND} summary {GENERATED}"
OWN = ["--help", "--version", "gen --help"]
"""What is printed before a command runs."""


def shell(text):
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", text], capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip


def test_all_streams_are_there():
    """The twin of what follows."""
    done = shell(f"{COMMAND} summary - < {GENERATED}")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("values\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{SUMMARY} >&-", "stdout: Bad file descriptor"),
        (f"{COMMAND} gen --depth 18 --only deploy --out - >&-", "stdout: Bad file descriptor"),
        (f"{COMMAND} summary - <&-", "stdin: cannot be read: Bad file descriptor"),
        (f"{COMMAND} inspect - <&-", "stdin: cannot be read: Bad file descriptor"),
    ],
)
def test_closed(command, message):
    done = shell(command)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {message}\n")


def test_closed_streams_that_are_not_needed(tmp_path):
    """Files that are opened do not take their numbers."""
    done = shell(f"{COMMAND} gen --depth 18 --out {tmp_path} --json <&- 2>&-")

    assert done.returncode == 0
    assert (tmp_path / "deploy.prototxt").read_bytes() == GENERATED.read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "command", [SUMMARY, f"{SUMMARY} --json", *(f"{COMMAND} {one}" for one in OWN)]
)
def test_a_full_disk(command):
    done = shell(f"{command} > /dev/full")

    assert (done.returncode, done.stderr) == (
        1, f"Error: stdout: {os.strerror(28)}\n",
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_the_last_flush_is_the_command_s_own():
    """What lies in a buffer when the command returns is not lost without a word."""
    code = (
        "import click, sys\n"
        "from resnet_proto.cli import Commands\n"
        "group = Commands()\n"
        "group.get_command = lambda ctx, name: click.Command(name, callback=lambda:"
        " sys.stdout.write('x'))\n"
        "group(['gen'])"
    )

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, "Error: stdout: No space left on device\n")


@pytest.mark.parametrize("command", [SUMMARY, *(f"{COMMAND} {one}" for one in OWN)])
def test_a_reader_that_has_enough(command):
    """As with ``head``: the other end of the pipe is closed. No word, and no traceback."""
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        ["bash", "-c", command], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=300
    )

    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


WHERE = """
import os, signal, sys, weakref
class Thing: pass
class Finder:
    def find_spec(self, name, *_):
        if name == {name!r}:
            sys.meta_path.remove(self)
            if {callback}:  # what is raised in one is printed and forgotten
                thing = Thing()
                self.kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
                del thing
            else:
                os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["summary", {net!r}]
from resnet_proto.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("name", "callback", "status", "talk"),
    [
        ("click", False, -2, ""),
        ("resnet_proto.cli", False, -2, ""),
        ("resnet_proto.cli.summary", False, -2, ""),
        ("resnet_proto.report.summary", False, 130, "Aborted!\n"),
        ("resnet_proto.report.summary", True, 130, "Aborted!\n"),
        ("no.such.module", False, 0, ""),
    ],
)
def test_ctrl_c_while_modules_are_imported(name, callback, status, talk):
    """No traceback, and it is not lost, whatever it meets; the last is the twin."""
    code = WHERE.format(name=name, callback=callback, net=str(GENERATED))

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )

    assert (done.returncode, done.stderr) == (status, talk)


IN_AN_ARCHIVE = """
import signal, sys, zipfile
from resnet_proto.cli import main

entry = zipfile._ZipWriteFile

def interrupted(*args):
    signal.raise_signal(signal.SIGINT)
    return entry(*args)

zipfile._ZipWriteFile = interrupted
main(sys.argv[1:])
"""


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_ctrl_c_while_an_archive_is_written(tmp_path, suffix):
    """A ValueError is what zipfile makes of it, and its archive says another in the end."""
    if suffix == ".pt":
        pytest.importorskip("torch")
    digits = Path(__file__).parents[2] / "examples/digits/digits.caffemodel"

    done = subprocess.run(
        [sys.executable, "-c", IN_AN_ARCHIVE, "convert", digits, tmp_path / f"out{suffix}"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "Aborted!")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
