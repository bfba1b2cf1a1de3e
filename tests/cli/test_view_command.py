"""The command ``view``: its page in the real Chromium, and its server.

With RESNET_PROTO_SCREENSHOTS=DIR the pictures that the tests take stay there, to be looked at.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT, missing, module
from nets import googlenet, ssd
from PIL import Image

from resnet_proto import PRESETS, deploy_net, forward, random_weights, read_prototxt, to_prototxt
from resnet_proto.cli import main
from resnet_proto.evaluate.released import Release
from resnet_proto.preprocess import ImageOptions
from resnet_proto.report.page import VENDOR
from resnet_proto.report.page.values import LARGEST_HALF, ROOM, SIDES, is_image, profile, side_of
from resnet_proto.structure import structure
from resnet_proto.weights import Held

GENERATED = sorted(path.parent.name for path in (ROOT / "generated").glob("*/deploy.prototxt"))
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'`quoted` \\N \\",
    "../../x",
    "x" * 10_000,
    "\u202egnp.exe",
    "\u2028{{scripts}}",
    "__proto__",
    "javascript:alert(1)",
    "&lt;b&gt;",
]


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, driven by Playwright."""
    program = shutil.which("chromium")
    if program is None:
        missing("Chromium is not here: apt-get install chromium")
    api = module("playwright.sync_api", "pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def screen(chromium):
    """Opens a page, which may neither fail, nor ask, nor load anything."""
    wrong = []
    size = {"width": 1400, "height": 900}
    context = chromium.new_context(viewport=size, reduced_motion="reduce")
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url))

    def opened(path, scheme="light"):
        page.emulate_media(color_scheme=scheme)
        page.goto(Path(path).as_uri())
        page.wait_for_selector("body[data-ready]")
        assert wrong.pop(0) == Path(path).as_uri()
        return page

    opened.page = page
    opened.wrong = wrong
    yield opened
    context.close()
    assert wrong == []


def expected(found):
    """What Playwright waits for."""
    from playwright.sync_api import expect

    return expect(found)


@pytest.fixture
def picture(tmp_path):
    """Keeps a picture of a page."""
    kept = os.environ.get("RESNET_PROTO_SCREENSHOTS")
    folder = Path(kept) if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png")


def view(folder, net, *arguments, status=0, notes=0):
    """The page of a net, or of a file."""
    path = folder / "net.prototxt"
    path.write_text(to_prototxt(net)) if not isinstance(net, Path) else shutil.copy(net, path)
    out = folder / "page.html"
    run = CliRunner().invoke(main, ["view", str(path), "-o", str(out), *map(str, arguments)])
    assert (run.exit_code, run.stderr.count("Note: ")) == (status, notes), run.output
    return out


def facts(path):
    """The data of a page."""
    text = path.read_text()
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)["nets"]


def preset(name):
    return deploy_net(PRESETS[name].spec)


def search(page, text):
    """As with the keyboard."""
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def cells(page, section):
    """The first two cells of each row in a section of the details."""
    rows = page.locator("#details section", has=page.locator("h3", has_text=section)).locator("tr")
    texts = [row.locator("td, th").all_inner_texts() for row in rows.all()]
    return {row[0]: row[1:] for row in texts}


# ---- opening


@pytest.mark.parametrize("name", [*GENERATED, "half-width"])
def test_every_net_opens(name, tmp_path, screen, picture, request):
    """Closed it shows the parts, and open every layer."""
    if name == "half-width":
        path = request.getfixturevalue("half_width")[0]
    elif name in ("resnet-50", "resnet-101", "resnet-152"):  # the authors', where they are
        path = request.getfixturevalue("deploy_file")(int(name.rpartition("-")[2]))
    else:
        path = ROOT / "generated" / name / "deploy.prototxt"
    found = structure(read_prototxt(path))
    page = screen(view(tmp_path, path))
    closed = len(found.graph.nodes) > 60

    items = page.locator("[role=treeitem]")
    if closed:
        assert items.count() == len(found.parts)
        assert page.locator(".pane .box").count() == len(found.parts)
    page.click("#open")
    stages = [part for part in found.parts if part.kind == "stage"]
    units = sum(len(part.units) for part in stages)
    assert items.count() == len(found.graph.nodes) + len(found.parts) + units
    picture(page, f"{name}-open")
    page.click("#close")
    assert items.count() == len(found.parts)


