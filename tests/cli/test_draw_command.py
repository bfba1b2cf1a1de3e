"""The command ``draw``: in letters, and by the real Graphviz."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import missing
from nets import googlenet, mobilenet, ssd
from PIL import Image

from resnet_proto import PRESETS, deploy_net, read_prototxt, to_prototxt
from resnet_proto.cli import main
from resnet_proto.report import drawing
from resnet_proto.structure import structure

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ["<script>alert(1)</script>", '"quoted" \\N \\', "../x", "x" * 10_000, "\u202egnp.exe"]


@pytest.fixture
def graphviz():
    if shutil.which("dot") is None:
        missing("Graphviz is not here: apt-get install graphviz")
    pytest.importorskip("graphviz", reason="pip install graphviz")


def draw(net, *arguments):
    return CliRunner().invoke(main, ["draw", "-", *arguments], input=to_prototxt(net))


def preset(name):
    return deploy_net(PRESETS[name].spec)


def test_stages_are_the_table_of_the_paper():
    """Table 1 of arXiv 1512.03385, the column of 50 layers."""
    shown = draw(preset("resnet-50")).stdout

    sizes = {2: (64, 3, 56), 3: (128, 4, 28), 4: (256, 6, 14), 5: (512, 3, 7)}
    for line in (f"[ 3x3, {width:<4} ] x {n}" for width, n, _ in list(sizes.values())[2:]):
        assert line in shown
    for width, _, side in sizes.values():
        assert f"{4 * width}x{side}x{side}" in shown
    assert "7x7, 64, /2" in shown
    assert "3x3 max pooling, /2" in shown


def test_units_that_differ_have_each_its_bracket(tmp_path):
    """Table 1 of arXiv 1409.4842: inception 3a and 3b, 4a to 4e, 5a and 5b."""
    path = tmp_path / "net.dot"

    shown = draw(googlenet.net()).stdout
    draw(googlenet.net(), "-o", str(path))

    stages = re.split(r"^stage \d", shown.partition("head")[0], flags=re.M)[1:]
    assert [stage.count("] x 1") for stage in stages] == [2, 5, 2]
    assert "[ 1x1, 96  ]\n         [ 3x3, 128 ]\n         [ 1x1, 16  ] x 1" in stages[0]
    assert path.read_text().count("\N{MULTIPLICATION SIGN} 1<") == 9


def test_layers_that_differ_have_none(tmp_path):
    """Table 1 of arXiv 1704.04861: depthwise and pointwise by turns."""
    path = tmp_path / "net.dot"

    shown = draw(mobilenet.net()).stdout
    draw(mobilenet.net(), "-o", str(path))

    assert "stage 1  3x3, 32, 32 groups\n         1x1, 64                 64x112x112\n" in shown
    assert "[" not in shown
    assert "\N{MULTIPLICATION SIGN}" not in path.read_text()


def test_a_long_note_makes_no_wide_box():
    """The shortcuts of option A in full, in lines of a bounded length."""
    net = read_prototxt(DIGITS / "deploy.prototxt")
    boxes = drawing.draw("digits", structure(net), "stages").boxes

    labels = "".join(map(drawing.label_of, boxes))

    notes = re.findall(r'">(shortcuts: 1x1.*?)</font>', labels)

    assert [note.replace("<br/>", " ") for note in notes] == [
        f"shortcuts: 1x1, {n}, {n} groups, /2, Power, Concat, identity \N{MULTIPLICATION SIGN} 2"
        for n in (16, 32)
    ]
    lines = [line for note in notes for line in note.split("<br/>")]
    assert all(len(line) <= 36 for line in lines)
    assert sum("identity \N{MULTIPLICATION SIGN} 2" in line for line in lines) == 2  # not parted


def test_units_show_their_shortcuts():
    lines = draw(preset("resnet-18"), "--detail", "units").stdout.splitlines()

    assert [line.split("|")[1].strip() for line in lines if "| 1x1" in line] == [
        f"1x1, {width}, /2" for width in (128, 256, 512)
    ]
    joins = [line for line in lines if "(+)" in line]
    assert len(joins) == 8
    for line, above in ((line, lines[lines.index(line) - 1]) for line in joins):
        assert line.rindex("+") == above.index("|")


def test_layers_are_all_there():
    net = preset("resnet-50-1by2")

    lines = draw(net, "--detail", "layers").stdout.splitlines()

    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert names == [layer.name for layer in net.upgraded().layers]
    assert "  < conv_1" in next(line for line in lines if line.split()[:1] == ["bn_1"])


@pytest.mark.usefixtures("graphviz")
@pytest.mark.parametrize("detail", drawing.DETAILS)
@pytest.mark.parametrize("name", ["resnet-34", "se-resnet-50", "preact-resnet-18"])
def test_the_picture_has_every_box_and_arrow(tmp_path, name, detail):
    path = tmp_path / "net.svg"

    result = draw(preset(name), "--detail", detail, "-o", str(path))

    assert result.exit_code == 0, result.output
    drawn = drawing.draw("", structure(preset(name)), detail)
    classes = Counter(g.get("class") for g in ET.parse(path).iter(f"{SVG}g"))
    assert (classes["node"], classes["edge"]) == (len(drawn.boxes), len(drawn.edges))


@pytest.mark.parametrize("name", ["resnet-34", "se-resnet-50", "preact-resnet-18", "plain-18"])
def test_each_unit_has_one_shortcut(name):
    """A path of red arrows that ends in the sum; where it is a projection, through its layer."""
    net = preset(name)
    found = structure(net)
    drawn = drawing.draw("", found, "units")

    ends = Counter(e.end for e in drawn.edges if e.shortcut and drawn.boxes[e.end].title == "+")

    sums = [i for i, box in enumerate(drawn.boxes) if box.title == "+"]
    assert ends == Counter(sums)
    projections = sum(bool(u.shortcut) for part in found.parts for u in part.units)
    assert sum(e.shortcut for e in drawn.edges) == len(sums) + projections


@pytest.mark.usefixtures("graphviz")
@pytest.mark.parametrize("depth", [50, 101, 152])
def test_stages_fit_on_a_page(tmp_path, depth):
    """A4, in points."""
    path = tmp_path / "net.svg"
    draw(preset(f"resnet-{depth}"), "-o", str(path))

    width, height = (float(ET.parse(path).getroot().get(side)[:-2]) for side in ("width", "height"))
    assert width < 595
    assert height < 842


@pytest.mark.usefixtures("graphviz")
@pytest.mark.parametrize("suffix", ["png", "pdf", "dot", "txt"])
def test_other_files(tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"

    result = draw(googlenet.net(), "-o", str(path))

    assert result.exit_code == 0, result.output
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "dot": b"digraph", "txt": b"GoogLeNet"}
    assert path.read_bytes().startswith(begins[suffix])
    assert result.stdout == ""


@pytest.mark.usefixtures("graphviz")
def test_a_png_has_192_dots_an_inch(tmp_path):
    """An svg is in points, 72 of an inch."""
    for suffix in ("svg", "png"):
        draw(googlenet.net(), "-o", str(tmp_path / f"net.{suffix}"))

    root = ET.parse(tmp_path / "net.svg").getroot()
    points = [float(root.attrib[name].removesuffix("pt")) for name in ("width", "height")]
    with Image.open(tmp_path / "net.png") as image:
        size = image.size
    np.testing.assert_allclose(size, np.multiply(points, 192 / 72), atol=4)


@pytest.mark.usefixtures("graphviz")
@pytest.mark.parametrize("detail", drawing.DETAILS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(tmp_path, name, detail):
    net = replace(preset("cifar-resnet-20"), name=name)
    text = to_prototxt(net).replace('"conv1"', json.dumps(name, ensure_ascii=False))
    path = tmp_path / "net.svg"

    result = CliRunner().invoke(
        main, ["draw", "-", "--detail", detail, "-o", str(path)], input=text
    )

    assert result.exit_code == 0, result.output
    tree = ET.parse(path)
    assert not list(tree.iter(f"{SVG}script"))
    assert "\u202e" not in path.read_text()
    texts = {element.text for element in tree.iter(f"{SVG}text")}
    assert drawing.readable(name) in texts


def test_without_graphviz(tmp_path, monkeypatch):
    """A drawing in letters does without; a picture names what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))

    letters = draw(preset("resnet-18"), "-o", str(tmp_path / "net.txt"))
    picture = draw(preset("resnet-18"), "-o", str(tmp_path / "net.svg"))

    assert letters.exit_code == 0
    assert picture.exit_code == 1
    assert "graphviz" in picture.stderr
    assert not (tmp_path / "net.svg").exists()


