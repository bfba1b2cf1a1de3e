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


def test_bytes_of_a_top_in_place_are_those_beyond_its_blob():
    """A product that grows its bottom, and a second top that is not in place."""
    text = (
        'input: "data" input_shape { dim: 2 dim: 3 dim: 7 dim: 5 }\n'
        'layer { name: "f" type: "InnerProduct" bottom: "data" top: "data"\n'
        "  inner_product_param { num_output: 500 } }\n"
        'layer { name: "g" type: "InnerProduct" bottom: "data" top: "data"\n'
        "  inner_product_param { num_output: 4 } }\n"
        'layer { name: "c" type: "Convolution" bottom: "data" bottom: "data" top: "c" top: "d"\n'
        "  convolution_param { num_output: 1 axis: 0 kernel_size: 1 } }\n"
        'layer { name: "e" type: "Convolution" bottom: "c" bottom: "d" top: "c" top: "e"\n'
        "  convolution_param { num_output: 1 axis: 0 kernel_size: 1 } }\n"
    )

    shown = json.loads(run("-", "--json", stdin=text).stdout)

    # data 2x3x7x5, then 2x500 in place, then 2x4 in place; c and d 1x4, then e beside c
    assert [row["activation_bytes"] for row in shown["rows"]] == [840, 3160, 0, 32, 16]


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
    assert lines[7].split() == "total 4 layers at least 0 at least 0 at least 48".split()
    assert lines[8] == "BatchNorm statistics, not learned: at least 0 values"
    assert lines[-1].startswith("Incomplete: stdin: layer 'b' has type 'Pythagoras'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'a' }", "reads blob 'x'"),
        (
            "layer { name: 'a' type: 'LRN' } layer { name: 'b' bottom: 'x' }",
            "layer 'b' has no type",
        ),
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
