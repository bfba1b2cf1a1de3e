"""A net -> all that is known of each layer -> lines or JSON; the page of ``view`` has the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple

from resnet_proto.check.finding import Finding, placed
from resnet_proto.check.nets import check_views, view
from resnet_proto.errors import NetError, similar
from resnet_proto.graph import shown
from resnet_proto.layers import Layer, Shape, count, dims
from resnet_proto.net import Net, Step, labels
from resnet_proto.render import shortest
from resnet_proto.report.drawing import shortcuts
from resnet_proto.report.summary import FLOAT, Row, row
from resnet_proto.report.words import label, named
from resnet_proto.shared import Keys
from resnet_proto.structure import Structure
from resnet_proto.words import columns_of, padded, printable

FILLED = {("Scale", "filler"): 1.0, ("PReLU", "filler"): 0.25, ("Normalize", "scale_filler"): 1.0}
"""What Caffe fills with where no filler is set and it is not 0: scale_layer.cpp, prelu_layer.cpp,
normalize_layer.cpp."""
OWN_FILLERS = ("BatchNorm", "BN")
"""Types of forks whose fillers, where they are not set, depend on the fork."""
DEFAULT = " (default)"
"""What stands behind a value that Caffe fills in."""
NAMED = 8
"""Blobs that are one with another and are named."""


class Read(NamedTuple):
    """A bottom: which layer gives it, by its place, as which of its tops."""

    layer: int
    top: int
    shortcut: bool


class Field(NamedTuple):
    """A field of a layer; where it was not set, the value is Caffe's default."""

    name: str
    value: Any
    is_set: bool


@dataclass(frozen=True)
class Known:
    """All that is known of a layer.

    Args:
        name: its label, which no other layer has. ``layer`` is what the net has of it.
        words: what it is, as figures of papers have it.
        place: the part of the net, and the unit in a stage.
        reads: a line for each bottom.
        shapes: those of its tops; None where they are not known.
        row: its figures, as in ``summary``; None behind a layer whose shapes are not known.
        weight_bytes: of its blobs, float32, those of other layers aside.
        blobs: name, shape, and the keys of the blobs that are one with it, its own among them; none
            of one that is alone. Layers that share have the same tuple: of n there may be n keys.
        findings: what ``check`` finds of it.
    """

    name: str
    layer: Layer
    words: str
    place: str
    reads: tuple[Read, ...]
    shapes: tuple[Shape | None, ...]
    row: Row | None
    weight_bytes: int | None
    blobs: tuple[tuple[str, Shape, Keys], ...]
    findings: tuple[Finding, ...]


def known_layers(net: Net, found: Structure) -> tuple[list[Known], list[Finding]]:
    """What is known of each layer that the net's state admits, and all that ``check`` finds there.

    Args:
        net: in its state, and with its shapes.
        found: its parts.

    Raises:
        NetError: two layers have one label.
    """
    at = view(net, net.state.phase)
    nodes = found.graph.nodes
    short = set(shortcuts(found))
    findings = placed("", check_views([at]))
    of_layer: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        for name in finding.layers:
            of_layer[name].append(finding)
    places = dict(places_of(found))
    steps: list[Step | None] = [*at.steps, *[None] * (len(nodes) - len(at.steps))]
    names = labels(node.layer.name for node in nodes)
    known = [
        Known(
            name,
            node.layer,
            label(node),
            places[i],
            tuple(Read(j, top, (j, i) in short) for j, top in node.sources),
            step.tops if step else (None,) * len(node.layer.tops),
            row(step) if step else None,
            FLOAT * sum(map(count, step.owned.values())) if step else None,
            tuple((blob, shape, step.shared.get(blob, ())) for blob, shape in step.blobs.items())
            if step
            else (),
            tuple(of_layer[node.layer.name]),
        )
        for i, (node, name, step) in enumerate(zip(nodes, names, steps, strict=True))
    ]
    return known, findings


def one_with(item: Known, blob: str, keys: Keys) -> str:
    """The other blobs that are one with a layer's blob: the first by name, and how many more."""
    others = (key for key in keys if key != f"{item.name}.{blob}")
    text = ", ".join(islice(others, NAMED))
    more = len(keys) - 1 - NAMED
    return f"{text} and {more:,} more" if more > 0 else text


def places_of(found: Structure) -> Iterator[tuple[int, str]]:
    """Each layer, and in words where it stands."""
    for name, part in named(found.parts):
        for n, unit in enumerate(part.units, 1):
            for i in unit.layers:
                yield i, f"{name}, unit {n}" if part.kind == "stage" else name or "between stages"


# ---- fields


def fields_of(layer: Layer) -> Iterator[Field]:
    """Every field: those that were set, and those that Caffe fills in."""
    for key, value in layer.fields.items():
        if key != layer.message and key not in layer.other_messages:
            yield from flat(key, value)
    messages = {layer.message: layer.resolved()} if layer.message else {}
    for message, values in (messages | layer.resolved_others()).items():
        given = layer.fields.get(message, {})
        for key in (*given, *(key for key in values if key not in given)):
            is_set = key in given
            value = given[key] if is_set else values[key]
            if not is_set and (key.endswith("filler") or key == "filler"):
                value = default_filler(layer.type, key)
            yield Field(f"{message}.{key}", value, is_set)


