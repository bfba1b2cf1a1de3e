"""TanH."""

import math

import numpy as np

from resnet_proto.layers import TanH


def test_value_by_value():
    x = np.array([[-2.0, 0.0, 0.5], [3.0, -0.25, 100.0]])

    (y,) = TanH.of("t", "x", "y").forward([x], [])

    expected = [[math.tanh(value) for value in row] for row in x]
    np.testing.assert_allclose(y, expected, rtol=1e-15)
