"""Counts against scikit-learn, Caffe's Accuracy, and a published table."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score

from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.metrics import (
    confusion_of,
    joined,
    mistakes,
    per_class,
    rows_of,
    wilson,
    wrong_of,
)
from resnet_proto.layers import make_layer

N, C = 331, 11


def random_rows(seed=0, n=N, classes=C, levels=None):
    """Labels, scores and rows; few ``levels`` make many ties."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes - 1, n)  # the last class has no image
    scores = rng.normal(size=(n, classes)) if levels is None else rng.integers(
        0, levels, (n, classes)
    ).astype(float)  # fmt: skip
    scores[np.arange(n), label] += rng.integers(0, 3, n)
    return label, scores, rows_of(np.arange(n), label, scores)


def test_counts_are_those_of_scikit_learn():
    label, scores, rows = random_rows()
    classes = range(C)

    right = {k: N - wrong_of(rows, k) for k in (1, 2, 5)}

    assert right[1] == round(accuracy_score(label, scores.argmax(1)) * N)
    for k in (2, 5):
        share = top_k_accuracy_score(label, scores, k=k, labels=list(classes))
        assert right[k] == round(share * N)
    theirs = confusion_matrix(label, scores.argmax(1), labels=list(classes))
    np.testing.assert_array_equal(confusion_of(rows, C), theirs)
    assert 0 < right[1] < right[2] < right[5] < N


@pytest.mark.parametrize("k", [1, 3])
def test_ties_count_against_the_label(k):
    """As in the layer, which the real Caffe is held against in tests/oracles."""
    label, scores, rows = random_rows(levels=4)
    layer = make_layer(
        "accuracy", "Accuracy", ("scores", "label"), ("accuracy",), {"accuracy_param": {"top_k": k}}
    )
    (share,) = layer.forward([scores, label.astype(float)], [])

    assert N - wrong_of(rows, k) == round(float(share) * N)
    assert (scores.argmax(1) == label).sum() > N - wrong_of(rows, 1)
    assert np.trace(confusion_of(rows, C)) == N - wrong_of(rows, 1)


def test_the_best_classes_of_each_image():
    """As scores sorted; of equal ones the label is last, and the first class first."""
    label, scores, rows = random_rows()
    order = np.argsort(-scores, axis=1)
    np.testing.assert_array_equal(rows.top, order[:, :5])
    np.testing.assert_array_equal(rows.top_scores, -np.sort(-scores, axis=1)[:, :5])
    np.testing.assert_array_equal(rows.score, scores[np.arange(N), label])
    np.testing.assert_array_equal(rows.rank, [list(order[i]).index(label[i]) for i in range(N)])

    label, scores, rows = random_rows(levels=4)
    for k in range(5):
        np.testing.assert_array_equal((rows.top[:, k] == label), rows.rank == k)
    others = [[i for i in row if i != own] for row, own in zip(rows.top, label, strict=True)]
    for i, row in enumerate(others):
        assert sorted(row, key=lambda j: (-scores[i, j], j)) == row

    two = rows_of(np.arange(1), np.array([1]), np.array([[0.75, 0.25]]))
    assert two.top.tolist() == [[0, 1, -1, -1, -1]]
    assert two.top_scores.tolist() == [[0.75, 0.25, 0, 0, 0]]


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(count, n, low, high):
    """R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3."""
    assert wilson(count, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(n - count, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_of_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_row_for_each_class():
    label, _, rows = random_rows()
    matrix = confusion_of(rows, C)
    off = matrix - np.diag(np.diag(matrix))

    found = per_class(rows, C, (1, 5))

    assert [row.images for row in found] == np.bincount(label, minlength=C).tolist()
    assert [row.wrong[1] for row in found] == off.sum(1).tolist()
    assert [row.taken for row in found] == off.max(1).tolist()
    assert [row.taken_for for row in found[:-1]] == off.argmax(1)[:-1].tolist()
    assert (found[-1].images, found[-1].taken_for) == (0, None)
    assert sum(row.wrong[5] for row in found) == wrong_of(rows, 5)


def test_mistakes_are_in_one_order_wherever_they_come_from():
    _, scores, rows = random_rows(levels=3)
    label = rows.label

    whole = mistakes(rows, 20)
    parts = [
        rows_of(np.arange(a, b), label[a:b], scores[a:b]) for a, b in [(200, N), (0, 7), (7, 200)]
    ]
    again = joined(parts)

    assert len(whole) == 20
    keys = [(-rows.confidence[i], rows.place[i]) for i in whole]
    assert keys == sorted(keys)
    assert (rows.rank[whole] >= 1).all()
    np.testing.assert_array_equal(again.place, np.arange(N))
    np.testing.assert_array_equal(again.place[mistakes(again, 20)], rows.place[whole])


def test_scores_that_are_no_numbers():
    scores = np.array([[0.5, np.nan, 0.1], [0.2, 0.3, 0.5]])

    with pytest.raises(ResNetProtoError, match="1 image of 2 have scores that are not numbers"):
        rows_of(np.arange(2), np.array([0, 1]), scores)
    assert rows_of(np.arange(1), np.array([1]), scores[1:]).rank.tolist() == [1]


def test_too_many_classes_for_a_matrix():
    _, _, rows = random_rows()

    with pytest.raises(ResNetProtoError, match="8,193 classes"):
        confusion_of(rows, 8193)
    assert confusion_of(rows, 20).shape == (20, 20)
