"""The command line of `bn-stats`."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import forward, load, read_prototxt
from resnet_proto.cli import main
from resnet_proto.data.sources import find_images

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
GREY = ["--channels", "GRAY", "--mean", "78", "--scale", "0.0125"]


def run(*args, status=0):
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the database that the digits example is trained with."""
    folder = tmp_path_factory.mktemp("digits")
    args = ["data", "lmdb", "digits", folder / "train_lmdb", "--gray", "--pad", "1"]
    run(*args, "--split", "test=0.25")
    return folder


def test_statistics_of_a_trained_net(place, tmp_path):
    """Those that Caffe left behind are about the strict ones; digits are read as well as before."""
    out = tmp_path / "strict.caffemodel"
    net = DIGITS / "train_val.prototxt"
    args = ["bn-stats", net, "--weights", DIGITS / "digits.caffemodel", "--out", out, "--jobs", 1]

    said = run(*args, "--data", place / "train_lmdb", "--batches", 8)

    kept = out.read_bytes()
    refused = run(*args, "--data", place / "train_lmdb", "--batches", 2, status=1)
    assert refused == f"Error: {out} exists already; --force overwrites it\n"
    assert out.read_bytes() == kept
    of = f"8 batches of 64 images of {place / 'train_lmdb'}; 835 of 1,347 images left out"
    assert f"{of}\n19 BatchNorms: " in said
    assert said.endswith(f"wrote {out}\n")
    assert float(re.search("at most (.*) standard", said)[1]) < 0.1
    before, after = load(DIGITS / "digits.caffemodel"), load(out)
    assert list(after) == list(before)
    assert {key for key in after if not np.array_equal(after[key], before[key])} == {
        key for key in after if key.endswith((".mean", ".variance", ".scale_factor"))
    }
    images = find_images("digits")
    x = np.stack([images.read(i) for i in range(450)])[:, None].astype(np.float32)
    deploy = read_prototxt(DIGITS / "deploy.prototxt").with_input_shapes({"": x.shape})
    right = [
        (
            forward(deploy, weights, (x - 78) * 0.0125)["prob"].argmax(1) == images.labels[:450]
        ).mean()
        for weights in (before, after)
    ]
    assert min(right) > 0.97


def test_a_deploy_net_as_json(place, tmp_path):
    """The net carries its text with its weights; image options say what becomes of an image."""
    start, out = tmp_path / "start.npz", tmp_path / "out.npz"
    run("convert", DIGITS / "digits.caffemodel", start, "--net", DIGITS / "deploy.prototxt")
    args = ["bn-stats", start, "--weights", start, "--out", out, "--data", "digits", *GREY]

    said = json.loads(run(*args, "--batch", 100, "--batches", 2, "--json", "--jobs", 1))

    assert (said["batches"], said["batch"], said["images_left_out"]) == (2, 100, 1597)
    assert len(said["layers"]) == 19
    assert said["layers"]["bn_conv1"].keys() == {"mean", "variance_min", "variance_max"}
    one = load(out)
    assert one["bn_conv1.scale_factor"] == 1
    run(*args, "--batch", 100, "--batches", 2, "--jobs", 2, "--force")
    assert all(np.array_equal(value, one[key]) for key, value in load(out).items())
    refused = run(*args, "--batch", 1800, "--force", status=1)
    assert "digits: 1,797 images, a batch has 1800" in refused


def test_a_released_model(half_width, tmp_path):
    """It brings its image options; its old blobs of four axes stay so."""
    net, weights = half_width
    args = ["bn-stats", net, "--weights", weights, "--data", "digits", "--jobs", 1]
    small = ["--batch", 2, "--batches", 1]

    said = run(*args, *small, "--out", tmp_path / "a.caffemodel")
    run(*args, *small, "--preprocess", "open-nsfw", "--out", tmp_path / "b.caffemodel")
    run(*args, *small, "--preprocess", "caffe", "--out", tmp_path / "c.caffemodel")

    assert "is open_nsfw" in said
    a, b, c, before = map(load, [*(tmp_path / f"{x}.caffemodel" for x in "abc"), weights])
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not np.array_equal(a["bn_1.mean"], c["bn_1.mean"])
    assert [blob.shape for blob in a.blobs.values()] == [b.shape for b in before.blobs.values()]


def test_image_options_of_a_data_layer(place, tmp_path):
    """It says so itself."""
    args = ["bn-stats", DIGITS / "train_val.prototxt", "--weights", DIGITS / "digits.caffemodel",
            "--out", tmp_path / "out.npz", "--data", place / "train_lmdb"]  # fmt: skip

    assert "leave image options out" in run(*args, "--mean", "78", status=1)
    assert not (tmp_path / "out.npz").exists()


def test_what_could_not_be_written_is_said_first(place, tmp_path):
    """Before the work; of an image its name in the list, then the place where it was looked for."""
    text = (DIGITS / "train_val.prototxt").read_text()
    assert text.count("num_output: 10\n") == 1
    (tmp_path / "twelve.prototxt").write_text(text.replace("num_output: 10\n", "num_output: 12\n"))
    too_many = ["--weights", DIGITS / "digits.caffemodel", "--data", "digits", "--batch", 1798]
    (tmp_path / "list.txt").write_text("none.png 0\n" * 4)
    listed = ["--weights", DIGITS / "digits.caffemodel", "--data", tmp_path / "list.txt"]

    def said(net, options, out, status=1):
        return run("bn-stats", net, *options, "--out", tmp_path / out, status=status)

    net = DIGITS / "train_val.prototxt"
    assert "--out" in said(net, too_many, "x.onnx", 2)
    assert "layer 'fc10' does not fit" in said(tmp_path / "twelve.prototxt", too_many, "x.npz")
    assert "1,797 images, a batch has 1798" in said(net, too_many, "x.npz")  # the twin
    missing = said(net, [*listed, "--batch", 4], "x.npz")
    assert missing.startswith("Error: none.png: cannot be read: No such file or directory: ")
    assert missing.count(f"{tmp_path}/none.png") == 1, missing
    assert "--preprocess" in said(DIGITS / "deploy.prototxt", [*too_many, *GREY[:2]], "x.npz")


def test_an_empty_database(place, tmp_path):
    import lmdb

    lmdb.open(str(tmp_path / "none")).close()
    args = ["bn-stats", DIGITS / "train_val.prototxt", "--weights", DIGITS / "digits.caffemodel",
            "--out", tmp_path / "out.npz", "--data", tmp_path / "none"]  # fmt: skip

    assert "there are no images in it" in run(*args, status=1)


def test_a_run_that_is_killed(place, tmp_path):
    """The same command goes on from there, with other workers, to the same bytes."""
    net = DIGITS / "train_val.prototxt"
    args = ["bn-stats", net, "--weights", DIGITS / "digits.caffemodel", "--data",
            place / "train_lmdb", "--batch", 16]  # fmt: skip
    kept = tmp_path / "kept"
    command = [sys.executable, "-m", "resnet_proto", *args, "--out", tmp_path / "x.npz",
               "--keep", kept, "--jobs", 2]  # fmt: skip
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    while process.poll() is None and len(list(kept.glob("shard-*.npz"))) < 3:
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = len(list(kept.glob("shard-*.npz")))
    assert 3 <= done < 84

    run(*args, "--out", tmp_path / "a.npz", "--keep", kept, "--jobs", 1)
    run(*args, "--out", tmp_path / "b.npz", "--jobs", 2)

    a, b = load(tmp_path / "a.npz"), load(tmp_path / "b.npz")
    assert all(np.array_equal(a[key], b[key]) for key in a)
