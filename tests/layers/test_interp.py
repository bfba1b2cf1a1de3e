"""Interp by nested loops, as interp.cpp has them."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Interp


def by_loops(x, rows, columns):
    """Each value between the four pixels around it."""
    n, c, height, width = x.shape
    y = np.empty((n, c, rows, columns))
    for h, w in np.ndindex(rows, columns):
        place_h = h * (height - 1) / (rows - 1) if rows > 1 else 0.0
        place_w = w * (width - 1) / (columns - 1) if columns > 1 else 0.0
        top, left = min(int(place_h + 1e-9), height - 1), min(int(place_w + 1e-9), width - 1)
        down, across = place_h - top, place_w - left
        below, right = min(top + 1, height - 1), min(left + 1, width - 1)
        y[:, :, h, w] = (1 - down) * (
            (1 - across) * x[:, :, top, left] + across * x[:, :, top, right]
        ) + down * ((1 - across) * x[:, :, below, left] + across * x[:, :, below, right])
    return y


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"height": 4, "width": 11}, (4, 11)),
        ({"height": 7, "width": 5}, (7, 5)),
        ({"height": 1, "width": 9}, (1, 9)),
        ({"zoom_factor": 3}, (19, 13)),
        ({"shrink_factor": 3}, (3, 2)),
        ({"shrink_factor": 2, "zoom_factor": 3}, (10, 7)),
        ({"zoom_factor": 3, "height": 4, "width": 11}, (19, 13)),
        ({"shrink_factor": 2, "zoom_factor": 3, "height": 4, "width": 11}, (4, 11)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_loops(fields, size, dtype):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(dtype)
    layer = Interp.of("i", "x", "y", **fields)

    (y,) = layer.forward([x], [])

    assert y.dtype == dtype
    assert [y.shape] == layer.top_shapes([x.shape]) == [(2, 3, *size)]
    assert not np.shares_memory(x, y)
    np.testing.assert_allclose(y, by_loops(x, *size), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("pads", "inside"), [((-1, 0), np.s_[1:]), ((0, -2), np.s_[:-2]), ((-2, -1), np.s_[2:-1])]
)
def test_pads_cut(pads, inside):
    """The same on rows and columns."""
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 5))
    fields = {"pad_beg": pads[0], "pad_end": pads[1]}
    cut = x[:, :, inside, inside]

    (y,) = Interp.of("i", "x", "y", zoom_factor=2, **fields).forward([x], [])
    (same,) = Interp.of("i", "x", "y", zoom_factor=1, **fields).forward([x], [])

    np.testing.assert_allclose(y, by_loops(cut, *(2 * n - 1 for n in cut.shape[2:])), rtol=1e-6)
    np.testing.assert_array_equal(same, cut)


@pytest.mark.parametrize("fields", [{}, {"use_blob_size": True}])
def test_the_size_of_a_second_bottom(fields):
    layer = Interp.of("i", ("x", "like"), "y", **fields)
    x, like = np.ones((2, 3, 7, 5)), np.ones((1, 8, 9, 4))

    assert layer.top_shapes([x.shape, like.shape]) == [(2, 3, 9, 4)]
    np.testing.assert_allclose(layer.forward([x, like], [])[0], 1)


def test_corners_stay():
    x = np.arange(6.0).reshape(1, 1, 2, 3)

    (y,) = Interp.of("i", "x", "y", height=3, width=5).forward([x], [])

    assert y[0, 0].tolist() == [
        [0, 0.5, 1, 1.5, 2],
        [1.5, 2, 2.5, 3, 3.5],
        [3, 3.5, 4, 4.5, 5],
    ]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({}, [(2, 3, 7, 5)], "needs one size"),
        ({"height": 4}, [(2, 3, 7, 5)], "needs one size"),
        ({"use_blob_size": True, "height": 4, "width": 2}, [(2, 3, 7, 5)], "needs one size"),
        ({"zoom_factor": 2}, [(2, 3, 7, 5), (2, 3, 4, 4)], "needs one size"),
        ({"zoom_factor": 0}, [(2, 3, 7, 5)], "zoom_factor 0, shrink_factor 1; 1 is the least"),
        ({"shrink_factor": -1}, [(2, 3, 7, 5)], "shrink_factor -1; 1 is the least"),
        ({"height": 0, "width": 4}, [(2, 3, 7, 5)], "are 0x4; 1 is the least"),
        ({"zoom_factor": 2, "pad_beg": 1}, [(2, 3, 7, 5)], "they cut, so give 0 or less"),
        ({"zoom_factor": 2, "pad_end": -5}, [(2, 3, 7, 5)], "leave 2x0 of 2x3x7x5"),
        ({"zoom_factor": 2}, [(2, 3, 7, 5, 1)], "at most 4 axes"),
    ],
)
def test_refused(fields, shapes, message):
    bottoms = ("x", "like")[: len(shapes)]
    assert Interp.of("i", "x", "y", zoom_factor=2, pad_end=-4).top_shapes([(2, 3, 7, 5)])

    with pytest.raises(ShapeError, match=message):
        Interp.of("i", bottoms, "y", **fields).top_shapes(shapes)
