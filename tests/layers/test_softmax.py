"""Softmax along any axis, and without overflow."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Softmax


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_is_exp_over_sum(axis):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 5))

    (y,) = Softmax.of("s", "x", "y", axis=axis).forward([x], [])

    lines, results = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
    for place in np.ndindex(*lines.shape[:-1]):
        exp = [math.exp(value) for value in lines[place]]
        np.testing.assert_allclose(results[place], [value / sum(exp) for value in exp])


def test_large_values_do_not_overflow():
    (y,) = Softmax.of("s", "x", "y").forward([np.float32([[1000, 1000, -1000]])], [])

    assert y.tolist() == [[0.5, 0.5, 0.0]]


def test_refused_and_accepted():
    assert Softmax.of("s", "x", "y", axis=-2).top_shapes([(2, 3)]) == [(2, 3)]

    with pytest.raises(ShapeError, match="axis 2 is outside"):
        Softmax.of("s", "x", "y", axis=2).top_shapes([(2, 3)])
