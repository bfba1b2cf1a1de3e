"""ELU: exponential below zero. elu_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class ELU(Neuron):
    """x above 0, alpha * (exp(x) - 1) below."""

    message = "elu_param"

    alpha = Field(1.0)

    def activation(self, x: Array) -> Array:
        import numpy as np

        y: Array = np.maximum(x, 0) + self.alpha * np.expm1(np.minimum(x, 0))
        return y
