"""FCN-8s of VGG-16. Long et al. 2014 (arXiv 1411.4038), sections 3.3, 4.1 and 4.2, figure 3.

The pad of 100 around the first convolution, and the offsets that it makes needed in each Crop, are
those of the authors' release (shelhamer/fcn.berkeleyvision.org, voc-fcn8s). A deconvolution there
has a weight for each pair of classes, all 0 but those of a class with itself; as groups here only
the latter are there, which Caffe's bilinear filler can fill.
"""

from nets.pen import Pen
from nets.vgg16 import INNER, trunk

from resnet_proto.layers import Crop, Deconvolution, Eltwise
from resnet_proto.net import Net

CLASSES = 21  # PASCAL VOC's 20, and background


def net(divisor: int = 1, height: int = 500, width: int = 500) -> Net:
    """``divisor`` makes every layer but the scores as much narrower."""
    pen = Pen("FCN-8s", 1, 3, height, width)
    *_, pool3, pool4, blob = trunk(pen, divisor, pad=100)
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        blob = pen.conv_relu(name, blob, INNER // divisor, kernel)
        blob = pen.dropout(f"{name}/drop", blob)
    blob = pen.conv("score", blob, CLASSES, 1)
    for pool, offset in ((pool4, 5), (pool3, 9)):
        blob = upsampled(pen, f"{pool}/up", blob, 2)
        score = pen.conv(f"{pool}/score", pool, CLASSES, 1)
        cropped = pen.put(Crop, f"{pool}/crop", [score, blob], axis=2, offset=offset)
        blob = pen.put(Eltwise, f"{pool}/sum", [blob, cropped])
    blob = upsampled(pen, "up8", blob, 8)
    pen.put(Crop, "result", [blob, "data"], axis=2, offset=31)
    return pen.net


def upsampled(pen: Pen, name: str, bottom: str, factor: int) -> str:
    """Maps ``factor`` times as large, in fixed bilinear steps: section 3.3."""
    return pen.put(
        Deconvolution,
        name,
        bottom,
        lr_mult=0,
        num_output=CLASSES,
        kernel_size=2 * factor,
        stride=factor,
        group=CLASSES,
        bias_term=False,
        weight_filler={"type": "bilinear"},
    )
