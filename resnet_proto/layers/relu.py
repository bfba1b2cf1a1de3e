"""ReLU, leaky by ``negative_slope``. relu_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import ENGINES, Field, register
from resnet_proto.layers.neuron import Neuron
from resnet_proto.words import Word

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class ReLU(Neuron):
    """max(x, 0) + negative_slope * min(x, 0); with a slope of 0 too, which makes nan of -inf."""

    message = "relu_param"

    negative_slope = Field(0.0)
    engine = Field(Word("DEFAULT"), values=ENGINES)

    def activation(self, x: Array) -> Array:
        import numpy as np

        y: Array = np.maximum(x, 0) + self.negative_slope * np.minimum(x, 0)
        return y