def test_a_net_of_5414_layers_opens(tmp_path, screen, picture):
    """Only what is seen is in the drawing."""
    page = screen(view(tmp_path, preset("cifar-resnet-1202")))

    page.click("#open")
    assert page.locator("[role=treeitem]").count() == 5414 + 5 + 600
    assert 10 < page.locator(".pane .box").count() < 100
    search(page, "res4b150_branch2b")
    page.wait_for_selector(".box.selected")
    assert page.locator(".box.selected .name").text_content() == "res4b150_branch2b"
    assert page.locator(".pane .box").count() < 100
    picture(page, "1202")


@pytest.mark.parametrize("family", [googlenet, ssd], ids=["googlenet", "ssd"])
def test_nets_of_other_families_open(family, tmp_path, screen, picture):
    page = screen(view(tmp_path, family.net()))

    page.click("#open")
    page.click("#fit")
    page.wait_for_timeout(300)
    picture(page, family.__name__.rpartition(".")[2])
    assert page.locator(".pane .edge").count() > 10


# ---- looking at layers


def test_a_layer_is_found_and_told(tmp_path, screen, picture):
    """With the keyboard; figures of conv1 by hand."""
    page = screen(view(tmp_path, ROOT / "generated/resnet-50/deploy.prototxt"))

    search(page, "conv1")
    assert page.locator("#details h2 bdi").inner_text() == "conv1"
    assert page.locator("#said").inner_text() == "conv1, 7x7, 64, /2, 64x112x112, stem, note"
    figures = cells(page, "figures")
    assert figures["parameters"] == [f"{64 * 3 * 7 * 7 + 64:,}"]
    assert figures["MACs"] == [f"{64 * 3 * 7 * 7 * 112 * 112:,}"]
    assert figures["activations"] == ["3.06 MiB"]  # 64 * 112 * 112 * 4 / 2**20 = 3.0625
    fields = cells(page, "parameters and Caffe's defaults")
    assert fields["stride"] == ["2", "set"]
    assert fields["group"] == ["1", "default"]
    assert fields["bias_filler"] == ["type constant value 0", "default"]
    assert cells(page, "shapes")["data"] == ["input", "1x3x224x224"]
    assert "a bias before BatchNorm" in page.locator("#details .finding").inner_text()
    page.wait_for_selector(".box.selected .badge.note")
    picture(page, "layer")
    search(page, "eltw")
    assert page.locator("#found [role=option]").count() == 16
    assert page.locator("#details h2 bdi").inner_text() == "res2a"
    search(page, "nowhere")
    page.wait_for_selector("#found:not([hidden])")
    assert page.locator("#found").inner_text() == "nothing found"


def test_arrows_walk_through_the_list(tmp_path, screen):
    page = screen(view(tmp_path, preset("cifar-resnet-56")))
    chosen = page.locator("[role=treeitem][aria-selected=true] bdi")

    page.focus("#list [tabindex='0']")
    names = []
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "Enter", "ArrowRight", "End"):
        page.keyboard.press(key)
        names.append(chosen.inner_text())
    assert names == ["stem", "stage 1", "stage 1", "unit 1", "unit 1", "res2a_branch2a", "head"]
    assert page.evaluate("document.activeElement.getAttribute('role')") == "treeitem"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.locator("[role=treeitem]").count() == 5
    assert page.locator("#said").inner_text() == "stage 1, 9 units, closed"
    page.keyboard.press("Escape")
    assert chosen.count() == 0


