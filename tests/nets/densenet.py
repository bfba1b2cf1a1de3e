"""DenseNet-121. Huang et al. 2016 (arXiv 1608.06993), section 3 and table 1; growth rate 32.

Like shicai/DenseNet-Caffe, with one layer otherwise: its first pooling is padded and has
``round_mode: FLOOR``, which Caffe 1.0 lacks. Without both the table's 112 becomes its 56 too.
"""

from nets.pen import Pen

from resnet_proto.layers import Softmax
from resnet_proto.net import Net

GROWTH = 32
BLOCKS = (6, 12, 24, 16)


def net() -> Net:
    pen = Pen("DenseNet-121", 1, 3, 224, 224)
    channels = 2 * GROWTH
    blob = pen.conv_bn("conv1", "data", channels, 7, stride=2, pad=3)
    blob = pen.max_pool("pool1", blob, 3, 2)
    for block, n in enumerate(BLOCKS, 2):
        for i in range(1, n + 1):
            blob = dense(pen, f"conv{block}_{i}", blob)
        channels += n * GROWTH
        if block <= len(BLOCKS):
            channels //= 2  # compression, section 3
            name = f"transition{block}"
            blob = activated_conv(pen, name, blob, channels, 1)
            blob = pen.average_pool(f"pool{block}", blob, kernel_size=2, stride=2)
    blob = pen.relu("last", pen.normalised("last", blob))
    pen.put(Softmax, "prob", pen.conv("fc6", pen.average_pool("pool5", blob), 1000, 1))
    return pen.net


def dense(pen: Pen, name: str, bottom: str) -> str:
    """All maps so far, and ``GROWTH`` new ones behind them: DenseNet-B's bottleneck."""
    blob = activated_conv(pen, f"{name}/a", bottom, 4 * GROWTH, 1)
    blob = activated_conv(pen, f"{name}/b", blob, GROWTH, 3, pad=1)
    return pen.concat(f"{name}/concat", [bottom, blob])


def activated_conv(pen: Pen, name: str, bottom: str, maps: int, kernel: int, **values) -> str:
    """BatchNorm, ReLU and only then the convolution: section 3, composite function."""
    blob = pen.relu(name, pen.normalised(name, bottom))
    return pen.conv(name, blob, maps, kernel, bias_term=False, **values)
