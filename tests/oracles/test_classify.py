"""What `classify` and ``Classifier`` say, against pycaffe on the same arrays.

Views are cut by pycaffe's own caffe.io.oversample; nets are run by caffe.Net, not by our child.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from oracles.test_released import photograph
from PIL import Image

from resnet_proto import Classifier, load, read_prototxt
from resnet_proto.cli import main
from resnet_proto.engine import ENGINES
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.evaluate.views import Views
from resnet_proto.preprocess import PRESETS, ImageOptions

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
OPTIONS = ["--channels", "GRAY", "--mean", "78", "--scale", "0.0125"]
GREY = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY")
OVERSAMPLE = """
import sys, numpy as np, caffe
size = tuple(map(int, sys.argv[3].split(",")))
images = np.load(sys.argv[1])
crops = [caffe.io.oversample([images[name].transpose(1, 2, 0)], size) for name in images.files]
np.savez(sys.argv[2], *[crop.transpose(0, 3, 1, 2) for crop in crops])
"""
FORWARD = """
import sys, numpy as np, caffe
net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
x = np.load(sys.argv[3])
net.blobs["data"].reshape(*x.shape)
net.blobs["data"].data[...] = x
np.save(sys.argv[4], net.forward()["prob"])
"""


MAPS = """
import sys, numpy as np, caffe
whole = caffe.Net(sys.argv[1], sys.argv[3], caffe.TEST)
net = caffe.Net(sys.argv[2], sys.argv[3], caffe.TEST)
images, found = np.load(sys.argv[4]), []
for name in images.files:
    net.blobs["data"].reshape(*images[name].shape)
    net.blobs["data"].data[...] = images[name]
    found.append(net.forward()["pool"].copy())
weight, bias = (blob.data for blob in whole.params["fc_nsfw"])
np.savez(sys.argv[5], weight, bias, *found)
"""


def run(python, code, *arguments):
    command = [python, "-c", code, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def arrays_of(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


def oversample(python, folder, arrays, size):
    """Ten crops of each (C, H, W), cut by pycaffe."""
    np.savez(folder / "in.npz", *arrays)
    run(python, OVERSAMPLE, folder / "in.npz", folder / "out.npz", ",".join(map(str, size)))
    return arrays_of(folder / "out.npz")


def in_caffe(python, folder, net, weights, x):
    """The probabilities of a batch."""
    np.save(folder / "in.npy", x)
    run(python, FORWARD, net, weights, folder / "in.npy", folder / "out.npy")
    return np.load(folder / "out.npy")


def test_ten_crops_are_pycaffes(caffe_python, tmp_path):
    """In its order, at its coordinates, where the rest is odd and where there is none."""
    rng, views = np.random.default_rng(0), Views((1, 3, 7, 5), ImageOptions(crop=256), 10)
    sizes = [(12, 10), (13, 10), (12, 8), (7, 6), (7, 5)]
    arrays = [rng.normal(size=(3, *size)).astype(np.float32) for size in sizes]

    for x, theirs in zip(arrays, oversample(caffe_python, tmp_path, arrays, (7, 5)), strict=True):
        np.testing.assert_array_equal(np.stack(list(views.of(x, "x"))), theirs)


@pytest.fixture(scope="module")
def digits_in_caffe(caffe_python, tmp_path_factory):
    """The probabilities of the 64 images, in pycaffe; the arrays are made by hand."""
    images = [Image.open(DIGITS / "images" / f"{i:02d}.png") for i in range(64)]
    x = np.stack([np.asarray(image, np.float32) for image in images])[:, None]
    x = (x - np.float32(78)) * np.float32(0.0125)
    files = (DIGITS / "deploy.prototxt", DIGITS / "digits.caffemodel")
    return in_caffe(caffe_python, tmp_path_factory.mktemp("digits"), *files, x)


@pytest.mark.parametrize("engine", ENGINES)
def test_digits(caffe_python, digits_in_caffe, monkeypatch, engine):
    """The command's top 5 in every engine: the classes in order, and their scores."""
    monkeypatch.setenv("CAFFE_PYTHON", caffe_python)
    if engine != "caffe":
        pytest.importorskip({"opencv": "cv2"}.get(engine, engine.replace("float64", "numpy")))
    arguments = [str(DIGITS / "deploy.prototxt"), "--weights", str(DIGITS / "digits.caffemodel")]

    result = CliRunner().invoke(
        main, ["classify", *arguments, *OPTIONS, "--engine", engine, "--json", f"{DIGITS}/images"]
    )

    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert len(rows) == len(digits_in_caffe) == 64
    for row, theirs in zip(rows, digits_in_caffe, strict=True):
        best = (-theirs).argsort(kind="stable")[:5]
        scores = [guess["score"] for guess in row["top"]]
        assert [guess["index"] for guess in row["top"]] == best.tolist()
        assert relative_l2(np.array(scores), theirs[best]) <= TOLERANCE


