"""What a train_val net needs for each task besides the layers of its deploy net.

Localization and segmentation take HDF5 files, because mainline's other data layers have room
for one label only. Detection takes what py-faster-rcnn's Python layers give, and only a TRAIN
phase: its own program tests, with the deploy net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resnet_proto.errors import NetError
from resnet_proto.layers import Layer, Shape, make_layer
from resnet_proto.net import Net
from resnet_proto.recipe import Training
from resnet_proto.training.train_val import (
    LABEL,
    Finish,
    classification,
    dummy,
    hdf5,
    judged,
    n_outputs,
    only_input,
    without_softmax,
)
from resnet_proto.words import Word

TEST = {"include": ({"phase": Word("TEST")},)}
IGNORED = 255
"""The label of a pixel that belongs to no class, in PASCAL VOC's images."""
FEATURES = ("bbox_targets", "bbox_weights")


# ---- localization and segmentation


def localization(net: Net, layers: list[Layer], training: Training) -> Sequence[Layer]:
    """Images, classes, and where the box of each lies, weighted: 0 for every other class.

    EuclideanLoss has no weights, so predictions and targets are multiplied by them before.
    """
    name, shape = only_input(net)
    read = {bottom for layer in layers for bottom in layer.bottoms}
    boxes = next(x for x in layers if x.type == "InnerProduct" and read.isdisjoint(x.tops))
    size = (int(boxes.param["num_output"]),)
    data = several(name, shape, training, {LABEL: (), **dict.fromkeys(FEATURES, size)})
    body, scores = without_softmax([layer for layer in layers if layer is not boxes])
    targets, weights = FEATURES
    return (
        *data,
        *body,
        *judged(scores, n_outputs(body)),
        boxes,
        product("bbox_pred_weighted", boxes.tops[0], weights),
        product("bbox_targets_weighted", targets, weights),
        make_layer(
            "loss_bbox",
            "EuclideanLoss",
            ("bbox_pred_weighted", "bbox_targets_weighted"),
            ("loss_bbox",),
        ),
    )


def segmentation(net: Net, layers: list[Layer], training: Training) -> Sequence[Layer]:
    """Images, and a class for each of their pixels; pixels without one do not count."""
    name, shape = only_input(net)
    body, scores = without_softmax(layers)
    return (
        *several(name, shape, training, {LABEL: (1, *shape[2:])}),
        *body,
        make_layer(
            "loss",
            "SoftmaxWithLoss",
            (scores, LABEL),
            ("loss",),
            {"loss_param": {"ignore_label": IGNORED}},
        ),
        make_layer(
            "accuracy",
            "Accuracy",
            (scores, LABEL),
            ("accuracy",),
            {**TEST, "accuracy_param": {"ignore_label": IGNORED}},
        ),
    )


def several(
    name: str, shape: Shape, training: Training, answers: Mapping[str, Shape]
) -> tuple[Layer, ...]:
    """Images with more than a label, for both phases."""
    if training.data == "dummy":
        return (dummy(name, shape, training, answers),)
    return tuple(hdf5(name, training, phase, tuple(answers)) for phase in ("TRAIN", "TEST"))


def product(name: str, a: str, b: str) -> Layer:
    """Two blobs multiplied value by value."""
    return make_layer(
        name, "Eltwise", (a, b), (name,), {"eltwise_param": {"operation": Word("PROD")}}
    )


# ---- detection

ANSWERS = ("cls_prob", "cls_prob_reshape", "bbox_pred_reshape")
"""What a deploy net says at its end; training compares what is before it."""


