"""Eltwise: sum, product or maximum of equal shapes. eltwise_layer.cpp"""

from __future__ import annotations

from collections.abc import Sequence

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Layer, Shape, dims, register


@register
class Eltwise(Layer):
    """The bottoms joined value by value; no broadcast."""

    message = "eltwise_param"
    n_bottoms = (2, MAX_COUNT)

    operation = Field("SUM")
    coeff: Field[tuple[float, ...]] = Field(())
    stable_prod_grad = Field(True)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if any(shape != bottoms[0] for shape in bottoms):
            wanted = ", ".join(
                f"'{name}' {dims(shape)}" for name, shape in zip(self.bottoms, bottoms, strict=True)
            )
            raise ShapeError(f"needs bottoms of one shape, has {wanted}")
        if self.coeff and (self.operation == "PROD" or len(self.coeff) != len(bottoms)):
            raise ShapeError(
                f"has {len(self.coeff)} coeff for {len(bottoms)} bottom and {self.operation}; "
                "SUM takes one for each bottom, or none"
            )
        return [bottoms[0]]
