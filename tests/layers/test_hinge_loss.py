"""HingeLoss, value by value."""

import numpy as np
import pytest

from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import HingeLoss

X = np.random.default_rng(0).normal(size=(3, 2, 2))
LABEL = np.array([3.0, 0.0, 1.0])


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_value_by_value(norm):
    layer = HingeLoss.of("loss", ("x", "label"), "y", norm=norm)

    (y,) = layer.forward([X, LABEL], [])

    total = 0
    for scores, label in zip(X.reshape(3, 4).tolist(), (3, 0, 1), strict=True):
        for i, score in enumerate(scores):
            margin = max(0, 1 + (-score if i == label else score))
            total += margin if norm == "L1" else margin**2
    assert y == pytest.approx(total / 3)


def test_a_nan_is_no_loss():
    """std::max(0, nan) is 0: hinge_loss_layer.cpp."""
    scores = np.array([[np.nan, 2.0, -3.0]])

    (y,) = HingeLoss.of("loss", ("x", "label"), "y").forward([scores, np.array([2.0])], [])

    assert y == 0 + 3 + 4


def test_refused_and_accepted():
    layer = HingeLoss.of("loss", ("x", "label"), "y")
    assert layer.top_shapes([X.shape, (3, 7)]) == [()]  # Caffe looks at the first 3 of them

    with pytest.raises(ShapeError, match="same first size"):
        layer.top_shapes([X.shape, (2,)])
    with pytest.raises(ShapeError, match="at most 4 axes"):
        layer.top_shapes([(3, 1, 1, 1, 4), (3,)])
    with pytest.raises(NetError, match="is given 4 where a number from 0 to 3 is needed"):
        layer.forward([X, LABEL + 1], [])
