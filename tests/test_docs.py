"""What the README and docs/ show is run, and prints what they say; their tables are the code's.

A part of a page (from one ``##`` to the next) is run in a folder of its own, from top to bottom:

    `NAME`:  and a block     a file that the reader writes
    console                  each line after ``$`` is a command, what follows it prints; ``...``
                             stands for anything, and what goes to stderr is shown too
    python                   a program; behind each print a comment says what it prints

    py                       ARCHITECTURE.md's worked example, which is done in a copy
    {eval-rst}, {toctree}    run by Sphinx: test_site.py

Of the lines behind four spaces a command of ours is run, with files of the names in it, or, if
``NOT_RUN`` says why not, held against the options there are; of make the target has to be there.

What is left is not run: pictures and tables in letters, formulas, lines that fetch or install
(pip, git, apt), copy from a clone, start what is not ours for long (`caffe train`, a training by
`bash .../train.sh`, a cluster of Dask), and `cd`.
"""

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw
from test_imports import ORDER

from resnet_proto import presets
from resnet_proto.check.target import NAMES, load_target
from resnet_proto.cli import COMMANDS, main
from resnet_proto.formats.onnx_layers import WRITERS
from resnet_proto.formats.onnx_ops import OPS
from resnet_proto.layers import REGISTRY
from resnet_proto.preprocess import PRESETS
from resnet_proto.recipe import RECIPES, Training
from resnet_proto.settings import spelled
from resnet_proto.spec import TASKS, Names, ResNetSpec

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([
    *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")
])  # fmt: skip
BLOCK = re.compile(
    r"(?:^`(?P<file>[\w.-]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S
)
DIGITS = ROOT / "examples" / "digits"
HALF_WIDTH = re.compile(r" deploy\.prototxt|half\.caffemodel")
"""Files of the released net, which the README calls so."""
CAFFE = re.compile(r"^\S*train\.sh|\$CAFFE")
"""Commands that need the Caffe that trains."""


class Part(NamedTuple):
    """From one heading to the next."""

    page: Path
    title: str
    text: str


def parts(page):
    """The parts of a page; the first is what goes before any ``##``."""
    first, *others = re.split(r"^## ", page.read_text(), flags=re.M)
    yield Part(page, page.stem, first)
    for text in others:
        title, _, rest = text.partition("\n")
        yield Part(page, title, rest)


def part(page, title):
    """One part of a page."""
    return next(found for found in parts(ROOT / page) if found.title == title).text


def commands(console):
    """Command and what it prints, for each ``$``."""
    for text in re.split(r"^\$ ", console, flags=re.M)[1:]:
        command, _, output = text.partition("\n")
        yield command, output


