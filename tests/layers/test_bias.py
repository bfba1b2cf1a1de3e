"""Bias: what lies where. The places are those of Scale."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Bias

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5))


@pytest.mark.parametrize(
    ("fields", "shape", "letters"),
    [
        ({}, (3,), "c"),
        ({"axis": 0, "num_axes": 2}, (2, 3), "nc"),
        ({"axis": -2, "num_axes": -1}, (7, 5), "hw"),
        ({"axis": 2, "num_axes": 0}, (), ""),
    ],
)
@pytest.mark.parametrize("bottoms", ["x", ("x", "b")])
def test_where_it_lies(fields, shape, letters, bottoms):
    beta = np.random.default_rng(1).normal(size=shape)
    layer = Bias.of("b", bottoms, "y", **fields)
    two = bottoms != "x"
    shapes = [X.shape, shape][: 1 + two]

    (y,) = layer.forward([X, beta] if two else [X], [] if two else [beta])

    assert layer.top_shapes(shapes) == [X.shape]
    assert layer.blob_shapes(shapes) == ({} if two else {"bias": shape})
    np.testing.assert_allclose(y, X + np.einsum(f"nchw,{letters}->nchw", np.ones_like(X), beta))


@pytest.mark.parametrize(
    ("fields", "bottoms", "message"),
    [
        ({"axis": 4}, [X.shape], "axis 4 is outside"),
        ({"axis": 3, "num_axes": 2}, [X.shape], "reaches past"),
        ({}, [X.shape, (7,)], "does not match"),
    ],
)
def test_refused_and_accepted(fields, bottoms, message):
    Bias.of("b", ("x", "b"), "y", axis=4).top_shapes([X.shape, ()])  # a scalar has no place

    with pytest.raises(ShapeError, match=message):
        Bias.of("b", ("x", "b")[: len(bottoms)], "y", **fields).top_shapes(bottoms)
