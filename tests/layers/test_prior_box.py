"""PriorBox against nested loops. The fork's Caffe and OpenCV: tests/oracles/test_ssd_layers.py."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import PriorBox

MAP, IMAGE = (2, 3, 3, 5), (2, 1, 44, 70)


def boxes(sides, image, step, offset, clip):
    """Loops over rows, columns and forms."""
    rows = []
    for y in range(MAP[2]):
        for x in range(MAP[3]):
            for width, height in sides:
                row = [
                    ((x + offset) * step[1] - width / 2) / image[1],
                    ((y + offset) * step[0] - height / 2) / image[0],
                    ((x + offset) * step[1] + width / 2) / image[1],
                    ((y + offset) * step[0] + height / 2) / image[0],
                ]
                rows += [min(max(value, 0), 1) for value in row] if clip else row
    return rows


def both(sizes, ratio):
    """A form and the one on its side."""
    root = math.sqrt(ratio)
    return [(sizes * root, sizes / root), (sizes / root, sizes * root)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("fields", "sides", "image", "step", "variance"),
    [
        # sizes are cut to whole pixels
        ({"min_size": 9.7}, [(9, 9)], (44, 70), (44 / 3, 14), (0.1,) * 4),
        # a ratio that is there already is not taken twice
        (
            {"min_size": (8, 12), "max_size": (18, 27), "aspect_ratio": (2, 0.5, 1), "clip": True,
             "variance": (0.1, 0.2, 0.3, 0.4)},
            [(8, 8), (12, 12), *both(8, 2), (12, 12), (18, 18), *both(12, 2)],
            (44, 70), (44 / 3, 14), (0.1, 0.2, 0.3, 0.4),
        ),
        (
            {"min_size": 8, "aspect_ratio": 3, "flip": False, "img_h": 30, "img_w": 50,
             "step_h": 9, "step_w": 11, "offset": 0.25, "variance": 0.2},
            [(8, 8), both(8, 3)[0]],
            (30, 50), (9, 11), (0.2,) * 4,
        ),
        ({"min_size": 8, "img_size": 40, "step": 6}, [(8, 8)], (40, 40), (6, 6), (0.1,) * 4),
    ],
)  # fmt: skip
def test_boxes(fields, sides, image, step, variance, dtype):
    layer = PriorBox.of("p", ("map", "image"), "y", **fields)
    expected = boxes(sides, image, step, fields.get("offset", 0.5), fields.get("clip", False))

    (top,) = layer.forward([np.zeros(MAP, dtype), np.zeros(IMAGE, dtype)], [])

    n = 3 * 5 * len(sides)
    assert top.dtype == dtype
    assert [top.shape] == layer.top_shapes([MAP, IMAGE]) == [(1, 2, 4 * n)]
    np.testing.assert_allclose(top[0, 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(top[0, 1].reshape(-1, 4), np.tile(variance, (n, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "takes one min_size or more"),
        ({"min_size": (8, 0)}, "above 0"),
        ({"min_size": (8, 9), "max_size": 12}, "has 1 max_size for 2 min_size"),
        ({"min_size": 8, "max_size": 8}, "max_size is 8; it has to be above its min_size 8"),
        ({"min_size": 8, "variance": (0.1, 0.1)}, "takes no variance, or one, or four"),
        ({"min_size": 8, "variance": (0.1, 0.1, 0.0, 0.1)}, "each above 0"),
        ({"min_size": 8, "img_size": 9, "img_h": 9, "img_w": 9}, "has img_size and img_h or img_w"),
        ({"min_size": 8, "img_h": 9}, "img_h, img_w has to be given, above 0"),
        ({"min_size": 8, "step": 0}, "step has to be given, above 0"),
        ({"min_size": 8, "step_w": 3}, "step_h, step_w has to be given, above 0"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ShapeError, match=message):
        PriorBox.of("p", ("map", "image"), "y", **fields).top_shapes([MAP, IMAGE])


def test_bottoms():
    """The image may be missing where its size is given, as in Caffe; the map has to have cells."""
    layer = PriorBox.of("p", "map", "y", min_size=8, img_h=30, img_w=50)

    assert layer.top_shapes([MAP]) == layer.top_shapes([MAP, IMAGE]) == [(1, 2, 60)]
    assert layer.top_shapes([MAP[:3]]) == [(1, 2, 12)]
    with pytest.raises(ShapeError, match="has no img_size, and no second bottom"):
        PriorBox.of("p", "map", "y", min_size=8).top_shapes([MAP])
    with pytest.raises(ShapeError, match="the map has no cells"):
        layer.top_shapes([(1, 3, 0, 5)])
    with pytest.raises(ShapeError, match="at most 4 axes"):
        layer.top_shapes([(1, 3, 2, 5, 1)])


def test_many_ratios_and_ratios_that_are_none():
    """No list is so long that a net takes minutes to be read; 0 and below give no numbers."""
    ratios = tuple(1 + i / 1000 for i in range(1, 5001))
    layer = PriorBox.of("p", ("map", "image"), "y", min_size=(8,) * 9000, aspect_ratio=ratios)

    assert layer.top_shapes([(1, 1, 1, 1), IMAGE]) == [(1, 2, 4 * 9000 * 10001)]
    odd = PriorBox.of("p", ("map", "image"), "y", min_size=8, aspect_ratio=(0, -2))
    (top,) = odd.forward([np.zeros((1, 1, 1, 1)), np.zeros(IMAGE)], [])
    assert np.isfinite(top[0, 0].reshape(5, 4)).all(axis=1).tolist() == [True] + [False] * 4
