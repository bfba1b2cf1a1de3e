"""Ops of ONNX -> Caffe's layers, a function for each: the way back of ``formats/onnx.py``.

A function takes a ``Site`` and gives what the node gives: a blob, a list of them, or a constant.
What has no way that is exact raises ``NoWayError``. Only layers of mainline Caffe are drawn, and
of these such as Caffe 1.0 has. Source of what an op means: onnx/docs/Operators.md, and
onnx/docs/Changelog.md for older versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from resnet_proto.formats.onnx_axes import (
    concat,
    expand,
    flatten,
    gather,
    reshape,
    slice_,
    split_,
    squeeze,
    tile,
    transpose,
    turned_to,
    unsqueeze,
)
from resnet_proto.formats.onnx_draft import (
    Around,
    Blob,
    NoWayError,
    Site,
    Turned,
    along_axis,
    broadcast_shape,
    span_of,
)
from resnet_proto.formats.onnx_windows import (
    average_pool,
    conv,
    conv_transpose,
    depth_to_space,
    global_pool,
    max_pool,
    pad,
    resize,
    space_to_depth,
    two,
)
from resnet_proto.layers import Shape, count, dims

if TYPE_CHECKING:
    from resnet_proto.formats.onnx_draft import Drawn, Values

ROUNDED = 1e-6
"""How far two float32 factors that undo each other may be from doing so."""
FLOATS = (1, 10, 11, 16)
"""Numbers of TensorProto.DataType: float, float16, double, bfloat16. All become float32."""


# ---- products with a matrix


def gemm(site: Site) -> Blob:
    """InnerProduct, which flattens by itself; another C than a bias is added behind."""
    import numpy as np

    weight = site.weight(1, "B")
    blob = site.blob(0)
    if site.attribute("transA", 0):
        raise NoWayError("transA: no layer turns a matrix round")
    if weight.ndim != 2 or len(blob.shape) != 2:
        raise NoWayError(f"it takes matrices, and has {dims(blob.shape)} and {dims(weight.shape)}")
    if not site.attribute("transB", 0):
        weight = weight.T
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    if alpha != 1:
        weight = weight * np.float32(alpha)
    if not site.has(2) or beta == 0:
        return product_of(site, blob, weight, [])
    if site.is_constant(2):
        offset = site.weight(2, "C") * np.float32(beta)
        n = weight.shape[0]
        if offset.size == 1 or offset.shape in ((n,), (1, n)):
            return product_of(site, blob, weight, [np.broadcast_to(offset.reshape(-1), (n,))])
        return plus(site, product_of(site, blob, weight, []), offset, "C")
    if beta != 1:
        raise NoWayError("beta is not 1, and C is computed")
    return joined(site, "SUM", product_of(site, blob, weight, []), site.blob(2), "C")


def matmul(site: Site) -> Blob:
    """InnerProduct without a bias, along the last axis."""
    weight = site.weight(1, "second factor")
    blob = site.blob(0)
    if weight.ndim == 1:
        top = product_of(site, blob, weight.reshape(1, -1), [])
        return site.reshaped(top, blob.shape[:-1], "axes")
    if weight.ndim != 2 or len(blob.shape) < 2:
        raise NoWayError(
            f"{dims(blob.shape)} times {dims(weight.shape)} is no product with one matrix"
        )
    return product_of(site, blob, weight.T, [])


def product_of(site: Site, blob: Blob, weight: Values, bias: Sequence[Values]) -> Blob:
    """An InnerProduct along the last axis, of what a Flatten joined where it can be."""
    if not blob.shape or blob.shape[-1] != weight.shape[1]:
        raise NoWayError(f"{dims(blob.shape)} does not fit a weight of {dims(weight.shape)}")
    root = blob.root
    if (
        root is not None
        and len(blob.shape) == 2 <= len(root.shape)
        and root.shape[0] == blob.shape[0]
    ):
        blob = root
        axis = 1
    else:
        axis = len(blob.shape) - 1
    param: dict[str, Any] = {"num_output": weight.shape[0]}
    if axis != 1:
        param["axis"] = axis
    if not bias:
        param["bias_term"] = False
    return site.add("InnerProduct", [blob], "", [weight, *bias], **param)


# ---- a factor and an offset


def batch_norm(site: Site) -> Blob:
    """BatchNorm and, unless gamma is 1 and beta 0, Scale."""
    import numpy as np

    if site.attribute("training_mode", 0) or site.n_outputs > 1:
        raise NoWayError("it is in training mode; export the model for inference")
    if not site.attribute("spatial", 1):
        raise NoWayError("spatial 0: a mean for each value, and not for each channel")
    if site.version < 7 and not site.attribute("is_test", 0):
        raise NoWayError("it is in training mode; export the model for inference")
    blob = site.blob(0)
    values = [site.weight(i + 1, what) for i, what in enumerate(("scale", "B", "mean", "var"))]
    if len(blob.shape) < 2 or any(value.shape != blob.shape[1:2] for value in values):
        raise NoWayError(f"its statistics do not fit its input, {dims(blob.shape)}")
    gamma, beta, mean, variance = values
    before = site.ending(blob, "Bias")
    if before is not None and not mean.any() and by_channel(before, blob):
        (blob,), mean = before.bottoms, -before.arrays[0]  # it was subtracted apart
    eps = site.attribute("epsilon", 1e-5)
    param: dict[str, Any] = {} if np.float32(eps) == np.float32(1e-5) else {"eps": eps}
    arrays = [mean, variance, np.ones(1, np.float32)]
    y = site.add("BatchNorm", [blob], "", arrays, use_global_stats=True, **param)
    if (gamma == 1).all() and not beta.any():
        return y
    return site.add("Scale", [y], "scale", [gamma, beta], bias_term=True)


def by_channel(drawn: Drawn, blob: Blob) -> bool:
    """Whether a Scale or Bias has a value for each channel of its top."""
    values = drawn.param.get("axis", 1), drawn.param.get("num_axes", 1)
    return values == (1, 1) and len(drawn.bottoms) == 1 and len(blob.shape) > 1


def times(site: Site, blob: Blob, factor: Values) -> Blob:
    """Power for one number, else Scale."""
    import numpy as np

    blob, factor = broadcast(site, blob, factor)
    if factor.size == 1:
        number = float(factor.reshape(-1)[0])
        return blob if number == 1 else site.add("Power", [blob], scale=number)
    before = site.ending(blob, "Scale")
    if before is not None and before.factors:
        undone = np.float64(before.arrays[0]) * factor.reshape(factor.shape[-2:])
        if (abs(undone - 1) < ROUNDED).all():
            pool = before.bottoms[0].maker
            assert pool is not None
            pool.label = site.label
            top = Blob(blob.shape, maker=pool)
            pool.tops = [top]
            return top
    values, axes = along(factor, blob.shape)
    return site.add("Scale", [blob], "", [values], **axes)


def plus(site: Site, blob: Blob, offset: Values, suffix: str = "") -> Blob:
    """Power for one number, else Bias; or the bias of the layer before."""
    blob, offset = broadcast(site, blob, offset)
    if offset.size == 1:
        number = float(offset.reshape(-1)[0])
        power = site.ending(blob, "Power")
        if power is not None and not {"shift", "power"} & power.param.keys() and number:
            power.param["shift"] = number
            return site.joined(power)
        return site.add("Power", [blob], suffix, shift=number) if number else blob
    values, axes = along(offset, blob.shape)
    before = site.ending(blob, "Scale", "Convolution", "Deconvolution", "InnerProduct")
    if before is not None and len(before.bottoms) == 1 and takes_bias(before, blob, axes):
        before.param = {k: v for k, v in before.param.items() if k != "bias_term"}
        if before.type == "Scale":
            before.param["bias_term"] = True
        before.arrays.append(values)
        return site.joined(before)
    return site.add("Bias", [blob], suffix, [values], **axes)


def takes_bias(drawn: Drawn, top: Blob, axes: dict[str, int]) -> bool:
    """Whether a layer of one weight may have an offset along these axes too."""
    if len(drawn.arrays) != 1 or drawn.factors:
        return False
    if drawn.type == "Scale":
        return axes == {k: v for k, v in drawn.param.items() if k in ("axis", "num_axes")}
    return not axes and (drawn.type != "InnerProduct" or len(top.shape) == 2)


def broadcast(site: Site, blob: Blob, value: Values) -> tuple[Blob, Values]:
    """A blob as large as it and a constant broadcast to, and the constant with as many axes."""
    import numpy as np

    shape = broadcast_shape(blob.shape, value.shape)
    if shape != blob.shape:
        blob = site.spread(blob, shape)
    value = np.asarray(value, np.float32)
    return blob, value.reshape((1,) * (len(shape) - value.ndim) + value.shape)


def along(value: Values, shape: Shape) -> tuple[Values, dict[str, int]]:
    """A constant as the blob of Scale or Bias, and the axes of the bottom that it lies along."""
    import numpy as np

    first, end = span_of(value.shape)
    wide = np.broadcast_to(value.reshape(value.shape[first:end]), shape[first:end])
    axes = {} if first == 1 else {"axis": first}
    return wide, axes if end == first + 1 else {**axes, "num_axes": end - first}


def joined(site: Site, operation: str, a: Blob, b: Blob, suffix: str = "") -> Blob:
    """Two blobs by SUM, PROD or MAX: Eltwise, or where one is smaller Scale or Bias."""
    shape = broadcast_shape(a.shape, b.shape)
    if a.shape != shape and b.shape == shape:
        a, b = b, a
    if a.shape == shape != b.shape and operation != "MAX":
        first, end = span_of((1,) * (len(shape) - len(b.shape)) + b.shape)
        if first == end:
            first, end = 0, 1
        if count(b.shape) == count(shape[first:end]):
            if first == 1 and shape[0] == 1:
                first = 0  # with the batch, as it is where that is larger
            smaller = site.reshaped(b, shape[first:end], "factor")
            type = "Scale" if operation == "PROD" else "Bias"
            return site.add(type, [a, smaller], suffix, **along_axis(first))
    a, b = site.spread(a, shape), site.spread(b, shape)
    param: dict[str, Any] = {} if operation == "SUM" else {"operation": operation}
    return site.add("Eltwise", [a, b], suffix, **param)


def add(site: Site) -> Blob:
    """Add and Sum: of blobs Eltwise, with a constant an offset."""
    blobs, constants = split(site)
    top = together(site, "SUM", blobs, last=not constants)
    for value in constants:
        top = plus(site, top, value)
    return top


def mul(site: Site) -> Blob:
    """Eltwise, or a factor."""
    blobs, constants = split(site)
    top = together(site, "PROD", blobs, last=not constants)
    for value in constants:
        top = times(site, top, value)
    return top


def split(site: Site) -> tuple[list[Blob], list[Values]]:
    """The inputs that are computed, and those that are not."""
    places = range(len(site.inputs))
    constants = [site.constant(i, "input") for i in places if site.is_constant(i)]
    return [site.blob(i) for i in places if not site.is_constant(i)], constants


def together(site: Site, operation: str, blobs: Sequence[Blob], *, last: bool = True) -> Blob:
    """Any number of blobs, in one Eltwise where they have one shape."""
    top = blobs[0]
    if len(blobs) > 2 and len({blob.shape for blob in blobs}) == 1:
        param: dict[str, Any] = {} if operation == "SUM" else {"operation": operation}
        return site.add("Eltwise", blobs, "" if last else operation.lower(), **param)
    for i, blob in enumerate(blobs[1:], 2):
        top = joined(site, operation, top, blob, "" if last and i == len(blobs) else f"{i}")
    return top


def sub(site: Site) -> Blob:
    """Eltwise with a coefficient of -1; with a constant an offset."""
    if site.is_constant(1):
        return plus(site, site.blob(0), -site.weight(1, "input"))
    if site.is_constant(0):
        negative = site.add("Power", [site.blob(1)], "neg", scale=-1)
        return plus(site, negative, site.weight(0, "input"))
    a, b = site.blob(0), site.blob(1)
    if a.shape == b.shape:
        return site.add("Eltwise", [a, b], coeff=(1.0, -1.0))
    return joined(site, "SUM", a, site.add("Power", [b], "neg", scale=-1))


def div(site: Site) -> Blob:
    """A factor, or a product with the reciprocal."""
    import numpy as np

    if site.is_constant(1):
        with np.errstate(all="ignore"):
            factor = (1 / site.constant(1, "divisor").astype(np.float64)).astype(np.float32)
        return times(site, site.blob(0), factor)
    below = site.add("Power", [site.blob(1)], "reciprocal", power=-1)
    if site.is_constant(0):
        return times(site, below, site.weight(0, "input"))
    return joined(site, "PROD", site.blob(0), below)


def maximum(site: Site) -> Blob:
    """Eltwise MAX; with 0 ReLU, with another constant a blob that is full of it."""
    blobs, constants = split(site)
    top = together(site, "MAX", blobs, last=not constants)
    for i, value in enumerate(constants, 1):
        top = at_least(site, top, value, "" if i == len(constants) else f"max{i}")
    return top


def minimum(site: Site) -> Blob:
    """The maximum of what is negated."""
    blobs, constants = split(site)
    top = blobs[0]
    if len(blobs) > 1:
        others = [negated(site, blob, f"neg{i}") for i, blob in enumerate(blobs, 1)]
        top = together(site, "MAX", others, last=False)
        top = negated(site, top, "min" if constants else "")
    for i, value in enumerate(constants, 1):
        top = at_most(site, top, value, "" if i == len(constants) else f"min{i}")
    return top


def negated(site: Site, blob: Blob, suffix: str = "") -> Blob:
    """A Power of scale -1; twice is nothing."""
    before = blob.maker
    if before is not None and before.type == "Power" and before.param == {"scale": -1}:
        return before.bottoms[0]
    return site.add("Power", [blob], suffix, scale=-1)


def at_least(site: Site, blob: Blob, value: Values, suffix: str = "") -> Blob:
    """The larger of a blob and a constant, exactly."""
    if value.size == 1 and broadcast_shape(blob.shape, value.shape) == blob.shape:
        number = float(value.reshape(-1)[0])
        if number == 0:
            return site.add("ReLU", [blob], suffix)
        if number == float("-inf"):
            return blob
        other = site.add("Power", [blob], within(suffix, "value"), scale=0, shift=number)
        return site.add("Eltwise", [blob, other], suffix, operation="MAX")
    return joined(site, "MAX", blob, site.parameter(value), suffix)


def at_most(site: Site, blob: Blob, value: Values, suffix: str = "") -> Blob:
    """The smaller of a blob and a constant: negated, the larger of both negated. Nothing rounds."""
    if value.size == 1 and value.reshape(-1)[0] == float("inf"):
        return blob
    y = at_least(site, negated(site, blob, within(suffix, "neg")), -value, within(suffix, "max"))
    return site.add("Power", [y], suffix, scale=-1)


def within(suffix: str, name: str) -> str:
    """The suffix of a layer among those that another suffix stands for."""
    return f"{suffix}/{name}" if suffix else name


def clip(site: Site) -> Blob:
    """First the lower limit, then the upper one, with which ReLU6 begins with a ReLU."""
    import numpy as np

    low, high = (
        np.float32(site.number(i, name) if site.has(i) else site.attribute(name, idle))
        for i, name, idle in ((1, "min", float("-inf")), (2, "max", float("inf")))
    )
    return clipped(site, site.blob(0), low, high)


def clipped(site: Site, blob: Blob, low: Any, high: Any, suffix: str = "") -> Blob:
    """Min(Max(x, low), high); limits that cross give the upper one."""
    import numpy as np

    if low == high:
        return site.add("Power", [blob], suffix, scale=0, shift=float(low))
    both = high != np.inf
    lower = at_least(site, blob, np.asarray(low), within(suffix, "low") if both else suffix)
    return at_most(site, lower, np.asarray(high), suffix)


# ---- value by value


def power_of(**values: Any) -> Callable[[Site], Blob]:
    """A Power of these fields."""
    return lambda site: site.add("Power", [site.blob(0)], **values)


def layer_of(type: str, **attributes: tuple[str, float]) -> Callable[[Site], Blob]:
    """A layer of one type, whose fields are the op's attributes: field -> name and default."""

    def write(site: Site) -> Blob:
        values = {field: site.attribute(*pair) for field, pair in attributes.items()}
        defaults = {field: default for field, (_, default) in attributes.items()}
        if type == "ELU" and values == defaults:
            values = {}
        return site.add(type, [site.blob(0)], **values)

    return write


