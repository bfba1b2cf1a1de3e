"""A net with its parts -> boxes and arrows -> Graphviz, or a drawing in letters.

Three details: *stages* looks like table 1 of the paper (arXiv 1512.03385), *units* like its figure
3, *layers* has a box for each layer. In the first two, BatchNorm, Scale and activations are part
of the layer before them, as they are there.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import atomic
from resnet_proto.graph import Node, Value
from resnet_proto.layers import Layer
from resnet_proto.report.words import label, named, shape_of
from resnet_proto.structure import (
    WEIGHTED,
    Part,
    Structure,
    Unit,
    is_activation,
    only_follows,
)
from resnet_proto.words import columns_of, counted, padded, printable

if TYPE_CHECKING:
    from graphviz import Digraph

DETAILS = ("stages", "units", "layers")
PICTURES = (".svg", ".png", ".pdf")
KINDS = {
    "input": "Input Data ImageData HDF5Data MemoryData WindowData DummyData",
    "weights": "Convolution Deconvolution InnerProduct DepthwiseConvolution Embed LSTM RNN",
    "pooling": "Pooling SPP ROIPooling PSROIPooling LRN Normalize",
    "norm": "BatchNorm Scale Bias BN MVN",
    "join": "Eltwise Concat Axpy Crop",
    "output": "Softmax SoftmaxWithLoss Accuracy DetectionOutput ArgMax EuclideanLoss",
}
KIND = {name: kind for kind, names in KINDS.items() for name in names.split()}
"""Type -> what colours its box; see ``kind_of`` for the others."""
COLORS = {
    "input": "#e8e8e8",
    "weights": "#c6dbef",
    "pooling": "#fdd0a2",
    "norm": "#e5f5e0",
    "activation": "#fff2ae",
    "join": "#ffffff",
    "output": "#fcc5c0",
    "stage": "#deebf7",
    "other": "#f4f4f4",
}
SHORTCUT = "#b2182b"
NOTE, NOTE_LINES = 36, 4
"""Letters of a line of a box's note, and how many lines it may have."""
PNG_DPI = 192
"""Dots an inch of a .png: twice Graphviz' own, which are few for a slide."""
MAX_TEXT = 60
"""Letters of a name in a picture."""
MAX_STEPS = 12
"""Layers of a part that are listed, where it is one box; of more, those at both ends."""
Steps = tuple[str, ...]
"""Layers one after another, in a few words each."""


