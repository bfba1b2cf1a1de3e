"""MVN: over what, and where eps is added."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import MVN

X = np.random.default_rng(0).normal(3, 2, (2, 3, 7, 5))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("eps", [1e-9, 0.5])
def test_image_by_image(across, variance, eps):
    layer = MVN.of("m", "x", "y", across_channels=across, normalize_variance=variance, eps=eps)

    (y,) = layer.forward([X], [])

    for n, c in np.ndindex(2, 3):
        seen = (X[n] if across else X[n, c]).ravel().tolist()
        mean = sum(seen) / len(seen)
        deviation = (sum((v - mean) ** 2 for v in seen) / len(seen)) ** 0.5
        expected = (X[n, c] - mean) / (deviation + eps if variance else 1)
        np.testing.assert_allclose(y[n, c], expected, atol=1e-7)


def test_four_axes_come_out():
    layer = MVN.of("m", "x", "y")
    assert layer.top_shapes([(2, 3, 7)]) == [(2, 3, 7, 1)]
    assert layer.forward([X[..., 0]], [])[0].shape == (2, 3, 7, 1)

    with pytest.raises(ShapeError, match="takes at most 4 axes, not 2x3x7x5x1"):
        layer.top_shapes([(2, 3, 7, 5, 1)])
