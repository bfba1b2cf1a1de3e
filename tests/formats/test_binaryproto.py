"""Means of images: what Caffe's tools write and pycaffe reads, and damaged files."""

import json
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner
from oracles.training import load as load_net
from oracles.training import make_lmdb
from wire import field, legacy, packed, shape, unpacked

from resnet_proto import random_weights, read_prototxt, save
from resnet_proto.cli import main
from resnet_proto.errors import FormatError
from resnet_proto.formats import binaryproto
from resnet_proto.formats.binaryproto import read, write
from resnet_proto.preprocess import read_mean_file

RNG = np.random.default_rng(0)
MEAN = RNG.uniform(90, 130, (3, 4, 5)).astype(np.float32)
TO_ARRAY = """
import sys, numpy as np
from caffe.io import array_to_blobproto, blobproto_to_array
from caffe.proto.caffe_pb2 import BlobProto
blob = BlobProto()
blob.ParseFromString(open(sys.argv[1], "rb").read())
array = blobproto_to_array(blob)
np.save(sys.argv[2], array)
open(sys.argv[3], "wb").write(array_to_blobproto(array).SerializeToString())
"""
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label"
        data_param { source: "images" backend: LMDB batch_size: 2 }
        transform_param { mean_file: "mean.binaryproto" } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }
"""


NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 4 } }
"""


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mean.binaryproto"


