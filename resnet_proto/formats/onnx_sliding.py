"""Layers with windows -> nodes of ONNX: convolutions, pooling, and what is made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resnet_proto.errors import UnknownLayerError
from resnet_proto.formats.onnx_graph import FLOAT, INT64, product, sides
from resnet_proto.layers import Shape, axis_index, count
from resnet_proto.layers.detection_output import FLOAT_MAX
from resnet_proto.layers.pooling import Pair, Pooling

if TYPE_CHECKING:
    from resnet_proto.formats.onnx_graph import Site
    from resnet_proto.layers import (
        LRN,
        SPP,
        Convolution,
        Deconvolution,
        Im2col,
        Upsample,
    )


def convolution(site: Site, layer: Convolution) -> None:
    """Conv; behind the bottom the pad goes as far as windows reach."""
    convolve(site, layer, "Conv")


def deconvolution(site: Site, layer: Deconvolution) -> None:
    """ConvTranspose, whose weight lies as Caffe's."""
    convolve(site, layer, "ConvTranspose")


def convolve(
    site: Site, layer: Convolution | Deconvolution | Im2col, op: str, group: int = 0
) -> None:
    """One op for each bottom; it wants one axis before the channels, and at least one behind.

    ``group`` is the layer's own where it is 0.
    """
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    channel = axis_index(layer.axis, shape)
    spatial = shape[channel + 1 :]
    kernel, stride, pad, dilation = layer.windows(len(spatial))
    if 0 in dilation:
        raise UnknownLayerError(
            f"layer '{layer.name}' ({layer.type}): dilation 0 cannot be written as ONNX"
        )
    flat, flat_top = (
        (count(size[:channel]), size[channel], *(size[channel + 1 :] or (1,)))
        for size in (shape, top_shape)
    )
    weight, *bias = site.blobs.values()
    inputs = [site.constant("weight", weight.reshape(*weight.shape[:2], *(kernel or (1,))))]
    inputs += [site.constant("bias", value) for value in bias]
    same = flat_top == top_shape
    pads = (*pad, *(layer.end_pad(spatial) if op == "Conv" else pad)) or (0, 0)
    # OpenCV 5.0 takes a 1x1 Conv for one without pads, and gives wrong values.
    apart = op == "Conv" and count(kernel) == 1 and any(pads)
    for bottom, top in zip(site.bottoms, site.tops, strict=True):
        x = site.reshape(bottom, shape, flat)
        if apart:
            half = len(pads) // 2
            x = zeros_around(site, x, pads[:half], pads[half:])
        y = site.op(
            op,
            [x, *inputs],
            top if same else "",
            kernel_shape=kernel or (1,),
            strides=stride or (1,),
            pads=(0,) * len(pads) if apart else pads,
            dilations=dilation or (1,),
            group=group or layer.group,
        )
        if not same:
            site.reshape(y, flat_top, top_shape, top)


def im2col(site: Site, layer: Im2col) -> None:
    """Conv, whose kernels each take one value of one channel.

    Raises:
        UnknownLayerError: dilation 0.
    """
    import numpy as np

    shape = site.step.bottoms[0]
    channel = axis_index(layer.axis, shape)
    kernel = layer.windows(len(shape) - channel - 1)[0]
    one = np.eye(count(kernel), dtype=np.float32).reshape(-1, 1, *kernel)
    weight = np.tile(one, (shape[channel], *(1 for _ in one.shape[1:])))
    convolve(replace(site, blobs={"weight": weight}), layer, "Conv", group=shape[channel])


