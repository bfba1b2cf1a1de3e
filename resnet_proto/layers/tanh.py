"""TanH: the hyperbolic tangent. tanh_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import ENGINES, Field, register
from resnet_proto.layers.neuron import Neuron
from resnet_proto.words import Word

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class TanH(Neuron):
    """tanh(x)."""

    message = "tanh_param"

    engine = Field(Word("DEFAULT"), values=ENGINES)

    def activation(self, x: Array) -> Array:
        import numpy as np

        return np.tanh(x)
