"""Layers -> nodes of ONNX: table ``WRITERS``, and a function for each type without windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import UnknownLayerError
from resnet_proto.formats.onnx_detection import (
    detection_output,
    prior_box,
    proposal,
    psroi_pooling,
    roi_pooling,
)
from resnet_proto.formats.onnx_graph import BOOL, END, FLOAT, Site, sides
from resnet_proto.formats.onnx_recurrent import lstm_unit, recurrent
from resnet_proto.formats.onnx_sliding import (
    convolution,
    deconvolution,
    im2col,
    lrn,
    pooling,
    spp,
    upsample,
)
from resnet_proto.layers import Shape, axis_index, count
from resnet_proto.layers.batch_norm import statistics
from resnet_proto.layers.concat import chosen_axis
from resnet_proto.layers.exp import log_of
from resnet_proto.layers.loss import legacy

if TYPE_CHECKING:
    from resnet_proto.layers import (
        BN,
        MVN,
        ArgMax,
        Axpy,
        BatchNorm,
        Bias,
        Clip,
        Concat,
        Crop,
        Eltwise,
        Embed,
        Exp,
        Filter,
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


def write(site: Site) -> None:
    """Add the nodes of one layer.

    Raises:
        UnknownLayerError: its type has no way into ONNX.
    """
    layer = site.step.layer
    if layer.type not in WRITERS:
        raise UnknownLayerError(
            f"layer '{layer.name}' has type '{layer.type}', which cannot be written as ONNX; "
            "docs/onnx.md lists those that can"
        )
    WRITERS[layer.type](site, layer)


def batch_norm(site: Site, layer: BatchNorm) -> None:
    """BatchNormalization, mostly without gamma and beta; batch statistics in single steps.

    Runtimes make it a factor and an offset, in which a large mean would cost digits. Into a
    convolution, which rounds by as much, they fold it; elsewhere the mean is subtracted before.
    """
    import numpy as np

    (x,), (top,) = site.bottoms, site.tops
    spread = (-1, *(1 for _ in site.step.bottoms[0][2:]))
    if not layer.is_global:
        axes = (0, *range(2, len(site.step.bottoms[0])))
        centred = site.op("Sub", [x, site.reduce("ReduceMean", x, axes)])
        square = site.reduce("ReduceMean", site.op("Mul", [centred, centred]), axes)
        eps = site.constant("eps", np.array(layer.eps, np.float32))
        deviation = site.op("Sqrt", [site.op("Add", [square, eps])])
        y = site.op("Div", [centred, deviation], "" if layer.scales else top)
        if layer.scales:
            blobs = [blob.reshape(spread) for blob in list(site.blobs.values())[3:]]
            names = ("weight", "bias")[: len(blobs)]
            gamma, *beta = (site.constant(*pair) for pair in zip(names, blobs, strict=True))
            y = site.op("Mul", [y, gamma], "" if beta else top)
            if beta:
                site.op("Add", [y, *beta], top)
        return
    mean, variance = statistics(list(site.blobs.values()))
    inputs: dict[str, Array] = {
        "weight": site.blobs.get("weight", np.ones_like(mean)),
        "bias": site.blobs.get("bias", np.zeros_like(mean)),
        "mean": mean,
        "variance": variance,
    }
    if site.writer(x) != "Conv":
        x = site.op("Sub", [x, site.constant("centre", mean.reshape(spread))])
        inputs["mean"] = np.zeros_like(mean)
    constants = [site.constant(name, value) for name, value in inputs.items()]
    site.op("BatchNormalization", [x, *constants], top, epsilon=layer.eps)


def scale(site: Site, layer: Scale) -> None:
    """Mul and Add; factors get ones behind their axes, because ONNX broadcasts from the right."""
    spread = layer.spread(site.step.bottoms)
    x, *factors = site.bottoms
    factors = [site.reshape(factors[0], site.step.bottoms[1], spread)] if factors else []
    factors += [site.constant(name, blob.reshape(spread)) for name, blob in site.blobs.items()]
    gamma, *beta = factors
    y = site.op("Mul", [x, gamma], "" if beta else site.tops[0])
    if beta:
        site.op("Add", [y, *beta], site.tops[0])


def relu(site: Site, layer: ReLU) -> None:
    """Relu or LeakyRelu."""
    if layer.negative_slope:
        site.op("LeakyRelu", site.bottoms, site.tops[0], alpha=layer.negative_slope)
    else:
        site.op("Relu", site.bottoms, site.tops[0])


def eltwise(site: Site, layer: Eltwise) -> None:
    """Add, Mul or Max, two values at a time.

    Raises:
        NetError: in place, where Caffe loses a bottom.
    """
    import numpy as np

    values = list(site.bottoms)
    if layer.operation == "SUM":  # MAX takes coefficients and does not look at them
        for i, c in enumerate(layer.coeff):
            if c != 1:
                coeff = site.constant("coeff", np.array(c, np.float32))
                values[i] = site.op("Mul", [values[i], coeff])
    op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[layer.operation]
    first, *between, last = values
    for other in between:
        first = site.op(op, [first, other])
    site.op(op, [first, last], site.tops[0])


def inner_product(site: Site, layer: InnerProduct) -> None:
    """Flatten to a matrix and Gemm; other axes than the first come back by Reshape."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    axis = axis_index(layer.axis, shape)
    (x,), (top,) = site.bottoms, site.tops
    if (len(shape), axis) != (2, 1):
        x = site.op("Flatten", [x], axis=axis)
    constants = [site.constant(name, blob) for name, blob in site.blobs.items()]
    same = axis == 1
    y = site.op("Gemm", [x, *constants], top if same else "", transB=int(not layer.transpose))
    if not same:
        site.reshape(y, (count(shape[:axis]), layer.num_output), top_shape, top)


