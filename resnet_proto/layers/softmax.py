"""Softmax along an axis. softmax_layer.cpp"""

from __future__ import annotations

from collections.abc import Sequence

from resnet_proto.layers.base import Field, Layer, Shape, axis_index, register


@register
class Softmax(Layer):
    """exp(x - max) / sum, along ``axis``."""

    message = "softmax_param"

    engine = Field("DEFAULT")
    axis = Field(1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        axis_index(self.axis, bottoms[0])
        return [bottoms[0]]
