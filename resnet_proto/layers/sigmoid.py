"""Sigmoid: 1 / (1 + exp(-x)). sigmoid_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import ENGINES, Field, register
from resnet_proto.layers.neuron import Neuron
from resnet_proto.words import Word

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class Sigmoid(Neuron):
    """1 / (1 + exp(-x)), by a tanh that cannot overflow, as Caffe does it."""

    message = "sigmoid_param"

    engine = Field(Word("DEFAULT"), values=ENGINES)

    def activation(self, x: Array) -> Array:
        return sigmoid(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    import numpy as np

    y: Array = 0.5 * np.tanh(0.5 * x) + 0.5
    return y
