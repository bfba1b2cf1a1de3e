"""SmoothL1Loss: by hand, and torch's."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import SmoothL1Loss

RNG = np.random.default_rng(0)
PREDICTED, TARGET = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4))


def test_by_hand():
    """Sigma 2: 4 x x / 2 below 1/4, x - 1/8 above; the weights inside, then outside."""
    bottoms = [np.array([[0.5, 3.0, 1.0]]), np.array([[0.4, 1.0, 0.0]])]
    layer = SmoothL1Loss.of("l", "ptab", "loss", sigma=2.0)

    (plain,) = layer.forward(bottoms, [])
    (inside,) = layer.forward([*bottoms, np.array([[1.0, 0.1, 0.0]])], [])
    (both,) = layer.forward(
        [*bottoms, np.array([[1.0, 0.1, 0.0]]), np.array([[0.0, 3.0, 9.0]])], []
    )

    assert plain == pytest.approx(2 * 0.01 + 1.875 + 0.875)
    assert inside == pytest.approx(2 * 0.01 + 2 * 0.04)
    assert both == pytest.approx(3 * 2 * 0.04)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_equal_to_torch(sigma, torch):
    """Torch's beta is 1 / sigma squared, and its loss the same."""
    (ours,) = SmoothL1Loss.of("l", "pt", "loss", sigma=sigma).forward([PREDICTED, TARGET], [])

    theirs = torch.nn.functional.smooth_l1_loss(
        torch.tensor(PREDICTED), torch.tensor(TARGET), reduction="sum", beta=sigma**-2
    )
    assert ours * len(PREDICTED) == pytest.approx(theirs.item())
    assert ours.shape == ()


def test_refused():
    layer = SmoothL1Loss.of("l", "pt", "loss")
    assert layer.top_shapes([(5, 8), (5, 8, 1, 1)]) == [()]

    with pytest.raises(ShapeError, match="bottoms differ: 5x8, 5x4"):
        layer.top_shapes([(5, 8), (5, 4)])


def test_sigma_0_makes_every_loss_0():
    """Below 1 / 0 is what Caffe compares with, and multiplies with 0."""
    x, target = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)

    with np.errstate(divide="ignore"):
        (loss,) = SmoothL1Loss.of("l", ("x", "t"), "y", sigma=0).forward([x, target], [])

    assert loss == 0
