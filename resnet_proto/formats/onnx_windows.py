"""Ops of windows and sizes -> Convolution, Deconvolution, Pooling; see ``onnx_ops.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import NetError
from resnet_proto.formats.onnx_draft import (
    Around,
    Blob,
    NoWayError,
    Site,
    affordable,
    grown,
    pad_for,
    spelled,
)
from resnet_proto.layers import Pooling, Shape, dims

if TYPE_CHECKING:
    from resnet_proto.formats.onnx_draft import Values

MAX_MAP = 1 << 24
"""Values of a map that is computed here."""
TRIED = 3
"""Rows that are cut off a pooling with a larger pad, and one more."""
ROUNDED = 1e-6
"""How far two float32 factors that undo each other may be from doing so."""


def conv(site: Site) -> Blob:
    """Convolution, whose pad is the same on either side: else its kernel gets zeros there."""
    weight = site.weight(1, "weight")
    around, kernel, stride, dilation = convolved(site, weight)
    begin, end = pads(site, around, kernel, stride, dilation)
    group = site.attribute("group", 1)
    channels = around.blob.shape[1]
    if group < 1 or weight.shape[1] * group != channels or weight.shape[0] % group:
        raise NoWayError(
            f"weight {dims(weight.shape)} and group {group} do not fit {channels} channels"
        )
    sides = list(zip(around.blob.shape[2:], kernel, stride, dilation, begin, end, strict=True))
    out = [(n + b + e - d * (k - 1) - 1) // s + 1 for n, k, s, d, b, e in sides]
    if min(out) < 1:
        raise NoWayError(f"its kernel {dims(kernel)} is larger than what it reads")
    fits = []
    for i, ((n, k, s, d, b, e), size) in enumerate(zip(sides, out, strict=True)):
        fit = pad_for(n, k, s, d, b, e, size)
        if any(fit[1:]) and d > 1:
            weight = dilated(weight, i + 2, d)
            dilation = (*dilation[:i], 1, *dilation[i + 1 :])
        fits.append(fit)
    weight = grown(weight, fits)
    windows = spelled(weight.shape[2:], stride, tuple(fit[0] for fit in fits), dilation)
    return with_bias(site, "Convolution", around.blob, weight, weight.shape[0], group, windows)


def conv_transpose(site: Site) -> Blob:
    """Deconvolution; what it cuts off before and behind is made equal by zeros in its kernel."""
    weight = site.weight(1, "weight")
    around, kernel, stride, dilation = convolved(site, weight)
    blob = site.padded(around) if any((*around.begin, *around.end)) else around.blob
    group = site.attribute("group", 1)
    if group < 1 or weight.shape[0] != blob.shape[1] or blob.shape[1] % group:
        raise NoWayError(f"weight {dims(weight.shape)} does not fit {blob.shape[1]} channels")
    n = len(kernel)
    more = listed(site, "output_padding", n, 0)
    sides = list(zip(blob.shape[2:], kernel, stride, dilation, strict=True))
    full = [s * (size - 1) + d * (k - 1) + 1 for size, k, s, d in sides]
    begin, end = two(site.attribute("pads", (0,) * 2 * n), n)
    auto = site.attribute("auto_pad", "NOTSET")
    sizes = site.attribute("output_shape", ())[-n:]
    if not sizes and auto.startswith("SAME"):
        sizes = tuple(size * s for (size, _, s, _) in sides)
    if sizes:
        total = [f + m - size for f, m, size in zip(full, more, sizes, strict=True)]
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        begin = end = (0,) * n
    fits = []
    for i, (b, e, m) in enumerate(zip(begin, end, more, strict=True)):
        e -= m
        if b < 0:
            raise NoWayError("it would pad its output, which no layer does")
        fits.append((max(b, e), max(0, e - b), max(0, b - e)))
        if b != e and dilation[i] > 1:
            weight = dilated(weight, i + 2, dilation[i])
            dilation = (*dilation[:i], 1, *dilation[i + 1 :])
    weight = grown(weight, fits)
    windows = spelled(weight.shape[2:], stride, tuple(fit[0] for fit in fits), dilation)
    return with_bias(site, "Deconvolution", blob, weight, weight.shape[1] * group, group, windows)


def convolved(site: Site, weight: Values) -> tuple[Around, Shape, Shape, Shape]:
    """What Conv and ConvTranspose read, and their kernel, stride and dilation."""
    around = site.around(0)
    n = len(around.blob.shape) - 2
    if n < 2:
        raise NoWayError(
            f"its input {dims(around.blob.shape)} has {max(n, 0)} axes behind the channels, where "
            "Caffe's convolutions have rows and columns; export it as a 2-D one"
        )
    if weight.ndim != n + 2:
        raise NoWayError(f"its weight is {dims(weight.shape)}, its input {dims(around.blob.shape)}")
    kernel = weight.shape[2:]
    if 0 in weight.shape:
        raise NoWayError(f"its weight is {dims(weight.shape)}")
    if listed(site, "kernel_shape", n, kernel) != kernel:
        raise NoWayError(f"its kernel_shape is not that of its weight, {dims(weight.shape)}")
    return around, kernel, listed(site, "strides", n, 1), listed(site, "dilations", n, 1)


def with_bias(
    site: Site, type: str, blob: Blob, weight: Values, n: int, group: int, windows: dict[str, Any]
) -> Blob:
    """A layer of weights and, where the node has one, a bias."""
    arrays = [weight]
    if site.has(2):
        arrays.append(site.weight(2, "bias").reshape(-1))
        if arrays[1].shape != (n,):
            raise NoWayError(f"its bias has {arrays[1].size} values for {n} channels")
    param: dict[str, Any] = {"num_output": n, **windows}
    if group != 1:
        param["group"] = group
    if len(arrays) == 1:
        param["bias_term"] = False
    return site.add(type, [blob], "", arrays, **param)


def dilated(weight: Values, axis: int, dilation: int) -> Values:
    """A weight with its dilation as zeros between its values."""
    import numpy as np

    size = dilation * (weight.shape[axis] - 1) + 1
    affordable((*weight.shape[:axis], size, *weight.shape[axis + 1 :]))
    result = np.zeros((*weight.shape[:axis], size, *weight.shape[axis + 1 :]), np.float32)
    result[(*(slice(None),) * axis, slice(None, None, dilation))] = weight
    return result


def listed(site: Site, name: str, n: int, default: int | Shape) -> Shape:
    """An attribute with a value for each of n axes.

    Raises:
        NoWayError: another number of them, or values out of bounds.
    """
    values: Shape = site.attribute(name, (default,) * n if isinstance(default, int) else default)
    least = 0 if name == "output_padding" else 1
    if len(values) != n or min(values, default=least) < least or max(values, default=0) >= 1 << 31:
        raise NoWayError(f"its attribute '{name}' is {values}; {n} sizes are needed")
    return values


def two(values: Shape, n: int) -> tuple[Shape, Shape]:
    """Pads as those before and those behind."""
    if len(values) != 2 * n or max(map(abs, values), default=0) >= 1 << 31:
        raise NoWayError(f"its pads are {values}; {2 * n} sizes are needed")
    return values[:n], values[n:]


def pads(
    site: Site, around: Around, kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[Shape, Shape]:
    """All zeros before and behind: the node's own, and those that stand around its input."""
    n = len(kernel)
    begin, end = own_pads(site, around, kernel, stride, dilation)
    if min((*begin, *end), default=0) < 0:
        raise NoWayError("its pads are below 0")
    return (
        tuple(begin[i] + around.begin[i] for i in range(n)),
        tuple(end[i] + around.end[i] for i in range(n)),
    )


