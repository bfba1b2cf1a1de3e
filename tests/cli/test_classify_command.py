"""``resnet-proto classify``: what is shown, what is left out, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from resnet_proto import Classifier, load, read_prototxt
from resnet_proto.cli import main
from resnet_proto.engine.running import Numpy
from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.released import Release
from resnet_proto.preprocess import ImageOptions

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
IMAGES = DIGITS / "images"
NET, WEIGHTS = str(DIGITS / "deploy.prototxt"), str(DIGITS / "digits.caffemodel")
GREY = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY")
OPTIONS = ["--channels", "GRAY", "--mean", "78", "--scale", "0.0125"]
NAMES = "zero one two three four five six seven eight nine".split()


def call(*arguments, net=NET, weights=WEIGHTS, options=OPTIONS, **kwargs):
    words = ["classify", net, "--weights", weights, *options, *map(str, arguments)]
    return CliRunner().invoke(main, words, **kwargs)


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES) + "\n")
    return path


@pytest.fixture
def folder(tmp_path):
    """Two images, a text and a hidden file between them, and a folder that is not looked into."""
    path = tmp_path / "photos"
    (path / "inner").mkdir(parents=True)
    for name, source in (("b.PNG", "07"), ("a.png", "05"), ("inner/c.png", "01"), (".d.png", "01")):
        (path / name).write_bytes((IMAGES / f"{source}.png").read_bytes())
    (path / "notes.txt").write_text("no image")
    return path


def test_the_table(labels):
    result = call("--labels", labels, "--top", "2", IMAGES / "05.png", IMAGES / "07.png")

    assert result.exit_code == 0, result.output
    first, best, second, other, *rest = result.stdout.splitlines()
    assert (first, other) == (str(IMAGES / "05.png"), str(IMAGES / "07.png"))
    assert best.split() == ["0.99994", "3", "three"]
    assert second.split()[1:] == ["5", "five"]
    assert rest[0].split()[1:] == ["0", "zero"]
    assert len(rest) == 2
    assert result.stderr == ""


def test_json_is_what_the_library_says(labels):
    result = call("--labels", labels, "--top", "3", "--json", IMAGES / "05.png")

    with Classifier(read_prototxt(Path(NET)), load(WEIGHTS), image=GREY, labels=NAMES) as net:
        (found,) = net.predict([IMAGES / "05.png"], top=3)
    (row,) = json.loads(result.stdout)
    assert row["image"] == str(IMAGES / "05.png")
    assert row["top"] == [
        {"index": g.index, "score": g.score, "label": g.label} for g in found.top
    ]  # fmt: skip


def test_a_folder(folder):
    """Its images, sorted; no others, and none within."""
    result = call("--top", "1", folder)

    assert [line for line in result.stdout.splitlines() if "photos" in line] == [
        f"{folder}/a.png",
        f"{folder}/b.PNG",
    ]
    (folder / "a.png").unlink()
    (folder / "b.PNG").unlink()
    empty = call(folder)
    assert empty.exit_code == 1
    assert "no file in this folder has the suffix of an image" in empty.stderr


def test_stdin_and_a_pipe():
    """One image from each; only one of all files is stdin."""
    content = (IMAGES / "05.png").read_bytes()
    command = [sys.executable, "-m", "resnet_proto", "classify", NET, "--weights", WEIGHTS]
    shell = 'exec "$@" <(cat "$0")'
    words = ["bash", "-c", shell, str(IMAGES / "07.png"), *command, *OPTIONS, "--json", "-"]

    done = subprocess.run(words, input=content, capture_output=True, check=True)
    twice = call("-", "-", input=content)

    stdin, pipe = json.loads(done.stdout)
    assert stdin["image"] == "stdin"
    assert (stdin["top"][0]["index"], pipe["top"][0]["index"]) == (3, 0)
    assert twice.exit_code == 2
    assert "stdin can be read only once" in twice.stderr


def test_arrays_are_taken_as_they_are(tmp_path):
    """And so said, once."""
    pixels = np.asarray(Image.open(IMAGES / "05.png"), np.float32)
    x = ((pixels - 78) * np.float32(0.0125))[None, None]
    for name in ("x.npy", "y.npy"):
        np.save(tmp_path / name, x)

    result = call("--json", tmp_path / "x.npy", IMAGES / "05.png", tmp_path / "y.npy")

    rows = json.loads(result.stdout)
    np.testing.assert_allclose(
        [[g["score"] for g in rows[i]["top"]] for i in (0, 2)],
        [[g["score"] for g in rows[1]["top"]]] * 2,
        rtol=1e-4,
    )
    assert result.stderr == (
        f"Note: {tmp_path}/x.npy is an array and is used as it is, without "
        "--mean, --scale, --channels\n"
    )


def test_images_that_cannot_be_read(tmp_path):
    """The others are classified; status 1, each named on stderr and in --json."""
    (tmp_path / "bad.png").write_bytes(b"<html>")
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 9)))
    images = [IMAGES / "05.png", tmp_path / "bad.png", tmp_path / "none.png", tmp_path / "x.npy",
              IMAGES / "07.png"]  # fmt: skip

    plain, as_json = call(*images, "--top", "1"), call(*images, "--top", "1", "--json")

    assert plain.exit_code == as_json.exit_code == 1
    assert [line.split()[1] for line in plain.stdout.splitlines() if line[0] == " "] == ["3", "0"]
    for result in (plain, as_json):
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 3
        assert result.stderr.endswith("3 images of 5 left out\n")
    rows = json.loads(as_json.stdout)
    assert [row.get("error", "")[-30:] for row in rows] == [
        "",
        *(error[-30:] for error in errors),
        "",
    ]
    assert "not an image that Pillow knows" in rows[1]["error"]
    assert "no such file" in rows[2]["error"]
    assert "the array is 1x8x9, the net's input is 1x8x8" in rows[3]["error"]


def test_ten_crops(tmp_path):
    """They need something to be cut from; all ten of a larger image count."""
    whole = Image.open(IMAGES / "05.png")
    whole.resize((12, 11)).save(tmp_path / "large.png")

    warped = call("--crops", "10", tmp_path / "large.png")
    one, ten = (
        json.loads(call("--crops", n, "--crop", "11x12", "--json", tmp_path / "large.png").stdout)
        for n in (1, 10)
    )

    assert warped.exit_code == 1
    assert "give a crop that is larger" in warped.stderr
    assert one[0]["top"][0]["score"] != ten[0]["top"][0]["score"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "Missing argument 'IMAGE...'"),
        ([""], 2, "it is empty; give the name of a file"),
        (["--labels", "imagenet", "x.png"], 1, "1,000 labels, and the net has 10 classes"),
        (["--labels", "none.txt", "x.png"], 1, "none.txt: no such file"),
        (["--crops", "10", "--scales", "8", "x.png"], 2, "give one of them"),
        (["--scales", "8,0", "x.png"], 2, "is not a list of positive whole numbers"),
        (["--crops", "5", "x.png"], 2, "'5' is not one of '1', '10'"),
        (["--engine", "cafe", "x.png"], 2, "'cafe' is not one of"),
        (["--channels", "BGR", "--mean", "1,2,3", "x.png"], 1, "use --channels GRAY"),
    ],
)
def test_wrong_usage(arguments, status, message):
    result = call(*arguments)

    assert result.exit_code == status, result.output
    assert message in result.stderr


NO_SOFTMAX = (DIGITS / "deploy.prototxt").read_text().split('layer {\n  name: "prob"')[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NO_SOFTMAX, 'layer { name: "prob" type: "Softmax" bottom: "fc10" top: "prob" }'),
        ((DIGITS / "train_val.prototxt").read_text(), "`resnet-proto deploy` makes the deploy"),
        (
            NO_SOFTMAX + 'layer { name: "d" type: "DetectionOutput" bottom: "fc10" top: "d" }',
            "the net ends in 'd' (DetectionOutput), and a classifier ends in a Softmax",
        ),
    ],
)
def test_nets_that_are_no_classifiers(tmp_path, text, message):
    """What the message says to add is what helps."""
    (tmp_path / "net.prototxt").write_text(text)

    result = call(IMAGES / "05.png", net=str(tmp_path / "net.prototxt"))

    assert result.exit_code == 1
    assert message in result.stderr
    if text == NO_SOFTMAX:
        layer = message + "\n"
        (tmp_path / "net.prototxt").write_text(text + layer)
        again = call(IMAGES / "05.png", net=str(tmp_path / "net.prototxt"))
        assert again.stdout == call(IMAGES / "05.png").stdout


def test_weights_of_another_net(tmp_path):
    """A layer that lacks its weights ends it, before an image is read."""
    (tmp_path / "net.prototxt").write_text(Path(NET).read_text().replace("fc10", "fc"))

    result = call(IMAGES / "05.png", net=str(tmp_path / "net.prototxt"))

    assert result.exit_code == 1
    assert "weights for layer 'fc10', which the net lacks" in result.stderr
    assert "Error: " in result.stderr
    assert "'fc'" in result.stderr


def test_without_a_mean():
    """One note, however many images."""
    result = call(IMAGES, options=["--channels", "GRAY"])

    assert result.exit_code == 0
    assert result.stderr == (
        "Note: no mean is subtracted from the images (--preprocess caffe); see --preprocess\n"
    )


@pytest.mark.parametrize("found", ["sha256", "structure"])
def test_a_release_brings_its_options(monkeypatch, labels, found):
    """Its image options, but for those that are given; labels, if it is the very file."""
    release = Release("Digits", "example.org", GREY, labels=str(labels), found=found)
    monkeypatch.setattr("resnet_proto.evaluate.released.known_release", lambda *_: release)
    path = IMAGES / "05.png"

    bare = call("--json", path, options=[])
    own = call("--json", path, options=["--mean", "50"])
    other = call("--json", path, options=["--preprocess", "caffe", "--channels", "GRAY"])
    monkeypatch.undo()

    def top(result):
        return [(g["index"], g["score"]) for g in json.loads(result.stdout)[0]["top"]]

    def plain(*options):
        return top(call("--json", path, options=["--channels", "GRAY", *options]))

    assert top(bare) == plain("--mean", "78", "--scale", "0.0125")
    assert top(own) == plain("--mean", "50", "--scale", "0.0125")
    assert top(other) == plain()
    label = json.loads(bare.stdout)[0]["top"][0]["label"]
    assert label == ("three" if found == "sha256" else None)
    assert bare.stderr.startswith(f"Note: {WEIGHTS} is Digits of example.org (")
    assert bare.stderr.count("\n") == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_done_is_shown(monkeypatch, as_json):
    """Whatever happens to the engine then."""
    real, calls = Numpy.run, []

    def run(self, inputs):
        calls.append(inputs)
        if len(calls) == 3:
            raise ResNetProtoError("engine 'numpy' is gone")
        return real(self, inputs)

    monkeypatch.setattr(Numpy, "run", run)

    result = call(IMAGES, "--top", "1", *["--json"] * as_json)

    assert result.exit_code == 1
    assert result.stderr == "Error: engine 'numpy' is gone\n"
    assert [call["data"].shape for call in calls] == [(10, 1, 8, 8)] * 3
    shown = json.loads(result.stdout) if as_json else result.stdout.splitlines()[::2]
    assert len(shown) == 20
