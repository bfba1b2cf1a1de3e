"""The nets of the paper's tasks: in the real Caffe where mainline will do, else in OpenCV."""

from dataclasses import replace

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import ENGINES, Job, forward, random_inputs, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.presets import PRESETS
from resnet_proto.spec import for_task
from resnet_proto.weights import random_weights

FIFTY = PRESETS["resnet-50"].spec


def small(task, **values):
    """ResNet-50 of an eighth of its width."""
    return deploy_net(replace(for_task(FIFTY, task), width=(8,), stem_width=8, classes=5, **values))


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("localization", {"input_size": 64}),
        ("localization", {"input_size": 75, "head": "global"}),
        ("segmentation", {"input_size": 64}),
        ("segmentation", {"input_size": 77}),
        ("segmentation", {"input_size": 50, "output_stride": 32, "pool": "padded"}),
    ],
)
def test_every_blob_equals_caffes(task, values, caffe_python):
    net = small(task, **values)
    weights, inputs = random_weights(net), random_inputs(net)

    ours = forward(net, weights, inputs)
    theirs = ENGINES["caffe"](Job(net, weights, inputs, caffe_python=caffe_python))

    rows = compare(ours, theirs)
    assert len(rows) == len(ours) == len(theirs)
    assert not [row for row in rows if not row.within(TOLERANCE)]


@pytest.mark.parametrize("task", ["r-fcn", "faster-r-cnn"])
def test_every_blob_equals_opencvs(task, cv2):
    """From the image to the boxes. OpenCV has no min_size, and fills up with empty regions."""
    net = small(task, input_size=160)
    weights, inputs = random_weights(net), random_inputs(net)
    inputs["im_info"] = np.array([[160, 160, 1]], np.float32)
    few = {"min_size": 1, "post_nms_topn": 9}
    layers = [
        replace(layer, fields={"proposal_param": {**layer.param, **few}})
        if layer.type == "Proposal"
        else layer
        for layer in net.layers
    ]
    net = replace(net, layers=tuple(layers))

    ours = forward(net, weights, inputs)
    theirs = run("opencv", net, weights, inputs)

    n = len(ours["rois"])
    assert 5 < n <= 9
    cut = {name: value[:n] if len(value) == 9 else value for name, value in theirs.items()}
    rows = compare(ours, cut)
    assert {"rpn_cls_prob_reshape", "rois", "cls_prob", "bbox_pred"} <= {row.blob for row in rows}
    assert not [row for row in rows if not row.within(TOLERANCE)]
