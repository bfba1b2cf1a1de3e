"""ContrastiveLoss, of pairs. contrastive_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Shape, dims, register
from resnet_proto.layers.loss import Loss, legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class ContrastiveLoss(Loss):
    """Similar pairs: distance ** 2. Others: max(0, margin - distance) ** 2. Summed, / 2N.

    Bottoms are (N, C), (N, C) and (N,), whether they are similar. ``legacy_version`` takes
    max(0, margin - distance ** 2) for others.
    """

    message = "contrastive_loss_param"
    n_bottoms = (3, 3)

    margin = Field(1.0)
    legacy_version = Field(False)

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        a, b, similar = map(legacy, bottoms)
        if a[1:] != (b[1], 1, 1) or b[2:] != (1, 1) or similar[1:] != (1, 1, 1):
            raise ShapeError(f"takes (N, C), (N, C) and (N,), has {', '.join(map(dims, bottoms))}")
        if similar[0] < a[0]:
            raise ShapeError(f"{a[0]} pairs, but whether they are similar is said of {similar[0]}")
        return []

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        a, b, similar = bottoms
        n = len(a)
        squared = np.square(a.reshape(n, -1) - b.reshape(n, -1)).sum(axis=1)
        if self.legacy_version:
            other = np.maximum(self.margin - squared, 0)
        else:
            other = np.square(np.maximum(self.margin - np.sqrt(squared), 0))
        return (np.where(np.trunc(similar.ravel()[:n]), squared, other).sum() / n / 2,)
