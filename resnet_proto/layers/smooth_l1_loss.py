"""SmoothL1Loss: quadratic near 0, linear beyond. Fast R-CNN's fork, smooth_L1_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Shape, dims, register
from resnet_proto.layers.loss import Loss, legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class SmoothL1Loss(Loss):
    """Bottoms: predictions, targets, then weights inside and outside of the loss, all of one shape.

    Top: the sum over everything, divided by the size of the first axis. With s = sigma squared,
    x adds s x x / 2 where it is nearer to 0 than 1 / s, else its size less 1 / 2s.
    """

    message = "smooth_l1_loss_param"
    n_bottoms = (2, 4)

    sigma = Field(1.0)

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        # The fork compares num, channels, height and width: (N, 8) is (N, 8, 1, 1).
        if len({legacy(shape) for shape in bottoms}) > 1:
            raise ShapeError(f"bottoms differ: {', '.join(map(dims, bottoms))}")
        return []

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        predicted, *others = bottoms
        target, *weights = (other.reshape(predicted.shape) for other in others)
        x = np.abs((predicted - target) * (weights[0] if weights else 1))
        s = x.dtype.type(self.sigma) ** 2  # of 0 it is 0, and each loss too
        loss = np.where(x < 1 / s, s * x * x / 2, x - 0.5 / s)
        return ((loss * (weights[1] if len(weights) > 1 else 1)).sum() / len(predicted),)
