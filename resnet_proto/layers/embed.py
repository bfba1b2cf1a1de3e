"""Embed: a row of the weight for each number. embed_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, register
from resnet_proto.layers.loss import classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Embed(Layer):
    """Whole numbers below ``input_dim`` -> rows of the weight, plus a bias: (..., num_output)."""

    message = "embed_param"

    num_output = Field(0)
    input_dim = Field(0)
    bias_term = Field(True)
    weight_filler: Field[dict[str, Any]] = Field({})
    bias_filler: Field[dict[str, Any]] = Field({})

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("weight", "bias")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (self.input_dim, self.num_output)}
        if self.bias_term:
            shapes["bias"] = (self.num_output,)
        return shapes

    def fan_in(self, weight: Shape) -> int:
        return 1

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.num_output < 1 or self.input_dim < 1:
            raise ShapeError(
                f"num_output is {self.num_output}, input_dim {self.input_dim}; 1 is the least"
            )
        return [(*bottoms[0], self.num_output)]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """A new last axis."""
        weight, *bias = blobs
        rows = weight[classes(self, bottoms[0], len(weight))]
        y = rows.reshape(*bottoms[0].shape, -1)
        return [y + bias[0] if bias else y]
