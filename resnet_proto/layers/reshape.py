"""Reshape: the same values in another shape. reshape_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, count, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Reshape(Layer):
    """``num_axes`` axes from ``axis`` on become ``shape``: 0 copies an axis, one -1 takes the rest.

    ``axis`` -1 is behind the last axis.
    """

    message = "reshape_param"

    shape: Field[dict[str, Any]] = Field({})
    axis = Field(0)
    num_axes = Field(-1)

    @property
    def shares_memory(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.refuse_in_place()
        (shape,) = bottoms
        start = self.axis if self.axis >= 0 else len(shape) + self.axis + 1
        end = len(shape) if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= end <= len(shape):
            raise ShapeError(
                f"num_axes {self.num_axes} from axis {self.axis} reaches outside {dims(shape)}"
            )
        wanted: list[int] = list(self.shape.get("dim", ()))
        asked = f"shape {dims(tuple(wanted))}"
        for i, size in enumerate(wanted):
            if size == 0:
                if start + i >= len(shape):
                    raise ShapeError(f"{asked}: no axis of {dims(shape)} to copy for its 0")
                wanted[i] = shape[start + i]
        kept = count(shape[:start]) * count(shape[end:])
        if wanted.count(-1) > 1:
            raise ShapeError(f"{asked}: at most one -1")
        if -1 in wanted:
            known = kept * count(tuple(size for size in wanted if size != -1))
            if not known or count(shape) % known:
                raise ShapeError(f"{asked}: {dims(shape)} does not divide by the rest, {known}")
            wanted[wanted.index(-1)] = count(shape) // known
        if min(wanted, default=0) < 0 or kept * count(tuple(wanted)) != count(shape):
            raise ShapeError(f"{asked} does not hold the {count(shape)} values of {dims(shape)}")
        return [(*shape[:start], *wanted, *shape[end:])]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        (x,) = bottoms
        return [x.copy("C").reshape(self.top_shapes([x.shape])[0])]
