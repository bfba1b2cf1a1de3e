"""`eval`: tables, JSON, CSV, pictures; what it takes from a train_val net; what it refuses."""

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from oracles.training import make_lmdb
from PIL import Image

from resnet_proto import read_prototxt
from resnet_proto.cli import main
from resnet_proto.cli.eval import Member
from resnet_proto.data.show import GAP, SIDE, TEXT
from resnet_proto.evaluate.released import known_release
from resnet_proto.weights import random_weights

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
WEIGHTS = DIGITS / "digits.caffemodel"
GREY = ["--channels", "GRAY", "--mean", "78", "--scale", "0.0125"]


def run(*args, **kwargs):
    return CliRunner().invoke(main, [*map(str, args)], **kwargs)


def evaluated(*args):
    result = run("eval", *args, "--jobs", 1)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The databases of the example, and its files in a folder beside them."""
    folder = tmp_path_factory.mktemp("eval")
    done = run("data", "lmdb", "digits", folder / "train_lmdb", "--gray", "--pad", 1, "--split",
               "test=0.25")  # fmt: skip
    assert done.exit_code == 0, done.output
    (folder / "digits").mkdir()
    for name in ("train_val.prototxt", "solver.prototxt", "deploy.prototxt"):
        (folder / "digits" / name).write_bytes((DIGITS / name).read_bytes())
    return folder


def test_train_val_solver_and_deploy_are_one(place):
    """99.1 % of 450 are right, as the example's README says; the other ways are the same."""
    nets = place / "digits"
    result = evaluated(nets / "train_val.prototxt", "--weights", WEIGHTS)
    assert result.stdout.splitlines()[2:4] == [
        "top-1      4  0.89 %  0.35 - 2.26 %",
        "top-5      0  0.00 %  0.00 - 0.85 %",
    ]
    assert "`caffe test -iterations 9` goes over the same images" in result.stderr

    ways = [
        (nets / "train_val.prototxt",),
        (nets / "solver.prototxt",),
        (nets / "deploy.prototxt", place / "test_lmdb", *GREY),
        (nets / "train_val.prototxt", place / "test_lmdb", "--crop", 10),
    ]
    found = [json.loads(evaluated(*way, "--weights", WEIGHTS, "--json").stdout) for way in ways]
    for one in found:
        assert one.pop("source").endswith("test_lmdb")
        made_of = "\n".join(one.pop("made_of"))
        assert "views: 1 crops" in made_of
        assert "engine: numpy" in made_of
        assert one == found[0]
    assert found[0]["top1"]["wrong"] == 4
    assert found[0]["images"] == 450


def test_what_is_given_goes_before_the_data_layer(place):
    net = place / "digits" / "train_val.prototxt"

    own = json.loads(evaluated(net, "--weights", WEIGHTS, "--json").stdout)
    mean = json.loads(evaluated(net, "--weights", WEIGHTS, "--mean", 140, "--json").stdout)
    preset = json.loads(
        evaluated(net, "--weights", WEIGHTS, "--mean", 140, "--scale", 0.0125, "--channels", "GRAY",
                  "--preprocess", "caffe", "--json").stdout
    )  # fmt: skip

    assert mean["top1"]["wrong"] > own["top1"]["wrong"]
    for one, value in ((own, "78.0"), (mean, "140.0"), (preset, "140.0")):
        assert f"image: mean ({value},), scale (0.0125" in "\n".join(one.pop("made_of"))
    assert mean == preset
    files = json.loads(evaluated(net, DIGITS / "labels.txt", "--weights", WEIGHTS, "--json").stdout)
    assert files["images"] == 64  # grey, as the data layer has them
    assert files["top1"]["wrong"] == 0


