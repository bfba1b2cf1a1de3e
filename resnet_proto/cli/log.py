"""``resnet-proto log``."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from resnet_proto.cli.check import each_to_read
from resnet_proto.cli.options import echo_json, file_to_write, json_option, readable
from resnet_proto.files import atomic
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.training_log import Reader, Row, Run

LONGEST = 1 << 16
"""Characters that are read at a time where no line ends."""
LOGS = ("*.log", "logs/*.log")
"""What is meant by a folder, of train.sh's or with it."""
PAUSE = 0.5
"""Seconds between two looks at a log that is followed."""
REDRAW = 5.0
"""Seconds between two pictures of it, at least."""


@click.command("log")
@click.argument("logs", nargs=-1, required=True, callback=each_to_read, metavar="LOG...")
@click.option(
    "--csv",
    metavar="FILE",
    callback=file_to_write,
    help="Write the rows: iteration, phase, net, seconds, lr, outputs; - is stdout.",
)
@click.option(
    "--plot",
    metavar="FILE",
    callback=file_to_write,
    help="Plot the curves (.svg, .png or .pdf): train thin, test bold.",
)
@click.option(
    "--follow",
    is_flag=True,
    help="Follow a running training and keep the files up to date; wait for LOG if it is missing.",
)
@json_option
def command(
    logs: tuple[str, ...], csv: str | None, plot: str | None, follow: bool, as_json: bool
) -> None:
    """Turn Caffe's training logs into a table, CSV and curves.

    LOG is a log of mainline, NVIDIA's or Intel's Caffe; - is stdin. A training that was killed
    and resumed is one run, in one log or in several: a log that starts from a snapshot continues
    the one before it. Other logs are separate runs in the same plot.

    \b
    resnet-proto log train.log --plot curve.svg
    resnet-proto log plain-56.log resnet-56.log --plot compare.png --csv rows.csv
    bash train.sh 2>&1 | resnet-proto log - --follow --plot curve.svg
    """  # fmt: skip
    from resnet_proto.report import curves
    from resnet_proto.training_log import read_logs

    if plot is not None and Path(plot).suffix.lower() not in curves.PICTURES:
        raise click.UsageError(
            f"--plot {plot}: give it one of the suffixes {', '.join(curves.PICTURES)}"
        )
    if follow and len(logs) > 1:
        raise click.UsageError("--follow takes one LOG")
    if csv == "-" and as_json:
        raise click.UsageError("--csv - and --json both write to stdout; leave one out")
    if same := [name for name in (csv, plot) if name in logs and name != "-"]:
        raise click.UsageError(f"{same[0]} is one of the logs; give the output another name")
    warnings: list[str] = []
    if follow:
        runs = [followed(logs[0], csv, plot)]
    else:
        runs = read_logs(((called(name), lines(name)) for name in logs), warnings)
    for warning in warnings:
        click.echo(printable(f"Warning: {warning}"), err=True)
    write(runs, csv, plot)
    if as_json:
        echo_json([curves.as_json(run) for run in runs])
    elif csv != "-":
        click.echo("\n\n".join("\n".join(curves.table(run)) for run in runs))
    for name in (csv, plot):
        if name not in (None, "-"):
            click.echo(f"wrote {name}", err=True)


def called(name: str) -> str:
    """What messages call a log."""
    return "stdin" if name == "-" else name


def opened(name: str) -> TextIO:
    """A log to read; what is no UTF-8 in it does not matter."""
    if name == "-":
        return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
    return Path(name).open(encoding="utf-8", errors="replace")


def lines(name: str) -> Iterator[str]:
    """The lines of a log; one that is too long comes in pieces."""
    with readable(called(name), LOGS), opened(name) as file:
        while line := file.readline(LONGEST):
            yield line


def followed(name: str, csv: str | None, plot: str | None) -> Run:
    """Read a log while it grows, until its training ends or, from a pipe, the writer does.

    Ctrl-C ends it too, with what has been read.
    """
    from resnet_proto.training_log import Reader

    reader = Reader()
    try:
        await_log(name)
        while (run := read_on(reader, name, csv, plot)) is None:
            click.echo(f"{name} was started anew; reading it again", err=True)
            reader = Reader()
        return run
    except KeyboardInterrupt:
        if not reader.parts:
            raise
        return reader.run(called(name))


def await_log(name: str) -> None:
    """Wait until a log is there: Caffe may not have begun."""
    said = False
    while name != "-" and not Path(name).exists():
        if not said:
            click.echo(f"waiting for {name}, which does not exist yet; Ctrl-C ends it", err=True)
        said = True
        time.sleep(PAUSE)


def anew(file: TextIO, name: str) -> bool:
    """Whether a log of which all was read was cut off since, or another has its name."""
    own = os.fstat(file.fileno())
    try:
        now = Path(name).stat()
        read = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    except OSError:  # gone: the one that is open may grow yet; or a pipe
        return False
    return (now.st_dev, now.st_ino) != (own.st_dev, own.st_ino) or own.st_size < read


def read_on(reader: Reader, name: str, csv: str | None, plot: str | None) -> Run | None:
    """``followed``, of a log that is there; None if it is begun anew."""
    source, shown, drawn = called(name), 0, 0.0
    with readable(source), opened(name) as file:
        line = ""
        while True:
            line += (piece := file.readline(LONGEST))
            if line.endswith("\n") or len(line) >= LONGEST:
                reader.read(line)
                line = ""
                continue
            if piece:
                continue
            if name == "-" and line:  # the last has no line break
                reader.read(line)
                line = ""
            if reader.parts:
                run = reader.run(source)
                # the last row may get more
                for row in run.rows[shown : None if run.end else -1]:
                    click.echo(printable(told(row)), err=True)
                shown = max(shown, len(run.rows) - (not run.end))
                if run.end or name == "-":
                    return run
                if time.monotonic() - drawn >= REDRAW and run.rows:
                    write([run], csv if csv != "-" else None, plot)
                    drawn = time.monotonic()
            elif name == "-":
                return reader.run(source)
            if name != "-" and anew(file, name):
                return None
            time.sleep(PAUSE)


def told(row: Row) -> str:
    """A row as a line."""
    words = [f"{name} {value:g}" for name, value in row.values.items()]
    words += [] if row.rate is None else [f"lr {row.rate:g}"]
    net = f" #{row.net}" if row.net else ""
    return f"iteration {row.iteration:,}: {row.phase}{net} {', '.join(words)}"


def write(runs: list[Run], csv: str | None, plot: str | None) -> None:
    """Write what was asked for."""
    from resnet_proto.report import curves

    if csv == "-":
        click.echo(curves.to_csv(runs), nl=False)
    elif csv is not None:
        with atomic(csv) as file:
            file.write(curves.to_csv(runs).encode())
    if plot is not None:
        curves.plot(plot, runs)
