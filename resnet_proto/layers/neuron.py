"""What the layers share that compute each value from the one in its place. neuron_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Layer, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


class Neuron(Layer):
    """One bottom, one top of its shape."""

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return [self.activation(bottoms[0])]

    def activation(self, x: Array) -> Array:
        """A new array, value by value."""
        raise NotImplementedError
