"""SPP: bins of a pyramid, by hand."""

import numpy as np
import pytest

from resnet_proto.engine import forward
from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import SPP, Input
from resnet_proto.net import Net


def test_two_levels():
    """Drawn: 4x6 in 1 and in 2x2 bins, each channel's together, levels one after the other."""
    x = np.arange(48.0).reshape(1, 2, 4, 6)

    (y,) = SPP.of("s", "x", "y", pyramid_height=2).forward([x], [])

    assert SPP.of("s", "x", "y", pyramid_height=2).top_shapes([x.shape]) == [(1, 10)]
    assert y.tolist() == [[23, 47, 8, 11, 20, 23, 32, 35, 44, 47]]


def test_average_of_bins_that_do_not_divide():
    """3 rows in 2 bins: kernel 2, so one row is padding, before the image; it counts."""
    x = np.arange(6.0).reshape(1, 1, 3, 2)

    (y,) = SPP.of("s", "x", "y", pyramid_height=2, pool="AVE").forward([x], [])

    assert y.tolist() == [[2.5, 0 / 2, 1 / 2, (2 + 4) / 2, (3 + 5) / 2]]


def test_one_level_keeps_four_axes():
    x = np.arange(48.0).reshape(1, 2, 4, 6)

    (y,) = SPP.of("s", "x", "y", pyramid_height=1).forward([x], [])

    assert SPP.of("s", "x", "y", pyramid_height=1).top_shapes([x.shape]) == [(1, 2, 1, 1)]
    assert y.tolist() == [[[[23.0]], [[47.0]]]]


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (1, 2, 4, 6), "pyramid_height is 0"),
        ({"pyramid_height": 2}, (1, 2, 4), "has 1x2x4"),
        ({"pyramid_height": 4}, (1, 2, 4, 6), "must be smaller than kernel"),
        ({"pyramid_height": 2, "pool": "STOCHASTIC"}, (1, 2, 4, 5), "must be smaller than kernel"),
    ],
)
def test_refused(fields, shape, message):
    with pytest.raises(ShapeError, match=message):
        SPP.of("s", "x", "y", **fields).top_shapes([shape])


def test_stochastic_is_random_always():
    """The poolings within have no phase of their own, and TRAIN is the default: spp_layer.cpp."""
    data = Input.of("in", (), "x", shape={"dim": (1, 2, 4, 6)})
    x = np.ones((1, 2, 4, 6))
    forward(Net("n", (data, SPP.of("s", "x", "y", pyramid_height=1, pool="AVE"))), {}, x)

    with pytest.raises(
        NetError, match=r"layer 's' \(SPP\) draws at random in Caffe, .* MAX or AVE"
    ):
        forward(Net("n", (data, SPP.of("s", "x", "y", pyramid_height=1, pool="STOCHASTIC"))), {}, x)


def test_no_more_levels_are_made_than_fit():
    """Of four thousand millions the fourth does not."""
    shape = (1, 2, 16, 12)
    assert SPP.of("s", "x", "y", pyramid_height=3).top_shapes([shape]) == [(1, 2 * (1 + 4 + 16))]

    with pytest.raises(ShapeError, match=r"pad .* must be smaller than kernel"):
        SPP.of("s", "x", "y", pyramid_height=4_000_000_000).top_shapes([shape])
