"""ReLU, leaky or not."""

import numpy as np
import pytest

from resnet_proto.layers import ReLU


@pytest.mark.parametrize(("slope", "expected"), [(0.0, 0.0), (0.25, -0.5), (-0.5, 1.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slope_below_zero(slope, expected, dtype):
    x = np.array([-2.0, 0.0, 3.0], dtype)

    (y,) = ReLU.of("r", "x", "y", negative_slope=slope).forward([x], [])

    assert y.dtype == dtype
    assert y.tolist() == [expected, 0.0, 3.0]
    assert x.tolist() == [-2.0, 0.0, 3.0]


def test_keeps_any_shape():
    assert ReLU.of("r", "x", "y").top_shapes([(2, 3, 7)]) == [(2, 3, 7)]


def test_what_is_not_finite():
    """The real Caffe's values (relu_layer.cpp): also without a slope it multiplies by it."""
    x = np.array([-np.inf, np.nan, np.inf], np.float32)

    with np.errstate(invalid="ignore"):
        (y,) = ReLU.of("r", "x", "y").forward([x], [])
        (leaky,) = ReLU.of("r", "x", "y", negative_slope=0.5).forward([x], [])

    np.testing.assert_array_equal(y, [np.nan, np.nan, np.inf])
    np.testing.assert_array_equal(leaky, [-np.inf, np.nan, np.inf])
