"""MobileNet v2 of width 1. Sandler et al. 2018 (arXiv 1801.04381), tables 1 and 2, figure 4(d).

As in Caffe's best known release (shicai/MobileNet-Caffe) ReLU stands for ReLU6, which mainline
Caffe lacks. That release expands in the first bottleneck too, from 32 to 32 channels (1,088 values
more); the paper's factor of 1 there is followed, as TensorFlow and torchvision have it.
"""

from nets.pen import Pen

from resnet_proto.layers import Eltwise, Softmax
from resnet_proto.net import Net

# Table 2: expansion t, channels c, repetitions n, stride s of the first
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def net() -> Net:
    pen = Pen("MobileNet v2", 1, 3, 224, 224)
    channels = 32
    blob = pen.conv_bn("conv1", "data", channels, 3, stride=2, pad=1)
    for stage, (expansion, wider, n, first_stride) in enumerate(BOTTLENECKS, 2):
        for i in range(1, n + 1):
            stride = first_stride if i == 1 else 1
            blob = bottleneck(pen, f"conv{stage}_{i}", blob, expansion, channels, wider, stride)
            channels = wider
    blob = pen.average_pool("pool", pen.conv_bn("conv9", blob, 1280, 1))
    pen.put(Softmax, "prob", pen.conv("fc10", blob, 1000, 1))
    return pen.net


def bottleneck(
    pen: Pen, name: str, bottom: str, expansion: int, channels: int, out: int, stride: int
) -> str:
    """Expand, filter each channel by itself, project without ReLU; add what entered if it fits."""
    inner, blob = channels * expansion, bottom
    if expansion > 1:
        blob = pen.conv_bn(f"{name}/expand", blob, inner, 1)
    blob = pen.conv_bn(f"{name}/dw", blob, inner, 3, stride=stride, pad=1, group=inner)
    blob = pen.conv_bn(f"{name}/project", blob, out, 1, relu=False)
    if stride == 1 and channels == out:
        blob = pen.put(Eltwise, f"{name}/sum", [bottom, blob])
    return blob
