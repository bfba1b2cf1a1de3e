"""Exp: base ** (shift + scale * x). exp_layer.cpp"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Exp(Neuron):
    """base ** (shift + scale * x); base -1 is e."""

    message = "exp_param"

    base = Field(-1.0)
    scale = Field(1.0)
    shift = Field(0.0)

    @property
    def factors(self) -> tuple[float, float]:
        """a, b of b * exp(a * x)."""
        import numpy as np

        log = log_of(self.base)
        with np.errstate(over="ignore"):
            return log * self.scale, float(np.exp(log * self.shift))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        log_of(self.base)
        return super().top_shapes(bottoms)

    def activation(self, x: Array) -> Array:
        import numpy as np

        inner, outer = self.factors
        y: Array = np.exp(inner * x)
        return y if outer == 1 else y * outer


def log_of(base: float) -> float:
    """Natural logarithm of the base of Exp or Log.

    Raises:
        ShapeError: there is none.
    """
    if base == -1:
        return 1
    if not 0 < base < math.inf:
        raise ShapeError(f"base is {base:g}; give one above 0, or -1 for e")
    return math.log(base)
