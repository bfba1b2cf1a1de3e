"""PSROIPooling by hand; OpenCV's is in tests/oracles/test_fork_layers.py."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import PSROIPooling

GOOD = {"output_dim": 3, "group_size": 2, "spatial_scale": 0.5}


def test_each_bin_reads_a_map_of_its_own():
    """Constant maps: bin (i, j) of output c has the value of map (c 2 + i) 2 + j."""
    maps = np.ones((1, 12, 5, 7)) * np.arange(12.0)[:, None, None]

    layer = PSROIPooling.of("p", ("x", "rois"), "y", **GOOD)
    (y,) = layer.forward([maps, np.array([[0, 0, 0, 9, 7]])], [])

    assert y.shape == (1, 3, 2, 2) == layer.top_shapes([maps.shape, (1, 5)])[0]
    assert y.ravel().tolist() == list(range(12))


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ((0, 0, 0, 3, 1), 1.5),  # columns [0, 2) of row 0: 1 and 2
        ((0, 2, 0, 3, 1), 2.0),  # column 1
        ((0, 1, 0, 4, 1), 2.0),  # [0.5, 2.5) of the columns touches 1, 2, 3
        ((0, 2.5, 0, 3.4, 1), 2.0),  # pixel 3 alone, as half goes away from 0: [1.5, 2)
        ((0, 90, 0, 95, 1), 0.0),  # outside
        ((0, np.nan, 0, 3, 1), 0.0),
    ],
)
def test_means(region, expected):
    maps = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    layer = PSROIPooling.of("p", "xr", "y", output_dim=1, group_size=1, spatial_scale=0.5)

    (y,) = layer.forward([maps, np.array([region])], [])

    assert y.item() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"output_dim": 2}, "takes 8 channels, has 1x12x5x7"),
        ({"group_size": 0}, "output_dim 3, group_size 0, spatial_scale 0.5"),
        ({"spatial_scale": 0.0}, "all three are needed"),
    ],
)
def test_refused(values, message):
    shapes = [(1, 12, 5, 7), (6, 5)]
    PSROIPooling.of("p", ("x", "rois"), "y", **GOOD).top_shapes(shapes)

    with pytest.raises(ShapeError, match=message):
        PSROIPooling.of("p", ("x", "rois"), "y", **{**GOOD, **values}).top_shapes(shapes)
