"""DepthwiseConvolution: a Convolution, faster where it has many groups. depthwise_conv_layer.cpp

github yonghenglh6/DepthwiseConvolution: base_conv_layer.cpp sets it up and runs it on a CPU.
"""

from __future__ import annotations

from resnet_proto.layers.base import register
from resnet_proto.layers.convolution import Convolution


@register
class DepthwiseConvolution(Convolution):
    """As Convolution; a net gives it as many groups as channels."""
