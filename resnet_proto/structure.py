"""A net -> its parts, as people talk of it: stem, stages of units, head.

    Net -> Graph -> joins and what they join -> units -> stages

Everything is found in the graph, nothing in names, so anybody's net has parts; unlike
``recognize`` it asks for no spec, and every layer is in one place. A *unit* is what lies between
a join (a sum, a concatenation) and the layer that all of its branches pass; a net without joins
has a unit for each layer with weights. A *stage* is units in a row whose tops have one shape, or
one size where nothing is added. What comes before the first stage is the stem; a net without joins
has layers with weights in it where it goes on as residual nets do, by strides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from resnet_proto.errors import NetError
from resnet_proto.graph import Graph
from resnet_proto.layers import Layer, PReLU, Shape
from resnet_proto.layers.neuron import Neuron
from resnet_proto.net import Net

WEIGHTED = frozenset({"Convolution", "InnerProduct", "Deconvolution", "DepthwiseConvolution"})
NORMS = frozenset({"BatchNorm", "Scale", "Bias", "BN"})
APART = frozenset({"Deconvolution", "Crop", "Upsample", "Interp"})
"""Layers of which no unit is made: where they are, images of two sizes are joined."""


def is_activation(layer: Layer) -> bool:
    """Whether a layer computes value by value; a Power, which scales and shifts, is not meant."""
    return isinstance(layer, Neuron | PReLU) and layer.type != "Power"


def only_follows(layer: Layer) -> bool:
    """Whether a layer belongs to the one before it: an activation, or a normalisation."""
    return layer.type in NORMS or is_activation(layer)


@dataclass(frozen=True)
class Unit:
    """Some layers of a graph, by their places.

    Args:
        kind: residual, concat, or layer where nothing is joined.
        layers: all of it, in order.
        shortcut: those of a residual unit that lie on its shortcut alone; none of an identity.
        join: the layer that joins the branches; -1 if none does.
    """

    kind: str
    layers: tuple[int, ...]
    shortcut: tuple[int, ...] = ()
    join: int = -1


@dataclass(frozen=True)
class Part:
    """Units one after another.

    Args:
        kind: stem, stage, between (what lies between stages, or beside them), head.
        units: of a stage; of other parts one, with all layers.
        shape: of the last top, if it is known.
    """

    kind: str
    units: tuple[Unit, ...]
    shape: Shape | None

    @property
    def layers(self) -> tuple[int, ...]:
        """All of it, in order."""
        return tuple(sorted(i for unit in self.units for i in unit.layers))


@dataclass(frozen=True)
class Structure:
    """A graph with its parts in order; every layer is in one unit of one part.

    Args:
        shapes: for each layer the shapes of its tops, as far as they are known.
        unknown: why they end, if they do.
    """

    graph: Graph
    parts: tuple[Part, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    unknown: str = ""


def structure(net: Net) -> Structure:
    """The parts of a net, in the state that it has.

    Raises:
        NetError: a bottom that no layer has made, or a top written twice.
    """
    with net.named():
        graph = Graph.of(net)
    shapes: list[tuple[Shape, ...]] = []
    unknown = ""
    try:
        for step in net.walk():
            shapes.append(step.tops)
    except NetError as error:
        unknown = str(error)
    shapes += [()] * (len(graph.nodes) - len(shapes))
    found = Finder(graph, shapes)
    return Structure(graph, tuple(found.parts()), tuple(shapes), unknown)


class Finder:
    """A graph while its parts are looked for."""

    def __init__(self, graph: Graph, shapes: Sequence[tuple[Shape, ...]]) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.shapes = shapes
        self.passed = dominators(graph)

    def parts(self) -> Iterator[Part]:
        """All parts, in the order of their first layers."""
        units = self.units()
        stages = self.stages(units or self.single_units())
        if not units:
            stages = self.behind_stem(stages)
        place = {i for stage in stages for i in stage.layers}
        first, last = min(place, default=len(self.nodes)), max(place, default=-1)
        starts = [stage.layers[0] for stage in stages]

        def gap(i: int) -> tuple[str, int]:
            kind = "stem" if i < first else "head" if i > last else "between"
            return kind, sum(start < i for start in starts)

        rest = (i for i in range(len(self.nodes)) if i not in place)
        parts = [*stages, *(self.rest(kind, part) for (kind, _), part in groupby(rest, key=gap))]
        yield from sorted(parts, key=lambda part: part.layers[0])

    def stages(self, units: Iterable[Unit]) -> list[Part]:
        """Units in a row, as stages."""
        stages: list[Part] = []
        for unit in units:
            if stages and self.goes_on(stages[-1], unit):
                before = stages.pop()
                stages.append(Part("stage", (*before.units, unit), self.shape(unit)))
            else:
                stages.append(Part("stage", (unit,), self.shape(unit)))
        return stages

    def rest(self, kind: str, layers: Iterable[int]) -> Part:
        """Layers of no unit, as a part."""
        unit = Unit("layer", tuple(layers))
        return Part(kind, (unit,), self.shape(unit))

    def goes_on(self, stage: Part, unit: Unit) -> bool:
        """Whether a unit is of the same stage as those before it."""
        last = stage.units[-1]
        if last.kind != unit.kind or not self.reads(unit, last):
            return False
        ours, theirs = self.shape(unit), stage.shape
        if ours is None or theirs is None:
            return ours is theirs
        return ours == theirs if unit.kind == "residual" else ours[2:] == theirs[2:]

    def reads(self, unit: Unit, before: Unit) -> bool:
        """Whether all that goes into a unit comes from another one."""
        own = set(unit.layers)
        sources = {i for j in unit.layers for i in self.nodes[j].before} - own
        return bool(sources) and sources <= set(before.layers)

    def shape(self, unit: Unit) -> Shape | None:
        """Of the last top of a unit."""
        tops = self.shapes[unit.layers[-1]]
        return tops[0] if tops else None

    # ---- units of joins

    def units(self) -> list[Unit]:
        """The smallest sums that everything in them passes, then concatenations beside them."""
        found: list[Unit] = []
        taken: set[int] = set()
        for is_join, kind in ((self.is_sum, "residual"), (self.is_concat, "concat")):
            regions = {j: self.region(j) for j in range(len(self.nodes)) if is_join(j)}
            smallest = [
                unit
                for j, members in regions.items()
                if (unit := self.unit(kind, j, members, regions.keys(), taken))
            ]
            taken.update(i for unit in smallest for i in unit.layers)
            found += smallest
        found.sort(key=lambda unit: unit.layers[0])
        return [self.widened(unit, taken) for unit in found]

    def unit(
        self, kind: str, join: int, members: set[int], joins: Iterable[int], taken: set[int]
    ) -> Unit | None:
        """The region of a join as a unit, if it is one."""
        inner = members - {join}
        if not members or inner & {*joins} or members & taken:
            return None
        types = {self.nodes[i].layer.type for i in members}
        if types & APART or not types & WEIGHTED:
            return None
        return Unit(kind, tuple(sorted(members)), self.shortcut(kind, join, members), join)

    def is_sum(self, i: int) -> bool:
        """Whether a layer adds blobs."""
        node = self.nodes[i]
        if node.layer.type == "Axpy":
            return True
        is_sum = node.layer.type == "Eltwise" and node.meaning["operation"] == "SUM"
        return is_sum and len(node.before) > 1

    def is_concat(self, i: int) -> bool:
        """Whether a layer puts maps of one size behind each other."""
        node, tops = self.nodes[i], self.shapes[i]
        return node.layer.type == "Concat" and len(node.before) > 1 and [*map(len, tops)] == [4]

    def region(self, join: int) -> set[int]:
        """The layers between a join and the layer that all of its branches pass, with the join.

        Empty where the branches begin at several inputs, and where those of a sum begin at
        several tops of one layer, unless these are the copies that a Split makes.
        """
        entry = self.passed[join]
        if entry < 0:
            return set()
        members: set[int] = set()
        waiting = [join]
        while waiting:
            i = waiting.pop()
            if i != entry and i not in members:
                members.add(i)
                waiting.extend(self.nodes[i].before)
        begins = {source for i in members for source in self.nodes[i].sources if source[0] == entry}
        copies = self.nodes[entry].layer.type == "Split"
        return members if len(begins) == 1 or copies or not self.is_sum(join) else set()

    def shortcut(self, kind: str, join: int, members: set[int]) -> tuple[int, ...]:
        """The layers on the branch with the fewest weights."""
        if kind != "residual":
            return ()
        sources = self.nodes[join].before
        branches = [self.behind(source, members) for source in sources]
        short = min(branches, key=lambda b: (self.n_weighted(b), len(b)))
        others = set().union(*(b for b in branches if b is not short))
        return tuple(sorted(short - others))

    def behind(self, last: int, members: set[int]) -> set[int]:
        """The layers of a unit that lead to one of them, with it."""
        found: set[int] = set()
        waiting = [last]
        while waiting:
            i = waiting.pop()
            if i in members and i not in found:
                found.add(i)
                waiting.extend(self.nodes[i].before)
        return found

    def n_weighted(self, layers: Iterable[int]) -> int:
        """How many have weights that are learned."""
        return sum(self.nodes[i].layer.type in WEIGHTED for i in layers)

    def widened(self, unit: Unit, taken: set[int]) -> Unit:
        """A unit with the activation after it, and with what belongs to it before it parts.

        That is the normalisation of a unit with pre-activation, and the squeeze of a Fire module.
        """
        after = []
        i = unit.layers[-1]
        while (j := self.only_reader(i)) is not None and j not in taken:
            if not is_activation(self.nodes[j].layer):
                break
            after.append(j)
            i = j
        before = self.leading(unit, taken)
        taken.update(after, before)
        layers = tuple(sorted((*before, *unit.layers, *after)))
        return Unit(unit.kind, layers, unit.shortcut, unit.join)

    def leading(self, unit: Unit, taken: set[int]) -> list[int]:
        """The layers in a row before a unit that are its own."""
        chain = []
        i = self.passed[unit.join]
        while i >= 0 and i not in taken and len(self.nodes[i].before) == 1:
            layer = self.nodes[i].layer
            if layer.type not in WEIGHTED and not only_follows(layer):
                break
            chain.append(i)
            i = self.nodes[i].before[0]
            if self.only_reader(i) is None:
                break
        types = {self.nodes[j].layer.type for j in chain}
        behind_unit = i in taken
        behind_pool = i >= 0 and self.nodes[i].layer.type == "Pooling"
        if unit.kind == "concat":
            return chain if behind_unit or behind_pool else []
        return chain if behind_unit and types & NORMS and not types & WEIGHTED else []

    def only_reader(self, i: int) -> int | None:
        """The one layer that reads a layer's tops."""
        readers = {j for j, _ in self.graph.readers.get(i, ())}
        return readers.pop() if len(readers) == 1 else None

    # ---- units of nets without joins

    def single_units(self) -> Iterator[Unit]:
        """Each layer with weights, with what follows it, up to the classifier.

        That is an InnerProduct, or whatever reads a map that is pooled to one column on the only
        way to the end; a gate does so beside it.
        """
        on_the_way = set()
        i = len(self.nodes) - 1
        while i >= 0:
            on_the_way.add(i)
            i = self.passed[i]
        for i, node in enumerate(self.nodes):
            sides = [top[2:] for top in self.shapes[i][:1]]
            pooled = node.layer.type == "Pooling" and sides == [(1, 1)] and i in on_the_way
            if pooled or node.layer.type in ("InnerProduct", "Flatten"):
                return
            if node.layer.type not in WEIGHTED:
                continue
            layers, j = [i], self.only_reader(i)
            while j is not None and only_follows(self.nodes[j].layer):
                layers.append(j)
                j = self.only_reader(j)
            yield Unit("layer", tuple(layers))

    def behind_stem(self, stages: list[Part]) -> list[Part]:
        """The stages of a net without joins, without what is its stem.

        Where strides lead from stage to stage, as in the plain nets that residual nets are compared
        with, the stem is theirs: what comes before the only pooling, or else the first layer. Where
        poolings do, as in VGG, the first layers are a stage like any other. Source: paper, figure 3
        and section 4.2.
        """
        strides = [self.reads(b.units[0], a.units[-1]) for a, b in pairwise(stages)]
        if not any(strides) or not all(strides[1:]):
            return stages
        first, *others = stages
        between = self.nodes[first.layers[-1] + 1 : others[0].layers[0]]
        if strides[0]:
            rest = first.units[1:]
            return [replace(first, units=rest), *others] if rest else others
        return others if any(node.layer.type == "Pooling" for node in between) else stages


def dominators(graph: Graph) -> list[int]:
    """For each layer the last one that all paths to it pass; -1 where none is.

    Source: Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm (2001); a graph without
    circles needs one pass.
    """
    found: list[int] = []
    depth: list[int] = []
    for node in graph.nodes:
        before = list(dict.fromkeys(node.before))
        one = before[0] if before else -1
        for other in before[1:]:
            while one != other:
                if one < 0 or other < 0:
                    one = other = -1
                elif depth[one] >= depth[other]:
                    one = found[one]
                else:
                    other = found[other]
        found.append(one)
        depth.append(depth[one] + 1 if one >= 0 else 0)
    return found
