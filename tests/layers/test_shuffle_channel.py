"""ShuffleChannel by nested loops."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import ShuffleChannel


@pytest.mark.parametrize("shape", [(2, 6, 7, 5), (2, 6, 5), (2, 6)])
@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_by_loops(shape, group):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = ShuffleChannel.of("s", "x", "y", group=group)

    (y,) = layer.forward([x], [])

    assert [y.shape] == layer.top_shapes([shape])
    assert not np.shares_memory(x, y)
    for i in range(group):
        for j in range(6 // group):
            np.testing.assert_array_equal(y[:, j * group + i], x[:, i * (6 // group) + j])


def test_by_hand():
    x = np.arange(6.0).reshape(1, 6)

    (y,) = ShuffleChannel.of("s", "x", "y", group=2).forward([x], [])

    assert y.tolist() == [[0, 3, 1, 4, 2, 5]]


@pytest.mark.parametrize(("group", "shape"), [(4, (2, 6, 7, 5)), (0, (2, 6, 7, 5)), (1, (6,))])
def test_refused(group, shape):
    assert ShuffleChannel.of("s", "x", "y").top_shapes([(2, 6)]) == [(2, 6)]

    with pytest.raises(ShapeError, match=r"does not divide 6 channels|channel axis"):
        ShuffleChannel.of("s", "x", "y", group=group).top_shapes([shape])
