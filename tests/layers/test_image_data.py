"""ImageData: the crop, or the size that images are given."""

import pytest

from resnet_proto.errors import ShapeError, UnknownShapeError
from resnet_proto.layers import make_layer


def shapes(crop=0, **fields):
    fields = {"image_data_param": fields, "transform_param": {"crop_size": crop}}
    return make_layer("d", "ImageData", (), ("data", "label"), fields).top_shapes(())


def test_size():
    assert shapes(crop=6) == [(1, 3, 6, 6), (1,)]
    assert shapes(crop=6, batch_size=4, is_color=False) == [(4, 1, 6, 6), (4,)]
    assert shapes(new_height=7, new_width=5) == [(1, 3, 7, 5), (1,)]
    assert shapes(crop=5, new_height=7, new_width=5) == [(1, 3, 5, 5), (1,)]


@pytest.mark.parametrize(
    ("crop", "fields", "error", "message"),
    [
        (0, {}, UnknownShapeError, "set crop_size in transform_param"),
        (0, {"crop_size": 6}, UnknownShapeError, "set crop_size in transform_param"),
        (6, {"new_height": 7}, ShapeError, "new_height and new_width go together"),
        (6, {"new_height": 7, "new_width": 5}, ShapeError, "crop_size 6 is larger than the image"),
        (6, {"batch_size": 0}, ShapeError, "batch_size is 0"),
    ],
)
def test_refused(crop, fields, error, message):
    with pytest.raises(error, match=message):
        shapes(crop, **fields)