def pow_(site: Site) -> Blob:
    """Power, or the power of the Power before it."""
    exponent = site.number(1, "exponent")
    blob = site.blob(0)
    if exponent == 1:
        return blob
    before = site.ending(blob, "Power")
    if before is not None and "power" not in before.param:
        before.param["power"] = exponent
        return site.joined(before)
    return site.add("Power", [blob], power=exponent)


def prelu(site: Site) -> Blob:
    """PReLU, with a slope for each channel or one for all."""
    slope, blob = site.weight(1, "slope"), site.blob(0)
    spread = (1,) * (len(blob.shape) - slope.ndim) + slope.shape
    if slope.size == 1:
        return site.add("PReLU", [blob], "", [slope.reshape(())], channel_shared=True)
    if span_of(spread) != (1, 2) or spread[1] != blob.shape[1]:
        raise NoWayError(f"its slope {dims(slope.shape)} is not one for each channel")
    return site.add("PReLU", [blob], "", [slope.reshape(-1)])


def selu(site: Site) -> Blob:
    """ELU, and a factor."""
    alpha, gamma = site.attribute("alpha", 1.67326319), site.attribute("gamma", 1.05070102)
    return site.add("Power", [site.add("ELU", [site.blob(0)], "elu", alpha=alpha)], scale=gamma)


