"""Data: images from an LMDB or LevelDB. data_layer.cpp, data_transformer.cpp"""

from __future__ import annotations

from resnet_proto.layers.base import Field, Shape, register
from resnet_proto.layers.base_data import BaseData
from resnet_proto.words import Word


@register
class Data(BaseData):
    """(batch_size, channels, crop_size, crop_size), and labels.

    The size is known with ``transform_param { crop_size }`` only; ``crop_size`` here is an old
    field that Caffe does not look at. channels is 1 with ``force_gray`` there, else 3: a net of
    one-channel data needs its shape handed in.
    """

    message = "data_param"
    n_tops = (1, 2)

    source = Field("")
    scale = Field(1.0)
    mean_file = Field("")
    batch_size = Field(0)
    crop_size = Field(0)
    mirror = Field(False)
    rand_skip = Field(0)
    backend = Field(Word("LEVELDB"), values=("LEVELDB", "LMDB"))
    force_encoded_color = Field(False)
    prefetch = Field(4)

    def data_shape(self) -> Shape:
        return self.cropped(self.batch_size, 1 if self.transform.get("force_gray") else 3)