@dataclass(frozen=True)
class Box:
    """Something in a drawing.

    Args:
        title: what stands first.
        runs: layers, and how often they come in a row, as the brackets of the paper's table; one
            that comes once has no bracket where it is alone, or a single layer.
        note: what stands last.
        kind: of its colour, see ``COLORS``.
        members: the layers that it stands for, by their places.
    """

    title: str
    kind: str
    members: tuple[int, ...]
    runs: tuple[tuple[Steps, int], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Edge:
    """An arrow from box to box, by their places; ``text`` is the shape of what flows."""

    start: int
    end: int
    text: str
    shortcut: bool = False


@dataclass(frozen=True)
class Group:
    """Boxes with a frame around them, and frames within it."""

    title: str
    boxes: tuple[int, ...]
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """What is drawn, whoever draws it."""

    title: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    groups: tuple[Group, ...] = ()


def draw(title: str, found: Structure, detail: str) -> Drawing:
    """A net's drawing.

    Args:
        title: what stands above it.
        found: the net with its parts.
        detail: one of ``DETAILS``.
    """
    groups: tuple[Group, ...] = ()
    if detail == "stages":
        boxes = [part_box(found, part, name) for name, part in named(found.parts)]
    else:
        boxes, groups = detailed(found, folded=detail == "units")
    return Drawing(title, tuple(boxes), tuple(edges(found, boxes)), groups)


# ---- layers in words


def steps_of(found: Structure, places: Iterable[int]) -> Steps:
    """Layers in words, without those that only follow others."""
    nodes = (found.graph.nodes[i] for i in places)
    return tuple(label(node) for node in nodes if not only_follows(node.layer))


def main_path(found: Structure, unit: Unit) -> Steps:
    """What a unit is known by: the layers with weights on its main path, strides aside.

    Only the first unit of a stage has one, and the shapes tell of it.
    """
    path = [i for i in unit.layers if i not in unit.shortcut]
    weighted = [i for i in path if found.graph.nodes[i].layer.type in WEIGHTED]
    return tuple(step.rpartition(", /")[0] or step for step in steps_of(found, weighted))


def runs_of(found: Structure, part: Part) -> tuple[tuple[Steps, int], ...]:
    """What a part is made of: units that are alike once, with how often they come."""
    if part.kind == "stage":
        steps = (main_path(found, unit) for unit in part.units)
        return tuple((words, len(list(same))) for words, same in groupby(steps))
    layers = steps_of(found, part.layers)
    if len(layers) > MAX_STEPS:
        layers = (*layers[:6], f"... {len(layers) - 8} more", *layers[-2:])
    return ((layers, 1),)


# ---- boxes


def part_box(found: Structure, part: Part, name: str) -> Box:
    """A part as a box of its own."""
    units = [unit for unit in part.units if unit.kind == "residual"]
    shortcuts = groupby(", ".join(steps_of(found, u.shortcut)) or "identity" for u in units)
    kinds = ", ".join(f"{text}{times(len(list(same)))}" for text, same in shortcuts)
    note = f"shortcuts: {kinds}" if units else ""
    kind = "stage" if part.kind == "stage" else "other"
    return Box(name, kind, part.layers, runs_of(found, part), note)


def times(n: int) -> str:
    """How often something comes, if it comes more than once."""
    return f" \N{MULTIPLICATION SIGN} {n}" if n > 1 else ""


def detailed(found: Structure, *, folded: bool) -> tuple[list[Box], tuple[Group, ...]]:
    """A box for each layer, or for each with what follows it, in frames for units and stages."""
    boxes: list[Box] = []
    groups = []
    for name, part in named(found.parts):
        first = len(boxes)
        inner = []
        for n, unit in enumerate(part.units, 1):
            start = len(boxes)
            boxes += unit_boxes(found, unit, folded=folded)
            if unit.kind != "layer":
                inner.append(Group(f"unit {n}", tuple(range(start, len(boxes)))))
        if inner:
            groups.append(Group(f"{name}: {counted(len(inner), 'unit')}", (), tuple(inner)))
        elif name:
            groups.append(Group(name, tuple(range(first, len(boxes)))))
    return boxes, tuple(groups)


def unit_boxes(found: Structure, unit: Unit, *, folded: bool) -> Iterator[Box]:
    """The boxes of a unit; a layer that only follows another is in that one's if ``folded``."""
    nodes, readers = found.graph.nodes, found.graph.readers
    members: dict[int, list[int]] = {}
    first: dict[int, int] = {}
    for i in unit.layers:
        (before, *others) = nodes[i].before or (-1,)
        follows = only_follows(nodes[i].layer) and not others and before in first
        alone = len({j for j, _ in readers.get(before, ())}) == 1
        first[i] = first[before] if folded and follows and alone else i
        members.setdefault(first[i], []).append(i)
    for i, own in members.items():
        layer, text = nodes[i].layer, label(nodes[i])
        kind = kind_of(layer)
        if kind == "join":
            text = "+" if layer.type == "Axpy" or is_sum(nodes[i]) else layer.type
        if folded and kind == "norm":
            text = ", ".join(
                nodes[j].layer.type for j in own if nodes[j].layer.type != "Scale" or j == i
            )
        if folded:
            yield Box(text, kind, tuple(own))
        else:
            yield Box(layer.name, kind, tuple(own), (((text,), 1),))


def kind_of(layer: Layer) -> str:
    """What colours a layer's box: a key of ``COLORS``."""
    return KIND.get(layer.type, "activation" if is_activation(layer) else "other")


def is_sum(node: Node) -> bool:
    """Whether a layer adds."""
    return node.layer.type == "Eltwise" and node.meaning["operation"] == "SUM"


# ---- arrows


def edges(found: Structure, boxes: Sequence[Box]) -> Iterator[Edge]:
    """The arrows between boxes, each once, in order.

    One that stands for several, in the coarser details, is a shortcut if all of them are.
    """
    box_of = {i: place for place, box in enumerate(boxes) for i in box.members}
    short = set(shortcuts(found))
    arrows: dict[tuple[int, int, Value], bool] = {}
    for i, node in enumerate(found.graph.nodes):
        for source in node.sources:
            start, end = box_of[source[0]], box_of[i]
            if start != end:
                arrow = (start, end, source)
                arrows[arrow] = arrows.get(arrow, True) and (source[0], i) in short
    for (start, end, source), is_short in arrows.items():
        yield Edge(start, end, flow(found, *source), is_short)


def shortcuts(found: Structure) -> Iterator[tuple[int, int]]:
    """The arrows of shortcuts, as pairs of layers."""
    for part in found.parts:
        for unit in part.units:
            if unit.kind != "residual":
                continue
            own = {*unit.layers} - {*unit.shortcut}
            readers = found.graph.readers
            forks = [i for i in own if len({j for j, _ in readers.get(i, ())}) > 1]
            for i in (*unit.shortcut, unit.join):
                for j in found.graph.nodes[i].before:
                    if i != unit.join or j in unit.shortcut or j not in own or j in forks[:1]:
                        yield j, i


def flow(found: Structure, layer: int, top: int) -> str:
    """The shape of one image of a top; empty if it is not known."""
    shapes = found.shapes[layer]
    return shape_of(shapes[top]) if top < len(shapes) else ""


# ---- with Graphviz


def graphviz(drawing: Drawing) -> Digraph:
    """The drawing for Graphviz.

    Raises:
        ResNetProtoError: the Python package is not installed.
    """
    try:
        from graphviz import Digraph
    except ImportError:
        raise ResNetProtoError(
            "pictures need Graphviz: pip install 'resnet-proto[draw]', and Debian's package "
            "graphviz; a drawing as text (.txt, or no -o) does not"
        ) from None
    font = {"fontname": "Helvetica", "fontsize": "11"}
    graph = Digraph(
        graph_attr={
            **font,
            "label": f"<{entity(drawing.title)}>",
            "labelloc": "t",
            "ranksep": "0.3",
        },
        node_attr={**font, "shape": "box", "style": "filled,rounded", "color": "#777777"},
        edge_attr={**font, "fontsize": "9", "color": "#555555", "arrowsize": "0.6"},
    )
    for i, box in enumerate(drawing.boxes):
        attributes = {"fillcolor": COLORS[box.kind], "tooltip": " "}
        if box.title == "+":
            attributes |= {"shape": "circle", "width": "0.25", "fixedsize": "true"}
        graph.node(str(i), f"<{label_of(box)}>", **attributes)
    for n, group in enumerate(drawing.groups):
        frame(graph, group, f"{n}")
    for edge in drawing.edges:
        attributes = {"label": edge.text and f" {edge.text} "}
        if edge.shortcut:
            attributes |= {"color": SHORTCUT, "penwidth": "1.6", "fontcolor": SHORTCUT}
        graph.edge(str(edge.start), str(edge.end), **attributes)
    return graph


def frame(graph: Digraph, group: Group, name: str) -> None:
    """A frame, and those within it."""
    with graph.subgraph(name=f"cluster_{name}") as inner:
        inner.attr(
            label=f"<{entity(group.title)}>",
            labeljust="l",
            color="#bbbbbb",
            style="rounded",
            fontsize="10",
        )
        for box in group.boxes:
            inner.node(str(box))
        for n, other in enumerate(group.groups):
            frame(inner, other, f"{name}_{n}")


def readable(text: str) -> str:
    """Text as it is shown: of a line, and without what is not printable."""
    short = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}\N{HORIZONTAL ELLIPSIS}"
    return printable(short)


