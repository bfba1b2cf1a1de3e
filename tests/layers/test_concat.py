"""Concat along each axis."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Concat

SHAPE = (2, 3, 7, 5)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "fields", [{"axis": a} for a in (0, 1, 2, 3, -1, -3)] + [{}, {"concat_dim": 2}]
)
def test_place_by_place(fields):
    axis = fields.get("axis", fields.get("concat_dim", 1)) % 4
    bottoms = []
    for size in (4, 1, 6):
        shape = list(SHAPE)
        shape[axis] = size
        bottoms.append(RNG.normal(size=shape))
    layer = Concat.of("c", ("a", "b", "c"), "y", **fields)

    (y,) = layer.forward(bottoms, [])

    assert layer.top_shapes([x.shape for x in bottoms]) == [y.shape]
    assert y.shape[axis] == 11
    for place in np.ndindex(*y.shape):
        i, rest = 0, list(place)
        while rest[axis] >= bottoms[i].shape[axis]:
            rest[axis] -= bottoms[i].shape[axis]
            i += 1
        assert y[place] == bottoms[i][tuple(rest)]


def test_one_bottom_is_copied():
    x = RNG.normal(size=SHAPE)

    (y,) = Concat.of("c", "x", "y").forward([x], [])

    np.testing.assert_array_equal(x, y)
    assert not np.shares_memory(x, y)
    assert Concat.of("c", "x", "x").may_work_in_place()
    assert not Concat.of("c", ("x", "z"), "x").may_work_in_place()


@pytest.mark.parametrize(
    ("fields", "refused", "accepted", "message"),
    [
        ({}, (2, 4, 7, 6), (2, 4, 7, 5), "they may differ along axis 1 only"),
        ({}, (2, 4, 7), (2, 4, 7, 5), "bottom 'b' is 2x4x7, 'a' is 2x3x7x5"),
    ],
)
def test_shapes(fields, refused, accepted, message):
    layer = Concat.of("c", ("a", "b"), "y", **fields)
    assert layer.top_shapes([SHAPE, accepted]) == [(2, 7, 7, 5)]

    with pytest.raises(ShapeError, match=message):
        layer.top_shapes([SHAPE, refused])


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"axis": 1, "concat_dim": 1}, {"concat_dim": 1}, "give only axis"),
        ({"axis": 4}, {"axis": -4}, "axis 4 is outside"),
        ({"concat_dim": 4}, {"concat_dim": 3}, "concat_dim 4 is outside"),
    ],
)
def test_axis(refused, accepted, message):
    Concat.of("c", "a", "y", **accepted).top_shapes([SHAPE])

    with pytest.raises(ShapeError, match=message):
        Concat.of("c", "a", "y", **refused).top_shapes([SHAPE])
