"""The command ``gen``."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from terminal import shown

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt
from resnet_proto.spec import ResNetSpec


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
        "generated/resnet-34/deploy.prototxt     written\n"
        "generated/resnet-34/train_val.prototxt  written\n"
        "generated/resnet-34/solver.prototxt     written\n"
        "generated/resnet-34/train.sh            written\n"
        "ResNet-34: 21,797,672 parameters, 3,663,761,408 MACs\n"
        "train: generated/resnet-34/train.sh (CAFFE=FILE names the caffe binary); "
        "put train_lmdb and val_lmdb into generated/resnet-34\n"
    )
    written = read_prototxt(folder / "generated/resnet-34/deploy.prototxt")
    assert written == deploy_net(PRESETS["resnet-34"].spec)


def test_sources_that_lie_elsewhere_are_not_to_be_put_into_the_folder(folder):
    result = run("--depth", "34", "--set", "training.train_source=../a_lmdb", "--out", "r")

    assert result.stdout.endswith("; it reads ../a_lmdb and val_lmdb, as seen from r\n")


def test_stdout_holds_the_net_and_nothing_else(folder):
    result = run("--depth", "18", "--out", "-", "--only", "deploy")

    assert read_prototxt(result.stdout) == deploy_net(PRESETS["resnet-18"].spec)
    assert result.stderr == "ResNet-18: 11,689,512 parameters, 1,814,073,344 MACs\n"
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
        "layers": 229,  # with the Input that the old form stands for, as in `summary`
        "parameters": 25_557_096,
        "macs": 3_857_973_248,
        "files": {
            f"generated/resnet-50/{name}": "written"
            for name in ("deploy.prototxt", "train_val.prototxt", "solver.prototxt", "train.sh")
        },
    }


def test_other_content_is_kept_without_force(folder):
    path = folder / "generated/resnet-50/deploy.prototxt"
    run("--depth", "50")
    ours = path.read_text()
    path.write_text("mine")

    refused = run("--depth", "50")

    assert refused.exit_code == 1
    assert "deploy.prototxt exists with other content; --force" in refused.stderr
    assert "--out DIR or another --name writes elsewhere" in refused.stderr
    assert path.read_text() == "mine"
    assert run("--depth", "50", "--force").exit_code == 0
    assert path.read_text() == ours
    assert "unchanged" in run("--depth", "50").stdout


def test_a_net_that_caffe_cannot_hold_is_refused_before_anything_is_written(folder):
    small = ("--stages", "1,1", "--unit", "basic", "--out", "nets", "--width")
    assert run(*small, "5").exit_code == 0
    before = (folder / "nets/deploy.prototxt").read_bytes()

    for out in ("nets", "-"):
        result = run(*small, "10000000", "--force", "--out", out)
        assert result.exit_code == 1
        assert "layer 'res2a_branch1'" in result.stderr
        assert result.stdout == ""
    assert (folder / "nets/deploy.prototxt").read_bytes() == before


def test_more_units_than_anybody_needs():
    result = run("--stages", f"{10**20}", "--unit", "basic")

    assert result.exit_code == 1
    assert "expected 1 to 10000" in result.stderr


def test_a_name_that_is_no_folder_needs_one():
    """Caffe takes any name."""
    result = run("--depth", "18", "--name", "a/b", "--only", "deploy", "--out", "-")

    assert read_prototxt(result.stdout).name == "a/b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "18", "--out", "-", "--json"], "leave --json out"),
        (["--depth", "18", "--out", "-"], "--out - writes one file; choose it, as in --only"),
        (["--depth", "18", "--only", "solver_warmup"], "this spec has none; training.warm_up_lr"),
        (["--depth", "18", "--out", "net.prototxt"], "--only deploy --out - > net.prototxt"),
        ([], "give one of --depth N, --preset NAME, --spec FILE, or --stages"),
        (["--depth", "50", "--stages", "1"], "give one of --depth N"),
        (["--depth", "50", "--preset", "resnet-50"], "give one of --depth N"),
        (["--depth", "51"], "no preset has depth 51; known: 10, 18, 26, 34, 50, 101, 152, 200"),
        (["--depth", "50", "--unit", "basic"], "--unit goes with --stages"),
        (["--stages", "1,2"], "--stages needs --unit"),
        (["--stages", "1,,2", "--unit", "basic"], "'1,,2' is not a list of positive whole numbers"),
        (["--stages", "0", "--unit", "basic"], "'0' is not a list of positive whole numbers"),
        (["--depth", "50", "--width", "0"], "'0' is not a list of positive whole numbers"),
        (["--depth", "50", "--name", "../up"], "cannot be the name of a folder"),
        (["--depth", "50", "--name", ".."], "cannot be the name of a folder"),
    ],
)
def test_usage(arguments, message, folder):
    result = run(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert list(folder.iterdir()) == []


def test_preset(folder):
    """A preset's folder has the preset's name."""
    result = run("--preset", "cifar-resnet-110", "--json")

    assert sorted(json.loads(result.stdout)["files"]) == [
        f"generated/cifar-resnet-110/{name}"
        for name in ("deploy.prototxt", "solver.prototxt", "solver_warmup.prototxt", "train.sh",
                     "train_val.prototxt")
    ]  # fmt: skip
    script = folder / "generated/cifar-resnet-110/train.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert "near: cifar-resnet-110" in run("--preset", "cifar-resnet-11").stderr


def test_print_change_and_read_a_spec(folder):
    """Any preset is a file to start from."""
    text = run("--depth", "50", "--print-spec").stdout
    (folder / "my.toml").write_text(text)
    assert list(folder.iterdir()) == [folder / "my.toml"]

    same = run("--spec", "my.toml", "--only", "deploy", "--out", "-")
    other = run("--spec", "my.toml", "--set", "shortcut=C", "--only", "deploy", "--out", "-")

    net = read_prototxt(same.stdout)
    assert net == deploy_net(PRESETS["resnet-50"].spec)
    projections = [la for la in read_prototxt(other.stdout).layers if "branch1" in la.name]
    assert len(projections) == 3 * 16


def test_spec_from_stdin(folder):
    result = CliRunner().invoke(
        main, ["gen", "--spec", "-", "--only", "deploy", "--out", "-"], input="stages = [1]\n"
    )

    assert read_prototxt(result.stdout) == deploy_net(ResNetSpec(stages=(1,)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages = [1", "my.toml: this is not TOML"),
        ("stage = [1]", "my.toml: there is no field 'stage'; did you mean stages"),
        ("[training]\nbatch = -1", "my.toml: training: batch is -1"),
        ("stages = 'x'", 'my.toml: stages is "x"; expected a list'),
        ("caf\xe9 = 1".encode("latin-1"), "my.toml: this is not UTF-8"),
    ],
)
def test_spec_that_is_wrong(text, message, folder):
    (folder / "my.toml").write_bytes(text if isinstance(text, bytes) else text.encode())

    result = run("--spec", "my.toml")

    assert result.exit_code == 1
    assert message in result.stderr
    assert "no such file; `resnet-proto gen --depth 50 --print-spec`" in run("--spec", "x").stderr


def test_settings_of_training(folder):
    arguments = ("--set", "training.batch=8", "--set", "training.gpus=1", "--set",
                 "training.train_source=my_lmdb", "--only")  # fmt: skip

    train_val = run("--depth", "18", *arguments, "train_val", "--out", "-")
    solver = run("--depth", "18", *arguments, "solver", "--out", "-")

    data = read_prototxt(train_val.stdout).layers[0].fields["data_param"]
    assert data == {"source": "my_lmdb", "batch_size": 8, "backend": "LMDB"}
    assert "# effective batch 8 = 8 images x 1 GPU\n" in solver.stdout


def test_finetune(folder):
    result = run(
        "--depth", "18", "--classes", "37", "--finetune", "--only", "train_val", "--out", "-"
    )

    classifier = read_prototxt(result.stdout).layers[-4]
    assert classifier.name == "fc37_finetune"
    assert classifier.fields["param"][0]["lr_mult"] == 10.0


def test_fully_connected_units(folder):
    """Their net has no stem and no pooling."""
    result = run("--stages", "2", "--unit", "fully-connected", "--only", "deploy", "--out", "-")

    assert {layer.type for layer in read_prototxt(result.stdout).layers} == {
        "InnerProduct", "ReLU", "Eltwise", "Softmax"
    }  # fmt: skip


def test_file_and_stdout_have_the_same_bytes(folder):
    """Whatever the terminal's encoding, and for names that are no UTF-8."""
    code = "from resnet_proto.cli import main; main()"
    arguments = ["--stages", "1", "--unit", "basic", "--name", b"n\xe9\xc3\xa9", "--only", "deploy"]
    command = [sys.executable, "-c", code, "gen", *arguments]
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "1"}

    subprocess.run([*command, "--out", "x"], check=True, capture_output=True)
    printed = subprocess.run([*command, "--out", "-"], check=True, capture_output=True, env=latin)

    assert printed.stdout == (folder / "x/deploy.prototxt").read_bytes()