def test_boxes_open_and_bars_lead_to_layers(tmp_path, screen):
    page = screen(view(tmp_path, preset("resnet-50")))
    boxes = page.locator(".pane .box")

    page.click("[data-toggle=p1]")
    assert boxes.count() == 5 + 1 + 3
    assert page.locator(".pane .edge.is-short").count() == 3
    assert page.locator("text.shape.is-short").all_text_contents() == ["1x1, 256"]
    page.click("[data-toggle='u1.0']")
    assert page.locator("[data-toggle='u1.0'] + .name").text_content() == "unit 1"
    assert "res2a_branch1" in page.locator(".box .name").all_text_contents()
    page.click("[data-toggle=p1]")
    assert boxes.count() == 6
    bars = page.locator(".bars canvas").first
    width = bars.bounding_box()["width"]
    bars.click(position={"x": width - 12, "y": 50})  # the last parameters are the classifier's
    assert page.locator("#details h2 bdi").inner_text() == "fc1000"


def test_the_drawing_pans_and_zooms(tmp_path, screen):
    page = screen(view(tmp_path, preset("resnet-50")))

    def place():
        box = page.locator("[data-key=p0] > rect").bounding_box()
        return round(box["x"] + box["width"] / 2), round(box["y"]), round(box["width"])

    page.mouse.move(700, 300)
    x, y, width = place()
    page.mouse.wheel(0, 40)
    expected(page.locator(".pane svg > g")).to_have_attribute("transform", re.compile(r",-"))
    assert place() == (x, y - 40, width)
    page.mouse.move(400, 300)  # beside the boxes
    page.mouse.down()
    page.mouse.move(430, 350, steps=3)
    page.mouse.up()
    assert place() == (x + 30, y + 10, width)
    page.click("#in")
    assert place()[2] > width
    page.mouse.move(400, 300)
    page.keyboard.down("Control")
    page.mouse.wheel(0, 400)
    page.keyboard.up("Control")
    world = page.locator(".pane svg > g")
    expected(world).to_have_attribute("transform", re.compile(r"scale\(0\.[34]"))
    assert place()[2] < width


def test_light_and_dark(tmp_path, screen, picture):
    path = view(tmp_path, preset("cifar-resnet-20"))
    paper = "getComputedStyle(document.body).backgroundColor"

    colors = []
    for scheme in ("light", "dark"):
        page = screen(path, scheme)
        colors.append(page.evaluate(paper))
        picture(page, scheme)
    page.click("#theme")
    assert page.evaluate(paper) == colors[0] != colors[1]


@pytest.mark.parametrize("width", [390, 640, 1000])
def test_nothing_is_cut_off_in_a_narrow_window(width, tmp_path, screen, picture):
    path = view(tmp_path, preset("resnet-50"))
    page = screen(path)
    page.set_viewport_size({"width": width, "height": 800})

    for place in ("#theme", "#search", "#panes", "#list", "#details"):
        box = page.locator(place).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["width"] * box["height"] > 300
    assert page.locator("#panes").bounding_box()["width"] > 300
    picture(page, f"narrow-{width}")


# ---- two nets


def test_two_nets_beside_each_other(tmp_path, screen, picture):
    """101 has 17 units more than 50, of 13 layers each, and no bias in conv1."""
    other = ROOT / "generated/resnet-101/deploy.prototxt"
    path = view(tmp_path, ROOT / "generated/resnet-50/deploy.prototxt", "--compare", other)
    kinds = [Counter(layer["differs"] for layer in net["layers"]) for net in facts(path)]
    page = screen(path)

    assert kinds[0]["fields"] == kinds[1]["fields"] == 1
    assert kinds[0]["only"] == 0
    assert kinds[1]["only"] == 17 * 13
    assert page.locator(".pane").count() == 2
    letters = page.locator("#details h2 small").all_inner_texts()
    assert letters == ["A, phase TEST", "B, phase TEST"]
    words = page.locator(".differences").first.locator("tr").all_inner_texts()
    counts = [kinds[0][kind] for kind in ("same", "name", "fields", "only")]
    assert [int(row.split()[0]) for row in words] == [*counts, 1]  # the stem is the one part
    assert page.locator(".differences .key").count() == 2 * 5
    search(page, "conv1")
    expected(page.locator(".box.selected.d-fields")).to_have_count(2)
    rows = cells(page, "parameters and Caffe's defaults")
    assert rows["bias_term"] == ["true", "false", "set"]
    differing = page.locator("#details tr.differs td:first-child").all_inner_texts()
    assert differing == ["parameters", "weights", "bias_term"]
    picture(page, "compare")


