"""SigmoidCrossEntropyLoss, of targets between 0 and 1. sigmoid_cross_entropy_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import ENGINES, Field, Shape, count, dims, register
from resnet_proto.layers.loss import NormalizedLoss
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class SigmoidCrossEntropyLoss(NormalizedLoss):
    """-sum(t log(s) + (1 - t) log(1 - s)) with s = sigmoid(x), by default over the batch, ()."""

    message = "sigmoid_param"

    engine = Field(Word("DEFAULT"), values=ENGINES)

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, targets = bottoms
        if count(scores) != count(targets):
            raise ShapeError(f"scores are {dims(scores)}, targets {dims(targets)}")
        return []

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        x, target = bottoms[0].ravel(), bottoms[1].ravel()
        if self.ignore_label is not None:
            kept = np.trunc(target) != self.ignore_label
            x, target = x[kept], target[kept]
        positive = x >= 0
        away = x - 2 * x * positive  # -|x|, and nan where x is infinite: inf - inf, as Caffe has it
        total = (np.log1p(np.exp(away)) - x * (target - positive)).sum()
        outer, inner = len(bottoms[0]), count(bottoms[0].shape[1:])
        return (total / self.divisor(self.mode("BATCH_SIZE"), outer, inner, len(x)),)
