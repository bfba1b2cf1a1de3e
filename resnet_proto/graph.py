"""Nets -> graphs: what computes what from what, whatever it is called.

    Net -> Graph; two graphs -> which layer is which, or the first difference in words

What a layer is called, whether it works in place, fillers and rates, and the order of layers that
do not wait for each other are no part of a graph. Types, parameters after Caffe's defaults,
connections, and which weights are shared are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet_proto.layers import BatchNorm, Convolution, Layer, Pooling
from resnet_proto.net import Net, check_blobs, labels
from resnet_proto.render import shortest
from resnet_proto.shared import Keys

NO_PART = frozenset(
    "engine filler weight_filler bias_filler scale_filler force_nd_im2col stable_prod_grad".split()
)
"""Fields of a layer's own message that do not change what a deploy net computes."""
SIDES = {"kernel_size": "kernel", "stride": "stride", "pad": "pad"}
"""Fields that may be given for rows and columns, and what these begin with."""

Value = tuple[int, int]
"""A layer by its place in a graph, and which of its tops."""


@dataclass(frozen=True)
class Node:
    """A layer, what it reads, and what it means."""

    layer: Layer
    sources: tuple[Value, ...]
    meaning: Mapping[str, Any]
    commutes: bool
    """Whether the order of its bottoms means nothing."""

    @property
    def before(self) -> tuple[int, ...]:
        """The layers that it reads."""
        return tuple(layer for layer, _ in self.sources)

    def kind(self) -> Hashable:
        """Type and parameters, to compare."""
        return self.layer.type, frozen(self.meaning)

    def reads(self, sources: Sequence[Value]) -> Hashable:
        """``sources`` as far as their order means something."""
        return tuple(sorted(sources)) if self.commutes else tuple(sources)

    def __str__(self) -> str:
        return f"layer '{self.layer.name}' ({self.layer.type})"


@dataclass(frozen=True)
class Graph:
    """The layers of a net in order, and who reads them."""

    nodes: tuple[Node, ...]
    readers: Mapping[int, list[tuple[int, int]]] = field(default_factory=dict)
    """For each layer: the layers that read it, and as which bottom (0 where the order is free)."""
    shared: tuple[frozenset[tuple[int, str]], ...] = ()
    """Weights that are one: layer and blob of each."""

    @classmethod
    def of(cls, net: Net) -> Graph:
        """The graph of the layers that the net's state admits.

        Raises:
            NetError: a bottom that no layer has made, or a top written twice.
        """
        made: dict[str, Value] = {}
        nodes: list[Node] = []
        readers: dict[int, list[tuple[int, int]]] = defaultdict(list)
        layers = net.upgraded().filtered().layers
        names = list(labels(layer.name for layer in layers))
        sharing = net.sharing()
        groups: dict[Keys, set[tuple[int, str]]] = defaultdict(set)
        for i, (layer, label) in enumerate(zip(layers, names, strict=True)):
            check_blobs(layer, made)
            values = meaning(layer)
            if label in sharing:
                values["shared"] = {blob: len(keys) for blob, keys in sharing[label].items()}
                for blob, keys in sharing[label].items():
                    groups[keys].add((i, blob))
            commutes = layer.type == "Eltwise" and not values["coeff"]
            node = Node(layer, tuple(made[b] for b in layer.bottoms), values, commutes)
            for position, (before, _) in enumerate(node.sources):
                readers[before].append((i, 0 if node.commutes else position))
            made |= {top: (i, j) for j, top in enumerate(layer.tops)}
            nodes.append(node)
        return cls(tuple(nodes), readers, tuple(map(frozenset, groups.values())))


def meaning(layer: Layer) -> dict[str, Any]:
    """A layer's parameters after defaults, each thing in one form."""
    values = {**layer.param, **layer.resolved()}
    for others in layer.resolved_others().values():
        values |= others
    kept = {key: value for key, value in values.items() if key not in NO_PART}
    if isinstance(layer, Convolution | Pooling):
        kept |= windows(layer, kept)
    if isinstance(layer, Convolution):
        kept["fixed"] = layer.fixed
    if isinstance(layer, BatchNorm):
        del kept["use_weight_bias"]  # as scale_bias, of another fork
        kept["scale_bias"] = layer.scales
        kept["scale_bias_term"] = kept.pop("bias_term") and layer.scales
        kept["use_global_stats"] = layer.is_global  # unset: TEST takes them
    if layer.type == "Eltwise" and set(kept["coeff"]) <= {1.0}:
        kept["coeff"] = ()
    if layer.type == "Scale" and len(layer.bottoms) == 2:
        del kept["num_axes"]  # Caffe ignores it: the second bottom has the axes
    return {key: with_one_nan(value) for key, value in kept.items()}


def with_one_nan(value: Any) -> Any:
    """A value that equals itself: of one object, nan does too."""
    if isinstance(value, float):
        return math.nan if math.isnan(value) else value
    if isinstance(value, tuple):
        return tuple(map(with_one_nan, value))
    if isinstance(value, Mapping):
        return {key: with_one_nan(item) for key, item in value.items()}
    return value


