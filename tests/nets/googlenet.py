"""GoogLeNet. Szegedy et al. 2014 (arXiv 1409.4842), table 1 and figure 3.

As in Caffe's bvlc_googlenet, and of the three classifiers the last, as in its deploy net. The
table's 3x3/2 pooling makes 56, 28, 14 and 7 of 112, 56, 28 and 14: without padding, because Caffe
rounds up. The stem's "#3x3 reduce" is a convolution of its own.
"""

from nets.pen import Pen

from resnet_proto.layers import Softmax
from resnet_proto.net import Net

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOLED_AFTER = {"3b": "pool3", "4e": "pool4"}


def net() -> Net:
    pen = Pen("GoogLeNet", 1, 3, 224, 224)
    blob = pen.conv_relu("conv1", "data", 64, 7, stride=2, pad=3)
    blob = pen.lrn("norm1", pen.max_pool("pool1", blob, 3, 2))
    blob = pen.conv_relu("conv2/reduce", blob, 64, 1)
    blob = pen.lrn("norm2", pen.conv_relu("conv2", blob, 192, 3, pad=1))
    blob = pen.max_pool("pool2", blob, 3, 2)
    for name, widths in INCEPTIONS.items():
        blob = inception(pen, name, blob, *widths)
        if name in POOLED_AFTER:
            blob = pen.max_pool(POOLED_AFTER[name], blob, 3, 2)
    blob = pen.average_pool("pool5", blob, kernel_size=7)
    pen.put(Softmax, "prob", pen.inner("classifier", pen.dropout("drop5", blob, 0.4), 1000))
    return pen.net


def inception(
    pen: Pen, name: str, bottom: str, one: int, to_three: int, three: int, to_five: int, five: int,
    projected: int,
) -> str:  # fmt: skip
    """Figure 2(b): four branches, one after the other along the channels."""
    branches = [pen.conv_relu(f"{name}/1x1", bottom, one, 1)]
    for kernel, reduced, maps in ((3, to_three, three), (5, to_five, five)):
        blob = pen.conv_relu(f"{name}/{kernel}x{kernel}_reduce", bottom, reduced, 1)
        branches.append(
            pen.conv_relu(f"{name}/{kernel}x{kernel}", blob, maps, kernel, pad=kernel // 2)
        )
    blob = pen.max_pool(f"{name}/pool", bottom, 3, 1, pad=1)
    branches.append(pen.conv_relu(f"{name}/pool_proj", blob, projected, 1))
    return pen.concat(f"{name}/output", branches)
