"""Permute: another order of the axes. SSD's fork, permute_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Permute(Layer):
    """Axis i of the top is axis ``order[i]`` of the bottom; axes that are not named come last."""

    message = "permute_param"

    order: Field[tuple[int, ...]] = Field(())

    @property
    def shares_memory(self) -> bool:
        return self.order == tuple(range(len(self.order)))  # nothing to move

    def axes(self, bottom: Shape) -> tuple[int, ...]:
        """The whole order.

        Raises:
            ShapeError: there is no such axis, or it is named twice.
        """
        order, n_axes = self.order, len(bottom)
        if len(set(order)) < len(order) or max(order, default=-1) >= n_axes:
            raise ShapeError(
                f"order {', '.join(map(str, order))} names an axis twice, or one that a bottom of "
                f"shape {dims(bottom)} does not have"
            )
        return (*order, *(axis for axis in range(n_axes) if axis not in order))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [tuple(bottoms[0][axis] for axis in self.axes(bottoms[0]))]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return [bottoms[0].transpose(self.axes(bottoms[0].shape)).copy()]