def entity(text: str) -> str:
    """Text for Graphviz's HTML, in which a backslash is none."""
    return html.escape(readable(text)).replace("\\", "&#92;") or " "


def label_of(box: Box) -> str:
    """A box's text, as Graphviz's kind of HTML."""
    rows = [f"<b>{entity(box.title)}</b>"] if box.runs and box.title else []
    if not box.runs:
        rows = [entity(box.title)]
    for steps, n in box.runs:
        lines = "<br/>".join(map(entity, steps))
        if not lines:
            continue
        if n == 1 and 1 in (len(box.runs), len(steps)):
            rows.append(lines)
            continue
        rows.append(
            '<table border="0" cellborder="0" cellspacing="0"><tr>'
            f'<td border="1" sides="lr">{lines}</td>'
            f"<td> \N{MULTIPLICATION SIGN} {n}</td></tr></table>"
        )
    if box.note:
        # a long line would make the box wide, and its brackets with it; none ends before "x 3"
        whole = box.note.replace(" \N{MULTIPLICATION SIGN} ", "\0\N{MULTIPLICATION SIGN}\0")
        wrapped = wrap(whole, NOTE, max_lines=NOTE_LINES)
        note = "<br/>".join(entity(line.replace("\0", " ")) for line in wrapped)
        rows.append(f'<font point-size="9" color="{SHORTCUT}">{note}</font>')
    cells = "".join(f"<tr><td>{row}</td></tr>" for row in rows)
    return f'<table border="0" cellborder="0" cellspacing="1">{cells}</table>'


# ---- in letters


def letters(title: str, found: Structure, detail: str) -> Iterator[str]:
    """The drawing in letters, for terminals.

    Args:
        title: what stands above it.
        found: the net with its parts.
        detail: one of ``DETAILS``.
    """
    yield printable(title)
    drawn = {"stages": stage_lines, "units": unit_lines, "layers": layer_lines}[detail]
    for line in drawn(found):
        yield printable(line.rstrip())


