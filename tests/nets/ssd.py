"""SSD with a residual trunk of ten layers, which finds faces. Liu et al. 2015 (arXiv 1512.02325).

As the detector that OpenCV's samples take (opencv/opencv, samples/dnn/face_detector): its kind of
trunk, with BatchNorm on the image and before each unit; boxes on six maps, the first of them
normalised as section 3.1 says, of the sizes in the paper's release (weiliu89/caffe, ssd_pascal.py,
300 x 300). The last three maps are made as in the paper's figure 2.
"""

from nets.pen import Pen

from resnet_proto.layers import (
    Concat,
    Convolution,
    DetectionOutput,
    Eltwise,
    Flatten,
    Normalize,
    Permute,
    PriorBox,
    Reshape,
    Softmax,
)
from resnet_proto.net import Net

CLASSES = 2  # background, faces
UNITS = (  # num_output, stride, dilation
    (128, 2, 1),
    (256, 2, 1),
    (512, 1, 2),
)
EXTRA = (  # squeezed to, num_output, stride, pad
    (128, 256, 2, 1),
    (64, 128, 2, 1),
    (64, 128, 1, 0),
    (64, 128, 1, 0),
)
BOXES = (  # min_size, max_size, aspect ratios, step
    (30, 60, (2,), 8),
    (60, 111, (2, 3), 16),
    (111, 162, (2, 3), 32),
    (162, 213, (2, 3), 64),
    (213, 264, (2,), 100),
    (264, 315, (2,), 300),
)


def net(divisor: int = 1, height: int = 300, width: int = 300, n: int = 1) -> Net:
    """The net with channels divided; its maps have 38, 19, 10, 5, 3 and 1 rows."""
    pen = Pen("ResNet-10-SSD", n, 3, height, width)
    blob = pen.normalised("data", "data")
    blob = pen.conv_bn("conv1", blob, 32 // divisor, 7, stride=2, pad=3)
    blob = pen.max_pool("pool1", blob, 3, 2)
    branch = pen.conv_bn("unit64/conv1", blob, 64 // divisor, 3, pad=1)
    branch = pen.conv("unit64/conv2", branch, 32 // divisor, 3, pad=1, bias_term=False)
    blob = pen.put(Eltwise, "unit64", [blob, branch])
    for num_output, stride, dilation in UNITS:
        name = f"unit{num_output}"
        blob = pen.relu(name, pen.normalised(name, blob))
        if num_output == 256:  # of conv4's stride, 8; its values are larger than those behind it
            norm = pen.put(
                Normalize, "conv4_norm", blob, across_spatial=False, channel_shared=False,
                scale_filler={"type": "constant", "value": 20.0},
            )  # fmt: skip
        blob = unit(pen, name, blob, num_output // divisor, stride, dilation)
    blob = pen.relu("last", pen.normalised("last", blob))
    maps = [norm, blob]
    for i, (squeezed, num_output, stride, pad) in enumerate(EXTRA, 6):
        blob = pen.conv_relu(f"conv{i}_1", blob, squeezed // divisor, 1)
        blob = pen.conv_relu(
            f"conv{i}_2", blob, num_output // divisor, 3, stride=stride, pad=pad
        )  # fmt: skip
        maps.append(blob)
    detect(pen, maps)
    return pen.net


def unit(pen: Pen, name: str, bottom: str, num_output: int, stride: int, dilation: int) -> str:
    """Two convolutions and a projection: arXiv 1603.05027, figure 4 (e), without the first ReLU."""
    branch = pen.conv_bn(f"{name}/conv1", bottom, num_output, 3, stride=stride, pad=1)
    branch = pen.conv(
        f"{name}/conv2", branch, num_output, 3, pad=dilation, dilation=dilation, bias_term=False
    )  # fmt: skip
    shortcut = pen.conv(f"{name}/expand", bottom, num_output, 1, stride=stride, bias_term=False)
    return pen.put(Eltwise, f"{name}/sum", [branch, shortcut])


def detect(pen: Pen, maps: list[str]) -> None:
    """On each map, boxes, and for each box how it moves and a score of each class; then all."""
    tops: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
    for blob, (low, high, ratios, step) in zip(maps, BOXES, strict=True):
        n, place = 2 + 2 * len(ratios), blob.partition("/")[0]
        for kind, values in (("loc", 4), ("conf", CLASSES)):
            name = f"{place}_mbox_{kind}"
            pen.put(Convolution, name, blob, num_output=n * values, kernel_size=3, pad=1)
            pen.put(Permute, f"{name}_perm", name, order=(0, 2, 3, 1))
            tops[kind].append(pen.put(Flatten, f"{name}_flat", f"{name}_perm"))
        tops["priorbox"].append(
            pen.put(
                PriorBox, f"{place}_mbox_priorbox", [blob, "data"], min_size=low, max_size=high,
                aspect_ratio=ratios, flip=True, clip=False, variance=(0.1, 0.1, 0.2, 0.2),
                step=step, offset=0.5,
            )
        )  # fmt: skip
    pen.concat("mbox_loc", tops["loc"])
    pen.concat("mbox_conf", tops["conf"])
    pen.put(Concat, "mbox_priorbox", tops["priorbox"], axis=2)
    pen.put(Reshape, "mbox_conf_reshape", "mbox_conf", shape={"dim": (0, -1, CLASSES)})
    pen.put(Softmax, "mbox_conf_softmax", "mbox_conf_reshape", axis=2)
    pen.put(Flatten, "mbox_conf_flatten", "mbox_conf_softmax")
    pen.put(
        DetectionOutput, "detection_out", ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"],
        num_classes=CLASSES, share_location=True, background_label_id=0,
        nms_param={"nms_threshold": 0.45, "top_k": 400}, code_type="CENTER_SIZE", keep_top_k=200,
        confidence_threshold=0.01,
    )  # fmt: skip
