"""Two weight files, or two nets -> what is only in one and what differs -> a table or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from resnet_proto.layers import Shape, dims
from resnet_proto.net import Net, labels
from resnet_proto.words import columns, counted, printable

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.weights import Blob, Weights

PART = 1 << 20
"""Values that are compared at a time."""
MOST = 20
"""Rows of a kind that a table shows."""
Row = TypeVar("Row")


@dataclass(frozen=True)
class BlobRow:
    """A blob of one file or of both.

    Args:
        blob: ``<layer>.<blob>``.
        one: its shape in the first file, None where that lacks it. ``other`` likewise.
        distance: |one - other| / |other|, relative L2; nan if one of them has a nan where the
            other has none; None if they cannot be compared.
        largest: the largest difference of two values, by the largest value of ``other``.
    """

    blob: str
    one: Shape | None
    other: Shape | None
    distance: float | None = None
    largest: float | None = None

    def within(self, tolerance: float) -> bool:
        """Whether both files have the blob, and no farther apart than this."""
        return self.distance is not None and self.distance <= tolerance


@dataclass(frozen=True)
class FieldRow:
    """What differs in a layer, or in the net itself, whose ``layer`` is empty.

    ``field`` is empty where only one of the nets has the layer. None is "not there".
    """

    layer: str
    field: str
    one: Any
    other: Any


def diff_weights(one: Weights, other: Weights) -> list[BlobRow]:
    """A row for each blob of either, in the order of the first, then of the second.

    A blob is found by its layer's name and its own, or by its place where a file has numbers for
    names, as Caffe's HDF5. (1, 1, 1, N) is (N,), as in Caffe.
    """
    pairs: list[tuple[str, Blob | None, Blob | None]] = []
    for label in dict.fromkeys((*one.blobs_of, *other.blobs_of)):
        ours, theirs = (
            {blob.name: blob for blob in weights.blobs_of.get(label, ())}
            for weights in (one, other)
        )
        if any(name.isdecimal() for name in (*ours, *theirs)) and ours.keys() != theirs.keys():
            longer = list(ours if len(ours) >= len(theirs) else theirs)
            ours, theirs = (
                dict(zip(longer, side.values(), strict=False)) for side in (ours, theirs)
            )
        for name in dict.fromkeys((*ours, *theirs)):
            key = f"{label}.{name}" if name else label  # an array without a dot in its name
            pairs.append((key, ours.get(name), theirs.get(name)))
    return [blob_row(key, *pair) for key, *pair in pairs]


def blob_row(key: str, one: Blob | None, other: Blob | None) -> BlobRow:
    """Compare a blob; values only where the shapes agree."""
    from resnet_proto.fit import without_ones

    if one is None or other is None:
        return BlobRow(key, one and one.shape, other and other.shape)
    if without_ones(one.shape) != without_ones(other.shape):
        return BlobRow(key, one.shape, other.shape)
    return BlobRow(key, one.shape, other.shape, *distances(one.array(), other.array()))


def distances(one: Array, other: Array) -> tuple[float, float]:
    """Relative L2 and the largest difference by the largest value, of arrays of one size.

    What is the same in both, nan and infinity too, is no difference. A few values are float64
    at a time.
    """
    import numpy as np

    ours, theirs = one.reshape(-1), other.reshape(-1)
    error = size = largest = most = 0.0
    for start in range(0, ours.size, PART):
        a, b = (x[start : start + PART].astype(np.float64) for x in (ours, theirs))
        with np.errstate(invalid="ignore"):
            gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, abs(a - b))
        b = abs(b[np.isfinite(b)])
        error, size = error + float(gap @ gap), size + float(b @ b)
        largest = float(np.max(gap, initial=largest))  # a nan stays
        most = float(np.max(b, initial=most))
    return ratio(error**0.5, size**0.5), ratio(largest, most)


def ratio(part: float, whole: float) -> float:
    """A quotient; 0 / 0 is 0."""
    if part == 0:
        return 0.0
    return part / whole if whole else part * float("inf")


def diff_nets(one: Net, other: Net) -> list[FieldRow]:
    """What differs between two nets after Caffe's defaults, layer by layer, whatever their rules.

    Layers are found by name; the second of one name is ``name#2``.
    """
    nets = [net.upgraded() for net in (one, other)]
    rows = [
        FieldRow("", name, a, b)
        for name, a, b in unlike({"name": nets[0].name, **nets[0].fields},
                                 {"name": nets[1].name, **nets[1].fields})
    ]  # fmt: skip
    sides = [
        dict(zip(labels(layer.name for layer in net.layers), net.canonical(), strict=True))
        for net in nets
    ]
    for label in dict.fromkeys((*sides[0], *sides[1])):
        a, b = (side.get(label) for side in sides)
        if a is None or b is None:
            rows.append(FieldRow(label, "", a and a["type"], b and b["type"]))
            continue
        rows += [FieldRow(label, *found) for found in unlike(flat(a), flat(b))]
    both = [[label for label in side if label in sides[0] and label in sides[1]] for side in sides]
    if both[0] != both[1]:
        parted = next(i for i, pair in enumerate(zip(*both, strict=True)) if pair[0] != pair[1])
        rows.append(FieldRow("", "order of layers", both[0][parted], both[1][parted]))
    return rows


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``Net.canonical`` as fields by name."""
    own = {key: row[key] for key in ("type", "bottoms", "tops")}
    return {**own, **row["param"], **row["fields"]}


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The fields that differ, and those within them, with dots."""
    for name in dict.fromkeys((*one, *other)):
        a, b = one.get(name), other.get(name)
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from ((f"{name}.{inner}", *values) for inner, *values in unlike(a, b))
        else:
            yield name, a, b


def few(rows: Sequence[Row], kind: Callable[[Row], object]) -> tuple[list[Row], list[str]]:
    """The first ``MOST`` rows of each kind, and a line about the others, if there are any."""
    seen: Counter[object] = Counter()
    shown = []
    for row in rows:
        seen[kind(row)] += 1
        if seen[kind(row)] <= MOST:
            shown.append(row)
    left = len(rows) - len(shown)
    return shown, [f"... and {left:,} more; --json has all"] if left else []


def weights_table(
    rows: Sequence[BlobRow], names: tuple[str, str], tolerance: float
) -> Iterator[str]:
    """The blobs that differ, as lines of text, and how many there are of each kind."""
    over = [row for row in rows if not row.within(tolerance)]
    if over:
        cells: list[tuple[str, ...]] = [("blob", "A", "B", "relative L2", "largest")]
        kept, left = few(
            over, lambda row: (row.one is None, row.other is None, row.distance is None)
        )
        for row in kept:
            shapes = ("-" if shape is None else dims(shape) for shape in (row.one, row.other))
            figures = ("" if x is None else f"{x:.2e}" for x in (row.distance, row.largest))
            cells.append((row.blob, *shapes, *figures))
        yield from columns(cells, left=3)
        yield from left
    alone = [sum((row.one, row.other)[i] is None for row in rows) for i in (1, 0)]
    shaped = sum(
        row.distance is None and row.one is not None and row.other is not None for row in rows
    )
    apart = len(over) - shaped - sum(alone)
    parts = [
        f"{counted(n, 'blob')} only in {name}" for n, name in zip(alone, names, strict=True) if n
    ]
    parts += [f"{counted(shaped, 'blob')} of different shapes"] if shaped else []
    parts += [f"{counted(apart, 'blob')} of different values"] if apart else []
    same = "equal" if tolerance == 0 else f"within {tolerance:g}"
    parts.append(f"{counted(len(rows) - len(over), 'blob')} {same}")
    yield printable(", ".join(parts))


def nets_table(rows: Sequence[FieldRow]) -> Iterator[str]:
    """The fields that differ, as lines of text."""
    if rows:
        cells: list[tuple[str, ...]] = [("layer", "field", "A", "B")]
        kept, left = few(rows, lambda row: (row.field == "", row.one is None, row.other is None))
        for row in kept:
            values = ("-" if value is None else shown(value) for value in (row.one, row.other))
            cells.append((row.layer or "(net)", row.field or "(layer)", *values))
        yield from columns(cells, left=4)
        yield from left
    layers = {row.layer for row in rows if row.layer}
    yield (
        f"{counted(len(rows), 'difference')} in {counted(len(layers), 'layer')}"
        if rows
        else "the same net, after Caffe's defaults"
    )


def shown(value: Any) -> str:
    """A field's value, on one line."""
    if isinstance(value, Mapping):
        return "{" + " ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple | list):
        return ",".join(map(shown, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.7g}" if isinstance(value, float) else str(value)