def detection(net: Net, layers: list[Layer], training: Training) -> Sequence[Layer]:
    """Images with boxes, the losses of the proposals, and those of the regions.

    The layers are those of github rbgirshick/py-faster-rcnn, models/pascal_voc, end to end.

    Raises:
        NetError: the net's ends have other names than there.
    """
    named = by_name(layers)
    shapes: dict[str, Shape] = {}
    for step in net.walk():
        shapes.update(zip(step.layer.tops, step.tops, strict=True))
    scores = next(iter(named["cls_prob"].bottoms), "") if "cls_prob" in named else ""
    boxes = "bbox_pred"
    if "bbox_pred_reshape" in named:
        boxes = next(iter(named["bbox_pred_reshape"].bottoms), "")
    if any(len(shapes.get(name, ())) < 2 for name in (scores, boxes)):
        raise NetError(
            "a detector is made ready to train by the names of py-faster-rcnn: layer 'cls_prob' "
            "reads the scores, and blob 'bbox_pred' (or what layer 'bbox_pred_reshape' reads) has "
            "the boxes; rename its layers and blobs"
        )
    result = [python("input-data", (), ("data", "im_info", "gt_boxes"),
                     "roi_data_layer.layer", "RoIDataLayer",
                     f"'num_classes': {shapes[scores][1]}")]  # fmt: skip
    for layer in layers:
        if layer.type == "Proposal":
            result += proposals(layer, shapes[boxes][1] // 4)
        elif layer.name not in ANSWERS:
            result.append(layer)
    return (*result, *region_losses(scores, boxes))


def proposals(layer: Layer, classes: int) -> list[Layer]:
    """What stands for a Proposal in training: anchors and regions are given their targets."""
    probabilities, moves, image = layer.bottoms
    stride = f"'feat_stride': {layer.param.get('feat_stride', 16)}"
    targets = tuple(f"rpn_{role}" for role in ("labels", "bbox_targets", *WEIGHTS))
    label, target, *weights = targets
    scores, pairs = "rpn_cls_score", "rpn_cls_score_reshape"
    return [
        python("rpn-data", (scores, "gt_boxes", image, "data"), targets,
               "rpn.anchor_target_layer", "AnchorTargetLayer", stride),
        make_layer("rpn_loss_cls", "SoftmaxWithLoss", (pairs, label), ("rpn_cls_loss",),
                   {**taught(2), "loss_param": {"ignore_label": -1, "normalize": True}}),
        smooth_l1("rpn_loss_bbox", (moves, target, *weights), sigma=3.0),
        python(layer.name, (probabilities, moves, image), ("rpn_rois",),
               "rpn.proposal_layer", "ProposalLayer", stride),
        python("roi-data", ("rpn_rois", "gt_boxes"),
               (layer.tops[0], "labels", "bbox_targets", *WEIGHTS),
               "rpn.proposal_target_layer", "ProposalTargetLayer", f"'num_classes': {classes}"),
    ]  # fmt: skip


WEIGHTS = ("bbox_inside_weights", "bbox_outside_weights")


def region_losses(scores: str, boxes: str) -> list[Layer]:
    """The class of each region, and where its box lies."""
    return [
        make_layer("loss_cls", "SoftmaxWithLoss", (scores, "labels"), ("loss_cls",), taught(2)),
        smooth_l1("loss_bbox", (boxes, "bbox_targets", *WEIGHTS)),
    ]


def taught(n_bottoms: int) -> dict[str, Any]:
    """Of several bottoms only the first learns: targets come from layers that cannot."""
    return {"propagate_down": (True, *(False,) * (n_bottoms - 1)), "loss_weight": (1.0,)}


def smooth_l1(name: str, bottoms: tuple[str, ...], sigma: float = 1.0) -> Layer:
    """A loss that grows less than squared far from 0."""
    fields: dict[str, Any] = {"loss_weight": (1.0,)}
    if sigma != 1:
        fields["smooth_l1_loss_param"] = {"sigma": sigma}
    return make_layer(name, "SmoothL1Loss", bottoms, (name,), fields)


def python(
    name: str, bottoms: tuple[str, ...], tops: tuple[str, ...], module: str, layer: str, text: str
) -> Layer:
    """A layer written in Python."""
    param = {"module": module, "layer": layer, "param_str": text}
    return make_layer(name, "Python", bottoms, tops, {"python_param": param})


def by_name(layers: Sequence[Layer]) -> dict[str, Layer]:
    """Layers by name."""
    return {layer.name: layer for layer in layers}


FINISH: Mapping[str, Finish] = {
    "classification": classification,
    "localization": localization,
    "segmentation": segmentation,
    "r-fcn": detection,
    "faster-r-cnn": detection,
}
