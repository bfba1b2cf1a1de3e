"""Layer + bottoms + weights -> tops, in PyTorch: each layer's meaning in other hands.

By torch's own functions, so that gradients flow. Shapes come out of the computation, not out of
the net, so that a wrong size shows. ``torch_module.py`` puts the layers together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own short name

from resnet_proto.errors import UnknownLayerError
from resnet_proto.layers import axis_index
from resnet_proto.layers.concat import chosen_axis
from resnet_proto.layers.exp import log_of

if TYPE_CHECKING:
    from resnet_proto.layers import (
        BN,
        ELU,
        LRN,
        MVN,
        Axpy,
        BatchNorm,
        Bias,
        Clip,
        Concat,
        Convolution,
        Crop,
        Deconvolution,
        Eltwise,
        Embed,
        Exp,
        Flatten,
        InnerProduct,
        Interp,
        Layer,
        Log,
        Normalize,
        Permute,
        Pooling,
        Power,
        PReLU,
        Reduction,
        ReLU,
        ReLU6,
        Reshape,
        Scale,
        Shape,
        ShuffleChannel,
        Slice,
        Softmax,
        Swish,
        Threshold,
        Tile,
    )


def padded(x: Tensor, begin: Sequence[int], end: Sequence[int], fill: float = 0.0) -> Tensor:
    """``x`` with its last axes made longer; F.pad takes the last axis first."""
    sides = [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
    return F.pad(x, sides, value=fill) if any(sides) else x


def known_windows(layer: Convolution | Deconvolution, n_axes: int) -> tuple[Shape, Shape, Shape]:
    """Stride, pad and dilation.

    Raises:
        UnknownLayerError: more than three spatial axes, or dilation 0.
    """
    _, stride, pad, dilation = layer.windows(n_axes)
    if n_axes > 3 or 0 in dilation:
        raise UnknownLayerError(
            f"layer '{layer.name}' ({layer.type}): torch knows 3 spatial axes, not {n_axes}, "
            "and no dilation 0"
        )
    return stride, pad, dilation


def convolution(layer: Convolution, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Each bottom by itself, as a batch of the axes before the channels.

    Raises:
        UnknownLayerError: more than three spatial axes.
    """
    channel = axis_index(layer.axis, tuple(bottoms[0].shape))
    spatial = tuple(bottoms[0].shape[channel + 1 :])
    stride, pad, dilation = known_windows(layer, len(spatial))
    weight, *bias = weights
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
    tops = []
    for x in bottoms:
        images = padded(x.reshape(-1, *x.shape[channel:]), pad, layer.end_pad(spatial))
        if spatial:
            y = convolve[len(spatial)](
                images, weight, *bias, stride=stride, dilation=dilation, groups=layer.group
            )
        else:
            y = F.conv1d(images[..., None], weight[..., None], *bias, groups=layer.group)[..., 0]
        tops.append(y.reshape(*x.shape[:channel], *y.shape[1:]))
    return tops


