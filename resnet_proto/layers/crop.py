"""Crop: a part of the first bottom, of the second one's size. crop_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Crop(Layer):
    """From ``axis`` on, sizes are bottom[1]'s; the part begins at ``offset``, or at 0."""

    message = "crop_param"
    n_bottoms = (2, 2)

    axis = Field(2)
    offset: Field[tuple[int, ...]] = Field(())

    def spans(self, bottoms: Sequence[Shape]) -> list[tuple[int, int]]:
        """Where the part begins and ends along each axis of the first bottom."""
        shape, like = bottoms
        axis = axis_index(self.axis, shape)
        n = len(shape) - axis
        offset = self.offset or (0,)
        if len(offset) not in (1, n):
            raise ShapeError(f"has {len(offset)} offset for {n} axes; give one, or one for each")
        if len(like) < len(shape):
            raise ShapeError(f"bottom[1] {dims(like)} has fewer axes than {dims(shape)}")
        starts = (0,) * axis + (offset * n if len(offset) == 1 else offset)
        sizes = (*shape[:axis], *like[axis : len(shape)])
        for size, start, part in zip(shape, starts, sizes, strict=True):
            if start + part > size:
                raise ShapeError(
                    f"a part of {dims(sizes)} from {dims(starts)} on reaches outside {dims(shape)}"
                )
        return [(start, start + part) for start, part in zip(starts, sizes, strict=True)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [tuple(end - start for start, end in self.spans(bottoms))]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        x = bottoms[0]
        spans = self.spans([bottom.shape for bottom in bottoms])
        return [x[tuple(slice(*span) for span in spans)].copy()]
