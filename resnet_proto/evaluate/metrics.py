"""Scores + labels -> the rank of each label -> errors, intervals, a row for each class, mistakes.

Everything is counted from one row for each image (92 bytes), so that what comes from several
places is merged by putting it one behind the other, and every figure is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ResNetProtoError, check_whole
from resnet_proto.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet_proto.layers.base import Array

    Integers = NDArray[Any]

Z95 = 1.959963984540054
"""The normal distribution has 95 % of its weight within this many standard deviations."""
TOP = 5
"""Classes of an image that a row has."""
MAX_CLASSES = 1 << 13
"""Of a confusion matrix, which has a place for each pair: half a gigabyte."""


@dataclass(frozen=True)
class Rows:
    """What a net says of images, one value for each.

    Args:
        place: of the image in its source, (N,), int64, ascending.
        label: its class, (N,), int64.
        rank: how many other classes score as high as that or higher, (N,), int64; 0 is right.
        score: of the label, (N,), float64.
        top: the classes with the highest scores, the highest first, (N, 5), int32; -1 where a net
            has no more. Of equal ones the label is last, so that ``rank`` is its place here.
        top_scores: theirs, (N, 5), float64; 0 where there is no class.
    """

    place: Integers
    label: Integers
    rank: Integers
    score: Array
    top: Integers
    top_scores: Array

    @property
    def predicted(self) -> Integers:
        """The class with the highest score, (N,), int32; the label where its rank is 0."""
        return self.top[:, 0]

    @property
    def confidence(self) -> Array:
        """That score, (N,), float64."""
        return self.top_scores[:, 0]

    def __len__(self) -> int:
        return len(self.place)


def rows_of(place: Integers, label: Integers, scores: Array) -> Rows:
    """Judge scores as Caffe's Accuracy does: a tie counts against the label.

    Source: accuracy_layer.cpp: a label is right if fewer than ``top_k`` other scores reach its own.

    Args:
        place: of each image in its source, (N,).
        label: the class of each, (N,), 0 to C - 1.
        scores: (N, C), the higher the better.

    Raises:
        ResNetProtoError: a score is not a number (Caffe would count it as right).
    """
    import numpy as np

    label = np.asarray(label, np.int64)
    scores = np.asarray(scores, np.float64)
    if wrong := int(np.isnan(scores).any(axis=1).sum()):
        raise ResNetProtoError(
            f"{counted(wrong, 'image')} of {len(scores):,} have scores that are not numbers; are "
            "weights, mean and scale those of this net?"
        )
    images = np.arange(len(label))
    own = scores[images, label]
    rank = (scores >= own[:, None]).sum(axis=1) - 1
    top, top_scores = np.full((len(label), TOP), -1, np.int32), np.zeros((len(label), TOP))
    classes = np.arange(scores.shape[1])
    for i in images:
        best = np.lexsort((classes, classes == label[i], -scores[i]))[:TOP]
        top[i, : len(best)], top_scores[i, : len(best)] = best, scores[i, best]
    return Rows(np.asarray(place, np.int64), label, rank, own, top, top_scores)


def wrong_of(rows: Rows, k: int) -> int:
    """How many labels are not among the ``k`` best scores."""
    return int((rows.rank >= check_whole("k", k, "how many of the best scores count")).sum())


def wilson(count: int, n: int, z: float = Z95) -> tuple[float, float]:
    """An interval for the share of which ``count`` of ``n`` is a sample, 0 to 1.

    Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA
    22 (1927); recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001), section 4.

    Args:
        count: of images, 0 to ``n``.
        n: images; of none, nothing is known: 0 to 1.
        z: standard deviations; 95 % by default.
    """
    if not n:
        return 0.0, 1.0
    share, square = count / n, z * z
    middle = share + square / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low, high = ((middle + side * half) / (1 + square / n) for side in (-1, 1))
    return (low if count else 0.0, high if count < n else 1.0)


def confusion_of(rows: Rows, classes: int) -> Integers:
    """How many images of each class are taken for each, (label, predicted), (C, C), int64.

    Raises:
        ResNetProtoError: there are too many classes.
    """
    import numpy as np

    if classes > MAX_CLASSES:
        raise ResNetProtoError(
            f"a confusion matrix of {classes:,} classes; at most {MAX_CLASSES:,} are drawn"
        )
    pairs = np.bincount(rows.label * classes + rows.predicted, minlength=classes * classes)
    return pairs.reshape(classes, classes)


@dataclass(frozen=True)
class ClassRow:
    """What became of the images of one class.

    Args:
        label: the class.
        images: how many there are.
        wrong: k -> how many of them are not among the k best.
        taken_for: the other class that most of them are taken for, the lowest of several; None
            if all are right.
        taken: how many those are.
    """

    label: int
    images: int
    wrong: dict[int, int]
    taken_for: int | None
    taken: int


def per_class(rows: Rows, classes: int, ks: tuple[int, ...]) -> list[ClassRow]:
    """A row for each class of the net."""
    import numpy as np

    images = np.bincount(rows.label, minlength=classes)
    wrong = {k: np.bincount(rows.label[rows.rank >= k], minlength=classes) for k in ks}
    missed = rows.rank >= 1
    pairs, times = np.unique(
        rows.label[missed] * classes + rows.predicted[missed], return_counts=True
    )
    worst: dict[int, tuple[int, int]] = {}
    for pair, n in zip(pairs.tolist(), times.tolist(), strict=True):  # pairs ascend
        label, other = divmod(pair, classes)
        if n > worst.get(label, (0, 0))[1]:
            worst[label] = (other, n)
    found = []
    for label in range(classes):
        other, n = worst.get(label, (None, 0))
        of_k = {k: int(wrong[k][label]) for k in ks}
        found.append(ClassRow(label, int(images[label]), of_k, other, n))
    return found


def mistakes(rows: Rows, count: int) -> Integers:
    """Where in ``rows`` the wrong ones are of which the net was surest, at most ``count``.

    Their order is total: the higher score first, of equal ones the image that comes first.
    """
    import numpy as np

    count = check_whole("count", count, "how many mistakes", 0)
    (wrong,) = np.nonzero(rows.rank >= 1)
    return wrong[np.lexsort((rows.place[wrong], -rows.confidence[wrong]))[:count]]


def joined(parts: list[Rows]) -> Rows:
    """Rows from several places as one, in the order of the images."""
    import numpy as np

    names = Rows.__dataclass_fields__
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    order = np.argsort(columns["place"], kind="stable")
    return Rows(**{name: column[order] for name, column in columns.items()})
