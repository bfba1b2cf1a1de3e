"""From images to a curve in the real Caffe: digits, the commands as a reader types them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from oracles.training import run_caffe

from resnet_proto.training_log import TEST, TRAIN, read_log

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "resnet_proto"]
SHORT = ["training.epochs=2.86", "training.drops=2", "training.test_epochs=0.953",
         "training.snapshot_epochs=0.953"]  # fmt: skip
"""60 iterations of 21 an epoch, with a test and a snapshot each 20."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the two databases of digits."""
    folder = tmp_path_factory.mktemp("digits")
    command("data", "lmdb", "digits", "train_lmdb", "--gray", "--pad", "1", "--split", "test=0.25",
            cwd=folder)  # fmt: skip
    return folder


def command(*args, cwd):
    """What a command of ours prints."""
    done = subprocess.run(
        [*COMMAND, *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settings(values):
    return [arg for value in values for arg in ("--set", value)]


def test_sixty_iterations(caffe_binary, place):
    """Most digits are read after them; `log` tells what Caffe did; the curve is drawn."""
    spec = ROOT / "examples" / "digits" / "digits.toml"
    command("gen", "--spec", spec, *settings(SHORT), "--out", "digits", cwd=place)
    assert "nothing found" in command("check", "digits/solver.prototxt", cwd=place)
    with (place / "digits/solver.prototxt").open("a") as file:
        file.write("random_seed: 1\n")
    env = {**os.environ, "CAFFE": str(caffe_binary), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "digits/train.sh"], cwd=place, env=env, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (place / "digits/logs").iterdir()
    (run,) = json.loads(command("log", log, "--plot", "curve.svg", "--json", cwd=place))
    assert (run["net"], run["max_iter"], run["end"]) == ("Digits-ResNet-20", 60, "done")
    accuracy = {
        row["iteration"]: row["values"]["accuracy_top1"]
        for row in run["rows"] if row["phase"] == TEST
    }  # fmt: skip
    assert list(accuracy) == [20, 40, 60]
    assert accuracy[60] > 0.6 > 0.3 > accuracy[20] - 0.3
    losses = [row["values"]["loss"] for row in run["rows"] if "loss" in row["values"]]
    assert min(losses) < 0.5 * losses[0]
    assert (place / "curve.svg").exists()
    assert (place / "digits/digits-resnet-20_iter_60.caffemodel").exists()


def test_other_data_is_found_before_the_hours(place):
    """A net for other images, other classes, or other numbers of images than the database has."""
    spec = ROOT / "examples" / "digits" / "digits.toml"
    for change, words in (
        ("input_size=16", "crop"),
        ("classes=5", "label"),
        ("training.train_images=5000", "1,347"),
    ):
        folder = re.sub(r"\W", "_", change)
        command("gen", "--spec", spec, *settings([change]), "--out", folder, cwd=place)
        done = subprocess.run(
            [*COMMAND, "check", f"{folder}/solver.prototxt"], cwd=place, stdout=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
        assert words in done.stdout, (change, done.stdout)
        assert "nothing found" not in done.stdout


def test_fine_tuning_a_released_trunk(caffe_binary, half_width, place):
    """The half-width ResNet-50, trained further on 18 digits of 224x224: its loss goes down."""
    net, weights = half_width
    shutil.copy(weights, place / "half.caffemodel")
    command("data", "lmdb", "digits", "large_lmdb", "--resize", "warp:224", "--split", "val=0.99",
            cwd=place)  # fmt: skip
    command(
        "train-val", net, "--classes", "10", "--finetune",
        *settings(["weights=../half.caffemodel", "data=lmdb", "train_source=../large_lmdb",
                   "test_source=../val_lmdb", "batch=9", "gpus=1", "solver_mode=CPU",
                   "base_lr=0.001", "train_images=18", "test_images=1779"]),
        "--out", "tuned", cwd=place,
    )  # fmt: skip
    solver = place / "tuned" / "solver.prototxt"
    text = re.sub(r"(?m)^(max_iter|display|test_iter|test_interval|snapshot|stepvalue): .*\n", "",
                  solver.read_text())  # fmt: skip
    solver.write_text(
        text + "max_iter: 12\ndisplay: 1\nrandom_seed: 1\nsnapshot_after_train: false\n"
    )
    status, log = run_caffe(
        caffe_binary, place / "tuned", "train", "-solver", "solver.prototxt", "-weights",
        "../half.caffemodel",
    )  # fmt: skip
    assert status == 0, log[-2000:]
    losses = [value for _, value in read_log(log.splitlines()).outputs(TRAIN)["loss"]]
    assert len(losses) == 12
    print(losses)
    print(losses)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3]), losses
