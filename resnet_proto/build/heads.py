"""What a net is for, and how it ends: the first places of the paper, each with its head.

    blob behind the last stage but one -> neck -> blob that the last stage reads
    blob behind the last stage -> head -> probabilities, and boxes where a task has some

Sections 4.1 and 4.3, appendices A to C. Names of a detector's layers are those of the public
forks, because weights are found by name: github rbgirshick/py-faster-rcnn, YuwenXiong/py-R-FCN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from resnet_proto import layers  # a type's module is imported when a head first has it
from resnet_proto.build.drawing import Drawing
from resnet_proto.build.stems import stem_steps, stem_stride
from resnet_proto.build.units import units
from resnet_proto.spec import ResNetSpec

FIXED = {"lr_mult": 0.0, "decay_mult": 0.0}

# The anchors of arXiv 1506.01497, section 3.1.1: 128, 256 and 512 pixels, in three shapes.
RATIOS = (0.5, 1.0, 2.0)
SCALES = (8.0, 16.0, 32.0)
ANCHORS = len(RATIOS) * len(SCALES)
RPN_CHANNELS = 512
BOX = 4
"""What moves a box: its middle, and the logarithms of its sides."""
REGION_SIDE = 14
"""Rows and columns of a region on conv4: appendix A; conv5 halves them."""
BINS = 7
"""Rows and columns of R-FCN's bins. arXiv 1605.06409, section 4"""
NEW_CHANNELS = 1024
"""What R-FCN reduces conv5 to. Section 2 there"""


# ---- classification


def classification(d: Drawing, blob: str) -> None:
    """Average the last map, classify, softmax."""
    blob = draw_average(d, draw_last(d, blob), map_size(d.spec))
    scores = d.names.of("classifier", classes=d.spec.classes)
    draw_connected(d, scores, blob, d.spec.classes)
    d.put(layers.Softmax.of(d.names.probabilities, scores, d.names.probabilities))


def draw_last(d: Drawing, blob: str) -> str:
    """What ends a pre-activation net."""
    if d.spec.order != "pre-activation":
        return blob
    last = d.last()
    return d.relu(last.relu, d.batch_norm(last, blob))


def draw_average(d: Drawing, blob: str, side: int) -> str:
    """The mean of a map of this many rows and columns, or of any."""
    if d.spec.unit == "fully-connected":
        return blob
    name = d.names.of("pool", stage=len(d.spec.stages) + 1)
    whole: dict[str, Any] = {"kernel_size": side, "stride": 1}
    if d.spec.head == "global":
        whole = {"global_pooling": True}
    return d.put(layers.Pooling.of(name, blob, name, pool="AVE", **whole))


def draw_connected(d: Drawing, name: str, blob: str, num_output: int) -> str:
    """A matrix with a bias."""
    return d.put(layers.InnerProduct.of(name, blob, name, num_output=num_output))


