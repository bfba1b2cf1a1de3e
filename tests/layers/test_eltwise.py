"""Eltwise: sum with coefficients, product, maximum."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Eltwise

A, B, C = np.random.default_rng(0).normal(size=(3, 2, 3, 7, 5))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, lambda a, b, c: a + b + c),
        ({"coeff": (1.0, -1.0, 0.5)}, lambda a, b, c: a - b + c / 2),
        ({"operation": "PROD"}, lambda a, b, c: a * b * c),
        ({"operation": "MAX"}, lambda a, b, c: max(a, b, c)),
    ],
)
def test_value_by_value(fields, expected):
    (y,) = Eltwise.of("e", ("a", "b", "c"), "y", **fields).forward([A, B, C], [])

    for place in np.ndindex(*A.shape):
        assert y[place] == pytest.approx(expected(A[place], B[place], C[place]))


def test_leaves_its_bottoms():
    a = A.copy()

    Eltwise.of("e", ("a", "b"), "y").forward([a, B], [])

    np.testing.assert_array_equal(a, A)


@pytest.mark.parametrize(
    ("refused", "accepted"),
    [
        ({"coeff": (1.0,)}, {"coeff": (1.0, 2.0)}),
        ({"coeff": (1.0, 2.0), "operation": "PROD"}, {"coeff": (1.0, 2.0), "operation": "SUM"}),
    ],
)
def test_coeff_for_each_bottom(refused, accepted):
    Eltwise.of("e", ("a", "b"), "y", **accepted).top_shapes([A.shape, B.shape])

    with pytest.raises(ShapeError, match="coeff for 2 bottom"):
        Eltwise.of("e", ("a", "b"), "y", **refused).top_shapes([A.shape, B.shape])


def test_no_broadcast():
    with pytest.raises(ShapeError, match="'a' 2x3x7x5, 'b' 2x3x1x1"):
        Eltwise.of("e", ("a", "b"), "y").top_shapes([A.shape, (2, 3, 1, 1)])


def test_maximum_of_nan():
    """The real Caffe's values: a > b ? a : b takes b where one is nan; then c only if greater."""
    nan = np.nan
    a, b, c = np.array([[nan, 1, nan, 2], [1, nan, nan, 1], [0, 5, 5, nan]], np.float32)

    (two,) = Eltwise.of("e", ("a", "b"), "y", operation="MAX").forward([a, b], [])
    (three,) = Eltwise.of("e", ("a", "b", "c"), "y", operation="MAX").forward([a, b, c], [])

    np.testing.assert_array_equal(two, [1, nan, nan, 2])
    np.testing.assert_array_equal(three, [1, nan, nan, 2])
