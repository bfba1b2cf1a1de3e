"""MultinomialLogisticLoss, image by image."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import MultinomialLogisticLoss

LAYER = MultinomialLogisticLoss.of("loss", ("p", "label"), "y")


def test_image_by_image():
    """A probability of 0 counts as 1e-20; labels number whatever lies behind the first axis."""
    prob = np.array([[[0.5, 0.25], [0.25, 0.0]], [[0.1, 0.2], [0.3, 0.4]]])

    (y,) = LAYER.forward([prob, np.array([3.0, 2.0])], [])

    assert y == pytest.approx(-(math.log(1e-20) + math.log(0.3)) / 2)


def test_refused_and_accepted():
    assert LAYER.top_shapes([(2, 3), (2, 1, 1)]) == [()]

    with pytest.raises(ShapeError, match="labels are 2x3; one for each image is needed"):
        LAYER.top_shapes([(2, 3), (2, 3)])
    with pytest.raises(ShapeError, match="same first size"):
        LAYER.top_shapes([(2, 3), (3,)])
