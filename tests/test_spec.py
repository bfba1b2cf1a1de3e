"""The presets and what can be asked of a spec."""

import pytest

from resnet_proto.errors import ResNetProtoError
from resnet_proto.spec import PRESETS, ResNetSpec


@pytest.mark.parametrize("key", PRESETS)
def test_preset_is_named_by_its_depth(key):
    """Paper, table 1: the depth counts conv1, the units' convolutions and the classifier."""
    spec = PRESETS[key]

    assert key == f"resnet-{spec.depth}"
    assert spec.name == f"ResNet-{spec.depth}"


def test_unit_names_of_the_released_nets():
    """Letters in ResNet-50, a b1 b2 in stages 3 and 4 of 101 and 152."""
    names = {
        key: [PRESETS[key].unit_name(i + 2, n - 1) for i, n in enumerate(PRESETS[key].stages)]
        for key in ("resnet-50", "resnet-101", "resnet-152")
    }

    assert names == {
        "resnet-50": ["2c", "3d", "4f", "5c"],
        "resnet-101": ["2c", "3b3", "4b22", "5c"],
        "resnet-152": ["2c", "3b7", "4b35", "5c"],
    }


@pytest.mark.parametrize(("units", "last"), [(26, "2z"), (27, "2b26")])
def test_unit_names_beyond_the_alphabet(units, last):
    spec = ResNetSpec("long", (units,), "basic")

    assert spec.unit_name(2, units - 1) == last
    assert len({spec.unit_name(2, i) for i in range(units)}) == units


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, r"stages are \(\)"),
        ({"stages": (3, 0)}, r"at least one unit"),
        ({"unit": "inverted"}, "unit is 'inverted'; known: basic, bottleneck"),
        ({"width": 0}, "width is 0"),
        ({"classes": -1}, "classes is -1"),
    ],
)
def test_refused(change, message):
    good = {"name": "x", "stages": (3, 1), "unit": "basic", "width": 1, "classes": 1}
    ResNetSpec(**good)

    with pytest.raises(ResNetProtoError, match=message):
        ResNetSpec(**{**good, **change})
