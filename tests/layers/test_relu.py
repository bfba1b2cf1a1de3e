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
