"""Ops that move or choose values -> Reshape, Slice, Crop, Concat; see ``onnx_ops.py``."""

from __future__ import annotations

from math import prod
from typing import Any

from resnet_proto.formats.onnx_draft import (
    Around,
    Blob,
    NoWayError,
    Site,
    Turned,
    along_axis,
    broadcast_shape,
    runs,
)
from resnet_proto.layers import count, dims

MAX_PARTS = 256
"""Tops of a Slice that puts channels into another order."""


def flatten(site: Site) -> Blob:
    """Flatten or Reshape to a matrix."""
    blob = site.blob(0)
    axis = site.attribute("axis", 1)
    axis = len(blob.shape) if axis == len(blob.shape) else site.axis(axis, blob.shape)
    return site.reshaped(blob, (count(blob.shape[:axis]), count(blob.shape[axis:])))


def reshape(site: Site) -> Blob:
    """Reshape; 0 copies, -1 takes the rest."""
    blob = site.blob(0)
    wanted = list(site.whole_or_attribute(1, "shape") or ())
    if not site.attribute("allowzero", 0):
        for i, size in enumerate(wanted):
            if not size and i < len(blob.shape):
                wanted[i] = blob.shape[i]
    known = prod(size for size in wanted if size != -1)
    if wanted.count(-1) == 1 and known > 0 and not count(blob.shape) % known:
        wanted[wanted.index(-1)] = count(blob.shape) // known
    if min(wanted, default=1) < 1:
        raise NoWayError(f"{dims(blob.shape)} does not become {wanted}")
    return site.reshaped(blob, tuple(wanted))


def squeeze(site: Site) -> Blob:
    """Reshape without axes of size 1."""
    blob = site.blob(0)
    given = site.whole_or_attribute(1, "axes")
    ones = tuple(i for i, size in enumerate(blob.shape) if size == 1)
    axes = ones if given is None else site.axes(given, blob.shape)
    if not {*axes} <= {*ones}:
        raise NoWayError(f"axes {axes} of {dims(blob.shape)} are not all of size 1")
    return site.reshaped(blob, tuple(n for i, n in enumerate(blob.shape) if i not in axes))


def unsqueeze(site: Site) -> Blob:
    """Reshape with axes of size 1 more."""
    blob = site.blob(0)
    given = site.whole_or_attribute(1, "axes") or ()
    n = len(blob.shape) + len(given)
    if n > 32:
        raise NoWayError(f"{n} axes; Caffe's blobs have up to 32")
    axes = site.axes(given, (1,) * n)
    rest = iter(blob.shape)
    if len(axes) != len(given):
        raise NoWayError(f"axes {given} are named twice")
    return site.reshaped(blob, tuple(1 if i in axes else next(rest) for i in range(n)))


def transpose(site: Site) -> Any:
    """Nothing where it undoes another one or moves axes of size 1; else it waits for that."""
    value = site.given(0, "input")
    turned = value if isinstance(value, Turned) else None
    inner = turned.blob if turned else site.blob(0)
    blob = inner.blob if isinstance(inner, Around) else inner
    n = len(blob.shape)
    axes = site.attribute("perm", tuple(range(n))[::-1])
    if sorted(axes) != list(range(n)):
        raise NoWayError(f"perm {axes} for {dims(blob.shape)}")
    if turned:
        axes = tuple(turned.axes[axis] for axis in axes)
    if axes == tuple(range(n)) or isinstance(inner, Around):
        return inner if axes == tuple(range(n)) else Turned(inner, axes, site.label)
    return turned_to(site, blob, axes, site.label)


def turned_to(site: Site, blob: Blob, axes: tuple[int, ...], label: str) -> Blob | Turned:
    """A blob with its axes in another order; a Reshape where only those of size 1 move."""
    moved = [axis for axis in axes if blob.shape[axis] != 1]
    if moved == sorted(moved):
        return site.reshaped(blob, tuple(blob.shape[axis] for axis in axes), "axes")
    return Turned(blob, axes, label)


def expand(site: Site) -> Blob:
    """Tile, along each axis that grows."""
    blob = site.blob(0)
    return site.spread(blob, broadcast_shape(blob.shape, site.whole(1, "shape")))


def tile(site: Site) -> Blob:
    """Tile, along each axis that is repeated."""
    blob = site.blob(0)
    repeats = site.whole(1, "repeats")
    if len(repeats) != len(blob.shape) or min(repeats, default=1) < 1:
        raise NoWayError(f"repeats {repeats} for {dims(blob.shape)}")
    for axis, n in enumerate(repeats):
        if n != 1:
            blob = site.add("Tile", [blob], f"tile{axis}", axis=axis, tiles=n)
    return blob