def pooling(site: Site, layer: Pooling) -> None:
    """MaxPool, or Pad and AveragePool, with end pads in the place of rounding up.

    Runtimes have been wrong about ceil_mode and about pads of averages, onnxruntime until
    2026 (#16203, #27375): neither is used.

    Raises:
        UnknownLayerError: STOCHASTIC.
    """
    import numpy as np

    layer.check_pool()
    shape = site.step.bottoms[0]
    kernel, stride, pad = layer.windows(shape)
    (x,), (top, *masks) = site.bottoms, site.tops
    if layer.global_pooling and not masks:
        site.op("GlobalMaxPool" if layer.pool == "MAX" else "GlobalAveragePool", [x], top)
        return
    any_size = site.graph.any_size
    if layer.pool == "MAX":
        ends = end_pads(layer, shape) if any_size else even_pads(layer, shape)
        pads = (*pad, *ends)
        places = [site.between("places") for _ in masks]
        windows = {"kernel_shape": kernel, "strides": stride, "pads": pads}
        site.node("MaxPool", [x], [top, *places], **windows)
        for mask, place in zip(masks, places, strict=True):  # ONNX counts on from map to map
            if any_size:
                area = product(site, sides(site, x, 2, 4))
            else:
                area = site.sizes("area", (count(shape[2:]),))
            site.op("Cast", [site.op("Mod", [place, area])], mask, to=FLOAT)
        return
    ends = end_pads(layer, shape) if any_size else layer.end_pad(shape)
    seen = zeros_around(site, x, pad, ends) if any((*pad, *ends)) else x
    # AveragePool divides by the whole kernel, Caffe's divisor ends with the padding.
    if any_size and ends != pad:
        y = site.op("AveragePool", [seen], kernel_shape=kernel, strides=stride)
        ones = zeros_around(site, ones_like(site, x), pad, pad, site.number("one", 1))
        ones = zeros_around(site, ones, (0, 0), (ends[0] - pad[0], ends[1] - pad[1]))
        share = site.op("AveragePool", [ones], kernel_shape=kernel, strides=stride)
        site.op("Div", [y, share], top)
        return
    x = seen
    factors = (count(kernel) / layer.divisors(shape)).astype(np.float32)
    whole = bool((factors == 1).all())
    y = site.op("AveragePool", [x], top if whole else "", kernel_shape=kernel, strides=stride)
    if not whole:
        site.op("Mul", [y, site.constant("factors", factors)], top)


def zeros_around(site: Site, x: str, before: Shape, behind: Shape, value: str = "") -> str:
    """A Pad along all axes but the first two; with ``value`` not of zeros.

    pnnx does not read one without its mode.
    """
    pads = site.sizes("pads", (0, 0, *before, 0, 0, *behind))
    return site.op("Pad", [x, pads, *([value] if value else [])], mode="constant")


def ones_like(site: Site, x: str) -> str:
    """An image of ones, of the size that ``x`` has when it runs.

    OpenCV 5.0 does not divide many maps by one.
    """
    import numpy as np
    from onnx import numpy_helper

    shape = site.op("Concat", [site.sizes("one_image", (1,)), sides(site, x, 1, 4)], axis=0)
    one = numpy_helper.from_array(np.ones(1, np.float32))
    return site.op("ConstantOfShape", [shape], value=one)


def even_pads(layer: Pooling, shape: Shape) -> Shape:
    """Pads behind the bottom at its own size: those before it, where windows are as many then.

    Of others pnnx has been wrong: where pads differ, it pads twice.
    """
    top = layer.top_shapes([shape])[0]
    sides = zip(shape[2:], top[2:], *layer.windows(shape), layer.end_pad(shape), strict=True)
    return tuple(
        p if (size + 2 * p - k) // s + 1 == out else end for size, out, k, s, p, end in sides
    )


def end_pads(layer: Pooling, shape: Shape) -> Pair:
    """Pads behind the bottom with which windows are as many as Caffe's at any size of it.

    Rounding up is a stride less one more. With a pad no window begins behind the image, so it
    reaches a kernel less one beyond. Without one some could, where strides are larger than kernels:
    then the pad is that of this size.
    """
    kernel, stride, pad = layer.windows(shape)
    sides = zip(kernel, stride, pad, layer.end_pad(shape), strict=True)
    row, column = (
        p if layer.floor
        else min(k, p + s) - 1 if any(pad) or k >= s
        else end
        for k, s, p, end in sides
    )  # fmt: skip
    return row, column


