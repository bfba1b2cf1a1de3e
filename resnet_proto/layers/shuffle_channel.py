"""ShuffleChannel: channels of all groups take turns. ShuffleNet's fork, shuffle_channel_layer.cpp

github farmingyard/ShuffleNet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class ShuffleChannel(Layer):
    """Channel j of group i becomes channel i of group j: (group, C / group) is transposed."""

    message = "shuffle_channel_param"

    group = Field(1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        if len(shape) < 2:
            raise ShapeError(f"needs a bottom with a channel axis, has {dims(shape)}")
        if self.group < 1 or shape[1] % self.group:
            raise ShapeError(f"group {self.group} does not divide {shape[1]} channels")
        return [shape]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        x = bottoms[0]
        n, c, *behind = x.shape
        groups = x.reshape(n, self.group, c // self.group, *behind)
        return [groups.swapaxes(1, 2).copy().reshape(x.shape)]
