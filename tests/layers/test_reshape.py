"""Reshape: 0 copies, -1 takes the rest, axis and num_axes say what is replaced."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Reshape

X = np.arange(210.0).reshape(2, 3, 7, 5)


def reshape(*dim, **fields):
    return Reshape.of("r", "x", "y", shape={"dim": dim}, **fields)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (reshape(0, -1), (2, 105)),
        (reshape(6, 35), (6, 35)),
        (reshape(0, 0, -1), (2, 3, 35)),
        (reshape(-1, 0, 0), (10, 3, 7)),
        (reshape(-1, axis=2), (2, 3, 35)),
        (reshape(21, axis=1, num_axes=2), (2, 21, 5)),
        (reshape(1, axis=0, num_axes=0), (1, 2, 3, 7, 5)),  # a new axis in front
        (reshape(1, axis=-1), (2, 3, 7, 5, 1)),  # and behind
        (reshape(1, 1, axis=-2, num_axes=0), (2, 3, 7, 1, 1, 5)),
        (reshape(0, 7, axis=1, num_axes=2), (2, 3, 7, 5)),
        (reshape(-1, 2, 3, 7, 5), (1, 2, 3, 7, 5)),
    ],
)
def test_what_is_replaced(layer, expected):
    (y,) = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [expected] == [y.shape]
    assert y.ravel().tolist() == list(range(210))
    assert not np.shares_memory(X, y)


def test_scalars():
    assert Reshape.of("r", "x", "y").top_shapes([(1, 1)]) == [()]
    assert reshape(1, 1).top_shapes([()]) == [(1, 1)]


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        (reshape(-1, -1), reshape(-1, 5), "at most one -1"),
        (reshape(4, -1), reshape(6, -1), "does not divide by the rest, 4"),
        (reshape(2, 3, 7), reshape(2, 3, 7, 5), "does not hold the 210 values of 2x3x7x5"),
        (reshape(2, 3, -7, -5), reshape(2, 3, 7, 5), "does not hold"),
        (reshape(1, 1, 0, 0, 0), reshape(0, 0, 0, 0), "no axis of 2x3x7x5 to copy"),
        (reshape(1, axis=5), reshape(1, axis=4), "reaches outside"),
        (reshape(1, axis=-6), reshape(1, axis=-5, num_axes=0), "reaches outside"),
        (reshape(-1, axis=3, num_axes=2), reshape(-1, axis=3, num_axes=1), "reaches outside"),
        (reshape(-1, num_axes=-2), reshape(-1, num_axes=-1), "reaches outside"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    accepted.top_shapes([X.shape])

    with pytest.raises(ShapeError, match=message):
        refused.top_shapes([X.shape])


def test_not_in_place():
    with pytest.raises(ShapeError, match="does not work in place"):
        Reshape.of("r", "x", "x", shape={"dim": (0, -1)}).top_shapes([X.shape])
