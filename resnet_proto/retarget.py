"""Net + weights + target -> the same net as the target takes it.

Each step changes how a net is written, or does the same in other layers; blobs keep their names and
values. What a profile refuses and no step mends stays, and ``check.target`` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resnet_proto.check.finding import Finding, placed
from resnet_proto.check.nets import is_batch_norm, view
from resnet_proto.check.target import (
    DEPTHWISE,
    PAIRS,
    ROUNDING,
    Aim,
    Target,
    check_target,
    header,
    is_input,
)
from resnet_proto.clips import clipped
from resnet_proto.floor import FIELDS, spelled, with_param
from resnet_proto.fold import Kept, folded
from resnet_proto.layers import Layer, Pooling, make_layer
from resnet_proto.layers.base_convolution import BaseConvolution
from resnet_proto.net import labels, with_labels

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net


class Aimed(NamedTuple):
    """A net and its weights on the way to a target."""

    net: Net
    weights: Mapping[str, Array]


Step = Callable[[Aimed, Target], Aimed]


def retargeted(
    net: Net, weights: Mapping[str, Array], target: Target
) -> tuple[Net, Mapping[str, Array], list[str]]:
    """The net that a target takes, as far as ``STEPS`` go, and what was done.

    Args:
        net: any net, in a state of phase TEST.
        weights: arrays by ``<layer>.<blob>``.
        target: what it is for.

    Raises:
        NetError: shapes that are not known or do not fit.
        WeightsError: weights of a layer that is folded are missing, or do not fit.
    """
    at = Aimed(net.upgraded().settled(), weights)
    done = []
    for what, step in STEPS.items():
        new = step(at, target)
        if new.net != at.net:
            done.append(what)
        at = new
    return at.net, at.weights, done


def left_over(net: Net, weights: Mapping[str, Array], target: Target) -> list[Finding]:
    """What the target does not take."""
    aim = Aim(target, net, view(net, "TEST"), weights)
    return placed(net.source or net.name, check_target(aim))


def without_dropout(at: Aimed, target: Target) -> Aimed:
    """A Dropout is its bottom at TEST; one that ends the net in a blob of its own stays."""
    if "Dropout" in target.types:
        return at
    now: dict[str, str] = {}
    kept = []
    own = labels(layer.name for layer in at.net.layers)
    for i, (layer, label) in enumerate(zip(at.net.layers, own, strict=True)):
        bottoms = tuple(now.get(name, name) for name in layer.bottoms)
        is_read = any(layer.tops[0] in x.bottoms for x in at.net.layers[i + 1 :] if layer.tops)
        for name in layer.tops:
            now.pop(name, None)
        if layer.type == "Dropout" and (layer.in_place or is_read):
            if layer.tops[0] != bottoms[0]:
                now[layer.tops[0]] = bottoms[0]
        else:
            kept.append((replace(layer, bottoms=bottoms), label))
    return with_layers(at, with_labels(kept))


def grouped(at: Aimed, target: Target) -> Aimed:
    """A convolution of each channel, of forks, as a Convolution with as many groups."""

    def made(layer: Layer) -> Layer:
        if layer.type not in DEPTHWISE or layer.type in target.types:
            return layer
        fields = with_param(layer, {"group": getattr(layer, "group", 1)}).fields
        return make_layer(
            layer.name, "Convolution", layer.bottoms, layer.tops, fields, lenient=True
        )

    if "Convolution" not in target.types:
        return at
    return with_layers(at, map(made, at.net.layers))


def with_limits(at: Aimed, target: Target) -> Aimed:
    """ReLU6 or Clip in the place of a chain."""
    return at._replace(net=clipped(at.net, target.types))


def of_batch(at: Aimed, target: Target) -> Aimed:
    """Inputs with the only batch size that is taken."""
    inputs = at.net.inputs()
    if not target.batch or all(shape[:1] in ((), (target.batch,)) for shape in inputs.values()):
        return at
    shapes = {name: (target.batch, *shape[1:]) for name, shape in inputs.items()}
    return at._replace(net=at.net.with_input_shapes(shapes))


def folds(at: Aimed, target: Target) -> Aimed:
    """BatchNorm as part of the layer before it."""
    if not target.batch_norm or not any(map(is_batch_norm, at.net.layers)):
        return at
    return Aimed(*folded(at.net, at.weights))


def floored(at: Aimed, target: Target) -> Aimed:
    """Floor pooling in words that are known, or in old layers."""
    said = {
        word
        for layer in at.net.layers
        if isinstance(layer, Pooling)
        for word in layer.param.keys() & ROUNDING
    }
    if not said - {*target.floor}:
        return at
    dialect = next((name for name in FIELDS if name in target.floor), "old-layers")
    net, weights = spelled(at.net, at.weights, dialect)
    assert weights is not None
    return Aimed(net, weights)


def biased(at: Aimed, target: Target) -> Aimed:
    """A bias of 0 where every Convolution needs one."""
    types = {
        kind
        for one in target.limits
        if one.quantity == "bias_term" and one.among == (True,)
        for kind in one.types
    }
    zeros: dict[str, Array] = {}
    layers = list(at.net.layers)
    for i, step in enumerate(at.net.walk()) if types else ():
        layer = step.layer
        if layer.type in types and not getattr(layer, "bias_term", True):
            layers[i] = with_param(layer, {"bias_term": True})
            zeros[f"{step.label}.bias"] = np.zeros(layer.param["num_output"], np.float32)
    return Aimed(replace(at.net, layers=tuple(layers)), Kept(zeros, at.weights, set()))


def plain_sums(at: Aimed, target: Target) -> Aimed:
    """Without coefficients of 1, where a target has something against coefficients."""

    def made(layer: Layer) -> Layer:
        coefficients = layer.param.get("coeff", ())
        if layer.type not in limited or not coefficients or set(coefficients) != {1.0}:
            return layer
        param = {key: value for key, value in layer.param.items() if key != "coeff"}
        return replace(layer, fields={**layer.fields, layer.message: param})

    limited = {kind for one in target.limits if one.quantity == "coeff" for kind in one.types}
    return with_layers(at, map(made, at.net.layers))


def spells(at: Aimed, target: Target) -> Aimed:
    """Fields with their defaults, where the target has another."""

    def made(layer: Layer) -> Layer:
        names = [x for x in target.spelled.get(layer.type, ()) if x not in layer.param]
        return with_param(layer, {name: getattr(layer, name) for name in names})

    return with_layers(at, map(made, at.net.layers))


def paired(at: Aimed, target: Target) -> Aimed:
    """Values for rows and columns in the fields that are read; equal ones as one value."""

    def made(layer: Layer) -> Layer:
        if target.pairs is None or not isinstance(layer, BaseConvolution):
            return layer
        param = dict(layer.param)
        for one, prefix in PAIRS.items():
            sides = [f"{prefix}_h", f"{prefix}_w"]
            values = param.get(one, ())
            if param.keys() & {*sides}:
                values = tuple(param.pop(side, 0) for side in sides)
            if len(values) == 2 and len({*values}) == 1:
                values = values[:1]
            if len(values) == 2 and target.pairs:
                param.pop(one, None)
                param |= dict(zip(sides, values, strict=True))
            elif values:
                param[one] = values
        return replace(layer, fields={**layer.fields, layer.message: param})

    return with_layers(at, map(made, at.net.layers))


def headed(at: Aimed, target: Target) -> Aimed:
    """Inputs as Input layers or, where these are not read, as the net's own fields."""
    if header(at.net) in ("", *target.header):
        return at
    inputs = at.net.inputs()
    net = replace(at.net, layers=tuple(x for x in at.net.layers if not is_input(x)))
    fields: dict[str, Any] = {**net.fields, "input": tuple(inputs)}
    flat = all(len(shape) == 4 for shape in inputs.values())
    if "input_shape" in target.header or not flat:
        fields["input_shape"] = tuple({"dim": shape} for shape in inputs.values())
    else:
        fields["input_dim"] = tuple(size for shape in inputs.values() for size in shape)
    return at._replace(net=replace(net, fields=fields))


STEPS: Mapping[str, Step] = {
    "Dropout left out": without_dropout,
    "depthwise convolutions as Convolution with groups": grouped,
    "limits as ReLU6 or Clip": with_limits,
    "the only batch size": of_batch,
    "BatchNorm folded": folds,
    "floor pooling": floored,
    "a bias for every Convolution": biased,
    "coefficients of 1 left out": plain_sums,
    "defaults spelled": spells,
    "rows and columns spelled": paired,
    "inputs written anew": headed,
}
"""What is done -> the step, in their order."""


def with_layers(at: Aimed, layers: Iterable[Layer]) -> Aimed:
    """The same weights for other layers."""
    return at._replace(net=replace(at.net, layers=tuple(layers)))
