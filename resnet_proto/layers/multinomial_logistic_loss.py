"""MultinomialLogisticLoss, of probabilities. multinomial_logistic_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Shape, dims, register
from resnet_proto.layers.loss import LOG_THRESHOLD, Loss, classes, legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class MultinomialLogisticLoss(Loss):
    """-sum(log(probability of the label)) / N; labels are (N,)."""

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        legacy(bottoms[0])
        if legacy(bottoms[1])[1:] != (1, 1, 1):
            raise ShapeError(f"labels are {dims(bottoms[1])}; one for each image is needed")
        return []

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        rows = bottoms[0].reshape(len(bottoms[0]), -1)
        label = classes(self, bottoms[1], rows.shape[1])
        prob = rows[np.arange(len(rows)), label]
        return (-np.log(np.maximum(prob, LOG_THRESHOLD)).sum() / len(rows),)
