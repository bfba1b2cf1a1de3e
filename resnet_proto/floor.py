"""Pooling that rounds down, in the words of each Caffe.

    Net + weights -> the same net for a Caffe with round_mode, with ceil_mode, or with neither

Mainline has ``round_mode: FLOOR`` since March 2018, later than the tag 1.0; forks have
``ceil_mode: false`` (github BVLC/caffe #3057). Layers that every Caffe has do the same: pooling in
steps that leave nothing to round, and a Convolution with fixed weights of 1 that keeps the rows and
columns that are wanted. A convolution rounds down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING, Any

from resnet_proto.layers import Layer, Pooling, Shape
from resnet_proto.layers.convolution import Convolution
from resnet_proto.layers.pooling import Pair, pool_size
from resnet_proto.words import Word, free

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

FIELDS: dict[str, Mapping[str, Any]] = {
    "round_mode": {"round_mode": Word("FLOOR")},
    "ceil_mode": {"ceil_mode": False},
}
DIALECTS = (*FIELDS, "old-layers")
"""How floor pooling is spelled: the fields above, or layers of Caffe 1.0 as tagged."""


def spelled(
    net: Net, weights: Mapping[str, Array] | None, dialect: str
) -> tuple[Net, Mapping[str, Array] | None]:
    """The net with its floor pooling in a dialect; every blob keeps its name and values.

    In old layers a pooling that rounds down becomes a ceil pooling with the largest stride that
    divides both its own and the way of its windows, so that nothing is left to round, and
    ``<name>_floor``, a Convolution that takes every so many of its values, as they are: nan and inf
    stay where they were. Where the map's size needs no rounding, on either axis, and where the
    stride is 1, nothing changes but the field. A net in old layers is for its input size, the
    others are for any.

    Args:
        net: any net, in its state; in old layers only the layers of that state are left.
        weights: arrays by ``<layer>.<blob>``; ``None`` stays so. Convolutions that are put in
            have a filler, and among the weights a blob too.
        dialect: one of ``DIALECTS``.

    Raises:
        NetError: shapes that are not known or do not fit, where old layers need them.
    """
    if not any(isinstance(layer, Pooling) and unclear(layer) for layer in net.layers):
        return net, weights
    if dialect in FIELDS:
        layers = [in_fields(layer, FIELDS[dialect]) for layer in net.layers]
        return replace(net, layers=tuple(layers)), weights
    net = net.filtered()
    known = {layer.name for layer in net.layers}
    taken = dict.fromkeys([*known, *(name for layer in net.layers for name in layer.tops)], 1)
    made = {id(step.layer): in_layers(step, taken) for step in net.walk()}
    layers = [new for layer in net.layers for new in made.get(id(layer), [layer])]
    fixed = {layer.name for layer in layers} - known
    net = replace(net, layers=tuple(layers))
    if weights is None or not fixed:
        return net, weights
    blobs = {
        f"{step.label}.{name}": step.layer.fixed_blob(shape)
        for step in net.walk()
        for name, shape in step.blobs.items()
        if step.layer.name in fixed
    }
    from resnet_proto.fold import Kept

    return net, Kept(blobs, weights, set())


def unclear(layer: Pooling) -> bool:
    """Whether it says how it rounds, which some Caffe does not understand."""
    return bool(layer.param.keys() & {"round_mode", "ceil_mode"})


def in_fields(layer: Layer, floor: Mapping[str, Any]) -> Layer:
    """The layer with ``floor`` where it rounds down; rounding up needs no word."""
    if not isinstance(layer, Pooling) or not unclear(layer):
        return layer
    return rounded(layer, floor if layer.floor else {})


def with_param(layer: Layer, new: Mapping[str, Any], gone: Iterable[str] = ()) -> Layer:
    """The layer with fields of its own message set, and without some that it had."""
    if not new and not gone:
        return layer
    kept = {key: value for key, value in layer.param.items() if key not in gone}
    return replace(layer, fields={**layer.fields, layer.message: {**kept, **new}})


def rounded(layer: Pooling, new: Mapping[str, Any]) -> Layer:
    """The layer with these fields, and without others that say how it rounds."""
    strides = ("stride", "stride_h", "stride_w")
    gone = strides if "stride_h" in new or "stride" in new else ()
    return with_param(layer, new, ("round_mode", "ceil_mode", *gone))


def in_layers(step: Step, taken: dict[str, int]) -> list[Layer]:
    """The layers that do what this one does, without a word about rounding."""
    layer = step.layer
    if not isinstance(layer, Pooling) or not unclear(layer):
        return [layer]
    if not layer.floor:
        return [rounded(layer, {})]
    (bottom,) = step.bottoms
    _, stride, _ = layer.windows(bottom)
    finer_h, finer_w = finer = steps(layer, bottom)
    if finer == stride:
        return [rounded(layer, {})]
    sides = (
        {"stride": finer_h} if finer_h == finer_w else {"stride_h": finer_h, "stride_w": finer_w}
    )
    tops = tuple(free(f"{top}_dense", taken) for top in layer.tops)
    rest = (stride[0] // finer_h, stride[1] // finer_w)
    rules = {k: layer.fields[k] for k in ("include", "exclude", "phase") if k in layer.fields}
    chosen = []
    for dense, top in zip(tops, layer.tops, strict=True):
        name = free(f"{layer.name}_floor", taken)
        made = Convolution.subsample(name, dense, top, bottom[1], rest)
        chosen.append(replace(made, fields={**made.fields, **rules}))
    return [replace(rounded(layer, sides), tops=tops), *chosen]


def steps(layer: Pooling, bottom: Shape) -> Pair:
    """The largest strides, rows and columns, with which ceil pooling has all windows of this one.

    They are its own where rounding up gives as many windows.
    """
    kernel, stride, pad = layer.windows(bottom)

    def along(size: int, k: int, s: int, p: int) -> int:
        up, down = (pool_size(size, k, s, p, floor=x, clip=pad != (0, 0)) for x in (False, True))
        return s if up == down else gcd(s, size + 2 * p - k)

    rows, columns = map(along, bottom[2:], kernel, stride, pad)
    return rows, columns
