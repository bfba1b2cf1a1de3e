"""PReLU: a slope below zero for each channel, learned. prelu_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class PReLU(Layer):
    """max(x, 0) + weight * min(x, 0); the weight is (C,), or a scalar if ``channel_shared``."""

    message = "prelu_param"

    filler: Field[dict[str, Any]] = Field({})
    channel_shared = Field(False)

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("weight",)[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        return {"weight": () if self.channel_shared else (bottoms[0][1],)}

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if not 2 <= len(bottoms[0]) <= 4:
            raise ShapeError(f"takes 2 to 4 axes, the second one channels; not {dims(bottoms[0])}")
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The slope of each channel lies along the second axis."""
        import numpy as np

        x = bottoms[0]
        slope = blobs[0].reshape(-1, *(1 for _ in x.shape[2:]))
        return [np.maximum(x, 0) + slope * np.minimum(x, 0)]
