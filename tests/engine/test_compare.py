"""Relative L2, blob by blob."""

import numpy as np
import pytest

from resnet_proto.engine.compare import TOLERANCE, Row, compare, relative_l2, summed_up
from resnet_proto.errors import ResNetProtoError


def blob(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("value", "reference", "distance"),
    [
        (blob(3, 4), blob(3, 4), 0),
        (blob(3, 4.5), blob(3, 4), 0.1),
        (blob(0, 0), blob(0, 0), 0),
        (blob(0, 1e-9), blob(0, 0), np.inf),
        (blob(0, 0), blob(0, 1e-9), 1),
        (blob(), blob(), 0),
    ],
)
def test_relative_l2(value, reference, distance):
    assert relative_l2(value, reference) == pytest.approx(distance)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", ["ours", "theirs", "both"])
def test_what_is_not_finite(bad, sides):
    """It is never right, unless both have the same infinity."""
    ours = {"x": blob(1, bad if sides != "theirs" else 2)}
    theirs = {"x": blob(1, bad if sides != "ours" else 2)}

    (row,) = compare(ours, theirs)

    assert row.within(TOLERANCE) == (sides == "both" and not np.isnan(bad))


def test_infinities_hide_nothing():
    """They do not count for the size, and their signs must agree."""
    reference = blob(np.inf, 3, 4, -np.inf)

    assert relative_l2(blob(np.inf, 3, 4.5, -np.inf), reference) == pytest.approx(0.1)
    assert relative_l2(blob(np.inf, 3, 4, np.inf), reference) == np.inf
    assert np.isnan(relative_l2(blob(np.inf, np.nan, 4, -np.inf), reference))


def test_small_differences_of_large_values_are_seen():
    """float32 would lose them: the squares reach 1e40."""
    big = np.full((3, 2), 1e20, np.float32)

    assert relative_l2(np.nextafter(big, np.float32(np.inf)), big) == pytest.approx(8.8e-8, rel=0.1)


def test_rows_are_in_our_order_and_common():
    ours = {"c": blob(1), "a": blob(2), "ours": blob(3)}
    theirs = {"a": blob(2), "theirs": blob(0), "c": blob(2)}

    rows = compare(ours, theirs)

    assert [(row.blob, row.distance) for row in rows] == [("c", 0.5), ("a", 0)]


def test_another_shape_is_over_any_tolerance():
    (row,) = compare({"x": np.ones((2, 3))}, {"x": np.ones((3, 2))})

    assert row.text == "2x3 | 3x2"
    assert not row.within(1e9)


def test_nothing_in_common():
    with pytest.raises(ResNetProtoError, match=r"ours: a, b, c, \.\.\.; theirs: none"):
        compare(dict.fromkeys("abcd", blob(1)), {})


@pytest.mark.parametrize(
    ("distances", "words"),
    [([3e-7, 0.0], "2 blobs within 1e-05; the worst is 'b0' with 3.00e-07"),
     ([0.0], "1 blob within 1e-05; all equal")],
)  # fmt: skip
def test_summed_up(distances, words):
    rows = [Row(f"b{i}", (2, 3), (2, 3), d) for i, d in enumerate(distances)]

    assert summed_up("A against B", rows) == f"A against B: {words}"
