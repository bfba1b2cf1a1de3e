"""HingeLoss: one against all. hinge_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.loss import Loss, classes, legacy
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class HingeLoss(Loss):
    """max(0, 1 + score), with the label's score negated; their sum (L1) or that of squares, / N."""

    message = "hinge_loss_param"

    norm = Field(Word("L1"), values=("L1", "L2"))

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        legacy(bottoms[0])
        return []

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        scores = bottoms[0].reshape(len(bottoms[0]), -1).copy()
        rows = np.arange(len(scores))
        label = classes(self, bottoms[1].ravel()[: len(scores)], scores.shape[1])
        scores[rows, label] *= -1
        margin = np.fmax(0, 1 + scores)  # std::max(0, nan) is 0
        return ((margin if self.norm == "L1" else np.square(margin)).sum() / len(scores),)
