"""Layer + bottoms + weights -> tops, as layers and ops of Keras 3: each layer's meaning there.

A blob of four axes, (N, C, H, W), is (N, H, W, C), Keras' own order; any other has Caffe's. Shapes
are those of the net, but for the first axis, which may be any. ``keras_model.py`` puts the layers
together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_proto.errors import UnknownLayerError
from resnet_proto.layers import Shape, axis_index, count
from resnet_proto.layers.batch_norm import statistics
from resnet_proto.layers.concat import chosen_axis
from resnet_proto.layers.exp import log_of
from resnet_proto.layers.interp import between
from resnet_proto.layers.loss import legacy
from resnet_proto.layers.pooling import LOWEST, Pooling
from resnet_proto.words import free

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_proto.layers import (
        BN,
        ELU,
        LRN,
        MVN,
        BatchNorm,
        Bias,
        Clip,
        Concat,
        Convolution,
        Crop,
        Deconvolution,
        Dropout,
        Eltwise,
        Embed,
        Exp,
        InnerProduct,
        Interp,
        Layer,
        Log,
        Normalize,
        Permute,
        Power,
        PReLU,
        Reduction,
        ReLU,
        ReLU6,
        Scale,
        ShuffleChannel,
        Slice,
        Softmax,
        Swish,
        Threshold,
        Tile,
    )
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Step

Tensor = Any
"""A KerasTensor: Keras is imported where it is used, and Any to mypy."""


@dataclass
class Names:
    """Names of the layers and ops of a model, each once. ``taken`` are in use."""

    taken: dict[str, int] = field(default_factory=dict)

    def free(self, name: str) -> str:
        """A name made of this one, numbered where it is taken.

        Keras forbids a slash, its torch backend a dot, its TensorFlow backend all but letters of
        ASCII, digits, dots, ``_`` and ``-``: each becomes ``_``.
        """
        name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)
        return free(name or "layer", self.taken)


@dataclass(frozen=True)
class Site:
    """The place in a model where one layer goes.

    Args:
        step: the layer with its shapes, in Caffe's order of axes.
        bottoms: in Keras' order.
        blobs: its weights, float32.
        tops: names of the Keras layers that give its tops.
    """

    step: Step
    bottoms: Sequence[Tensor]
    blobs: Mapping[str, Array]
    tops: Sequence[str]
    names: Names

    @property
    def shape(self) -> Shape:
        """Of the first bottom."""
        return self.step.bottoms[0]

    @property
    def top(self) -> Shape:
        """Of the first top."""
        return self.step.tops[0]

    def layer(
        self, type: str, x: Any, part: str = "", *, weights: Sequence[Array] = (), **fields: Any
    ) -> Tensor:
        """Call a new layer of ``keras.layers``.

        Args:
            type: its class.
            x: what it is called with.
            part: its name is that of the top, with this behind it.
            weights: in Keras' order and shapes.
            fields: its arguments.
        """
        import keras

        name = self.names.free(f"{self.tops[0]}_{part}") if part else self.tops[0]
        made = getattr(keras.layers, type)(name=name, **fields)
        y = made(x)
        if weights:
            made.set_weights(list(weights))
        return y

    def refusal(self, why: str) -> UnknownLayerError:
        """Why the layer has no way into Keras, though its type has."""
        layer = self.step.layer
        return UnknownLayerError(
            f"layer '{layer.name}' ({layer.type}): {why} cannot be written as Keras"
        )


def keras_axis(axis: int, shape: Shape) -> int:
    """Where an axis of Caffe's is in Keras' order."""
    axis = axis_index(axis, shape)
    return (0, 3, 1, 2)[axis] if len(shape) == 4 else axis


def keras_shape(shape: Shape) -> Shape:
    """A shape in Keras' order."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def in_caffes_order(x: Tensor) -> Tensor:
    """A blob in Keras' order -> the same in Caffe's."""
    from keras import ops

    return ops.transpose(x, (0, 3, 1, 2)) if len(x.shape) == 4 else x


def reshaped(x: Tensor, shape: Shape) -> Tensor:
    """A value in Caffe's order -> a blob of this shape, any number of images, in Keras' order."""
    from keras import ops

    x = ops.reshape(x, (-1, *shape[1:]))
    return ops.transpose(x, (0, 2, 3, 1)) if len(shape) == 4 else x


