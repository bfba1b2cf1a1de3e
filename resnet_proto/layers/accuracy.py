"""Accuracy: how many labels are among the best scores. accuracy_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, count, dims, register
from resnet_proto.layers.loss import by_label, check_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Accuracy(Layer):
    """The share of places where fewer than ``top_k`` other scores reach the label's, ().

    A tie counts against the label. The second top has that share for each class, and 0 for a class
    without labels.
    """

    message = "accuracy_param"
    n_bottoms = (2, 2)
    n_tops = (1, 2)

    top_k = Field(1)
    axis = Field(1)
    ignore_label: Field[int | None] = Field(None)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        axis = axis_index(self.axis, scores)
        check_labels(scores, axis, labels)
        if self.top_k > count(scores) // count(labels):
            raise ShapeError(f"top_k is {self.top_k}, for {scores[axis]} classes of {dims(scores)}")
        tops: list[Shape] = [(), (scores[axis],)]
        return tops[: len(self.tops)]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The share, (), and that of each class, (C,)."""
        import numpy as np

        scores, labels = bottoms
        axis = axis_index(self.axis, scores.shape)
        rows, label = by_label(self, scores, axis, labels, self.ignore_label)
        n = scores.shape[axis]
        own = rows[np.arange(len(rows)), label]
        right = (rows >= own[:, None]).sum(axis=1) - 1 < self.top_k
        total = np.bincount(label, minlength=n)
        found = np.bincount(label, right, minlength=n)
        shares = (found.sum() / max(1, len(label)), found / np.maximum(total, 1))
        return [np.asarray(share, scores.dtype) for share in shares[: len(self.tops)]]
