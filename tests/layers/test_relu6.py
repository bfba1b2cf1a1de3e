"""ReLU6, leaky or not."""

import numpy as np
import pytest

from resnet_proto.layers import ReLU6

X = [-40.0, -2.0, 0.0, 3.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0, 0, 0, 3, 6, 6]),
        ({"negative_slope": 0.25}, [-10, -0.5, 0, 3, 6, 6]),
        ({"negative_slope": -0.5}, [6, 1, 0, 3, 6, 6]),  # after the slope it is cut
        ({"threshold": 2.5}, [0, 0, 0, 2.5, 2.5, 2.5]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(fields, expected, dtype):
    x = np.array(X, dtype)

    (y,) = ReLU6.of("r", "x", "y", **fields).forward([x], [])

    assert y.dtype == dtype
    assert y.tolist() == expected
    assert x.tolist() == X


def test_keeps_any_shape():
    assert ReLU6.of("r", "x", "y").top_shapes([(2, 3, 7)]) == [(2, 3, 7)]
    assert ReLU6.of("r", "x", "y").forward([np.array(7.0)], []) == [6]


def test_nan_stays():
    with np.errstate(invalid="ignore"):
        (y,) = ReLU6.of("r", "x", "y").forward([np.array([np.nan, np.inf, -np.inf])], [])

    np.testing.assert_array_equal(y, [np.nan, 6, np.nan])  # -inf times a slope of 0, as in ReLU
