"""Reduction: one value for everything from an axis on. reduction_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, Layer, Shape, axis_index, register
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Reduction(Layer):
    """coeff times the SUM, MEAN, ASUM (of absolute values) or SUMSQ (of squares)."""

    message = "reduction_param"

    operation = Field(Word("SUM"), values=("SUM", "ASUM", "SUMSQ", "MEAN"))
    axis = Field(0)
    coeff = Field(1.0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0][: axis_index(self.axis, bottoms[0])]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        (x,) = bottoms
        kept = self.top_shapes([x.shape])[0]
        values = x.reshape(*kept, -1)
        if self.operation == "ASUM":
            values = np.abs(values)
        elif self.operation == "SUMSQ":
            values = np.square(values)
        y = values.mean(axis=-1) if self.operation == "MEAN" else values.sum(axis=-1)
        return [np.asarray(self.coeff * y, x.dtype)]
