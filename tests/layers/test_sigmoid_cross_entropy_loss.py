"""SigmoidCrossEntropyLoss, value by value."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import SigmoidCrossEntropyLoss

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 5))


def loss(**fields):
    return SigmoidCrossEntropyLoss.of("loss", ("x", "t"), "y", **fields)


def summed(x, target, ignored=None):
    total, n = 0.0, 0
    for a, t in zip(x.ravel().tolist(), target.ravel().tolist(), strict=True):
        if int(t) != ignored:
            s = 1 / (1 + math.exp(-a))
            total -= t * math.log(s) + (1 - t) * math.log(1 - s)
            n += 1
    return total, n


@pytest.mark.parametrize("ignored", [None, 0, -1])
def test_value_by_value(ignored):
    """By default over the batch, other than SoftmaxWithLoss."""
    target = RNG.integers(-1, 2, X.shape) if ignored == -1 else RNG.uniform(0, 1.5, X.shape)
    fields = {} if ignored is None else {"ignore_label": ignored}
    total, n = summed(X, target, ignored)

    for more, divisor in (
        ({}, 2),
        ({"normalization": "VALID"}, n),
        ({"normalization": "FULL"}, 30),
        ({"normalization": "BATCH_SIZE"}, 2),
        ({"normalization": "NONE"}, 1),
        ({"normalize": True}, n),
        ({"normalize": False}, 2),
    ):
        (y,) = loss(**fields, **more).forward([X, target.astype(float)], [])
        assert y == pytest.approx(total / divisor), more


def test_far_from_zero():
    x = np.array([[-900.0, 900.0, -900.0, 900.0]])

    assert loss().forward([x, np.array([[0.0, 1.0, 1.0, 0.0]])], [])[0] == 1800


def test_refused_and_accepted():
    assert loss().top_shapes([(2, 3, 5), (2, 15)]) == [()]

    with pytest.raises(ShapeError, match="scores are 2x3x5, targets 2x14"):
        loss().top_shapes([(2, 3, 5), (2, 14)])
    with pytest.raises(ShapeError, match="need the same first size"):
        loss().top_shapes([(2, 3, 5), (30,)])


def test_of_an_infinite_score_is_no_number():
    """Caffe takes it from itself: sigmoid_cross_entropy_loss_layer.cpp."""
    layer = SigmoidCrossEntropyLoss.of("loss", ("x", "t"), "y")

    with np.errstate(invalid="ignore"):
        (y,) = layer.forward([np.array([[np.inf, 1.0]]), np.array([[1.0, 0.0]])], [])

    assert np.isnan(y)
