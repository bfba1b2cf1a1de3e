"""A net -> what its page shows of it, as plain data for JSON.

Layers are numbers: their places in the net. What many layers have in common, the fields of their
messages, stands once and is referred to.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.check.finding import Finding
from resnet_proto.errors import NetError
from resnet_proto.graph import Graph, match, shown
from resnet_proto.layers import dims
from resnet_proto.memory import memory
from resnet_proto.net import Net, labels
from resnet_proto.report.drawing import kind_of, main_path, part_box, steps_of
from resnet_proto.report.layer import Known, fields_of, figures, known_layers, one_with
from resnet_proto.report.words import named
from resnet_proto.structure import Part, Structure, Unit, structure
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.weights import Weights

MAX_TEXT = 2_000
"""Letters of a name or a value in the page."""


def facts(net: Net, title: str) -> dict[str, Any]:
    """All that the page shows of a net by itself.

    Raises:
        NetError: the net is no graph.
    """
    with net.named():
        net = replace(net, source="")  # a page that is sent on tells nothing of folders
        found = structure(net)
    known, found_by_check = known_layers(net, found)
    details: dict[Any, int] = {}
    return {
        "title": cut(title),
        "phase": net.state.phase,
        "unknown": cut(found.unknown),
        "layers": [layer_facts(item, details) for item in known],
        "details": [list(map(list, rows)) for rows in details],
        "parts": [part_facts(found, part, name) for name, part in named(found.parts)],
        "findings": findings(found_by_check, known),
        "memory": totals(net),
    }


def cut(text: str) -> str:
    """A text of a file: printable, and of bounded length."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... ({len(text):,} letters)"
    return printable(text)


def totals(net: Net) -> dict[str, int] | None:
    """Bytes that Caffe takes for a batch; None where shapes are not known."""
    try:
        return memory(net).totals
    except NetError:
        return None


# ---- layers


def layer_facts(item: Known, details: dict[Any, int]) -> dict[str, Any]:
    """A layer; ``details`` numbers the fields that layers may have in common."""
    layer = item.layer
    rows = tuple(
        (cut(field.name), cut(shown(field.value)), int(field.is_set)) for field in fields_of(layer)
    )
    tops = zip(layer.tops, item.shapes, strict=True)
    return {
        "name": cut(item.name),
        "type": cut(layer.type),
        "label": cut(item.words),
        "kind": kind_of(layer),
        "reads": [[read.layer, read.top, int(read.shortcut)] for read in item.reads],
        "tops": [[cut(top), "" if shape is None else dims(shape)] for top, shape in tops],
        "figures": None if item.row is None else list(figures(item).values()),
        "blobs": [
            [name, dims(shape), cut(one_with(item, name, keys))] for name, shape, keys in item.blobs
        ],
        "details": details.setdefault(rows, len(details)),
    }


# ---- parts


def part_facts(found: Structure, part: Part, name: str) -> dict[str, Any]:
    """A part with its units, and what a box of it says."""
    box = part_box(found, part, name)
    return {
        "kind": part.kind,
        "name": name or "between",
        "runs": [[list(map(cut, steps)), n] for steps, n in box.runs],
        "note": cut(box.note),
        "shape": dims(part.shape) if part.shape else "",
        "units": [unit_facts(found, unit) for unit in part.units],
    }


def unit_facts(found: Structure, unit: Unit) -> dict[str, Any]:
    """A unit: its layers, and in words what is on its paths."""
    return {
        "kind": unit.kind,
        "layers": list(unit.layers),
        "shortcut": list(unit.shortcut),
        "steps": list(map(cut, main_path(found, unit))),
        "beside": ", ".join(map(cut, steps_of(found, unit.shortcut))),
    }


# ---- findings


