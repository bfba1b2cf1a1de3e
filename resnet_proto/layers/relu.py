"""ReLU, leaky by ``negative_slope``. relu_layer.cpp"""

from __future__ import annotations

from collections.abc import Sequence

from resnet_proto.layers.base import Field, Layer, Shape, register


@register
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0)."""

    message = "relu_param"

    negative_slope = Field(0.0)
    engine = Field("DEFAULT")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]]
