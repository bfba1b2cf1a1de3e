"""AbsVal, which Caffe refuses in place."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import AbsVal


def test_value_by_value():
    x = np.array([[-2.5, 0.0, 3.0], [-0.0, 1.0, -np.inf]], np.float32)

    (y,) = AbsVal.of("a", "x", "y").forward([x], [])

    assert y.tolist() == [[2.5, 0.0, 3.0], [0.0, 1.0, np.inf]]
    assert y.dtype == np.float32


def test_not_in_place():
    assert AbsVal.of("a", "x", "y").top_shapes([(2, 3)]) == [(2, 3)]

    with pytest.raises(ShapeError, match="does not work in place"):
        AbsVal.of("a", "x", "x").top_shapes([(2, 3)])
