"""What Scale and Bias share: a blob that lies along some axes of the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, dims

if TYPE_CHECKING:
    from collections.abc import Sequence


class Broadcast(Layer):
    """One bottom: the factor is a blob. Two bottoms: it is the second one."""

    n_bottoms = (1, 2)

    axis = Field(1)
    num_axes = Field(1)
    filler: Field[dict[str, Any]] = Field({})

    def placeless(self, bottoms: Sequence[Shape]) -> bool:
        """Whether the axis does not matter: a scalar second bottom has no place."""
        return len(bottoms) == 2 and not bottoms[1]

    def factor_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """Shape of the factor, which lies at ``axis`` of the first bottom."""
        axis = 0 if self.placeless(bottoms) else axis_index(self.axis, bottoms[0])
        if len(bottoms) == 2:
            shape = bottoms[1]
            if bottoms[0][axis : axis + len(shape)] != shape:
                raise ShapeError(
                    f"bottom[1] {dims(shape)} does not match bottom[0] {dims(bottoms[0])} "
                    f"at axis {axis}"
                )
            return shape
        if self.num_axes < -1 or axis + self.num_axes > len(bottoms[0]):
            raise ShapeError(
                f"num_axes {self.num_axes} from axis {axis} reaches past {dims(bottoms[0])}"
            )
        return bottoms[0][axis:] if self.num_axes == -1 else bottoms[0][axis : axis + self.num_axes]

    def spread(self, bottoms: Sequence[Shape]) -> Shape:
        """``factor_shape`` with ones behind it, so that it lies where it belongs when broadcast."""
        shape = self.factor_shape(bottoms)
        axis = axis_index(self.axis, bottoms[0]) if shape else 0
        return shape + (1,) * (len(bottoms[0]) - axis - len(shape))

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.factor_shape(bottoms)
        return [bottoms[0]]
