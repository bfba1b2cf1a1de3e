"""Split: the bottom, several times. split_layer.cpp

Caffe inserts one wherever several layers read a blob; a net may also have its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import MAX_COUNT, Layer, Shape, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Split(Layer):
    """Each top is the bottom."""

    n_tops = (1, MAX_COUNT)

    @property
    def shares_memory(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.refuse_in_place()
        return [bottoms[0]] * len(self.tops)

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return [bottoms[0].copy() for _ in self.tops]
