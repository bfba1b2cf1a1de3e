"""Crop: whose sizes, and where the part begins."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Crop

X = np.random.default_rng(0).normal(size=(2, 4, 7, 9))
LIKE = (5, 3, 2, 6)


@pytest.mark.parametrize(
    ("fields", "shape", "starts"),
    [
        ({}, (2, 4, 2, 6), (0, 0, 0, 0)),
        ({"offset": 3}, (2, 4, 2, 6), (0, 0, 3, 3)),
        ({"offset": (1, 3)}, (2, 4, 2, 6), (0, 0, 1, 3)),
        ({"axis": 1, "offset": (1, 5, 2)}, (2, 3, 2, 6), (0, 1, 5, 2)),
        ({"axis": -1, "offset": 1}, (2, 4, 7, 6), (0, 0, 0, 1)),
    ],
)
def test_place_by_place(fields, shape, starts):
    layer = Crop.of("c", ("x", "like"), "y", **fields)

    (y,) = layer.forward([X, np.zeros(LIKE)], [])

    assert layer.top_shapes([X.shape, LIKE]) == [shape] == [y.shape]
    assert not np.shares_memory(X, y)
    for place in np.ndindex(*shape):
        assert y[place] == X[tuple(a + b for a, b in zip(place, starts, strict=True))]


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"offset": (5, 4)}, {"offset": (5, 3)}, "reaches outside 2x4x7x9"),
        ({"offset": (1, 1, 1)}, {"offset": (1, 1)}, "has 3 offset for 2 axes"),
        ({"axis": 0}, {"axis": 1}, "reaches outside"),
        ({"axis": 4}, {"axis": 3}, "axis 4 is outside"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    Crop.of("c", ("x", "like"), "y", **accepted).top_shapes([X.shape, LIKE])

    with pytest.raises(ShapeError, match=message):
        Crop.of("c", ("x", "like"), "y", **refused).top_shapes([X.shape, LIKE])


def test_axes_of_the_second_bottom():
    layer = Crop.of("c", ("x", "like"), "y")
    assert layer.top_shapes([X.shape, (5, 3, 2, 6, 8)]) == [(2, 4, 2, 6)]

    with pytest.raises(ShapeError, match=r"bottom\[1\] 5x3x2 has fewer axes than 2x4x7x9"):
        layer.top_shapes([X.shape, (5, 3, 2)])
