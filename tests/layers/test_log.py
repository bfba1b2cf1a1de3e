"""Log to any base."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Log

VALUES = [0.25, 1.0, 7.5]


@pytest.mark.parametrize(("base", "number"), [(-1.0, math.e), (2.0, 2), (0.25, 0.25), (10.0, 10)])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.0), (2.0, 1.5)])
def test_value_by_value(base, number, scale, shift):
    layer = Log.of("l", "x", "y", base=base, scale=scale, shift=shift)

    (y,) = layer.forward([np.array(VALUES)], [])

    np.testing.assert_allclose(y, [math.log(shift + scale * x, number) for x in VALUES], atol=1e-15)


@pytest.mark.parametrize(("base", "message"), [(1.0, "there is no log"), (0.0, "base is 0")])
def test_base(base, message):
    Log.of("l", "x", "y", base=0.5).top_shapes([(2, 3)])

    with pytest.raises(ShapeError, match=message):
        Log.of("l", "x", "y", base=base).top_shapes([(2, 3)])
