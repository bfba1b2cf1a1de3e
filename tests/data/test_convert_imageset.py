"""What we write is what Caffe's own tools write, and what its Data layer reads."""

import subprocess

import numpy as np
import pytest
from oracles.training import run_caffe
from PIL import Image
from small_images import held, pixels, trees, write_kinds, written

from resnet_proto.data.mean import mean_of
from resnet_proto.formats.binaryproto import read, write

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "{}" backend: LMDB batch_size: {} }} }}
layer {{ name: "out" type: "HDF5Output" bottom: "data" bottom: "label"
        hdf5_output_param {{ file_name: "out.h5" }} }}
"""


@pytest.fixture(scope="module")
def tools(caffe_binary):
    """The folder of convert_imageset and compute_image_mean."""
    assert (caffe_binary.parent / "convert_imageset").exists()
    return caffe_binary.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    write_kinds(folder)
    return folder


def theirs(tools, folder, out, *options, root="./", list_="list.txt"):
    command = [tools / "convert_imageset", *options, root, list_, out]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return held(out)


@pytest.mark.parametrize("options", [[], ["--gray"]], ids=["colours", "gray"])
def test_records_are_those_of_convert_imageset(tools, folder, tmp_path, options):
    """Byte for byte, keys and values, of every kind of image."""
    written(folder / "list.txt", tmp_path / "ours", grey=bool(options), jobs=2)

    ours, other = held(tmp_path / "ours"), theirs(tools, folder, tmp_path / "theirs", *options)

    assert [key for key, _ in ours] == [key for key, _ in other]
    assert [key for (key, a), (_, b) in zip(ours, other, strict=True) if a != b] == []
    assert len(ours) == 17


KEPT = ["rgb.png", "wide r g b.png", "rgb.jpg", "progressive.jpg"]
KEPT_GREY = ["grey.png", "grey.jpeg"]


@pytest.mark.parametrize(
    ("options", "kept"), [([], KEPT), (["--gray"], KEPT_GREY)], ids=["colours", "gray"]
)
def test_encoded_records_are_those_of_convert_imageset(tools, folder, tmp_path, options, kept):
    """Where Caffe gets from the file what it would get of pixels; the others are encoded again.

    convert_imageset keeps all files as they are. Caffe neither turns them nor drops alpha, and
    ends at an image of other channels than the first.
    """
    written(folder / "list.txt", tmp_path / "ours", grey=bool(options), encoded=True)

    other = dict(theirs(tools, folder, tmp_path / "theirs", "--encoded", *options))
    ours = dict(held(tmp_path / "ours"))
    same = [key[9:].decode() for key in ours if ours[key] == other[key]]
    assert same == kept


@pytest.mark.parametrize("grey", [False, True])
def test_caffe_reads_encoded_images_as_pixels(caffe_binary, folder, tmp_path, grey):
    """Of all kinds, in one batch, without ``force_color``; those that are not lossy."""
    import h5py

    names = [
        "rgb.png", "grey.png", "rgba.png", "la.png", "palette.png", "clear.png", "deep.png",
        "bits.png", "x.bmp",
    ]  # fmt: skip
    (tmp_path / "list.txt").write_text("".join(f"{x} {i}\n" for i, x in enumerate(names)))
    for encoded in (True, False):
        out = tmp_path / str(encoded)
        written(tmp_path / "list.txt", out, grey=grey, encoded=encoded, root=folder)

    status, log = read_by_caffe(caffe_binary, tmp_path, "True", len(names))

    assert status == 0, log
    with h5py.File(tmp_path / "out.h5") as file:
        got = file["data"][:].astype(np.uint8)
        assert file["label"][:].reshape(-1).tolist() == list(range(len(names)))
    expected = trees(tmp_path / "False")
    assert got.shape == (len(names), 1 if grey else 3, 7, 5)
    for name, image in zip(names, got, strict=True):
        assert image.tobytes() == expected[name]["data"], name


def read_by_caffe(binary, folder, name, batch):
    """Have Caffe read one batch of a database into out.h5."""
    (folder / "net.prototxt").write_text(NET.format(name, batch))
    (folder / "w.caffemodel").write_bytes(b"")  # an empty message
    return run_caffe(
        binary, folder, "test", "-model", "net.prototxt", "-weights", "w.caffemodel",
        "-iterations", "1",
    )  # fmt: skip


def test_a_resize_is_near_to_theirs(tools, tmp_path):
    """Pillow averages where it shrinks and OpenCV does not; where it enlarges both interpolate."""
    Image.fromarray(pixels(0, 8, 6)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png 0\n")
    written(tmp_path / "list.txt", tmp_path / "ours", resize=(16, 18))

    sizes = ["--resize_height", "16", "--resize_width", "18"]
    ours, other = held(tmp_path / "ours"), theirs(tools, tmp_path, tmp_path / "theirs", *sizes)

    (a,), (b,) = trees(tmp_path / "ours").values(), trees(tmp_path / "theirs").values()
    assert (a["height"], a["width"]) == (b["height"], b["width"]) == (16, 18)
    difference = np.frombuffer(a["data"], np.uint8).astype(int) - np.frombuffer(b["data"], np.uint8)
    assert np.abs(difference).max() <= 1
    assert ours[0][0] == other[0][0]


def test_a_cmyk_image_is_near_to_theirs(tools, tmp_path):
    """Two conversions of ink to light, each rounded: at most two grey levels apart."""
    smooth = Image.fromarray(np.kron(pixels(3, 9, 7), np.ones((5, 5, 1), np.uint8)))
    smooth.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "list.txt").write_text("a.jpg 0\n")
    written(tmp_path / "list.txt", tmp_path / "ours")
    theirs(tools, tmp_path, tmp_path / "theirs")

    (a,), (b,) = trees(tmp_path / "ours").values(), trees(tmp_path / "theirs").values()
    difference = np.frombuffer(a["data"], np.uint8).astype(int) - np.frombuffer(b["data"], np.uint8)
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("encoded", [False, True])
def test_the_mean_is_compute_image_means(tools, folder, tmp_path, encoded):
    """Bit for bit, of pixels and of encoded images."""
    names = ["rgb.png", "x.bmp", "rgba.png", "palette.png", "grey.png"]
    (tmp_path / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
    written(tmp_path / "list.txt", tmp_path / "db", root=folder, encoded=encoded)

    ours = mean_of(tmp_path / "db")
    write(tmp_path / "ours.binaryproto", ours)

    run = [tools / "compute_image_mean", tmp_path / "db", tmp_path / "theirs.binaryproto"]
    log = subprocess.run(run, check=True, capture_output=True, text=True).stderr
    assert ours.shape == (3, 7, 5)
    assert read(tmp_path / "theirs.binaryproto").tobytes() == ours.tobytes()
    content = (tmp_path / "ours.binaryproto").read_bytes()
    assert content == (tmp_path / "theirs.binaryproto").read_bytes()
    for c, channel in enumerate(ours):
        assert f"mean_value channel [{c}]: {channel.mean():.6g}" in log


def test_caffe_reads_what_we_wrote(caffe_binary, tmp_path):
    """Pixels and labels of digits, in our order; labels.txt in the folder is no matter."""
    import h5py

    (at, _) = written("digits", tmp_path / "db", resize=(9, 11), shuffle=True, split=("val", 0.5))
    assert (tmp_path / "db" / "labels.txt").read_text() == "".join(f"{i}\n" for i in range(10))

    status, log = read_by_caffe(caffe_binary, tmp_path, "db", at.images)

    assert status == 0, log
    with h5py.File(tmp_path / "out.h5") as file:
        data, labels = file["data"][:], file["label"][:].reshape(-1)
    ours = list(trees(tmp_path / "db").values())
    assert data.shape == (len(ours), 3, 9, 11)
    assert data.astype(np.uint8).tobytes() == b"".join(tree["data"] for tree in ours)
    assert labels.tolist() == [tree.get("label", 0) for tree in ours]