def concat(site: Site) -> Blob:
    """Concat."""
    blobs = [site.blob(i) for i in range(len(site.inputs))]
    axis = site.axis(site.attribute("axis", 1), blobs[0].shape)
    if len(blobs) == 1:
        return blobs[0]
    return site.add("Concat", blobs, **along_axis(axis))


def split_(site: Site) -> list[Blob]:
    """Slice."""
    blob = site.blob(0)
    axis = site.axis(site.attribute("axis", 0), blob.shape)
    sizes = site.whole_or_attribute(1, "split")
    size, n = blob.shape[axis], site.n_outputs
    if not sizes:
        n = site.attribute("num_outputs", n)
        each = -(-size // n)
        sizes = tuple(min(each, size - i * each) for i in range(n))
    if sum(sizes) != size or min(sizes) < 1 or len(sizes) < site.n_outputs:
        raise NoWayError(f"parts of {sizes} along axis {axis} of {dims(blob.shape)}")
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [
        site.draft.part(site.label, blob, axis, end - length, end)
        for end, length in zip(ends, sizes, strict=True)
    ]


def slice_(site: Site) -> Blob:
    """Slice along each axis; steps through rows and columns are a Convolution that copies."""
    blob = site.blob(0)
    shape = blob.shape
    starts = site.whole_or_attribute(1, "starts") or ()
    ends = site.whole_or_attribute(2, "ends") or ()
    axes = site.whole_or_attribute(3, "axes") or tuple(range(len(starts)))
    steps = site.whole_or_attribute(4, "steps") or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise NoWayError("its starts, ends, axes and steps are not as many")
    spans: dict[int, range] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = site.axis(axis, shape)
        if step < 1:
            raise NoWayError(f"step {step}: Caffe's Slice goes forward")
        spans[axis] = range(*slice(start, end, step).indices(shape[axis]))
        if not len(spans[axis]):
            raise NoWayError(f"it leaves nothing of axis {axis} of {dims(shape)}")
    strides = {axis: span.step for axis, span in spans.items() if span.step > 1 and len(span) > 1}
    if strides and (len(shape) != 4 or not {*strides} <= {2, 3}):
        raise NoWayError("steps along other axes than rows and columns")
    if not strides and {*spans} == {2, 3} and len(shape) == 4 and (found := like(site, spans)):
        offset = tuple(spans[axis].start for axis in (2, 3))
        param: dict[str, Any] = (
            {"offset": offset[:1] if len({*offset}) == 1 else offset} if any(offset) else {}
        )
        return site.add("Crop", [blob, found], **param)
    for axis, span in spans.items():
        last = span[-1] + 1
        first = 0 if axis in strides else span.start
        label = f"{site.label}/axis{axis}" if len(spans) > 1 else site.label
        blob = site.draft.part(label, blob, axis, first, last)
    if strides:
        offset = tuple(spans[a].start if a in strides else 0 for a in (2, 3))
        stride = tuple(strides.get(a, 1) for a in (2, 3))
        blob = site.picked(Around(blob, (0, 0), (0, 0)), offset, stride)
    return blob


def like(site: Site, spans: dict[int, range]) -> Blob | None:
    """The latest blob with as many rows and columns, for a Crop; None where it is no crop."""
    size = tuple(len(spans[axis]) for axis in (2, 3))
    shape = site.blob(0).shape
    if any(span.step != 1 for span in spans.values()) or any(
        n >= m for n, m in zip(size, shape[2:], strict=True)
    ):
        return None
    for drawn in reversed(site.draft.layers):
        for top in drawn.tops:
            if len(top.shape) == 4 and top.shape[2:] == size:
                return top
    return None


def gather(site: Site) -> Blob:
    """Slice and Concat: parts of an axis in another order."""
    blob = site.blob(0)
    places = site.constant(1, "indices")
    axis = site.axis(site.attribute("axis", 0), blob.shape)
    size = blob.shape[axis]
    if places.ndim > 1 or places.size > size * 4 or places.dtype.kind not in "iu":
        raise NoWayError(f"indices of {dims(places.shape)}: parts of one axis are what Caffe has")
    chosen = [int(i) + (size if i < 0 else 0) for i in places.reshape(-1)]
    if not chosen or min(chosen) < 0 or max(chosen) >= size:
        raise NoWayError(f"indices outside axis {axis} of {dims(blob.shape)}")
    spans = runs(chosen)
    if len(spans) > MAX_PARTS:
        raise NoWayError(f"{len(spans)} parts of axis {axis}; up to {MAX_PARTS} are drawn")
    label = f"{site.label}/parts" if len(spans) > 1 else site.label
    parts = [site.draft.part(label, blob, axis, start, end) for start, end in spans]
    y = parts[0]
    if len(parts) > 1:
        y = site.add("Concat", parts, **along_axis(axis))
    kept = tuple(n for i, n in enumerate(y.shape) if i != axis or places.ndim)
    return site.reshaped(y, kept, "axes")
