"""Net + weights -> the same net for other images: another order of channels, another scale.

    to_rgb:      new(x) == old(x with its channels reversed)
    input_scale: new(x) == old(scale * x)

Both become part of the weights of the layers that read the images. A mean cannot: these layers pad
with 0 when it is subtracted, so at the border a bias would count pixels that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from resnet_proto.errors import NetError
from resnet_proto.fit import named, step_blobs
from resnet_proto.fold import Kept, with_field
from resnet_proto.layers import (
    Convolution,
    Deconvolution,
    InnerProduct,
    axis_index,
    dims,
    make_layer,
)

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

Arrays = Mapping[str, "Array"]
SIZES_ONLY = {"Crop": (1,), "Interp": (1,), "PriorBox": (0, 1)}
"""Bottoms of which a layer takes the size alone, by type; Silence takes nothing."""


def to_rgb(net: Net, weights: Arrays) -> tuple[Net, Arrays]:
    """The net that takes RGB where this one takes BGR, or the other way round.

    ``new(x) == old(x[:, ::-1])``, to the last bit but for the order of sums. A layer of several
    groups among those that read the images becomes one of one group, with zeros.

    Args:
        net: of images (N, 3, H, W), in a state of phase TEST. Inputs of other numbers of axes
            are no images.
        weights: arrays by ``<layer>.<blob>``; values are read where they change.

    Raises:
        NetError: there are no such images, or something else than Convolution, Deconvolution and
            InnerProduct reads them.
        WeightsError: weights of a layer that changes are missing, or do not fit.
    """
    shapes = images(net)
    if others := {name: shape for name, shape in shapes.items() if shape[1] != 3}:
        name, shape = next(iter(others.items()))
        raise NetError(
            f"input '{name}' is {dims(shape)}; channels are reversed of three, (N, 3, H, W)"
        )
    return changed(net, weights, lambda weight: dense(weight)[:, :, ::-1])


def input_scale(net: Net, weights: Arrays, scale: Sequence[float]) -> tuple[Net, Arrays]:
    """The net that takes x where this one takes scale * x: ``new(x) == old(scale * x)``.

    What was ``(pixel - mean) * scale`` is ``pixel - mean`` then.

    Args:
        net: as for ``to_rgb``, with images of any number of channels.
        weights: likewise.
        scale: one factor for all channels, or one for each, in their order.

    Raises:
        NetError: as ``to_rgb``; or a factor is 0 or not finite, or there are not as many as
            channels.
        WeightsError: as ``to_rgb``.
    """
    if bad := [value for value in scale if not (math.isfinite(value) and value)]:
        raise NetError(f"a factor of the input is {bad[0]:g}; give one that is finite and not 0")
    for name, shape in images(net).items():
        if len(scale) not in (1, shape[1]):
            raise NetError(
                f"input '{name}' is {dims(shape)}, and {len(scale)} factors are given; "
                "give one, or one for each channel"
            )

    def times(weight: Array) -> Array:
        group, _, channels, _ = weight.shape
        factors = np.resize(np.asarray(scale, np.float64), group * channels)
        return weight * factors.reshape(group, 1, channels, 1)

    return changed(net, weights, times)


def reversed_channels(inputs: Arrays) -> dict[str, Array]:
    """Inputs of a net -> those of which the net before ``to_rgb`` makes the same."""
    return {name: x[:, ::-1] if x.ndim == 4 else x for name, x in inputs.items()}


def times_scale(inputs: Arrays, scale: Sequence[float]) -> dict[str, Array]:
    """Inputs of a net -> those of which the net before ``input_scale`` makes the same."""
    factors = np.asarray(scale, np.float64).reshape(-1, 1, 1)
    return {name: x * factors if x.ndim == 4 else x for name, x in inputs.items()}


def images(net: Net) -> dict[str, Shape]:
    """Name and shape of each input with four axes.

    Raises:
        NetError: there are none, or they differ in channels, so that one of them may be no image.
    """
    inputs = net.filtered().inputs()
    found = {name: inputs[name] for name in inputs if len(inputs[name]) == 4}
    if not found:
        raise NetError("the net has no input (N, C, H, W); make a deploy net of it first")
    if len({shape[1] for shape in found.values()}) > 1:
        rows = ", ".join(f"'{name}' is {dims(shape)}" for name, shape in found.items())
        raise NetError(f"the inputs differ in channels, and which are images is not known: {rows}")
    return found


def changed(
    net: Net, weights: Arrays, change: Callable[[Array], Array]
) -> tuple[Net, Arrays]:  # fmt: skip
    """The net whose layers that read the images have other weights.

    Args:
        net: with images.
        weights: its own.
        change: makes a weight (group, out, in, taps) another, possibly of one group.
    """
    net = net.upgraded().filtered()
    weights = named(weights, net)
    with net.named():
        readers = reading(net)
        walked = islice(enumerate(net.walk()), max(readers) + 1)
        steps = {i: step for i, step in walked if i in readers}
        check_axes(steps.values())
        check_shared(steps.values())
    layers = list(net.layers)
    new: dict[str, Array] = {}
    for i, step in steps.items():
        grouped = by_groups(step, step_blobs(step, weights, np.float64)[0])
        with np.errstate(over="ignore"):
            made = change(grouped)
            weight = as_stored(step, made).astype(np.float32)
        new |= dict.fromkeys(step.shared.get("weight", (f"{step.label}.weight",)), weight)
        if len(made) < len(grouped):
            layer = with_field(step.layer, "group", 1, step.layer.tops)
            type = "Deconvolution" if isinstance(layer, Deconvolution) else "Convolution"
            layers[i] = make_layer(
                layer.name, type, layer.bottoms, layer.tops, layer.fields, lenient=True
            )
    return replace(net, layers=tuple(layers)), Kept(new, weights, set())


def reading(net: Net) -> list[int]:
    """The places of the layers that read the values of the images.

    Raises:
        NetError: one of them has no weights that can take in a change of all that it reads.
    """
    current = set(images(net))
    found = []
    for i, layer in enumerate(net.layers):
        skipped = SIZES_ONLY.get(layer.type, ())
        reads = [name in current for j, name in enumerate(layer.bottoms) if j not in skipped]
        if any(reads) and layer.type != "Silence":
            if not isinstance(layer, Convolution | Deconvolution | InnerProduct) or layer.fixed:
                raise NetError(
                    f"layer '{layer.name}' ({layer.type}) reads the image; only the weights of "
                    "Convolution, Deconvolution and InnerProduct can take in what changes"
                )
            if not all(reads):
                raise NetError(
                    f"layer '{layer.name}' ({layer.type}) reads the image and another blob, and "
                    "its weights cannot change for one alone"
                )
            found.append(i)
        if layer.type != "Input":
            current.difference_update(layer.tops)
    if not found:
        raise NetError("no layer reads the image")
    return found


def check_axes(steps: Iterable[Step]) -> None:
    """Refuse a layer for which the second axis is no channel.

    Raises:
        NetError: it is so.
    """
    for step in steps:
        layer = step.layer
        assert isinstance(layer, Convolution | Deconvolution | InnerProduct)
        if axis_index(layer.axis, step.bottoms[0]) != 1:
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) reads the image, and its axis is "
                f"{layer.axis}; only 1, that of the channels, can take in what changes"
            )


def check_shared(steps: Collection[Step]) -> None:
    """Refuse weights that a layer shares with one that they are not to change for.

    Raises:
        NetError: it is so.
    """
    form = {f"{step.label}.weight": (step.layer.type, *grouping(step)) for step in steps}
    for step in steps:
        own = f"{step.label}.weight"
        for key in step.shared.get("weight", ()):
            if form.get(key) != form[own]:
                raise NetError(
                    f"layer '{step.layer.name}' ({step.layer.type}) reads the image, and its "
                    f"weight is that of '{key}' too, which would change; give it its own"
                )


def grouping(step: Step) -> tuple[int, int, int]:
    """Groups, outputs and channels of a layer that reads images; the latter two of one group."""
    layer = step.layer
    assert isinstance(layer, Convolution | Deconvolution | InnerProduct)
    group = 1 if isinstance(layer, InnerProduct) else layer.group
    return group, layer.num_output // group, step.bottoms[0][1] // group


def by_groups(step: Step, weight: Array) -> Array:
    """A weight as it is stored -> (group, out, in, taps), out and in of one group."""
    group, out, channels = grouping(step)
    layer = step.layer
    if isinstance(layer, Deconvolution):
        return weight.reshape(group, channels, out, -1).swapaxes(1, 2)
    if isinstance(layer, InnerProduct) and layer.transpose:
        weight = weight.T
    return weight.reshape(group, out, channels, -1)


def as_stored(step: Step, weight: Array) -> Array:
    """The way back, also with other numbers of groups."""
    group, out, channels, _ = weight.shape
    layer, taps = step.layer, step.blobs["weight"][2:]
    if isinstance(layer, Deconvolution):
        return weight.swapaxes(1, 2).reshape(group * channels, out, *taps)
    if isinstance(layer, InnerProduct):
        weight = weight.reshape(out, -1)
        return weight.T if layer.transpose else weight
    return weight.reshape(group * out, channels, *taps)


def dense(weight: Array) -> Array:
    """(group, out, in, taps) -> (1, group * out, group * in, taps), with zeros between groups."""
    group, out, channels, taps = weight.shape
    if group == 1:
        return weight
    whole = np.zeros((group, out, group, channels, taps), weight.dtype)
    whole[np.arange(group), :, np.arange(group)] = weight
    return whole.reshape(1, group * out, group * channels, taps)
