"""The command ``train-val``."""

import json
import os
import shlex

import pytest
import wild
from click.testing import CliRunner

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.generate import generate
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.recipe import RECIPES
from resnet_proto.spec import for_task
from resnet_proto.training.train_val import to_train_val

FILES = ["train_val.prototxt", "solver.prototxt", "train.sh"]
NET = wild.resnet_18()


def run(*arguments, stdin=NET):
    return CliRunner().invoke(main, ["train-val", *arguments], input=stdin)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["resnet-50", "resnet-50-1by2", "cifar-resnet-20", "plain-18"])
def test_files_are_those_of_gen(name, folder):
    """For a preset's deploy net and the preset's own recipe."""
    spec = PRESETS[name].spec
    expected = generate(spec)

    result = run("-", "-o", "out", stdin=expected.pop("deploy.prototxt"))

    assert result.exit_code == 0, result.stderr
    assert {path.name: path.read_text() for path in (folder / "out").iterdir()} == expected


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_released_nets(depth, folder, deploy_file):
    """As the authors wrote them, with no fillers at all."""
    path = deploy_file(depth)

    assert run(str(path), "-o", "out").exit_code == 0

    net = read_prototxt(folder / "out/train_val.prototxt")
    spec = PRESETS[f"resnet-{depth}"].spec
    assert net.canonical() == to_train_val(deploy_net(spec), spec.training).canonical()


def test_what_is_printed(folder):
    result = run("-")

    assert result.stdout == (
        "generated/resnet-18/train_val.prototxt  written\n"
        "generated/resnet-18/solver.prototxt     written\n"
        "generated/resnet-18/train.sh            written\n"
        "ResNet-18: 11,693,736 parameters, recipe imagenet\n"
        "train: generated/resnet-18/train.sh (CAFFE=FILE names the caffe binary); "
        "put train_lmdb and val_lmdb into generated/resnet-18\n"
    )
    assert os.access(folder / "generated/resnet-18/train.sh", os.X_OK)


@pytest.mark.parametrize(
    "options",
    [
        ("--classes", "5"),
        ("--finetune",),
        ("--classes", "5", "--set", "data=hdf5", "--set", "mean="),
    ],
)
def test_another_classifier_needs_another_deploy_net(folder, options):
    """Which the last line makes, also where a shell would part its words; else the old one does."""
    last = run("-", *options, "-o", "my nets").stdout.splitlines()[-1]
    words = shlex.split(last.removesuffix(" makes the net that the trained weights fit"))

    assert words[:2] == ["use:", "resnet-proto"]
    assert CliRunner().invoke(main, words[2:]).exit_code == 0
    classifier = read_prototxt((folder / "my nets/deploy.prototxt").read_text()).layers[-2]
    assert classifier.name == ("fc5" if "5" in options else "fc1000_finetune")
    for others in (("--json", "-o", "a"), ("--only", "solver", "-o", "b")):
        assert "deploy" not in run("-", *options, *others).stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "; put train_lmdb and val_lmdb into x"),
        (("test_source=train_lmdb",), "; put train_lmdb into x"),
        (("mean_file=../m",), "; it reads train_lmdb, val_lmdb and ../m, as seen from x"),
        (("data=hdf5", "mean=", "mean_file=../m"), "; put train_lmdb and val_lmdb into x"),
        (("data=dummy",), ""),
    ],
)
def test_what_is_read(options, said):
    settings = [word for option in options for word in ("--set", option)]
    last = run("-", *settings, "-o", "x").stdout.splitlines()[-1]

    assert last == f"train: x/train.sh (CAFFE=FILE names the caffe binary){said}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--finetune", "--set", "weights=../w.caffemodel"), ""),
        (("--classes", "5"), ""),
        (("--finetune",), "; it begins at random, without training.weights=FILE"),
        (("--set", "freeze=pool1"), "; WEIGHTS=FILE names a caffemodel to begin with"),
        (("--set", "freeze=pool1", "--set", "weights=../w.caffemodel"), ""),
    ],
)
def test_where_no_weights_are_given_to_begin_with(options, said):
    lines = run("-", *options, "-o", "x").stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("train: "))

    assert line.endswith(f"put train_lmdb and val_lmdb into x{said}")


def test_json():
    result = run("-", "--json", "-o", "out")

    assert json.loads(result.stdout) == {
        "name": "ResNet-18",
        "recipe": "imagenet",
        "layers": 96,
        "parameters": 11_693_736,
        "macs": 1_826_918_400,
        "files": {f"out/{name}": "written" for name in FILES},
    }


def test_one_file_to_stdout(folder):
    result = run("-", "--only", "train_val", "--out", "-")

    net = read_prototxt(result.stdout)
    assert net == to_train_val(read_prototxt(NET), RECIPES["imagenet"].training)
    assert result.stderr == "ResNet-18: 11,693,736 parameters, recipe imagenet\n"
    assert list(folder.iterdir()) == []


def test_settings_of_the_training():
    settings = ("--set", "batch=16", "--set", "data=image-list", "--set", "train_source=l.txt")

    net = read_prototxt(run("-", *settings, "--only", "train_val", "--out", "-").stdout)

    assert net.layers[0].fields["image_data_param"]["source"] == "l.txt"
    assert net.layers[0].fields["image_data_param"]["batch_size"] == 16


def test_a_setting_as_gen_has_it(folder):
    """`check` tells of ``training.train_images``, whichever command has written the solver."""
    texts = [
        run("-", "--set", f"{prefix}batch=16", "--only", "train_val", "--out", "-").stdout
        for prefix in ("", "training.")
    ]

    assert "batch_size: 16" in texts[0]
    assert texts[1] == texts[0]