def images_of(x: Tensor, channel: int, shape: Shape) -> Tensor:
    """A blob with any number of axes before its channels -> (images, two or more sizes, C)."""
    from keras import ops

    if (channel, len(shape)) == (1, 4):
        return x
    ones = (1,) * (2 - len(shape[channel + 1 :]))
    x = ops.reshape(in_caffes_order(x), (-1, *shape[channel:], *ones))
    return ops.moveaxis(x, 1, -1)


def blob_of(x: Tensor, channel: int, shape: Shape) -> Tensor:
    """The other way round; ``shape`` is the blob's."""
    from keras import ops

    return x if (channel, len(shape)) == (1, 4) else reshaped(ops.moveaxis(x, -1, 1), shape)


@dataclass(frozen=True)
class Windows:
    """What a convolution does along each spatial axis, two at least."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape

    @property
    def reach(self) -> Shape:
        """How far a kernel reaches beyond its first place."""
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True))


def windows_of(site: Site, layer: Convolution | Deconvolution, n_axes: int) -> Windows:
    """Those of a layer.

    Raises:
        UnknownLayerError: more than three spatial axes, or dilation 0.
    """
    if n_axes > 3:
        raise site.refusal(f"{n_axes} spatial axes")
    idle = (1, 1, 0, 1)
    found = (
        (*sizes, *(one,) * (2 - n_axes))
        for sizes, one in zip(layer.windows(n_axes), idle, strict=True)
    )
    windows = Windows(*found)
    if 0 in windows.dilation:
        raise site.refusal("dilation 0")
    return windows


def padded(site: Site, x: Tensor, begin: Shape, end: Shape) -> Tensor:
    """(images, size ..., C) with zeros before and behind each spatial axis."""
    if not any((*begin, *end)):
        return x
    sides = tuple(zip(begin, end, strict=True))
    return site.layer(f"ZeroPadding{len(sides)}D", x, "pad", padding=sides, **LAST)


MANY = 1 << 28
"""Values of a weight that is made only for Keras."""
LAST: dict[str, Any] = {"data_format": "channels_last"}


def each_bottom(site: Site) -> list[tuple[Site, Tensor]]:
    """For a layer that takes each bottom by itself: a site for each."""
    return [
        (replace(site, bottoms=(x,), tops=(top,)), x)
        for x, top in zip(site.bottoms, site.tops, strict=True)
    ]


def convolution(site: Site, layer: Convolution) -> list[Tensor]:
    """Conv2D, Conv3D or DepthwiseConv2D; the weight's channels go behind.

    Raises:
        UnknownLayerError: more than three spatial axes, or dilation 0.
    """
    channel = axis_index(layer.axis, site.shape)
    channels, *spatial = site.shape[channel:]
    windows = windows_of(site, layer, len(spatial))
    n = len(windows.kernel)
    end = (*layer.end_pad(tuple(spatial)), *(0,) * (n - len(spatial)))
    same = (
        max(windows.stride) == 1
        and windows.pad == end
        and tuple(2 * p for p in end) == windows.reach
    )
    # Keras has no stride with dilation: every place is computed, and some are taken.
    apart = max(windows.stride) > 1 and max(windows.dilation) > 1
    weight, *bias = site.blobs.values()
    weight = weight.reshape(*weight.shape[:2], *windows.kernel)
    fields: dict[str, Any] = {
        "kernel_size": windows.kernel,
        "strides": (1,) * n if apart else windows.stride,
        "padding": "same" if same else "valid",
        "dilation_rate": windows.dilation,
        "use_bias": bool(bias),
        **LAST,
    }
    one_stride = len({*windows.stride}) == 1  # TensorFlow wants one
    if n == 2 and layer.group == channels > 1 and one_stride:
        kind = "DepthwiseConv2D"
        fields["depth_multiplier"] = layer.num_output // channels
        weight = weight.reshape(channels, -1, *windows.kernel).transpose(2, 3, 0, 1)
    else:
        kind = f"Conv{n}D"
        fields |= {"filters": layer.num_output, "groups": layer.group}
        weight = np.moveaxis(weight, (0, 1), (-1, -2))
    part = "" if (channel, len(site.shape)) == (1, 4) and not apart else "conv"
    tops = []
    for at, bottom in each_bottom(site):
        x = images_of(bottom, channel, site.shape)
        if not same:
            x = padded(at, x, windows.pad, end)
        y = at.layer(kind, x, part, weights=(weight, *bias), **fields)
        if apart:
            pool, strides = f"MaxPooling{n}D", windows.stride
            y = at.layer(pool, y, "places", pool_size=(1,) * n, strides=strides, **LAST)
        tops.append(blob_of(y, channel, site.top))
    return tops


def deconvolution(site: Site, layer: Deconvolution) -> list[Tensor]:
    """Conv2DTranspose or Conv3DTranspose, and Cropping for the pad.

    Keras knows no groups there: a weight of zeros joins the groups, and the layer does not train.

    Raises:
        UnknownLayerError: more than three spatial axes, dilation 0, or far too many zeros.
    """
    channel = axis_index(layer.axis, site.shape)
    channels, *spatial = site.shape[channel:]
    windows = windows_of(site, layer, len(spatial))
    n = len(windows.kernel)
    weight, *bias = site.blobs.values()
    parts = weight.reshape(layer.group, -1, weight.shape[1], *windows.kernel)
    ins, outs = parts.shape[1:3]
    # Keras' tops are as if a kernel were as wide as its stride at least, so it is.
    size = tuple(max(r + 1, s) for r, s in zip(windows.reach, windows.stride, strict=True))
    if (n_values := count((*size, layer.num_output, channels))) > MANY:
        raise site.refusal(f"group {layer.group}, which would take a weight of {n_values} values,")
    wide = np.zeros((*size, layer.num_output, channels), np.float32)
    taps = [slice(0, r + 1, d) for r, d in zip(windows.reach, windows.dilation, strict=True)]
    for i, block in enumerate(parts):
        place = (slice(i * outs, (i + 1) * outs), slice(i * ins, (i + 1) * ins))
        wide[(*taps, *place)] = np.moveaxis(block, (0, 1), (-1, -2))
    cropping = tuple(
        (p, p + whole - 1 - r) for p, whole, r in zip(windows.pad, size, windows.reach, strict=True)
    )
    tops = []
    for at, bottom in each_bottom(site):
        y = at.layer(
            f"Conv{n}DTranspose",
            images_of(bottom, channel, site.shape),
            "deconv",
            weights=(wide, *bias),
            filters=layer.num_output,
            kernel_size=size,
            strides=windows.stride,
            use_bias=bool(bias),
            trainable=layer.group == 1,
            **LAST,
        )
        if any(map(any, cropping)):
            y = at.layer(f"Cropping{n}D", y, "crop", cropping=cropping, **LAST)
        tops.append(blob_of(y, channel, site.top))
    return tops


def batch_norm(site: Site, layer: BatchNorm) -> Tensor:
    """BatchNormalization; batch statistics in single steps."""
    from keras import ops

    (x,) = site.bottoms
    blobs = list(site.blobs.values())
    affine_blobs = blobs[3:]
    axis = keras_axis(1, site.shape)
    if layer.is_global:
        return site.layer(
            "BatchNormalization",
            x,
            weights=(*affine_blobs, *statistics(blobs)),
            axis=axis,
            epsilon=layer.eps,
            momentum=layer.moving_average_fraction,
            scale=bool(affine_blobs),
            center=len(affine_blobs) > 1,
        )
    centred = x - ops.mean(x, axis=(others := but(axis, x)), keepdims=True)
    y = centred / ops.sqrt(ops.mean(ops.square(centred), axis=others, keepdims=True) + layer.eps)
    return affine(site, y, 1, *affine_blobs) if affine_blobs else y


def but(axis: int, x: Tensor) -> tuple[int, ...]:
    """All axes of a value but one."""
    return tuple(i for i in range(len(x.shape)) if i != axis)


def affine(
    site: Site, x: Tensor, axis: int, gamma: Array | None, beta: Array | None = None
) -> Tensor:
    """A blob times gamma, plus beta, which lie along its axes from ``axis`` on: an EinsumDense.

    A factor of a shape (), or none, is a Rescaling.
    """
    shape = site.top
    given = gamma if gamma is not None else beta
    assert given is not None
    if not given.ndim:
        scale, offset = 1.0 if gamma is None else float(gamma), 0.0 if beta is None else float(beta)
        return site.layer("Rescaling", x, scale=scale, offset=offset)
    names = "abcdefghijklmnopqrstuvwxyz"[: len(shape)]
    own = names[axis : axis + given.ndim]
    order = "acdb" if len(shape) == 4 else names
    weights = [np.ones(given.shape, np.float32) if gamma is None else gamma]
    if beta is not None:
        last = [name for name in order if name in own]
        spread = beta.transpose([own.index(name) for name in last])
        ones = iter(spread.shape)
        behind = order[order.index(last[0]) :]
        weights.append(spread.reshape([next(ones) if name in own else 1 for name in behind]))
    return site.layer(
        "EinsumDense",
        x,
        weights=weights,
        equation=f"{order},{own}->{order}",
        output_shape=keras_shape(shape)[1:],
        bias_axes=None if beta is None else own,
    )


def factor_and(site: Site, layer: Scale | Bias) -> tuple[Tensor, int]:
    """The second bottom, so that it broadcasts against the first; the axis of blobs.

    Raises:
        UnknownLayerError: it is one factor for all images.
    """
    axis = axis_index(layer.axis, site.shape) if site.shape else 0
    if len(site.bottoms) == 1:
        return None, axis
    if axis or not site.step.bottoms[1]:
        raise site.refusal("a second bottom without an axis for the images")
    return reshaped(in_caffes_order(site.bottoms[1]), layer.spread(site.step.bottoms)), axis


def scale(site: Site, layer: Scale) -> Tensor:
    """Multiply, or an EinsumDense of one factor for each channel."""
    factor, axis = factor_and(site, layer)
    blobs = list(site.blobs.values())
    if factor is None:
        return affine(site, site.bottoms[0], axis, *blobs)
    y = site.layer("Multiply", [site.bottoms[0], factor], "product" if blobs else "")
    return affine(site, y, axis, None, *blobs) if blobs else y


def bias(site: Site, layer: Bias) -> Tensor:
    """Add, or an EinsumDense whose factors are 1."""
    beta, axis = factor_and(site, layer)
    if beta is None:
        return affine(site, site.bottoms[0], axis, None, *site.blobs.values())
    return site.layer("Add", [site.bottoms[0], beta])


def relu(site: Site, layer: ReLU) -> Tensor:
    """ReLU; Keras' own wants a slope that is not negative."""
    slope = layer.negative_slope
    if slope >= 0:
        return site.layer("ReLU", site.bottoms[0], negative_slope=slope)
    return leaky(site.bottoms[0], slope)