def test_an_edge_from_afar_goes_round_what_is_open_and_in(tmp_path, screen):
    """That of the labels: from the data past all stages, and on to the loss."""
    page = screen(view(tmp_path, ROOT / "examples/digits/train_val.prototxt"))
    search(page, "loss")

    (head,) = (box.bounding_box() for box in page.locator(".box.open > rect").all()[-1:])
    right = head["x"] + head["width"]
    edges = [edge.bounding_box() for edge in page.locator(".edge:not([marker-end])").all()]
    (labels,) = (edge for edge in edges if edge["x"] + edge["width"] > right)
    assert head["x"] < labels["x"] < right
    assert head["y"] < labels["y"] + labels["height"] < head["y"] + head["height"]


def test_two_nets_each_with_its_weights(tmp_path, screen, picture):
    """The same net before and after a change of one layer, and an input for both."""
    net, weights, before = small(tmp_path)
    other, after, image = (tmp_path / name for name in ("b.prototxt", "after.npz", "x.npy"))
    other.write_text(to_prototxt(net))
    np.savez(after, **(weights | {"conv1.weight": 2 * weights["conv1.weight"]}))
    np.save(image, np.ones((1, 3, 32, 32), np.float32))
    path = view(tmp_path, net, "--weights", before, "--compare", other, "--weights", after,
                "--input", image)  # fmt: skip
    ours, theirs = ({layer["name"]: layer for layer in page["layers"]} for page in facts(path))
    page = screen(path)

    most = [layers["conv1"]["weights"][0][2]["max"] for layers in (ours, theirs)]
    assert most[1] == pytest.approx(2 * most[0])
    most = [layers["conv1"]["values"][0]["max"] for layers in (ours, theirs)]
    assert most[1] == pytest.approx(2 * most[0], rel=1e-5)
    search(page, "conv1")
    heads = page.locator("#details h3").all_text_contents()
    assert [head for head in heads if head.endswith((" of A", " of B"))] == [
        "activations of A", "activations of B", "blobs of A", "blobs of B",
    ]  # fmt: skip
    picture(page, "compare-weights")
    view(tmp_path, net, "--weights", before, "--weights", after, status=2)


def test_two_nets_see_the_same_image(tmp_path, monkeypatch):
    """Also where only the first is a released model; and what is noted of it is noted once."""
    net, weights, before = small(tmp_path)
    after, image = tmp_path / "after.npz", tmp_path / "x.png"
    np.savez(after, **weights)
    Image.fromarray(np.arange(900, dtype=np.uint16).astype(np.uint8).reshape(20, 15, 3)).save(image)
    known = Release("Small", "example.org", ImageOptions(mean=(70,)), found="sha256")

    def page(release):
        monkeypatch.setattr(
            "resnet_proto.evaluate.released.known_release",
            lambda _, stored: release if stored.source == str(before) else None,
        )
        other = tmp_path / "net.prototxt"
        path = view(tmp_path, net, "--weights", before, "--compare", other, "--weights", after,
                    "--input", image, notes=1)  # fmt: skip
        return [
            next(layer["values"] for layer in page["layers"] if layer["name"] == "conv1")
            for page in facts(path)
        ]

    bare, released = page(None), page(known)

    assert bare[0] == bare[1] != released[0] == released[1]


