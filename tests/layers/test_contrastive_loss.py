"""ContrastiveLoss, pair by pair."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import ContrastiveLoss

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("margin", [1.0, 3.0])
def test_pair_by_pair(legacy, margin):
    layer = ContrastiveLoss.of("l", ("a", "b", "s"), "y", margin=margin, legacy_version=legacy)
    a, b, similar = RNG.normal(size=(5, 3, 1)), RNG.normal(size=(5, 3)), np.array([1, 0, 0, 1, 0.5])

    (y,) = layer.forward([a, b, similar], [])

    total = 0.0
    for n, same in enumerate((True, False, False, True, False)):  # C++ cuts 0.5 to 0
        squared = sum((a[n, c, 0] - b[n, c]) ** 2 for c in range(3))
        if same:
            total += squared
        elif legacy:
            total += max(0, margin - squared)
        else:
            total += max(0, margin - math.sqrt(squared)) ** 2
    assert y == pytest.approx(total / 5 / 2)


@pytest.mark.parametrize(
    "shapes",
    [
        [(5, 3), (5, 4), (5,)],
        [(5, 3, 2), (5, 3), (5,)],
        [(5, 3), (5, 3, 1, 2), (5,)],
        [(5, 3), (5, 3), (5, 2)],
        [(5, 3), (5, 3), (4,)],
        [(5, 3), (4, 3), (5,)],
    ],
)
def test_refused_and_accepted(shapes):
    layer = ContrastiveLoss.of("l", ("a", "b", "s"), "y")
    assert layer.top_shapes([(5, 3), (5, 3, 1, 1), (5, 1)]) == [()]

    with pytest.raises(ShapeError):
        layer.top_shapes(shapes)