def leaky(x: Tensor, slope: float) -> Tensor:
    """Times a slope where it is negative."""
    from keras import ops

    return ops.maximum(x, 0.0) + slope * ops.minimum(x, 0.0)


def pooling(site: Site, layer: Pooling) -> Tensor:
    """MaxPooling2D or AveragePooling2D, of a bottom that is padded as far as windows reach.

    Raises:
        UnknownLayerError: STOCHASTIC, or a mask.
    """
    from keras import ops

    layer.check_pool()
    if len(layer.tops) > 1:
        raise site.refusal("its mask")
    kernel, stride, pad = layer.windows(site.shape)
    (x,) = site.bottoms
    kind = "Max" if layer.pool == "MAX" else "Average"
    if layer.global_pooling:
        return site.layer(f"Global{kind}Pooling2D", x, keepdims=True, **LAST)
    end = layer.end_pad(site.shape)
    fields: dict[str, Any] = {"pool_size": kernel, "strides": stride, **LAST}
    if kind == "Max":
        if any((*pad, *end)):
            sides = zip(pad, end, strict=True)
            x = ops.pad(x, ((0, 0), *sides, (0, 0)), constant_values=LOWEST)
        return site.layer("MaxPooling2D", x, **fields)
    x, factors = padded(site, x, pad, end), clipped(layer, site.shape)
    return scaled(site.layer("AveragePooling2D", x, "pool" if factors else "", **fields), factors)


