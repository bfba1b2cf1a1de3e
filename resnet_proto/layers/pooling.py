"""Pooling: windows that round up and are clipped. pooling_layer.cpp"""

from __future__ import annotations

import math
from collections.abc import Sequence

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register

Pair = tuple[int, int]


@register
class Pooling(Layer):
    """MAX or AVE over windows. The second top of MAX is its mask."""

    message = "pooling_param"
    n_tops = (1, 2)

    pool = Field("MAX")
    pad = Field(0)
    pad_h = Field(0)
    pad_w = Field(0)
    kernel_size = Field(0)
    kernel_h = Field(0)
    kernel_w = Field(0)
    stride = Field(1)
    stride_h = Field(0)
    stride_w = Field(0)
    engine = Field("DEFAULT")
    global_pooling = Field(False)
    round_mode = Field("CEIL")

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
        else:
            kernel = self._pair("kernel_size", "kernel")
        stride, pad = self._pair("stride", "stride"), self._pair("pad", "pad")
        if min(kernel) < 1:
            raise ShapeError(f"kernel is {dims(kernel)}; give kernel_size, or kernel_h and kernel_w")
        if min(stride) < 1 or min(pad) < 0:
            raise ShapeError(f"stride {dims(stride)}, pad {dims(pad)}: too small")
        if self.global_pooling and (pad != (0, 0) or stride != (1, 1)):
            raise ShapeError("global_pooling needs pad 0 and stride 1")
        if pad != (0, 0) and (self.pool == "STOCHASTIC" or pad[0] >= kernel[0] or pad[1] >= kernel[1]):
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
        kernel, stride, pad = self.windows(bottoms[0])
        out = tuple(
            pool_size(*axis, floor=self.round_mode == "FLOOR", clip=pad != (0, 0))
            for axis in zip(bottoms[0][2:], kernel, stride, pad, strict=True)
        )
        if min(out) < 1:
            raise ShapeError(
                f"kernel {dims(kernel)} is larger than the padded bottom {dims(bottoms[0])}; "
                "the output would be empty"
            )
        return [(*bottoms[0][:2], *out)] * len(self.tops)


def pool_size(size: int, kernel: int, stride: int, pad: int, *, floor: bool, clip: bool) -> int:
    """Output size along one axis. pooling_layer.cpp, Reshape.

    ``clip``: with padding on any axis, the last window must start inside the padded image.
    """
    span = (size + 2 * pad - kernel) / stride
    out = (math.floor(span) if floor else math.ceil(span)) + 1
    if clip and (out - 1) * stride >= size + pad:
        out -= 1
    return out
