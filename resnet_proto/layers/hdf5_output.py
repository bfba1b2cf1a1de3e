"""HDF5Output: data and labels into a file, by Caffe. hdf5_output_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register
from resnet_proto.layers.loss import legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class HDF5Output(Layer):
    """Two bottoms, no top. Nothing is written here."""

    message = "hdf5_output_param"
    n_bottoms = (2, 2)
    n_tops = (0, 0)

    file_name = Field("")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        data, label = map(legacy, bottoms)
        if data[0] != label[0]:
            raise ShapeError(f"bottoms {', '.join(map(dims, bottoms))} differ in the first size")
        return []

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return []
