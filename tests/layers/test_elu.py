"""ELU."""

import math

import numpy as np
import pytest

from resnet_proto.layers import ELU


@pytest.mark.parametrize("alpha", [1.0, 0.25, -2.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_value_by_value(alpha, dtype, tolerance):
    values = [-30.0, -1.5, -0.0, 0.5, 700.0]

    (y,) = ELU.of("e", "x", "y", alpha=alpha).forward([np.array(values, dtype)], [])

    expected = [x if x > 0 else alpha * (math.exp(x) - 1) for x in values]
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=tolerance)
