"""One file for each Caffe layer type; ``base`` holds what they share.

A type's module is imported when the type is first needed: most nets need few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.layers.base import (
    MAX_AXES,
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
    from resnet_proto.layers.axpy import Axpy as Axpy
    from resnet_proto.layers.batch_norm import BatchNorm as BatchNorm
    from resnet_proto.layers.bias import Bias as Bias
    from resnet_proto.layers.bn import BN as BN
    from resnet_proto.layers.clip import Clip as Clip
    from resnet_proto.layers.concat import Concat as Concat
    from resnet_proto.layers.convolution import Convolution as Convolution
    from resnet_proto.layers.convolution_depthwise import (
        ConvolutionDepthwise as ConvolutionDepthwise,
    )
    from resnet_proto.layers.crop import Crop as Crop
    from resnet_proto.layers.deconvolution import Deconvolution as Deconvolution
    from resnet_proto.layers.depthwise_convolution import (
        DepthwiseConvolution as DepthwiseConvolution,
    )
    from resnet_proto.layers.detection_output import DetectionOutput as DetectionOutput
    from resnet_proto.layers.eltwise import Eltwise as Eltwise
    from resnet_proto.layers.elu import ELU as ELU
    from resnet_proto.layers.embed import Embed as Embed
    from resnet_proto.layers.exp import Exp as Exp
    from resnet_proto.layers.flatten import Flatten as Flatten
    from resnet_proto.layers.inner_product import InnerProduct as InnerProduct
    from resnet_proto.layers.input import Input as Input
    from resnet_proto.layers.interp import Interp as Interp
    from resnet_proto.layers.log import Log as Log
    from resnet_proto.layers.lrn import LRN as LRN
    from resnet_proto.layers.mvn import MVN as MVN
    from resnet_proto.layers.normalize import Normalize as Normalize
    from resnet_proto.layers.permute import Permute as Permute
    from resnet_proto.layers.pooling import Pooling as Pooling
    from resnet_proto.layers.power import Power as Power
    from resnet_proto.layers.prelu import PReLU as PReLU
    from resnet_proto.layers.prior_box import PriorBox as PriorBox
    from resnet_proto.layers.proposal import Proposal as Proposal
    from resnet_proto.layers.psroi_pooling import PSROIPooling as PSROIPooling
    from resnet_proto.layers.reduction import Reduction as Reduction
    from resnet_proto.layers.relu import ReLU as ReLU
    from resnet_proto.layers.relu6 import ReLU6 as ReLU6
    from resnet_proto.layers.reshape import Reshape as Reshape
    from resnet_proto.layers.roi_pooling import ROIPooling as ROIPooling
    from resnet_proto.layers.scale import Scale as Scale
    from resnet_proto.layers.shuffle_channel import ShuffleChannel as ShuffleChannel
    from resnet_proto.layers.slice import Slice as Slice
    from resnet_proto.layers.smooth_l1_loss import SmoothL1Loss as SmoothL1Loss
    from resnet_proto.layers.softmax import Softmax as Softmax
    from resnet_proto.layers.swish import Swish as Swish
    from resnet_proto.layers.threshold import Threshold as Threshold
    from resnet_proto.layers.tile import Tile as Tile
    from resnet_proto.layers.upsample import Upsample as Upsample

__all__ = [
    "MAX_AXES",
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
    ArgMax="argmax",
    Axpy="axpy",
    BN="bn",
    BNLL="bnll",
    BatchNorm="batch_norm",
    BatchReindex="batch_reindex",
    Bias="bias",
    Clip="clip",
    Concat="concat",
    ContrastiveLoss="contrastive_loss",
    Convolution="convolution",
    ConvolutionDepthwise="convolution_depthwise",
    Crop="crop",
    Data="data",
    Deconvolution="deconvolution",
    DepthwiseConvolution="depthwise_convolution",
    DetectionOutput="detection_output",
    Dropout="dropout",
    DummyData="dummy_data",
    ELU="elu",
    Eltwise="eltwise",
    Embed="embed",
    EuclideanLoss="euclidean_loss",
    Exp="exp",
    Filter="filter",
    Flatten="flatten",
    HDF5Data="hdf5_data",
    HDF5Output="hdf5_output",
    HingeLoss="hinge_loss",
    Im2col="im2col",
    ImageData="image_data",
    InfogainLoss="infogain_loss",
    InnerProduct="inner_product",
    Input="input",
    Interp="interp",
    LRN="lrn",
    LSTM="lstm",
    LSTMUnit="lstm_unit",
    Log="log",
    MVN="mvn",
    MemoryData="memory_data",
    MultinomialLogisticLoss="multinomial_logistic_loss",
    Normalize="normalize",
    PReLU="prelu",
    PSROIPooling="psroi_pooling",
    Parameter="parameter",
    Permute="permute",
    Pooling="pooling",
    Power="power",
    PriorBox="prior_box",
    Proposal="proposal",
    RNN="rnn",
    ROIPooling="roi_pooling",
    ReLU="relu",
    ReLU6="relu6",
    Reduction="reduction",
    Reshape="reshape",
    SPP="spp",
    Scale="scale",
    ShuffleChannel="shuffle_channel",
    Sigmoid="sigmoid",
    SigmoidCrossEntropyLoss="sigmoid_cross_entropy_loss",
    Silence="silence",
    Slice="slice",
    SmoothL1Loss="smooth_l1_loss",
    Softmax="softmax",
    SoftmaxWithLoss="softmax_with_loss",
    Split="split",
    Swish="swish",
    TanH="tanh",
    Threshold="threshold",
    Tile="tile",
    Upsample="upsample",
    WindowData="window_data",
)


def __getattr__(name: str) -> Any:
    """The class of a layer type."""
    if name in REGISTRY:
        return REGISTRY[name]
    raise AttributeError(f"module 'resnet_proto.layers' has no attribute '{name}'")