def hard_sigmoid(site: Site) -> Blob:
    """Power, and its limits."""
    values = {"scale": site.attribute("alpha", 0.2), "shift": site.attribute("beta", 0.5)}
    return clipped(site, site.add("Power", [site.blob(0)], "linear", **values), 0.0, 1.0)


def hard_swish(site: Site) -> Blob:
    """The bottom times a hard sigmoid of it."""
    blob = site.blob(0)
    y = site.add("Power", [blob], "linear", scale=1 / 6, shift=0.5)
    return joined(site, "PROD", blob, clipped(site, y, 0.0, 1.0, "gate"))


def softsign(site: Site) -> Blob:
    """The bottom over 1 + its absolute value."""
    blob = site.blob(0)
    y = site.add("Power", [site.add("AbsVal", [blob], "abs")], "below", shift=1, power=-1)
    return joined(site, "PROD", blob, y)


def thresholded_relu(site: Site) -> Blob:
    """The bottom times a Threshold of it."""
    blob = site.blob(0)
    above = site.add("Threshold", [blob], "above", threshold=site.attribute("alpha", 1.0))
    return joined(site, "PROD", blob, above)


def greater(site: Site) -> Blob:
    """Threshold, 0 or 1."""
    return site.add("Threshold", [site.blob(0)], threshold=site.number(1, "second input"))


