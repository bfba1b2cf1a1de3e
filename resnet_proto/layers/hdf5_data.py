"""HDF5Data: arrays from HDF5 files. hdf5_data_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Shape, register
from resnet_proto.layers.base_data import BaseData

if TYPE_CHECKING:
    from collections.abc import Mapping


@register
class HDF5Data(BaseData):
    """A data set of the file for each top, of any shape: all have to be handed in."""

    message = "hdf5_data_param"
    n_tops = (1, MAX_COUNT)

    source = Field("")
    batch_size = Field(0)
    shuffle = Field(False)

    def tops_with(self, given: Mapping[str, Shape]) -> list[Shape]:
        if "transform_param" in self.fields:
            raise ShapeError("does not transform data; leave transform_param out")
        for name in self.tops:
            if name not in given:
                raise self.unknown(name)
        return [given[name] for name in self.tops]