RUN = [
    pytest.param(found, id=f"{found.page.stem}: {found.title}")
    for page in PAGES
    for found in parts(page)
    if any(block["kind"] in ("console", "python") for block in BLOCK.finditer(found.text))
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the reader stands."""
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    return tmp_path


PROGRESS = re.compile(r"^[\d,]+/[\d,]+ images, .*\n", re.M)
"""What comes between only where the machine is slow."""


def run(command):
    """What a command prints, to stdout and to stderr, but for progress."""
    done = subprocess.run(
        command, shell=isinstance(command, str), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False, timeout=900,
    )  # fmt: skip
    return done.returncode, PROGRESS.sub("", done.stdout)


@pytest.mark.parametrize("shown", RUN)
def test_what_is_shown_is_so(shown, folder, request, monkeypatch):
    check(shown, folder, request, monkeypatch)


@pytest.mark.parametrize("shown", [case for case in RUN if case.values[0].page.stem == "opencv5"])
def test_the_page_about_opencv_5_is_so_there(shown, folder, request, monkeypatch, opencv5_python):
    """Its programs in OpenCV 5, but for the one that needs a Caffe importer."""
    check(shown, folder, request, monkeypatch, opencv5_python)


def check(shown, folder, request, monkeypatch, python=sys.executable):
    """Run a part of a page; programs that read no Caffe net run in another Python."""
    if "to_torch" in shown.text:
        request.getfixturevalue("torch")
    if "--names torchvision --force" in shown.text:
        request.getfixturevalue("torch_models")
    if "to_keras" in shown.text or ("keras" in shown.text and "console" in shown.text):
        request.getfixturevalue("keras")
    if HALF_WIDTH.search(shown.text):
        for file, name in zip(
            request.getfixturevalue("half_width"), ("deploy.prototxt", "half.caffemodel"),
            strict=True,
        ):  # fmt: skip
            shutil.copy(file, folder / name)
    if " digits/" in shown.text:
        shutil.copytree(DIGITS, folder / "digits", dirs_exist_ok=True)
    if " photos " in shown.text:
        draw_photos(folder / "photos")
    for block in BLOCK.finditer(shown.text):
        if block["file"]:
            (folder / block["file"]).write_text(block["text"])
        elif block["kind"] == "python":
            own = "readNetFromCaffe" in block["text"]
            program = [sys.executable if own else python, "-W", "error", "-c", block["text"]]
            status, output = run(program)
            assert status == 0, output
            assert output.splitlines() == re.findall(r"^print.*?  # (.*)", block["text"], re.M)
        elif block["kind"] == "console":
            for command, expected in commands(block["text"]):
                if CAFFE.search(command):
                    monkeypatch.setenv("CAFFE", str(request.getfixturevalue("caffe_binary")))
                _, output = run(command)
                pattern = ".*".join(map(re.escape, expected.split("...")))
                assert re.fullmatch(pattern, output, re.S), f"$ {command}\n{output}"


def draw_photos(folder):
    """Twenty images of each of three shapes, as people have them; one is cut off."""
    chance = random.Random(1)
    for name in ("circle", "square", "triangle"):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            w, h = chance.randrange(40, 140), chance.randrange(40, 140)
            image = Image.new("RGB", (w, h), tuple(chance.randrange(100) for _ in range(3)))
            half = min(w, h) * chance.uniform(0.2, 0.35)
            x, y = chance.uniform(half, w - half), chance.uniform(half, h - half)
            box = (x - half, y - half, x + half, y + half)
            corners = [(x, box[1]), (box[0], box[3]), (box[2], box[3])]
            colour = tuple(chance.randrange(150, 256) for _ in range(3))
            pen = ImageDraw.Draw(image)
            draw = {"circle": pen.ellipse, "square": pen.rectangle, "triangle": pen.polygon}[name]
            draw(corners if name == "triangle" else box, fill=colour)
            mode = "CMYK" if (name, i) == ("square", 4) else "RGB"
            image.convert(mode).save(
                folder / name / f"{i:02}.{'png' if i % 2 else 'jpg'}", "PNG" if i % 2 else "JPEG"
            )
    cut = folder / "circle" / "03.jpg"
    (folder / "circle" / "03.png").unlink()
    content = (folder / "circle" / "02.jpg").read_bytes()
    cut.write_bytes(content[: len(content) // 2])


INDENTED = re.compile(r"^    ((?:resnet-proto|make) .*)", re.M)
NOT_RUN = {
    r"ResNet-(50|101|152)-model|VGG_ILSVRC|ResNet-50\.caffemodel": "weights of 100 to 500 MB",
    r"(train|val) plain-34/": "ImageNet",
    r"iter_\d+|logs/|small ": "the training before it, which is not run",
    r"cifar-10-binary": "170 MB of images",
    r"\.keras|resnet50\.safetensors": "Keras and torchvision; a block of the page runs it",
}
"""What a command names -> why it is not run."""


@pytest.fixture
def named(tmp_path, monkeypatch):
    """A folder with what the commands between the lines name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DIGITS, tmp_path, dirs_exist_ok=True)
    for name in ("W", "old", "before"):
        shutil.copy("digits.caffemodel", f"{name}.caffemodel")
    invoke("convert digits.caffemodel after.safetensors --net deploy.prototxt")
    Path("theirs").mkdir()
    shutil.copy("deploy.prototxt", "theirs")
    shutil.copytree(ROOT / "generated" / "resnet-50", "generated/resnet-50")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for i, image in enumerate(sorted(Path("images").glob("*.png"))):
        place = Path("photos", f"class{i % 2}", image.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place)


def invoke(command):
    """A command of ours, and where its output goes."""
    command, _, target = command.partition(" > ")
    done = CliRunner().invoke(main, shlex.split(command.removeprefix("resnet-proto ")))
    if target:
        Path(target).write_text(done.stdout)
    return done