def test_list():
    table = CliRunner().invoke(main, ["list"]).stdout.splitlines()
    rows = json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)

    assert [line.split()[0] for line in table[2:]] == list(PRESETS)
    assert [row["name"] for row in rows] == list(PRESETS)
    assert rows[0] == {
        "name": "resnet-10", "stages": [1, 1, 1, 1], "unit": "basic", "parameters": 5_418_792,
        "macs": 889_229_312, "source": "smaller than table 1",
    }  # fmt: skip


def test_list_fits_a_terminal():
    piped = CliRunner().invoke(main, ["list"]).stdout.splitlines()
    narrow = shown(80, "list")

    assert shown(140, "list") == piped
    assert narrow[-1] == "no room for the column source; --json has it"
    assert max(map(len, narrow)) <= 80
    assert [line.split() for line in narrow[:-1]] == [line.split()[:5] for line in piped]


@pytest.mark.parametrize("task", ["localization", "segmentation", "r-fcn", "faster-r-cnn"])
def test_a_task_has_a_folder_of_its_own(task, folder):
    result = run("--depth", "101", "--set", f"task={task}", "--set", "training.iter_size=3")

    assert result.exit_code == 0, result.output
    target = folder / f"generated/resnet-101-{task}"
    names = {"deploy.prototxt", "train_val.prototxt", "solver.prototxt", "train.sh"}
    assert {path.name for path in target.iterdir()} == names
    assert read_prototxt(target / "train_val.prototxt").name == f"ResNet-101-{task}"
    assert "iter_size: 3" in (target / "solver.prototxt").read_text()
    wanted = "PY_FASTER_RCNN=DIR" if "r-" in task else "put train_h5.txt and val_h5.txt into"
    assert wanted in result.stdout
    subprocess.run(["bash", "-n", target / "train.sh"], check=True)


