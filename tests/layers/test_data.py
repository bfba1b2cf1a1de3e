"""Data: which shapes can be known, and what to do where they cannot."""

import pytest

from resnet_proto.errors import ShapeError, UnknownShapeError
from resnet_proto.layers import make_layer
from resnet_proto.net import Net


def data(tops=("data", "label"), crop=0, gray=None, **fields):
    transform = {"crop_size": crop} if crop else {}
    transform |= {} if gray is None else {"force_gray": gray}
    return make_layer("d", "Data", (), tops, {"data_param": fields, "transform_param": transform})


def walked(layer, **shapes):
    (step,) = Net("n", (layer,)).walk(shapes=shapes)
    return dict(zip(step.layer.tops, step.tops, strict=True))


def test_crop():
    layer = data(crop=6, batch_size=4)

    assert walked(layer) == {"data": (4, 3, 6, 6), "label": (4,)}
    assert walked(data(("data",), crop=6, batch_size=4, gray=False)) == {"data": (4, 3, 6, 6)}
    assert walked(data(("data",), crop=6, batch_size=4, gray=True)) == {"data": (4, 1, 6, 6)}


def test_handed_in():
    """It goes before the fields; labels follow it if they are not named."""
    shape = (8, 1, 28, 27)

    for layer in (data(batch_size=4), data(crop=6, batch_size=4)):
        assert walked(layer, data=shape) == {"data": shape, "label": (8,)}
        assert walked(layer, data=shape, label=(8, 1)) == {"data": shape, "label": (8, 1)}
    assert walked(data(crop=6, batch_size=4), label=(4, 2))["label"] == (4, 2)


@pytest.mark.parametrize("fields", [{}, {"crop_size": 6}])
def test_not_known(fields):
    """Caffe does not look at the old crop_size either."""
    message = r"layer 'd' \(Data\): the shape of 'data' is in its data only; set crop_size in tra"

    with pytest.raises(UnknownShapeError, match=message):
        walked(data(batch_size=4, **fields))
    with pytest.raises(UnknownShapeError, match=r"walk\(shapes={'data': \(8, 1, 28, 28\)}\)"):
        walked(data(batch_size=4, **fields), label=(4,))


def test_refused_and_accepted():
    with pytest.raises(ShapeError, match="batch_size is 0"):
        walked(data(crop=6))
    with pytest.raises(ShapeError, match="takes 1 to 2 tops, has 3"):
        walked(data(("a", "b", "c"), crop=6, batch_size=4))
