"""WindowData: windows of images that a text file lists. window_data_layer.cpp"""

from __future__ import annotations

from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.base_data import BaseData


@register
class WindowData(BaseData):
    """(batch_size, 3, crop_size, crop_size), and labels; Caffe needs the crop.

    It is the one in ``transform_param``. The channels are those that the window file names: where
    they are not 3, the shape has to be handed in.
    """

    message = "window_data_param"

    source = Field("")
    scale = Field(1.0)
    mean_file = Field("")
    batch_size = Field(0)
    crop_size = Field(0)
    mirror = Field(False)
    fg_threshold = Field(0.5)
    bg_threshold = Field(0.5)
    fg_fraction = Field(0.25)
    context_pad = Field(0)
    crop_mode = Field("warp")
    cache_images = Field(False)
    root_folder = Field("")

    def data_shape(self) -> Shape:
        return self.cropped(self.batch_size, 3)