def test_a_task_from_a_file(folder):
    (folder / "my.toml").write_text('task = "segmentation"\nstages = [1, 1]\nclasses = 3\n')

    result = run("--spec", "my.toml", "--out", "-", "--only", "deploy")

    net = read_prototxt(result.stdout)
    assert net.name == "ResNet-6-segmentation"
    assert net.layers[-1].type == "Softmax"


@pytest.mark.parametrize("arguments", [["gen", "--depth", "18"], ["train-val", "NET"]])
def test_launcher(arguments, folder):
    run("--depth", "10", "--out", "net")
    arguments = ["net/deploy.prototxt" if part == "NET" else part for part in arguments]

    result = CliRunner().invoke(main, [*arguments, "--launcher", "mpirun", "--out", "mpi"])

    assert result.exit_code == 0, result.output
    assert "mpirun -n 8 -ppn 8" in (folder / "mpi/train.sh").read_text()
    assert "solver_mode: CPU" in (folder / "mpi/solver.prototxt").read_text()


def test_what_only_a_program_can_train(folder):
    result = run("--depth", "10", "--set", "training.data=memory")

    assert "solver.net.set_input_arrays; caffe train cannot" in result.stdout
    assert not (folder / "generated/resnet-10/train.sh").exists()
    result = run("--depth", "10", "--set", "training.data=memory", "--only", "train")
    assert (result.exit_code, "none; training.data is memory" in result.stderr) == (2, True)


def test_a_recipe_brings_its_values():
    """The solver's comments say whose numbers they are, so they must be those."""
    cifar = ("--depth", "18", "--set", "training.recipe=cifar")
    solver = ("--only", "solver", "--out", "-")

    assert "max_iter: 64000" in run(*cifar, *solver).stdout
    assert "\nbatch = 32\n" in run(*cifar, "--set", "training.batch=32", "--print-spec").stdout
    wrong = run("--depth", "18", "--set", "training.recipe=mine")
    assert wrong.exit_code == 1
    assert "training.recipe is 'mine'; known: imagenet, cifar," in wrong.stderr
    own = run("--depth", "18", "--set", "training.recipe=", *solver).stdout
    assert "arXiv" not in own
    assert "max_iter: 450410" in own


def test_means_go_with_channels():
    """Three means are no use to grey images; one that is given stays."""
    grey = ("--depth", "18", "--set", "input_channels=1", "--only", "train_val", "--out", "-")

    assert "mean_value" not in run(*grey).stdout
    assert "mean_value: 7" in run(*grey, "--set", "training.mean=7").stdout


def test_finetuning_of_a_spec_renames_the_classifier_once(folder):
    text = run("--depth", "18", "--set", "training.finetune=true", "--print-spec").stdout
    (folder / "my.toml").write_text(text)

    assert 'classifier = "fc{classes}_finetune"' in text
    assert run("--spec", "my.toml", "--print-spec").stdout == text


def test_only_depths_are_depths():
    assert run("--depth", "8").exit_code == 2
    assert "plain" not in run("--help").stdout