def cast(site: Site) -> Blob:
    """Nothing: every blob is of floats."""
    if site.attribute("to", 1) not in FLOATS:
        raise NoWayError("it makes other numbers than floats of its input")
    return site.blob(0)


def identity(site: Site) -> Any:
    """What it was."""
    return site.given(0, "input")


def dropout(site: Site) -> Blob:
    """Dropout, which copies."""
    if site.n_outputs > 1:
        raise NoWayError("its mask is read")
    if site.has(2) and bool(site.constant(2, "training_mode").any()):
        raise NoWayError("it is in training mode; export the model for inference")
    ratio = site.number(1, "ratio") if site.has(1) else site.attribute("ratio", 0.5)
    if not 0 < ratio < 1:
        return site.blob(0)
    return site.add("Dropout", [site.blob(0)], dropout_ratio=ratio)


# ---- statistics


def lrn(site: Site) -> Blob:
    """LRN, which has the same fields."""
    size = site.attribute("size", 5)
    alpha, beta, k = (
        site.attribute(*pair) for pair in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    if size < 1 or size % 2 == 0:
        raise NoWayError(f"size {size}: Caffe's local_size is odd")
    return site.add("LRN", [site.blob(0)], local_size=size, alpha=alpha, beta=beta, k=k)


def softmax(site: Site) -> Blob:
    """Softmax along an axis; before opset 13 along all axes from one on, which become one."""
    blob = site.blob(0)
    old = site.version < 13
    axis = site.axis(site.attribute("axis", 1 if old else -1), blob.shape)
    shape = blob.shape
    if old and count(shape[axis + 1 :]) != 1:
        blob = site.reshaped(blob, (count(shape[:axis]), count(shape[axis:])), "matrix")
        axis = 1
    if site.op == "Softmax":
        y = site.add("Softmax", [blob], **along_axis(axis))
    else:
        behind = count(blob.shape[axis + 1 :])
        if behind != 1 and (axis, len(shape)) != (1, 4):
            rows = (count(blob.shape[:axis]), blob.shape[axis], behind, 1)
            blob, axis = site.reshaped(blob, rows, "map"), 1
        y = log_softmax(site, blob, axis)
    return site.reshaped(y, shape, "axes")


def log_softmax(site: Site, blob: Blob, axis: int) -> Blob:
    """In steps, for the largest is 0 then: a Softmax may be 0, which has no logarithm."""
    largest = site.add("ArgMax", [blob], "max", axis=axis, out_max_val=True)
    centred = joined(site, "SUM", blob, negated(site, largest, "max/neg"), "centred")
    total = sum_along(site, site.add("Exp", [centred], "exp"), axis)
    log = negated(site, site.add("Log", [total], "log"), "log/neg")
    return joined(site, "SUM", centred, log)


def sum_along(site: Site, blob: Blob, axis: int) -> Blob:
    """The sum along an axis, which stays with size 1: a Reduction, or a Convolution of channels."""
    import numpy as np

    shape = blob.shape
    if all(size == 1 for size in shape[axis + 1 :]):
        y = site.add("Reduction", [blob], "sum", axis=axis)
        return site.reshaped(y, (*shape[:axis], 1, *shape[axis + 1 :]), "sum/axes")
    weight = np.ones((1, shape[1], *(1 for _ in shape[2:])), np.float32)
    param: dict[str, Any] = {"num_output": 1, "kernel_size": 1, "bias_term": False}
    return site.add("Convolution", [blob], "sum", [weight], **param)


REDUCTIONS = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceL1": "ASUM",
    "ReduceSumSquare": "SUMSQ",
    "ReduceL2": "SUMSQ",
    "ReduceMax": "MAX",
    "ReduceMin": "MIN",
}


