"""The command ``gen``."""

import json

import pytest
from click.testing import CliRunner

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.prototxt import read_prototxt
from resnet_proto.spec import PRESETS, ResNetSpec


def run(*arguments):
    return CliRunner().invoke(main, ["gen", *arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_writes_below_the_current_folder(folder):
    result = run("--depth", "34")

    assert result.exit_code == 0
    assert result.stdout == (
        "generated/resnet-34/deploy.prototxt  written\n"
        "ResNet-34: depth 34, 21,797,672 parameters, 3,663,761,408 MACs\n"
    )
    written = read_prototxt(folder / "generated/resnet-34/deploy.prototxt")
    assert written == deploy_net(PRESETS["resnet-34"])


def test_stdout_holds_the_net_and_nothing_else(folder):
    result = run("--depth", "18", "--out", "-", "--only", "deploy")

    assert read_prototxt(result.stdout) == deploy_net(PRESETS["resnet-18"])
    assert result.stderr == ""
    assert list(folder.iterdir()) == []


def test_any_other_net(folder):
    result = run(
        "--stages", "1,2,1", "--unit", "basic", "--width", "24", "--classes", "5",
        "--name", "Tiny", "--out", "nets",
    )  # fmt: skip

    assert result.exit_code == 0
    spec = ResNetSpec("Tiny", (1, 2, 1), "basic", width=24, classes=5)
    assert read_prototxt(folder / "nets/deploy.prototxt") == deploy_net(spec)


def test_name_of_a_net_from_stages(folder):
    assert run("--stages", "1,2,1", "--unit", "bottleneck").exit_code == 0
    assert (folder / "generated/resnet-14/deploy.prototxt").is_file()


def test_project_first_stage():
    result = run("--depth", "18", "--project-first-stage", "--json")

    assert json.loads(result.stdout)["parameters"] == 11_693_736


def test_json():
    result = run("--depth", "50", "--json")

    assert json.loads(result.stdout) == {
        "name": "ResNet-50",
        "depth": 50,
        "layers": 229,
        "parameters": 25_557_096,
        "macs": 3_857_973_248,
        "files": {"generated/resnet-50/deploy.prototxt": "written"},
    }


def test_other_content_is_kept_without_force(folder):
    path = folder / "generated/resnet-50/deploy.prototxt"
    run("--depth", "50")
    ours = path.read_text()
    path.write_text("mine")

    refused = run("--depth", "50")

    assert refused.exit_code == 1
    assert "deploy.prototxt exists with other content; --force" in refused.stderr
    assert path.read_text() == "mine"
    assert run("--depth", "50", "--force").exit_code == 0
    assert path.read_text() == ours
    assert "unchanged" in run("--depth", "50").stdout


def test_a_net_that_caffe_cannot_hold_is_refused_before_anything_is_written(folder):
    small = ("--stages", "1,1", "--unit", "basic", "--out", "nets", "--width")
    assert run(*small, "5").exit_code == 0
    before = (folder / "nets/deploy.prototxt").read_bytes()

    for out in ("nets", "-"):
        result = run(*small, str(10**9), "--force", "--out", out)
        assert result.exit_code == 1
        assert "layer 'res2a_branch1'" in result.stderr
        assert result.stdout == ""
    assert (folder / "nets/deploy.prototxt").read_bytes() == before


def test_more_units_than_anybody_needs():
    result = run("--stages", f"{10**20}", "--unit", "basic")

    assert result.exit_code == 1
    assert "units; 10,000 are the most" in result.stderr


def test_a_name_that_is_no_folder_needs_one():
    """Caffe takes any name."""
    result = run("--depth", "18", "--name", "a/b", "--out", "-")

    assert read_prototxt(result.stdout).name == "a/b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "18", "--out", "-", "--json"], "leave --json out"),
        ([], "give either --depth N, or --stages"),
        (["--depth", "50", "--stages", "1"], "give either --depth N, or --stages"),
        (["--depth", "51"], "no preset has depth 51; known: 18, 34, 50, 101, 152"),
        (["--depth", "50", "--unit", "basic"], "--unit goes with --stages"),
        (["--stages", "1,2"], "--stages needs --unit"),
        (["--stages", "1,,2", "--unit", "basic"], "'1,,2' is not a list of positive numbers"),
        (["--stages", "0", "--unit", "basic"], "'0' is not a list of positive numbers"),
        (["--depth", "50", "--width", "0"], "0 is not in the range x>=1"),
        (["--depth", "50", "--name", "../up"], "cannot be the name of a folder"),
        (["--depth", "50", "--name", ".."], "cannot be the name of a folder"),
    ],
)
def test_usage(arguments, message, folder):
    result = run(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert list(folder.iterdir()) == []
