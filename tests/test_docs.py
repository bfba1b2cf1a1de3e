"""The transcripts and the code of the README are run, and print what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_proto.preprocess import PRESETS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCS = [ROOT / "README.md", *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def transcripts():
    """Command and expected output of each ``$``."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            yield pytest.param(command, output, id=command)


@pytest.fixture
def folder(tmp_path, monkeypatch, half_width):
    """Where the reader of the README stands."""
    shutil.copy(half_width[0], tmp_path / "deploy.prototxt")
    shutil.copy(half_width[1], tmp_path / "half.caffemodel")
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    subprocess.run(
        "resnet-proto convert half.caffemodel half.safetensors --net deploy.prototxt",
        shell=True, check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path


@pytest.mark.parametrize(("command", "output"), list(transcripts()))
def test_transcript(folder, command, output):
    """``...`` stands for anything; what goes to stderr is shown too."""
    done = subprocess.run(
        command,
        shell=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )

    pattern = ".*".join(map(re.escape, output.split("...")))
    assert re.fullmatch(pattern, done.stdout, re.S), done.stdout


def test_the_demo_shows_the_first_transcript():
    """Its commands, and where their files come from."""
    demo = (ROOT / "examples" / "demo.sh").read_text()
    first, *_ = blocks("console")

    commands = re.findall(r"^\$ (.*)", first, re.M)
    assert len(commands) > 3
    for command in commands:
        assert f" {command}\n" in demo
    sources = re.findall(r"cp CLONE/(\S+)/(\S+) ", README)
    assert len(sources) == 2
    for folder, name in sources:
        assert folder in demo
        assert name in demo


def test_the_files_of_the_transcript(wheels_dir):
    for folder, name in re.findall(r"cp CLONE/.oracles/released/(\S+)/(\S+) ", README):
        assert (wheels_dir / folder / name).exists()


def test_python(folder, capsys):
    (code,) = blocks("python")

    exec(compile(code, "README.md", "exec"), {})

    assert capsys.readouterr().out == "(1, 2) (1, 1024, 1, 1)\n"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_preset_is_in_the_table():
    """Names, means and scales of docs/images.md are those of the code."""
    page = (ROOT / "docs/images.md").read_text()
    _, *rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| ([^|]+) \|", page, re.M)

    assert [name for name, *_ in rows] == list(PRESETS)
    for name, *figures in rows:
        mean, scale = (tuple(map(float, text.split(","))) for text in figures)
        assert mean == pytest.approx(PRESETS[name].mean, abs=1e-9)
        assert scale == pytest.approx(PRESETS[name].scale, rel=5e-3)
