"""Clip. The Caffe of the other tests does not have it: clip_layer.cpp is max(min, min(x, max))."""

import numpy as np
import pytest

from resnet_proto.engine import forward, run
from resnet_proto.errors import ShapeError
from resnet_proto.layers import Clip, Input
from resnet_proto.net import Net

VALUES = [-3.0, -0.5, 0.25, 6.0, 7.0]


@pytest.mark.parametrize(("low", "high"), [(-0.5, 6.0), (0.0, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("engine", ["numpy", "float64", "onnxruntime", "torch"])
def test_value_by_value(low, high, engine, request):
    """Where they cross, the lower limit wins."""
    if engine == "torch":
        request.getfixturevalue("torch")
    data = Input.of("in", (), "x", shape={"dim": (5,)})
    net = Net("n", (data, Clip.of("c", "x", "y", min=low, max=high)))

    y = run(engine, net, {}, {"x": np.array(VALUES)})["y"]

    assert y.tolist() == [max(low, min(x, high)) for x in VALUES]


def test_in_place():
    data = Input.of("in", (), "x", shape={"dim": (5,)})

    blobs = forward(Net("n", (data, Clip.of("c", "x", "x", min=0.0, max=1.0))), {}, np.ones(5) * 3)

    assert blobs["x"].tolist() == [1.0] * 5


@pytest.mark.parametrize("fields", [{}, {"min": 1.0}, {"max": 1.0}])
def test_both_are_needed(fields):
    with pytest.raises(ShapeError, match="needs min and max"):
        Clip.of("c", "x", "y", **fields).top_shapes([(2, 3)])
