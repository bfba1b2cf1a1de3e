"""Scale: multiply by a blob, broadcast from ``axis`` on, and add a bias. scale_layer.cpp"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, dims, register


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
        axis = axis_index(self.axis, bottoms[0]) if bottoms[0] else 0
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

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("bias",)[:count] if len(self.bottoms) == 2 else ("weight", "bias")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        shape = self.factor_shape(bottoms)
        shapes = {"weight": shape} if len(bottoms) == 1 else {}
        if self.bias_term:
            shapes["bias"] = shape
        return shapes

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.factor_shape(bottoms)
        return [bottoms[0]]
