"""Heads: layers as the public nets have them, and where maps lie on the image."""

from dataclasses import replace

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.build.heads import HEADS, first_center, map_stride
from resnet_proto.engine import forward, random_inputs
from resnet_proto.layers import Crop, Deconvolution
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.report.summary import summarize
from resnet_proto.spec import TASKS, ResNetSpec, for_task
from resnet_proto.weights import random_weights

FIFTY = PRESETS["resnet-50"].spec
VOC = 21


def net_for(task, spec=FIFTY, **values):
    return deploy_net(replace(for_task(spec, task), **values))


def shapes_of(net):
    return {
        top: shape
        for step in net.walk()
        for top, shape in zip(step.layer.tops, step.tops, strict=True)
    }


def test_every_task_has_a_head():
    assert tuple(HEADS) == TASKS


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["resnet-18", "resnet-50", "resnet-101", "plain-34"])
def test_text_round_trip_and_shapes(name, task):
    net = net_for(task, PRESETS[name].spec)

    assert read_prototxt(to_prototxt(net)) == net
    assert summarize(net).unknown is None


@pytest.mark.parametrize("name", PRESETS)
def test_localization_reads_what_the_classifier_reads(name):
    """A net may have other matrices, as those of squeeze and excitation."""
    net = deploy_net(for_task(PRESETS[name].spec, "localization"))
    by_name = {layer.name: layer for layer in net.layers}
    (softmax,) = [layer for layer in net.layers if layer.type == "Softmax"]

    assert by_name["bbox_pred"].bottoms == by_name[softmax.bottoms[0]].bottoms


def test_localization_has_a_box_for_each_class():
    """Appendix C: 1,000 classes, and 4 x 1,000 values of boxes."""
    shapes = shapes_of(net_for("localization"))

    assert (shapes["prob"], shapes["bbox_pred"]) == ((1, 1000), (1, 4000))
    by_hand = summarize(deploy_net(FIFTY)).parameters + 4000 * (2048 + 1)
    assert summarize(net_for("localization")).parameters == by_hand


# Name, type, bottoms, tops and what there is to say: github YuwenXiong/py-R-FCN, 290dba7,
# models/pascal_voc/ResNet-50/rfcn_end2end/test_agnostic.prototxt, behind res5c_relu. There the
# proposal is a Python layer.
RFCN = """
rpn_conv/3x3            Convolution   res4f                               rpn/output     512 3x3
rpn_relu/3x3            ReLU          rpn/output                          rpn/output
rpn_cls_score           Convolution   rpn/output                          rpn_cls_score  18 1x1
rpn_bbox_pred           Convolution   rpn/output                          rpn_bbox_pred  36 1x1
rpn_cls_score_reshape   Reshape       rpn_cls_score                       rpn_cls_score_reshape
rpn_cls_prob            Softmax       rpn_cls_score_reshape               rpn_cls_prob
rpn_cls_prob_reshape    Reshape       rpn_cls_prob                        rpn_cls_prob_reshape
proposal                Proposal      rpn_cls_prob_reshape,rpn_bbox_pred,im_info  rois
conv_new_1              Convolution   res5c                               conv_new_1     1024 1x1
conv_new_1_relu         ReLU          conv_new_1                          conv_new_1
rfcn_cls                Convolution   conv_new_1                          rfcn_cls       1029 1x1
rfcn_bbox               Convolution   conv_new_1                          rfcn_bbox      392 1x1
psroipooled_cls_rois    PSROIPooling  rfcn_cls,rois                       psroipooled_cls_rois
ave_cls_score_rois      Pooling       psroipooled_cls_rois                cls_score
psroipooled_loc_rois    PSROIPooling  rfcn_bbox,rois                      psroipooled_loc_rois
ave_bbox_pred_rois      Pooling       psroipooled_loc_rois                bbox_pred_pre
cls_prob                Softmax       cls_score                           cls_prob_pre
cls_prob_reshape        Reshape       cls_prob_pre                        cls_prob
bbox_pred_reshape       Reshape       bbox_pred_pre                       bbox_pred
"""

