"""LRN: local response normalisation, across channels or within one. lrn_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import ENGINES, Field, Layer, Shape, dims, register
from resnet_proto.layers.pooling import Pooling
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class LRN(Layer):
    """x / (k + alpha * mean(x ** 2)) ** beta, the mean over ``local_size`` channels around.

    WITHIN_CHANNEL the mean is an average pooling of ``local_size`` rows and columns, and k is 1.
    """

    message = "lrn_param"

    local_size = Field(5)
    alpha = Field(1.0)
    beta = Field(0.75)
    norm_region = Field(Word("ACROSS_CHANNELS"), values=("ACROSS_CHANNELS", "WITHIN_CHANNEL"))
    k = Field(1.0)
    engine = Field(Word("DEFAULT"), values=ENGINES)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.local_size % 2 == 0:
            raise ShapeError(f"local_size is {self.local_size}; it has to be odd")
        if len(bottoms[0]) != 4:
            raise ShapeError(f"takes (N, C, H, W), has {dims(bottoms[0])}")
        return [bottoms[0]]

    def padded(self, bottom: Shape) -> Shape:
        n, channels, rows, columns = bottom
        more = self.local_size - 1
        if self.norm_region == "WITHIN_CHANNEL":
            return (n, channels, rows + more, columns + more)
        return (n, channels + more, rows, columns)

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        (x,) = bottoms
        pad = (self.local_size - 1) // 2
        if self.norm_region == "WITHIN_CHANNEL":
            sizes = {"kernel_size": self.local_size, "pad": pad}
            (mean,) = Pooling.of(self.name, "", "", pool="AVE", **sizes).forward([x * x], [])
            return [x * (1 + self.alpha * mean) ** -self.beta]
        squares = np.pad(x * x, ((0, 0), (pad, pad), (0, 0), (0, 0)))
        seen = np.lib.stride_tricks.sliding_window_view(squares, self.local_size, axis=1)
        scale = self.k + self.alpha / self.local_size * seen.sum(axis=-1)
        return [x * scale**-self.beta]