def softmax(site: Site, layer: Softmax) -> None:
    """Softmax; since opset 13 along one axis, as Caffe's."""
    site.op("Softmax", site.bottoms, site.tops[0], axis=layer.axis)


def concat(site: Site, layer: Concat) -> None:
    """Concat."""
    axis = chosen_axis(layer, "concat_dim", site.step.bottoms[0])
    site.op("Concat", site.bottoms, site.tops[0], axis=axis)


def slice_(site: Site, layer: Slice) -> None:
    """A Slice for each top: ONNX's Split has changed between its versions."""
    axis, cuts = layer.cuts(site.step.bottoms[0])
    for top, start, end in zip(site.tops, cuts, cuts[1:], strict=False):
        part(site, {axis: (start, end)}, top)


def crop(site: Site, layer: Crop) -> None:
    """Slice along the axes that become smaller; at any size along all that may."""
    shape = site.step.bottoms[0]
    spans = dict(enumerate(layer.spans(site.step.bottoms)))
    if site.graph.any_size:
        axes = tuple(range(axis_index(layer.axis, shape), len(shape)))
        starts = site.sizes("starts", (spans[axis][0] for axis in axes))
        sizes = sides(site, site.bottoms[1], axes[0], len(shape))
        bounds = [starts, site.op("Add", [starts, sizes]), site.sizes("axes", axes)]
        site.op("Slice", [site.bottoms[0], *bounds], site.tops[0])
        return
    cropped = {i: span for i, span in spans.items() if span != (0, shape[i])}
    part(site, cropped, site.tops[0])


def part(site: Site, spans: Mapping[int, tuple[int, int]], top: str) -> None:
    """Slice the first bottom: axis -> start and end."""
    if not spans:
        site.op("Identity", site.bottoms[:1], top)
        return
    starts, ends = zip(*spans.values(), strict=True)
    bounds = {"starts": starts, "ends": ends, "axes": tuple(spans)}
    constants = [site.sizes(name, values) for name, values in bounds.items()]
    site.op("Slice", [site.bottoms[0], *constants], top)


