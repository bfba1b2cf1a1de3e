"""Im2col: the order of channels, and what lies outside."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Im2col

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5))
FIELDS = {"kernel_size": (3, 2), "stride": (2, 1), "pad": (1, 0), "dilation": (1, 2)}


def test_place_by_place():
    layer = Im2col.of("i", "x", "y", **FIELDS)

    (y,) = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [y.shape] == [(2, 18, 4, 3)]
    assert layer.blob_shapes([X.shape]) == {}
    for n, c, kh, kw, h, w in np.ndindex(2, 3, 3, 2, 4, 3):
        row, column = 2 * h + kh - 1, w + 2 * kw
        expected = X[n, c, row, column] if 0 <= row < 7 else 0
        assert y[n, c * 6 + kh * 2 + kw, h, w] == expected


def test_channels_on_another_axis():
    layer = Im2col.of("i", "x", "y", axis=2, kernel_size=2)

    (y,) = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [y.shape] == [(2, 3, 14, 4)]
    np.testing.assert_array_equal(y[:, :, ::2], X[..., :-1])
    np.testing.assert_array_equal(y[:, :, 1::2], X[..., 1:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel_size": 9}, "kernel 9x9 is larger"),
        ({"kernel_size": 2, "axis": 3}, "needs an axis behind the channels"),
        ({}, "kernel_size has 0 values"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ShapeError, match=message):
        Im2col.of("i", "x", "y", **fields).top_shapes([X.shape])
