"""Ops of ONNX on constants -> constants: what exporters compute shapes with.

No value is larger than ``MAX_FOLDED``: a file of a few bytes can ask for any size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import NetError
from resnet_proto.formats.onnx_draft import NoWayError, Site
from resnet_proto.layers import axis_index, count, dims

if TYPE_CHECKING:
    from resnet_proto.formats.onnx_draft import Values

MAX_FOLDED = 1 << 25
"""Values of a constant that is computed."""
MAX_FULL = 1 << 28
"""Values of a constant that is one number, and takes no memory before it is written; VGG's largest
weight has 103 million."""
TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""Number of TensorProto.DataType -> numpy's name."""


def folded(site: Site) -> Values | None:
    """What a node gives whose inputs are constants; None where it is not known here.

    Raises:
        NoWayError: it cannot be computed.
    """
    import numpy as np

    if site.op not in FOLDED:
        return None
    values = [site.constant(i, "input") if site.has(i) else None for i in range(len(site.inputs))]
    shapes = [value.shape for value in values if value is not None]
    try:
        if sum(map(count, shapes)) > MAX_FOLDED and site.op not in FREE:
            return None
        with np.errstate(all="ignore"):
            result: Values = np.asarray(FOLDED[site.op](site, *values))
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError, NetError) as error:
        raise NoWayError(
            f"it does not fit its inputs, {' and '.join(map(dims, shapes))}: {error}"
        ) from None
    if len(result.shape) > 32:
        raise NoWayError("more than 32 axes")
    return result


def bounded(shape: tuple[int, ...], most: int = MAX_FOLDED) -> tuple[int, ...]:
    """A shape that can be made.

    Raises:
        NoWayError: it is too large.
    """
    if len(shape) > 32 or min(shape, default=0) < 0 or count(shape) > most:
        raise NoWayError(f"a constant of {dims(shape)}")
    return shape


def full(site: Site, shape: Values) -> Values:
    """ConstantOfShape, without memory."""
    import numpy as np

    value = site.attributes.get("value", np.zeros(1, np.float32))
    return np.broadcast_to(np.asarray(value).reshape(()), bounded(site.whole(0, "shape"), MAX_FULL))


def expand(site: Site, value: Values, shape: Values) -> Values:
    """As large as a shape; without memory."""
    import numpy as np

    wanted = np.broadcast_shapes(value.shape, site.whole(1, "shape"))
    return np.broadcast_to(value, bounded(wanted))


def binary(name: str) -> Callable[..., Values]:
    """An op of two inputs that numpy has."""

    def compute(site: Site, a: Values, b: Values, *more: Values) -> Values:
        import numpy as np

        for value in (b, *more):
            bounded(np.broadcast_shapes(a.shape, value.shape))
            a = getattr(np, name)(a, value)
        return a

    return compute


def unary(name: str) -> Callable[..., Values]:
    """An op of one input that numpy has; of floats in their own type."""

    def compute(site: Site, a: Values) -> Values:
        import numpy as np

        result: Values = getattr(np, name)(a)
        return result.astype(a.dtype, copy=False)

    return compute


