"""Input: shapes of what the caller hands in."""

import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import make_layer

A, B = {"dim": (2, 3, 7, 5)}, {"dim": (2, 4)}


def data(*tops, shape):
    return make_layer("d", "Input", (), tops, {"input_param": {"shape": shape}})


def test_one_shape_for_each_top_or_one_for_all():
    assert data("a", "b", shape=(A, B)).top_shapes(()) == [(2, 3, 7, 5), (2, 4)]
    assert data("a", "b", shape=(B,)).top_shapes(()) == [(2, 4), (2, 4)]

    with pytest.raises(ShapeError, match="has 2 shapes for 3 tops"):
        data("a", "b", "c", shape=(A, B)).top_shapes(())
