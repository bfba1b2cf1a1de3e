"""DummyData: shapes and fillers, one for each top or one for all."""

import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import DummyData

A, B = {"dim": (2, 3, 7)}, {"dim": (5,)}
SIDES = {"num": 2, "channels": (3, 4), "height": 7, "width": (5, 6)}


def dummy(*tops, **fields):
    return DummyData.of("d", (), tops, **fields)


def test_shapes():
    assert dummy("a", "b", shape=A).top_shapes(()) == [(2, 3, 7)] * 2
    assert dummy("a", "b", shape=(A, B)).top_shapes(()) == [(2, 3, 7), (5,)]
    assert dummy("a", "b", **SIDES).top_shapes(()) == [(2, 3, 7, 5), (2, 4, 7, 6)]


def test_fillers():
    """The default is constant 0; others have no value of their own."""
    fillers = ({"value": 2.5}, {"type": "gaussian", "std": 2.0}, {"type": "constant"})
    layer = dummy("a", "b", "c", shape=A, data_filler=fillers)

    assert [layer.fill(top) for top in layer.tops] == [2.5, None, 0]
    assert dummy("a", shape=A).fill("a") == 0
    assert dummy("a", "b", shape=A, data_filler={"value": 3.0}).fill("b") == 3


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"shape": (A, B, A)}, {"shape": (A, B)}, "has 3 shape for 2 top"),
        ({}, {"shape": A}, "has 0 shape for 2 top"),
        ({**SIDES, "shape": A}, SIDES, "give only shape"),
        ({**SIDES, "height": ()}, SIDES, "has 0 height for 2 top"),
        (
            {"shape": A, "data_filler": ({}, {}, {})},
            {"shape": A, "data_filler": ({}, {})},
            "has 3 data_filler",
        ),
        (
            {"shape": A, "data_filler": {"type": "konstant"}},
            {"shape": A, "data_filler": {"type": "constant"}},
            "no filler is called 'konstant'",
        ),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    dummy("a", "b", **accepted).top_shapes(())

    with pytest.raises(ShapeError, match=message):
        dummy("a", "b", **refused).top_shapes(())
