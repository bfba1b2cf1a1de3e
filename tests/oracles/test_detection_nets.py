"""Whole nets for detection: the Caffe that trains computes them from image to boxes, OpenCV too.

What is found (DetectionOutput, Proposal) hangs on which of two scores is larger. So it is computed
once more, from the other engine's own bottoms, which are held against ours. PSROIPooling and what
is behind it: test_task_nets.py, by OpenCV.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
from nets import ssd
from oracles.training import load, run_net

from resnet_proto.build import deploy_net
from resnet_proto.check import check_text
from resnet_proto.engine import ENGINES, Job, forward, random_inputs, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.planned import Plan
from resnet_proto.layers import Input
from resnet_proto.memory import memory
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.spec import for_task
from resnet_proto.weights import random_weights


def equal(ours, theirs, reshape=False):
    """Compare every blob that both have; ``reshape`` where theirs have four axes. How many."""
    if reshape:
        ours = {k: v.reshape((*v.shape, 1, 1, 1)[:4]) for k, v in ours.items()}
    rows = compare(ours, theirs)
    assert not [row for row in rows if not row.within(TOLERANCE) or row.shape != row.reference]
    return len(rows)


def computed(net, name, blobs):
    """The tops of a layer, from these blobs."""
    (layer,) = [layer for layer in net.layers if layer.name == name]
    return layer.forward([blobs[bottom] for bottom in layer.bottoms], [])


@pytest.fixture(scope="module")
def detector():
    """The face detector with an eighth of its channels, on two images that are no squares."""
    net = ssd.net(divisor=8, height=300, width=268, n=2)
    weights, inputs = random_weights(net), random_inputs(net)
    return net, weights, inputs, forward(net, weights, inputs)


def test_ssd_has_the_boxes_of_the_paper():
    """Section 3.1, figure 2: 8732 boxes for an image of 300 x 300."""
    net = ssd.net()
    shapes = {step.layer.tops[0]: step.tops[0] for step in net.walk()}

    assert shapes["mbox_priorbox"] == (1, 2, 4 * 8732)
    assert shapes["mbox_conf_reshape"] == (1, 8732, 2)


def test_ssd_as_text():
    net = ssd.net()

    assert read_prototxt(to_prototxt(net)) == net
    assert check_text(to_prototxt(net), "deploy.prototxt").findings == ()


def test_memory_of_ssd_is_what_caffe_logs(caffe_binary, tmp_path):
    net = ssd.net(divisor=4, width=268)

    status, log = load(caffe_binary, tmp_path, to_prototxt(net), "TEST")

    assert status == 0, log[-2000:]
    *_, logged = re.findall(r"Memory required for data: (\d+)", log)
    assert memory(net, phases=("test",)).logged == {"test": int(logged)}


def in_order(rows):
    """Rows by image and score, then by place."""
    return rows[np.lexsort(rows.T[[6, 5, 4, 3, 2, 0]])]


def check_found(net, blobs, found):
    """DetectionOutput's top, from these blobs; where scores are equal, std::sort has any order."""
    (top,) = computed(net, "detection_out", blobs)
    assert top.shape == found.shape == (1, 1, 400, 7)
    ours, theirs = map(in_order, (top[0, 0], found[0, 0]))
    np.testing.assert_array_equal(ours[:, :3], theirs[:, :3])
    np.testing.assert_allclose(ours[:, 3:], theirs[:, 3:], rtol=1e-5, atol=1e-6)


def test_every_blob_of_ssd_equals_caffes(detector, caffe_binary, tmp_path):
    net, weights, inputs, ours = detector

    status, log, theirs = run_net(caffe_binary, tmp_path, net, inputs, weights)

    assert status == 0, log[-2000:]
    found = theirs.pop("detection_out")
    before = {name: value for name, value in ours.items() if name in theirs}
    assert equal(before, theirs, reshape=True) == len(ours) - 2  # data, detection_out
    check_found(net, theirs, found)


def test_every_blob_of_ssd_equals_opencvs(detector, cv2):
    net, weights, inputs, ours = detector

    theirs = run("opencv", net, weights, inputs)

    found = theirs.pop("detection_out")
    before = {name: value for name, value in ours.items() if name in theirs}
    assert equal(before, theirs) == len(ours) - 2
    check_found(net, theirs, found)


def test_planned_ssd_equals_plain(detector):
    net, weights, inputs, ours = detector

    planned = Plan(net, weights).run(inputs)

    found = planned.pop("detection_out")
    assert equal(ours, planned) == len(ours) - 1
    check_found(net, planned, found)