def clipped(layer: Pooling, shape: Shape) -> list[Array]:
    """What an average of whole windows is to be multiplied with: Caffe's end with the padding.

    (1, out_h, 1, 1), (1, 1, out_w, 1); those that are 1 are left out.
    """
    pairs = zip(layer.windows(shape)[0], layer.spans(shape), strict=True)
    rows, columns = (np.asarray(k / (end - start), np.float32) for k, (start, end) in pairs)
    spread = (rows.reshape(1, -1, 1, 1), columns.reshape(1, 1, -1, 1))
    return [factors for factors in spread if (factors != 1).any()]


def scaled(x: Tensor, factors: Sequence[Array]) -> Tensor:
    """Times each factor."""
    for value in factors:
        x = x * value
    return x


def eltwise(site: Site, layer: Eltwise) -> Tensor:
    """Add, Multiply or Maximum."""
    values = list(site.bottoms)
    if layer.operation == "SUM" and layer.coeff:  # MAX takes coefficients and ignores them
        values = [x if c == 1 else x * c for x, c in zip(values, layer.coeff, strict=True)]
    kind = {"SUM": "Add", "PROD": "Multiply", "MAX": "Maximum"}[layer.operation]
    return site.layer(kind, values)


def inner_product(site: Site, layer: InnerProduct) -> Tensor:
    """Flatten and Dense; behind images the weight's rows go into Keras' order."""
    from keras import ops

    axis = axis_index(layer.axis, site.shape)
    if not axis:
        raise site.refusal("axis 0, which is the images',")
    weight, *bias = site.blobs.values()
    kernel = weight if layer.transpose else weight.T
    (x,) = site.bottoms
    if (axis, len(site.shape)) == (1, 4):
        kernel = kernel.reshape(*site.shape[1:], -1).transpose(1, 2, 0, 3)
        kernel = kernel.reshape(-1, layer.num_output)
        x = site.layer("Flatten", x, "flatten", **LAST)
    elif axis < len(site.shape) - 1 or len(site.shape) == 4:
        x = ops.reshape(in_caffes_order(x), (-1, *site.shape[1:axis], count(site.shape[axis:])))
    y = site.layer(
        "Dense",
        x,
        "" if axis < 3 else "dense",
        weights=(kernel, *bias),
        units=layer.num_output,
        use_bias=bool(bias),
    )
    return y if axis < 3 else reshaped(y, site.top)


