"""Bias: add a blob, broadcast from ``axis`` on. bias_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Shape, register
from resnet_proto.layers.broadcast import Broadcast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Bias(Broadcast):
    """One bottom: beta is a blob. Two bottoms: the second one is added."""

    message = "bias_param"

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("bias",)[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        return {"bias": self.factor_shape(bottoms)} if len(bottoms) == 1 else {}

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The first bottom plus beta: a blob or the second bottom."""
        x, beta = (*bottoms, *blobs)
        return [x + beta.reshape(self.spread([bottom.shape for bottom in bottoms]))]
