"""How values are spelled, and whose template is used."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_proto.build import deploy_net
from resnet_proto.errors import ResNetProtoError
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import to_prototxt
from resnet_proto.render import scalar, shortest
from resnet_proto.words import Word


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        (-7, "-7"),
        (1e-5, "1e-05"),
        (0.1, "0.1"),
        (2.0, "2"),
        (16777216.0, "16777216"),
        (math.inf, "inf"),
        (Word("MAX"), "MAX"),
        ("MAX", '"MAX"'),
        ('a "b"\\\n', '"a \\"b\\"\\\\\\n"'),
        ("\x01é\udcff", '"\\001é\\377"'),
    ],
)
def test_scalar(value, text):
    if isinstance(value, float):
        value = struct.unpack("f", struct.pack("f", value))[0]

    assert scalar(value) == text


@given(st.floats(width=32, allow_nan=False))
def test_shortest_gives_the_same_float32(value):
    assert struct.pack("f", float(shortest(value))) == struct.pack("f", value)


def test_own_templates_go_first(tmp_path):
    (tmp_path / "net.prototxt.j2").write_text("# {{ net.layers | length }} layers\n")

    assert to_prototxt(deploy_net(PRESETS["resnet-18"].spec), templates=tmp_path) == "# 89 layers\n"


@pytest.mark.parametrize("text", ["{{ nothing }}", "{% for %}"])
def test_a_wrong_template_is_named(tmp_path, text):
    (tmp_path / "net.prototxt.j2").write_text(text)

    with pytest.raises(ResNetProtoError, match=r"net\.prototxt\.j2"):
        to_prototxt(deploy_net(PRESETS["resnet-18"].spec), templates=tmp_path)


def test_no_folder_of_templates(tmp_path):
    with pytest.raises(ResNetProtoError, match="no such folder"):
        to_prototxt(deploy_net(PRESETS["resnet-18"].spec), templates=tmp_path / "none")