def softmax(site: Site, layer: Softmax) -> Tensor:
    """Softmax, along one axis."""
    return site.layer("Softmax", site.bottoms[0], axis=keras_axis(layer.axis, site.shape))


def concat(site: Site, layer: Concat) -> Tensor:
    """Concatenate."""
    from keras import ops

    if len(site.bottoms) == 1:
        return site.bottoms[0]
    axis = keras_axis(chosen_axis(layer, "concat_dim", site.shape), site.shape)
    if not axis:
        return ops.concatenate(list(site.bottoms), axis=0)
    return site.layer("Concatenate", list(site.bottoms), axis=axis)


def part(x: Tensor, axis: int, start: int, end: int) -> Tensor:
    """Some of a value along an axis in Keras' order."""
    return x[(*(slice(None) for _ in range(axis)), slice(start, end))]


def slice_(site: Site, layer: Slice) -> list[Tensor]:
    """Between its cuts."""
    axis, cuts = layer.cuts(site.shape)
    place = keras_axis(axis, site.shape)
    return [part(site.bottoms[0], place, start, end) for start, end in pairwise(cuts)]


def crop(site: Site, layer: Crop) -> Tensor:
    """Along each axis that becomes smaller."""
    x = site.bottoms[0]
    for axis, (start, end) in enumerate(layer.spans(site.step.bottoms)):
        if (start, end) != (0, site.shape[axis]):
            x = part(x, keras_axis(axis, site.shape), start, end)
    return x


def reshape(site: Site, layer: Layer) -> Tensor:
    """In Caffe's order; for Flatten too."""
    if site.shape == site.top:
        return site.bottoms[0]
    return reshaped(in_caffes_order(site.bottoms[0]), site.top)


