"""The command ``summary``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import to_prototxt


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["summary", *arguments], input=stdin)


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(to_prototxt(deploy_net(PRESETS["resnet-18"].spec)))
    return str(path)


def test_table(net):
    lines = run(net).stdout.splitlines()

    assert lines[0].split() == ["layer", "type", "top", "parameters", "MACs", "activation", "bytes"]
    assert lines[3].split() == [
        "conv1",
        "Convolution",
        "1x64x112x112",
        "9,408",
        "118,013,952",
        "3,211,264",
    ]
    assert lines[4].split() == ["bn_conv1", "BatchNorm", "1x64x112x112"]
    assert lines[-2].split() == [
        "total",
        "90",
        "layers",
        "11,689,512",
        "1,814,073,344",
        "14,360,384",
    ]
    assert lines[-1] == "BatchNorm statistics, not learned: 9,620 values"


def test_json(net):
    summary = json.loads(run(net, "--json").stdout)

    assert summary["rows"][-2] == {
        "layer": "fc1000",
        "type": "InnerProduct",
        "tops": {"fc1000": [1, 1000]},
        "parameters": 513_000,
        "statistics": 0,
        "macs": 512_000,
        "activation_bytes": 4_000,
    }
    assert summary["unknown"] is None


def test_stdin_gives_the_same(net):
    assert run("-", stdin=Path(net).read_text()).stdout == run(net).stdout


def test_phase():
    text = (
        'input: "data" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "a" type: "ReLU" bottom: "data" top: "a" include { phase: TRAIN } }\n'
        'layer { name: "b" type: "ReLU" bottom: "data" top: "b" include { phase: TEST } }\n'
    )

    layers = {
        phase: [
            row["layer"]
            for row in json.loads(run("-", "--json", "--phase", phase, stdin=text).stdout)["rows"]
        ]
        for phase in ("TRAIN", "TEST")
    }

    assert layers == {"TRAIN": ["input", "a"], "TEST": ["input", "b"]}


def test_up_to_an_unknown_layer():
    text = (
        'input: "data" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "a" type: "ReLU" bottom: "data" top: "a" }\n'
        'layer { name: "b" type: "Pythagoras" bottom: "a" top: "b" }\n'
        'layer { name: "c" type: "ReLU" bottom: "b" top: "c" }\n'
    )

    result = run("-", stdin=text)

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split() for line in lines[3:6]] == [
        ["a", "ReLU", "2x3", "24"],
        ["b", "Pythagoras", "?", "?", "?", "?"],
        ["c", "ReLU", "?", "?", "?", "?"],
    ]
    assert lines[-1].startswith("Incomplete: stdin: layer 'b' has type 'Pythagoras'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'a' }", "reads blob 'x'"),
        ("layer { name: 'a'", "not closed"),
        ("layer { name: 'a' type: 'ReLU' kernel: 3 }", "kernel"),
    ],
)
def test_refused_without_a_traceback(text, message):
    result = run("-", stdin=text)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_file_names_it():
    result = run("no/such.prototxt")

    assert result.exit_code in (1, 2)
    assert "no/such.prototxt" in result.stderr