def between(text):
    """The commands behind four spaces."""
    return INDENTED.findall(BLOCK.sub("", text).replace("\\\n", " "))


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(found, id=f"{found.page.relative_to(ROOT)}: {found.title}")
        for page in PAGES
        for found in parts(page)
        if between(found.text)
    ],
)
def test_commands_between_the_lines(found, named):
    """Each does what it is for, or has options that there are. A finding is no failure."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in between(found.text):
        program, name, *arguments = shlex.split(command, comments=True)
        if program == "make":
            assert name in targets
        elif any(re.search(why, command) for why in NOT_RUN):
            group = main.get_command(click.Context(main), name)
            if isinstance(group, click.Group):
                group = group.get_command(click.Context(group), arguments.pop(0))
            group.make_parser(click.Context(group)).parse_args(arguments)
        else:
            done = invoke(command)
            assert done.exit_code == 0 or name in ("check", "diff"), done.output
            assert not re.search("^(Error|Usage): ", done.output, re.M), done.output


def test_blocks_are_of_a_kind_that_is_run():
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text()):
            assert block["kind"] in ("console", "python", "text", "py") or block["file"], page
            assert block["kind"] != "py" or page.name == "ARCHITECTURE.md"


def first_console():
    """The transcript that the README begins with."""
    text = (ROOT / "README.md").read_text()
    return next(block["text"] for block in BLOCK.finditer(text) if block["kind"] == "console")


def test_the_demo_shows_the_first_transcript():
    """Its commands; and the other demo has the files of the rest of the page."""
    demo = (ROOT / "examples" / "demo.sh").read_text()

    shown = [command for command, _ in commands(first_console())]
    assert len(shown) > 3
    for command in shown:
        assert f" {command}\n" in demo
    demo = (ROOT / "examples" / "demo-released.sh").read_text()
    sources = re.findall(r"cp CLONE/(\S+)/(\S+) ", (ROOT / "README.md").read_text())
    assert len(sources) == 2
    for folder, name in sources:
        assert folder in demo
        assert name in demo


def test_the_files_of_the_transcript(wheels_dir):
    text = (ROOT / "README.md").read_text()
    for folder, name in re.findall(r"cp CLONE/.oracles/released/(\S+)/(\S+) ", text):
        assert (wheels_dir / folder / name).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_architecture_has_every_module():
    """In its table, and in the order of imports."""
    text = (ROOT / "ARCHITECTURE.md").read_text()

    _, _, after = text.partition("from the ground up: ")
    assert (
        re.split(r",\s+", after.partition(".\n")[0].partition(". `")[0].replace("`", "")) == ORDER
    )
    places = {cell for line in re.findall(r"^\| (`.*?) \|", text, re.M) for cell in line.split("`")}
    names = {Path(place).name for place in places if "." in place or place.endswith("/")}
    for module in ORDER[:-1]:
        assert {module, f"{module}.py"} & names, module


# ---- tables


def rows(text):
    """The cells of each row whose first cell is code, without the backticks of that one."""
    for line in re.findall(r"^\| (`.*) \|$", text, re.M):
        first, *others = re.split(r" *(?<!\\)\| *", line)
        yield first.strip("`"), *others


@pytest.mark.parametrize(
    ("settings", "page", "prefix"),
    [
        (ResNetSpec, "docs/specs.md", ""),
        (Names, "docs/specs.md", "names."),
        (Training, "docs/training.md", "training."),
    ],
)
def test_every_field_is_in_a_table(settings, page, prefix):
    """With its default as ``--set`` takes it, and with all values where they are few."""
    shown = {
        name: cells for name, *cells in rows((ROOT / page).read_text())
        if len(cells) == 2 and re.fullmatch(r"[\w.]+", name)
    }  # fmt: skip
    known = [about for about in fields(settings) if about.name not in ("names", "training")]

    ours = {name for name in shown if name.rpartition(".")[0] + "." * bool(prefix) == prefix}
    assert ours == {prefix + about.name for about in known}
    for about in known:
        default, meaning = shown[prefix + about.name]
        value = about.default if isinstance(about.default, str) else spelled(about.default)
        value = value.strip("[]").replace(", ", ",")
        assert default == (f"`{value}`" if value else "")
        for choice in about.metadata["one_of"]:
            assert f"`{choice}`" in meaning, f"{about.name}: {choice}"


@pytest.mark.parametrize(
    ("page", "title", "names"),
    [
        ("README.md", "The commands", list(COMMANDS)),
        ("docs/training.md", "Recipes", list(RECIPES)),
        ("docs/tasks.md", "tasks", list(TASKS)),
        ("docs/npu.md", "The targets", list(NAMES)),
    ],
    ids=["commands", "recipes", "tasks", "targets"],
)
def test_every_name_is_in_the_table(page, title, names):
    assert [first.split()[0] for first, *_ in rows(part(page, title))] == names


def test_floor_pooling_of_each_target():
    for name, _, _, floor, _ in rows(part("docs/npu.md", "The targets")):
        words = re.findall("`(.*?)`", floor)
        assert words == [*load_target(name).floor], name
        assert words or floor == "old layers"


def test_limits_of_each_target():
    _, _, table = part("docs/to-caffe.md", "Clip and ReLU6").partition("| limits |")
    both, relu6, clip = (re.findall("`(.*?)`", cell) for cell in table.split("|")[:3])

    taken = {name: {"ReLU6", "Clip"} & {*load_target(name).types} for name in NAMES}
    assert both == [name for name in NAMES if taken[name] == {"ReLU6", "Clip"}]
    assert relu6 == [name for name in NAMES if taken[name] == {"ReLU6"}]
    assert clip == [name for name in NAMES if taken[name] == {"Clip"}]


def test_every_op_of_onnx_is_in_the_table():
    _, _, table = part("docs/to-caffe.md", "From ONNX").partition("| op | becomes |\n|---|---|\n")
    lines = table.strip().splitlines()
    names = [name for row in lines for name in row.split("|")[1].strip().split(", ")]

    assert sorted(names) == sorted(OPS)
    assert f"{len(OPS)} ops" in (ROOT / "CHANGELOG.md").read_text()


def test_every_layer_that_onnx_has_is_in_the_table():
    """And the others are named below it."""
    text = part("docs/onnx.md", "Layers and ops")
    _, _, table = text.partition("| layer | becomes |\n|---|---|\n")
    table, _, below = table.partition("\n\n")
    names = [name for row in table.splitlines() for name in row.split("|")[1].strip().split(", ")]

    assert sorted(names) == sorted(WRITERS)
    others = {type for type, cls in REGISTRY.items() if not cls.from_outside} - WRITERS.keys()
    assert all(type in below for type in others if not type.endswith("Loss"))


def test_every_layer_type_is_listed():
    """Where the message for another type leads."""
    text = " ".join((ROOT / "docs/engines.md").read_text().split())
    listed = text.partition("known, to all commands: ")[2].partition(". ")[0]

    assert listed.split(", ") == sorted(REGISTRY)


def test_the_number_of_presets():
    for page in ("README.md", "CHANGELOG.md"):
        assert f"{len(presets.PRESETS)} presets" in (ROOT / page).read_text()


def test_every_image_preset_is_in_the_table():
    """Names, means and scales of docs/images.md are those of the code."""
    _, *found = [row for row in rows((ROOT / "docs/images.md").read_text()) if len(row) == 6]

    assert [name for name, *_ in found] == list(PRESETS)
    for name, *figures in found:
        mean, scale = (tuple(map(float, text.split(","))) for text in figures[:2])
        assert mean == pytest.approx(PRESETS[name].mean, abs=1e-9)
        assert scale == pytest.approx(PRESETS[name].scale, rel=5e-3)


def test_every_alternative_has_its_date_and_source():
    """Or says that none was found; and what does which job is said of the same ones."""
    jobs, dates = (
        re.findall(r"^\| (?!\*\*)(.*?) \| (.*) \|$", part("docs/alternatives.md", title), re.M)[1:]
        for title in ("Who does what", "How old, and a known limit")
    )

    assert [name.split(" (")[0] for name, _ in jobs if name != "resnet-proto"] == [
        name.split(" (")[0] for name, _ in dates
    ]
    for name, cells in dates:
        released, limit = cells.split(" | ")
        found = re.search(r"20\d\d-?\d\d|date not found|^not found|^as ", released)
        assert found, f"{name}: neither date nor 'not found'"
        assert "](" in limit, f"{name}: no source"


FRAGMENT = re.compile(
    r"`(?P<file>[\w./]+)`(?:,\s+behind `(?P<line>[^`\n]+)`)?:\n\n```py\n(?P<text>.*?)^```",
    re.M | re.S,
)
"""A file, or lines that go into one, as ARCHITECTURE.md shows them."""


def test_a_layer_in_four_files(tmp_path):
    """Done as the page says, in a copy of the package."""
    shown = part("ARCHITECTURE.md", "A layer in four files")
    command, _ = re.findall(r"^    \.venv/bin/python (-m pytest .*)$", shown, re.M)
    ignore = shutil.ignore_patterns("__pycache__", "nets", "check", "data", "evaluate", "oracles")
    shutil.copytree(ROOT / "resnet_proto", tmp_path / "resnet_proto")
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=ignore)
    for name in ("pyproject.toml", "setup.cfg", "templates"):
        (tmp_path / name).symlink_to(ROOT / name)

    files = set()
    for fragment in FRAGMENT.finditer(shown):
        path = tmp_path / fragment["file"]
        files.add(path)
        if fragment["line"]:
            before, line, after = path.read_text().partition(fragment["line"] + "\n")
            assert line, fragment["line"]
            path.write_text(before + line + fragment["text"] + after)
        else:
            assert not path.exists()
            path.write_text(fragment["text"])
    done = subprocess.run(
        [sys.executable, *command.split(), "-vv", "-p", "no:cacheprovider"], check=False,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert re.search(r"test_layer_classes_agree\[HardSwish\] PASSED", done.stdout)
    assert len(files) == 4
