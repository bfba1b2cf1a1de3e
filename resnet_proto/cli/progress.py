"""How far long work is, and how many processors it may have."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

EVERY = 10.0
"""Seconds between two lines of progress where stderr is no terminal."""


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def progress() -> Iterator[Callable[[int, int, int], Any]]:
    """Say on stderr how far it is: on a terminal in one line, else in a line now and then."""
    terminal = sys.stderr.isatty()
    start = said = time.monotonic()

    def say(done: int, before: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < (0.2 if terminal else EVERY):
            return
        said = now
        rate = (done - before) / (now - start)
        left = f", {clock((total - done) / rate)} left" if rate else ""
        line = f"{done:,}/{total:,} images, {rate:,.0f} images/s{left}"
        click.echo(f"\r{line}\033[K" if terminal else line, err=True, nl=not terminal)

    try:
        yield say
    finally:
        if terminal and said != start:
            click.echo("\r\033[K", err=True, nl=False)


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
