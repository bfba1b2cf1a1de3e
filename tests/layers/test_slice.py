"""Slice: equal parts, or cuts."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Slice

X = np.random.default_rng(0).normal(size=(2, 6, 7, 5))


@pytest.mark.parametrize(
    ("fields", "axis", "cuts"),
    [
        ({}, 1, [0, 2, 4, 6]),
        ({"slice_point": (1, 2)}, 1, [0, 1, 2, 6]),
        ({"slice_point": (3, 4), "axis": -2}, 2, [0, 3, 4, 7]),
        ({"slice_point": (2, 4), "slice_dim": 3}, 3, [0, 2, 4, 5]),
    ],
)
def test_place_by_place(fields, axis, cuts):
    layer = Slice.of("s", "x", ("a", "b", "c"), **fields)

    tops = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [top.shape for top in tops]
    assert [top.shape[axis] for top in tops] == np.diff(cuts).tolist()
    for top, start in zip(tops, cuts, strict=False):
        assert not np.shares_memory(top, X)
        for place in np.ndindex(*top.shape):
            moved = list(place)
            moved[axis] += start
            assert top[place] == X[tuple(moved)]


def test_one_top():
    assert Slice.of("s", "x", "y").top_shapes([X.shape]) == [X.shape]
    assert Slice.of("s", "x", "x").may_work_in_place()
    assert not Slice.of("s", "x", ("x", "y")).may_work_in_place()


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"axis": 2}, {"axis": 1}, "3 top do not divide axis 2 of 7"),
        ({"slice_point": (1,)}, {"slice_point": (1, 3)}, "has 1 slice_point for 3 top"),
        ({"slice_point": (2, 2)}, {"slice_point": (2, 3)}, "must grow"),
        ({"slice_point": (0, 2)}, {"slice_point": (1, 2)}, "must grow"),
        ({"axis": 1, "slice_dim": 1}, {"slice_dim": 1}, "give only axis"),
        ({"slice_dim": 4}, {"slice_dim": 1}, "slice_dim 4 is outside"),
        ({"slice_point": (1, 2), "axis": 0}, {"slice_point": (1, 2), "axis": 3}, "axis 0 of 2"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    Slice.of("s", "x", ("a", "b", "c"), **accepted).top_shapes([X.shape])

    with pytest.raises(ShapeError, match=message):
        Slice.of("s", "x", ("a", "b", "c"), **refused).top_shapes([X.shape])
