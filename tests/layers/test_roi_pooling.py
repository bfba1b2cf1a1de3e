"""ROIPooling by hand; OpenCV's is in tests/oracles/test_fork_layers.py."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import ROIPooling

MAPS = np.arange(2 * 1 * 4 * 6, dtype=np.float32).reshape(2, 1, 4, 6)


def pooled(region, **values):
    layer = ROIPooling.of("p", ("x", "rois"), "y", **values)
    (y,) = layer.forward([MAPS, np.array([region], np.float32)], [])
    assert layer.top_shapes([MAPS.shape, (1, 5)]) == [y.shape]
    return y[0, 0].tolist()


@pytest.mark.parametrize(
    ("region", "values", "expected"),
    [
        # rows 0 to 3, columns 1 to 4 of the second image, which begins with 24
        ((1, 1, 0, 4, 3), {"pooled_h": 2, "pooled_w": 2}, [[32, 34], [44, 46]]),
        # 3 columns in 2 bins: the middle one is in both
        ((0, 0, 0, 2, 0), {"pooled_h": 1, "pooled_w": 2}, [[1, 2]]),
        # half a pixel goes away from 0: 0.5 is column 1, 2.5 is column 3
        ((0, 1, 0, 5, 0), {"pooled_h": 1, "pooled_w": 1, "spatial_scale": 0.5}, [[3]]),
        # what lies outside gives 0
        ((0, 4, 0, 7, 0), {"pooled_h": 1, "pooled_w": 2}, [[5, 0]]),
        # a region that ends before it begins is one pixel
        ((0, 3, 2, 1, 1), {"pooled_h": 1, "pooled_w": 1}, [[15]]),
    ],
)
def test_by_hand(region, values, expected):
    assert pooled(region, **values) == expected


@pytest.mark.parametrize(
    ("values", "shapes", "message"),
    [
        ({"pooled_w": 3}, [(2, 1, 4, 6), (7, 5)], "pooled_h 0, pooled_w 3"),
        ({"pooled_h": 2, "pooled_w": 3}, [(2, 1, 4, 6), (7, 4)], r"regions \(R, 5\).* is 7x4"),
        ({"pooled_h": 2, "pooled_w": 3}, [(2, 4, 6), (7, 5)], r"takes maps .*, has 2x4x6"),
    ],
)
def test_refused(values, shapes, message):
    good = ROIPooling.of("p", ("x", "rois"), "y", pooled_h=2, pooled_w=3)
    assert good.top_shapes([(2, 1, 4, 6), (7, 5, 1, 1)]) == [(7, 1, 2, 3)]

    with pytest.raises(ShapeError, match=message):
        ROIPooling.of("p", ("x", "rois"), "y", **values).top_shapes(shapes)


def test_a_region_of_an_image_that_is_not_there():
    for image in (2, -1, np.nan, np.inf):
        with pytest.raises(ShapeError, match=f"region 0 is of image {image:g}; there are 2"):
            pooled((image, 0, 0, 1, 1), pooled_h=1, pooled_w=1)


@pytest.mark.parametrize("place", [1, 2, 3, 4])
@pytest.mark.parametrize(("value", "outside"), [(np.nan, True), (np.inf, False), (1e30, False)])
def test_regions_that_are_not_on_any_map(place, value, outside):
    """A nan leaves every bin empty, as what C++ makes of it does; a far end is cut off."""
    region = [0, 0, 0, 5, 3]
    region[place] = value

    with np.errstate(invalid="ignore"):
        top = pooled(region, pooled_h=1, pooled_w=1)

    assert (top == [[0]]) == (outside or place < 3)
