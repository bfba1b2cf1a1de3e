"""Threshold."""

import numpy as np

from resnet_proto.layers import Threshold


def test_above_and_not_at():
    x = np.array([[-1.0, 0.5], [0.75, np.nan]], np.float32)

    (y,) = Threshold.of("t", "x", "y", threshold=0.5).forward([x], [])

    assert y.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert y.dtype == np.float32
