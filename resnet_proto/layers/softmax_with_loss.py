"""SoftmaxWithLoss: minus the logarithm of the label's probability. softmax_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import ENGINES, Field, Shape, axis_index, register
from resnet_proto.layers.loss import NormalizedLoss, by_label, check_labels, places
from resnet_proto.layers.softmax import softmax
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array

LEAST = 2.0**-126
"""FLT_MIN, in float64 too: a smaller probability counts as this."""


@register
class SoftmaxWithLoss(NormalizedLoss):
    """Scores along ``axis``, and a label for each place along the others -> a loss, ().

    The softmax would be its second top, but Caffe refuses every net that names it: its own Softmax
    is given the loss weights of both.
    """

    message = "softmax_param"
    n_tops = (1, 2)

    engine = Field(Word("DEFAULT"), values=ENGINES)
    axis = Field(1)

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(self.tops) > 1:
            raise ShapeError("Caffe cannot set up its second top; use a Softmax for that")
        check_labels(bottoms[0], axis_index(self.axis, bottoms[0]), bottoms[1])
        return []

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        x, labels = bottoms
        axis = axis_index(self.axis, x.shape)
        outer, _, inner = places(x.shape, axis)
        rows, label = by_label(self, softmax(x, axis), axis, labels, self.ignore_label)
        of_label = rows[np.arange(len(rows)), label]
        total = -np.log(np.maximum(of_label, LEAST)).sum()
        return (total / self.divisor(self.mode(), outer, inner, len(rows)),)
