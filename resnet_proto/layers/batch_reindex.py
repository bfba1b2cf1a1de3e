"""BatchReindex: images chosen by number. batch_reindex_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Layer, Shape, dims, register
from resnet_proto.layers.loss import classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class BatchReindex(Layer):
    """The second bottom, (M,), numbers images of the first: (N, ...) -> (M, ...)."""

    n_bottoms = (2, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        x, places = bottoms
        if not x or len(places) != 1:
            raise ShapeError(f"takes (N, ...) and (M,), has {dims(x)} and {dims(places)}")
        return [(*places, *x[1:])]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Images, copied.

        Raises:
            NetError: a number that no image has.
        """
        x, places = bottoms
        return [x[classes(self, places, len(x))]]
