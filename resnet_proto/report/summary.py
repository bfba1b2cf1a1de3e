"""Net -> a row for each layer, and totals -> a table, plain or by parts, CSV, JSON; two nets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from resnet_proto.errors import UnknownLayerError, UnknownShapeError
from resnet_proto.layers import Shape, count, dims
from resnet_proto.memory import human
from resnet_proto.net import Net, Step, check_net
from resnet_proto.report.words import label, named, shape_of, thousands
from resnet_proto.structure import Structure
from resnet_proto.words import columns, counted, line_width, printable, widths

FLOAT = 4  # bytes; Caffe's blobs are float32
FIGURES = ("parameters", "macs", "activation_bytes")


@dataclass(frozen=True)
class Row:
    """One layer. Every figure is None behind a layer whose shapes are not known.

    Args:
        layer: its name. ``type`` likewise.
        tops: name -> shape.
        parameters: learned values.
        statistics: values that are measured and not learned: BatchNorm's blobs.
        macs: multiply-adds with weights, one forward pass.
        activation_bytes: float32 bytes of the tops; of one that is in place only what is more
            than the blob has, because Caffe allocates nothing else.
    """

    layer: str
    type: str
    tops: dict[str, tuple[int, ...] | None]
    parameters: int | None = None
    statistics: int | None = None
    macs: int | None = None
    activation_bytes: int | None = None


@dataclass(frozen=True)
class Summary:
    """The rows of a net with their totals.

    ``unknown`` says which layer ended the walk, and why; the totals count what lies before it.
    """

    name: str
    rows: list[Row]
    parameters: int
    statistics: int
    macs: int
    activation_bytes: int
    unknown: str | None = None


def summarize(
    net: Net, phase: str | None = None, shapes: Mapping[str, Shape] | None = None
) -> Summary:
    """Shapes and figures of each layer; ``phase`` and ``shapes`` are those of ``Net.walk``.

    Raises:
        NetError: layers that do not fit together.
        ResNetProtoError: no net.
    """
    check_net(net)
    rows: list[Row] = []
    unknown = None
    try:
        for step in net.walk(phase, shapes):
            rows.append(row(step))
    except (UnknownLayerError, UnknownShapeError) as error:
        unknown = str(error)
        rest = net.upgraded().filtered(phase).layers[len(rows) :]
        known = list(rows)
        rows += [Row(layer.name, layer.type, dict.fromkeys(layer.tops)) for layer in rest]
    else:
        known = rows

    def total(field: str) -> int:
        return sum(getattr(item, field) for item in known)

    return Summary(
        net.name,
        rows,
        total("parameters"),
        total("statistics"),
        total("macs"),
        total("activation_bytes"),
        unknown,
    )


def row(step: Step) -> Row:
    """The figures of one layer."""
    layer = step.layer
    held = dict(zip(layer.bottoms, map(count, step.bottoms), strict=True))
    made = (
        max(0, count(shape) - held.get(name, 0))
        for name, shape in zip(layer.tops, step.tops, strict=True)
    )
    return Row(
        step.label,
        layer.type,
        dict(zip(layer.tops, step.tops, strict=True)),
        step.parameters,
        step.statistics,
        step.macs,
        FLOAT * sum(made),
    )


def table(summary: Summary) -> Iterator[str]:
    """The rows as lines of text, with a head and the totals."""
    head = ("layer", "type", "top", "parameters", "MACs", "activation bytes")
    cells = [head, *map(text_row, summary.rows)]
    least = "at least " if summary.unknown else ""
    cells.append(
        (
            "total",
            counted(len(summary.rows), "layer"),
            "",
            f"{least}{summary.parameters:,}",
            f"{least}{summary.macs:,}",
            f"{least}{summary.activation_bytes:,}",
        )
    )
    yield from columns(cells, left=3, rules=(1, len(cells) - 1))
    yield f"BatchNorm statistics, not learned: {least}{summary.statistics:,} values"
    if summary.unknown:
        yield printable(f"Incomplete: {summary.unknown}")


def text_row(item: Row) -> tuple[str, ...]:
    """One row's cells; ``?`` is a figure that is not known."""
    figures = (item.parameters, item.macs, item.activation_bytes)
    shapes = ("?" if shape is None else dims(shape) for shape in item.tops.values())
    return (
        item.layer,
        item.type,
        ", ".join(shapes),
        *("?" if figure is None else f"{figure:,}" if figure else "" for figure in figures),
    )


def as_json(summary: Summary) -> dict[str, object]:
    """The same figures as plain data."""
    return asdict(summary)


# ---- by parts


class Section(NamedTuple):
    """A part of a net, as ``structure`` finds it, with its rows."""

    name: str
    n_units: int
    places: tuple[int, ...]
    rows: Sequence[Row]

    def total(self, field: str) -> int:
        """Of its rows, as far as they are known."""
        return sum(getattr(row, field) or 0 for row in self.rows)


