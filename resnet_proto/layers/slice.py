"""Slice: parts of the bottom along an axis. slice_layer.cpp"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Layer, Shape, register
from resnet_proto.layers.concat import chosen_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Slice(Layer):
    """Cut at each ``slice_point``, or into equal parts. ``slice_dim`` is the axis's old name."""

    message = "slice_param"
    n_tops = (1, MAX_COUNT)

    slice_dim = Field(1)
    slice_point: Field[tuple[int, ...]] = Field(())
    axis = Field(1)

    @property
    def shares_memory(self) -> bool:
        return len(self.tops) == 1

    def cuts(self, bottom: Shape) -> tuple[int, list[int]]:
        """The axis, and where parts begin and end along it."""
        axis = chosen_axis(self, "slice_dim", bottom)
        size, n = bottom[axis], len(self.tops)
        if not self.slice_point:
            if size % n:
                raise ShapeError(f"{n} top do not divide axis {axis} of {size}; give slice_point")
            return axis, [i * size // n for i in range(n + 1)]
        cuts = [0, *self.slice_point, size]
        if len(self.slice_point) != n - 1 or n > size:
            raise ShapeError(
                f"has {len(self.slice_point)} slice_point for {n} top and axis {axis} of {size}; "
                f"{n - 1} are needed"
            )
        if any(b <= a for a, b in pairwise(cuts[:-1])):
            raise ShapeError(f"slice_point {', '.join(map(str, cuts[1:-1]))} must grow, from 1 on")
        return axis, cuts

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,) = bottoms
        axis, cuts = self.cuts(shape)
        return [(*shape[:axis], b - a, *shape[axis + 1 :]) for a, b in pairwise(cuts)]

    def may_work_in_place(self) -> bool:
        return len(self.tops) == 1

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        (x,) = bottoms
        axis, cuts = self.cuts(x.shape)
        before = (slice(None),) * axis
        return [x[(*before, slice(a, b))].copy() for a, b in pairwise(cuts)]
