"""Files of a net, and the checked-in ``generated/``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pin_presets import digest

from resnet_proto.errors import ResNetProtoError
from resnet_proto.generate import write_files
from resnet_proto.presets import PRESETS

ROOT = Path(__file__).parent.parent
GENERATED = ROOT / "generated"


def kept():
    """The presets whose files are checked in: as the Makefile has them."""
    (words,) = re.findall(r"^KEPT := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.M)
    return words.replace("\\\n", " ").split()


def test_generated_is_up_to_date(tmp_path):
    """Each file is what the command line writes, and there is none too many."""
    for name in kept():
        subprocess.run(
            [sys.executable, "-c", "from resnet_proto.cli import main; main()",
             "gen", "--preset", name],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
    fresh = {p.relative_to(tmp_path / "generated"): content(p) for p in files(tmp_path)}

    there = {p.relative_to(GENERATED): content(p) for p in files(GENERATED)}

    stale = sorted(
        str(name) for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name)
    )
    assert not stale, (
        f"generated/ is out of date or has a file too many: {stale}; run `make generated`"
    )
    assert len(there) == 4 * len(kept()) + 1  # one has a warm-up


def content(path):
    """The bytes of a file, and whether it can be executed."""
    return path.read_bytes(), bool(path.stat().st_mode & 0o100)


def pinned():
    lines = (ROOT / "tests" / "presets.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def test_every_preset_is_pinned():
    assert pinned().keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_unchanged(name):
    """That its files are right is shown elsewhere: by counts, and by the real Caffe."""
    assert digest(name) == pinned()[name], "read the difference, then run `make generated`"


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_write_then_unchanged_then_refused(tmp_path):
    texts = {"deploy.prototxt": "name: 'a'\n"}
    path = tmp_path / "net" / "deploy.prototxt"

    assert write_files(texts, path.parent) == {path: "written"}
    assert write_files(texts, path.parent) == {path: "unchanged"}
    path.write_text("mine")
    with pytest.raises(
        ResNetProtoError, match=r"deploy.prototxt exists with other content; --force"
    ):
        write_files(texts, path.parent)
    assert path.read_text() == "mine"
    assert write_files(texts, path.parent, force=True) == {path: "written"}
    assert path.read_text() == texts["deploy.prototxt"]
    assert [p.name for p in path.parent.iterdir()] == ["deploy.prototxt"]


def test_nothing_is_written_when_one_file_is_refused(tmp_path):
    (tmp_path / "b").write_text("mine")

    with pytest.raises(ResNetProtoError, match="exists"):
        write_files({"a": "1", "b": "2"}, tmp_path)

    assert [p.name for p in tmp_path.iterdir()] == ["b"]
