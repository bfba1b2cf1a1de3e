"""Concat: the bottoms one after the other along an axis. concat_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Layer, Shape, axis_index, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Concat(Layer):
    """Shapes differ along ``axis`` only. ``concat_dim`` is its old name."""

    message = "concat_param"
    n_bottoms = (1, MAX_COUNT)

    concat_dim = Field(1)
    axis = Field(1)

    @property
    def shares_memory(self) -> bool:
        return len(self.bottoms) == 1

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        first = bottoms[0]
        axis = chosen_axis(self, "concat_dim", first)
        for name, shape in zip(self.bottoms, bottoms, strict=True):
            if len(shape) != len(first) or any(
                a != b for i, (a, b) in enumerate(zip(shape, first, strict=True)) if i != axis
            ):
                raise ShapeError(
                    f"bottom '{name}' is {dims(shape)}, '{self.bottoms[0]}' is {dims(first)}; "
                    f"they may differ along axis {axis} only"
                )
        return [(*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :])]

    def may_work_in_place(self) -> bool:
        return len(self.bottoms) == 1

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        axis = chosen_axis(self, "concat_dim", bottoms[0].shape)
        return [np.concatenate(list(bottoms), axis=axis)]


def chosen_axis(layer: Layer, old: str, shape: Shape) -> int:
    """The axis of a Concat or Slice: ``axis``, or its ``old`` name, which counts from the front.

    Raises:
        ShapeError: both are set, or the bottom has no such axis.
    """
    if old not in layer.param:
        return axis_index(layer.param.get("axis", 1), shape)
    if "axis" in layer.param:
        raise ShapeError(f"has axis and {old}, its old name; give only axis")
    if layer.param[old] >= len(shape):
        raise ShapeError(f"{old} {layer.param[old]} is outside a bottom of shape {dims(shape)}")
    return int(layer.param[old])
