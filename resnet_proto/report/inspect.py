"""Weights (and a net) -> rows of blobs, verdicts of Caffe, totals -> a table or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from resnet_proto.layers import Shape, count, dims
from resnet_proto.net import Net
from resnet_proto.weights import Blob, Verdict, Weights, match


@dataclass(frozen=True)
class Stats:
    """Of the finite values; None if there is none, or for a mean whose sum is infinite."""

    min: float | None
    max: float | None
    mean: float | None
    not_finite: int


@dataclass(frozen=True)
class Row:
    """One blob as it is stored."""

    layer: str
    type: str
    blob: str
    shape: Shape
    dtype: str
    bytes: int
    stats: Stats | None = None


@dataclass(frozen=True)
class Inspection:
    """What a weight file holds.

    Args:
        source: the file.
        layers: how many it has, with and without blobs.
        rows: one for each blob, in the order of the file.
        values: how many in all. ``bytes`` is their size.
        verdicts: what Caffe would do, layer by layer; None without a net.
    """

    source: str
    layers: int
    rows: list[Row]
    values: int
    bytes: int
    verdicts: list[Verdict] | None = None

    @property
    def fits(self) -> bool:
        """Whether Caffe would go on and copy something, as far as is known; True without a net."""
        verdicts = {v.verdict for v in self.verdicts or ()}
        return "refused" not in verdicts and bool({"copied", "unknown"} & verdicts or not verdicts)


def inspect(weights: Weights, net: Net | None = None, *, stats: bool = False) -> Inspection:
    """List what weights hold; values are read for ``stats`` only."""
    return Inspection(
        weights.source,
        len(weights.layers),
        [
            Row(b.layer, b.type, b.name, b.shape, b.dtype, b.nbytes, measure(b) if stats else None)
            for b in weights.blobs.values()
        ],
        sum(count(blob.shape) for blob in weights.blobs.values()),
        weights.nbytes,
        None if net is None else match(weights, net),
    )


def measure(blob: Blob) -> Stats:
    """Statistics of one blob, in float64 and piece by piece."""
    import numpy as np

    stored = np.dtype(blob.dtype).newbyteorder("<")
    n_values = count(blob.shape)
    least, most, total, n_finite = [], [], 0.0, 0
    for data in blob.data.parts():
        with np.errstate(invalid="ignore"):  # signalling nan
            part = np.frombuffer(data, stored).astype(np.float64)
        finite = part[np.isfinite(part)]
        if finite.size:
            least.append(float(finite.min()))
            most.append(float(finite.max()))
            with np.errstate(over="ignore"):
                total += float(finite.sum())
            n_finite += finite.size
    if not n_finite:
        return Stats(None, None, None, n_values)
    mean = total / n_finite if np.isfinite(total) else None
    return Stats(min(least), max(most), mean, n_values - n_finite)


def table(inspection: Inspection) -> Iterator[str]:
    """The rows as lines of text; with verdicts, those stand at the first blob of their layer."""
    # A layer of the file and one of the net may have one label: Caffe goes by other rules.
    of_file, of_net = {}, []
    for verdict in inspection.verdicts or ():
        if verdict.verdict == "left at its filler":
            of_net.append(verdict)
        else:
            of_file[verdict.layer] = verdict
    with_stats = any(row.stats for row in inspection.rows)
    head: tuple[str, ...] = ("layer", "type", "blob", "shape", "dtype", "bytes")
    cells = [head + (("min", "max", "mean", "not finite") if with_stats else ())]
    ends = ["verdict" if inspection.verdicts is not None else ""]
    for row in inspection.rows:
        line = (row.layer, row.type, row.blob, dims(row.shape), row.dtype, f"{row.bytes:,}")
        # Escaped here, so that columns are as wide as what is shown.
        cells.append((*map(printable, line), *(stats_cells(row.stats) if row.stats else ())))
        ends.append(words(of_file.pop(row.layer, None)))
    for verdict in (*of_file.values(), *of_net):
        cells.append((printable(verdict.layer), *[""] * (len(cells[0]) - 1)))
        ends.append(words(verdict))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for i, (cell_row, end) in enumerate(zip(cells, ends, strict=True)):
        left = (f"{cell:<{width}}" for cell, width in zip(cell_row[:5], widths, strict=False))
        right = (f"{cell:>{width}}" for cell, width in zip(cell_row[5:], widths[5:], strict=True))
        yield printable("  ".join([*left, *right, end]).rstrip())
        if i == 0:
            yield "  ".join("-" * width for width in widths)
    yield (
        f"{inspection.source}: {inspection.layers} layers, {len(inspection.rows)} blobs, "
        f"{inspection.values:,} values, {inspection.bytes:,} bytes"
    )
    if inspection.verdicts is not None:
        counts = Counter(v.verdict for v in inspection.verdicts)
        yield "Caffe: " + (
            ", ".join(f"{n} {name}" for name, n in counts.items()) or "nothing to do"
        )


def printable(line: str) -> str:
    """The line with escapes for what a terminal would obey or could not show."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def stats_cells(stats: Stats) -> tuple[str, ...]:
    """Four figures; ``-`` where no value is finite."""
    three = (stats.min, stats.max, stats.mean)
    return (*("-" if v is None else f"{v:.5g}" for v in three), f"{stats.not_finite:,}")


def words(verdict: Verdict | None) -> str:
    """A verdict with its reason."""
    if verdict is None:
        return ""
    return f"{verdict.verdict}: {verdict.reason}" if verdict.reason else verdict.verdict


def as_json(inspection: Inspection) -> dict[str, object]:
    """The same as plain data."""
    return asdict(inspection)
