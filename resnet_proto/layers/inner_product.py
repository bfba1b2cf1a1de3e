"""InnerProduct: a matrix times everything from ``axis`` on. inner_product_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, count, register

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet_proto.layers.base import Array


@register
class InnerProduct(Layer):
    """x W^T + b, with x flattened in the order C, H, W; the weight is (out, in)."""

    message = "inner_product_param"

    num_output = Field(0)
    bias_term = Field(True)
    weight_filler: Field[dict[str, Any]] = Field({})
    bias_filler: Field[dict[str, Any]] = Field({})
    axis = Field(1)
    transpose = Field(False)

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("weight", "bias")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        inputs = count(bottoms[0][axis_index(self.axis, bottoms[0]) :])
        pair = (self.num_output, inputs)
        shapes: dict[str, Shape] = {"weight": pair[::-1] if self.transpose else pair}
        if self.bias_term:
            shapes["bias"] = (self.num_output,)
        return shapes

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.num_output < 1:
            raise ShapeError(f"num_output is {self.num_output}; at least 1 is needed")
        return [(*bottoms[0][: axis_index(self.axis, bottoms[0])], self.num_output)]

    def macs(
        self, bottoms: Sequence[Shape], tops: Sequence[Shape], blobs: Mapping[str, Shape]
    ) -> int:
        return count(bottoms[0]) * self.num_output

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """(..., K) -> (..., num_output): the axes before ``axis`` stay."""
        x = bottoms[0]
        kept = x.shape[: axis_index(self.axis, x.shape)]
        weight, *bias = blobs
        y = x.reshape(count(kept), -1) @ (weight if self.transpose else weight.T)
        if bias:
            y = y + bias[0]
        return [y.reshape(*kept, self.num_output)]
