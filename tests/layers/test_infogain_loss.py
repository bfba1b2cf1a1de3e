"""InfogainLoss: SoftmaxWithLoss where the matrix is the identity, and by hand."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError, UnknownLayerError
from resnet_proto.layers import InfogainLoss, SoftmaxWithLoss, make_layer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 5))
LABEL = RNG.integers(0, 3, (2, 5)).astype(float)
GAINS = RNG.uniform(0, 1, (3, 3))


def loss(bottoms=("x", "label", "h"), tops="y", **fields):
    return InfogainLoss.of("loss", bottoms, tops, **fields)


@pytest.mark.parametrize("fields", [{}, {"ignore_label": 1}, {"normalization": "FULL"}])
def test_identity(fields):
    (y,) = loss(**fields).forward([X, LABEL, np.eye(3)], [])

    (expected,) = SoftmaxWithLoss.of("s", ("x", "label"), "y", **fields).forward([X, LABEL], [])
    assert y == pytest.approx(expected)


def test_place_by_place():
    (y,) = loss().forward([X, LABEL, GAINS.reshape(1, 9)], [])

    total = 0.0
    for n, i in np.ndindex(2, 5):
        exps = [math.exp(score) for score in X[n, :, i].tolist()]
        for c in range(3):
            total -= GAINS[int(LABEL[n, i]), c] * math.log(exps[c] / sum(exps))
    assert y == pytest.approx(total / 10)


def test_second_top():
    """Caffe wants a loss_weight for each of two."""
    two = make_layer(
        "loss", "InfogainLoss", ("x", "label", "h"), ("y", "p"), {"loss_weight": (1.0, 0.0)}
    )
    shapes = [X.shape, (2, 5), (3, 3)]
    assert two.top_shapes(shapes) == [(), X.shape]

    _, prob = two.forward([X, LABEL, GAINS], [])

    np.testing.assert_allclose(prob, np.exp(X) / np.exp(X).sum(axis=1, keepdims=True))
    with pytest.raises(ShapeError, match="needs two loss_weight"):
        loss(tops=("y", "p")).top_shapes(shapes)


def test_a_matrix_in_a_file():
    """Its shape does not matter to the net's, its values are not read."""
    layer = loss(("x", "label"), source="h.binaryproto")
    assert layer.top_shapes([X.shape, (2, 5)]) == [()]

    with pytest.raises(UnknownLayerError, match=r"'h\.binaryproto', which is not read"):
        layer.forward([X, LABEL], [])
    with pytest.raises(ShapeError, match="give a third bottom, or a source"):
        loss(("x", "label")).top_shapes([X.shape, (2, 5)])


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({}, [X.shape, (2, 5), (3, 4)], "the matrix is 3x4, for 3 classes"),
        ({}, [X.shape, (2, 4), (3, 3)], "labels are 2x4"),
        ({"normalize": True}, [X.shape, (2, 5), (3, 3)], "normalize is an old field"),
    ],
)
def test_refused(fields, shapes, message):
    with pytest.raises(ShapeError, match=message):
        loss(**fields).top_shapes(shapes)
