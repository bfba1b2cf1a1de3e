"""Normalize: length 1 for each image or pixel, times a scale. SSD's fork, normalize_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register
from resnet_proto.layers.loss import legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Normalize(Layer):
    """x / sqrt(sum of squares + eps) * scale, on (N, C, H, W) or fewer axes.

    The sum is over an image; without ``across_spatial`` over the channels of a pixel. The scale
    is a scalar blob; without ``channel_shared`` it has a value for each channel.
    """

    message = "norm_param"

    across_spatial = Field(True)
    scale_filler: Field[dict[str, Any]] = Field({})
    channel_shared = Field(True)
    eps = Field(1e-10)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are summed over, of four."""
        return (1, 2, 3) if self.across_spatial else (1,)

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("weight",)[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        return {"weight": () if self.channel_shared else (bottoms[0][1],)}

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise ShapeError(f"needs a bottom with a channel axis, has {dims(bottoms[0])}")
        legacy(bottoms[0])
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        x = bottoms[0].reshape(legacy(bottoms[0].shape))
        length = np.sqrt(np.square(x).sum(axis=self.axes, keepdims=True) + self.eps)
        y = x / length
        y *= blobs[0].reshape(-1, 1, 1)
        return [y.reshape(bottoms[0].shape)]
