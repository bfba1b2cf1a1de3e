"""Values -> range, mean, zeros, a histogram; a run of a net -> what each layer gives, briefly."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_proto.engine.plain import Schedule, check_inputs, given_shapes, steps_run
from resnet_proto.fit import named
from resnet_proto.report.inspect import Stats, measure_parts
from resnet_proto.weights import Held

if TYPE_CHECKING:
    from resnet_proto.layers import Layer, Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

BINS = 40
"""Of a histogram."""
MAPS = 16
"""Feature maps of a blob, at most: the first channels of its first image."""
SIDES = (32, 16, 8, 4, 2)
"""Pixels of the longer side of a map, at most: the largest with which all fit into ``ROOM``."""
ROOM = 4 << 20
"""Bytes of all maps of a page, a byte for a pixel."""
TOP = 5
"""Values that are shown of a blob without maps: the largest of its first image."""
LARGEST_HALF = 65504.0
"""What is larger is no finite number in float16, and called exploding."""


@dataclass(frozen=True)
class Profile(Stats):
    """``Stats``, the number of values and of zeros, and how many fall into each of ``BINS``."""

    n: int
    zeros: int
    counts: list[int]


def profile(parts: Callable[[], Iterable[memoryview]], dtype: str) -> Profile:
    """Of values, from their bytes, which are read twice, a part at a time."""
    stats = measure_parts(parts(), dtype)
    stored = np.dtype(dtype).newbyteorder("<")
    counts = np.zeros(BINS, np.int64)
    n = zeros = 0
    least, most = stats.min or 0.0, stats.max or 0.0
    width = most / 2 - least / 2  # halved: from -1e308 to 1e308 is no number
    for data in parts():
        values = np.frombuffer(data, stored)
        n += values.size
        zeros += values.size - int(np.count_nonzero(values))
        if width:
            finite = values[np.isfinite(values)].astype(np.float64)
            places = (finite / 2 - least / 2) / width * BINS
            counts += np.bincount(np.minimum(places.astype(np.int64), BINS - 1), minlength=BINS)
    return Profile(stats.min, stats.max, stats.mean, stats.not_finite, n, zeros, counts.tolist())


def run(
    net: Net, weights: Mapping[str, Array], inputs: Mapping[str, Array]
) -> dict[str, list[dict[str, Any]]]:
    """Label -> what is shown of each top of that layer, when the net runs on these inputs.

    Each layer has its ranges, one in place too; a blob has its maps at the last layer that
    writes it. One layer's values are looked at, and let go, at a time.

    Raises:
        NetError, ShapeError, WeightsError, UnknownLayerError: as ``engine.forward``.
    """
    schedule = Schedule.of(net, net.outputs(), None, given_shapes(net, inputs))
    blobs = check_inputs(net, schedule, inputs, np.float32)
    last = {name: step.label for step in schedule.steps for name in step.layer.tops}
    shapes = {
        name: shape
        for step in schedule.steps
        for name, shape in zip(step.layer.tops, step.tops, strict=True)
    }
    side = side_of(shapes.values())
    found = {}
    with net.named():
        for step, tops in steps_run(schedule, blobs, named(weights, net), np.float32):
            found[step.label] = [
                activation(values, side, last[name] == step.label, is_constant(step.layer))
                for name, values in zip(step.layer.tops, tops, strict=False)
            ]
    return found


def is_constant(layer: Layer) -> bool:
    """Whether a layer's values are one by what it is: the zeros of a shortcut of type A."""
    return layer.from_outside or (layer.type == "Power" and layer.resolved()["scale"] == 0)


def activation(values: Array, side: int, is_last: bool, is_constant: bool) -> dict[str, Any]:
    """What is shown of a top.

    Its ``state`` is ``dead`` where all values of all images are one, and need not be;
    ``exploding`` where one is not finite or beyond ``LARGEST_HALF``; else empty. ``dead`` counts
    channels of one value.
    """
    stats = profile(Held(values).parts, str(values.dtype))
    extent = max(abs(stats.min or 0.0), abs(stats.max or 0.0))
    state = ""
    if stats.not_finite or extent > LARGEST_HALF:
        state = "exploding"
    elif stats.n > 1 and stats.min == stats.max and not is_constant:
        state = "dead"
    facts = {**asdict(stats), "state": state, "dead": 0, "channels": 0, "top": [], "maps": None}
    if values.ndim >= 3 and values.size and math.prod(values.shape[2:]) > 1:
        channels = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        facts["channels"] = len(channels)
        facts["dead"] = int(np.sum(channels.min(axis=1) == channels.max(axis=1)))
    if is_image(values.shape):
        facts["maps"] = maps(values[0], side) if is_last else None
    elif values.ndim >= 2 and values.size:
        first = values[0].reshape(-1)
        best = np.argsort(-first, kind="stable")[:TOP]
        facts["top"] = [[int(i), float(first[i])] for i in best if np.isfinite(first[i])]
    return facts


def is_image(shape: Shape) -> bool:
    """Whether a blob has maps to look at."""
    return len(shape) == 4 and min(shape) > 0 and shape[2] * shape[3] > 1


def shrunk(rows: int, columns: int, side: int) -> tuple[int, int]:
    """The size of a map whose longer side has so many pixels, if it had more."""
    most = max(rows, columns, side)
    return max(1, rows * side // most), max(1, columns * side // most)


def side_of(shapes: Iterable[Shape]) -> int:
    """The largest of ``SIDES`` with which the maps of all blobs fit into ``ROOM``."""
    images = [shape for shape in shapes if is_image(shape)]
    for side in SIDES:
        sizes = (min(s[1], MAPS) * math.prod(shrunk(s[2], s[3], side)) for s in images)
        if sum(sizes) <= ROOM:
            break
    return side


def maps(image: Array, side: int) -> dict[str, Any]:
    """The first channels of an image, each from black, its smallest value, to white.

    Every so manieth pixel is taken; what is not finite is black.
    """
    _, high, wide = image.shape
    rows, columns = shrunk(high, wide, side)
    picked = image[:MAPS, np.arange(rows) * high // rows]
    picked = picked[:, :, np.arange(columns) * wide // columns].astype(np.float64)
    picked = np.where(np.isfinite(picked), picked, np.nan)
    with np.errstate(all="ignore"):
        least = np.nanmin(np.where(np.isnan(picked), np.inf, picked), axis=(1, 2), keepdims=True)
        most = np.nanmax(np.where(np.isnan(picked), -np.inf, picked), axis=(1, 2), keepdims=True)
        levels = np.nan_to_num((picked - least) / (most - least) * 255, nan=0, posinf=0, neginf=0)
    data = base64.b64encode(levels.astype(np.uint8).tobytes()).decode()
    return {"n": len(picked), "rows": rows, "columns": columns, "data": data}
