"""Silence: a reader that makes nothing. silence_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import MAX_COUNT, Layer, Shape, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Silence(Layer):
    """Reads blobs so that Caffe does not take them for outputs and log them."""

    n_bottoms = (1, MAX_COUNT)
    n_tops = (0, 0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return []

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return []