@pytest.fixture(scope="module")
def released(half_width):
    return (read_prototxt(half_width[0]), load(half_width[1])), half_width


def test_ten_crops_of_a_photograph(released, caffe_python, tmp_path):
    """A released net on a cat: the mean of pycaffe's probabilities of pycaffe's crops."""
    net, files = released
    options = PRESETS["open-nsfw"]
    photo = photograph(caffe_python)
    resized = Image.open(photo).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
    x = np.asarray(resized, np.float32)[:, :, ::-1] - np.float32([104, 117, 123])
    (crops,) = oversample(caffe_python, tmp_path, [x.transpose(2, 0, 1)], (224, 224))
    theirs = in_caffe(caffe_python, tmp_path, *files, crops)

    (ours,) = Classifier(*net, image=options, crops=10, batch=4).scores([photo])

    # logarithms: the net is so sure that probabilities alone would hide what differs
    assert np.ptp(np.log(theirs[:, 1])) > 1
    assert relative_l2(np.log(ours), np.log(theirs.mean(0, float))) <= TOLERANCE


def test_scales_of_a_photograph(released, caffe_python, tmp_path):
    """The map before the classifier is pycaffe's; the classifier at each place is a product."""
    net, files = released
    photo = photograph(caffe_python)
    image = Image.open(photo).convert("RGB")
    views = []
    for short in (224, 288):  # where 7x7 has 1x5 places, and 3x8
        size = tuple(round(side * short / min(image.size)) for side in image.size)
        x = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)[:, :, ::-1]
        x = (x - np.float32([104, 117, 123])).transpose(2, 0, 1)
        views.append(np.stack([x, x[:, :, ::-1]]))
    text, trunk = files[0].read_text(), tmp_path / "trunk.prototxt"
    trunk.write_text(text[: text[: text.index('"fc_nsfw"')].rindex("layer")])
    np.savez(tmp_path / "in.npz", *views)
    run(caffe_python, MAPS, files[0], trunk, files[1], tmp_path / "in.npz", tmp_path / "out.npz")
    weight, bias, *maps = (x.astype(np.float64) for x in arrays_of(tmp_path / "out.npz"))

    (ours,) = Classifier(*net, image=PRESETS["open-nsfw"], scales=(224, 288)).scores([photo])

    fc = np.concatenate([map_.mean((2, 3)) @ weight.T + bias for map_ in maps])
    probs = np.exp(fc) / np.exp(fc).sum(1, keepdims=True)
    assert [map_.shape[2:] for map_ in maps] == [(1, 5), (3, 8)]
    assert relative_l2(np.log(ours), np.log(probs.mean(0))) <= TOLERANCE


def test_the_released_file_brings_its_options(half_width, tmp_path):
    """It is recognised; without any option it sees what its preset would have it see."""
    path = tmp_path / "x.png"
    Image.effect_mandelbrot((90, 70), (-2, -1, 1, 1), 100).save(path)
    arguments = ["classify", str(half_width[0]), "--weights", str(half_width[1]), str(path)]

    bare = CliRunner().invoke(main, [*arguments, "--json"])
    said = CliRunner().invoke(main, [*arguments, "--json", "--preprocess", "open-nsfw"])

    assert bare.exit_code == 0, bare.stderr
    assert bare.stdout == said.stdout
    assert "is open_nsfw of github.com/yahoo/open_nsfw (the file itself" in bare.stderr
    assert said.stderr == ""
