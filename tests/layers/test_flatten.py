"""Flatten: which axes become one."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Flatten

X = np.arange(210.0).reshape(2, 3, 7, 5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (2, 105)),
        ({"axis": 2}, (2, 3, 35)),
        ({"axis": 0, "end_axis": 1}, (6, 7, 5)),
        ({"axis": -3, "end_axis": -2}, (2, 21, 5)),
        ({"axis": 2, "end_axis": 2}, (2, 3, 7, 5)),
        ({"axis": 2, "end_axis": 1}, (2, 3, 1, 7, 5)),  # nothing between them: an axis of 1
    ],
)
def test_row_major(fields, expected):
    """Values keep their order in memory, which is that of X."""
    layer = Flatten.of("f", "x", "y", **fields)

    (y,) = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [expected] == [y.shape]
    assert y.ravel().tolist() == list(range(210))
    assert not np.shares_memory(X, y)


def test_not_by_how_memory_lies():
    (y,) = Flatten.of("f", "x", "y").forward([X.transpose(0, 3, 1, 2)], [])

    assert y[0, :8].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"axis": 3, "end_axis": 1}, {"axis": 3, "end_axis": 3}, "end_axis 1 lies before axis 3"),
        ({"axis": 4}, {"axis": 3}, "axis 4 is outside"),
        ({"end_axis": -5}, {"end_axis": -3}, "axis -5 is outside"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    Flatten.of("f", "x", "y", **accepted).top_shapes([X.shape])

    with pytest.raises(ShapeError, match=message):
        Flatten.of("f", "x", "y", **refused).top_shapes([X.shape])


def test_not_in_place():
    with pytest.raises(ShapeError, match="does not work in place"):
        Flatten.of("f", "x", "x").top_shapes([X.shape])
