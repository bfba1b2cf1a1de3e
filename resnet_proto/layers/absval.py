"""AbsVal: the absolute value. absval_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Shape, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class AbsVal(Neuron):
    """|x|; the only one of its kind that Caffe refuses in place."""

    def may_work_in_place(self) -> bool:
        return False

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.refuse_in_place()
        return super().top_shapes(bottoms)

    def activation(self, x: Array) -> Array:
        import numpy as np

        return np.abs(x)
