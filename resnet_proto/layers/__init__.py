"""One file for each Caffe layer type; ``base`` holds what they share.

A type's module is imported when the type is first needed: most nets need few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:  # those that other parts of the package name
    from resnet_proto.layers.batch_norm import BatchNorm as BatchNorm
    from resnet_proto.layers.concat import Concat as Concat
    from resnet_proto.layers.convolution import Convolution as Convolution
    from resnet_proto.layers.crop import Crop as Crop
    from resnet_proto.layers.deconvolution import Deconvolution as Deconvolution
    from resnet_proto.layers.eltwise import Eltwise as Eltwise
    from resnet_proto.layers.flatten import Flatten as Flatten
    from resnet_proto.layers.inner_product import InnerProduct as InnerProduct
    from resnet_proto.layers.input import Input as Input
    from resnet_proto.layers.pooling import Pooling as Pooling
    from resnet_proto.layers.power import Power as Power
    from resnet_proto.layers.proposal import Proposal as Proposal
    from resnet_proto.layers.psroi_pooling import PSROIPooling as PSROIPooling
    from resnet_proto.layers.relu import ReLU as ReLU
    from resnet_proto.layers.reshape import Reshape as Reshape
    from resnet_proto.layers.roi_pooling import ROIPooling as ROIPooling
    from resnet_proto.layers.scale import Scale as Scale
    from resnet_proto.layers.slice import Slice as Slice
    from resnet_proto.layers.smooth_l1_loss import SmoothL1Loss as SmoothL1Loss
    from resnet_proto.layers.softmax import Softmax as Softmax

__all__ = [
    "MAX_COUNT",
    "REGISTRY",
    "Field",
    "Layer",
    "Shape",
    "axis_index",
    "count",
    "dims",
    "make_layer",
    "normal",
    "register",
]

REGISTRY.modules.update(
    AbsVal="absval",
    Accuracy="accuracy",
    BatchNorm="batch_norm",
    Concat="concat",
    Convolution="convolution",
    Crop="crop",
    Data="data",
    Deconvolution="deconvolution",
    Dropout="dropout",
    DummyData="dummy_data",
    Eltwise="eltwise",
    EuclideanLoss="euclidean_loss",
    Flatten="flatten",
    HDF5Data="hdf5_data",
    ImageData="image_data",
    InnerProduct="inner_product",
    Input="input",
    MemoryData="memory_data",
    PSROIPooling="psroi_pooling",
    Pooling="pooling",
    Power="power",
    Proposal="proposal",
    ROIPooling="roi_pooling",
    ReLU="relu",
    Reshape="reshape",
    Scale="scale",
    Sigmoid="sigmoid",
    SigmoidCrossEntropyLoss="sigmoid_cross_entropy_loss",
    Silence="silence",
    Slice="slice",
    SmoothL1Loss="smooth_l1_loss",
    Softmax="softmax",
    SoftmaxWithLoss="softmax_with_loss",
    Split="split",
    TanH="tanh",
    WindowData="window_data",
)


def __getattr__(name: str) -> Any:
    """The class of a layer type."""
    if name in REGISTRY:
        return REGISTRY[name]
    raise AttributeError(f"module 'resnet_proto.layers' has no attribute '{name}'")
