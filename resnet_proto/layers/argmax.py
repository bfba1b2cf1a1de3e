"""ArgMax: places or values of the largest. argmax_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, axis_index, count, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class ArgMax(Layer):
    """The ``top_k`` largest, largest first; of equal values the last one is the first.

    Along ``axis``: their places, or with ``out_max_val`` the values. Without it, over everything
    behind the first axis: (N, 1, top_k), or (N, 2, top_k) with places and values.
    """

    message = "argmax_param"

    out_max_val = Field(False)
    top_k = Field(1)
    axis: Field[int | None] = Field(None)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,) = bottoms
        if self.axis is None:
            if not shape:
                raise ShapeError("takes no scalar")
            n = count(shape[1:])
            top: Shape = (shape[0], 2 if self.out_max_val else 1, self.top_k)
            top += (1,) * (len(shape) - 3)
        else:
            axis = axis_index(self.axis, shape)
            n = shape[axis]
            top = (*shape[:axis], self.top_k, *shape[axis + 1 :])
        if not 1 <= self.top_k <= n:
            raise ShapeError(f"top_k is {self.top_k}, of {n} values in {dims(shape)}")
        return [top]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        (x,) = bottoms
        top = self.top_shapes([x.shape])[0]
        axis = 1 if self.axis is None else axis_index(self.axis, x.shape)
        values = x.reshape(len(x), -1) if self.axis is None else x
        order = np.argsort(values, axis=axis, kind="stable")
        places = np.flip(order, axis).take(range(self.top_k), axis)
        largest = np.take_along_axis(values, places, axis)
        if self.axis is not None:
            return [largest if self.out_max_val else places.astype(x.dtype)]
        rows = [places.astype(x.dtype), largest] if self.out_max_val else [places.astype(x.dtype)]
        return [np.stack(rows, axis=1).reshape(top)]
