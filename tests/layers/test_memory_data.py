"""MemoryData: the shape is in its fields."""

import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import MemoryData

SIDES = {"batch_size": 2, "channels": 3, "height": 7, "width": 5}


def test_shape():
    assert MemoryData.of("d", (), ("a", "b"), **SIDES).top_shapes(()) == [(2, 3, 7, 5), (2,)]


@pytest.mark.parametrize("side", SIDES)
def test_every_side_is_needed(side):
    sides = {name: size for name, size in SIDES.items() if name != side}

    with pytest.raises(ShapeError, match="batch_size, channels, height and width are needed"):
        MemoryData.of("d", (), ("a", "b"), **sides).top_shapes(())
