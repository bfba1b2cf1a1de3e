"""Normalize by nested loops."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Normalize


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (2, 3, 7), (2, 3)])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_loops(shape, across, shared, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(dtype)
    layer = Normalize.of("n", "x", "y", across_spatial=across, channel_shared=shared, eps=0.25)
    (size,) = layer.blob_shapes([shape]).values()
    scale = np.asarray(rng.normal(size=size), dtype)

    (y,) = layer.forward([x], [scale])

    assert size == (() if shared else (3,))
    assert y.dtype == dtype
    assert [y.shape] == layer.top_shapes([shape]) == [shape]
    for place in np.ndindex(shape):
        n, c, *pixel = place
        seen = x[n] if across else x[(n, slice(None), *pixel)]
        length = (sum(float(v) ** 2 for v in seen.flat) + 0.25) ** 0.5
        value = x[place] / length * (scale if shared else scale[c])
        assert y[place] == pytest.approx(value, rel=1e-5)


def test_a_pixel_of_zeros_stays():
    (y,) = Normalize.of("n", "x", "y").forward([np.zeros((1, 3, 2, 2))], [np.array(20.0)])

    assert not y.any()


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3,), "with a channel axis"), ((1, 2, 3, 4, 5), "at most 4 axes")],
)
def test_refused(shape, message):
    with pytest.raises(ShapeError, match=message):
        Normalize.of("n", "x", "y").top_shapes([shape])
