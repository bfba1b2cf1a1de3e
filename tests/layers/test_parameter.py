"""Parameter: its weight is its top."""

import numpy as np
import pytest

from resnet_proto.layers import Parameter


@pytest.mark.parametrize("shape", [(), (2, 3, 5)])
def test_copy(shape):
    layer = Parameter.of("p", (), "y", shape={"dim": shape})
    weight = np.random.default_rng(0).normal(size=shape)

    (y,) = layer.forward([], [weight])

    assert layer.blob_shapes([]) == {"weight": shape}
    assert layer.blob_names(1) == ("weight",)
    assert layer.top_shapes([]) == [shape]
    assert y.tolist() == weight.tolist()
    assert not np.shares_memory(y, weight)
