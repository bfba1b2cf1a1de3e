"""A mean of images -> its shape, and each channel's figures -> text or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet_proto.layers import Shape, dims
from resnet_proto.report.inspect import Stats, measure_parts, stats_cells
from resnet_proto.weights import Held
from resnet_proto.words import columns, counted

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@dataclass(frozen=True)
class MeanInspection:
    """What a binaryproto holds.

    Args:
        source: the file.
        shape: as it is stored: (1, C, H, W) as a rule.
        dtype: numpy's name of it.
        bytes: of all values.
        channels: statistics of each; of all values as one channel where the shape has no C.
    """

    source: str
    shape: Shape
    dtype: str
    bytes: int
    channels: list[Stats]


def inspect(source: str, mean: Array) -> MeanInspection:
    """What a mean holds, channel by channel: the means are what ``--mean`` takes, in its order."""
    own = mean[0] if mean.ndim == 4 and len(mean) == 1 else mean
    channels = own if own.ndim == 3 else own.reshape(1, -1)
    stats = [measure_parts(Held(channel).parts(), mean.dtype.name) for channel in channels]
    return MeanInspection(source, mean.shape, mean.dtype.name, mean.nbytes, stats)


def table(found: MeanInspection) -> Iterator[str]:
    """The same as lines of text."""
    cells: list[tuple[str, ...]] = [("channel", "min", "max", "mean", "not finite")]
    cells += [(str(i), *stats_cells(stats)) for i, stats in enumerate(found.channels)]
    yield from columns(cells, left=1)
    yield f"{found.source}: {dims(found.shape)}, {found.dtype}, {counted(found.bytes, 'byte')}"
