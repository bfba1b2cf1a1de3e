"""Axpy by nested loops."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Axpy

LAYER = Axpy.of("a", ("a", "x", "y"), "top")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [(2, 3), (2, 3, 1, 1), (2, 3, 1)])
def test_by_loops(factor, dtype):
    rng = np.random.default_rng(0)
    a = rng.normal(size=factor).astype(dtype)
    x, y = rng.normal(size=(2, 2, 3, 7, 5)).astype(dtype)

    (top,) = LAYER.forward([a, x, y], [])

    assert top.dtype == dtype
    for n, c, h, w in np.ndindex(x.shape):
        value = a.reshape(2, 3)[n, c] * x[n, c, h, w] + y[n, c, h, w]
        assert top[n, c, h, w] == pytest.approx(value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3), (2, 3, 7, 5), (2, 3, 5, 7)], "2x3x7x5 and bottom.2. 2x3x5x7 need one shape"),
        ([(2, 4), (2, 3, 7, 5), (2, 3, 7, 5)], "2x3 or 2x3x1x1; it is 2x4"),
        ([(2, 3, 1, 5), (2, 3, 7, 5), (2, 3, 7, 5)], "it is 2x3x1x5"),
        ([(2,), (2,), (2,)], "with fewer axes, not 2"),
        ([(2, 3), (2, 3, 7, 5, 1), (2, 3, 7, 5, 1)], "with fewer axes, not 2x3x7x5x1"),
    ],
)
def test_refused(shapes, message):
    assert LAYER.top_shapes([(2, 3), (2, 3, 7, 5), (2, 3, 7, 5)]) == [(2, 3, 7, 5)]

    with pytest.raises(ShapeError, match=message):
        LAYER.top_shapes(shapes)
