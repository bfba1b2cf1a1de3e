"""SqueezeNet 1.0 and 1.1. Iandola et al. 2016 (arXiv 1602.07360), table 1 and section 3.1.

1.1 is the authors' own, from their repository (forresti/SqueezeNet): a smaller first convolution,
and earlier pooling. In the released 1.0 conv10 is padded by 1, though its kernel is 1x1, so that
its 15 x 15 have a frame of biases. The paper has no word of it; the release is followed.
"""

from nets.pen import Pen

from resnet_proto.layers import Softmax
from resnet_proto.net import Net

SQUEEZED = (16, 16, 32, 32, 48, 48, 64, 64)  # of fire2 to fire9; each expands to 4 times, twice
# First convolution: channels, kernel; where pooling follows; pad of the last convolution
VERSIONS = {
    "1.0": (96, 7, ("conv1", "fire4", "fire8"), 1),
    "1.1": (64, 3, ("conv1", "fire3", "fire5"), 0),
}


def net(version: str = "1.0") -> Net:
    channels, kernel, pooled, last_pad = VERSIONS[version]
    pen = Pen(f"SqueezeNet {version}", 1, 3, 227, 227)

    def maybe_pooled(name: str, blob: str) -> str:
        return pen.max_pool(f"{name}/pool", blob, 3, 2) if name in pooled else blob

    blob = maybe_pooled("conv1", pen.conv_relu("conv1", "data", channels, kernel, stride=2))
    for number, squeezed in enumerate(SQUEEZED, 2):
        name = f"fire{number}"
        blob = maybe_pooled(name, fire(pen, name, blob, squeezed))
    blob = pen.dropout("drop9", blob)
    blob = pen.conv_relu("conv10", blob, 1000, 1, pad=last_pad)
    pen.put(Softmax, "prob", pen.average_pool("pool10", blob))
    return pen.net


def fire(pen: Pen, name: str, bottom: str, squeezed: int) -> str:
    """Figure 1: few 1x1 kernels, then 1x1 and 3x3 side by side."""
    blob = pen.conv_relu(f"{name}/squeeze", bottom, squeezed, 1)
    expanded = [
        pen.conv_relu(
            f"{name}/expand{kernel}x{kernel}", blob, 4 * squeezed, kernel, pad=kernel // 2
        )
        for kernel in (1, 3)
    ]
    return pen.concat(f"{name}/concat", expanded)
