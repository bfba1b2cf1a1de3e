"""Clip: values cut off at both ends. clip_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Clip(Neuron):
    """max(min, min(x, max)); both are needed."""

    message = "clip_param"

    min: Field[float | None] = Field(None)
    max: Field[float | None] = Field(None)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.min is None or self.max is None:
            raise ShapeError("needs min and max")
        return super().top_shapes(bottoms)

    def activation(self, x: Array) -> Array:
        import numpy as np

        assert self.min is not None
        assert self.max is not None
        return np.maximum(self.min, np.minimum(x, self.max))
