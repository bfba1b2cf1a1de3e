"""The command ``deploy``."""

from dataclasses import replace

import pytest
import wild
from click.testing import CliRunner

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.graph import difference
from resnet_proto.layers import REGISTRY
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.recipe import RECIPES
from resnet_proto.training.train_val import to_deploy, to_train_val

TRAINED = to_prototxt(to_train_val(read_prototxt(wild.resnet_18()), RECIPES["imagenet"].training))
SHAPE = ("--input-shape", "1,3,224,224")


def run(*arguments, stdin=TRAINED):
    return CliRunner().invoke(main, ["deploy", *arguments], input=stdin)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["resnet-50", "cifar-resnet-20", "se-resnet-50", "plain-18"])
def test_there_and_back(name):
    spec = PRESETS[name].spec
    size = spec.input_size
    text = to_prototxt(to_train_val(deploy_net(spec), spec.training))

    result = run("-", "--input-shape", f"1,3,{size},{size}", stdin=text)

    assert result.exit_code == 0
    assert read_prototxt(result.stdout).canonical() == deploy_net(spec).canonical()


@pytest.mark.skipif("Data" not in REGISTRY, reason="data layers have no class here yet")
def test_the_data_layer_says_the_size():
    assert run("-").stdout == run("-", *SHAPE).stdout != ""


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_released_nets_there_and_back(depth, deploy_file):
    net = read_prototxt(deploy_file(depth))
    text = to_prototxt(to_train_val(net, RECIPES["imagenet"].training))

    result = run("-", *SHAPE, stdin=text)

    assert read_prototxt(result.stdout).canonical() == net.canonical()


def test_half_width_net_there_and_back(half_width):
    """Its file was saved with fillers and rates, which a deploy net does not need."""
    net = read_prototxt(half_width[0])
    text = to_prototxt(to_train_val(net, RECIPES["imagenet"].training))

    result = run("-", *SHAPE, stdin=text)

    assert difference(read_prototxt(result.stdout), net) is None
    assert "filler" not in result.stdout


def test_a_deploy_net_comes_back_cleaned():
    result = run("-", stdin=wild.resnet_18())

    assert result.exit_code == 0
    assert difference(read_prototxt(result.stdout), read_prototxt(wild.resnet_18())) is None
    assert "msra" not in result.stdout


def test_file(folder):
    first = run("-", "-o", "new/deploy.prototxt", *SHAPE)
    again = run("-", "-o", "new/deploy.prototxt", *SHAPE)
    other = run("-", "-o", "new/deploy.prototxt", "--input-shape", "2,3,225,225")
    path = folder / "new/deploy.prototxt"

    assert first.stdout == "new/deploy.prototxt  written\n"
    assert again.stdout == "new/deploy.prototxt  unchanged\n"
    assert other.exit_code == 1
    assert (
        "new/deploy.prototxt exists with other content; --force overwrites it, another --out FILE"
        in other.stderr
    )
    assert read_prototxt(path) == to_deploy(read_prototxt(TRAINED), (1, 3, 224, 224))
    forced = run("-", "-o", "new/deploy.prototxt", "--input-shape", "2,3,225,225", "--force")
    assert forced.exit_code == 0
    assert read_prototxt(path).inputs() == {"data": (2, 3, 225, 225)}


def test_the_size_of_images_may_be_in_files_only():
    training = replace(RECIPES["imagenet"].training, data="hdf5")
    text = to_prototxt(to_train_val(read_prototxt(wild.resnet_18()), training))

    refused = run("-", stdin=text)

    assert refused.exit_code == 1
    assert "the size of 'data' is not known" in refused.stderr
    assert "--input-shape" in refused.stderr
    assert run("-", *SHAPE, stdin=text).exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base_lr: 0.1", "stdin: a solver has one net to train, this one has none"),
        (wild.conv("c", "x", 1, 1), "the net has no data layer in phase TEST"),
    ],
)
def test_refused(text, message):
    result = run("-", stdin=text)

    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_usage():
    assert run("-", "--input-shape", "three").exit_code == 2
    assert run("-", *SHAPE).exit_code == 0
