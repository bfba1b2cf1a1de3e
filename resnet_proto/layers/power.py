"""Power: (shift + scale * x) ** power. power_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, normal, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class Power(Neuron):
    """(shift + scale * x) ** power; a scale or power of 0 gives a constant, whatever x is."""

    message = "power_param"

    power = Field(1.0)
    scale = Field(1.0)
    shift = Field(0.0)

    @property
    def constant(self) -> bool:
        """Whether the top does not depend on the bottom; Caffe's product is a float32."""
        return bool(normal(self.power * self.scale) == 0)

    def activation(self, x: Array) -> Array:
        import numpy as np

        y: Array = np.full_like(x, self.shift) if self.constant else x * self.scale + self.shift
        return y if self.power == 1 else y**self.power
