"""The words of work in shards: what is done, with which items, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array

Result = dict[str, "Array"]
"""What a task says of a shard: named arrays of ints or floats, of any shape."""


@dataclass(frozen=True)
class Shard:
    """Items from ``start`` to before ``stop``; ``index`` counts shards from 0."""

    index: int
    start: int
    stop: int

    def __str__(self) -> str:
        """Its words in messages; items count from 0, as they do in arrays."""
        return f"shard {self.index} (items {self.start} to {self.stop - 1})"


class Task(Protocol):
    """What is done with a shard. It is pickled for each worker: keep it small, with paths of files.

    Args:
        digest: all that a result depends on, a line ``name: value`` for each, files by their
            sha256. Where it differs from that of an earlier run, the message names the lines.
    """

    digest: str

    def prepare(self) -> None:
        """Open nets and data: once in each worker, before its first shard."""

    def run(self, shard: Shard) -> Result:
        """What there is to say of a shard; of nothing else than ``digest`` and the shard."""
