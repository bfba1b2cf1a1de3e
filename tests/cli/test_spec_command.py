"""The command ``spec``."""

import json
import tomllib

import pytest
import wild
from click.testing import CliRunner

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.settings import changed
from resnet_proto.spec import ResNetSpec
from resnet_proto.training.train_val import to_train_val


def run(*arguments, stdin=None, command="spec"):
    return CliRunner().invoke(main, [command, *arguments], input=stdin)


def test_toml_that_makes_the_net_again():
    """What is printed is what `gen --spec` takes; the talk goes to stderr."""
    net = to_prototxt(deploy_net(PRESETS["resnet-26"].spec))

    result = run("-", stdin=net)

    assert result.exit_code == 0
    assert result.stderr == "preset resnet-26\n"
    spec = changed(ResNetSpec(), tomllib.loads(result.stdout), "stdout")
    assert to_prototxt(deploy_net(spec)) == net
    again = run("--spec", "-", "--only", "deploy", "--out", "-", stdin=result.stdout, command="gen")
    assert again.stdout == net


def test_warnings_and_the_nearest_preset():
    result = run("-", stdin=wild.resnet_18().replace('"res4b"', '"sum4b"'))

    assert result.exit_code == 0
    assert result.stderr == (
        "Warning: 1 of 92 layers have other names in the spec's net: 'sum4b' is 'res4b'\n"
        "preset resnet-18 but for project_first_stage=true, moving_average_fraction=0.9\n"
    )


def test_a_net_like_no_preset():
    assert run("-", stdin=wild.squeezed()).stderr.count("preset") == 0


def test_json():
    result = run("-", "--json", stdin=wild.resnet_18())

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert changed(ResNetSpec(), found["spec"], "JSON").stages == (2, 2, 2, 2)
    assert found["preset"] == "resnet-18"
    assert found["unlike"] == {"project_first_stage": True, "moving_average_fraction": 0.9}
    assert found["warnings"] == []


def test_a_train_val_net():
    spec = PRESETS["cifar-resnet-20"].spec
    text = to_prototxt(to_train_val(deploy_net(spec), spec.training))

    result = run("-", "--input-shape", "1,3,32,32", stdin=text)

    assert result.exit_code == 0
    assert result.stderr == "preset cifar-resnet-20\n"


def test_fields_of_forks():
    """``ceil_mode`` is known; the engine of a layer in Intel's nets is not, and means nothing."""
    text = wild.resnet_18().replace("stride: 2 }", "stride: 2 pad: 1 ceil_mode: false }")
    text = text.replace('type: "Softmax"', 'type: "Softmax" engine: "MKLDNN"')

    refused = run("-", stdin=text)
    result = run("-", "--lenient", stdin=text)

    assert refused.exit_code == 1
    assert "LayerParameter has no field 'engine'" in refused.stderr
    assert result.exit_code == 0
    assert 'pool = "padded"' in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            wild.resnet_18().replace("kernel_size: 7 pad: 3", "kernel_size: 5 pad: 2"),
            "Error: stdin: the stem is 5x5; expected 7x7; 3x3; 3x3,3x3,3x3\n",
        ),
        (
            "base_lr: 0.1",
            "Error: stdin: a solver has one net to train, this one has none",
        ),
        ("", "Error: stdin: this is empty"),
    ],
)
def test_refused(text, message):
    result = run("-", stdin=text)

    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("shape", ["1,3,x,4", "1,,2", "0,3,4,4"])
def test_usage(shape):
    result = run("-", "--input-shape", shape, stdin=wild.resnet_18())

    assert result.exit_code == 2
    assert f"'{shape}' is not a list of positive whole numbers" in result.stderr
    assert read_prototxt(wild.resnet_18()).layers
