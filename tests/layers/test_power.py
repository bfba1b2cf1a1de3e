"""Power: a linear function to a power, or a constant."""

import numpy as np
import pytest

from resnet_proto.layers import Power

X = [[0.5, 2.0, 1.0], [4.0, 0.25, 3.0]]


@pytest.mark.parametrize("power", [1, 2, -1, 0.5])
@pytest.mark.parametrize("scale", [1, 2.5])
@pytest.mark.parametrize("shift", [0, 0.75])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_by_value(power, scale, shift, dtype):
    layer = Power.of("p", "x", "y", power=float(power), scale=float(scale), shift=float(shift))

    (y,) = layer.forward([np.array(X, dtype)], [])

    expected = [[(shift + scale * x) ** power for x in row] for row in X]
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scale": 0.0, "shift": 3.0, "power": 2.0}, 9),
        ({"power": 0.0, "shift": 3.0}, 1),
        ({"power": 0.0}, 1),
        ({"scale": 0.0}, 0),
        ({"scale": 1e-30, "power": 1e-30, "shift": 2.0}, 1),  # their product is 0 in float32
    ],
)
def test_a_constant_whatever_x_is(fields, expected):
    """power_layer.cpp does not read the bottom: nan does not get through."""
    (y,) = Power.of("p", "x", "y", **fields).forward([np.array([np.nan, -1.0, np.inf])], [])

    assert y.tolist() == [expected] * 3