# Github Eniac-Xie/faster-rcnn-resnet, 33b0f21, models/pascal_voc/ResNet101_BN_SCALE_Merged/
# faster_rcnn_end2end/train.prototxt; its RPN has 256 channels, py-faster-rcnn's 512.
FASTER = """
roi_pool5               ROIPooling    res4b22,rois                        roi_pool5
res5a_branch1           Convolution   roi_pool5                           res5a_branch1  2048 1x1
res5a_branch2a          Convolution   roi_pool5                           res5a_branch2a 512 1x1
pool5                   Pooling       res5c                               pool5
cls_score               InnerProduct  pool5                               cls_score      21
bbox_pred               InnerProduct  pool5                               bbox_pred      84
cls_prob                Softmax       cls_score                           cls_prob
"""


def row(layer):
    """A layer as the tables above have it."""
    values = layer.param
    said = [str(values["num_output"])] if "num_output" in values else []
    said += ["x".join(map(str, values["kernel_size"] * 2))] if layer.type == "Convolution" else []
    return [layer.name, layer.type, ",".join(layer.bottoms), ",".join(layer.tops), *said]


@pytest.mark.parametrize(
    ("table", "task", "name"),
    [(RFCN, "r-fcn", "resnet-50"), (FASTER, "faster-r-cnn", "resnet-101")],
)
def test_layers_of_the_public_detectors(table, task, name):
    net = net_for(task, PRESETS[name].spec, classes=VOC)
    rows = {layer.name: row(layer) for layer in net.layers}

    for line in table.strip().splitlines():
        assert rows[line.split()[0]] == line.split()
    if task == "r-fcn":
        assert len(net.layers) == 225 + len(RFCN.strip().splitlines())


def test_values_of_the_public_detectors():
    params = {layer.name: layer.param for layer in net_for("r-fcn", classes=VOC).layers}

    assert params["rpn_cls_score_reshape"]["shape"] == {"dim": (0, 2, -1, 0)}
    assert params["rpn_cls_prob_reshape"]["shape"] == {"dim": (0, 18, -1, 0)}
    assert params["psroipooled_cls_rois"] == {
        "spatial_scale": 0.0625, "output_dim": 21, "group_size": 7
    }  # fmt: skip
    assert params["psroipooled_loc_rois"]["output_dim"] == 8
    assert params["ave_cls_score_rois"] == {"pool": "AVE", "kernel_size": 7, "stride": 7}
    assert params["res5a_branch2a"]["stride"] == (1,)
    for unit in "abc":
        inner = params[f"res5{unit}_branch2b"]
        assert (inner["dilation"], inner["pad"], inner["stride"]) == ((2,), (2,), (1,))
    params = {layer.name: layer.param for layer in net_for("faster-r-cnn").layers}
    assert params["roi_pool5"] == {"pooled_h": 14, "pooled_w": 14, "spatial_scale": 0.0625}
    assert params["pool5"] == {"pool": "AVE", "kernel_size": 7, "stride": 1}
    assert params["proposal"]["feat_stride"] == 16


def test_shapes_of_the_detectors():
    """300 regions at most; a box for each class, or one."""
    faster, rfcn = shapes_of(net_for("faster-r-cnn")), shapes_of(net_for("r-fcn"))

    assert faster["rois"] == rfcn["rois"] == (300, 5)
    assert (faster["cls_prob"], faster["bbox_pred"]) == ((300, 81), (300, 324))
    assert (rfcn["cls_prob"], rfcn["bbox_pred"]) == ((300, 81), (300, 8))
    assert faster["res5c"] == (300, 2048, 7, 7)
    assert rfcn["res5c"] == (1, 2048, 38, 38)


# ---- segmentation

SPECS = {
    "released": FIFTY,
    "padded": replace(FIFTY, pool="padded"),
    "deep": PRESETS["resnet-50-d"].spec,
    "basic": PRESETS["resnet-18"].spec,
    "pre-activation": PRESETS["preact-resnet-18"].spec,
    "cifar": PRESETS["cifar-resnet-20"].spec,
    "small stem": replace(PRESETS["cifar-resnet-20"].spec, pool="ceil"),
    "one stage": replace(PRESETS["cifar-resnet-20"].spec, stages=(1,)),
}


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", SPECS)
def test_scores_cover_the_image_at_any_size(name, stride):
    for size in (33, 64, 65, 66, 67, 68, 69, 70, 71, 95, 321):
        net = net_for("segmentation", SPECS[name], output_stride=stride, input_size=size, classes=3)

        assert shapes_of(net)["prob"] == (1, 3, size, size)


