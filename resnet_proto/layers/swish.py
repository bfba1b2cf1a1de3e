"""Swish: x * sigmoid(beta * x). swish_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, register
from resnet_proto.layers.neuron import Neuron
from resnet_proto.layers.sigmoid import sigmoid

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class Swish(Neuron):
    """x * sigmoid(beta * x)."""

    message = "swish_param"

    beta = Field(1.0)

    def activation(self, x: Array) -> Array:
        return x * sigmoid(self.beta * x)