def test_a_net_beside_itself_under_other_names(tmp_path):
    net = preset("cifar-resnet-20")
    layers = [replace(layer, name=f"other_{layer.name}") for layer in net.layers]
    other = tmp_path / "other.prototxt"
    other.write_text(to_prototxt(replace(net, layers=tuple(layers))))

    for page in facts(view(tmp_path, net, "--compare", other)):
        assert {layer["differs"] for layer in page["layers"][1:]} == {"name"}
        assert [layer["partner"] for layer in page["layers"]] == list(range(len(layers) + 1))


# ---- names that are up to something


def hostile_net():
    """A net whose layers, blobs and the net itself are called so."""
    net = preset("cifar-resnet-20")

    def called(n):
        return HOSTILE[n % len(HOSTILE)] + (str(n) if n >= len(HOSTILE) else "")

    tops = list(dict.fromkeys(top for layer in net.layers for top in layer.tops))
    names = {top: called(n) for n, top in enumerate(tops)}
    layers = tuple(
        replace(layer, name=called(n), bottoms=tuple(names.get(b, b) for b in layer.bottoms),
                tops=tuple(map(names.get, layer.tops)))
        for n, layer in enumerate(net.layers)
    )  # fmt: skip
    return replace(net, name=HOSTILE[1], layers=layers)


def test_hostile_names_are_text(tmp_path, screen, picture):
    """They neither run nor break out: no dialog, no request, no element more than for others."""
    count = "['script', 'img', 'style', 'meta'].map(n => document.querySelectorAll(n).length)"
    tame = screen(view(tmp_path, preset("cifar-resnet-20"))).evaluate(count)
    page = screen(view(tmp_path, hostile_net()))

    assert page.evaluate(count) == tame
    assert page.title() == HOSTILE[1]
    assert page.locator("#title").inner_text() == HOSTILE[1]
    page.click("#open")
    for text in ("<script>", "</scr", "\"'`", "../..", "xxxx", "gnp.exe", "{{", "__proto__", "&lt"):
        search(page, text)
        shown = page.locator("#details h2 bdi").inner_text()
        assert text in shown
        assert "\u202e" not in shown
    assert page.locator("#details h2 bdi").inner_text() == "&lt;b&gt;"
    search(page, "xxxx")
    assert page.locator("#details h2 bdi").inner_text().endswith("... (10,000 letters)")
    assert page.evaluate(count) == tame
    picture(page, "hostile")


def test_the_page_may_run_nothing_else(tmp_path, screen):
    """What a hostile name would have to do, done by hand: each is refused."""
    page = screen(view(tmp_path, preset("cifar-resnet-20")))
    for attempt in (
        "eval('1')",
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'ran = 1'}))",
        "fetch('https://example.org/')",
    ):
        # After a pause, because what the debugger itself runs may do anything.
        refused = page.evaluate(
            "new Promise((say) => setTimeout(async () => {"
            f" try {{ await ({attempt}); say('done') }} catch (error) {{ say(error.name) }} }}))"
        )
        assert refused in ("EvalError", "TypeError"), attempt
    assert page.evaluate("typeof ran") == "undefined"
    assert not any(text.startswith("http") for text in screen.wrong)
    screen.wrong.clear()


# ---- weights and inputs


def small(tmp_path):
    """A net, weights of it, and their file; a part of them is wrong."""
    net = preset("cifar-resnet-20")
    weights = {key: value.copy() for key, value in random_weights(net, seed=3).items()}
    weights["res2a_branch2a.weight"].reshape(-1)[:100] = 0
    weights["res2b_branch2a.weight"].reshape(-1)[:3] = np.nan
    file = tmp_path / "w.npz"
    np.savez(file, **weights)
    return net, weights, file


