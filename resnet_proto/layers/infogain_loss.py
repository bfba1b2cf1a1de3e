"""InfogainLoss: SoftmaxWithLoss with a matrix of gains. infogain_loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError, UnknownLayerError
from resnet_proto.layers.base import Field, Shape, axis_index, count, dims, register
from resnet_proto.layers.loss import LOG_THRESHOLD, NormalizedLoss, by_label, check_labels, places
from resnet_proto.layers.softmax import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class InfogainLoss(NormalizedLoss):
    """-sum(H[label] * log(softmax)), along ``axis``; the second top is the softmax.

    The matrix H, (C, C), is the third bottom, or in a file that Caffe reads and we do not.
    """

    message = "infogain_loss_param"
    n_bottoms = (2, 3)
    n_tops = (1, 2)

    source = Field("")
    axis = Field(1)

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.normalize is not None:
            raise ShapeError("normalize is an old field; give normalization")
        if len(self.tops) > 1 and "loss_weight" not in self.fields:
            raise ShapeError("with two tops it needs two loss_weight")
        axis = axis_index(self.axis, bottoms[0])
        check_labels(bottoms[0], axis, bottoms[1])
        n = bottoms[0][axis]
        if len(bottoms) == 2 and "source" not in self.param:
            raise ShapeError("has no matrix: give a third bottom, or a source")
        if len(bottoms) == 3 and count(bottoms[2]) != n * n:
            raise ShapeError(f"the matrix is {dims(bottoms[2])}, for {n} classes")
        return [bottoms[0]]

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        import numpy as np

        if len(bottoms) == 2:
            raise UnknownLayerError(
                f"layer '{self.name}' (InfogainLoss): its matrix is in '{self.source}', which is "
                "not read; make it a third bottom"
            )
        x, labels, gains = bottoms
        axis = axis_index(self.axis, x.shape)
        outer, n, inner = places(x.shape, axis)
        prob = softmax(x, axis)
        rows, label = by_label(self, prob, axis, labels, self.ignore_label)
        gain = gains.reshape(n, n)[label]
        total = -(gain * np.log(np.maximum(rows, LOG_THRESHOLD))).sum()
        return total / self.divisor(self.mode(), outer, inner, len(rows)), prob