def test_json_lists_the_parts():
    parts = json.loads(draw(ssd.net(), "--json").stdout)["parts"]

    stages = [part for part in parts if part["kind"] == "stage"]
    assert [len(stage["units"]) for stage in stages] == [1, 1, 1, 1]
    assert stages[1]["units"][0]["shortcut"] == ["unit128/expand"]
    assert stages[1]["shape"] == [1, 128, 38, 38]


def test_shapes_that_are_not_known_are_said():
    text = to_prototxt(preset("cifar-resnet-20")).replace('type: "Pooling"', 'type: "Odd"')

    result = CliRunner().invoke(main, ["draw", "-"], input=text)

    assert result.exit_code == 0
    assert "Odd" in result.stderr
    assert "stage 3" in result.stdout


def test_a_scalar_is_a_known_shape():
    net = read_prototxt(DIGITS / "train_val.prototxt")

    for detail in "stages", "units", "layers":
        shown = draw(net, "--detail", detail).stdout
        assert "?" not in shown
        assert shown.splitlines()[-1].split("<")[0].split()[-2:] == ["Accuracy", "scalar"]


def test_shapes_are_those_of_one_image(tmp_path):
    """Labels have no axis but that of the batch: one value for an image."""
    path = tmp_path / "net.dot"
    net = read_prototxt(DIGITS / "train_val.prototxt")

    assert draw(net, "-o", str(path), "--detail", "units").exit_code == 0
    shown = Counter(re.findall(r"label=\" (\S*) \"", path.read_text()))
    lines = draw(net, "--detail", "layers").stdout.splitlines()

    assert shown["1"] == shown["10"] == 3  # to the loss, and to two accuracies
    assert not {"100", "1000"} & set(shown)  # the batch
    assert next(line for line in lines if line.split()[:1] == ["data"]).endswith(" 1x8x8, 1")