def test_warm_up():
    settings = ("--set", "warm_up_lr=0.01", "--set", "warm_up_iterations=400")

    result = run("-", *settings, "--only", "solver_warmup", "--out", "-")

    assert "base_lr: 0.01" in result.stdout


def test_classes_and_finetuning():
    """Another name and number, and only then a higher rate."""
    only = ("--only", "train_val", "--out", "-")

    plain = read_prototxt(run("-", "--classes", "37", *only).stdout)
    tuned = read_prototxt(run("-", "--classes", "37", "--finetune", *only).stdout)
    same = read_prototxt(run("-", "--finetune", *only).stdout)

    for net, name, n, rates in (
        (plain, "fc37", 37, ()),
        (tuned, "fc37", 37, (10.0, 10.0)),
        (same, "fc1000_finetune", 1000, (10.0, 10.0)),
    ):
        (classifier,) = [layer for layer in net.layers if layer.type == "InnerProduct"]
        assert (classifier.name, classifier.num_output) == (name, n)
        assert tuple(p["lr_mult"] for p in classifier.fields.get("param", ())) == rates
        assert all(name in layer.bottoms for layer in net.layers[-3:])


def test_four_classes_have_no_top_5():
    """accuracy_layer.cpp ends Caffe."""
    four, five = (
        run("-", "--classes", n, "--only", "train_val", "--out", "-").stdout for n in "45"
    )

    assert "top_k" not in four
    assert "top_k: 5" in five


def test_other_content_stays(folder):
    assert run("-", "-o", "out").exit_code == 0
    path = folder / "out/solver.prototxt"
    ours = path.read_text()
    path.write_text("mine")

    refused = run("-", "-o", "out")

    assert refused.exit_code == 1
    assert "out/solver.prototxt exists with other content; --force" in refused.stderr
    assert "it, --out DIR writes elsewhere" in refused.stderr  # there is no --name
    assert path.read_text() == "mine"
    assert run("-", "-o", "out", "--force").exit_code == 0
    assert path.read_text() == ours
    assert "unchanged" in run("-", "-o", "out").stdout


def test_a_net_without_a_name(folder):
    assert run("-", stdin=NET.replace('name: "ResNet-18"', "")).exit_code == 0
    assert sorted(path.name for path in (folder / "generated/net").iterdir()) == sorted(FILES)


def test_grey_images_have_no_mean_of_three():
    text = to_prototxt(deploy_net(PRESETS["cifar-resnet-20"].spec))
    text = text.replace("input_dim: 3", "input_dim: 1")

    result = run("-", "--only", "train_val", "--out", "-", stdin=text)

    assert result.exit_code == 0
    assert "mean_value" not in result.stdout


SCORES = wild.data() + wild.conv("score", "data", 2, 1)
CHAIN = wild.data() + wild.layer("ReLU", "relu", "data")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (wild.data().replace("data", "info") + NET, "the net has the inputs info, data; one of im"),
        (CHAIN, "the net has no layer with weights"),
        (NET + wild.layer("ReLU", "r", "pool1"), "the net ends in prob, r; one blob of scores"),
        (
            "base_lr: 0.1",
            "stdin: a solver has one net to train, this one has none",
        ),
        (
            to_prototxt(to_train_val(read_prototxt(NET), RECIPES["imagenet"].training)),
            "the net has data or loss layers already; give a deploy net (`resnet-proto deploy`",
        ),
        (NET.replace("dim: 224 }", "dim: 320 }"), "Caffe crops squares"),
        (SCORES, "the scores 'score' are 1x2x224x224, one for each place of a map"),
    ],
)
def test_refused(text, message, folder):
    result = run("-", stdin=text)

    assert result.exit_code == 1
    assert message in result.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--set", "bacth=3"], 1, "the training: there is no field 'bacth'; did you mean batch?"),
        (["--set", "batch"], 1, "--set batch: write field=value"),
        (["--set", "batch=0"], 1, "the training: batch is 0; expected 1 to"),
        (["--out", "-"], 2, "--out - writes one file; choose it, as in --only train_val"),
        (["--out", "-", "--only", "train", "--json"], 2, "leave --json out"),
        (["--out", "solver.prototxt"], 2, "DIR is a folder; for one file, use stdout"),
        (
            ["--only", "solver_warmup"],
            2,
            "--only solver_warmup: this spec has none; training.warm_up_lr",
        ),
        (["--only", "deploy"], 2, "'deploy' is not one of"),
        (["--classes", "0"], 2, "'0' is not a whole number of 1 or more"),
    ],
)
def test_usage(arguments, status, message, folder):
    result = run("-", *arguments)

    assert result.exit_code == status
    assert message in result.stderr
    assert list(folder.iterdir()) == []


def test_a_name_that_is_no_folder_needs_one():
    text = NET.replace("ResNet-18", "../up")

    result = run("-", stdin=text)

    assert result.exit_code == 2
    assert "'../up' cannot be the name of a folder; give --out DIR" in result.stderr
    assert run("-", "--out", "out", stdin=text).exit_code == 0


@pytest.mark.parametrize("task", ["segmentation", "localization"])
def test_files_of_other_tasks_are_those_of_gen(task, folder):
    spec = for_task(PRESETS["resnet-18"].spec, task)

    result = run("-", "--out", "out", stdin=to_prototxt(deploy_net(spec)))

    assert result.exit_code == 0, result.output
    for name, text in generate(spec).items():
        if name != "deploy.prototxt":
            assert (folder / "out" / name).read_text() == text
    refused = run("-", "--set", "data=lmdb", stdin=to_prototxt(deploy_net(spec)))
    assert f"task {task} goes with data hdf5 or dummy; it is lmdb" in refused.stderr