VALUES = MEAN.ravel().tolist()
FORMS = {
    "old sizes": (legacy(1, 3, 4, 5) + packed(5, *VALUES), (1, 3, 4, 5), "f4"),
    "sizes last": (packed(5, *VALUES) + legacy(1, 3, 4, 5), (1, 3, 4, 5), "f4"),
    "a shape": (shape(3, 4, 5) + packed(5, *VALUES), (3, 4, 5), "f4"),
    "a shape last": (packed(5, *VALUES) + shape(1, 3, 4, 5), (1, 3, 4, 5), "f4"),
    "doubles": (legacy(1, 3, 4, 5) + packed(8, *VALUES), (1, 3, 4, 5), "f8"),
    "doubles go first": (legacy(1, 3, 4, 5) + packed(5, 1) + packed(8, *VALUES), (1, 3, 4, 5),
                         "f8"),
    "unpacked": (legacy(1, 3, 4, 5) + unpacked(5, *VALUES), (1, 3, 4, 5), "f4"),
    "old sizes go first": (shape(60) + legacy(1, 3, 4, 5) + packed(5, *VALUES), (1, 3, 4, 5), "f4"),
    "no shape": (packed(5, *VALUES), (60,), "f4"),
    "diff": (legacy(1, 3, 4, 5) + packed(5, *VALUES) + packed(6, *VALUES), (1, 3, 4, 5), "f4"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms(path, name):
    """Whatever a BlobProto holds them in: blob.cpp, FromProto."""
    content, sizes, dtype = FORMS[name]
    path.write_bytes(content)

    mean = read(path)

    assert (mean.shape, mean.dtype) == (sizes, dtype)
    assert mean.ravel().tolist() == VALUES
    assert read_mean_file(path).dtype == np.float32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (legacy(1, 3, 4, 4) + packed(5, *VALUES), "offset 0: the blob is 1x3x4x4 and has 60"),
        (legacy(1, 3, 4, 5) + packed(5, *VALUES)[:-2], "needs 240 bytes, 238 are left"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file, not a binaryproto"),
        (field(8, 5) + field(2, b"x"), "offset|is a"),
        (b"", "an empty file"),
    ],
)
def test_damaged(path, content, words):
    path.write_bytes(content)

    with pytest.raises(FormatError, match=words):
        read(path)


def test_there_and_back(path, tmp_path):
    """To .npy with the four axes of blobproto_to_array, and the same bytes again."""
    write(path, MEAN)

    there = run("convert", path, tmp_path / "mean.npy")
    back = run("convert", tmp_path / "mean.npy", tmp_path / "again.binaryproto")

    assert (there.exit_code, back.exit_code) == (0, 0), there.output + back.output
    assert there.stderr == (
        f"wrote {tmp_path / 'mean.npy'}: a mean of 1x3x4x5, 240 bytes of values, read back equal\n"
    )
    array = np.load(tmp_path / "mean.npy")
    assert (array.shape, array.tobytes()) == ((1, 3, 4, 5), MEAN.tobytes())
    assert (tmp_path / "again.binaryproto").read_bytes() == path.read_bytes()
    assert path.read_bytes() == legacy(1, 3, 4, 5) + packed(5, *VALUES)


def test_not_read_back(path, tmp_path, monkeypatch):
    """What is said is of what was written; without --no-verify another file would be an error."""
    np.save(tmp_path / "mean.npy", np.ones((2, 4, 5), np.uint8))
    right = binaryproto.write

    def wrong(path, array, **options):
        written = right(path, array, **options)
        right(path, array + 1)
        return written

    monkeypatch.setattr(binaryproto, "write", wrong)

    refused = run("convert", tmp_path / "mean.npy", path, "--force")
    said = run("convert", tmp_path / "mean.npy", path, "--no-verify", "--force")
    shown = run("convert", tmp_path / "mean.npy", path, "--no-verify", "--force", "--json")

    assert (refused.exit_code, "read back, it differs" in refused.stderr) == (1, True)
    assert said.stderr == f"wrote {path}: a mean of 1x2x4x5, 160 bytes of values\n"
    assert json.loads(shown.stdout) == {
        "file": str(path), "shape": [1, 2, 4, 5], "bytes": 160, "verified": False
    }  # fmt: skip


def test_doubles_stay_doubles(path, tmp_path):
    np.save(tmp_path / "mean.npy", MEAN.astype(">f8") / 3)

    assert run("convert", tmp_path / "mean.npy", path, "--json").exit_code == 0

    assert read(path).tolist() == (MEAN.astype("f8") / 3)[None].tolist()


@pytest.mark.parametrize("sizes", [(3,), (2, 3, 4, 5), (4, 5), ()])
def test_what_no_mean_is(path, tmp_path, sizes):
    np.save(tmp_path / "mean.npy", np.ones(sizes))
    assert "a mean is CxHxW or 1xCxHxW" in run("convert", tmp_path / "mean.npy", path).stderr
    assert not path.exists()

    np.save(tmp_path / "mean.npy", np.ones((2, 4, 5), np.uint8))
    assert run("convert", tmp_path / "mean.npy", path).exit_code == 0
    assert (read(path).dtype, read(path).shape) == (np.float32, (1, 2, 4, 5))


def test_to_a_weight_file(path, tmp_path):
    write(path, MEAN)
    result = run("convert", path, tmp_path / "mean.npz")
    assert result.exit_code == 1
    assert "a mean is written as .binaryproto or .npy" in result.stderr
    other = run("convert", path, tmp_path / "mean.npy", "--to", "npz")
    assert other.exit_code == 2
    assert "a mean takes no --to and no --net" in other.stderr
    stdout = run("convert", path, "-")
    assert stdout.exit_code == 2
    assert "OUT is -: a mean is written to a file, .binaryproto or .npy" in stdout.stderr


def test_weights_are_no_mean(tmp_path):
    """A wrong suffix is said to be that; a mean is known by its content too."""
    net = read_prototxt(NET)
    save(tmp_path / "w.caffemodel", random_weights(net), net)
    write(tmp_path / "mean.binaryproto", np.repeat(MEAN, 9, 2))
    mean = (tmp_path / "mean.binaryproto").rename(tmp_path / "mean")

    refused = run("convert", tmp_path / "w.caffemodel", tmp_path / "x.npy")

    assert refused.exit_code == 1
    assert "x.npy: no format is called 'npy'; known: caffemodel, npz" in refused.stderr
    assert run("convert", mean, tmp_path / "x.npy").exit_code == 0
    piped = run("convert", "-", tmp_path / "y.npy", stdin=mean.read_bytes())
    assert piped.exit_code == 0, piped.output
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()
    assert np.load(tmp_path / "x.npy").tobytes() == np.repeat(MEAN, 9, 2).tobytes()


def test_inspect(path):
    write(path, MEAN)

    text = run("inspect", path)
    found = json.loads(run("inspect", path, "--json").stdout)

    assert text.stdout.splitlines()[-1] == f"{path}: 1x3x4x5, float32, 240 bytes"
    assert [line.split()[0] for line in text.stdout.splitlines()[2:-1]] == ["0", "1", "2"]
    assert found["shape"] == [1, 3, 4, 5]
    means = [channel["mean"] for channel in found["channels"]]
    np.testing.assert_allclose(means, MEAN.mean((1, 2), np.float64), rtol=1e-6)
    assert [channel["max"] for channel in found["channels"]] == MEAN.max((1, 2)).tolist()


def test_pycaffe_sees_the_same(path, tmp_path, caffe_python):
    """blobproto_to_array of ours, and ours of array_to_blobproto."""
    write(path, MEAN)
    theirs = tmp_path / "theirs.binaryproto"

    subprocess.run([caffe_python, "-c", TO_ARRAY, path, tmp_path / "x.npy", theirs], check=True)

    array = np.load(tmp_path / "x.npy")
    assert array.shape == read(path).shape == (1, 3, 4, 5)
    assert array.astype("f4").tobytes() == read(theirs).tobytes() == MEAN.tobytes()
    assert "1x3x4x5, float32" in run("inspect", theirs).stdout


def test_a_mean_of_compute_image_mean(path, tmp_path, caffe_binary):
    """What Caffe's own tool makes of images, and its Data layer of our file."""
    images = RNG.integers(0, 256, (7, 3, 4, 5), np.uint8)
    make_lmdb(tmp_path / "images", images, np.zeros(7, int))
    tool = caffe_binary.with_name("compute_image_mean")

    subprocess.run([tool, tmp_path / "images", path], check=True, capture_output=True)

    mean = read(path)
    np.testing.assert_allclose(mean[0], images.mean(0), rtol=1e-6)
    before = path.read_bytes()
    write(path, mean)
    assert path.read_bytes() == before
    status, log = load_net(caffe_binary, tmp_path, DATA, "TRAIN")
    assert status == 0, log[-2000:]
