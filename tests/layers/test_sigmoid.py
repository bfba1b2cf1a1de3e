"""Sigmoid at both ends, where exp overflows."""

import math

import numpy as np
import pytest

from resnet_proto.layers import Sigmoid

VALUES = [-700.0, -88.8, -2.0, 0.0, 0.5, 3.0, 800.0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-7), (np.float64, 1e-15)])
def test_value_by_value(dtype, tolerance):
    (y,) = Sigmoid.of("s", "x", "y").forward([np.array(VALUES, dtype)], [])

    expected = [1 / (1 + math.exp(-x)) for x in VALUES]
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)


def test_works_in_place():
    assert Sigmoid.of("s", "x", "x").may_work_in_place()