def permute(site: Site, layer: Permute) -> Tensor:
    """Transpose.

    Raises:
        UnknownLayerError: it moves the images.
    """
    from keras import ops

    axes = layer.axes(site.shape)
    if axes[0]:
        raise site.refusal("an order that moves the images")
    return reshaped(ops.transpose(in_caffes_order(site.bottoms[0]), axes), site.top)


def power(site: Site, layer: Power) -> Tensor:
    """Rescaling, and a power of it."""
    from keras import ops

    (x,) = site.bottoms
    if layer.constant:
        return ops.full_like(x, float(layer.activation(np.zeros(1, np.float32))[0]))
    if layer.power == 1:
        return site.layer("Rescaling", x, scale=layer.scale, offset=layer.shift)
    return ops.power(x * layer.scale + layer.shift, layer.power)


def copies(site: Site, layer: Layer) -> list[Tensor]:
    """The bottom for each top; for Silence none."""
    return [site.bottoms[0] for _ in site.tops]


def dropout(site: Site, layer: Dropout) -> Tensor:
    """Dropout, which drops in training."""
    return site.layer("Dropout", site.bottoms[0], rate=layer.dropout_ratio)


def activation(name: str) -> Callable[[Site, Layer], Tensor]:
    """The function of a type that Keras has, without fields."""
    return lambda site, layer: site.layer("Activation", site.bottoms[0], activation=name)


def absval(site: Site, layer: Layer) -> Tensor:
    """Absolute values."""
    from keras import ops

    return ops.absolute(site.bottoms[0])


def elu(site: Site, layer: ELU) -> Tensor:
    """With a slope of either sign."""
    from keras import ops

    (x,) = site.bottoms
    return ops.maximum(x, 0.0) + layer.alpha * ops.expm1(ops.minimum(x, 0.0))


def exp(site: Site, layer: Exp) -> Tensor:
    """Between two factors."""
    from keras import ops

    inner, outer = layer.factors
    return outer * ops.exp(inner * site.bottoms[0])


def log(site: Site, layer: Log) -> Tensor:
    """Of a linear function, divided by the base's."""
    from keras import ops

    return ops.log(layer.scale * site.bottoms[0] + layer.shift) / log_of(layer.base)


def threshold(site: Site, layer: Threshold) -> Tensor:
    """Greater, as a number."""
    from keras import ops

    return ops.cast(ops.greater(site.bottoms[0], layer.threshold), "float32")


def swish(site: Site, layer: Swish) -> Tensor:
    """Times a sigmoid."""
    from keras import ops

    return site.bottoms[0] * ops.sigmoid(layer.beta * site.bottoms[0])


def clip(site: Site, layer: Clip) -> Tensor:
    """The lower limit last: it wins where they cross."""
    from keras import ops

    return ops.maximum(ops.minimum(site.bottoms[0], layer.max), layer.min)


def relu6(site: Site, layer: ReLU6) -> Tensor:
    """Leaky by a slope that may be 0, cut at the threshold."""
    from keras import ops

    (x,) = site.bottoms
    if not layer.negative_slope and layer.threshold >= 0:
        return site.layer("ReLU", x, max_value=layer.threshold)
    return ops.minimum(leaky(x, layer.negative_slope), layer.threshold)


def prelu(site: Site, layer: PReLU) -> Tensor:
    """PReLU, with one slope, or one for each channel."""
    (slope,) = site.blobs.values()
    channel = keras_axis(1, site.shape)
    n = len(site.shape)
    shared = [i for i in range(1, n) if layer.channel_shared or i != channel]
    shape = [slope.size if i == channel else 1 for i in range(1, n)]
    return site.layer(
        "PReLU", site.bottoms[0], weights=(slope.reshape(shape),), shared_axes=shared or None
    )


def tile(site: Site, layer: Tile) -> Tensor:
    """Along its axis."""
    from keras import ops

    return ops.concatenate([site.bottoms[0]] * layer.tiles, axis=keras_axis(layer.axis, site.shape))