def sections(summary: Summary, found: Structure) -> Iterator[Section]:
    """The rows by the parts of the net."""
    for name, part in named(found.parts):
        n_units = len(part.units) if part.kind == "stage" else 0
        rows = [summary.rows[i] for i in part.layers]
        yield Section(name or "between", n_units, part.layers, rows)


def by_parts(summary: Summary, found: Structure, width: int) -> Iterator[tuple[str, str]]:
    """Lines for a terminal of this width, each behind what it is: head, section, row, total.

    Figures are rounded and have a unit; the plain table has all digits. Where room is short, heads
    are abbreviated, then texts.
    """
    kinds = ["head"]
    cells: list[tuple[str, ...]] = [("layer", "", "output", "parameters", "MACs", "activations")]
    for section in sections(summary, found):
        units = counted(section.n_units, "unit") if section.n_units else ""
        kinds.append("section")
        cells.append((section.name, units, "", *in_units(section.total)))
        for i, item in zip(section.places, section.rows, strict=True):
            shape = shape_of(next(iter(item.tops.values()), None))
            figures = in_units(lambda name, item=item: getattr(item, name))  # type: ignore[misc]
            kinds.append("row")
            cells.append((f"  {item.layer}", label(found.graph.nodes[i]), shape, *figures))
    figures = in_units(lambda name: getattr(summary, name))
    least = "at least" if summary.unknown else ""
    kinds.append("total")
    cells.append(("total", counted(len(summary.rows), "layer"), least, *figures))
    if line_width(widths(cells)) > width:
        cells[0] = ("layer", "", "output", "param.", "MACs", "activ.")
    yield from zip(kinds, columns(cells, left=3, rules=(), width=width), strict=True)
    if summary.unknown:
        yield "row", printable(f"Incomplete: {summary.unknown}")


def in_units(value: Callable[[str], int | None]) -> Iterator[str]:
    """Each of ``FIGURES`` as people say it; ``?`` is one that is not known."""
    for name in FIGURES:
        n = value(name)
        if n is None:
            yield "?"
        else:
            yield thousands(n) if name != "activation_bytes" else human(n) if n else ""


def to_csv(summary: Summary, found: Structure) -> str:
    """A line for each layer in order, with the part of the net that it is in."""
    part_of = {i: section.name for section in sections(summary, found) for i in section.places}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("parameters", "statistics", "macs", "activation_bytes")
    writer.writerow(("part", "layer", "type", "tops", "shapes", *names))
    for i, item in enumerate(summary.rows):
        shapes = ";".join("" if shape is None else dims(shape) for shape in item.tops.values())
        figures = (getattr(item, name) for name in names)
        writer.writerow((part_of[i], item.layer, item.type, ";".join(item.tops), shapes, *figures))
    return text.getvalue()


# ---- two nets


def compare(
    one: tuple[Summary, Structure], other: tuple[Summary, Structure]
) -> dict[str, list[Any]]:
    """The figures of two nets: in all, and part by part in the order of the first.

    Where only one has a part, the other's figures of it are None.
    """
    both = (one, other)
    parts = [{section.name: section for section in sections(*net)} for net in both]
    rows = []
    for name in dict.fromkeys((*parts[0], *parts[1])):
        pair = [part.get(name) for part in parts]
        figures = {field: [part and part.total(field) for part in pair] for field in FIGURES}
        rows.append({"part": name, "units": [part and part.n_units for part in pair], **figures})
    return {
        "names": [net.name for net, _ in both],
        "layers": [len(net.rows) for net, _ in both],
        "parts": rows,
        "unknown": [net.unknown for net, _ in both],
        **{field: [getattr(net, field) for net, _ in both] for field in FIGURES},
    }


def comparison(facts: Mapping[str, list[Any]]) -> Iterator[str]:
    """What ``compare`` gives, as a table: for each figure both values and their ratio."""
    cells = [("", *("A", "B", "B/A") * 3)]
    total = {"part": "total", **{field: facts[field] for field in FIGURES}}
    for item in (*facts["parts"], total):
        figures: list[str] = []
        for field in FIGURES:
            values = item[field]
            say = human if field == "activation_bytes" else thousands
            figures += ["-" if n is None else say(n) if n else "0" for n in values]
            figures.append(f"{values[1] / values[0]:.2f}" if values[0] and values[1] else "")
        cells.append((item["part"], *figures))
    for letter, name, n in zip("AB", facts["names"], facts["layers"], strict=True):
        yield printable(f"{letter}: {name}, {counted(n, 'layer')}")
    yield ""
    name, *wide = widths(cells)
    heads = zip(("parameters", "MACs", "activations"), (wide[:3], wide[3:6], wide[6:]), strict=True)
    yield " " * name + "".join(f"{head:>{sum(three) + 6}}" for head, three in heads)
    yield from columns(cells, left=1, rules=())
    for letter, why in zip("AB", facts["unknown"], strict=True):
        if why:
            yield printable(f"{letter} is incomplete: {why}")
