"""WindowData: the crop."""

import pytest

from resnet_proto.errors import UnknownShapeError
from resnet_proto.layers import make_layer


def shapes(transform, **fields):
    fields = {"window_data_param": fields, "transform_param": transform}
    return make_layer("d", "WindowData", (), ("data", "label"), fields).top_shapes(())


def test_crop():
    assert shapes({"crop_size": 6}, batch_size=4) == [(4, 3, 6, 6), (4,)]

    with pytest.raises(UnknownShapeError, match="set crop_size in transform_param"):
        shapes({}, batch_size=4, crop_size=6)
