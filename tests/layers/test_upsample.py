"""Upsample by nested loops, behind the Pooling whose mask it takes."""

import numpy as np
import pytest

from resnet_proto.engine import forward
from resnet_proto.errors import ShapeError
from resnet_proto.layers import Input, Pooling, Upsample
from resnet_proto.net import Net

SHAPE = (2, 3, 4, 6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_loops(dtype):
    rng = np.random.default_rng(0)
    values = rng.normal(size=SHAPE).astype(dtype)
    mask = rng.permuted(np.broadcast_to(np.arange(8 * 12), (6, 96)), axis=1)[:, :24]
    mask = mask.reshape(SHAPE).astype(dtype)

    (y,) = Upsample.of("u", ("x", "mask"), "y").forward([values, mask], [])

    expected = np.zeros((2, 3, 8, 12), dtype)
    for n, c, h, w in np.ndindex(SHAPE):
        row, column = divmod(int(mask[n, c, h, w]), 12)
        expected[n, c, row, column] = values[n, c, h, w]
    np.testing.assert_array_equal(y, expected)


def test_behind_a_pooling():
    """Maxima come back to where they were, where windows do not overlap."""
    x = np.random.default_rng(0).permutation(2 * 3 * 7 * 5).reshape(2, 3, 7, 5).astype(np.float32)
    net = Net(
        "n",
        (
            Input.of("x", (), "x", shape={"dim": x.shape}),
            Pooling.of(
                "pool", "x", ("max", "mask"), kernel_h=2, kernel_w=3, stride_h=2, stride_w=3
            ),
            Upsample.of("up", ("max", "mask"), "y", upsample_h=7, upsample_w=5),
        ),
    )

    y = forward(net, {}, {"x": x})["y"]

    kept = y != 0
    assert kept.sum() == 2 * 3 * 4 * 2 - (x.min() in forward(net, {}, {"x": x})["max"])
    np.testing.assert_array_equal(y[kept], x[kept])


def test_the_last_of_several_stays():
    """As Caffe's loop leaves it."""
    values, mask = np.arange(1.0, 5).reshape(1, 1, 2, 2), np.zeros((1, 1, 2, 2))

    (y,) = Upsample.of("u", ("x", "mask"), "y").forward([values, mask], [])

    assert y.ravel().tolist() == [4] + [0] * 15


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (8, 12)),
        ({"scale": 3}, (12, 18)),
        ({"scale_h": 3, "scale_w": 2}, (12, 12)),
        ({"scale_h": 3, "scale_w": 2, "pad_out_w": True}, (12, 11)),
        ({"pad_out_h": True}, (7, 12)),
        ({"upsample_h": 9, "upsample_w": 5, "scale": 1}, (9, 5)),
        ({"upsample_h": 9}, (8, 12)),  # one side alone is not looked at
    ],
)
def test_sizes(fields, size):
    layer = Upsample.of("u", ("x", "mask"), "y", **fields)

    assert layer.top_shapes([SHAPE, SHAPE]) == [(2, 3, *size)]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({}, [SHAPE, (2, 3, 6, 4)], "a mask of this shape, has 2x3x4x6 and 2x3x6x4"),
        ({}, [(2, 3, 4), (2, 3, 4)], "a mask of this shape, has 2x3x4"),
        ({"scale": 1}, [SHAPE, SHAPE], "scale is 1x1; 2 is the least"),
        ({"scale": 3, "pad_out_h": True}, [SHAPE, SHAPE], "what pad_out_h and pad_out_w need"),
        ({"scale_h": 2}, [SHAPE, SHAPE], "scale_h and scale_w go together"),
        ({"scale": 2, "scale_h": 2, "scale_w": 2}, [SHAPE, SHAPE], "and without scale"),
        ({"upsample_h": 1, "upsample_w": 5}, [SHAPE, SHAPE], "upsample_h 1, upsample_w 5; 2 is"),
    ],
)
def test_refused(fields, shapes, message):
    with pytest.raises(ShapeError, match=message):
        Upsample.of("u", ("x", "mask"), "y", **fields).top_shapes(shapes)


@pytest.mark.parametrize("place", [-1, 96, np.nan, np.inf, 1e30])
def test_a_mask_that_points_outside(place):
    """Of a Pooling -1 is a window in which nothing was greater than -FLT_MAX."""
    mask = np.zeros(SHAPE, np.float32)
    mask[1, 2, 3, 5] = place
    layer = Upsample.of("u", ("x", "mask"), "y")
    layer.forward([np.ones(SHAPE, np.float32), np.full(SHAPE, 95, np.float32)], [])

    with pytest.raises(ShapeError, match=r"'u' \(Upsample\): the mask has .*8x12 places"):
        layer.forward([np.ones(SHAPE, np.float32), mask], [])