def reduce(site: Site) -> Blob:
    """Pooling over rows and columns, Reduction of the last axes, Convolution of channels."""
    import numpy as np

    blob = site.blob(0)
    shape, kind = blob.shape, REDUCTIONS[site.op]
    given = site.whole_or_attribute(1, "axes")
    if not given and site.attribute("noop_with_empty_axes", 0):
        return blob
    axes = site.axes(given or range(len(shape)), shape)
    if not axes:
        raise NoWayError("its input is a scalar")
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    if site.attribute("keepdims", 1) != 1:
        kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    large = tuple(axis for axis in axes if shape[axis] != 1)
    if not large and kind in ("MEAN", "SUM", "MAX", "MIN"):
        return site.reshaped(blob, kept)
    large = large or axes[-1:]
    trailing = all(i in large or n == 1 for i, n in enumerate(shape) if i > large[0])
    same = "" if site.op not in ("ReduceL2", "ReduceMin") else "of"
    if kind == "MIN":
        blob = site.add("Power", [blob], "neg", scale=-1)
    if len(shape) == 4 and large == (2, 3) and kind in ("MEAN", "MAX", "MIN"):
        param: dict[str, Any] = {"pool": "AVE"} if kind == "MEAN" else {}
        y = site.add("Pooling", [blob], same, **param, global_pooling=True)
    elif kind in ("MAX", "MIN") and (len(large) == 1 or trailing):
        if len(large) > 1:
            rows = (*shape[: large[0]], count(shape[large[0] :]))
            blob = site.reshaped(blob, rows, "row")
        y = site.add("ArgMax", [blob], same, axis=large[0], out_max_val=True)
    elif len(shape) == 4 and large == (1,) and kind in ("MEAN", "SUM"):
        weight = np.full((1, shape[1], 1, 1), 1 / shape[1] if kind == "MEAN" else 1, np.float32)
        y = site.add("Convolution", [blob], "", [weight],
                     num_output=1, kernel_size=1, bias_term=False)  # fmt: skip
    elif trailing and kind in ("MEAN", "SUM", "ASUM", "SUMSQ"):
        operation: dict[str, Any] = {} if kind == "SUM" else {"operation": kind}
        y = site.add("Reduction", [blob], same, **operation, axis=large[0])
    else:
        raise NoWayError(
            f"over the axes {', '.join(map(str, axes))} of {dims(shape)}: Caffe has the maximum "
            "along an axis, the mean of channels, and sums over the last axes"
        )
    if kind == "MIN":
        y = site.add("Power", [y], scale=-1)
    if site.op == "ReduceL2":
        y = site.add("Power", [y], power=0.5)
    return site.reshaped(y, kept, "axes")


