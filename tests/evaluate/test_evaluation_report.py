"""An evaluation in pictures: numbers for a few classes, points and a list for many."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.evaluation import Evaluation
from resnet_proto.evaluate.metrics import rows_of
from resnet_proto.report.evaluation import as_json, class_table, classes_csv, plot_confusion, table

SVG = "{http://www.w3.org/2000/svg}"


def evaluation(classes, pairs, names=()):
    """One image for each (label, predicted)."""
    label, predicted = np.array(pairs).T
    scores = np.full((len(pairs), classes), 0.01)
    scores[np.arange(len(pairs)), predicted] = 0.9
    return Evaluation("x", ("net",), classes, names, rows_of(np.arange(len(pairs)), label, scores))


def texts(path):
    """What is written in a picture."""
    return ["".join(text.itertext()) for text in ElementTree.parse(path).iter(f"{SVG}text")]


def test_a_number_for_each_pair(tmp_path):
    """17 classes; names that a formula or a terminal would obey."""
    names = (
        "$x_1$",
        "a\x1b[1mb",
        "n01440764 tench",
        *(f"class {i} of a long name, too long" for i in range(3, 17)),
    )
    pairs = [(i, i) for i in range(17)] * 3 + [(0, 16)] * 41 + [(5, 2)] * 7

    plot_confusion(tmp_path / "c.svg", evaluation(17, pairs, names))

    found = texts(tmp_path / "c.svg")
    assert found.count("3") == 17
    assert {"41", "7", "$x_1$", "a\\x1b[1mb", "tench"} <= {
        text.replace("\\$", "$") for text in found
    }
    assert "class 9 of a long nam…" in found
    assert "99 images, top-1 error 48.48 %" in found


@pytest.mark.parametrize("classes", [31, 1000])
def test_a_point_for_each_confusion(tmp_path, classes):
    """The most frequent in words, at most 24."""
    pairs = [(i, i) for i in range(classes)] + [(7, 3)] * 9 + [(3, 7)] * 5
    pairs += [(i, 30) for i in range(29)]

    plot_confusion(tmp_path / "c.svg", evaluation(classes, pairs))

    found = texts(tmp_path / "c.svg")
    listed = [text for text in found if re.fullmatch(r"\d+ of \d+", text)]
    assert listed[:3] == ["9 of 11", "5 of 7", "1 of 2"]
    assert len(listed) == 24
    assert "7  →  3" in found


def test_nothing_is_wrong(tmp_path):
    plot_confusion(tmp_path / "c.svg", evaluation(40, [(i, i) for i in range(40)]))
    assert "none" in texts(tmp_path / "c.svg")


def test_too_many_classes_for_a_picture(tmp_path):
    many = evaluation(8193, [(8192, 3)])
    with pytest.raises(ResNetProtoError, match="8,193 classes"):
        plot_confusion(tmp_path / "c.svg", many)
    assert "top-1      1  100.00 %" in "\n".join(table(many))
    assert classes_csv(many).splitlines()[-1] == "8192,8192,1,1,1,3,1"


def test_of_a_class_without_images_nothing_is_said():
    found = evaluation(4, [(0, 0), (2, 0), (2, 2), (2, 0)], ("a", "b", "c", "d"))
    lines = list(class_table(found))

    assert lines[0].split() == [
        "class",
        "name",
        "images",
        "top-1",
        "wrong",
        "error",
        "taken",
        "for",
    ]
    assert [line.split()[:5] for line in lines[3:5]] == [
        ["1", "b", "0", "0", "-"], ["2", "c", "3", "2", "66.67"]
    ]  # fmt: skip
    assert lines[4].endswith("a (2)")
    assert as_json(found)["top1"] == {
        "right": 2, "wrong": 2, "error": 0.5,
        "interval": pytest.approx([0.15, 0.85], abs=0.001),
    }  # fmt: skip
    assert "top5" not in as_json(found)
