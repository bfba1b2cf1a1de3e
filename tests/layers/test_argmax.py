"""ArgMax: places, values, and which of equal ones."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import ArgMax

RNG = np.random.default_rng(0)
X = RNG.integers(0, 4, (2, 3, 5)).astype(float)  # many are equal


def best(values, k):
    """Pairs of value and place, sorted as C++ sorts them: of equal values the last place."""
    return sorted(((v, i) for i, v in enumerate(values.tolist())), reverse=True)[:k]


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_along_an_axis(top_k, values, axis):
    layer = ArgMax.of("a", "x", "y", axis=axis, top_k=top_k, out_max_val=values)

    (y,) = layer.forward([X], [])

    assert layer.top_shapes([X.shape]) == [y.shape]
    moved, top = np.moveaxis(X, axis, -1), np.moveaxis(y, axis, -1)
    for place in np.ndindex(*moved.shape[:-1]):
        expected = [value if values else i for value, i in best(moved[place], top_k)]
        assert top[place].tolist() == expected


@pytest.mark.parametrize(
    ("shape", "ones"), [((2, 3), ()), ((2, 3, 5), ()), ((2, 3, 5, 1, 2), (1, 1))]
)
@pytest.mark.parametrize("top_k", [1, 3])
def test_over_all_of_an_image(shape, ones, top_k):
    x = RNG.integers(0, 4, shape).astype(float)
    places = ArgMax.of("a", "x", "y", top_k=top_k)
    both = ArgMax.of("a", "x", "y", top_k=top_k, out_max_val=True)

    (y,), (z,) = places.forward([x], []), both.forward([x], [])

    assert places.top_shapes([shape]) == [y.shape] == [(2, 1, top_k, *ones)]
    assert both.top_shapes([shape]) == [z.shape] == [(2, 2, top_k, *ones)]
    for n in range(2):
        pairs = best(x[n].ravel(), top_k)
        assert y[n].ravel().tolist() == z[n, 0].ravel().tolist() == [i for _, i in pairs]
        assert z[n, 1].ravel().tolist() == [value for value, _ in pairs]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 16}, "top_k is 16, of 15 values"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": 4, "axis": 1}, "top_k is 4, of 3 values"),
        ({"axis": 3}, "axis 3 is outside"),
    ],
)
def test_refused_and_accepted(fields, message):
    assert ArgMax.of("a", "x", "y", top_k=15).top_shapes([X.shape]) == [(2, 1, 15)]

    with pytest.raises(ShapeError, match=message):
        ArgMax.of("a", "x", "y", **fields).top_shapes([X.shape])
