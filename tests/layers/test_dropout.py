"""Dropout at phase TEST."""

import numpy as np
import pytest

from resnet_proto.layers import Dropout


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_copies(ratio):
    """No scaling: training divides by 1 - ratio."""
    x = np.arange(6.0).reshape(2, 3)

    (y,) = Dropout.of("d", "x", "y", dropout_ratio=ratio).forward([x], [])

    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)
