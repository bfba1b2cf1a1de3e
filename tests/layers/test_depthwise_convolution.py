"""DepthwiseConvolution: a Convolution of another name; its loops are in test_convolution.py."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Convolution, DepthwiseConvolution

FIELDS = {"num_output": 6, "kernel_size": 3, "group": 3, "pad": 1}


def test_is_a_convolution_with_groups():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 7, 5))
    ours, theirs = (cls.of("c", "x", "y", **FIELDS) for cls in (DepthwiseConvolution, Convolution))
    shapes = ours.blob_shapes([x.shape])
    blobs = [rng.normal(size=shape) for shape in shapes.values()]

    assert ours.type == "DepthwiseConvolution"
    assert shapes == theirs.blob_shapes([x.shape]) == {"weight": (6, 1, 3, 3), "bias": (6,)}
    np.testing.assert_array_equal(ours.forward([x], blobs)[0], theirs.forward([x], blobs)[0])
    tops = ours.top_shapes([x.shape])
    assert ours.macs([x.shape], tops, shapes) == 2 * 6 * 7 * 5 * 9


def test_groups_that_do_not_fit():
    with pytest.raises(ShapeError, match="group 4 does not divide"):
        DepthwiseConvolution.of("c", "x", "y", **FIELDS | {"group": 4}).top_shapes([(2, 3, 7, 5)])
