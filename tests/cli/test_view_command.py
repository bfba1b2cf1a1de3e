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
from conftest import ROOT, missing
from nets import googlenet, ssd

from resnet_proto import PRESETS, deploy_net, forward, random_weights, read_prototxt, to_prototxt
from resnet_proto.cli import main
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
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not here: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def screen(chromium):
    """Opens a page, which may neither fail, nor ask, nor load anything."""
    wrong = []
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
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


@pytest.fixture
def picture(tmp_path):
    """Keeps a picture of a page."""
    kept = os.environ.get("RESNET_PROTO_SCREENSHOTS")
    folder = Path(kept) if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png")


def view(folder, net, *arguments, status=0):
    """The page of a net, or of a file."""
    path = folder / "net.prototxt"
    path.write_text(to_prototxt(net)) if not isinstance(net, Path) else shutil.copy(net, path)
    out = folder / "page.html"
    run = CliRunner().invoke(main, ["view", str(path), "-o", str(out), *map(str, arguments)])
    assert run.exit_code == status, run.output
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
    else:
        path = ROOT / "generated" / name / "deploy.prototxt"
    found = structure(read_prototxt(path))
    page = screen(view(tmp_path, path))
    closed = len(found.graph.nodes) > 60

    items = page.locator("[role=treeitem]")
    if closed:
        assert items.count() == len(found.parts)
        assert page.locator(".pane .box").count() == len(found.parts)
    picture(page, f"{name}-closed")
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


@pytest.mark.parametrize("module", [googlenet, ssd], ids=["googlenet", "ssd"])
def test_nets_of_other_families_open(module, tmp_path, screen, picture):
    page = screen(view(tmp_path, module.net()))

    page.click("#open")
    page.click("#fit")
    page.wait_for_timeout(300)
    picture(page, module.__name__.rpartition(".")[2])
    assert page.locator(".pane .edge").count() > 10
