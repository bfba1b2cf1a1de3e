"""Convolution against nested loops, and its shape rules."""

from itertools import product

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Convolution

SIZES = {"kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 1, "pad_h": 1, "pad_w": 0}


def looped(x, weight, bias, stride, pad, dilation, group, out):
    """Every output value by its definition, for (N, C, H, W)."""
    y = np.zeros((len(x), len(weight), *out))
    per_group = len(weight) // group
    for n, o, r, c in np.ndindex(*y.shape):
        y[n, o, r, c] = bias[o]
        for i, kr, kc in np.ndindex(*weight.shape[1:]):
            row = r * stride[0] - pad[0] + kr * dilation[0]
            column = c * stride[1] - pad[1] + kc * dilation[1]
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                channel = o // per_group * weight.shape[1] + i
                y[n, o, r, c] += weight[o, i, kr, kc] * x[n, channel, row, column]
    return y


@pytest.mark.parametrize(
    ("channels", "group", "dilation"),
    [
        (3, 1, (1, 1)),
        (4, 2, (1, 1)),
        (3, 1, (2, 3)),
        (6, 6, (1, 2)),
        (3, 1, (0, 2)),
        (2, 2, (0, 0)),
    ],
)
def test_is_what_nested_loops_give(channels, group, dilation):
    """Stride, pad, dilation and group, with another size on every axis."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, channels, 7, 5))
    conv = Convolution.of("c", "x", "y", num_output=12, group=group, dilation=dilation, **SIZES)
    blobs = [rng.normal(size=shape) for shape in conv.blob_shapes([x.shape]).values()]
    (shape,) = conv.top_shapes([x.shape])

    (y,) = conv.forward([x], blobs)

    assert y.shape == shape
    np.testing.assert_allclose(y, looped(x, *blobs, (2, 1), (1, 0), dilation, group, shape[2:]))


def test_of_a_line():
    """One spatial axis, drawn: the kernel (1, -1) over a padded line."""
    conv = Convolution.of("c", "x", "y", num_output=1, kernel_size=2, pad=1, bias_term=False)
    x = np.array([[[1.0, 4.0, 9.0]]])

    (y,) = conv.forward([x], [np.array([[[1.0, -1.0]]])])

    #  0-1  1-4  4-9  9-0
    assert y.tolist() == [[[-1.0, -3.0, -5.0, 9.0]]]


def test_of_a_volume():
    """Three spatial axes: a kernel that is 1 in one corner picks shifted values."""
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(1, 2, 3, 4, 5)
    weight = np.zeros((1, 2, 2, 3, 2), np.float32)
    weight[0, 1, 1, 2, 0] = 1
    conv = Convolution.of("c", "x", "y", num_output=1, kernel_size=(2, 3, 2), bias_term=False)

    (y,) = conv.forward([x], [weight])

    assert y.dtype == np.float32
    np.testing.assert_array_equal(y[0, 0], x[0, 1, 1:3, 2:4, 0:4])


def test_axis_moves_the_channels():
    """With ``axis: 2`` the axes before it are a batch."""
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(2, 3, 4, 7, 5)), rng.normal(size=(6, 4, 3, 2))
    conv = Convolution.of("c", "x", "y", num_output=6, kernel_size=(3, 2), axis=2, bias_term=False)
    plain = Convolution.of("c", "x", "y", num_output=6, kernel_size=(3, 2), bias_term=False)

    (y,) = conv.forward([x], [weight])

    for i, j in product(range(2), range(3)):
        np.testing.assert_allclose(y[i, j], plain.forward([x[i, j][None]], [weight])[0][0])


def test_several_bottoms_share_the_weight():
    rng = np.random.default_rng(2)
    conv = Convolution(
        "c",
        "Convolution",
        ("a", "b"),
        ("p", "q"),
        {"convolution_param": {"num_output": 4, "kernel_size": (1,), "bias_term": False}},
    )
    a, b = rng.normal(size=(2, 2, 3, 7, 5))
    weight = rng.normal(size=(4, 3, 1, 1))

    tops = conv.forward([a, b], [weight])

    for x, y in zip((a, b), tops, strict=True):
        np.testing.assert_allclose(y, np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], x))


def test_division_truncates_towards_zero():
    """A 3x3 kernel with stride 2 fits a 2x2 map once, zeros beyond; with stride 1 it does not."""
    conv = Convolution.of("c", "x", "y", num_output=1, kernel_size=3, stride=2, bias_term=False)
    x = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])

    assert conv.top_shapes([x.shape]) == [(1, 1, 1, 1)]
    assert conv.forward([x], [np.ones((1, 1, 3, 3))])[0].item() == 10

    with pytest.raises(
        ShapeError, match="kernel 3x3 is too large, the bottom with its pad has 2x2"
    ):
        Convolution.of("c", "x", "y", num_output=1, kernel_size=3).top_shapes([x.shape])


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        (
            {"kernel_size": 8},
            {"kernel_size": 5},
            "kernel 8x8 is too large, the bottom with its pad has 7x5; make it smaller, or pad",
        ),
        (
            {"kernel_size": (3, 2), "dilation": (4, 5), "pad": (0, 1)},
            {"kernel_size": (3, 2), "dilation": (3, 5), "pad": (0, 1)},
            "kernel 3x2 with dilation 4x5 spans 9x6, the bottom with its pad has 7x7; make the "
            "kernel or the dilation smaller, or pad more",
        ),
        ({"kernel_h": 3}, {"kernel_h": 3, "kernel_w": 2}, "kernel_h and kernel_w go together"),
        ({"kernel_size": (3, 2, 1)}, {"kernel_size": (3, 2)}, "3 values for 2 spatial axes"),
        ({"kernel_size": 0}, {"kernel_size": 1}, "1 is the least"),
        (
            {"kernel_size": 1, "group": 2},
            {"kernel_size": 1, "group": 3},
            "does not divide 3 channels",
        ),
        ({"kernel_size": 1, "num_output": 0}, {"kernel_size": 1}, "num_output is 0"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    shape = (2, 3, 7, 5)
    Convolution.of("c", "x", "y", **{"num_output": 6, **accepted}).top_shapes([shape])

    with pytest.raises(ShapeError, match=message):
        Convolution.of("c", "x", "y", **{"num_output": 6, **refused}).top_shapes([shape])
