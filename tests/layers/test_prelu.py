"""PReLU: whose slope is whose."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import PReLU

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 7), (2, 3, 7, 5)])
@pytest.mark.parametrize("shared", [False, True])
def test_value_by_value(shape, shared):
    layer = PReLU.of("p", "x", "y", channel_shared=shared)
    x = RNG.normal(size=shape)
    ((name, size),) = layer.blob_shapes([shape]).items()
    weight = RNG.normal(size=size)

    (y,) = layer.forward([x], [weight])

    assert (name, size) == ("weight", () if shared else (3,)) == (*layer.blob_names(1), size)
    for place in np.ndindex(*shape):
        slope = weight if shared else weight[place[1]]
        assert y[place] == pytest.approx(x[place] if x[place] > 0 else slope * x[place])


@pytest.mark.parametrize("shape", [(3,), (2, 3, 7, 5, 4)])
def test_axes(shape):
    assert PReLU.of("p", "x", "y").top_shapes([(2, 3)]) == [(2, 3)]

    with pytest.raises(ShapeError, match="takes 2 to 4 axes"):
        PReLU.of("p", "x", "y").top_shapes([shape])