def argmax(site: Site) -> Blob:
    """ArgMax, of equal values the last."""
    blob = site.blob(0)
    axis = site.axis(site.attribute("axis", 0), blob.shape)
    if not site.attribute("select_last_index", 0):
        raise NoWayError("of equal values it takes the first, Caffe's ArgMax the last")
    y = site.add("ArgMax", [blob], axis=axis)
    kept = [n for i, n in enumerate(y.shape) if i != axis or site.attribute("keepdims", 1) == 1]
    return site.reshaped(y, tuple(kept), "axes")


def instance_norm(site: Site) -> Blob:
    """In single steps: MVN adds its eps elsewhere."""
    blob = site.blob(0)
    gamma, beta = site.weight(1, "scale"), site.weight(2, "B")
    shape = blob.shape
    if len(shape) not in (3, 4) or gamma.shape != shape[1:2] or beta.shape != shape[1:2]:
        raise NoWayError(f"its input is {dims(shape)}; (N, C, H, W) and a scale for each channel")
    y = normalised(
        site, site.reshaped(blob, (*shape, 1)[:4], "map"), site.attribute("epsilon", 1e-5)
    )
    y = site.add("Scale", [y], "" if len(shape) == 4 else "scale", [gamma, beta], bias_term=True)
    return site.reshaped(y, shape)


