"""Scale: multiply by a blob, broadcast from ``axis`` on, and add a bias. scale_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Scale(Layer):
    """One bottom: gamma (and beta) are blobs. Two bottoms: the second one multiplies."""

    message = "scale_param"
    n_bottoms = (1, 2)

    axis = Field(1)
    num_axes = Field(1)
    filler: Field[dict[str, Any]] = Field({})
    bias_term = Field(False)
    bias_filler: Field[dict[str, Any]] = Field({})

    def factor_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """Shape of the multiplier, which lies at ``axis`` of the first bottom."""
        # A scalar second bottom has no place; Caffe looks at the axis for the bias only.
        placeless = bottoms[1:] and not bottoms[1] and not self.bias_term
        axis = 0 if placeless else axis_index(self.axis, bottoms[0])
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

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("bias",)[:count] if len(self.bottoms) == 2 else ("weight", "bias")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        shape = self.factor_shape(bottoms)
        shapes = {"weight": shape} if len(bottoms) == 1 else {}
        if self.bias_term:
            shapes["bias"] = shape
        return shapes

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.factor_shape(bottoms)
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The first bottom times gamma (a blob or the second bottom), plus beta if there is one."""
        x = bottoms[0]
        gamma, *beta = blobs if len(bottoms) == 1 else (bottoms[1], *blobs)
        spread = self.spread([bottom.shape for bottom in bottoms])
        y = x * gamma.reshape(spread)
        if beta:
            y += beta[0].reshape(spread)
        return [y]
