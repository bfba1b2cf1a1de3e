"""What lies in examples/ is what its pages say."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from resnet_proto import forward, load, read_prototxt
from resnet_proto.cli import main
from resnet_proto.training_log import TEST, read_log

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
WRITTEN = ("deploy.prototxt", "train_val.prototxt", "solver.prototxt", "train.sh")


@pytest.fixture(scope="module")
def images():
    """The 64 images as the net takes them, (N, 1, 8, 8), and their labels."""
    lines = (DIGITS / "labels.txt").read_text().splitlines()
    paths, labels = zip(*(line.split() for line in lines), strict=True)
    pixels = np.stack([np.asarray(Image.open(DIGITS / path)) for path in paths])
    return (pixels[:, None].astype(np.float32) - 78) * np.float32(0.0125), np.array(labels, int)


def test_the_digits_files_are_those_of_their_spec(tmp_path):
    args = ["gen", "--spec", str(DIGITS / "digits.toml"), "--out", str(tmp_path)]
    assert CliRunner().invoke(main, args).exit_code == 0
    for name in WRITTEN:
        assert (tmp_path / name).read_bytes() == (DIGITS / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(WRITTEN)


def test_the_digits_are_read(images):
    """All 64, each class among them; a net with other weights does not."""
    inputs, labels = images
    assert np.bincount(labels, minlength=10).min() >= 3
    net = read_prototxt(DIGITS / "deploy.prototxt").with_input_shapes({"data": inputs.shape})
    weights = load(DIGITS / "digits.caffemodel")
    found = forward(net, weights, {"data": inputs})["prob"]
    assert (found.argmax(1) == labels).sum() == len(labels) == 64
    other = {name: -value for name, value in weights.items()}
    assert (forward(net, other, {"data": inputs})["prob"].argmax(1) == labels).sum() < 32


def test_the_digits_in_the_real_caffe(caffe_python):
    """Every blob, on a random input."""
    done = subprocess.run(
        [sys.executable, "-m", "resnet_proto", "verify", DIGITS / "deploy.prototxt", "--weights",
         DIGITS / "digits.caffemodel", "--against", "caffe", "--caffe-python", caffe_python],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "38 blobs within 1e-05" in done.stdout


def test_the_digits_log():
    """97 % at least; the log has all tests of the training."""
    with (DIGITS / "train.log").open() as file:
        run = read_log(file)
    (*_, (last, accuracy)) = run.outputs(TEST)["accuracy_top1"]
    assert (run.end, run.max_iter, last) == ("done", 631, 630)
    assert accuracy == pytest.approx(0.991, abs=5e-4)
    assert len(run.outputs(TEST)["loss"]) == 631 // 42
    assert (DIGITS / "digits.caffemodel").stat().st_size < 1.5e6
    assert "error (%)" in (DIGITS / "curve.svg").read_text()


def test_degradation_at_small_scale(caffe_binary, tmp_path):
    """Four nets, ten iterations; done again, nothing is trained again."""
    names = ["plain-20", "plain-56", "resnet-20", "resnet-56"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "CAFFE": str(caffe_binary), "PATH": path, "SEEDS": "3", "ITERATIONS": "10"}
    command = ["bash", DIGITS.parent / "degradation" / "run.sh", tmp_path / "out"]
    for trained in (names, []):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines() if "+-" in line]
        assert [row[:2] for row in rows] == [[name, "1"] for name in names]
        assert all(0.5 < float(row[2]) < 10 and 50 < float(row[5]) < 100 for row in rows), rows
        found = [line for line in done.stderr.splitlines() if line.endswith("-seed-3")]
        assert sorted(found) == [f"{name}-seed-3" for name in trained]
    assert (tmp_path / "out" / "curves.svg").exists()
