"""Accuracy, label by label."""

import numpy as np
import pytest

from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import Accuracy

RNG = np.random.default_rng(0)


def accuracy(tops="a", **fields):
    return Accuracy.of("acc", ("x", "label"), tops, **fields)


def test_ties_count_against_the_label():
    """Drawn: which places of the four are right."""
    x = np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 1.0], [5.0, 4.0, 0.0], [0.0, 1.0, 9.0]])
    label = np.array([1.0, 0.0, 1.0, 2.0])  # best, tied, second, best

    assert accuracy().forward([x, label], [])[0] == 0.5
    assert accuracy(top_k=2).forward([x, label], [])[0] == 1
    assert accuracy(ignore_label=0).forward([x, label], [])[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("ignored", [None, 2])
def test_place_by_place(axis, top_k, ignored):
    x = RNG.normal(size=(4, 3, 5))
    rest = [size for i, size in enumerate(x.shape) if i != axis % 3]
    label = RNG.integers(0, x.shape[axis], rest)
    fields = {} if ignored is None else {"ignore_label": ignored}
    layer = accuracy(("a", "b"), axis=axis, top_k=top_k, **fields)

    share, of_class = layer.forward([x, label.astype(float)], [])

    right, total = np.zeros(x.shape[axis]), np.zeros(x.shape[axis])
    for place in np.ndindex(*rest):
        if label[place] != ignored:
            scores = np.moveaxis(x, axis, -1)[place].tolist()
            own = scores[label[place]]
            total[label[place]] += 1
            right[label[place]] += sum(score >= own for score in scores) <= top_k
    assert layer.top_shapes([x.shape, tuple(rest)]) == [share.shape, of_class.shape]
    assert share == pytest.approx(right.sum() / total.sum())
    np.testing.assert_allclose(of_class, right / np.maximum(total, 1))


def test_nothing_to_count():
    layer = accuracy(("a", "b"), ignore_label=1)

    share, of_class = layer.forward([np.ones((2, 3)), np.ones(2)], [])

    assert share == 0
    assert of_class.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({"top_k": 4}, [(2, 3, 5), (2, 5)], "top_k is 4, for 3 classes"),
        ({}, [(2, 3, 5), (2, 4)], "labels are 2x4; for 2x3x5 and axis 1 10 are needed"),
        ({"axis": 3}, [(2, 3, 5), (2, 5)], "axis 3 is outside"),
    ],
)
def test_refused_and_accepted(fields, shapes, message):
    accuracy(top_k=3).top_shapes([(2, 3, 5), (10,)])

    with pytest.raises(ShapeError, match=message):
        accuracy(**fields).top_shapes(shapes)


@pytest.mark.parametrize("label", [3.0, -1.0, np.nan])
def test_no_such_class(label):
    x = np.ones((2, 3))
    accuracy().forward([x, np.array([0.0, 2.9])], [])  # C++ cuts the .9 off

    with pytest.raises(
        NetError, match=r"layer 'acc' \(Accuracy\) is given .* from 0 to 2 is needed"
    ):
        accuracy().forward([x, np.array([0.0, label])], [])
    if label == -1:
        accuracy(ignore_label=-1).forward([x, np.array([0.0, label])], [])