def own_pads(
    site: Site, around: Around, kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[Shape, Shape]:
    """The pads of a node, which ``auto_pad`` may stand for."""
    n = len(kernel)
    auto = site.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        return (0,) * n, (0,) * n
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        return two(site.attribute("pads", (0,) * 2 * n), n)
    totals = []
    for i, size in enumerate(around.blob.shape[2:]):
        size += around.begin[i] + around.end[i]
        out = -(-size // stride[i])
        reach = (out - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        totals.append(max(0, reach - size))
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def max_pool(site: Site) -> Blob:
    """Pooling MAX."""
    if site.n_outputs > 1:
        raise NoWayError("its indices are read; Caffe's mask counts otherwise")
    around = site.around(0)
    if any((*around.begin, *around.end)):
        maker = around.blob.maker
        positive = maker is not None and maker.type == "ReLU" and not maker.param
        if not positive:
            around = replace(around, blob=site.padded(around))
            around = replace(around, begin=(0, 0), end=(0, 0))
    return pooled(site, "MAX", around)


def average_pool(site: Site) -> Blob:
    """Pooling AVE; where its divisors are others, a Scale of rows and columns corrects them."""
    return pooled(site, "AVE", site.around(0))


def pooled(site: Site, pool: str, around: Around) -> Blob:
    """A Pooling whose windows are the op's, as far as the op has any."""
    import numpy as np

    if len(around.blob.shape) != 4:
        raise NoWayError(f"its input is {dims(around.blob.shape)}; Caffe pools rows and columns")
    kernel, stride = listed(site, "kernel_shape", 2, ()), listed(site, "strides", 2, 1)
    if set(listed(site, "dilations", 2, 1)) != {1}:
        raise NoWayError("dilations: Caffe's pooling has none")
    own = own_pads(site, around, kernel, stride, (1, 1))
    if min((*own[0], *own[1])) < 0:
        raise NoWayError("its pads are below 0")
    shape = around.blob.shape
    sizes = [shape[2 + i] + around.begin[i] + around.end[i] for i in range(2)]
    begin = tuple(own[0][i] + around.begin[i] for i in range(2))
    ceil = site.attribute("ceil_mode", 0)
    out = []
    for i in range(2):
        span = sizes[i] + own[0][i] + own[1][i] - kernel[i]
        n = (-(-span // stride[i]) if ceil else span // stride[i]) + 1
        if ceil and (n - 1) * stride[i] >= sizes[i] + own[0][i]:
            n -= 1
        out.append(n)
    if min(out) < 1:
        raise NoWayError(f"its kernel {dims(kernel)} is larger than what it reads")
    found = find_pooling(pool, shape, kernel, stride, begin, (out[0], out[1]))
    if found is None and any((*around.begin, *around.end)):
        return pooled(site, pool, Around(site.padded(around), (0, 0), (0, 0)))
    if found is None:
        raise NoWayError(
            f"windows of {dims(kernel)} by {dims(stride)} from {', '.join(str(-b) for b in begin)} "
            f"on, {dims(tuple(out))} of them, are no pooling of Caffe's on {dims(shape)}"
        )
    param, layer, skip = found
    counts = None
    if pool == "AVE":
        include = site.attribute("count_include_pad", 0)
        if out[0] * out[1] > MAX_MAP:
            raise NoWayError(f"an average of {dims(tuple(out))} windows")
        lengths = []
        for i in range(2):
            start = np.arange(out[i]) * stride[i] - begin[i]
            least = -begin[i] if include else -around.begin[i]
            most = shape[2 + i] + around.end[i] + (own[1][i] if include else 0)
            lengths.append(np.minimum(start + kernel[i], most) - np.maximum(start, least))
        wanted = lengths[0][:, None] * lengths[1]
        rows, columns = (slice(skip[i], skip[i] + out[i]) for i in range(2))
        counts = layer.divisors(shape)[rows, columns] / np.maximum(wanted, 1)
    cut = tuple(layer.top_shapes([shape])[0][2:]) != tuple(out)
    plain = counts is None or bool((counts == 1).all())
    y = site.add("Pooling", [around.blob], "" if plain and not cut else "pool", **param)
    for axis in (2, 3):
        first = skip[axis - 2]
        y = site.draft.part(f"{site.label}/part{axis}", y, axis, first, first + out[axis - 2])
    if plain or counts is None:
        return y
    factor = counts.astype(np.float32)
    top = site.add("Scale", [y], "", [factor], axis=2, num_axes=2)
    if top.maker is not None and not cut:
        top.maker.factors = True
    return top


def find_pooling(
    pool: str, shape: Shape, kernel: Shape, stride: Shape, begin: Shape, out: tuple[int, int]
) -> tuple[dict[str, Any], Pooling, tuple[int, int]] | None:
    """A Pooling that has the windows wanted, and how many rows and columns too many before them.

    Caffe's rounding up is tried first; windows of a larger pad are cut off.
    """
    best = None
    for more in product(range(TRIED), repeat=2):
        pad = tuple(begin[i] + more[i] * stride[i] for i in range(2))
        if any(pad[i] >= kernel[i] for i in range(2)):
            continue
        for mode in ({}, {"round_mode": "FLOOR"}):
            param = {**spelled(kernel, stride, pad), **mode}
            if pool != "MAX":
                param["pool"] = pool
            layer = Pooling.of("p", "b", "t", **param)
            try:
                top = layer.top_shapes([shape])[0][2:]
                layer.end_pad(shape)
            except NetError:
                continue
            spare = [top[i] - more[i] - out[i] for i in range(2)]
            if min(spare) < 0:
                continue
            found = (param, layer, (more[0], more[1]))
            if not any(more) and not any(spare):
                return found
            best = best or found
    return best


def global_pool(pool: str) -> Callable[[Site], Blob]:
    """Pooling over the whole map."""

    def write(site: Site) -> Blob:
        blob = site.blob(0)
        if len(blob.shape) != 4:
            raise NoWayError(f"its input is {dims(blob.shape)}; Caffe pools rows and columns")
        param: dict[str, Any] = {} if pool == "MAX" else {"pool": pool}
        return site.add("Pooling", [blob], **param, global_pooling=True)

    return write


def pad(site: Site) -> Any:
    """Zeros for the layer behind; where it has no pad a Convolution copies."""
    import numpy as np

    if site.attribute("mode", "constant") != "constant":
        raise NoWayError(f"mode {site.attribute('mode', 'constant')}: Caffe pads with zeros")
    values = site.whole_or_attribute(1, "pads") or site.attribute("paddings", ())
    fill = site.number(2, "value") if site.has(2) else site.attribute("value", 0.0)
    around = site.around(0)
    shape = around.blob.shape
    axes = range(len(shape))
    chosen = [site.axis(a, shape) for a in (site.whole(3, "axes") if site.has(3) else axes)]
    begin, end = two(tuple(values), len(chosen))
    before, behind = dict.fromkeys(axes, 0), dict.fromkeys(axes, 0)
    before |= dict(zip(chosen, begin, strict=True))
    behind |= dict(zip(chosen, end, strict=True))
    if not any((*begin, *end)):
        return site.given(0, "input")
    if fill:
        raise NoWayError(f"it pads with {fill:g}; Caffe pads with zeros")
    if before[0] or behind[0]:
        raise NoWayError("it pads the batch")
    if min((*begin, *end)) < 0:
        blob = site.blob(0)
        for axis in axes:
            first, last = max(0, -before[axis]), blob.shape[axis] + min(0, behind[axis])
            if first >= last:
                raise NoWayError("its pads leave nothing")
            blob = site.draft.part(f"{site.label}/part{axis}", blob, axis, first, last)
        around = Around(blob, (0,) * (len(shape) - 2), (0,) * (len(shape) - 2))
        before = {axis: max(0, n) for axis, n in before.items()}
        behind = {axis: max(0, n) for axis, n in behind.items()}
    if len(shape) > 1 and (before[1] or behind[1]):
        blob = site.padded(around) if any((*around.begin, *around.end)) else around.blob
        if len(shape) != 4:
            raise NoWayError(f"it pads the channels of {dims(shape)}")
        n = shape[1]
        weight = np.zeros((before[1] + n + behind[1], n, 1, 1), np.float32)
        weight[range(before[1], before[1] + n), range(n)] = 1
        param: dict[str, Any] = {
            "num_output": weight.shape[0],
            "kernel_size": 1,
            "bias_term": False,
        }
        blob = site.add("Convolution", [blob], "channels", [weight], **param)
        around = Around(blob, (0, 0), (0, 0))
    places = list(axes)[2:]
    if len(places) < 2 and any(before[a] or behind[a] for a in places):
        raise NoWayError(f"it pads {dims(shape)}; Caffe pads rows and columns")
    return Around(
        around.blob,
        tuple(before[a] + around.begin[i] for i, a in enumerate(places)),
        tuple(behind[a] + around.end[i] for i, a in enumerate(places)),
    )


def resize(site: Site) -> Blob:
    """Deconvolution of each channel by a fixed kernel, where that is exact.

    Where values at the border are clamped a Scale of rows and columns brings the weights' sum
    back to 1, which is the same.
    """
    import numpy as np

    blob = site.blob(0)
    if len(blob.shape) != 4:
        raise NoWayError(f"its input is {dims(blob.shape)}; rows and columns are what Caffe has")
    sizes, scales = new_sizes(site, blob.shape)
    if sizes[:2] != blob.shape[:2]:
        raise NoWayError("it makes more images or channels")
    if sizes == blob.shape:
        return blob
    maps = [line(site, *each) for each in zip(blob.shape[2:], sizes[2:], scales[2:], strict=True)]
    if all(new <= old for new, old in zip(sizes[2:], blob.shape[2:], strict=True)):
        return fewer(site, blob, maps)
    pairs = [pair for matrix in maps if (pair := kernel_of(matrix)) is not None]
    if len(pairs) < 2:
        mode = site.attribute("mode", "nearest")
        how = site.attribute("coordinate_transformation_mode", "half_pixel")
        raise NoWayError(
            f"mode {mode} ({how}) from {dims(blob.shape[2:])} to {dims(sizes[2:])} is no "
            "Deconvolution by a fixed kernel; whole factors are"
        )
    (rows, stride_h, pad_h, sum_h), (columns, stride_w, pad_w, sum_w) = pairs
    n = blob.shape[1]
    if max(len(rows) * len(columns), len(sum_h) * len(sum_w)) > MAX_MAP:
        raise NoWayError(f"a kernel of {len(rows)}x{len(columns)} for {dims(sizes)}")
    kernel = np.outer(rows, columns).astype(np.float32)
    param = spelled(kernel.shape, (stride_h, stride_w), (pad_h, pad_w))
    sums = np.outer(sum_h, sum_w)
    whole = bool((abs(sums - 1) < ROUNDED).all())
    y = site.add(
        "Deconvolution", [blob], "" if whole else "deconvolution",
        [np.broadcast_to(kernel, (n, 1, *kernel.shape))],
        num_output=n, group=n, bias_term=False, **param,
    )  # fmt: skip
    if whole:
        return y
    return site.add("Scale", [y], "", [(1 / sums).astype(np.float32)], axis=2, num_axes=2)


def fewer(site: Site, blob: Blob, maps: Sequence[Values]) -> Blob:
    """Every so many-th row and column."""
    found = []
    for matrix in maps:
        places = matrix.argmax(axis=1)
        step = int(places[1] - places[0]) if len(places) > 1 else 1
        single = ((matrix == 0) | (matrix == 1)).all() and (matrix.sum(axis=1) == 1).all()
        if not single or step < 1 or any(places != places[0] + step * range_of(places)):
            raise NoWayError("it makes a map smaller by more than leaving rows and columns out")
        found.append((int(places[0]), int(places[-1]) + 1, step))
    for axis, (_, end, _) in enumerate(found, 2):
        blob = site.draft.part(f"{site.label}/part{axis}", blob, axis, 0, end)
    around = Around(blob, (0, 0), (0, 0))
    return site.picked(around, tuple(f[0] for f in found), tuple(f[2] for f in found))


def range_of(values: Values) -> Values:
    """0, 1, 2 ..., as many as there are values."""
    import numpy as np

    return np.arange(len(values))


def new_sizes(site: Site, shape: Shape) -> tuple[Shape, tuple[float, ...]]:
    """The sizes that Resize or Upsample makes, and by which factors it computes."""
    axes = site.attribute("axes", tuple(range(len(shape))))
    at = {site.axis(axis, shape): i for i, axis in enumerate(axes)}
    first = 1 if site.op == "Upsample" or site.version < 11 else 2
    if site.has(3) and site.constant(3, "sizes").size:
        if site.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise NoWayError("keep_aspect_ratio_policy")
        given = site.whole(3, "sizes")
        sizes = tuple(
            given[at[i]] if at.get(i, 99) < len(given) else n for i, n in enumerate(shape)
        )
        return sizes, tuple(new / old for new, old in zip(sizes, shape, strict=True))
    if site.has(first):
        values = [float(v) for v in site.constant(first, "scales").reshape(-1)]
    else:
        values = [float(v) for v in site.attribute("scales", ())]
    if not values:
        raise NoWayError("it has neither sizes nor scales")
    scales = tuple(values[at[i]] if at.get(i, 99) < len(values) else 1.0 for i in range(len(shape)))
    if not all(0 < scale < 1 << 20 for scale in scales):
        raise NoWayError(f"its scales are {values}")
    return tuple(int(n * s) for n, s in zip(shape, scales, strict=True)), scales


def line(site: Site, old: int, new: int, scale: float) -> Values:
    """(new, old): what each row of the new map is of the rows of the old one."""
    import numpy as np

    mode = site.attribute("mode", "nearest")
    upsample = site.op == "Upsample" or site.version < 11
    how = (
        "asymmetric" if upsample else site.attribute("coordinate_transformation_mode", "half_pixel")
    )
    if mode not in ("nearest", "linear") or new < 1 or new * old > MAX_MAP:
        raise NoWayError(f"mode {mode}, to {new} rows or columns")
    if site.attribute("antialias", 0) or site.attribute("exclude_outside", 0):
        raise NoWayError("antialias or exclude_outside")
    i = np.arange(new, dtype=np.float64)
    places = {
        "half_pixel": (i + 0.5) / scale - 0.5,
        "pytorch_half_pixel": (i + 0.5) / scale - 0.5 if new > 1 else np.zeros(1),
        "asymmetric": i / scale,
        "align_corners": i * (old - 1) / (new - 1) if new > 1 else np.zeros(1),
    }
    if how not in places:
        raise NoWayError(f"coordinate_transformation_mode {how}")
    x = places[how]
    matrix = np.zeros((new, old))
    rows = np.arange(new)
    if mode == "linear":
        x = np.clip(x, 0, old - 1)
        low = np.floor(x).astype(int)
        np.add.at(matrix, (rows, low), 1 - (x - low))
        np.add.at(matrix, (rows, np.minimum(low + 1, old - 1)), x - low)
        return matrix
    rounds: dict[str, Callable[[Values], Values]] = {
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    nearest = "floor" if upsample else site.attribute("nearest_mode", "round_prefer_floor")
    if nearest not in rounds:
        raise NoWayError(f"nearest_mode {nearest}")
    matrix[rows, np.clip(rounds[nearest](x), 0, old - 1).astype(int)] = 1
    return matrix


def kernel_of(matrix: Values) -> tuple[Values, int, int, Values] | None:
    """Kernel, stride and pad whose transposed convolution is a matrix; and its rows' sums.

    Each row of the matrix adds up to 1: with the sums as divisors it is the matrix.
    """
    import numpy as np

    new, old = matrix.shape
    for kernel, stride, pad in kernels(new, old):
        full = np.zeros((stride * (old - 1) + len(kernel), old))
        for i in range(old):
            full[i * stride : i * stride + len(kernel), i] = kernel
        made = full[pad : len(full) - pad]
        sums = made.sum(axis=1)
        if made.shape == matrix.shape and sums.all() and np.allclose(
            made / sums[:, None], matrix, rtol=0, atol=1e-7
        ):  # fmt: skip
            return kernel, stride, pad, sums
    return None


def kernels(new: int, old: int) -> Iterator[tuple[Values, int, int]]:
    """Kernels that make maps larger: copies, between the middles, between the corners."""
    import numpy as np

    if new % old == 0:
        s = new // old
        yield np.ones(s), s, 0
        size = 2 * s - s % 2
        middle = (size - 1) / 2
        yield 1 - abs(np.arange(size) - middle) / s, s, (size - s) // 2
    if old > 1 and (new - 1) % (old - 1) == 0:
        s = (new - 1) // (old - 1)
        yield 1 - abs(np.arange(2 * s - 1) - (s - 1)) / s, s, s - 1


def depth_to_space(site: Site) -> Blob:
    """Deconvolution by a kernel of zeros and ones."""
    import numpy as np

    blob, size = site.blob(0), site.attribute("blocksize", 0)
    if len(blob.shape) != 4 or size < 1 or blob.shape[1] % (size * size) or size > 64:
        raise NoWayError(f"blocks of {size} of {dims(blob.shape)}")
    n = blob.shape[1] // (size * size)
    if site.attribute("mode", "DCR") == "CRD":
        weight = np.tile(np.eye(size * size, dtype=np.float32), (n, 1))
        weight, group = weight.reshape(-1, 1, size, size), n
    else:
        weight, group = np.zeros((blob.shape[1], n, size, size), np.float32), 1
        for i, j, c in product(range(size), range(size), range(n)):
            weight[(i * size + j) * n + c, c, i, j] = 1
    param: dict[str, Any] = {
        "num_output": n,
        "kernel_size": size,
        "stride": size,
        "bias_term": False,
    }
    return site.add("Deconvolution", [blob], "", [weight], **param, group=group)


def space_to_depth(site: Site) -> Blob:
    """Convolution by a kernel of zeros and ones."""
    import numpy as np

    blob, size = site.blob(0), site.attribute("blocksize", 0)
    if len(blob.shape) != 4 or size < 1 or any(n % size for n in blob.shape[2:]) or size > 64:
        raise NoWayError(f"blocks of {size} of {dims(blob.shape)}")
    n = blob.shape[1]
    weight = np.zeros((n * size * size, n, size, size), np.float32)
    for i, j, c in product(range(size), range(size), range(n)):
        weight[(i * size + j) * n + c, c, i, j] = 1
    param: dict[str, Any] = {"num_output": weight.shape[0], "kernel_size": size, "stride": size}
    return site.add("Convolution", [blob], "", [weight], **param, bias_term=False)
