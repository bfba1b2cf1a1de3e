"""MemoryData: arrays that a program hands to Caffe. memory_data_layer.cpp"""

from __future__ import annotations

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Shape, count, dims, register
from resnet_proto.layers.base_data import BaseData


@register
class MemoryData(BaseData):
    """(batch_size, channels, height, width), and labels. Arrays are not transformed."""

    message = "memory_data_param"

    batch_size = Field(0)
    channels = Field(0)
    height = Field(0)
    width = Field(0)

    def data_shape(self) -> Shape:
        shape = (self.batch_size, self.channels, self.height, self.width)
        if not count(shape):
            raise ShapeError(f"is {dims(shape)}; batch_size, channels, height and width are needed")
        return shape
