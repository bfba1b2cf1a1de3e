"""Flatten: some axes become one. flatten_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, count, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Flatten(Layer):
    """Axes from ``axis`` to ``end_axis``, that included, become one."""

    message = "flatten_param"

    axis = Field(1)
    end_axis = Field(-1)

    @property
    def shares_memory(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.refuse_in_place()
        (shape,) = bottoms
        start = axis_index(self.axis, shape)
        end = axis_index(self.end_axis, shape) + 1
        if start > end:  # start == end is an axis of size 1 more, in Caffe too
            raise ShapeError(f"end_axis {end - 1} lies before axis {start} of {dims(shape)}")
        return [(*shape[:start], count(shape[start:end]), *shape[end:])]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        (x,) = bottoms
        return [x.copy("C").reshape(self.top_shapes([x.shape])[0])]
