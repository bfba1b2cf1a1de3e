"""Axpy: a x + y with a factor for each channel. SENet's fork, axpy_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Layer, Shape, count, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Axpy(Layer):
    """Bottoms: a, (N, C) or (N, C, 1, 1); x, (N, C, H, W) or with fewer axes; y, as x."""

    n_bottoms = (3, 3)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        a, x, y = bottoms
        if x != y:
            raise ShapeError(f"bottom[1] {dims(x)} and bottom[2] {dims(y)} need one shape")
        if not 2 <= len(x) <= 4:
            raise ShapeError(f"bottom[1] is (N, C, H, W) or with fewer axes, not {dims(x)}")
        if a[:2] != x[:2] or count(a[2:]) != 1:  # the fork looks at these of 4 axes only
            raise ShapeError(
                f"bottom[0] has a factor for each channel of each image, {dims(x[:2])} or "
                f"{dims(x[:2])}x1x1; it is {dims(a)}"
            )
        return [x]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        a, x, y = bottoms
        top = x * a.reshape(a.shape[:2] + (1,) * (x.ndim - 2))
        top += y
        return [top]
