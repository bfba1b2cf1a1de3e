"""The command ``memory``."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.generate import generate
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import to_prototxt
from resnet_proto.recipe import Training
from resnet_proto.spec import for_task


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
        (["--batch", "0"], 2, "'0' is not a whole number"),
        (["--batch", "9999999"], 1, "Caffe's limit"),
        (["--phase", "dream"], 2, "dream"),
    ],
)
def test_refused(text, arguments, status, message):
    result = run("-", *arguments, stdin=text)

    assert (result.exit_code, message in result.stderr) == (status, True)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("type", "times"), [("SGD", 1), ("Nesterov", 1), ("Adam", 2)])
def test_the_type_of_a_solver(tmp_path, type, times):
    """Adam keeps two values for each weight: adam_solver.cpp, AdamPreSolve."""
    files = generate(replace(PRESETS["cifar-resnet-20"].spec, training=Training(gpus=1)))
    (tmp_path / "train_val.prototxt").write_text(files["train_val.prototxt"])
    solver = tmp_path / "solver.prototxt"
    solver.write_text(files["solver.prototxt"] + f'type: "{type}"\n')

    train = json.loads(run(str(solver), "--json").stdout)["phases"]["train"]

    assert train["momentum"] == times * train["gradients"] > 0


@pytest.mark.parametrize("data", ["hdf5", "image-list"])
def test_a_net_whose_files_know_the_size(data):
    """As the same net that says it: each phase has its own batch, whatever is handed in."""
    training = Training(data=data, batch=32, test_batch=10, mean=())
    spec = replace(PRESETS["cifar-resnet-20"].spec, training=training)
    text = generate(spec)["train_val.prototxt"].replace("crop_size: 32", "")
    known = generate(replace(spec, training=replace(training, data="memory")))

    result = run("-", "--input-shape", "1,3,32,32", "--json", stdin=text)

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["phases"]
    expected = json.loads(run("-", "--json", stdin=known["train_val.prototxt"]).stdout)["phases"]
    for phase in ("train", "test"):
        assert found[phase] | {"other": 0} == expected[phase] | {"other": 0}
    if data == "hdf5":
        result = run("-", stdin=text)
        assert "the shape of 'data' is in its data only; give it: --input-shape" in result.stderr


def test_shapes_by_name():
    spec = replace(for_task(PRESETS["resnet-18"].spec, "segmentation"), input_size=65)
    text = generate(spec)["train_val.prototxt"]
    shapes = ["--input-shape", "1,3,65,65", "--input-shape", "label=1,1,65,65"]

    result = run("-", *shapes, "--batch", "4", stdin=text)

    assert result.exit_code == 0, result.output
    assert result.stderr == ""  # its statistics are frozen
    assert (
        "the net has no input 'x'" in run("-", *shapes, "--input-shape", "x=1", stdin=text).stderr
    )
    assert run("-", "--input-shape", "1,x", stdin=text).exit_code == 2