def divide(site: Site, a: Values, b: Values) -> Values:
    """Div: of whole numbers towards zero."""
    import numpy as np

    bounded(np.broadcast_shapes(a.shape, b.shape))
    if a.dtype.kind == "f":
        return a / b
    if not b.all():
        raise NoWayError("a division by 0")
    return (np.sign(a) * np.sign(b) * (abs(a) // abs(b))).astype(a.dtype)


def cast(site: Site, value: Values) -> Values:
    """Numbers of another type."""
    kind = site.attribute("to", 1)
    if kind not in TYPES:
        raise NoWayError(f"it makes numbers of another type ({kind})")
    return value.astype(TYPES[kind])


def gather(site: Site, value: Values, places: Values) -> Values:
    """Parts of an axis."""
    import numpy as np

    axis = axis_index(site.attribute("axis", 0), value.shape)
    bounded((*value.shape[:axis], *places.shape, *value.shape[axis + 1 :]))
    return np.take(value, places, axis=axis)


def slice_(site: Site, value: Values, *_: Any) -> Values:
    """A part along some axes."""
    starts = site.whole_or_attribute(1, "starts") or ()
    ends = site.whole_or_attribute(2, "ends") or ()
    axes = site.whole_or_attribute(3, "axes") or tuple(range(len(starts)))
    steps = site.whole_or_attribute(4, "steps") or (1,) * len(starts)
    index = [slice(None)] * value.ndim
    for axis, *span in zip(axes, starts, ends, steps, strict=True):
        start, end, step = span
        at = axis_index(axis, value.shape)
        to_start = step < 0 and end < -value.shape[at]
        index[at] = slice(start, None if to_start else end, step)
    return value[tuple(index)]


def reshape(site: Site, value: Values, shape: Values | None = None) -> Values:
    """0 copies an axis."""
    wanted = list(site.whole_or_attribute(1, "shape") or ())
    if not site.attribute("allowzero", 0):
        wanted = [value.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return value.reshape(wanted)


def squeeze(site: Site, value: Values, axes: Values | None = None) -> Values:
    """Without axes of size 1."""
    given = site.whole_or_attribute(1, "axes")
    return value.squeeze() if given is None else value.squeeze(given)


def unsqueeze(site: Site, value: Values, axes: Values | None = None) -> Values:
    """With axes of size 1 more."""
    import numpy as np

    return np.expand_dims(value, site.whole_or_attribute(1, "axes") or ())


def transpose(site: Site, value: Values) -> Values:
    """Axes in another order."""
    return value.transpose(site.attribute("perm", tuple(range(value.ndim))[::-1]))


def concat(site: Site, *values: Values) -> Values:
    """One behind the other."""
    import numpy as np

    return np.concatenate(values, axis=site.attribute("axis", 1))


def where(site: Site, chosen: Values, a: Values, b: Values) -> Values:
    """From one or the other."""
    import numpy as np

    bounded(np.broadcast_shapes(chosen.shape, a.shape, b.shape))
    return np.where(chosen, a, b)


def range_(site: Site, start: Values, end: Values, step: Values) -> Values:
    """Numbers from one to another."""
    import numpy as np

    first, last, by = (value.reshape(-1)[0] for value in (start, end, step))
    if by == 0 or not abs(float(last - first) / float(by)) < MAX_FOLDED:
        raise NoWayError(f"a range from {first} to {last} by {by}")
    return np.arange(first, last, by, dtype=start.dtype)


def product(site: Site, value: Values, axes: Values | None = None) -> Values:
    """ReduceProd."""
    given = site.whole_or_attribute(1, "axes")
    keep = bool(site.attribute("keepdims", 1))
    result: Values = value.prod(axis=given or None, keepdims=keep, dtype=value.dtype)
    return result


FOLDED: dict[str, Callable[..., Values]] = {
    "Abs": unary("abs"),
    "Add": binary("add"),
    "And": binary("logical_and"),
    "Cast": cast,
    "Ceil": unary("ceil"),
    "Concat": concat,
    "ConstantOfShape": full,
    "Div": divide,
    "Equal": binary("equal"),
    "Exp": unary("exp"),
    "Expand": expand,
    "Floor": unary("floor"),
    "Gather": gather,
    "Greater": binary("greater"),
    "Less": binary("less"),
    "Log": unary("log"),
    "Max": binary("maximum"),
    "Min": binary("minimum"),
    "Mod": binary("mod"),
    "Mul": binary("multiply"),
    "Neg": unary("negative"),
    "Not": unary("logical_not"),
    "Range": range_,
    "ReduceProd": product,
    "Reshape": reshape,
    "Slice": slice_,
    "Sqrt": unary("sqrt"),
    "Squeeze": squeeze,
    "Sub": binary("subtract"),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}
FREE = ("Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze", "ConstantOfShape", "Cast")
"""What takes no memory, or no more than there is."""
