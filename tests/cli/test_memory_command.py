"""The command ``memory``."""

import json

import pytest
from click.testing import CliRunner

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import to_prototxt


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["memory", *arguments], input=stdin)


@pytest.fixture(scope="module")
def text():
    return to_prototxt(deploy_net(PRESETS["cifar-resnet-20"].spec))


def test_table(text, tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(text)

    result = run(str(path), "--batch", "64")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("ResNet-20, batch 64: bytes")
    assert result.stderr == ""
    assert run("-", "--batch", "64", stdin=text).stdout == result.stdout


def test_json_and_phase(text):
    found = json.loads(run("-", "--phase", "test", "--batch", "3", "--json", stdin=text).stdout)

    assert (found["name"], found["batch"]) == ("ResNet-20", 3)
    assert list(found["phases"]) == list(found["totals"]) == ["test"]
    assert found["totals"]["test"] == sum(found["phases"]["test"].values())


def test_a_small_batch(text):
    result = run("-", "--batch", "8", stdin=text)

    assert result.stderr.startswith("Warning: batch 8 is under 16")
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--batch", "0"], 2, "0 is not in the range"),
        (["--batch", "9999999"], 1, "Caffe's limit"),
        (["--phase", "dream"], 2, "dream"),
    ],
)
def test_refused(text, arguments, status, message):
    result = run("-", *arguments, stdin=text)

    assert (result.exit_code, message in result.stderr) == (status, True)
    assert "Traceback" not in result.stderr