def test_every_blob_of_ssd_equals_onnxruntimes(detector, onnxruntime):
    net, weights, inputs, ours = detector

    theirs = run("onnxruntime", net, weights, inputs)

    found = theirs.pop("detection_out")
    assert equal({k: v for k, v in ours.items() if k in theirs}, theirs) == len(ours) - 1
    check_found(net, theirs, found)


@pytest.fixture(scope="module")
def r_fcn():
    """ResNet-50 of an eighth of its width, as ``gen --set task=r-fcn`` makes it."""
    spec = for_task(PRESETS["resnet-50"].spec, "r-fcn")
    small = replace(spec, width=(8,), stem_width=8, classes=5, input_size=160)
    net = deploy_net(small).upgraded()
    inputs = random_inputs(net) | {"im_info": np.array([[147, 160, 1]], np.float32)}
    return net, random_weights(net), inputs


def test_every_blob_of_r_fcn_equals_onnxruntimes(r_fcn, onnxruntime):
    """The regions from its own bottoms, and what is behind them from its own regions."""
    net, weights, inputs = r_fcn

    theirs = run("onnxruntime", net, weights, inputs)

    (rois,) = computed(net, "proposal", theirs)
    assert len(rois) > 20
    assert equal({"rois": rois}, {"rois": theirs["rois"]}) == 1
    behind = [name for name in forward(net, weights, inputs) if name in theirs]
    given = Input.of("regions", (), "rois", shape=({"dim": rois.shape},))
    layers = [given if layer.type == "Proposal" else layer for layer in net.layers]
    ours = forward(Net("r", tuple(layers)), weights, inputs | {"rois": theirs["rois"]})
    assert equal(ours, theirs) == len(ours) == len(behind)


def without(net, types):
    """The net without layers of these types and all that is behind them."""
    gone: set[str] = set()
    layers = []
    for layer in net.layers:
        if layer.type in types or gone.intersection(layer.bottoms):
            gone.update(layer.tops)
        else:
            layers.append(layer)
    return Net(net.name, tuple(layers))


def test_trunk_and_rpn_of_r_fcn_equal_caffes(r_fcn, caffe_python):
    """And the maps that PSROIPooling reads; mainline Caffe has neither that nor Proposal."""
    net, weights, inputs = r_fcn
    mainline = without(net, {"Proposal"})
    kept = {layer.name for layer in mainline.layers}
    weights = {name: value for name, value in weights.items() if name.rpartition(".")[0] in kept}

    ours = forward(mainline, weights, inputs)
    theirs = ENGINES["caffe"](Job(mainline, weights, inputs, caffe_python=caffe_python))

    assert equal(ours, theirs) == len(ours) == len(theirs)
    assert {"rpn_cls_prob_reshape", "rpn_bbox_pred", "rfcn_cls", "rfcn_bbox"} <= theirs.keys()


def test_regions_of_r_fcn_equal_caffes(r_fcn, caffe_binary, tmp_path):
    """From the image to the regions, in the Caffe that has Proposal.

    It rounds anchors otherwise: these ratios give whole sides in both. It wants scales in pixels.
    """
    net, weights, inputs = r_fcn
    fields = {"ratio": (0.25, 1.0, 4.0), "min_size": 3, "post_nms_topn": 40}

    def with_anchors(scales):
        layers = [
            replace(layer, fields={"proposal_param": {**layer.param, **fields, "scale": scales}})
            if layer.type == "Proposal"
            else layer
            for layer in without(net, {"PSROIPooling"}).layers
        ]
        return Net(net.name, tuple(layers))

    ours = forward(with_anchors((2.0, 4.0, 8.0)), weights, inputs)

    spelled = with_anchors((32.0, 64.0, 128.0))
    status, log, theirs = run_net(caffe_binary, tmp_path, spelled, inputs, weights)

    assert status == 0, log[-2000:]
    found = theirs.pop("rois")
    before = {name: value for name, value in ours.items() if name in theirs}
    assert equal(before, theirs, reshape=True) == len(ours) - 3  # data, im_info, rois
    blobs = theirs | {"im_info": inputs["im_info"]}
    (rois,) = computed(with_anchors((2.0, 4.0, 8.0)), "proposal", blobs)
    assert len(rois) == len(found) == 40
    np.testing.assert_allclose(rois, found[:, :, 0, 0], rtol=1e-5, atol=1e-4)
