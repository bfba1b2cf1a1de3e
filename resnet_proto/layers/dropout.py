"""Dropout: at phase TEST a copy. dropout_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class Dropout(Neuron):
    """A copy: what survives in training is divided by 1 - ratio there, so nothing is left to do."""

    message = "dropout_param"

    dropout_ratio = Field(0.5)

    @property
    def is_random(self) -> bool:
        return self.fields.get("phase") == "TRAIN"

    @property
    def rewrites(self) -> bool:
        return self.is_random

    def activation(self, x: Array) -> Array:
        return x.copy()
