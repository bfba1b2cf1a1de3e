"""Proposal: anchors as published, and which regions are kept. OpenCV's: test_fork_layers.py."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Proposal
from resnet_proto.layers.proposal import apart

ANCHORS = {"ratio": (0.5, 1.0, 2.0), "scale": (8.0, 16.0, 32.0)}

# github rbgirshick/py-faster-rcnn, lib/rpn/generate_anchors.py prints these, counted from 1.
PUBLISHED = [
    (-83, -39, 100, 56), (-175, -87, 192, 104), (-359, -183, 376, 200),
    (-55, -55, 72, 72), (-119, -119, 136, 136), (-247, -247, 264, 264),
    (-35, -79, 52, 96), (-79, -167, 96, 184), (-167, -343, 184, 360),
]  # fmt: skip


def test_anchors_are_the_published_ones():
    assert (Proposal.of("p", "abc", "d", **ANCHORS).anchors() + 1).tolist() == [
        list(map(float, row)) for row in PUBLISHED
    ]


def test_moved_clipped_sorted_and_kept_apart():
    """One anchor of 16x16 in each of 1x3 cells; the second moves onto the first."""
    layer = Proposal.of("p", "abc", ("r", "s"), ratio=1.0, scale=1.0, min_size=4)
    scores = np.array([0, 0, 0, 0.5, 0.9, 0.2]).reshape(1, 2, 1, 3)
    moves = np.zeros((1, 4, 1, 3))
    moves[0, 0, 0, 1] = -0.9375  # 15 of 16 pixels to the left
    moves[0, 2:, 0, 2] = np.log(2)  # twice as large, and clipped

    regions, best = layer.forward([scores, moves, np.array([[20.0, 44.0, 1.0]])], [])

    assert best.tolist() == [0.9, 0.2]
    assert regions[0].tolist() == [0, 1, 0, 17, 16]
    np.testing.assert_allclose(regions[1], [0, 24, 0, 43, 19])


def test_small_regions_come_last_with_no_score():
    layer = Proposal.of("p", "abc", ("r", "s"), ratio=1.0, scale=1.0, min_size=10)
    scores = np.array([0, 0, 0.5, 0.9]).reshape(1, 2, 1, 2)

    _, at_scale_1 = layer.forward([scores, np.zeros((1, 4, 1, 2)), np.array([[9.0, 40, 1]])], [])
    _, taller = layer.forward([scores, np.zeros((1, 4, 1, 2)), np.array([[10.0, 40, 1]])], [])

    assert at_scale_1.tolist() == [0, 0]
    assert taller.tolist() == [0.9, 0.5]


def test_apart():
    boxes = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [20, 0, 29, 9], [0, 0, 9, 9.0]])

    assert apart(boxes, 0.33, 9) == [0, 2]  # the first two share 50 of 150
    assert apart(boxes, 0.34, 9) == [0, 1, 2]
    assert apart(boxes, 0.34, 2) == [0, 1]


def test_the_most_that_there_can_be():
    layer = Proposal.of("p", "abc", ("r", "s"), **ANCHORS, post_nms_topn=7)

    assert layer.top_shapes([(2, 18, 5, 6), (2, 36, 5, 6), (1, 3)]) == [(14, 5), (14,)]
    for shapes, message in (
        ([(2, 18, 5, 6), (2, 36, 5, 7), (1, 3)], "9 anchors take"),
        ([(2, 16, 5, 6), (2, 36, 5, 6), (1, 3)], "have 2x16x5x6 and 2x36x5x6"),
        ([(2, 18, 5, 6), (2, 36, 5, 6), (1, 2)], "has 1x2"),
    ):
        with pytest.raises(ShapeError, match=message):
            layer.top_shapes(shapes)
    for ratio in (0, -1, np.nan):
        with pytest.raises(ShapeError, match="takes a ratio above 0"):
            Proposal.of("p", "abc", "r", ratio=(1, ratio), scale=1).top_shapes(
                [(2, 4, 5, 6), (2, 8, 5, 6), (1, 3)]
            )
    with pytest.raises(ShapeError, match="has no anchors"):
        Proposal.of("p", "abc", "r").top_shapes([(2, 18, 5, 6), (2, 36, 5, 6), (1, 3)])
