"""The options of commands whose work is done in shards: by whom, and where results are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from resnet_proto.cli.options import say, whole
from resnet_proto.cli.progress import processors, progress
from resnet_proto.words import counted

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class ShardOptions:
    """The values of the options below, by their names."""

    jobs: int | None
    dask: str | None
    keep: str | None

    @contextmanager
    def how(self) -> Iterator[dict[str, Any]]:
        """The arguments of ``run_shards`` besides task and shards; what it says goes to stderr."""
        own = processors()
        if self.jobs and self.jobs > own:
            on = counted(own, "processor")
            say(f"Note: {self.jobs} jobs on {on}; more than {own} are no faster")
        try:
            with progress() as said:
                yield {
                    "jobs": self.jobs or own,
                    "dask": self.dask,
                    "folder": Path(self.keep) if self.keep else None,
                    "progress": said,
                    "warn": lambda text: say(f"Warning: {text}"),
                }
        except KeyboardInterrupt:
            if self.keep:
                kept = f"finished work is kept in {self.keep}; the same command resumes from there"
                say(kept)
            raise


def shard_options(command: Command) -> Command:
    """Give a command these options, as its argument ``shards``."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        shards = ShardOptions(
            **{field.name: kwargs.pop(field.name) for field in fields(ShardOptions)}
        )
        if shards.jobs and shards.dask:
            raise click.UsageError(
                "--jobs is for this machine, --dask for others; give one of them"
            )
        if shards.dask == "":
            raise click.UsageError("--dask is empty; give it the address of a scheduler")
        if shards.keep == "":
            raise click.UsageError("--keep is empty; give it the name of a folder")
        return command(*args, shards=shards, **kwargs)

    options = [
        click.option(
            "--jobs", type=whole(1, 256), metavar="N",
            help="Number of processes, with one thread each (default: one per processor). "
            "Results do not depend on it.",
        ),
        click.option(
            "--dask", metavar="ADDRESS",
            help="Use the workers of this Dask scheduler instead: tcp://HOST:8786.",
        ),
        click.option(
            "--keep", metavar="FOLDER",
            help="Keep finished work in this folder, so that the same command can resume.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
