"""One file for each Caffe layer type; ``base`` holds what they share."""

from resnet_proto.layers.base import (
    MAX_COUNT,
    REGISTRY,
    Field,
    Layer,
    Shape,
    axis_index,
    count,
    dims,
    make_layer,
    normal,
    register,
)
from resnet_proto.layers.batch_norm import BatchNorm
from resnet_proto.layers.convolution import Convolution
from resnet_proto.layers.eltwise import Eltwise
from resnet_proto.layers.inner_product import InnerProduct
from resnet_proto.layers.input import Input
from resnet_proto.layers.pooling import Pooling
from resnet_proto.layers.relu import ReLU
from resnet_proto.layers.scale import Scale
from resnet_proto.layers.softmax import Softmax

__all__ = [
    "MAX_COUNT",
    "REGISTRY",
    "BatchNorm",
    "Convolution",
    "Eltwise",
    "Field",
    "InnerProduct",
    "Input",
    "Layer",
    "Pooling",
    "ReLU",
    "Scale",
    "Shape",
    "Softmax",
    "axis_index",
    "count",
    "dims",
    "make_layer",
    "normal",
    "register",
]
