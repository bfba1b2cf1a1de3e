"""The documentation as a site: `make docs`."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
from conftest import missing

import resnet_proto
from resnet_proto.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """The ids, the links, what is loaded, and the text of a page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded, self.text = set(), set(), set(), ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        self.links.add(found.get("href") or found.get("src"))
        if tag in ("script", "link", "img"):
            self.loaded.add(found.get("src") or found.get("href"))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Made without a warning."""
    pytest.importorskip("sphinx", reason="pip install 'resnet-proto[docs]'")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-d", out / "trees", ROOT / "docs", out / "html"],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return out / "html"


def test_every_command_is_explained(site):
    page = Page(site / "commands.html")

    for name in COMMANDS:
        assert f"resnet-proto-{name}" in page.ids
    assert "resnet-proto gen --depth 152" in page.text
    assert "\x08" not in page.text


def test_every_public_name_is_explained(site):
    page = Page(site / "python.html")

    for name in set(resnet_proto.__all__) - {"PRESETS", "__version__"}:
        assert f"resnet_proto.{name}" in page.ids


def test_every_page_is_reached_and_loads_nothing_from_elsewhere(site):
    pages = {path.name: Page(path) for path in site.glob("*.html")}

    start = {link.partition("#")[0] for link in pages["index.html"].links if link}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= start | {"index.html"}
    for page in pages.values():
        assert len(page.loaded) > 5
        assert not [link for link in page.loaded if link and "//" in link]


def test_every_picture_is_shown_and_what_our_tool_draws(tmp_path, monkeypatch):
    """Where things lie is Graphviz's, which differs from version to version; the words are ours."""
    if shutil.which("dot") is None:
        missing("Graphviz is not here: apt-get install graphviz")
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    shown = {Path(link).name for link in re.findall(r"\(pictures/([\w.-]+)\)", pages)}
    monkeypatch.syspath_prepend(ROOT / "docs")
    pictures = import_module("pictures")
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)

    pictures.main()

    made = {path.name: words(path) for path in tmp_path.iterdir()}
    assert made == {path.name: words(path) for path in (ROOT / "docs" / "pictures").iterdir()}
    assert shown == set(made)


def words(path):
    """The texts of a picture."""
    return sorted(ET.parse(path).getroot().itertext(), key=str)