def reshape(site: Site, layer: Layer) -> None:
    """Reshape, for Flatten too."""
    site.reshape(site.bottoms[0], site.step.bottoms[0], site.step.tops[0], site.tops[0])


def copies(site: Site, layer: Layer) -> None:
    """Identity, for each top; for Silence none."""
    for top in site.tops:
        site.op("Identity", site.bottoms, top)


def power(site: Site, layer: Power) -> None:
    """Mul, Add and Pow; a constant is a Clip, whose shape is its bottom's at any size."""
    import numpy as np

    if layer.constant:
        value = site.number("constant", float(layer.activation(np.zeros(1, np.float32))[0]))
        site.op("Clip", [*site.bottoms, value, value], site.tops[0])
        return
    chain(site, ("Mul", layer.scale), ("Add", layer.shift), ("Pow", layer.power))


def exp(site: Site, layer: Exp) -> None:
    """Exp between two factors."""
    inner, outer = layer.factors
    chain(site, ("Mul", inner), ("Exp", None), ("Mul", outer))


def log(site: Site, layer: Log) -> None:
    """Log of a linear function, times a factor for the base."""
    chain(site, ("Mul", layer.scale), ("Add", layer.shift), ("Log", None),
          ("Mul", 1 / log_of(layer.base)))  # fmt: skip


IDLE = {("Mul", 1), ("Add", 0), ("Pow", 1)}


def chain(site: Site, *ops: tuple[str, float | None]) -> None:
    """Ops one after the other, with a number each or none; some do nothing."""
    kept = [op for op in ops if op not in IDLE] or [("Identity", None)]
    x = site.bottoms[0]
    for i, (op, value) in enumerate(kept):
        others = [] if value is None else [site.number(op.lower(), value)]
        x = site.op(op, [x, *others], site.tops[0] if i == len(kept) - 1 else "")


def one(op: str, *attributes: str) -> Callable[[Site, Layer], None]:
    """The writer of a type that is a single op, whose attributes are called as the fields."""

    def writer(site: Site, layer: Layer) -> None:
        values = {name: getattr(layer, name) for name in attributes}
        site.op(op, site.bottoms, site.tops[0], **values)

    return writer


def prelu(site: Site, layer: PReLU) -> None:
    """PRelu, with the slopes along the second axis."""
    (slope,) = site.blobs.values()
    ones = (1,) * (len(site.step.bottoms[0]) - 2)
    constant = site.constant("weight", slope.reshape(-1, *ones))
    site.op("PRelu", [site.bottoms[0], constant], site.tops[0])


def bias(site: Site, layer: Bias) -> None:
    """Add; beta gets ones behind its axes."""
    spread = layer.spread(site.step.bottoms)
    x, *beta = site.bottoms
    beta = [site.reshape(beta[0], site.step.bottoms[1], spread)] if beta else []
    beta += [site.constant("bias", blob.reshape(spread)) for blob in site.blobs.values()]
    site.op("Add", [x, *beta], site.tops[0])


def tile(site: Site, layer: Tile) -> None:
    """Tile."""
    shape = site.step.bottoms[0]
    repeats = [1] * len(shape)
    repeats[axis_index(layer.axis, shape)] = layer.tiles
    site.op("Tile", [site.bottoms[0], site.sizes("repeats", repeats)], site.tops[0])