def batch_norm(layer: BatchNorm, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """With the stored statistics, or with the batch's and its biased variance."""
    (x,) = bottoms
    if layer.is_global:
        mean, variance, factor = weights[:3]
        gamma, beta = [*weights[3:], None, None][:2]
        factor = torch.where(factor == 0, factor, factor.reciprocal())
        mean, variance = mean * factor, variance * factor
        # Folded into a factor and an offset, as torch does it, a large mean would cost digits.
        centred = x - mean.reshape(-1, *(1 for _ in x.shape[2:]))
        zeros = torch.zeros_like(variance)
        return [F.batch_norm(centred, zeros, variance, gamma, beta, eps=layer.eps)]
    return [normalised(layer, x, *batch_statistics(x), weights[3:])]


def normalised(
    layer: BatchNorm, x: Tensor, mean: Tensor, variance: Tensor, affine: Sequence[Tensor]
) -> Tensor:
    """``x`` with these statistics, each (C,), times gamma, plus beta, where those are within."""
    per_channel = (-1, *(1 for _ in x.shape[2:]))
    y = (x - mean.reshape(per_channel)) * (variance + layer.eps).rsqrt().reshape(per_channel)
    if affine:
        y = y * affine[0].reshape(per_channel)
    return y + affine[1].reshape(per_channel) if affine[1:] else y


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, (C,)."""
    variance, mean = torch.var_mean(x, (0, *range(2, x.ndim)), correction=0)
    return mean, variance


def scale(layer: Scale, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Times gamma, plus beta, from their axis on."""
    x, *factors = [*bottoms, *weights]
    axis = layer.axis % x.ndim if factors[0].ndim else x.ndim
    behind = (1,) * (x.ndim - axis - factors[0].ndim)
    gamma, *beta = (factor.reshape((*factor.shape, *behind)) for factor in factors)
    return [torch.addcmul(beta[0], x, gamma) if beta else x * gamma]


def relu(layer: ReLU, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Leaky by a slope that may be 0."""
    return [F.leaky_relu(bottoms[0], layer.negative_slope)]


def pooling(layer: Pooling, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """On a bottom that is padded as far as windows reach.

    Raises:
        UnknownLayerError: STOCHASTIC.
    """
    layer.check_pool()
    (x,) = bottoms
    kernel, stride, pad = layer.windows(tuple(x.shape))
    end = layer.end_pad(tuple(x.shape))
    if layer.pool == "AVE":
        # Caffe divides by what a window counts: image and padding, not what lies behind both.
        counted = padded(x.new_ones(1, 1, *x.shape[2:]), pad, pad, 1.0)
        counted = padded(counted, (0, 0), [e - p for e, p in zip(end, pad, strict=True)])
        total, divisor = (
            F.avg_pool2d(values, kernel, stride, divisor_override=1)
            for values in (padded(x, pad, end), counted)
        )
        return [total / divisor]
    y, place = F.max_pool2d(padded(x, pad, end, -torch.inf), kernel, stride, return_indices=True)
    if len(layer.tops) == 1:
        return [y]
    (pad_h, pad_w), width = pad, x.shape[3]
    padded_width = pad_w + width + end[1]
    row, column = place // padded_width - pad_h, place % padded_width - pad_w
    return [y, (row * width + column).to(x.dtype)]


def eltwise(layer: Eltwise, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """One bottom after the other."""
    if layer.operation == "PROD":
        return [reduce(torch.mul, bottoms)]
    if layer.operation == "MAX":
        return [reduce(torch.maximum, bottoms)]
    if layer.coeff:
        bottoms = [x * factor for x, factor in zip(bottoms, layer.coeff, strict=True)]
    return [reduce(torch.add, bottoms)]


def inner_product(
    layer: InnerProduct, bottoms: list[Tensor], weights: list[Tensor]
) -> list[Tensor]:
    """The axes before ``axis`` stay."""
    weight, *bias = weights
    return [
        F.linear(bottoms[0].flatten(layer.axis), weight.T if layer.transpose else weight, *bias)
    ]


def softmax(layer: Softmax, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Along its axis."""
    return [F.softmax(bottoms[0], layer.axis)]


def deconvolution(
    layer: Deconvolution, bottoms: list[Tensor], weights: list[Tensor]
) -> list[Tensor]:
    """Each bottom by itself, as a batch of the axes before the channels.

    Raises:
        UnknownLayerError: more than three spatial axes.
    """
    channel = axis_index(layer.axis, tuple(bottoms[0].shape))
    n_axes = bottoms[0].ndim - channel - 1
    stride, pad, dilation = known_windows(layer, n_axes)
    weight, *bias = weights
    convolve = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
    tops = []
    for x in bottoms:
        images = x.reshape(-1, *x.shape[channel:])
        if n_axes:
            y = convolve[n_axes](
                images,
                weight,
                *bias,
                stride=stride,
                padding=pad,
                groups=layer.group,
                dilation=dilation,
            )
        else:
            y = F.conv_transpose1d(images[..., None], weight[..., None], *bias, groups=layer.group)[
                ..., 0
            ]
        tops.append(y.reshape(*x.shape[:channel], *y.shape[1:]))
    return tops


def concat(layer: Concat, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Along its axis."""
    return [torch.cat(bottoms, chosen_axis(layer, "concat_dim", tuple(bottoms[0].shape)))]


def slice_(layer: Slice, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Between its cuts."""
    (x,) = bottoms
    axis, cuts = layer.cuts(tuple(x.shape))
    sizes = [end - start for start, end in pairwise(cuts)]
    return [part.clone() for part in x.split(sizes, axis)]


def crop(layer: Crop, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Along each axis."""
    spans = layer.spans([tuple(x.shape) for x in bottoms])
    return [bottoms[0][tuple(slice(*span) for span in spans)].clone()]


def flatten(layer: Flatten, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """From axis to end_axis; where those cross, a new axis."""
    (x,) = bottoms
    start, end = layer.axis % x.ndim, layer.end_axis % x.ndim
    return [x.unsqueeze(start) if start > end else x.flatten(start, end)]


def reshape(layer: Reshape, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """A -1 is left to torch."""
    (x,) = bottoms
    start = layer.axis if layer.axis >= 0 else x.ndim + 1 + layer.axis
    end = x.ndim if layer.num_axes == -1 else start + layer.num_axes
    wanted = enumerate(layer.shape.get("dim", ()), start)
    sizes = (size or x.shape[i] for i, size in wanted)
    return [x.reshape([*x.shape[:start], *sizes, *x.shape[end:]])]


def power(layer: Power, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Of a linear function."""
    (x,) = bottoms
    base = torch.full_like(x, layer.shift) if layer.constant else x * layer.scale + layer.shift
    return [base**layer.power]


def copies(layer: Layer, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The bottom for each top; for Silence none."""
    return [bottoms[0].clone() for _ in layer.tops]


def one(function: Callable[[Tensor], Tensor]) -> Callable[..., list[Tensor]]:
    """The function of a type that torch has, without fields."""
    return lambda layer, bottoms, weights: [function(bottoms[0])]


def elu(layer: ELU, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Also with a slope that torch's own refuses."""
    (x,) = bottoms
    return [x.clamp(min=0) + layer.alpha * torch.expm1(x.clamp(max=0))]


def exp(layer: Exp, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Between two factors."""
    inner, outer = layer.factors
    return [outer * torch.exp(inner * bottoms[0])]


def log(layer: Log, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Of a linear function, divided by the base's."""
    return [torch.log(layer.scale * bottoms[0] + layer.shift) / log_of(layer.base)]


def threshold(layer: Threshold, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Greater, as a number."""
    return [(bottoms[0] > layer.threshold).to(bottoms[0].dtype)]


def swish(layer: Swish, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Times a sigmoid."""
    return [bottoms[0] * torch.sigmoid(layer.beta * bottoms[0])]


def clip(layer: Clip, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The lower limit last: it wins where they cross."""
    return [bottoms[0].clamp(max=layer.max).clamp(min=layer.min)]


def prelu(layer: PReLU, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """One slope, or one for each channel."""
    return [F.prelu(bottoms[0], weights[0].reshape(-1))]


def bias(layer: Bias, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Plus beta, from its axis on."""
    x, beta = [*bottoms, *weights]
    axis = layer.axis % x.ndim if beta.ndim else x.ndim
    return [x + beta.reshape((*beta.shape, *(1,) * (x.ndim - axis - beta.ndim)))]


def tile(layer: Tile, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Along its axis."""
    return [torch.cat(bottoms * layer.tiles, layer.axis)]


def reduction(layer: Reduction, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Of everything from the axis on."""
    x = bottoms[0].flatten(layer.axis)
    functions = {
        "SUM": lambda: x.sum(-1),
        "ASUM": lambda: x.abs().sum(-1),
        "SUMSQ": lambda: x.square().sum(-1),
        "MEAN": lambda: x.mean(-1),
    }
    return [layer.coeff * functions[layer.operation]()]


def lrn(layer: LRN, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Across channels by torch's own; within one by an average that counts padding."""
    (x,) = bottoms
    size = layer.local_size
    if layer.norm_region == "ACROSS_CHANNELS":
        return [F.local_response_norm(x, size, layer.alpha, layer.beta, layer.k)]
    ones = x.new_ones(1, 1, *x.shape[2:])
    pad = (size - 1) // 2
    total, n = (
        F.avg_pool2d(padded(v, (pad, pad), (pad, pad), fill), size, 1, divisor_override=1)
        for v, fill in ((x.square(), 0.0), (ones, 1.0))
    )
    return [x * (1 + layer.alpha * total / n) ** -layer.beta]


def mvn(layer: MVN, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Over an image or a channel of it."""
    (x,) = bottoms
    x = x.reshape(*x.shape, *(1,) * (4 - x.ndim))
    variance, mean = torch.var_mean(
        x, (1, 2, 3) if layer.across_channels else (2, 3), correction=0, keepdim=True
    )
    y = x - mean
    return [y / (variance.sqrt() + layer.eps) if layer.normalize_variance else y]


def embed(layer: Embed, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Rows, plus a bias."""
    weight, *bias = weights
    y = F.embedding(bottoms[0].long(), weight)
    return [y + bias[0] if bias else y]


def batch_reindex(layer: Layer, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Images by number."""
    return [bottoms[0][bottoms[1].long()]]


def parameter(layer: Layer, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The weight."""
    return weights


def axpy(layer: Axpy, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """A factor for each channel, and a sum."""
    a, x, y = bottoms
    return [torch.addcmul(y, a.reshape(*x.shape[:2], *(1,) * (x.ndim - 2)), x)]


def bn(layer: BN, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The BatchNorm that it is."""
    (x,) = bottoms
    (shape,) = layer.top_shapes([tuple(x.shape)])
    slope, offset, *stored = (weight.flatten() for weight in weights)
    mean, variance = stored or (torch.zeros_like(slope), torch.ones_like(slope))
    blobs = [mean, variance, slope.new_ones(1), slope, offset]
    whole = [x.reshape(*x.shape, *(1,) * (4 - x.ndim))]
    (y,) = batch_norm(layer.as_batch_norm(), whole, blobs)
    return [y.reshape(shape)]


def interp(layer: Interp, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Between the corners."""
    cut: Any = layer.cut
    size = layer.size([tuple(x.shape) for x in bottoms])
    return [F.interpolate(cut(bottoms[0]), size, mode="bilinear", align_corners=True)]


def normalize(layer: Normalize, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Divided by a length, times a scale."""
    (x,) = bottoms
    whole = x.reshape(*x.shape, *(1,) * (4 - x.ndim))
    y = whole * (whole.square().sum(layer.axes, keepdim=True) + layer.eps).rsqrt()
    return [(y * weights[0].reshape(-1, 1, 1)).reshape(x.shape)]


def permute(layer: Permute, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Another order of the axes."""
    (x,) = bottoms
    return [x.permute(layer.axes(tuple(x.shape))).clone()]


def relu6(layer: ReLU6, bottoms: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Leaky by a slope that may be 0, cut at the threshold."""
    return [F.leaky_relu(bottoms[0], layer.negative_slope).clamp(max=layer.threshold)]


def shuffle_channel(
    layer: ShuffleChannel, bottoms: list[Tensor], weights: list[Tensor]
) -> list[Tensor]:
    """By torch's own, which wants an axis behind the channels."""
    return [torch.channel_shuffle(bottoms[0][..., None], layer.group)[..., 0]]


FUNCTIONS: dict[str, Callable[[Any, list[Tensor], list[Tensor]], list[Tensor]]] = {
    "AbsVal": one(torch.abs),
    "Axpy": axpy,
    "BN": bn,
    "BNLL": one(F.softplus),
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
    "Dropout": copies,
    "ELU": elu,
    "Eltwise": eltwise,
    "Embed": embed,
    "Exp": exp,
    "Flatten": flatten,
    "InnerProduct": inner_product,
    "Interp": interp,
    "LRN": lrn,
    "Log": log,
    "MVN": mvn,
    "Normalize": normalize,
    "PReLU": prelu,
    "Parameter": parameter,
    "Permute": permute,
    "Pooling": pooling,
    "Power": power,
    "ReLU": relu,
    "ReLU6": relu6,
    "Reduction": reduction,
    "Reshape": reshape,
    "Scale": scale,
    "ShuffleChannel": shuffle_channel,
    "Sigmoid": one(torch.sigmoid),
    "Silence": copies,
    "Slice": slice_,
    "Softmax": softmax,
    "Split": copies,
    "Swish": swish,
    "TanH": one(torch.tanh),
    "Threshold": threshold,
    "Tile": tile,
}
"""How the tops of each layer type are computed: layer, bottoms, weights -> tops."""