def upsample(site: Site, layer: Upsample) -> None:
    """ScatterElements into zeros, map by map; of several values at one place the last stays."""
    import numpy as np
    from onnx import numpy_helper

    (n, channels, *old), (top_shape,) = site.step.bottoms[0], site.step.tops
    flat = (n, channels, count(tuple(old)))
    values, mask = (site.reshape(bottom, site.step.bottoms[0], flat) for bottom in site.bottoms)
    moving = site.graph.any_size and not layer.is_fixed
    if moving:
        factors, less = layer.factors()
        size = site.op("Mul", [sides(site, site.bottoms[0], 2, 4), site.sizes("scale", factors)])
        size = site.op("Sub", [size, site.sizes("pad_out", less)])
        area = product(site, size)
    else:
        area = site.sizes("area", (count(top_shape[2:]),))
    shape = site.op("Concat", [sides(site, values, 0, 2), area], axis=0)
    zero = numpy_helper.from_array(np.zeros(1, np.float32))
    zeros = site.op("ConstantOfShape", [shape], value=zero)
    places = site.op("Cast", [mask], to=INT64)
    y = site.op("ScatterElements", [zeros, places, values], axis=2)
    if moving:
        shape = site.op("Concat", [sides(site, values, 0, 2), size], axis=0)
        site.op("Reshape", [y, shape], site.tops[0])
    else:
        site.reshape(y, (*flat[:2], count(top_shape[2:])), top_shape, site.tops[0])


def spp(site: Site, layer: SPP) -> None:
    """The pooling of each level, flattened, and Concat."""
    (shape,) = site.step.bottoms
    levels = list(layer.levels(shape))
    flat = []
    for i, level in enumerate(levels):
        value = site.tops[0] if len(levels) == 1 else site.graph.free(f"{site.step.label}/Pool")
        within = replace(site, tops=(value,), inner=len(levels) > 1)
        if site.graph.any_size:
            bins(within, level, 1 << i)
        else:
            pooling(within, level)
        if len(levels) > 1:
            flat.append(site.op("Flatten", [value], axis=1))
    if flat:
        site.op("Concat", flat, site.tops[0], axis=1)


def bins(site: Site, level: Pooling, n: int) -> None:
    """A level of n x n bins at any size: windows do not overlap, so each gets axes of its own.

    With a pad below its kernel, all that Caffe takes, no bin is without a pixel, and the last one
    ends where the padding does or before: an average divides by its whole window.

    Raises:
        UnknownLayerError: STOCHASTIC.
    """
    level.check_pool()
    (x,), (top,) = site.bottoms, site.tops
    largest = level.pool == "MAX"
    size, number = sides(site, x, 2, 4), site.sizes("bins", (n,))
    windows = site.op("Add", [size, site.sizes("bins_less_one", (n - 1,))])
    windows = site.op("Div", [windows, number])
    rest = site.op("Sub", [site.op("Mul", [windows, number]), size])
    behind = site.op("Div", [rest, site.sizes("two", (2,))])
    before = site.op("Sub", [rest, behind])
    none = site.sizes("none", (0, 0))
    pads = site.op("Concat", [none, before, none, behind], axis=0)
    value = site.number("least" if largest else "zero", -FLOAT_MAX if largest else 0)
    padded = site.op("Pad", [x, pads, value], mode="constant")
    row, column = site.split(windows, (1, 1), 0)
    kept = site.sizes("kept", (0, 0))
    shape = site.op("Concat", [kept, number, row, number, column], axis=0)
    parts = site.op("Reshape", [padded, shape])
    site.reduce("ReduceMax" if largest else "ReduceMean", parts, (3, 5), top, keepdims=0)


def lrn(site: Site, layer: LRN) -> None:
    """LRN, which has the same fields; within a channel an average of squares."""
    if layer.norm_region == "WITHIN_CHANNEL":
        (x,), (top,) = site.bottoms, site.tops
        mean = site.graph.free(f"{site.step.label}/mean")
        square = site.op("Mul", [x, x])
        pad = (layer.local_size - 1) // 2
        sizes = {"kernel_size": layer.local_size, "pad": pad}
        pool = Pooling.of(layer.name, "", "", pool="AVE", **sizes)
        pooling(replace(site, bottoms=(square,), tops=(mean,), inner=True), pool)
        y = site.op("Mul", [mean, site.number("alpha", layer.alpha)])
        y = site.op("Add", [y, site.number("one", 1)])
        y = site.op("Pow", [y, site.number("beta", -layer.beta)])
        site.op("Mul", [x, y], top)
        return
    fields = {"alpha": layer.alpha, "beta": layer.beta, "bias": layer.k, "size": layer.local_size}
    site.op("LRN", site.bottoms, site.tops[0], **fields)
