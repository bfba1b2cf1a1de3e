"""HDF5Output, which writes nothing here."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import HDF5Output


def test_writes_nothing(tmp_path):
    layer = HDF5Output.of("h", ("a", "b"), (), file_name=str(tmp_path / "out.h5"))

    assert layer.top_shapes([(2, 3), (2,)]) == []
    assert layer.forward([np.ones((2, 3)), np.ones(2)], []) == []
    assert list(tmp_path.iterdir()) == []


def test_refused():
    with pytest.raises(ShapeError, match="bottoms 2x3, 3 differ in the first size"):
        HDF5Output.of("h", ("a", "b"), ()).top_shapes([(2, 3), (3,)])
