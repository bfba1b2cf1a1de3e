"""Pooling: windows that round up and are clipped. pooling_layer.cpp"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError, UnknownLayerError
from resnet_proto.layers.base import ENGINES, Field, Layer, Shape, dims, register
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from resnet_proto.layers.base import Array

Pair = tuple[int, int]
LOWEST = -3.4028234663852886e38
"""-FLT_MAX, what a maximum begins with, in float64 too: a nan and -inf never win."""


@register
class Pooling(Layer):
    """MAX, AVE or STOCHASTIC over windows. The second top of MAX is its mask."""

    message = "pooling_param"
    n_tops = (1, 2)

    pool = Field(Word("MAX"), values=("MAX", "AVE", "STOCHASTIC"))
    pad = Field(0)
    pad_h = Field(0)
    pad_w = Field(0)
    kernel_size = Field(0)
    kernel_h = Field(0)
    kernel_w = Field(0)
    stride = Field(1)
    stride_h = Field(0)
    stride_w = Field(0)
    engine = Field(Word("DEFAULT"), values=ENGINES)
    global_pooling = Field(False)
    round_mode = Field(Word("CEIL"), values=("CEIL", "FLOOR"))
    ceil_mode = Field(True)

    @property
    def floor(self) -> bool:
        """Whether sizes round down: mainline's ``round_mode: FLOOR``, forks' ``ceil_mode: false``.

        The latter is of github BVLC/caffe #3057, which soeaver's nets and PyPI brocolli-caffe have.
        No Caffe knows both.

        Raises:
            ShapeError: they contradict each other.
        """
        floor = self.round_mode == "FLOOR"
        if "ceil_mode" in self.param and "round_mode" in self.param and floor == self.ceil_mode:
            raise ShapeError(
                f"round_mode: {self.round_mode} and ceil_mode: {str(self.ceil_mode).lower()} "
                "contradict each other; leave out the one that your Caffe does not have"
            )
        return floor or not self.ceil_mode

    @property
    def is_random(self) -> bool:
        return self.pool == "STOCHASTIC" and self.fields.get("phase") == "TRAIN"

    def windows(self, bottom: Shape) -> tuple[Pair, Pair, Pair]:
        """Kernel, stride and pad, each (rows, columns).

        Raises:
            ShapeError: values that contradict each other: pooling_layer.cpp, LayerSetUp.
        """
        if len(bottom) != 4:
            raise ShapeError(f"takes (N, C, H, W), has {dims(bottom)}")
        if self.global_pooling:
            if self.param.keys() & {"kernel_size", "kernel_h", "kernel_w"}:
                raise ShapeError("global_pooling takes the whole map; leave the kernel out")
            kernel = (bottom[2], bottom[3])
        elif "kernel_size" in self.param and not self.param.keys() >= {"kernel_h", "kernel_w"}:
            kernel = (self.kernel_size, self.kernel_size)  # Caffe ignores one side alone
        else:
            kernel = self._pair("kernel_size", "kernel")
        stride, pad = self._pair("stride", "stride"), self._pair("pad", "pad")
        if min(kernel) < 1:
            raise ShapeError(
                f"kernel is {dims(kernel)}; give kernel_size, or kernel_h and kernel_w"
            )
        if min(stride) < 1 or min(pad) < 0:
            raise ShapeError(f"stride {dims(stride)}, pad {dims(pad)}: too small")
        if self.global_pooling and (pad != (0, 0) or stride != (1, 1)):
            raise ShapeError("global_pooling needs pad 0 and stride 1")
        if pad != (0, 0) and (
            self.pool == "STOCHASTIC" or pad[0] >= kernel[0] or pad[1] >= kernel[1]
        ):
            raise ShapeError(f"pad {dims(pad)} must be smaller than kernel {dims(kernel)}")
        return kernel, stride, pad

    def _pair(self, one: str, prefix: str) -> Pair:
        sides = [self.param.get(f"{prefix}_{side}") for side in "hw"]
        if sides == [None, None]:
            return (getattr(self, one),) * 2
        if one in self.param or None in sides:
            raise ShapeError(f"{prefix}_h and {prefix}_w go together, and without {one}")
        return (sides[0] or 0, sides[1] or 0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.pool != "MAX" and len(self.tops) > 1:
            raise ShapeError(f"{self.pool} has one top, not {len(self.tops)}; only MAX has a mask")
        kernel, stride, pad = self.windows(bottoms[0])
        out = tuple(
            pool_size(*axis, floor=self.floor, clip=pad != (0, 0))
            for axis in zip(bottoms[0][2:], kernel, stride, pad, strict=True)
        )
        if min(out) < 1:
            padded = tuple(n + 2 * p for n, p in zip(bottoms[0][2:], pad, strict=True))
            raise ShapeError(
                f"kernel {dims(kernel)} is too large, the bottom with its pad has {dims(padded)}; "
                "make it smaller, or pad more"
            )
        return [(*bottoms[0][:2], *out)] * len(self.tops)

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """(N, C, out_h, out_w), and for a second top the index h * W + w of each maximum.

        STOCHASTIC is what Caffe's CUDA kernel gives at phase TEST: each value of a window counts
        as often as it would be drawn, so the sum of squares over the sum, and 0 where the sum is
        not positive. On the CPU Caffe stops. Forks from before 2017 divide by a negative sum too.

        Raises:
            ShapeError: a window lies outside the image, where Caffe gives -FLT_MAX or NaN.
        """
        import numpy as np

        x = bottoms[0]
        if self.pool == "AVE":
            total = joined(np.add, self.seen(x, fill=0.0))
            return [total / self.divisors(x.shape).astype(x.dtype)]
        if self.pool == "STOCHASTIC":
            total = joined(np.add, self.seen(x, fill=0.0))
            squares = joined(np.add, self.seen(x * x, fill=0.0))
            return [np.divide(squares, total, out=np.zeros_like(total), where=total > 0)]
        seen = self.seen(np.fmax(x, LOWEST), fill=LOWEST)
        tops = [joined(np.maximum, seen)]
        if len(self.tops) == 2:
            first = seen.reshape(*seen.shape[:4], -1).argmax(axis=-1)
            (rows, _), (columns, _) = self.spans(x.shape)
            row = rows[:, None] + first // seen.shape[5]
            column = columns + first % seen.shape[5]
            mask = np.where(tops[0] > LOWEST, row * x.shape[3] + column, -1)
            tops.append(mask.astype(x.dtype))
        return tops

    def check_pool(self) -> None:
        """Refuse what other engines cannot compute.

        Raises:
            UnknownLayerError: STOCHASTIC, which Caffe itself has on the GPU only.
        """
        if self.pool == "STOCHASTIC":
            raise UnknownLayerError(
                f"layer '{self.name}': STOCHASTIC pooling can be computed by engine numpy only"
            )

    def spans(self, bottom: Shape) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Where windows start and end, along the rows and along the columns.

        They count padding, but no further than size + pad.

        Raises:
            ShapeError: a window lies outside the image, where Caffe gives -FLT_MAX or NaN.
        """
        import numpy as np

        kernel, stride, pad = self.windows(bottom)
        spans = []
        for size, k, s, p, last in zip(
            bottom[2:], kernel, stride, pad, self.last_starts(bottom), strict=True
        ):
            start = np.arange(-p, last + 1, s)
            spans.append((start, np.minimum(start + k, size + p)))
        return spans

    def end_pad(self, bottom: Shape) -> Pair:
        """How many rows and columns the last windows reach past the end of the bottom.

        With ``pad`` before the bottom and this behind it, windows fit in without rounding.

        Raises:
            ShapeError: a window lies outside the image, where Caffe gives -FLT_MAX or NaN.
        """
        reach_h, reach_w = (
            max(0, start + k - size)
            for start, k, size in zip(
                self.last_starts(bottom), self.windows(bottom)[0], bottom[2:], strict=True
            )
        )
        return reach_h, reach_w

    def padded(self, bottom: Shape) -> Shape:
        sides = zip(bottom[2:], self.windows(bottom)[2], self.end_pad(bottom), strict=True)
        return (*bottom[:2], *map(sum, sides))

    def last_starts(self, bottom: Shape) -> Pair:
        """Row and column at which the last windows start.

        Raises:
            ShapeError: a window lies outside the image, where Caffe gives -FLT_MAX or NaN.
        """
        _, stride, pad = self.windows(bottom)
        out = self.top_shapes([bottom])[0][2:]
        row, column = ((o - 1) * s - p for o, s, p in zip(out, stride, pad, strict=True))
        for start, size, o in zip((row, column), bottom[2:], out, strict=True):
            if start >= size:
                raise ShapeError(
                    f"layer '{self.name}' (Pooling): the last of {o} windows starts at "
                    f"{start}, outside {size} rows or columns; Caffe gives no sensible value"
                )
        return row, column

    def divisors(self, bottom: Shape) -> NDArray[np.intp]:
        """(out_h, out_w): what the sum of each window is divided by for its average.

        Raises:
            ShapeError: a window lies outside the image, where Caffe gives -FLT_MAX or NaN.
        """
        import numpy as np

        rows, columns = (end - start for start, end in self.spans(bottom))
        return np.outer(rows, columns)

    def seen(self, x: Array, fill: float) -> Array:
        """(N, C, out_h, out_w, kernel_h, kernel_w): each window, ``fill`` outside the image."""
        import numpy as np

        kernel, (stride_h, stride_w), pad = self.windows(x.shape)
        around = ((0, 0), (0, 0), *zip(pad, self.end_pad(x.shape), strict=True))
        padded = np.pad(x, around, constant_values=fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
        return windows[:, :, ::stride_h, ::stride_w]


def joined(join: np.ufunc, seen: Array) -> Array:
    """(N, C, out_h, out_w) from windows: value by value, as Caffe, but whole maps at a time.

    Where windows are fewer than the values of one, they are joined one by one.
    """
    import numpy as np

    out, kernel = seen.shape[2:4], seen.shape[4:]
    if math.prod(out) < math.prod(kernel):
        top: Array = np.empty(seen.shape[:4], seen.dtype)
        for i, j in np.ndindex(out):
            join.reduce(seen[:, :, i, j], axis=(2, 3), out=top[:, :, i, j])
        return top
    y: Array = seen[..., 0, 0].copy()
    for i, j in islice(np.ndindex(kernel), 1, None):
        join(y, seen[..., i, j], out=y)
    return y


def pool_size(size: int, kernel: int, stride: int, pad: int, *, floor: bool, clip: bool) -> int:
    """Output size along one axis. pooling_layer.cpp, Reshape.

    ``clip``: with padding on any axis, the last window must start inside the padded image.
    """
    span = (size + 2 * pad - kernel) / stride
    out = (math.floor(span) if floor else math.ceil(span)) + 1
    if clip and (out - 1) * stride >= size + pad:
        out -= 1
    return out
