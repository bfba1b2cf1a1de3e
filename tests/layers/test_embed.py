"""Embed: rows by number."""

import numpy as np
import pytest

from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import Embed

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bias_term", [False, True])
@pytest.mark.parametrize("shape", [(7,), (2, 3)])
def test_row_by_row(bias_term, shape):
    layer = Embed.of("e", "x", "y", input_dim=5, num_output=4, bias_term=bias_term)
    x = RNG.integers(0, 5, shape).astype(np.float32)
    shapes = layer.blob_shapes([shape])
    blobs = [RNG.normal(size=size) for size in shapes.values()]

    (y,) = layer.forward([x], blobs)

    assert shapes == {"weight": (5, 4)} | ({"bias": (4,)} if bias_term else {})
    assert layer.top_shapes([shape]) == [y.shape] == [(*shape, 4)]
    for place in np.ndindex(*shape):
        expected = blobs[0][int(x[place])] + (blobs[1] if bias_term else 0)
        np.testing.assert_array_equal(y[place], expected)


def test_refused_and_accepted():
    layer = Embed.of("e", "x", "y", input_dim=5, num_output=4, bias_term=False)
    layer.forward([np.array([4.9])], [np.ones((5, 4))])

    with pytest.raises(NetError, match=r"layer 'e' \(Embed\) is given 5 where .* 0 to 4 is needed"):
        layer.forward([np.array([1.0, 5.0])], [np.ones((5, 4))])
    for fields in ({"input_dim": 5}, {"num_output": 4}):
        with pytest.raises(ShapeError, match="1 is the least"):
            Embed.of("e", "x", "y", **fields).top_shapes([(2,)])
