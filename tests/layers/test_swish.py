"""Swish."""

import math

import numpy as np
import pytest

from resnet_proto.layers import Swish


@pytest.mark.parametrize("beta", [1.0, 2.5, -0.5])
def test_value_by_value(beta):
    values = [-3.0, 0.0, 0.5, 4.0]

    (y,) = Swish.of("s", "x", "y", beta=beta).forward([np.array(values)], [])

    np.testing.assert_allclose(y, [x / (1 + math.exp(-beta * x)) for x in values])
