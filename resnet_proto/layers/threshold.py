"""Threshold: 1 above, 0 elsewhere. threshold_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class Threshold(Neuron):
    """1 where x > threshold, else 0."""

    message = "threshold_param"

    threshold = Field(0.0)

    def activation(self, x: Array) -> Array:
        return (x > self.threshold).astype(x.dtype)
