"""InnerProduct: what is flattened, and which way the weight lies."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import InnerProduct

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5))
LETTERS = "nchw"


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias_term", [False, True])
def test_sum_over_all_axes_from_axis_on(axis, transpose, bias_term):
    """Einsum names the axes."""
    layer = InnerProduct.of(
        "f", "x", "y", num_output=4, axis=axis, transpose=transpose, bias_term=bias_term
    )
    shapes = layer.blob_shapes([X.shape])
    blobs = [np.random.default_rng(1).normal(size=shape) for shape in shapes.values()]
    kept, summed = LETTERS[: axis % 4], LETTERS[axis % 4 :]
    sizes = [dict(zip(LETTERS, X.shape, strict=True))[letter] for letter in summed]
    assert shapes["weight"] == ((np.prod(sizes), 4) if transpose else (4, np.prod(sizes)))

    (y,) = layer.forward([X], blobs)

    weight = (blobs[0].T if transpose else blobs[0]).reshape(4, *sizes)
    expected = np.einsum(f"nchw,o{summed}->{kept}o", X, weight) + (blobs[1] if bias_term else 0)
    assert y.shape == layer.top_shapes([X.shape])[0]
    np.testing.assert_allclose(y, expected)


def test_refused_and_accepted():
    InnerProduct.of("f", "x", "y", num_output=1).top_shapes([X.shape])

    with pytest.raises(ShapeError, match="num_output is 0"):
        InnerProduct.of("f", "x", "y").top_shapes([X.shape])
    with pytest.raises(ShapeError, match="axis 4 is outside"):
        InnerProduct.of("f", "x", "y", num_output=1, axis=4).top_shapes([X.shape])