def reduction(site: Site, layer: Reduction) -> None:
    """Flatten to a matrix, one op along its second axis, and a factor."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    op = {"ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean", "SUM": "ReduceSum"}
    kind = op[layer.operation]
    x = site.op("Flatten", [site.bottoms[0]], axis=axis_index(layer.axis, shape))
    y = site.reduce(kind, x, (1,), keepdims=0)
    same = len(top_shape) == 1
    y = site.op("Mul", [y, site.number("coeff", layer.coeff)], site.tops[0] if same else "")
    if not same:
        site.reshape(y, (count(top_shape),), top_shape, site.tops[0])


def threshold(site: Site, layer: Threshold) -> None:
    """Greater, as a number."""
    y = site.op("Greater", [site.bottoms[0], site.number("threshold", layer.threshold)])
    site.op("Cast", [y], site.tops[0], to=1)  # TensorProto.FLOAT


def mvn(site: Site, layer: MVN) -> None:
    """In single steps: ONNX's own adds eps elsewhere."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    axes = (1, 2, 3) if layer.across_channels else (2, 3)
    (x,), (top,) = site.bottoms, site.tops
    x = site.reshape(x, shape, top_shape)
    mean = site.reduce("ReduceMean", x, axes)
    if not layer.normalize_variance:
        site.op("Sub", [x, mean], top)
        return
    centred = site.op("Sub", [x, mean])
    square = site.reduce("ReduceMean", site.op("Mul", [centred, centred]), axes)
    deviation = site.op("Add", [site.op("Sqrt", [square]), site.number("eps", layer.eps)])
    site.op("Div", [centred, deviation], top)


def embed(site: Site, layer: Embed) -> None:
    """Gather, and Add."""
    weight, *bias = (site.constant(name, blob) for name, blob in site.blobs.items())
    rows = site.op("Cast", [site.bottoms[0]], to=7)  # TensorProto.INT64
    y = site.op("Gather", [weight, rows], "" if bias else site.tops[0])
    if bias:
        site.op("Add", [y, *bias], site.tops[0])


def filter_(site: Site, layer: Filter) -> None:
    """Compress."""
    *values, selector = site.bottoms
    shape = site.step.bottoms[-1]
    chosen = site.op("Cast", [site.reshape(selector, shape, shape[:1])], to=BOOL)
    for value, top in zip(values, site.tops, strict=True):
        site.op("Compress", [value, chosen], top, axis=0)


def batch_reindex(site: Site, layer: Layer) -> None:
    """Gather."""
    x, places = site.bottoms
    site.op("Gather", [x, site.op("Cast", [places], to=7)], site.tops[0])


def parameter(site: Site, layer: Layer) -> None:
    """An initializer, under the top's name by Identity."""
    (weight,) = site.blobs.values()
    site.op("Identity", [site.constant("weight", weight)], site.tops[0])


def swish(site: Site, layer: Swish) -> None:
    """Mul by a Sigmoid."""
    (x,) = site.bottoms
    scaled = site.op("Mul", [x, site.number("beta", layer.beta)])
    site.op("Mul", [x, site.op("Sigmoid", [scaled])], site.tops[0])


def clip(site: Site, layer: Clip) -> None:
    """Clip; where the limits cross, which it does not define, Min and Max."""
    assert layer.min is not None
    assert layer.max is not None
    if layer.min <= layer.max:
        limits = (site.number("min", layer.min), site.number("max", layer.max))
        site.op("Clip", [*site.bottoms, *limits], site.tops[0])
        return
    y = site.op("Min", [site.bottoms[0], site.number("max", layer.max)])
    site.op("Max", [y, site.number("min", layer.min)], site.tops[0])


def axpy(site: Site, layer: Axpy) -> None:
    """Mul and Add; the factor gets ones behind its axes."""
    factor, x, y = site.bottoms
    shape, spread = site.step.bottoms[:2]
    factor = site.reshape(factor, shape, (*shape[:2], *(1 for _ in spread[2:])))
    site.op("Add", [site.op("Mul", [factor, x]), y], site.tops[0])


def bn(site: Site, layer: BN) -> None:
    """The BatchNorm that it is, on four axes.

    Raises:
        UnknownLayerError: on fewer.
    """
    shape = site.step.bottoms[0]
    if len(shape) != 4:
        raise UnknownLayerError(
            f"layer '{layer.name}' (BN): on {len(shape)} axes it cannot be written as ONNX"
        )
    names = ("mean", "variance", "scale_factor", "weight", "bias")
    blobs = layer.batch_norm_blobs(list(site.blobs.values()))
    within = replace(site, blobs=dict(zip(names, blobs, strict=True)))
    batch_norm(within, layer.as_batch_norm())


