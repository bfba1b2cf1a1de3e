"""Exp to any base."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Exp

VALUES = [-3.0, 0.0, 0.5, 2.0]


@pytest.mark.parametrize(("base", "number"), [(-1.0, math.e), (2.0, 2), (0.25, 0.25), (1.0, 1)])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.0), (-2.0, 1.5)])
def test_value_by_value(base, number, scale, shift):
    layer = Exp.of("e", "x", "y", base=base, scale=scale, shift=shift)

    (y,) = layer.forward([np.array(VALUES)], [])

    np.testing.assert_allclose(y, [number ** (shift + scale * x) for x in VALUES])


@pytest.mark.parametrize("base", [0.0, -2.0, math.inf, math.nan])
def test_base(base):
    Exp.of("e", "x", "y", base=0.5).top_shapes([(2, 3)])

    with pytest.raises(ShapeError, match="give one above 0, or -1 for e"):
        Exp.of("e", "x", "y", base=base).top_shapes([(2, 3)])