def default_filler(type: str, key: str) -> Mapping[str, Any] | None:
    """What Caffe fills with where the net does not say it; None if that is not known."""
    if type in OWN_FILLERS:
        return None
    return {"type": "constant", "value": FILLED.get((type, key), 0.0)}


def flat(key: str, value: Any) -> Iterator[Field]:
    """A field that was set, and what it holds one below the other."""
    items: Iterable[Any] = value if isinstance(value, tuple) else (value,)
    for i, item in enumerate(items):
        name = f"{key}[{i}]" if isinstance(value, tuple) and len(value) > 1 else key
        if isinstance(item, Mapping):
            for inner, one in item.items():
                yield Field(f"{name}.{inner}", one, True)
        else:
            yield Field(name, item, True)


# ---- some layers


def places_named(names: Sequence[str], known: Sequence[Known], source: str) -> list[int]:
    """The places of layers of these names.

    Raises:
        NetError: there is no such layer.
    """
    places = {item.name: i for i, item in enumerate(known)}
    for name in names:
        if name not in places:
            hint = similar(name, places) or "; `summary` without --layer lists them"
            raise NetError(f"{source or 'the net'} has no layer '{name}'{hint}")
    return [places[name] for name in names]


def lines(known: Sequence[Known], place: int) -> Iterator[str]:
    """All that is known of a layer, in two columns."""
    rows = [tuple(map(printable, line)) for line in pairs(known, known[place])]
    width = max(columns_of(key) for key, _ in rows)
    for key, value in rows:
        yield f"{padded(key, width)}  {value}".rstrip()


def pairs(known: Sequence[Known], item: Known) -> Iterator[tuple[str, str]]:
    """What, and what it is."""
    layer = item.layer
    yield "layer", item.name
    yield "type", layer.type if item.words == layer.type else f"{layer.type}: {item.words}"
    yield "place", item.place
    for blob, read in zip(layer.bottoms, item.reads, strict=True):
        shape = shape_words(known[read.layer].shapes[read.top])
        mark = ", the shortcut" if read.shortcut else ""
        yield "bottom", f"{blob}: {shape}, of layer {known[read.layer].name}{mark}"
    for blob, top in zip(layer.tops, item.shapes, strict=True):
        yield "top", f"{blob}: {shape_words(top)}"
    for blob, blob_shape, keys in item.blobs:
        shared = f", one with {one_with(item, blob, keys)}" if keys else ""
        yield "blob", f"{blob}: {dims(blob_shape)}{shared}"
    for name, figure in figures(item).items():
        if figure is None or figure:
            yield name.replace("_", " ").replace("macs", "MACs"), shown_figure(figure)
    for field in fields_of(layer):
        yield field.name, f"{shown(field.value)}{'' if field.is_set else DEFAULT}"
    for finding in item.findings:
        yield finding.level, f"{finding.reason}; {finding.remedy}"


def shape_words(shape: Shape | None) -> str:
    """A shape with all its axes."""
    return "?" if shape is None else dims(shape)


def shown_figure(figure: int | None) -> str:
    """With all digits."""
    return "?" if figure is None else f"{figure:,}"


def figures(item: Known) -> dict[str, int | None]:
    """The figures of a layer; None if they are not known."""
    own = asdict(item.row) if item.row else {}
    names = ("parameters", "statistics", "macs", "activation_bytes")
    return {**{name: own.get(name) for name in names}, "weight_bytes": item.weight_bytes}


def as_json(known: Sequence[Known], place: int) -> dict[str, Any]:
    """The same as plain data."""
    item = known[place]
    layer = item.layer
    return {
        "layer": item.name,
        "type": layer.type,
        "words": item.words,
        "place": item.place,
        "bottoms": [
            {
                "blob": blob,
                "shape": known[read.layer].shapes[read.top],
                "layer": known[read.layer].name,
                "shortcut": read.shortcut,
            }
            for blob, read in zip(layer.bottoms, item.reads, strict=True)
        ],
        "tops": [
            {"blob": blob, "shape": shape}
            for blob, shape in zip(layer.tops, item.shapes, strict=True)
        ],
        "blobs": [
            {
                "blob": blob,
                "shape": shape,
                "one_with": [key for key in keys if key != f"{item.name}.{blob}"],
            }
            for blob, shape, keys in item.blobs
        ],
        **figures(item),
        "fields": {
            field.name: {"value": plain(field.value), "default": not field.is_set}
            for field in fields_of(layer)
        },
        "findings": [
            {"level": f.level, "rule": f.rule, "reason": f.reason, "remedy": f.remedy}
            for f in item.findings
        ],
    }


def plain(value: Any) -> Any:
    """A field's value as JSON has it, with the digits that its text has."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(shortest(value))
    return value
