"""Net -> one row for each layer, and totals -> a table or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from resnet_proto.errors import UnknownLayerError, UnknownShapeError
from resnet_proto.layers import Shape, count, dims
from resnet_proto.net import Net, Step
from resnet_proto.words import counted, printable

FLOAT = 4  # bytes; Caffe's blobs are float32


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
    """
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
    cells = [head, *(text_row(item) for item in summary.rows)]
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
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    rule = "  ".join("-" * width for width in widths)
    for i, line in enumerate(cells):
        if i in (1, len(cells) - 1):
            yield rule
        left = "  ".join(f"{cell:<{width}}" for cell, width in zip(line[:3], widths, strict=False))
        right = "  ".join(f"{cell:>{w}}" for cell, w in zip(line[3:], widths[3:], strict=True))
        yield printable(f"{left}  {right}".rstrip())
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
