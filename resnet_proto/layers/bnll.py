"""BNLL: log(1 + exp(x)). bnll_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class BNLL(Neuron):
    """log(1 + exp(x)), computed so that exp cannot overflow."""

    def activation(self, x: Array) -> Array:
        import numpy as np

        return np.logaddexp(x, x.dtype.type(0))
