"""LRN: which neighbours count, and what their sum is divided by."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import LRN

X = np.random.default_rng(0).normal(size=(2, 6, 4, 5))
FIELDS = {"alpha": 0.75, "beta": 1.5, "k": 2.0}


@pytest.mark.parametrize("size", [1, 3, 5])
def test_across_channels(size):
    """Channels outside count as 0, and the divisor stays."""
    (y,) = LRN.of("l", "x", "y", local_size=size, **FIELDS).forward([X], [])

    for n, c, h, w in np.ndindex(*X.shape):
        around = range(max(0, c - size // 2), min(6, c + size // 2 + 1))
        total = sum(X[n, i, h, w] ** 2 for i in around)
        expected = X[n, c, h, w] / (2 + 0.75 / size * total) ** 1.5
        assert y[n, c, h, w] == pytest.approx(expected)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_within_a_channel(size):
    """K is not used; padding counts, but no further than the pad reaches."""
    fields = {**FIELDS, "norm_region": "WITHIN_CHANNEL"}
    (y,) = LRN.of("l", "x", "y", local_size=size, **fields).forward([X], [])

    pad = size // 2
    for n, c, h, w in np.ndindex(*X.shape):
        rows = [i for i in range(h - pad, h + pad + 1) if 0 <= i < 4]
        columns = [i for i in range(w - pad, w + pad + 1) if 0 <= i < 5]
        total = sum(X[n, c, i, j] ** 2 for i in rows for j in columns)
        expected = X[n, c, h, w] / (1 + 0.75 * total / size**2) ** 1.5
        assert y[n, c, h, w] == pytest.approx(expected)


def test_refused_and_accepted():
    assert LRN.of("l", "x", "y").top_shapes([X.shape]) == [X.shape]

    with pytest.raises(ShapeError, match="local_size is 4; it has to be odd"):
        LRN.of("l", "x", "y", local_size=4).top_shapes([X.shape])
    with pytest.raises(ShapeError, match=r"takes \(N, C, H, W\), has 2x6x4"):
        LRN.of("l", "x", "y").top_shapes([(2, 6, 4)])
