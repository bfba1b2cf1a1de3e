"""The registry, fields, and what every type has to keep."""

import subprocess
import sys

import pytest

from resnet_proto.errors import NetError
from resnet_proto.layers import REGISTRY, Convolution, Field, Layer, make_layer, register


@pytest.mark.parametrize("type", REGISTRY)
def test_a_type_is_found_in_its_module(type):
    cls = REGISTRY[type]

    assert cls.__name__ == type
    assert cls.__module__ == f"resnet_proto.layers.{REGISTRY.modules[type]}"
    assert isinstance(make_layer("a", type), cls)


def test_registered_twice():
    with pytest.raises(ValueError, match="layer type 'Convolution' is registered twice"):
        register(type("Convolution", (Layer,), {}))
    assert REGISTRY["Convolution"] is Convolution


def test_unknown_type():
    assert "Crop9" not in REGISTRY
    assert type(make_layer("a", "Crop9")) is Layer
    with pytest.raises(ImportError, match="cannot import name 'Crop9'"):
        from resnet_proto.layers import Crop9  # noqa: F401


def test_modules_are_imported_when_needed():
    code = (
        "import sys, resnet_proto.layers as layers\n"
        "layers.make_layer('a', 'Crop')\n"
        "print(sorted(m for m in layers.REGISTRY.modules.values()"
        " if f'resnet_proto.layers.{m}' in sys.modules))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "['crop']"


class Two(Layer):
    message = "own_param"
    other_messages = ("loss_param",)

    own = Field(1)
    normalize = Field(True, "loss_param")


def test_fields_of_another_message():
    layer = Two.of("t", "x", ("y", "z"), own=2, normalize=False)

    assert layer.fields == {"own_param": {"own": 2}, "loss_param": {"normalize": False}}
    assert (layer.own, layer.normalize, layer.tops) == (2, False, ("y", "z"))
    assert Two("t", "Two").resolved() == {"own": 1}
    assert Two("t", "Two").resolved_others() == {"loss_param": {"normalize": True}}
    forks = Two("t", "Two", fields={"loss_param": {"of_a_fork": 3}})
    assert forks.resolved_others() == {"loss_param": {"of_a_fork": 3, "normalize": True}}

    with pytest.raises(NetError, match="Two has no field 'axis'"):
        Two.of("t", "x", "y", axis=1)