def normalised(site: Site, blob: Blob, eps: float) -> Blob:
    """(x - mean) / sqrt(variance + eps) of each channel of each image, (N, C, H, W)."""
    centred = site.add("MVN", [blob], "centred", normalize_variance=False)
    square = site.add("Power", [centred], "square", power=2)
    variance = site.add("Pooling", [square], "variance", pool="AVE", global_pooling=True)
    factor = site.add("Power", [variance], "factor", shift=eps, power=-0.5)
    flat = site.reshaped(factor, blob.shape[:2], "flat")
    return site.add("Scale", [centred, flat], "normalised", axis=0)


def group_norm(site: Site) -> Blob:
    """As InstanceNormalization, of groups of channels."""
    blob = site.blob(0)
    gamma, beta = site.weight(1, "scale"), site.weight(2, "bias")
    shape, groups = blob.shape, site.attribute("num_groups", 1)
    if len(shape) != 4 or shape[1] % max(groups, 1) or not gamma.shape == beta.shape == shape[1:2]:
        raise NoWayError(f"its input is {dims(shape)}; (N, C, H, W) and a scale for each channel")
    rows = (shape[0], groups, count(shape[1:]) // groups, 1)
    y = normalised(site, site.reshaped(blob, rows, "groups"), site.attribute("epsilon", 1e-5))
    y = site.reshaped(y, shape, "map")
    return site.add("Scale", [y], "", [gamma, beta], bias_term=True)


# ---- values whose axes wait in another order


def applied(site: Site) -> Any:
    """What a node gives. Value by value, and along axes, axes in another order are no matter."""
    turned = [value for value in site.inputs if isinstance(value, Turned)]
    if len({value.axes for value in turned}) == 1 and site.op in ANY_ORDER:
        others = [i for i, v in enumerate(site.inputs) if not (v is None or isinstance(v, Turned))]
        if all(site.is_constant(i) for i in others):
            return in_order(site, turned[0], others)
    return OPS[site.op](site)


def in_order(site: Site, turned: Turned, constants: Sequence[int]) -> Any:
    """The node on blobs as they lie in Caffe; what it gives waits likewise."""
    axes, n = turned.axes, len(turned.axes)
    inputs = [value.blob if isinstance(value, Turned) else value for value in site.inputs]
    attributes = dict(site.attributes)
    kept = list(range(n))
    if site.op == "Pad":
        if site.has(3):
            return OPS[site.op](site)
        begin, end = two(site.whole_or_attribute(1, "pads") or (), n)
        order = [axes.index(i) for i in range(n)]
        attributes["pads"] = tuple(side[i] for side in (begin, end) for i in order)
        inputs[1:2] = [None]
    elif site.op in REDUCTIONS:
        given = site.whole_or_attribute(1, "axes") or tuple(range(n))
        chosen = site.axes(given, (1,) * n)
        attributes["axes"] = tuple(axes[axis] for axis in chosen)
        inputs[1:] = []
        if site.attribute("keepdims", 1) != 1:
            kept = [axis for axis in kept if axis not in chosen]
    elif "axis" in attributes:
        attributes["axis"] = axes[site.axis(site.attribute("axis", 0), (1,) * n)]
    if site.op != "Pad" and site.op not in REDUCTIONS:
        for i in constants:
            value = site.constant(i, "input")
            wide = value.reshape((1,) * (n - value.ndim) + value.shape)
            inputs[i] = wide.transpose([axes.index(axis) for axis in range(n)])
    inner = Site(site.draft, site.op, site.label, site.version, inputs, attributes, site.n_outputs)
    result = OPS[site.op](inner)
    left = [axes[axis] for axis in kept]
    if left == sorted(left):
        return result
    if len(left) < n:
        raise NoWayError(f"its output has axes {', '.join(map(str, left))} in another order")
    if isinstance(result, Around):
        return Turned(result, axes, turned.label)
    return turned_to(site, result, axes, turned.label)


OPS: dict[str, Callable[[Site], Any]] = {
    "Abs": layer_of("AbsVal"),
    "Add": add,
    "ArgMax": argmax,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Div": div,
    "Dropout": dropout,
    "Elu": layer_of("ELU", alpha=("alpha", 1.0)),
    "Exp": layer_of("Exp"),
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Gemm": gemm,
    "GlobalAveragePool": global_pool("AVE"),
    "GlobalMaxPool": global_pool("MAX"),
    "Greater": greater,
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Identity": identity,
    "InstanceNormalization": instance_norm,
    "LRN": lrn,
    "LeakyRelu": layer_of("ReLU", negative_slope=("alpha", 0.01)),
    "Log": layer_of("Log"),
    "LogSoftmax": softmax,
    "MatMul": matmul,
    "Max": maximum,
    "MaxPool": max_pool,
    "Min": minimum,
    "Mul": mul,
    "Neg": power_of(scale=-1),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": pow_,
    "Reciprocal": power_of(power=-1),
    **dict.fromkeys(REDUCTIONS, reduce),
    "Relu": layer_of("ReLU"),
    "Reshape": reshape,
    "Resize": resize,
    "Selu": selu,
    "Sigmoid": layer_of("Sigmoid"),
    "Slice": slice_,
    "Softmax": softmax,
    "Softplus": layer_of("BNLL"),
    "Softsign": softsign,
    "SpaceToDepth": space_to_depth,
    "Split": split_,
    "Sqrt": power_of(power=0.5),
    "Squeeze": squeeze,
    "Sub": sub,
    "Sum": add,
    "Tanh": layer_of("TanH"),
    "ThresholdedRelu": thresholded_relu,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
"""Op -> what it becomes."""
ANY_ORDER = {
    "Abs", "Add", "Cast", "Clip", "Concat", "Div", "Dropout", "Elu", "Exp", "Greater",
    "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "PRelu", "Pad",
    "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Sum",
    "Tanh", "ThresholdedRelu", *REDUCTIONS,
}  # fmt: skip
"""Ops that are done value by value, or along axes that they name."""
