"""VGG-16. Simonyan and Zisserman 2014 (arXiv 1409.1556), table 1, configuration D."""

from nets.pen import Pen

from resnet_proto.layers import Softmax
from resnet_proto.net import Net

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions
INNER = 4096


def net(divisor: int = 1) -> Net:
    """``divisor`` makes every layer but the last as much narrower: 138 million values are many."""
    pen = Pen("VGG-16", 1, 3, 224, 224)
    blob = trunk(pen, divisor)[-1]
    for name in ("fc6", "fc7"):
        blob = pen.relu(name, pen.inner(name, blob, INNER // divisor))
        blob = pen.dropout(f"{name}/drop", blob)
    pen.put(Softmax, "prob", pen.inner("fc8", blob, 1000))
    return pen.net


def trunk(pen: Pen, divisor: int, pad: int = 1) -> list[str]:
    """The 13 convolutions, ``pad`` around the first; the blobs after each pooling."""
    blob, pools = "data", []
    for block, (channels, n) in enumerate(BLOCKS, 1):
        for i in range(1, n + 1):
            name = f"conv{block}_{i}"
            blob = pen.conv_relu(name, blob, channels // divisor, 3, pad=pad)
            pad = 1
        blob = pen.max_pool(f"pool{block}", blob, 2, 2)
        pools.append(blob)
    return pools