def test_a_data_layer_without_a_crop(place, tmp_path):
    """The size is that of the images, wherever they are."""
    net = tmp_path / "net.prototxt"
    text = (place / "digits" / "train_val.prototxt").read_text()
    net.write_text(text.replace("crop_size: 8", ""))

    whole = json.loads(evaluated(net, place / "test_lmdb", "--weights", WEIGHTS, "--json").stdout)
    shaped = json.loads(
        evaluated(net, place / "test_lmdb", "--weights", WEIGHTS, "--json", "--input-shape",
                  "1,1,8,8").stdout
    )  # fmt: skip

    deploy = json.loads(
        evaluated(DIGITS / "deploy.prototxt", place / "test_lmdb", "--weights", WEIGHTS, *GREY,
                  "--json", "--input-shape", "1,1,10,10").stdout
    )  # fmt: skip

    assert shaped["top1"]["wrong"] == 4
    assert deploy["top1"] == whole["top1"]
    assert whole["top1"]["wrong"] > 4  # of 10x10, with the zeros around the digits


def test_a_list_and_its_names(place, tmp_path):
    """All 64 are right, as the README says; another order of labels makes all wrong but one."""
    names = [f"<{i}>" for i in range(10)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    args = (DIGITS / "deploy.prototxt", "--weights", WEIGHTS, *GREY, "--labels",
            tmp_path / "names.txt")  # fmt: skip
    right = json.loads(evaluated(*args, DIGITS / "labels.txt", "--json").stdout)
    assert (right["images"], right["top1"]["wrong"], right["mistakes"]) == (64, 0, [])

    lines = [line.split() for line in (DIGITS / "labels.txt").read_text().splitlines()]
    wrong = [f"{name} {(int(label) + (i > 0)) % 10}\n" for i, (name, label) in enumerate(lines)]
    (tmp_path / "list.txt").write_text("".join(wrong))
    result = evaluated(*args, tmp_path / "list.txt", "--root", DIGITS, "--per-class", "--csv",
                       tmp_path / "classes.csv", "--mistakes", tmp_path / "m.png", "--confusion",
                       tmp_path / "c.png")  # fmt: skip

    rows = list(csv.DictReader(io.StringIO((tmp_path / "classes.csv").read_text())))
    assert [row["name"] for row in rows] == names
    assert [int(row["taken_for"]) for row in rows] == [9, *range(9)]
    assert sum(int(row["wrong_top1"]) for row in rows) == 63
    assert "top-1     63  98.44 %" in result.stdout
    assert "<9> (" in result.stdout
    with Image.open(tmp_path / "m.png") as sheet:
        size = sheet.size
    # 40 at most: 8 columns, 5 rows, two lines of text below each
    assert size == (8 * (SIDE + GAP) + GAP, 5 * (SIDE + 2 * TEXT + GAP) + GAP)
    with Image.open(tmp_path / "c.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10
    for name in ("m.png", "c.png"):
        again = tmp_path / f"again-{name}"
        option = "--mistakes" if name == "m.png" else "--confusion"
        evaluated(*args, tmp_path / "list.txt", "--root", DIGITS, option, again)
        assert again.read_bytes() == (tmp_path / name).read_bytes()


def test_a_row_for_each_image(place):
    """Names, labels, ranks and classes: those of classify, and of the counts."""
    args = (DIGITS / "deploy.prototxt", "--weights", WEIGHTS, *GREY)
    text = evaluated(*args, DIGITS / "labels.txt", "--csv", "-").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [f"{row['image']} {row['label']}" for row in rows] == [
        line.strip() for line in (DIGITS / "labels.txt").read_text().splitlines()
    ]
    said = json.loads(run("classify", *args, "--json", *(DIGITS / r["image"] for r in rows)).stdout)
    for row, own in zip(rows, said, strict=True):
        top = [(int(row[f"class_{k}"]), float(row[f"score_{k}"])) for k in range(1, 6)]
        assert top == [(g["index"], pytest.approx(g["score"], rel=1e-5)) for g in own["top"]]
        assert (row["rank"], row["score"]) == ("1", row["score_1"])

    stored = (*args, place / "test_lmdb")
    whole = json.loads(evaluated(*stored, "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(evaluated(*stored, "--csv", "-").stdout)))
    wrong = {row["image"]: row for row in rows if row["rank"] != "1"}
    assert len(rows) == 450
    assert len(wrong) == whole["top1"]["wrong"]
    assert {one["image"] for one in whole["mistakes"]} == set(wrong) != set()
    for row in wrong.values():
        assert row[f"class_{row['rank']}"] == row["label"] or int(row["rank"]) > 5


def test_an_ensemble_and_no_mistake(place, tmp_path):
    net = DIGITS / "deploy.prototxt"
    result = evaluated(net, DIGITS / "labels.txt", "--weights", WEIGHTS, *GREY, "--also", net,
                       WEIGHTS, "--mistakes", tmp_path / "none.png")  # fmt: skip

    assert "64 images; Digits-ResNet-20 + Digits-ResNet-20" in result.stdout
    assert "there is no mistake to show" in result.stderr
    assert not (tmp_path / "none.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_file_that_cannot_be_written_costs_no_figure():
    args = ["eval", DIGITS / "deploy.prototxt", DIGITS / "labels.txt", "--weights", WEIGHTS, *GREY]

    result = run(*args, "--jobs", 1, "--csv", "/dev/full")

    assert result.exit_code == 1
    assert "64 images; Digits-ResNet-20" in result.stdout


def test_ten_crops_are_of_what_an_lmdb_stores(place):
    net = place / "digits" / "train_val.prototxt"

    runs = [evaluated(net, "--weights", WEIGHTS, "--json", *how) for how in ([], ["--crops", 10])]
    one, ten = (json.loads(result.stdout) for result in runs)

    assert ["`caffe test -iterations 9`" in result.stderr for result in runs] == [True, False]
    assert ten["top1"]["wrong"] > one["top1"]["wrong"]  # mirrored digits are none
    assert ten["images"] == 450


def test_images_left_out_are_named(place, tmp_path):
    (tmp_path / "0").mkdir()
    for name in ("00.png", "01.png"):
        (tmp_path / "0" / name).write_bytes((DIGITS / "images" / name).read_bytes())
    (tmp_path / "0" / "02.png").write_text("no image")
    args = (DIGITS / "deploy.prototxt", tmp_path, "--weights", WEIGHTS, *GREY)

    result = evaluated(*args)
    refused = run("eval", *args, "--on-error", "refuse")

    assert "Warning: left out: 0/02.png: not an image that Pillow knows" in result.stderr
    assert "2 images; 1 image left out" not in result.stdout
    assert f"{tmp_path}: 2 images, 1 image left out; Digits-ResNet-20" in result.stdout
    assert refused.exit_code == 1
    assert "02.png: not an image that Pillow knows; leave it out" in refused.output


def test_the_same_weights_twice_are_noted_once(half_width, tmp_path):
    net, weights = map(str, half_width)
    for name in "01":
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((30, 40, 3), 77, np.uint8)).save(tmp_path / name / "x.png")

    result = evaluated(net, tmp_path, "--weights", weights, "--also", net, weights)

    assert result.stderr.count("is open_nsfw of") == 1


def test_random_weights_are_no_release(half_width):
    net = read_prototxt(half_width[0])
    weights = random_weights(net, 0)
    member = Member(SimpleNamespace(net=net), weights, {})
    assert known_release(net, weights).name == "open_nsfw"  # by names and shapes alone

    assert member.release is None


def refused_cases():
    deploy, own = DIGITS / "deploy.prototxt", ("--weights", WEIGHTS, *GREY)
    return [
        ((deploy, *own), "IMAGES is missing"),
        ((deploy, "", *own), "IMAGES is empty"),
        ((deploy, "{tmp}/nothing", *own), "a CIFAR archive, an LMDB, or the word digits"),
        ((deploy, "{tmp}/empty", *own), "no folder in it"),
        ((deploy, "{tmp}/short.txt", *own, "--labels", "{tmp}/short.txt"), "1 label, and the net"),
        ((deploy, "digits", *own, "--part", "train"), "digits is not one: leave it out"),
        ((deploy, "{tmp}/lmdb/data.mdb", *own), "the file of an LMDB; give its folder, "),
        ((deploy, "digits", *own, "--root", "{tmp}"), "--root is for lists"),
        ((deploy, "digits", *own, "--crops", 10, "--scales", 9), "give one of them"),
        ((deploy, "digits", *own, "--crops", 10), "crop"),
        ((deploy, "digits", *own, "--labels", ""), "--labels is empty; give it the name"),
        (
            (deploy, "digits", *own, "--also", "{tmp}/rgb.prototxt", "random"),
            "rgb.prototxt: images of 1 channel need one such input; the net's inputs: data",
        ),
        ((deploy, "digits", "--weights", WEIGHTS), "--channels GRAY"),
        (
            ("{tmp}/nodata.prototxt", "digits", "--weights", WEIGHTS, "--channels", "BGR"),
            "/nodata.prototxt: images of 3 channels need one such input",
        ),
        (
            (deploy, "digits", *own, "--confusion", "{tmp}/c.jpg"),
            "give it one of the suffixes .svg, .png, .pdf",
        ),
        ((deploy, "digits", *own, "--mistakes", "{tmp}/c.svg"), "written as .png"),
        ((deploy, "digits", *own, "--csv", "-", "--json"), "leave one out"),
        ((deploy, "digits", *own, "--csv", "{tmp}"), "is a folder; give the name of a file"),
        ((deploy, "{tmp}/eleven.txt", *own), "b.png has label 11, the net's classes are 0 to 9"),
        (("{tmp}/soft.prototxt", "digits", *own), "/soft.prototxt: the net ends in 'fc10'"),
        (("{tmp}/wide.prototxt", "digits", *own), "needs"),
        (("{tmp}/memory.prototxt", "--weights", WEIGHTS), "IMAGES is missing"),
        (("{tmp}/ignored.prototxt", "--weights", WEIGHTS), "leaves images of label 3 out"),
        (("{tmp}/nodata.prototxt", "--weights", WEIGHTS), "no such LMDB, neither here nor from"),
    ]


@pytest.mark.parametrize(("args", "message"), refused_cases())
def test_refused(tmp_path, args, message):
    text = (DIGITS / "deploy.prototxt").read_text()
    train_val = (DIGITS / "train_val.prototxt").read_text()
    (tmp_path / "empty").mkdir()
    make_lmdb(tmp_path / "lmdb", np.zeros((1, 1, 8, 8), np.uint8), [0])
    (tmp_path / "short.txt").write_text("a.png 0\n")
    (tmp_path / "eleven.txt").write_text("a.png 9\nb.png 11\n")
    (tmp_path / "soft.prototxt").write_text(text[: text.rindex("layer {")])
    (tmp_path / "wide.prototxt").write_text(text.replace("num_output: 10", "num_output: 11"))
    (tmp_path / "rgb.prototxt").write_text(
        text.replace("input_dim: 1\ninput_dim: 1", "input_dim: 1\ninput_dim: 3")
    )
    (tmp_path / "nodata.prototxt").write_text(train_val)
    ignored = train_val.replace("top_k: 5", "top_k: 5 ignore_label: 3")
    (tmp_path / "ignored.prototxt").write_text(ignored)
    memory = """layer { name: "data" type: "MemoryData" top: "data" top: "label"
      include { phase: TEST }
      memory_data_param { batch_size: 5 channels: 1 height: 8 width: 8 } }"""
    begin = train_val.index("layer {", train_val.index("phase: TRAIN"))
    end = train_val.index('layer {\n  name: "conv1"')
    (tmp_path / "memory.prototxt").write_text(train_val[:begin] + memory + train_val[end:])

    result = run("eval", *(str(arg).format(tmp=tmp_path) for arg in args), "--jobs", 1)

    assert result.exit_code in (1, 2)
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