def reduction(site: Site, layer: Reduction) -> Tensor:
    """Of everything from the axis on.

    Raises:
        UnknownLayerError: of the images too.
    """
    from keras import ops

    axis = axis_index(layer.axis, site.shape)
    if not axis:
        raise site.refusal("axis 0, which is the images',")
    x = in_caffes_order(site.bottoms[0])
    axes = tuple(range(axis, len(site.shape)))
    value = {"ASUM": ops.absolute, "SUMSQ": ops.square}.get(layer.operation, lambda x: x)(x)
    whole = (ops.mean if layer.operation == "MEAN" else ops.sum)(value, axis=axes)
    return whole * layer.coeff


def lrn(site: Site, layer: LRN) -> Tensor:
    """The input times a power of an average of squares, across channels or within one."""
    from keras import ops

    (x,) = site.bottoms
    size, pad = layer.local_size, (layer.local_size - 1) // 2
    square = ops.square(x)
    fields: dict[str, Any] = {"strides": 1, **LAST}
    if layer.norm_region == "WITHIN_CHANNEL":
        pool = Pooling.of(layer.name, "", "", pool="AVE", kernel_size=size, pad=pad)
        square = padded(site, square, (pad, pad), (pad, pad))
        mean = site.layer("AveragePooling2D", square, "mean", pool_size=size, **fields)
        mean = scaled(mean, clipped(pool, site.shape))
        return site.layer("Multiply", [x, (1 + layer.alpha * mean) ** -layer.beta])
    # Channels as columns: the mean of a window counts what lies outside as 0, as Caffe does.
    _, channels, *spatial = site.shape
    columns = ops.reshape(square, (-1, count(tuple(spatial)), channels, 1))
    columns = ops.pad(columns, ((0, 0), (0, 0), (pad, pad), (0, 0)))
    mean = site.layer("AveragePooling2D", columns, "mean", pool_size=(1, size), **fields)
    factor = (layer.k + layer.alpha * ops.reshape(mean, (-1, *spatial, channels))) ** -layer.beta
    return site.layer("Multiply", [x, factor])


def mvn(site: Site, layer: MVN) -> Tensor:
    """Over an image or a channel of it."""
    from keras import ops

    x = reshaped(in_caffes_order(site.bottoms[0]), site.top)
    axes = (1, 2, 3) if layer.across_channels else (1, 2)
    centred = x - ops.mean(x, axis=axes, keepdims=True)
    if not layer.normalize_variance:
        return centred
    square = ops.mean(ops.square(centred), axis=axes, keepdims=True)
    return centred / (ops.sqrt(square) + layer.eps)


def embed(site: Site, layer: Embed) -> Tensor:
    """Embedding, plus a bias."""
    weight, *bias = site.blobs.values()
    y = site.layer(
        "Embedding",
        in_caffes_order(site.bottoms[0]),
        "rows",
        weights=(weight,),
        input_dim=layer.input_dim,
        output_dim=layer.num_output,
    )
    y = reshaped(y, site.top)
    return affine(site, y, len(site.shape), None, *bias) if bias else y


def batch_reindex(site: Site, layer: Layer) -> Tensor:
    """Images by number."""
    from keras import ops

    x, places = site.bottoms
    return ops.take(x, ops.cast(places, "int32"), axis=0)


def axpy(site: Site, layer: Layer) -> Tensor:
    """A factor for each channel, and a sum."""
    factor, x, y = site.bottoms
    n, channels = site.step.bottoms[1][:2]
    ones = (1,) * (len(site.step.bottoms[1]) - 2)
    factor = reshaped(in_caffes_order(factor), (n, channels, *ones))
    return site.layer("Add", [factor * x, y])


def bn(site: Site, layer: BN) -> Tensor:
    """The BatchNorm that it is."""
    names = ("mean", "variance", "scale_factor", "weight", "bias")
    blobs = layer.batch_norm_blobs(list(site.blobs.values()))
    within = replace(site, blobs=dict(zip(names, blobs, strict=True)))
    return batch_norm(within, layer.as_batch_norm())


