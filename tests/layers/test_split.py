"""Split: copies that are each other's no longer."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Split

X = np.arange(6.0).reshape(2, 3)


def test_a_copy_for_each_top():
    layer = Split.of("s", "x", ("a", "b", "c"))
    assert layer.top_shapes([X.shape]) == [(2, 3)] * 3

    tops = layer.forward([X], [])

    assert [top.tolist() for top in tops] == [X.tolist()] * 3
    tops[0][:] = 0
    assert tops[1].tolist() == X.tolist()


def test_not_in_place():
    with pytest.raises(ShapeError, match="give the top a name other than 'x'"):
        Split.of("s", "x", ("x", "b")).top_shapes([X.shape])