@pytest.mark.parametrize("command", ["draw", "view"])
def test_a_net_that_is_no_graph_is_refused_by_its_file(command, tmp_path):
    path = tmp_path / "odd.prototxt"
    path.write_text('layer { name: "a" type: "ReLU" bottom: "x" top: "a" }')

    out = {"draw": "net.txt", "view": "net.html"}[command]

    result = CliRunner().invoke(main, [command, str(path), "-o", str(tmp_path / out)])

    assert result.exit_code == 1
    assert f"{path}: layer 'a' (ReLU) reads blob 'x'" in result.stderr


def test_names_in_letters_are_bounded_and_keep_the_columns():
    names = ("x" * 10_000, "\u202ea", "short")
    net = preset("cifar-resnet-20")
    text = to_prototxt(net)
    for old, new in zip(("conv1", "bn_conv1", "res2a"), names, strict=True):
        text = text.replace(f'name: "{old}"', f"name: {json.dumps(new, ensure_ascii=False)}")

    result = CliRunner().invoke(main, ["draw", "-", "--detail", "layers"], input=text)

    lines = [line for line in result.stdout.splitlines() if "16x32x32" in line]
    assert max(map(len, lines)) < 200
    assert len({line.index("16x32x32") for line in lines}) == 1


def test_another_suffix_is_refused(tmp_path):
    result = draw(preset("resnet-18"), "-o", str(tmp_path / "net.jpg"))

    assert result.exit_code == 2
    assert ".svg" in result.stderr
