"""Tile: the bottom several times along an axis. tile_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Tile(Layer):
    """``tiles`` copies, one after the other along ``axis``."""

    message = "tile_param"

    axis = Field(1)
    tiles = Field(0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,) = bottoms
        axis = axis_index(self.axis, shape)
        if self.tiles < 1:
            raise ShapeError(f"tiles is {self.tiles}; at least 1 is needed")
        return [(*shape[:axis], shape[axis] * self.tiles, *shape[axis + 1 :])]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        return [np.concatenate([bottoms[0]] * self.tiles, axis=self.axis)]
