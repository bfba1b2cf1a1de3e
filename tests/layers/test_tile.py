"""Tile along each axis."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Tile

X = np.random.default_rng(0).normal(size=(2, 3, 5))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("tiles", [1, 4])
def test_place_by_place(axis, tiles):
    layer = Tile.of("t", "x", "y", axis=axis, tiles=tiles)

    (y,) = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [y.shape]
    assert y.shape[axis] == tiles * X.shape[axis]
    assert not np.shares_memory(X, y)
    for place in np.ndindex(*y.shape):
        assert y[place] == X[tuple(i % size for i, size in zip(place, X.shape, strict=True))]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({}, "tiles is 0"), ({"tiles": -1}, "tiles is -1"), ({"tiles": 2, "axis": 3}, "outside")],
)
def test_refused(fields, message):
    with pytest.raises(ShapeError, match=message):
        Tile.of("t", "x", "y", **fields).top_shapes([X.shape])
