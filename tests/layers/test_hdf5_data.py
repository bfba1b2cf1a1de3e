"""HDF5Data: every shape is handed in."""

import pytest

from resnet_proto.errors import ShapeError, UnknownShapeError
from resnet_proto.layers import HDF5Data, make_layer
from resnet_proto.net import Net

LAYER = HDF5Data.of("d", (), ("data", "label"), source="list", batch_size=4)


def test_handed_in():
    (step,) = Net("n", (LAYER,)).walk(shapes={"label": (4, 2), "data": (4, 3, 7)})

    assert step.tops == ((4, 3, 7), (4, 2))


@pytest.mark.parametrize("shapes", [{}, {"data": (4, 3, 7)}])
def test_not_known(shapes):
    missing = "label" if shapes else "data"

    with pytest.raises(UnknownShapeError, match=f"the shape of '{missing}' is in its data only"):
        list(Net("n", (LAYER,)).walk(shapes=shapes))


def test_transforms_nothing():
    fields = {"hdf5_data_param": {"source": "list"}, "transform_param": {"scale": 0.5}}
    layer = make_layer("d", "HDF5Data", (), ("data",), fields)

    with pytest.raises(ShapeError, match="leave transform_param out"):
        list(Net("n", (layer,)).walk(shapes={"data": (4,)}))
