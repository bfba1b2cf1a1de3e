"""MobileNet v1 of width 1. Howard et al. 2017 (arXiv 1704.04861), table 1 and figure 3.

A depthwise convolution is one of as many groups as channels, as in Caffe's best known release
(shicai/MobileNet-Caffe). Its last layer is a 1x1 convolution, the paper's "FC", and ReLU stands for
the ReLU6 of TensorFlow's.
"""

from nets.pen import Pen

from resnet_proto.layers import Softmax
from resnet_proto.net import Net

# Table 1: channels behind each pair of convolutions, and the stride of its first
PAIRS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    *((512, 1),) * 5,
    (1024, 2), (1024, 1),
)  # fmt: skip


def net() -> Net:
    pen = Pen("MobileNet", 1, 3, 224, 224)
    channels = 32
    blob = pen.conv_bn("conv1", "data", channels, 3, stride=2, pad=1)
    for number, (wider, stride) in enumerate(PAIRS, 2):
        name = f"conv{number}"
        blob = pen.conv_bn(f"{name}/dw", blob, channels, 3, stride=stride, pad=1, group=channels)
        blob = pen.conv_bn(f"{name}/sep", blob, wider, 1)
        channels = wider
    blob = pen.conv("fc15", pen.average_pool("pool14", blob), 1000, 1)
    pen.put(Softmax, "prob", blob)
    return pen.net
