"""Net + weights -> the same net with BatchNorm and Scale folded into the layer before them.

    Convolution, BatchNorm, Scale -> a Convolution with other weights

What ``engine/planned.py`` runs fast and ``formats/onnx.py`` writes for engines is folded here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_proto.fit import named, step_blobs
from resnet_proto.layers import (
    BN,
    BatchNorm,
    Convolution,
    Deconvolution,
    InnerProduct,
    Layer,
    Scale,
    axis_index,
)
from resnet_proto.layers.batch_norm import affine
from resnet_proto.weights import Weights

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step


def is_affine(step: Step) -> bool:
    """Whether a layer is a factor and an offset for each channel, known beforehand."""
    layer = step.layer
    if len(step.bottoms) != 1 or len(step.bottoms[0]) < 2:
        return False
    if isinstance(layer, BN):
        layer = layer.as_batch_norm()
    if isinstance(layer, BatchNorm):
        return layer.is_global
    return (
        isinstance(layer, Scale)
        and layer.num_axes == 1
        and layer.axis in (1, 1 - len(step.bottoms[0]))
    )


def normalises(step: Step) -> bool:
    """Whether a layer subtracts a mean, which is lost in a factor and an offset if it is large.

    A convolution rounds its top by as much.
    """
    return isinstance(step.layer, BatchNorm | BN)


def is_bare(step: Step) -> bool:
    """Whether a layer is a BatchNorm that may get gamma and beta."""
    layer = step.layer
    return is_affine(step) and isinstance(layer, BatchNorm) and not layer.scales


def multiplies(step: Step) -> bool:
    """Whether a layer is a product with weights, whose channels are the second axis of its top."""
    layer = step.layer
    if len(step.bottoms) != 1 or not isinstance(layer, Convolution | Deconvolution | InnerProduct):
        return False
    return axis_index(layer.axis, step.bottoms[0]) == 1


def batch_norm_blobs(
    step: Step, weights: Mapping[str, Array], dtype: DTypeLike
) -> tuple[Sequence[Array], float]:
    """Blobs and eps of a BatchNorm, or of the one that a BN is."""
    layer, blobs = step.layer, step_blobs(step, weights, dtype)
    if isinstance(layer, BN):
        return layer.batch_norm_blobs(blobs), layer.as_batch_norm().eps
    assert isinstance(layer, BatchNorm)
    return blobs, layer.eps


@np.errstate(all="ignore")
def fold(
    steps: Sequence[Step], weights: Mapping[str, Array], dtype: np.dtype[Any]
) -> tuple[Array | None, Array, Array | None]:
    """Several layers as one factor and one offset for each channel.

    The mean of a BatchNorm that begins the chain is left out: it is subtracted before.

    Returns:
        The weight of the layer that begins the chain, as it is stored; the factors (C,), a
        scalar where there are none; and the offsets (C,), or None.
    """
    weight: Array | None = None
    gain: Array = np.ones((), np.float64)
    bias: Array = np.zeros((), np.float64)
    mean: Array | float
    factor: Array | float
    offset: list[Array]
    for i, step in enumerate(steps):
        mean, factor = 0.0, 1.0
        if multiplies(step):
            weight, *offset = step_blobs(step, weights, dtype)
        elif normalises(step):
            mean, factor, offset = affine(*batch_norm_blobs(step, weights, np.float64))
            mean = mean if i else 0.0
        else:
            factor, *offset = step_blobs(step, weights, np.float64)
        gain, bias = gain * factor, (bias - mean) * factor + (offset[0] if offset else 0)
    return weight, gain.astype(dtype), bias.astype(dtype) if bias.ndim else None


def folded(
    net: Net,
    weights: Mapping[str, Array],
    shapes: Mapping[str, Shape] | None = None,
    *,
    merge: bool = False,
    products: bool = True,
) -> tuple[Net, Mapping[str, Array]]:
    """The net without each BatchNorm and Scale that can be part of the layer before it.

    That is a Convolution, Deconvolution or InnerProduct whose top nothing else reads; a blob that
    was between them is not there any more, and the others keep their names. Layers that share
    weights, or a name, stay as they are.

    Args:
        net: any net, in a state of phase TEST.
        weights: arrays by ``<layer>.<blob>``; values are read where layers are folded.
        shapes: of what data layers give, as for ``Net.walk``.
        merge: elsewhere make one layer of a BatchNorm and the Scale behind it: NVIDIA's BatchNorm
            with gamma and beta inside, which mainline Caffe does not have.
        products: fold into Convolution, Deconvolution and InnerProduct; without it only ``merge``.

    Raises:
        WeightsError: weights of a layer that is folded are missing, or do not fit.
    """
    net = net.upgraded().filtered()
    weights = named(weights, net)
    steps = list(net.walk(shapes=shapes))
    repeated = Counter(step.layer.name for step in steps)
    readers = read_by(net.layers)
    gone: set[int] = set()
    layers: dict[int, Layer] = dict(enumerate(net.layers))
    changed: dict[str, Array] = {}

    def alone(step: Step) -> bool:
        return not step.shared and repeated[step.layer.name] == 1

    for i, step in enumerate(steps):
        chain, end = [step], i
        merges = merge and is_bare(step)
        if i in gone or not ((products and multiplies(step)) or merges) or not alone(step):
            continue
        while len(readers[end]) == 1:
            following = steps[readers[end][0]]
            if not (is_affine(following) and alone(following)):
                break
            if merges and normalises(following):
                break
            end = readers[end][0]
            gone.add(end)
            chain.append(following)
        if end == i:
            continue
        weight, gain, bias = fold(chain[1:] if merges else chain, weights, np.dtype(np.float32))
        if merges:
            n = step.blobs["mean"]
            values = {"weight": gain, "bias": np.zeros(()) if bias is None else bias}
            new = {name: np.broadcast_to(value, n) for name, value in values.items()}
            layers[i] = with_field(step.layer, "scale_bias", True, chain[-1].layer.tops)
        else:
            assert weight is not None
            new = {"weight": scaled(step.layer, weight, gain), "bias": np.asarray(bias)}
            layers[i] = with_field(step.layer, "bias_term", True, chain[-1].layer.tops)
        with np.errstate(over="ignore"):
            changed |= {
                f"{step.label}.{name}": v.astype(np.float32, copy=False) for name, v in new.items()
            }
        if isinstance(weights, Weights):
            weights.forget(step.label)
    kept = tuple(layer for i, layer in layers.items() if i not in gone)
    dropped = {f"{steps[i].label}.{name}" for i in gone for name in steps[i].blobs}
    return replace(net, layers=kept), Kept(changed, weights, dropped)


class Kept(Mapping[str, "Array"]):
    """Weights of which some have changed, and some are no more; others are read when asked for."""

    def __init__(
        self, changed: Mapping[str, Array], weights: Mapping[str, Array], dropped: set[str]
    ) -> None:
        self.changed, self.weights = changed, weights
        self.keys_left = dict.fromkeys(key for key in (*weights, *changed) if key not in dropped)

    def __getitem__(self, key: str) -> Array:
        if key not in self.keys_left:
            raise KeyError(key)
        return self.changed[key] if key in self.changed else self.weights[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_left)

    def __len__(self) -> int:
        return len(self.keys_left)


def scaled(layer: Layer, weight: Array, gain: Array) -> Array:
    """A weight as it is stored, times the factor (C,) of each channel of the top."""
    if isinstance(layer, InnerProduct):
        return weight * (gain if layer.transpose else gain[:, None])
    if isinstance(layer, Deconvolution):  # (in, out / group, ...)
        parts = weight.reshape(layer.group, -1, *weight.shape[1:])
        factors = gain.reshape(layer.group, 1, weight.shape[1], *(1 for _ in weight.shape[2:]))
        return (parts * factors).reshape(weight.shape)
    return weight * gain.reshape(-1, *(1 for _ in weight.shape[1:]))


def with_field(layer: Layer, name: str, value: object, tops: tuple[str, ...]) -> Layer:
    """The layer with a field of its message set, and other tops."""
    return replace(
        layer, tops=tops, fields={**layer.fields, layer.message: {**layer.param, name: value}}
    )


def read_by(layers: Sequence[Layer]) -> list[list[int]]:
    """For each layer, which layers read its first top before anything overwrites it."""
    current: dict[str, int] = {}
    readers: list[list[int]] = [[] for _ in layers]
    for i, layer in enumerate(layers):
        for name in layer.bottoms:
            if name in current:
                readers[current[name]].append(i)
        for name in layer.tops:
            current.pop(name, None)
        if layer.tops:
            current[layer.tops[0]] = i
    return readers