def test_weights_have_histograms(tmp_path, screen, picture):
    net, weights, file = small(tmp_path)
    path = view(tmp_path, net, "--weights", file)
    rows = {layer["name"]: layer["weights"] for layer in facts(path)[0]["layers"]}
    page = screen(path)

    ((_, shape, found),) = rows["res2a_branch2a"]
    values = weights["res2a_branch2a.weight"].astype(np.float64)
    assert shape == "16x16x3x3"
    assert found["counts"] == np.histogram(values, bins=len(found["counts"]))[0].tolist()
    assert (found["zeros"], found["n"], found["not_finite"]) == (100, 2304, 0)
    assert found["min"] == values.min()
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-9)
    ((_, _, found),) = rows["res2b_branch2a"]
    assert (found["not_finite"], sum(found["counts"])) == (3, 2301)
    search(page, "res2b_branch2a")
    profile = page.locator("#details .profile").first
    assert "3" in profile.locator("tr.bad").inner_text()
    assert profile.locator("svg rect").count() > 10
    picture(page, "weights")


def test_a_histogram_of_extremes():
    """The whole range of float32, one value, none, and nothing finite."""
    for values, counted in (
        ([-3.4e38, 0, 3.4e38], 3),
        ([-1e308, 1e308], 2),
        ([2.5, 2.5], 0),
        ([], 0),
        ([np.nan, np.inf], 0),
    ):
        array = np.array(values, np.float32 if max(values, default=0) < 1e300 else np.float64)
        found = profile(Held(array).parts, str(array.dtype))

        assert found.n == len(values)
        assert sum(found.counts) == counted


