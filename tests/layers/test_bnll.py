"""BNLL."""

import math

import numpy as np
import pytest

from resnet_proto.layers import BNLL


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_value_by_value(dtype, tolerance):
    """At both ends exp alone would give 0 or infinity."""
    values = [-40.0, -2.0, 0.0, 0.5, 20.0]

    (y,) = BNLL.of("b", "x", "y").forward([np.array([*values, 900.0], dtype)], [])

    assert y.dtype == dtype
    np.testing.assert_allclose(y, [*(math.log1p(math.exp(x)) for x in values), 900], rtol=tolerance)
