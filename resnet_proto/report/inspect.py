"""Weights (and a net) -> rows of blobs, verdicts of Caffe, totals -> a table or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from resnet_proto.evaluate.released import Release, known_release
from resnet_proto.fit import Verdict, match, named
from resnet_proto.layers import Shape, count, dims
from resnet_proto.net import Net
from resnet_proto.weights import Blob, Weights
from resnet_proto.words import columns, counted, line_width, widths

LEFT = "left at its filler"
TEXTS = frozenset({"layer", "type", "blob", "shape", "dtype", "history", "parameter"})
"""Columns that are no figures."""
SPARE = ("not finite", "dtype", "type", "bytes")
"""Columns that go where a terminal has no room for all, the first first."""


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
        release: the released model that it is, if it is known.
    """

    source: str
    layers: int
    rows: list[Row]
    values: int
    bytes: int
    verdicts: list[Verdict] | None = None
    release: Release | None = None

    @property
    def fits(self) -> bool:
        """Whether every layer of the net gets its weights, as far as is known; True without one."""
        return not self.misfit

    @property
    def misfit(self) -> str:
        """Why the weights do not fit the net, as ``forward`` and ``convert`` see it, or empty."""
        counts = Counter(v.verdict for v in self.verdicts or ())
        problems = []
        if refused := counts["refused"]:
            problems.append(f"{counted(refused, 'layer')} refused, where Caffe ends")
        if left := counts[LEFT]:
            are, their = ("is", "its") if left == 1 else ("are", "their")
            problems.append(
                f"{counted(left, 'layer')} of the net {are} not in the file and would stay at "
                f"{their} filler"
            )
        if counts and not counts["copied"] + counts["unknown"]:
            problems.append("no layer is copied")
        return "; ".join(problems)

    @property
    def without_problem(self) -> frozenset[str]:
        """Labels of the file's layers that are copied."""
        return frozenset(v.layer for v in self.verdicts or () if v.verdict == "copied")


def inspect(weights: Weights, net: Net | None = None, *, stats: bool = False) -> Inspection:
    """List what weights hold; values are read for ``stats`` only.

    Types and names of blobs that the file lacks are the net's.
    """
    shown = weights if net is None else named(weights, net)
    return Inspection(
        weights.source,
        len(weights.layers),
        [
            Row(b.layer, b.type, b.name, b.shape, b.dtype, b.nbytes, measure(b) if stats else None)
            for b in shown.blobs.values()
        ],
        sum(count(blob.shape) for blob in weights.blobs.values()),
        weights.nbytes,
        None if net is None else match(weights, net),
        known_release(net, weights),
    )


def measure(blob: Blob) -> Stats:
    """Statistics of one blob, in float64 and piece by piece."""
    return measure_parts(blob.data.parts(), blob.dtype)


def measure_parts(parts: Iterable[memoryview], dtype: str) -> Stats:
    """Statistics of values, from their bytes."""
    import numpy as np

    stored = np.dtype(dtype).newbyteorder("<")
    least, most, total, n_values, n_finite = [], [], 0.0, 0, 0
    for data in parts:
        n_values += len(data) // stored.itemsize
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


def table(
    inspection: Inspection, *, problems: bool = False, width: int | None = None
) -> Iterator[str]:
    """The rows as lines of text; with verdicts, those stand at the first blob of their layer.

    Args:
        inspection: what to show.
        problems: leave out the layers that are copied.
        width: of the terminal that the table fits; None is as wide as it is.
    """
    hidden = inspection.without_problem if problems else frozenset()
    # A layer of the file and one of the net may have one label: Caffe goes by other rules.
    of_file, of_net = {}, []
    for verdict in inspection.verdicts or ():
        if verdict.verdict == LEFT:
            of_net.append(verdict)
        elif verdict.layer not in hidden:
            of_file[verdict.layer] = verdict
    with_stats = any(row.stats for row in inspection.rows)
    head: tuple[str, ...] = ("layer", "type", "blob", "shape", "dtype", "bytes")
    cells = [head + (("min", "max", "mean", "not finite") if with_stats else ())]
    ends = ["verdict" if inspection.verdicts is not None else ""]
    for row in inspection.rows:
        if row.layer in hidden:
            continue
        line = (row.layer, row.type, row.blob, dims(row.shape), row.dtype, f"{row.bytes:,}")
        cells.append((*line, *(stats_cells(row.stats) if row.stats else ())))
        ends.append(words(of_file.pop(row.layer, None)))
    for verdict in (*of_file.values(), *of_net):
        cells.append((verdict.layer, *[""] * (len(cells[0]) - 1)))
        ends.append(words(verdict))
    yield from fitted(cells, ends, width)
    yield (
        f"{inspection.source}: {counted(inspection.layers, 'layer')}, "
        f"{counted(len(inspection.rows), 'blob')}, {counted(inspection.values, 'value')}, "
        f"{counted(inspection.bytes, 'byte')}"
    )
    if inspection.release:
        yield f"known: {inspection.release}"
    if inspection.verdicts is not None:
        counts = Counter(v.verdict for v in inspection.verdicts)
        many = {LEFT: "left at their filler"}
        yield "Caffe: " + (
            ", ".join(
                f"{counted(n, 'layer')} {name if n == 1 else many.get(name, name)}"
                for name, n in counts.items()
            )
            or "nothing to do"
        )
    if inspection.misfit:
        yield f"does not fit: {inspection.misfit}"


def fitted(
    rows: Sequence[Sequence[str]], ends: Sequence[str] = (), width: int | None = None
) -> Iterator[str]:
    """A table of blobs; where it is too wide, without some of ``SPARE``, which a line says.

    "not finite" stays where any value is not.
    """
    left_out = []
    for name in SPARE:
        wide = [*widths(rows), *(len(end) for end in ends[:1] if end)]
        if width is None or line_width(wide) <= width:
            break
        if name in rows[0]:
            i = rows[0].index(name)
            if name != "not finite" or {row[i] for row in rows[1:]} <= {"0", ""}:
                rows = [(*row[:i], *row[i + 1 :]) for row in rows]
                left_out.append(name.replace("not finite", "not finite (all 0)"))
    yield from columns(rows, ends, left=sum(name in TEXTS for name in rows[0]), width=width)
    if left_out:
        yield f"no room for the columns {', '.join(left_out)}; --json has them"


def stats_cells(stats: Stats) -> tuple[str, ...]:
    """Four figures; ``-`` where no value is finite."""
    three = (stats.min, stats.max, stats.mean)
    return (*("-" if v is None else f"{v:.5g}" for v in three), f"{stats.not_finite:,}")


def words(verdict: Verdict | None) -> str:
    """A verdict with its reason."""
    if verdict is None:
        return ""
    return f"{verdict.verdict}: {verdict.reason}" if verdict.reason else verdict.verdict


def as_json(inspection: Inspection, *, problems: bool = False) -> dict[str, object]:
    """The same as plain data."""
    if problems:
        hidden = inspection.without_problem
        inspection = replace(
            inspection,
            rows=[row for row in inspection.rows if row.layer not in hidden],
            verdicts=[v for v in inspection.verdicts or () if v.verdict != "copied"],
        )
    release = inspection.release
    return {**asdict(inspection), "release": release and release.as_json()}
