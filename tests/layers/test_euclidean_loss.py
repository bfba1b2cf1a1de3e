"""EuclideanLoss, value by value."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import EuclideanLoss

LAYER = EuclideanLoss.of("loss", ("a", "b"), "y")


@pytest.mark.parametrize("other", [(3, 2, 4), (3, 8), (3, 4, 1, 2, 1)])
def test_value_by_value(other):
    """Shapes may differ behind the first axis."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 2, 4)), rng.normal(size=other)

    (y,) = LAYER.forward([a, b], [])

    pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    assert y == pytest.approx(sum((s - t) ** 2 for s, t in pairs) / 3 / 2)
    assert y.shape == ()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 8), (3, 7)], "bottoms 3x8 and 3x7 hold different numbers"),
        ([(3, 8), (2, 12)], "need the same first size"),
        ([(3, 2, 2, 2, 1), (3, 8)], "takes at most 4 axes, not 3x2x2x2x1"),
    ],
)
def test_refused_and_accepted(shapes, message):
    assert LAYER.top_shapes([(3, 8), (3, 2, 2, 2, 1)]) == [()]

    with pytest.raises(ShapeError, match=message):
        LAYER.top_shapes(shapes)
