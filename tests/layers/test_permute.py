"""Permute by nested loops."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Permute


@pytest.mark.parametrize(
    ("order", "whole"),
    [
        ((0, 2, 3, 1), (0, 2, 3, 1)),
        ((3, 1), (3, 1, 0, 2)),
        ((2,), (2, 0, 1, 3)),
        ((), (0, 1, 2, 3)),
        ((0, 1, 2, 3), (0, 1, 2, 3)),
    ],
)
def test_by_loops(order, whole):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)
    layer = Permute.of("p", "x", "y", order=order)

    (y,) = layer.forward([x], [])

    assert layer.axes(x.shape) == whole
    assert layer.shares_memory == (whole == (0, 1, 2, 3))  # ShareData in permute_layer.cpp
    assert [y.shape] == layer.top_shapes([x.shape])
    assert not np.shares_memory(x, y)
    for place in np.ndindex(y.shape):
        source = [0] * 4
        for i, axis in enumerate(whole):
            source[axis] = place[i]
        assert y[place] == x[tuple(source)]


@pytest.mark.parametrize("order", [(0, 4), (1, 1), (4294967295,)])
def test_refused(order):
    assert Permute.of("p", "x", "y", order=(0, 4)).top_shapes([(1, 2, 3, 4, 5)])

    with pytest.raises(ShapeError, match=r"order .* names an axis twice, or one that"):
        Permute.of("p", "x", "y", order=order).top_shapes([(2, 3, 7, 5)])


def test_a_scalar_has_no_axis():
    assert Permute.of("p", "x", "y").top_shapes([()]) == [()]

    with pytest.raises(ShapeError, match=r"order 0 names .* scalar does not have"):
        Permute.of("p", "x", "y", order=0).top_shapes([()])
