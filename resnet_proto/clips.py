"""Limits of values as one layer: ReLU6 or Clip in the place of a chain of older layers.

    ReLU, Power, Power, Eltwise, Power -> ReLU6

Mainline Caffe has no ReLU6, and Clip only since later than the tag 1.0; so ``formats/onnx_ops.py``
draws limits in layers that every Caffe has. The last top keeps its name and values, and the blobs
within the chain are gone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from resnet_proto.graph import Graph
from resnet_proto.layers import Clip, Eltwise, Layer, Power, ReLU, ReLU6
from resnet_proto.layers.base import normal
from resnet_proto.words import free

if TYPE_CHECKING:
    from resnet_proto.net import Net

SIX = 6.0
"""The upper limit of ReLU6."""


class Limits(NamedTuple):
    """``min(max(x, low), high)`` in a graph.

    Args:
        first: the place of the first layer that reads x.
        last: of the one that makes the result.
        within: of all of them but the last.
    """

    first: int
    last: int
    low: float
    high: float
    within: frozenset[int]


def clipped(net: Net, types: Collection[str]) -> Net:
    """The net with ReLU6 or Clip where a chain of layers does the same.

    Without Clip, limits of 0 and 1, a hard sigmoid's, become a ReLU6 between two Powers; a Power
    before them takes the first one in.

    Args:
        net: any net, in a state of phase TEST.
        types: the layer types that may be written.

    Returns:
        The net with the layers of its state; the same net where there is nothing to do.

    Raises:
        NetError: a bottom that no layer makes.
    """
    if not {"ReLU6", "Clip"} & {*types} or not any(x.type == "Eltwise" for x in net.layers):
        return net
    same, net = net, net.upgraded().filtered()
    graph = Graph.of(net)
    layers = [[layer] for layer in net.layers]
    taken = dict.fromkeys((name for x in net.layers for name in (x.name, *x.tops)), 1)
    given = {top for x in net.layers if x.from_outside for top in x.tops}
    changed = False
    for last in range(len(layers)):
        at = limits_at(graph, last)
        if at is None:
            continue
        reader, maker = net.layers[at.first], net.layers[at.last]
        name, old, (top,) = maker.name, reader.bottoms[0], maker.tops
        # where the chain began in place, its bottom's name had other values: it gets another
        moves = reader.in_place and old not in given
        if "ReLU6" in types and (at.low, at.high) == (0, SIX):
            bottom = top if moves else old
            made: list[Layer] = [ReLU6.of(name, bottom, top)]
        elif "Clip" in types:
            bottom = top if moves else old
            made = [Clip.of(name, bottom, top, min=at.low, max=at.high)]
        elif (at.low, at.high) == (0, 1):
            six = free(f"{name}_six", taken)
            bottom = free(f"{old}_before", taken) if moves else old
            made = [
                ReLU6.of(free(f"{name}_relu6", taken), six, six),
                Power.of(name, six, top, scale=1 / SIX),
            ]
            before = graph.nodes[at.first].sources[0][0]
            power = net.layers[before]
            if is_linear(power) and not power.in_place and len(graph.readers[before]) == 1:
                values = {"scale": power.scale * SIX, "shift": power.shift * SIX}
                layers[before] = [linear(power.name, power.bottoms[0], six, **values)]
            else:
                made.insert(0, linear(six, bottom, six, scale=SIX))
        else:
            continue
        changed = True
        for i in (*at.within, at.last):
            layers[i] = []
        layers[at.first] = made
        if bottom != old:
            for i in range(at.first):
                layers[i] = [renamed(layer, old, bottom) for layer in layers[i]]
    if not changed:
        return same
    return replace(net, layers=tuple(layer for some in layers for layer in some))


def limits_at(graph: Graph, last: int) -> Limits | None:
    """The chain that ends with a layer: the larger one of both, negated around, is the smaller."""
    negated = negates(graph, last)
    if negated is None or (upper := at_least(graph, negated)) is None:
        return None
    inner, high, parts = upper
    x = negates(graph, inner)
    if x is None or (lower := at_least(graph, x)) is None:
        return None
    _, low, more = lower
    within = frozenset({negated, inner, x, *parts, *more})
    read = {reader for one in within for reader, _ in graph.readers[one]}
    if not low < -high or read - {*within, last}:
        return None
    return Limits(min((x, *more)), last, low, -high, within)


def at_least(graph: Graph, place: int) -> tuple[int, float, tuple[int, ...]] | None:
    """What a layer makes at least as large as a number: its bottom, the number, a layer for it."""
    node = graph.nodes[place]
    layer = node.layer
    if isinstance(layer, ReLU) and not layer.negative_slope:
        return node.before[0], 0.0, ()
    if not isinstance(layer, Eltwise) or layer.operation != "MAX" or len(node.sources) != 2:
        return None
    for blob, (number, _) in (node.sources, node.sources[::-1]):
        power, read = graph.nodes[number].layer, graph.nodes[number].sources
        if is_linear(power) and power.scale == 0 and read == (blob,):
            return blob[0], power.shift, (number,)
    return None


def negates(graph: Graph, place: int) -> int | None:
    """The layer whose top a layer negates."""
    node = graph.nodes[place]
    layer = node.layer
    if is_linear(layer) and (layer.scale, layer.shift) == (-1, 0):
        return node.before[0]
    return None


def is_linear(layer: Layer) -> TypeGuard[Power]:
    """Whether it is a factor and an offset."""
    return isinstance(layer, Power) and layer.power == 1


def linear(name: str, bottom: str, top: str, scale: float, shift: float = 0.0) -> Power:
    """A Power of a factor and an offset, without what is the default."""
    fields = {"scale": normal(scale), "shift": normal(shift)}
    return Power.of(name, bottom, top, **{k: v for k, v in fields.items() if v != (k == "scale")})


def renamed(layer: Layer, old: str, new: str) -> Layer:
    """The layer with another name for a blob."""
    bottoms, tops = (
        tuple(new if name == old else name for name in names)
        for names in (layer.bottoms, layer.tops)
    )
    return replace(layer, bottoms=bottoms, tops=tops)
