"""Reduction: what is joined, and how."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Reduction

X = np.random.default_rng(0).normal(size=(2, 3, 5))
JOIN = {
    "SUM": math.fsum,
    "ASUM": lambda values: math.fsum(map(abs, values)),
    "SUMSQ": lambda values: math.fsum(v * v for v in values),
    "MEAN": lambda values: math.fsum(values) / len(values),
}


@pytest.mark.parametrize("operation", JOIN)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("coeff", [1.0, -2.5])
def test_place_by_place(operation, axis, coeff):
    layer = Reduction.of("r", "x", "y", operation=operation, axis=axis, coeff=coeff)

    (y,) = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [y.shape] == [X.shape[: axis % 3]]
    for place in np.ndindex(*y.shape):
        assert y[place] == pytest.approx(coeff * JOIN[operation](X[place].ravel().tolist()))


def test_a_scalar_of_the_bottoms_dtype():
    (y,) = Reduction.of("r", "x", "y").forward([X.astype(np.float32)], [])

    assert (type(y), y.shape, y.dtype) == (np.ndarray, (), np.float32)


def test_axis():
    with pytest.raises(ShapeError, match="axis 3 is outside"):
        Reduction.of("r", "x", "y", axis=3).top_shapes([X.shape])
