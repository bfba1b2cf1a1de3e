"""EuclideanLoss: half the mean squared distance. euclidean_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Shape, count, dims, register
from resnet_proto.layers.loss import Loss, legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class EuclideanLoss(Loss):
    """sum((a - b) ** 2) / (2 * N), ()."""

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        a, b = bottoms
        legacy(a)
        if count(a[1:]) != count(b[1:]):
            raise ShapeError(f"bottoms {dims(a)} and {dims(b)} hold different numbers of values")
        return []

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        a, b = bottoms
        return (np.square(a.reshape(b.shape) - b).sum() / len(a) / 2,)