def test_an_input_shows_what_each_layer_gives(tmp_path, screen, picture):
    """Maps and ranges are those of the forward pass; dead and exploding layers are marked."""
    net = preset("cifar-resnet-20")
    weights = {key: value.copy() for key, value in random_weights(net, seed=3).items()}
    weights["scale3b_branch2a.weight"][:] = 0
    weights["scale3b_branch2a.bias"][:] = -1  # what comes to its ReLU is negative
    weights["scale4c_branch2b.weight"][:] *= 1e6
    x = np.random.default_rng(5).uniform(-128, 128, (1, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "w.npz", **weights)
    path = view(tmp_path, net, "--weights", tmp_path / "w.npz", "--input", tmp_path / "x.npy")
    blobs = forward(net, weights, x)
    layers = {layer["name"]: layer for layer in facts(path)[0]["layers"]}
    page = screen(path)

    relu = blobs["res2a"][0]
    (values,) = layers["res2a_relu"]["values"]
    assert values["max"] == pytest.approx(float(relu.max()), rel=1e-6)
    assert values["zeros"] == (blobs["res2a"] == 0).sum()
    maps = values["maps"]
    assert (maps["n"], maps["rows"], maps["columns"]) == (16, 32, 32)
    pixels = np.frombuffer(base64.b64decode(maps["data"]), np.uint8).reshape(16, 32, 32)
    least, most = (f(relu, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    assert np.abs(pixels - (relu - least) / (most - least) * 255).max() < 1.01
    states = {name: layer["values"][0]["state"] for name, layer in layers.items()}
    assert states["conv1"] == states["res3a_zeros"] == ""
    assert states["res3b_branch2a_relu"] == "dead"
    assert states["scale4c_branch2b"] == "exploding"
    assert np.abs(blobs["res4c"]).max() > LARGEST_HALF
    search(page, "res2a_relu")
    assert page.locator(".maps canvas").count() == 16
    picture(page, "input")
    search(page, "res3b_branch2a_relu")
    page.wait_for_selector(".box.selected .badge.dead")
    assert "32 of 32 channels have one value only" in page.locator("#details").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    picture(page, "dead")
    assert "scale4c_branch2b" in page.locator("#details").inner_text()


def test_maps_are_bounded():
    """However many blobs there are, the maps of all fit into the room."""
    shapes = [(1, 64, 224, 112), (1, 3, 5, 7)]
    sides = []
    for n in (1, 100, 1000, 5000):
        side = side_of(shapes * n)
        sides.append(side)
        biggest = 16 * side * max(1, side // 2) + 3 * min(side, 5) * min(side, 7)
        assert n * biggest <= ROOM
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == SIDES[0]
    assert len(set(sides)) > 2
    assert not is_image((1, 1000, 1, 1))


# ---- the server


@pytest.fixture
def served(tmp_path):
    """Starts the command on a file, and gives the address that it prints."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "resnet_proto", "view", *map(str, arguments)]
        process = subprocess.Popen(
            [*command, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, process.stdout.readline().split()[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_served_page_follows_its_file(tmp_path, served, chromium):
    """What cannot be read is said, until it can; Ctrl-C ends it without a word."""
    file = tmp_path / "net.prototxt"
    file.write_text(to_prototxt(replace(preset("cifar-resnet-20"), name="first")))
    process, address = served(file)
    page = chromium.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")

    assert page.locator("#title").inner_text() == "first"
    page.click("#open")
    page.click("[data-key=l3] rect")
    name = page.locator("#details h2 bdi").inner_text()
    file.write_text(to_prototxt(replace(preset("cifar-resnet-20"), name="second")))
    expected(page.locator("#title")).to_have_text("second")
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#details h2 bdi").inner_text() == name
    file.write_text("layer { <img src=x onerror=alert(1)> }")
    expected(page.locator("#message")).to_contain_text("<img src=x onerror=alert(1)>")
    file.write_text(to_prototxt(replace(preset("cifar-resnet-20"), name="third")))
    expected(page.locator("#title")).to_have_text("third")
    page.close()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said.strip()) == (0, "")


def test_the_server_is_for_this_machine_alone(tmp_path, served):
    """Another name than its own is another site's page, which asks through this browser."""
    file = tmp_path / "net.prototxt"
    file.write_text(to_prototxt(preset("cifar-resnet-20")))
    _, address = served(file)
    port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])

    def status(path, host):
        request = urllib.request.Request(address + path, headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert status("", f"127.0.0.1:{port}") == status("changed", f"localhost:{port}") == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
        assert status("", host) == status("changed", host) == 403
    assert status("../net.prototxt", f"127.0.0.1:{port}") == 404


# ---- the command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["net.prototxt", "--input", "x.npy"], "--weights"),
        (["-"], "-o"),
        (["missing.prototxt"], "no such file"),
        (["net.prototxt", "-o", "net.prototxt/page.html"], "is not a folder"),
        (["net.prototxt", "-o", "page.pdf"], "give it one of the suffixes .html, .htm"),
    ],
)
def test_what_is_refused(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(to_prototxt(preset("cifar-resnet-20")))

    run = CliRunner().invoke(main, ["view", *arguments], input="")

    assert run.exit_code in (1, 2)
    assert said in run.stderr
    twin = CliRunner().invoke(main, ["view", "net.prototxt", "-o", "-"])
    assert twin.stdout.startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["net.prototxt"]


def test_a_net_that_breaks_off_is_shown(tmp_path, screen):
    """A type that nobody knows, and a layer that does not fit."""
    text = to_prototxt(preset("cifar-resnet-20"))
    for wrong, level in (
        (text.replace('type: "Pooling"', 'type: "Odd"'), "warning"),
        (text.replace("kernel_size: 3", "kernel_size: 99"), "error"),
    ):
        path = tmp_path / "wrong.prototxt"
        path.write_text(wrong)
        page = screen(view(tmp_path, path))

        assert page.locator(f"#details .finding.{level}").count() >= 1
        assert "at least" in page.locator("#details").inner_text()


def test_vendored_files_say_what_they_are():
    """Each with its version and its licence, and no other."""
    folder = ROOT / "resnet_proto/report/page/vendor"
    rows = [line.split() for line in (folder / "versions").read_text().splitlines()]

    assert {Path(file).name for _, _, file, _ in rows} == {f"{name}.min.js" for name in VENDOR}
    assert {path.name for path in folder.iterdir()} == {
        "versions", *(f"{name}.min.js" for name in VENDOR)
    }  # fmt: skip
    for name, version, file, _ in rows:
        head = (folder / Path(file).name).read_text()[:600]
        assert head.startswith(f"/*! {name} {version}\n")
        assert "Permission" in head or "Redistribution" in head
        assert "Copyright" in head