def interp(site: Site, layer: Interp) -> None:
    """Resize between the corners, of what the pads leave."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    x = site.reshape(site.bottoms[0], shape, legacy(shape))
    seen = layer.seen(shape)
    if layer.pad_beg or layer.pad_end:
        ends = (layer.pad_end or END,) * 2
        bounds = {"starts": (-layer.pad_beg,) * 2, "ends": ends, "axes": (2, 3)}
        x = site.op("Slice", [x, *(site.sizes(name, values) for name, values in bounds.items())])
    if not site.graph.any_size or any(len(bottom) != 4 for bottom in site.step.bottoms):
        size = [site.constant("scales", scales(seen, top_shape[2:]))]
    else:
        size = ["", site.op("Concat", [sides(site, x, 0, 2), new_sides(site, layer, x)], axis=0)]
    site.op(
        "Resize",
        [x, "", *size],
        site.tops[0],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


def new_sides(site: Site, layer: Interp, seen: str) -> str:
    """Rows and columns of the top when it runs, as the layer's ``size`` has them."""
    if len(site.bottoms) == 2:
        return sides(site, site.bottoms[1], 2, 4)
    if layer.is_fixed:
        return site.sizes("size", (layer.height, layer.width))
    one = site.sizes("one", (1,))
    steps = site.op("Sub", [sides(site, seen, 2, 4), one])
    for op, name in (("Div", "shrink_factor"), ("Mul", "zoom_factor")):
        steps = site.op(op, [steps, site.sizes(name, (getattr(layer, name),))])
    return site.op("Add", [steps, one])


def scales(old: Sequence[int], new: Sequence[int]) -> Array:
    """Resize's factors, float32, of the batch, the channels and each side.

    They are as large as they have to be that a runtime which rounds down gets the new size.
    """
    import numpy as np

    factors = np.array([1, 1, *(b / a for a, b in zip(old, new, strict=True))], np.float32)
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        while a * float(factors[2 + i]) < b:
            factors[2 + i] = np.nextafter(factors[2 + i], np.float32(np.inf))
    return factors


def normalize(site: Site, layer: Normalize) -> None:
    """Div by a length, Mul by a scale, in single steps on four axes."""
    shape = site.step.bottoms[0]
    x = site.reshape(site.bottoms[0], shape, legacy(shape))
    square = site.reduce("ReduceSumSquare", x, layer.axes)
    length = site.op("Sqrt", [site.op("Add", [square, site.number("eps", layer.eps)])])
    scale = site.constant("weight", site.blobs["weight"].reshape(-1, 1, 1))
    same = len(shape) == 4
    y = site.op("Mul", [site.op("Div", [x, length]), scale], site.tops[0] if same else "")
    if not same:
        site.reshape(y, legacy(shape), shape, site.tops[0])


def permute(site: Site, layer: Permute) -> None:
    """Transpose."""
    site.op("Transpose", site.bottoms, site.tops[0], perm=layer.axes(site.step.bottoms[0]))


def relu6(site: Site, layer: ReLU6) -> None:
    """Clip; with a slope or a limit below 0 LeakyRelu and Min."""
    if not layer.negative_slope and layer.threshold >= 0:
        limits = (site.number("min", 0), site.number("threshold", layer.threshold))
        site.op("Clip", [*site.bottoms, *limits], site.tops[0])
        return
    y = site.op("LeakyRelu", site.bottoms, alpha=layer.negative_slope)
    site.op("Min", [y, site.number("threshold", layer.threshold)], site.tops[0])


