"""Log: the logarithm of shift + scale * x. log_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.exp import log_of
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Log(Neuron):
    """log(shift + scale * x) to the ``base``; -1 is e."""

    message = "log_param"

    base = Field(-1.0)
    scale = Field(1.0)
    shift = Field(0.0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if not log_of(self.base):
            raise ShapeError("base is 1, to which there is no logarithm")
        return super().top_shapes(bottoms)

    def activation(self, x: Array) -> Array:
        import numpy as np

        y: Array = np.log(self.scale * x + self.shift)
        return y / log_of(self.base)
