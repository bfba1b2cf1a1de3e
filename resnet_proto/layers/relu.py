"""ReLU, leaky by ``negative_slope``. relu_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, Layer, Shape, register
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0)."""

    message = "relu_param"

    negative_slope = Field(0.0)
    engine = Field(Word("DEFAULT"))

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        x = bottoms[0]
        y = np.maximum(x, 0)
        return [y + self.negative_slope * np.minimum(x, 0)] if self.negative_slope else [y]
