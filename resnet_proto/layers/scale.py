"""Scale: multiply by a blob, broadcast from ``axis`` on, and add a bias. scale_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.broadcast import Broadcast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Scale(Broadcast):
    """One bottom: gamma (and beta) are blobs. Two bottoms: the second one multiplies."""

    message = "scale_param"

    bias_term = Field(False)
    bias_filler: Field[dict[str, Any]] = Field({})

    def placeless(self, bottoms: Sequence[Shape]) -> bool:
        return super().placeless(bottoms) and not self.bias_term  # for which Caffe needs the axis

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("bias",)[:count] if len(self.bottoms) == 2 else ("weight", "bias")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        shape = self.factor_shape(bottoms)
        shapes = {"weight": shape} if len(bottoms) == 1 else {}
        if self.bias_term:
            shapes["bias"] = shape
        return shapes

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The first bottom times gamma (a blob or the second bottom), plus beta if there is one."""
        x = bottoms[0]
        gamma, *beta = blobs if len(bottoms) == 1 else (bottoms[1], *blobs)
        spread = self.spread([bottom.shape for bottom in bottoms])
        y = x * gamma.reshape(spread)
        if beta:
            y += beta[0].reshape(spread)
        return [y]
