"""ImageData: images that a text file lists. image_data_layer.cpp, data_transformer.cpp"""

from __future__ import annotations

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.base_data import BaseData


@register
class ImageData(BaseData):
    """(batch_size, channels, rows, columns), and labels; channels is 3, or 1 without ``is_color``.

    The size is ``transform_param { crop_size }``, else ``new_height`` and ``new_width``;
    ``crop_size`` here is an old field that Caffe does not look at.
    """

    message = "image_data_param"

    source = Field("")
    scale = Field(1.0)
    mean_file = Field("")
    batch_size = Field(1)
    crop_size = Field(0)
    mirror = Field(False)
    rand_skip = Field(0)
    shuffle = Field(False)
    new_height = Field(0)
    new_width = Field(0)
    is_color = Field(True)
    root_folder = Field("")

    def data_shape(self) -> Shape:
        image = (self.new_height, self.new_width)
        if image != (0, 0) and not min(image):
            raise ShapeError("new_height and new_width go together")
        return self.cropped(self.batch_size, 3 if self.is_color else 1, image if any(image) else ())