def interp(site: Site, layer: Interp) -> Tensor:
    """Two products with matrices that do not train: Keras' own resizing has other corners."""
    x = reshaped(in_caffes_order(site.bottoms[0]), legacy(site.shape))
    rows, columns = layer.seen(site.shape)
    begin = -layer.pad_beg
    x = part(part(x, 1, begin, begin + rows), 2, begin, begin + columns)
    size, channels = site.top[2:], site.top[1]
    if rows != size[0]:
        x = site.layer(
            "EinsumDense", x, "rows", weights=(matrix(rows, size[0]),),
            equation="nhwc,hp->npwc", output_shape=(size[0], columns, channels), trainable=False,
        )  # fmt: skip
    if columns != size[1]:
        x = site.layer(
            "EinsumDense", x, "columns", weights=(matrix(columns, size[1]),),
            equation="nhwc,wq->nhqc", output_shape=(*size, channels), trainable=False,
        )  # fmt: skip
    return x


def matrix(size: int, out: int) -> Array:
    """(size, out): how much of each pixel is in each place between the corners."""
    low, high, share = between(size, out, np.dtype(np.float32))
    pixels = np.eye(size, dtype=np.float32)
    weights: Array = pixels[:, low] * (1 - share) + pixels[:, high] * share
    return weights


def normalize(site: Site, layer: Normalize) -> Tensor:
    """Divided by a length, times a scale."""
    from keras import ops

    (x,) = site.bottoms
    axes = tuple(range(1, len(site.shape)))
    if not layer.across_spatial:
        axes = (keras_axis(1, site.shape),)
    length = ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True) + layer.eps)
    (weight,) = site.blobs.values()
    return affine(site, x / length, 1, weight)


def shuffle_channel(site: Site, layer: ShuffleChannel) -> Tensor:
    """Groups and what they hold change places."""
    from keras import ops

    _, channels, *behind = site.shape
    groups = (-1, layer.group, channels // layer.group, count(tuple(behind)))
    x = ops.reshape(in_caffes_order(site.bottoms[0]), groups)
    return reshaped(ops.transpose(x, (0, 2, 1, 3)), site.top)


def argmax(site: Site, layer: Any) -> Tensor:
    """The largest along an axis, or where it is: of equal values the last.

    Raises:
        UnknownLayerError: more than the largest, or no axis.
    """
    from keras import ops

    if layer.top_k > 1 or layer.axis is None:
        raise site.refusal("top_k over 1, or no axis,")
    (x,) = site.bottoms
    axis = keras_axis(layer.axis, site.shape)
    if layer.out_max_val:
        return ops.max(x, axis=axis, keepdims=True)
    last = site.shape[axis_index(layer.axis, site.shape)] - 1
    place = ops.argmax(ops.flip(x, axis=axis), axis=axis, keepdims=True)
    return last - ops.cast(place, "float32")


FUNCTIONS: dict[str, Callable[[Site, Any], Any]] = {
    "AbsVal": absval,
    "ArgMax": argmax,
    "Axpy": axpy,
    "BN": bn,
    "BNLL": activation("softplus"),
    "BatchNorm": batch_norm,
    "BatchReindex": batch_reindex,
    "Bias": bias,
    "Clip": clip,
    "Concat": concat,
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Crop": crop,
    "Deconvolution": deconvolution,
    "DepthwiseConvolution": convolution,
    "Dropout": dropout,
    "ELU": elu,
    "Eltwise": eltwise,
    "Embed": embed,
    "Exp": exp,
    "Flatten": reshape,
    "InnerProduct": inner_product,
    "Interp": interp,
    "LRN": lrn,
    "Log": log,
    "MVN": mvn,
    "Normalize": normalize,
    "PReLU": prelu,
    "Permute": permute,
    "Pooling": pooling,
    "Power": power,
    "ReLU": relu,
    "ReLU6": relu6,
    "Reduction": reduction,
    "Reshape": reshape,
    "Scale": scale,
    "ShuffleChannel": shuffle_channel,
    "Sigmoid": activation("sigmoid"),
    "Silence": copies,
    "Slice": slice_,
    "Softmax": softmax,
    "Split": copies,
    "Swish": swish,
    "TanH": activation("tanh"),
    "Threshold": threshold,
    "Tile": tile,
}
"""How each layer type is written: its site and the layer -> its top, or a list of several."""
