"""Eltwise: sum, product or maximum of equal shapes. eltwise_layer.cpp"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Layer, Shape, dims, register
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Eltwise(Layer):
    """The bottoms joined value by value; no broadcast."""

    message = "eltwise_param"
    n_bottoms = (2, MAX_COUNT)

    operation = Field(Word("SUM"), values=("PROD", "SUM", "MAX"))
    coeff: Field[tuple[float, ...]] = Field(())
    stable_prod_grad = Field(True)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if any(shape != bottoms[0] for shape in bottoms):
            wanted = ", ".join(
                f"'{name}' {dims(shape)}" for name, shape in zip(self.bottoms, bottoms, strict=True)
            )
            raise ShapeError(
                f"needs bottoms of one shape, has {wanted}; "
                "give what makes them the same num_output, stride and pad"
            )
        if self.coeff and (self.operation == "PROD" or len(self.coeff) != len(bottoms)):
            raise ShapeError(
                f"has {len(self.coeff)} coeff for {len(bottoms)} bottoms and {self.operation}; "
                "SUM takes one for each bottom, or none"
            )
        return [bottoms[0]]

    def may_work_in_place(self) -> bool:
        return self.operation == "PROD"  # the others clear their top before they read the bottoms

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The joined bottoms."""
        import numpy as np

        if self.operation == "SUM":
            y = np.zeros_like(bottoms[0])
            for c, x in zip(self.coeff or (1.0,) * len(bottoms), bottoms, strict=True):
                y += x if c == 1 else c * x
            return [y]
        if self.operation == "PROD":
            return [reduce(np.multiply, bottoms)]
        # What a nan gives depends on its place: a > b ? a : b, and then c > top ? c : top.
        a, b, *others = bottoms
        first: Array = np.where(a > b, a, b)
        return [reduce(lambda y, x: np.where(x > y, x, y), others, first)]