def stage_lines(found: Structure) -> Iterator[str]:
    """The paper's table."""
    rows: list[tuple[str, str, str]] = []
    for name, part in named(found.parts):
        runs = runs_of(found, part)
        body = [
            line
            for steps, n in runs
            for line in (steps if n == 1 and 1 in (len(runs), len(steps)) else bracketed(steps, n))
        ]
        body = body or [""]
        shapes = [""] * (len(body) - 1) + [shape_of(part.shape)]
        names = [name] + [""] * (len(body) - 1)
        rows += [("", "", ""), *zip(names, body, shapes, strict=True)]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    for one, two, three in rows:
        yield f"{one:<{widths[0]}}  {two:<{widths[1]}}  {three}"


def bracketed(steps: Steps, n: int) -> Iterator[str]:
    """Steps one above another, in brackets with how often they come."""
    width = max(map(len, steps), default=0)
    for i, step in enumerate(steps):
        yield f"[ {step:<{width}} ]{f' x {n}' if i == len(steps) // 2 else ''}"


def unit_lines(found: Structure) -> Iterator[str]:
    """Units one above another, each shortcut beside its main path."""
    for name, part in named(found.parts):
        yield ""
        yield name or "between"
        for n, unit in enumerate(part.units, 1):
            shape = flow(found, unit.layers[-1], 0)
            main = steps_of(found, (i for i in unit.layers if i not in (*unit.shortcut, unit.join)))
            if unit.kind == "layer":
                yield from (f"    {step}" for step in main[:-1])
                yield f"    {''.join(main[-1:]):<30}  {shape}"
                continue
            yield f"  unit {n}"
            if unit.kind == "concat":
                yield from (f"    | {step}" for step in main)
                yield f"    {'concat':<30}  {shape}"
                continue
            beside = steps_of(found, unit.shortcut)
            width = max(4, *map(len, main))
            yield f"    +-{'-' * width}-+"
            for left, right in zip_longest(main, beside, fillvalue=""):
                yield f"    {left or '|':<{width}}   | {right}"
            yield f"    {f'(+)<{chr(45) * (width - 2)}-+':<30}  {shape}"


def layer_lines(found: Structure) -> Iterator[str]:
    """A line for each layer: its name, what it is, its shapes, and what it reads."""
    nodes = found.graph.nodes
    names = [readable(node.layer.name) for node in nodes]
    labels = list(map(label, nodes))
    shapes = [", ".join(map(shape_of, tops)) for tops in found.shapes]
    single = [text for text, tops in zip(shapes, found.shapes, strict=True) if len(tops) < 2]
    wide = [max(map(columns_of, column), default=0) for column in (names, labels, single)]
    for name, part in named(found.parts):
        yield ""
        yield name or "between"
        for i in part.layers:
            reads = ", ".join(names[j] for j in nodes[i].before)
            cells = map(padded, (names[i], labels[i], shapes[i]), wide)
            yield f"  {'  '.join(cells)}  {'< ' if reads else ''}{reads}"


# ---- files


def write(path: str, title: str, found: Structure, detail: str) -> None:
    """Write a drawing; its suffix says which kind.

    Raises:
        ResNetProtoError: Graphviz is not installed or fails, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".txt":
        content = "\n".join([*letters(title, found, detail), ""]).encode()
    else:
        graph = graphviz(draw(title, found, detail))
        content = graph.source.encode() if suffix == ".dot" else picture(graph, suffix[1:])
    with atomic(path) as file:
        file.write(content)


def picture(graph: Digraph, kind: str) -> bytes:
    """What Graphviz makes of it.

    Raises:
        ResNetProtoError: it is not installed, or fails.
    """
    from graphviz import CalledProcessError, ExecutableNotFound

    try:
        if kind == "png":
            graph.attr(dpi=str(PNG_DPI))
        content: bytes = graph.pipe(format=kind)
        return content
    except ExecutableNotFound:
        raise ResNetProtoError(
            "Graphviz is not installed, only its Python package: apt-get install graphviz; .dot "
            "and .txt do without"
        ) from None
    except CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        raise ResNetProtoError(f"Graphviz refuses the drawing: {' '.join(said[:1])}") from None


def as_json(found: Structure) -> dict[str, Any]:
    """The parts of a net as plain data, layers by name."""

    def names(places: Iterable[int]) -> list[str]:
        return [found.graph.nodes[i].layer.name for i in places]

    def unit_of(unit: Unit) -> dict[str, Any]:
        facts: dict[str, Any] = {"kind": unit.kind, "layers": names(unit.layers)}
        if unit.kind == "residual":
            facts["shortcut"] = names(unit.shortcut)
        return facts

    return {
        "parts": [
            {"kind": part.kind, "shape": part.shape, "units": list(map(unit_of, part.units))}
            for part in found.parts
        ],
        "unknown": found.unknown or None,
    }