@pytest.mark.parametrize("name", SPECS)
def test_scores_lie_where_they_were_seen(name):
    """What a map's value saw is about the middle of where its score goes, to half a pixel.

    A spot moves through the image; the value in the middle of the map answers most when the spot
    is in the middle of what it sees, because kernels of ones see most there.
    """
    spec = replace(
        for_task(SPECS[name], "segmentation"), stages=SPECS[name].stages[:2], classes=1,
        shortcut="none", order="original", unit="basic", stem_width=1, width=(1,), input_size=65,
        output_stride=0, conv_bias=False, conv1_bias=False, stride_in="first",
    )  # fmt: skip
    net = deploy_net(spec)
    steps = {step.layer.name: step for step in net.walk()}
    stride = map_stride(spec, len(spec.stages))
    (rows,) = {steps["score"].tops[0][2]}
    place = rows // 2
    maps = np.zeros((1, 1, rows, rows))
    maps[0, 0, place, place] = 1

    (up,) = [layer for layer in net.layers if isinstance(layer, Deconvolution)]
    (crop,) = [layer for layer in net.layers if isinstance(layer, Crop)]
    spread = up.forward([maps], [up.fixed_blob(steps["score_up"].blobs["weight"])])[0]
    (spread,) = crop.forward([spread, np.zeros((1, 1, 65, 65))], [])
    weight = spread[0, 0].sum(axis=0)
    middle = (weight * np.arange(65)).sum() / weight.sum()

    assert weight.sum() > 0
    assert abs(middle - (stride * place + first_center(spec))) <= 0.5
    assert abs(center_of_sight(net, place) - (stride * place + first_center(spec))) <= 1e-9


def center_of_sight(net, place):
    """The middle of the columns that reach a place of ``score``, found by walking windows back."""
    low = high = place
    for layer in reversed(net.layers):
        values = layer.param
        if layer.type == "Pooling":
            pad = values.get("pad", 0)
            low, high = low * 2 - pad, high * 2 - pad + 2
        elif layer.type == "Convolution":
            (k,), (s,), (p,) = values["kernel_size"], values["stride"], values["pad"]
            d = values.get("dilation", (1,))[0]
            low, high = low * s - p, high * s - p + d * (k - 1)
    return (low + high) / 2


def test_upsampling_is_bilinear_and_no_parameter():
    """Against numpy's interpolation, away from the border."""
    net = net_for("segmentation")
    (up,) = [layer for layer in net.layers if isinstance(layer, Deconvolution)]
    one = replace(up, fields={**up.fields, "convolution_param": {**up.param, "group": 1,
                                                                 "num_output": 1}})  # fmt: skip
    x = np.random.default_rng(0).normal(size=6)

    (y,) = one.forward([np.tile(x, (5, 1))[None, None]], [one.fixed_blob((1, 1, 16, 16))])

    at = (np.arange(y.shape[3]) - 7.5) / 8
    inside = (at >= 0) & (at <= 5)
    np.testing.assert_allclose(y[0, 0, 20, inside], np.interp(at[inside], np.arange(6), x), 1e-6)
    assert up.fixed
    trunk = summarize(deploy_net(FIFTY)).parameters - 1000 * 2049
    assert summarize(net).parameters == trunk + 21 * 2049


def test_a_learned_deconvolution_is_not_fixed():
    net = net_for("segmentation")
    (up,) = [layer for layer in net.layers if isinstance(layer, Deconvolution)]

    for change in ({"param": ()}, {"convolution_param": {**up.param, "weight_filler": {}}}):
        assert not replace(up, fields={**up.fields, **change}).fixed


def test_forward_gives_probabilities():
    spec = replace(
        for_task(ResNetSpec("s", (1, 1), "bottleneck"), "segmentation"),
        stem_width=4, width=(4,), classes=3, input_size=21,
    )  # fmt: skip
    net = deploy_net(spec)
    prob = forward(net, random_weights(net), random_inputs(net))["prob"]

    assert prob.shape == (1, 3, 21, 21)
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-5)
