"""MVN: mean 0 and variance 1 for each image or channel. mvn_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, Layer, Shape, register
from resnet_proto.layers.loss import legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class MVN(Layer):
    """(x - mean) / (deviation + eps), (N, C, H, W); a bottom of fewer axes gets ones behind them.

    Over each channel of an image, or with ``across_channels`` over each image.
    """

    message = "mvn_param"

    normalize_variance = Field(True)
    across_channels = Field(False)
    eps = Field(1e-9)

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [legacy(bottoms[0])]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        x = bottoms[0].reshape(legacy(bottoms[0].shape))
        axes = (1, 2, 3) if self.across_channels else (2, 3)
        y = x - x.mean(axis=axes, keepdims=True)
        if self.normalize_variance:
            y /= np.sqrt(np.square(y).mean(axis=axes, keepdims=True)) + self.eps
        return [y]