def windows(layer: Convolution | Pooling, values: dict[str, Any]) -> dict[str, Any]:
    """Kernel, stride and pad as rows and columns; how pooling rounds, where it has to."""
    for name, prefix in SIDES.items():
        given = values.pop(name)
        one = given if isinstance(given, tuple) else (given,)
        sides = [values.pop(f"{prefix}_{side}") for side in "hw"]
        values[name] = tuple(sides) if any(sides) else (one * 2)[:2] if len(one) < 3 else one
    if isinstance(layer, Pooling):
        del values["ceil_mode"]  # a field of forks
        values["round_mode"] = "FLOOR" if layer.floor else "CEIL"
        if layer.global_pooling:
            values["kernel_size"] = ()
        if layer.global_pooling or values["stride"] == (1, 1):
            del values["round_mode"]  # nothing is left to round
    return values


def frozen(value: Any) -> Hashable:
    """A value that can be a key."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, frozen(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    hashable: Hashable = value
    return hashable


# ---- comparison


class Difference(NamedTuple):
    """Where two nets part: a layer of the first, what it does, and what stands there instead."""

    layer: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.layer} {self.found}; the other net has {self.expected}"


def difference(one: Net, other: Net) -> Difference | None:
    """The first difference in what two nets compute, in the order of the first, names aside.

    None where they compute the same from the same.

    Raises:
        NetError: one of them is no graph.
    """
    return match(Graph.of(one), Graph.of(other))[1]


def match(one: Graph, other: Graph) -> tuple[dict[int, int], Difference | None]:
    """Which layer of the other graph each layer is, up to the first that is none of them.

    A layer is matched by what it is and what it reads; where several are, by what reads them.
    """
    below_one, below_other = below(one, other)
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for i, node in enumerate(other.nodes):
        waiting[node.kind(), node.reads(node.sources)].append(i)
    pairs: dict[int, int] = {}
    for i, node in enumerate(one.nodes):
        sources = tuple((pairs[layer], top) for layer, top in node.sources)
        found = waiting[node.kind(), node.reads(sources)]
        if not found:
            return pairs, parting(node, sources, other, set(pairs.values()))
        best = next((j for j in found if below_other[j] == below_one[i]), found[0])
        found.remove(best)
        pairs[i] = best
    left = set(range(len(other.nodes))) - set(pairs.values())
    if not left:
        return pairs, sharing_apart(one, other, pairs)
    last = str(one.nodes[-1]) if one.nodes else "the net"
    return pairs, Difference(last, "is the last", f"{other.nodes[min(left)]} too")


def sharing_apart(one: Graph, other: Graph, pairs: Mapping[int, int]) -> Difference | None:
    """The first layer whose weights are one with those of other layers than in the other graph."""
    theirs = set(other.shared)
    for group in one.shared:
        if frozenset((pairs[i], blob) for i, blob in group) not in theirs:
            (i, blob), *others = sorted(group)
            names = quoted(list(dict.fromkeys(one.nodes[j].layer.name for j, _ in others)))
            return Difference(
                str(one.nodes[i]), f"shares its {blob} with {names}", "other layers that do"
            )
    return None


def below(*graphs: Graph) -> list[dict[int, int]]:
    """For each layer of each graph a number that says what is computed from it, and how."""
    known: dict[Hashable, int] = {}
    result = []
    for graph in graphs:
        numbers: dict[int, int] = {}
        for i in reversed(range(len(graph.nodes))):
            read = sorted((numbers[j], position) for j, position in graph.readers.get(i, ()))
            numbers[i] = known.setdefault((graph.nodes[i].kind(), tuple(read)), len(known))
        result.append(numbers)
    return result


def parting(node: Node, sources: Sequence[Value], other: Graph, taken: set[int]) -> Difference:
    """What the other graph has where this layer should be."""
    free = [n for j, n in enumerate(other.nodes) if j not in taken]
    near = [n for n in free if set(n.sources) & set(sources) or not (n.sources or sources)]
    alike = [n for n in near if n.layer.type == node.layer.type]
    same = [n for n in alike if n.reads(n.sources) == node.reads(sources)]
    if same:
        nearest = min(same, key=lambda n: len(list(unlike(node, n))))
        key, ours, theirs = next(unlike(node, nearest))
        return Difference(str(node), f"has {key} {shown(ours)}", shown(theirs))
    found = f"reads {quoted(node.layer.bottoms)}" if sources else "reads nothing"
    if alike:
        return Difference(str(node), found, f"{quoted(alike[0].layer.bottoms)} there")
    types = " and ".join(sorted({n.layer.type for n in near})) or "no layer"
    return Difference(str(node), found, f"{types} there")


def quoted(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return " and ".join(f"'{name}'" for name in names)


def unlike(one: Node, other: Node) -> Iterator[tuple[str, Any, Any]]:
    """Each parameter that two layers differ in, with both values."""
    for key in sorted({*one.meaning, *other.meaning}):
        ours, theirs = one.meaning.get(key), other.meaning.get(key)
        if ours != theirs:
            yield key, ours, theirs


def shown(value: Any) -> str:
    """A parameter as people write it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and len(set(map(frozen, value))) == 1:
        return shown(value[0])
    if isinstance(value, tuple):
        mark = ", " if any(isinstance(item, float) for item in value) else "x"
        return mark.join(map(shown, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {shown(item)}" for key, item in value.items())
    return shortest(value) if isinstance(value, float) else str(value) or "none"