def findings(found: Iterable[Finding], known: Sequence[Known]) -> list[dict[str, Any]]:
    """What ``check`` finds, with the layers that it is about; the worst first."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(known):
        places[item.layer.name].append(i)
    return [
        {
            "level": finding.level,
            "text": cut(f"{finding.reason}; {finding.remedy}"),
            "layers": [i for name in finding.layers for i in places.get(name, ())],
        }
        for finding in found
    ]


# ---- two nets


def compare(nets: Sequence[Net], pages: Sequence[dict[str, Any]]) -> None:
    """Say at each layer of two nets which of the other net it is.

    Layers are paired as the graphs match; behind the first difference by name, then by their
    places in stages and units. ``partner`` is its place in the other net, or -1; ``differs`` says
    how it differs: ``same`` not at all, ``name`` in the name only, ``fields`` in fields or
    shapes, ``only`` where the other net has none.
    """
    graphs = [Graph.of(net) for net in nets]
    pairs, parted = match(*graphs)
    taken = set(pairs.values())
    for keys in (by_name, by_place):
        free = {key: j for j, key in enumerate(keys(pages[1])) if j not in taken}
        for i, key in enumerate(keys(pages[0])):
            if i not in pairs and key in free:
                pairs[i] = free.pop(key)
        taken = set(pairs.values())
    for page in pages:
        page["parted"] = cut(str(parted)) if parted else ""
        for layer in page["layers"]:
            layer |= {"partner": -1, "differs": "only"}
    for i, j in pairs.items():
        one, other = (page["layers"][k] for page, k in zip(pages, (i, j), strict=True))
        alike = graphs[0].nodes[i].kind() == graphs[1].nodes[j].kind()
        shapes = [[shape for _, shape in layer["tops"]] for layer in (one, other)]
        differs = "fields" if not alike or shapes[0] != shapes[1] else "same"
        if differs == "same" and one["name"] != other["name"]:
            differs = "name"
        one |= {"partner": j, "differs": differs}
        other |= {"partner": i, "differs": differs}


def by_name(page: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """For each layer its name and type."""
    return [(layer["name"], layer["type"]) for layer in page["layers"]]


def by_place(page: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """For each layer where it stands: its part, which unit, and which of its type there."""
    found: dict[int, tuple[Any, ...]] = {}
    for p, part in enumerate(page["parts"]):
        for u, unit in enumerate(part["units"]):
            seen: Counter[str] = Counter()
            for i in unit["layers"]:
                type = page["layers"][i]["type"]
                side = i in unit["shortcut"]
                found[i] = (
                    part["name"],
                    0 if part["kind"] == "stage" else p,
                    u,
                    side,
                    type,
                    seen[type],
                )
                seen[type] += 1
    return [found[i] for i in range(len(page["layers"]))]


# ---- weights


def add_weights(page: dict[str, Any], weights: Weights, net: Net) -> None:
    """Put what weights hold at the layers they belong to."""
    from resnet_proto.fit import named as named_blobs
    from resnet_proto.report.inspect import inspect
    from resnet_proto.report.page.values import profile

    shown_weights = named_blobs(weights, net)
    stored = shown_weights.blobs_of
    for layer, name in zip(page["layers"], net_labels(net), strict=True):
        layer["weights"] = [
            [cut(blob.name), dims(blob.shape), asdict(profile(blob.data.parts, blob.dtype))]
            for blob in stored.get(name, ())
        ]
    inspection = inspect(weights, net)
    page["weights"] = {
        "source": cut(Path(weights.source).name),
        "misfit": cut(inspection.misfit),
        "release": cut(str(inspection.release)) if inspection.release else "",
    }
    places = {name: i for i, name in enumerate(net_labels(net))}
    for verdict in inspection.verdicts or ():
        if verdict.verdict not in ("copied", "ignored") and verdict.layer in places:
            page["findings"].insert(0, {
                "level": "error" if verdict.verdict == "refused" else "warning",
                "text": cut(f"weights: {verdict.verdict}: {verdict.reason}"),
                "layers": [places[verdict.layer]],
            })  # fmt: skip


def net_labels(net: Net) -> list[str]:
    """The labels of the layers that the page has."""
    return list(labels(layer.name for layer in net.upgraded().filtered().layers))


# ---- a run


def add_values(
    page: dict[str, Any], net: Net, weights: Mapping[str, Array], inputs: Mapping[str, Array]
) -> None:
    """Put what each layer gives for an input at the layer; layers that do not run have nothing."""
    from resnet_proto.report.page.values import run

    found = run(net, weights, inputs)
    last = {top: i for i, layer in enumerate(page["layers"]) for top, _ in layer["tops"]}
    for layer, name in zip(page["layers"], net_labels(net), strict=True):
        layer["values"] = found.get(name, [])
        for (top, _), values in zip(layer["tops"], layer["values"], strict=False):
            values["last"] = last[top]
