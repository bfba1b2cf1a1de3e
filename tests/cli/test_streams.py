"""What the shell gives to a command, or does not: closed, full and broken streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GENERATED = Path(__file__).parents[2] / "generated/resnet-18/deploy.prototxt"
COMMAND = f"{sys.executable} -c 'from resnet_proto.cli import main; main()'"
SUMMARY = f"{COMMAND} summary {GENERATED}"


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
@pytest.mark.parametrize("options", ["", "--json"])
def test_a_full_disk(options):
    done = shell(f"{SUMMARY} {options} > /dev/full")

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


def test_a_reader_that_has_enough():
    """As with ``head``: the other end of the pipe is closed. No word, and no traceback."""
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        ["bash", "-c", SUMMARY], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=300
    )

    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