def shuffle_channel(site: Site, layer: ShuffleChannel) -> None:
    """Transpose of groups and what they hold."""
    shape = site.step.bottoms[0]
    n, channels, size = shape[0], shape[1], count(shape[2:])
    groups = (n, layer.group, channels // layer.group, size)
    y = site.op("Transpose", [site.reshape(site.bottoms[0], shape, groups)], perm=(0, 2, 1, 3))
    if site.graph.any_size:
        site.op("Reshape", [y, site.op("Shape", site.bottoms)], site.tops[0])
    else:
        site.reshape(y, (n, groups[2], groups[1], size), shape, site.tops[0])


def argmax(site: Site, layer: ArgMax) -> None:
    """ArgMax, of equal values the last; or ReduceMax; or TopK of the values turned round."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    (x,), (top,) = site.bottoms, site.tops
    axis = 1
    if layer.axis is None:
        x = site.op("Flatten", [x], axis=1)
        shape = (shape[0], count(shape[1:]))
    else:
        axis = axis_index(layer.axis, shape)
    if layer.top_k > 1 or (layer.axis is None and layer.out_max_val):
        most(site, layer, x, shape, axis)
        return
    if layer.out_max_val:
        site.reduce("ReduceMax", x, (axis,), top)
        return
    places = site.op("ArgMax", [x], axis=axis, keepdims=1, select_last_index=1)
    same = layer.axis is not None
    y = site.op("Cast", [places], top if same else "", to=FLOAT)
    if not same:
        site.reshape(y, (shape[0], 1), top_shape, top)


def most(site: Site, layer: ArgMax, x: str, shape: Shape, axis: int) -> None:
    """The largest, of equal values the last first: TopK has the first first."""
    turned = site.op("Gather", [x, site.sizes("turned", range(shape[axis])[::-1])], axis=axis)
    values, places = site.between("values"), site.between("places")
    k = site.sizes("top_k", (layer.top_k,))
    site.node("TopK", [turned, k], [values, places], axis=axis)
    if layer.axis is not None and layer.out_max_val:
        site.op("Identity", [values], site.tops[0])
        return
    places = site.op("Sub", [site.sizes("last", (shape[axis] - 1,)), places])
    if layer.axis is not None:
        site.op("Cast", [places], site.tops[0], to=FLOAT)
        return
    rows = [site.op("Cast", [places], to=FLOAT), *([values] if layer.out_max_val else [])]
    both = site.op("Concat", rows, axis=1) if len(rows) > 1 else rows[0]
    old = (shape[0], len(rows) * layer.top_k)
    site.reshape(both, old, site.step.tops[0], site.tops[0])


WRITERS: dict[str, Callable[[Site, Any], None]] = {
    "AbsVal": one("Abs"),
    "ArgMax": argmax,
    "Axpy": axpy,
    "BN": bn,
    "BNLL": one("Softplus"),
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
    "DetectionOutput": detection_output,
    "Dropout": copies,
    "ELU": one("Elu", "alpha"),
    "Eltwise": eltwise,
    "Embed": embed,
    "Exp": exp,
    "Filter": filter_,
    "Flatten": reshape,
    "Im2col": im2col,
    "InnerProduct": inner_product,
    "Interp": interp,
    "LRN": lrn,
    "LSTM": recurrent,
    "LSTMUnit": lstm_unit,
    "Log": log,
    "MVN": mvn,
    "Normalize": normalize,
    "PReLU": prelu,
    "PSROIPooling": psroi_pooling,
    "Parameter": parameter,
    "Permute": permute,
    "Pooling": pooling,
    "Power": power,
    "PriorBox": prior_box,
    "RNN": recurrent,
    "Proposal": proposal,
    "ROIPooling": roi_pooling,
    "ReLU": relu,
    "ReLU6": relu6,
    "Reduction": reduction,
    "Reshape": reshape,
    "SPP": spp,
    "Scale": scale,
    "ShuffleChannel": shuffle_channel,
    "Sigmoid": one("Sigmoid"),
    "Silence": copies,
    "Slice": slice_,
    "Softmax": softmax,
    "Split": copies,
    "Swish": swish,
    "TanH": one("Tanh"),
    "Threshold": threshold,
    "Tile": tile,
    "Upsample": upsample,
}
"""How the nodes of each layer type are added; Input is the graph's own."""