def map_size(spec: ResNetSpec) -> int:
    """Rows and columns of the last map: every stride 2 halves them."""
    size = spec.input_size
    for _, _, _, stride in stem_steps(spec):
        size = -(-size // stride)
    if spec.pool != "none":
        size = size // 2 if spec.pool == "ceil" else -(-size // 2)
    for unit in units(spec):
        size = -(-size // unit.stride)
    return max(size, 1)


# ---- localization: appendix C


def localization(d: Drawing, blob: str) -> None:
    """Classes, and for each class how its box lies: per-class regression."""
    classification(d, blob)
    scores = d.names.of("classifier", classes=d.spec.classes)
    (average,) = next(layer for layer in d.layers if layer.name == scores).bottoms
    draw_connected(d, "bbox_pred", average, BOX * d.spec.classes)


# ---- segmentation


def segmentation(d: Drawing, blob: str) -> None:
    """A score for each class at each place, made as large as the image. arXiv 1411.4038

    The kernel of the Deconvolution is fixed, and a deploy net keeps it: it is no parameter.
    """
    classes, stride = d.spec.classes, map_stride(d.spec, len(d.spec.stages))
    blob = d.convolution("score", draw_last(d, blob), classes, 1, bias=True)
    kernel = 2 * stride - stride % 2
    fields = {
        "param": (FIXED,),
        "convolution_param": {
            "num_output": classes,
            "bias_term": False,
            "kernel_size": (kernel,),
            "stride": (stride,),
            "group": classes,
            "weight_filler": {"type": "bilinear"},
        },
    }
    blob = d.put(layers.Deconvolution("score_up", "Deconvolution", (blob,), ("score_up",), fields))
    offset = stride - 1 - first_center(d.spec)
    blob = d.put(layers.Crop.of("score_crop", (blob, "data"), "score_crop", offset=offset))
    d.put(layers.Softmax.of(d.names.probabilities, blob, d.names.probabilities))


def map_stride(spec: ResNetSpec, n_stages: int) -> int:
    """Pixels of the image from one column to the next of the map behind so many stages."""
    stride = stem_stride(spec) * (2 if spec.pool != "none" else 1)
    for _, unit in zip(range(sum(spec.stages[:n_stages])), units(spec), strict=False):
        stride *= unit.stride
    return stride


def first_center(spec: ResNetSpec) -> int:
    """The pixel in the middle of what the first value of any map sees.

    It is 0 for padded windows; a pooling without padding begins one column later. A bilinear
    kernel of even size lies half a pixel beside it, which no offset can mend.
    """
    return stem_stride(spec) if spec.pool == "ceil" else 0


# ---- detection: appendix A


def draw_proposals(d: Drawing, blob: str) -> str:
    """Where objects may be, from a map: a region proposal network. arXiv 1506.01497, section 3

    Returns:
        the blob of the map, for what else reads it; that of the regions is ``rois``.
    """
    hidden = d.convolution("rpn_conv/3x3", blob, RPN_CHANNELS, 3, bias=True, top="rpn/output")
    hidden = d.relu("rpn_relu/3x3", hidden)
    scores = d.convolution("rpn_cls_score", hidden, 2 * ANCHORS, 1, bias=True)
    moves = d.convolution("rpn_bbox_pred", hidden, BOX * ANCHORS, 1, bias=True)
    scores = draw_reshape(d, "rpn_cls_score_reshape", scores, (0, 2, -1, 0))  # object or not
    scores = d.put(layers.Softmax.of("rpn_cls_prob", scores, "rpn_cls_prob"))
    scores = draw_reshape(d, "rpn_cls_prob_reshape", scores, (0, 2 * ANCHORS, -1, 0))
    # Forks have other defaults, so each value is said: py-faster-rcnn, lib/fast_rcnn/config.py
    d.put(
        layers.Proposal.of(
            "proposal",
            (scores, moves, "im_info"),
            "rois",
            feat_stride=neck_stride(d.spec),
            base_size=16,
            min_size=16,
            ratio=RATIOS,
            scale=SCALES,
            pre_nms_topn=6000,
            post_nms_topn=300,
            nms_thresh=0.7,
        )
    )
    return blob


def draw_reshape(d: Drawing, name: str, blob: str, dim: layers.Shape, top: str = "") -> str:
    """The same values in another shape."""
    return d.put(layers.Reshape.of(name, blob, top or name, shape={"dim": dim}))


def neck_stride(spec: ResNetSpec) -> int:
    """Pixels of the image from one column to the next of the map that the neck reads."""
    return map_stride(spec, len(spec.stages) - 1)


def regions(d: Drawing, blob: str) -> str:
    """Faster R-CNN's neck: the last stage sees each region by itself. Appendix A"""
    draw_proposals(d, blob)
    return d.put(
        layers.ROIPooling.of(
            "roi_pool5",
            (blob, "rois"),
            "roi_pool5",
            pooled_h=REGION_SIDE,
            pooled_w=REGION_SIDE,
            spatial_scale=1 / neck_stride(d.spec),
        )
    )


def faster_rcnn(d: Drawing, blob: str) -> None:
    """Faster R-CNN's head: the class of each region, and for each class how its box lies."""
    stride = map_stride(d.spec, len(d.spec.stages)) // neck_stride(d.spec)
    blob = draw_average(d, blob, -(-REGION_SIDE // stride))
    draw_connected(d, "cls_score", blob, d.spec.classes)
    draw_connected(d, "bbox_pred", blob, BOX * d.spec.classes)
    d.put(layers.Softmax.of("cls_prob", "cls_score", "cls_prob"))


def rfcn(d: Drawing, blob: str) -> None:
    """R-FCN's head: a map for each bin of a region, and one box for all classes.

    arXiv 1605.06409, sections 2 and 3; the box is that of the public nets.
    """
    classes, boxes = d.spec.classes, 2 * BOX  # those of the background and of an object
    new = d.convolution("conv_new_1", blob, NEW_CHANNELS, 1, bias=True)
    new = d.relu("conv_new_1_relu", new)
    d.convolution("rfcn_cls", new, classes * BINS**2, 1, bias=True)
    d.convolution("rfcn_bbox", new, boxes * BINS**2, 1, bias=True)
    draw_vote(d, "rfcn_cls", classes, "psroipooled_cls_rois", "ave_cls_score_rois", "cls_score")
    draw_vote(d, "rfcn_bbox", boxes, "psroipooled_loc_rois", "ave_bbox_pred_rois", "bbox_pred_pre")
    d.put(layers.Softmax.of("cls_prob", "cls_score", "cls_prob_pre"))
    draw_reshape(d, "cls_prob_reshape", "cls_prob_pre", (-1, classes), "cls_prob")
    draw_reshape(d, "bbox_pred_reshape", "bbox_pred_pre", (-1, boxes), "bbox_pred")


def draw_vote(d: Drawing, maps: str, n: int, pooled: str, average: str, top: str) -> None:
    """What the bins of each region say, and their mean."""
    scale = 1 / map_stride(d.spec, len(d.spec.stages))
    values = {"spatial_scale": scale, "output_dim": n, "group_size": BINS}
    d.put(layers.PSROIPooling.of(pooled, (maps, "rois"), pooled, **values))
    d.put(layers.Pooling.of(average, pooled, top, pool="AVE", kernel_size=BINS, stride=BINS))


# ---- the table


def unchanged(d: Drawing, blob: str) -> str:
    """No neck."""
    return blob


class Head(NamedTuple):
    """What a task draws.

    Args:
        draw: behind the last stage.
        neck: before the last stage.
        inputs: what the net takes besides images.
    """

    draw: Callable[[Drawing, str], None]
    neck: Callable[[Drawing, str], str] = unchanged
    inputs: Mapping[str, layers.Shape] = MappingProxyType({})


IM_INFO = {"im_info": (1, 3)}
"""Rows and columns of the image as it goes in, and by how much it was scaled."""

HEADS = {
    "classification": Head(classification),
    "localization": Head(localization),
    "segmentation": Head(segmentation),
    "r-fcn": Head(rfcn, draw_proposals, IM_INFO),
    "faster-r-cnn": Head(faster_rcnn, regions, IM_INFO),
}
