"""Scale: which axes the multiplier lies on, and where it comes from."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Scale

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5))


@pytest.mark.parametrize(
    ("axis", "num_axes", "letters"),
    [
        (1, 1, "c"),
        (0, 1, "n"),
        (-1, 1, "w"),
        (1, 2, "ch"),
        (2, -1, "hw"),
        (0, -1, "nchw"),
        (1, 0, ""),
    ],
)
def test_multiplier_lies_at_its_axes(axis, num_axes, letters):
    """Einsum names the axes."""
    layer = Scale.of("s", "x", "y", axis=axis, num_axes=num_axes, bias_term=True)
    shape = tuple(dict(zip("nchw", X.shape, strict=True))[letter] for letter in letters)
    assert layer.blob_shapes([X.shape]) == {"weight": shape, "bias": shape}
    gamma, beta = np.random.default_rng(1).normal(size=(2, *shape))

    (y,) = layer.forward([X], [np.asarray(gamma), np.asarray(beta)])

    ones = np.ones_like(X)
    product = np.einsum(f"nchw,{letters}->nchw", X, gamma)
    np.testing.assert_allclose(y, product + np.einsum(f"nchw,{letters}->nchw", ones, beta))


def test_second_bottom_is_the_multiplier():
    """Then the only blob is beta; num_axes does not count."""
    gate = np.random.default_rng(2).normal(size=(2, 3))
    layer = Scale.of("s", ("x", "gate"), "y", axis=0, num_axes=4, bias_term=True)
    assert layer.blob_shapes([X.shape, gate.shape]) == {"bias": (2, 3)}

    (y,) = layer.forward([X, gate], [np.full((2, 3), 0.5)])

    for n, c in np.ndindex(2, 3):
        np.testing.assert_allclose(y[n, c], X[n, c] * gate[n, c] + 0.5)


def test_scalar_second_bottom_needs_no_axis():
    """Caffe does not look at the axis then; a vector must fit it, and so must a bias."""
    line = np.array([1.0, 2.0])
    layer = Scale.of("s", ("x", "factor"), "y", axis=1)

    assert layer.top_shapes([(2,), ()]) == [(2,)]
    assert layer.forward([line, np.array(3.0)], [])[0].tolist() == [3.0, 6.0]

    with pytest.raises(ShapeError, match="axis 1 is outside"):
        layer.top_shapes([(2,), (1,)])
    with pytest.raises(ShapeError, match="axis 1 is outside"):
        Scale.of("s", ("x", "factor"), "y", bias_term=True).top_shapes([(2,), ()])


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"axis": 4}, {"axis": 3}, "axis 4 is outside"),
        ({"axis": 2, "num_axes": 3}, {"axis": 2, "num_axes": 2}, "reaches past 2x3x7x5"),
        ({"num_axes": -2}, {"num_axes": -1}, "num_axes -2"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    Scale.of("s", "x", "y", **accepted).top_shapes([X.shape])

    with pytest.raises(ShapeError, match=message):
        Scale.of("s", "x", "y", **refused).top_shapes([X.shape])


def test_second_bottom_must_match():
    layer = Scale.of("s", ("x", "g"), "y", axis=1)

    assert layer.top_shapes([X.shape, (3, 7)]) == [X.shape]

    with pytest.raises(ShapeError, match="does not match"):
        layer.top_shapes([X.shape, (7, 3)])
