"""Softmax along an axis. softmax_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import ENGINES, Field, Layer, Shape, axis_index, register
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Softmax(Layer):
    """exp(x - max) / sum, along ``axis``."""

    message = "softmax_param"

    engine = Field(Word("DEFAULT"), values=ENGINES)
    axis = Field(1)

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        axis_index(self.axis, bottoms[0])
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return [softmax(bottoms[0], self.axis)]


def softmax(x: Array, axis: int) -> Array:
    """exp(x - max) / sum, along ``axis``."""
    import numpy as np

    exp: Array = np.exp(x - x.max(axis=axis, keepdims=True))
    exp /= exp.sum(axis=axis, keepdims=True)
    return exp
