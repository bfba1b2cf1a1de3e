"""ConvolutionDepthwise by nested loops."""

import numpy as np
import pytest

from resnet_proto.engine.planned import Depthwise, Plan
from resnet_proto.errors import ShapeError
from resnet_proto.layers import ConvolutionDepthwise, DepthwiseConvolution, Input
from resnet_proto.net import Net
from resnet_proto.weights import random_weights

FIELDS = {"num_output": 3, "kernel_h": 3, "kernel_w": 2, "stride": (2, 1), "pad": (1, 0)}


@pytest.mark.parametrize("more", [{}, {"group": 3}, {"group": 1}, {"bias_term": False}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_loops(more, dtype):
    """Whatever ``group`` says."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 7, 5)).astype(dtype)
    layer = ConvolutionDepthwise.of("d", "x", "y", **FIELDS, **more)
    shapes = layer.blob_shapes([x.shape])
    weight, *bias = (rng.normal(size=shape).astype(dtype) for shape in shapes.values())

    (y,) = layer.forward([x], [weight, *bias])

    assert weight.shape == (3, 1, 3, 2)
    assert [y.shape] == layer.top_shapes([x.shape]) == [(2, 3, 4, 4)]
    assert layer.macs([x.shape], [y.shape], shapes) == y.size * 3 * 2
    for n, c, row, column in np.ndindex(y.shape):
        value = bias[0][c] if bias else 0
        for i in range(3):
            for j in range(2):
                at_h, at_w = 2 * row - 1 + i, column + j
                if 0 <= at_h < 7:
                    value += weight[c, 0, i, j] * x[n, c, at_h, at_w]
        assert y[n, c, row, column] == pytest.approx(value, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "shape", "message"),
    [
        ({"num_output": 6}, (2, 3, 7, 5), "num_output is 6, and the bottom has 3 channels"),
        ({}, (2, 3, 7), r"takes \(N, C, H, W\), has 2x3x7"),
        ({"kernel_h": 19}, (2, 3, 7, 5), "kernel 19x2 is too large"),
    ],
)
def test_refused(values, shape, message):
    with pytest.raises(ShapeError, match=message):
        ConvolutionDepthwise.of("d", "x", "y", **FIELDS | values).top_shapes([shape])


def test_group_is_kept_as_it_was_set():
    layer = ConvolutionDepthwise.of("d", "x", "y", **FIELDS, group=1)
    (row,) = Net("n", (layer,)).canonical()

    assert layer.param["group"] == 1
    assert row["param"]["group"] == layer.group == 3


@pytest.mark.parametrize("cls", [ConvolutionDepthwise, DepthwiseConvolution])
def test_goes_the_fast_way(cls):
    layer = cls.of("d", "x", "y", **FIELDS, group=3)
    net = Net("n", (Input.of("x", (), "x", shape={"dim": (2, 3, 7, 5)}), layer))

    (task,) = Plan(net, random_weights(net)).prepare().tasks

    assert isinstance(task.compute, Depthwise)
