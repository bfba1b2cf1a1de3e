"""``resnet-proto data`` from outside: what it prints, wrong usage, bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from resnet_proto.cli import main
from resnet_proto.cli.progress import clock

PARTS = ("lmdb", "mean", "show")


def run(*arguments):
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where x is a folder of two classes of five images each, 8x6."""
    for i, name in enumerate(("cat", "dog")):
        (tmp_path / "x" / name).mkdir(parents=True)
        for j in range(5):
            image = Image.fromarray(np.full((8, 6, 3), 40 * i + j, np.uint8))
            image.save(tmp_path / "x" / name / f"{j}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("part", PARTS)
def test_help_of_each_part_has_examples_that_fit(part):
    shown = run(part, "--help").stdout

    assert f"\n  Examples:\n  resnet-proto data {part} " in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_the_group_shows_its_parts():
    shown = run("--help").stdout
    assert all(f"\n  {part}  " in shown for part in PARTS)
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_what_is_printed(folder):
    (folder / "x" / "dog" / "bad.png").write_bytes(b"")
    (folder / "x" / "emu").mkdir()
    result = run("lmdb", "x", "train_lmdb", "--split", "val=0.4", "--resize", "warp:12x10")

    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        "train_lmdb: 6 images of 2 classes, 3x12x10\nval_lmdb: 4 images of 2 classes, 3x12x10\n"
    )
    assert result.stderr == (
        "Warning: x: class 'emu' (2) has no images\n"
        "Warning: left out: dog/bad.png: not an image that Pillow knows\n"
        "Warning: train_lmdb: 1 image left out\n"
    )


def test_json(folder):
    result = run("lmdb", "x", "db", "--json", "--resize", "shorter:3", "--gray", "--jobs", 2)

    facts = json.loads(result.stdout)
    assert facts["classes"] == ["cat", "dog"]
    (at,) = facts["databases"]
    assert at == {
        "path": "db",
        "images": 10,
        "resumed": 0,
        "skipped": {},
        "labels": {"0": 5, "1": 5},
        "shapes": {"1x4x3": 10},
    }
    mean = json.loads(run("mean", "db", "mean.npy", "--json").stdout)
    assert mean == {"file": "mean.npy", "shape": [1, 4, 3], "channels": [22.0]}
    assert np.load("mean.npy").tolist() == np.full((1, 4, 3), 22.0).tolist()


def test_a_mean_and_a_sheet(folder):
    run("lmdb", "x", "db")
    result = run("mean", "db", "mean.binaryproto")
    assert result.stdout == "mean of each channel (blue, green, red): 22,22,22\n"
    assert result.stderr == "wrote mean.binaryproto: 3x8x6\n"
    alone = run("mean", "db")
    assert (alone.stdout, alone.stderr) == (result.stdout, "")
    assert json.loads(run("mean", "db", "--json").stdout) == {"channels": [22, 22, 22]}

    result = run("show", "db", "sheet.png", "-n", 3, "--seed", 4)
    assert result.stderr == "wrote sheet.png: 3 images, 210x238 pixels\n"
    facts = json.loads(run("show", "db", "sheet.png", "-n", 3, "--json").stdout)
    assert facts == {"file": "sheet.png", "images": 3, "height": 238, "width": 210}
    with Image.open("sheet.png") as image:
        assert (image.format, image.size) == ("PNG", (210, 238))


def test_refusing_and_sizes_that_differ(folder):
    Image.new("RGB", (9, 9)).save("x/cat/large.png")
    result = run("lmdb", "x", "db")
    assert result.stdout == "db: 11 images of 2 classes, 8x6 to 9x9\n"
    assert "Warning: db: the images differ in size, so the net needs a crop_size" in result.stderr
    result = run("lmdb", "x", "shorter", "--resize", "shorter:9")  # for a crop
    assert (result.stdout, result.stderr) == ("shorter: 11 images of 2 classes, 9x9 to 12x9\n", "")

    (folder / "x" / "cat" / "bad.png").write_bytes(b"")
    result = run("lmdb", "x", "other", "--on-error", "refuse")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cat/bad.png: not an image that Pillow knows")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lmdb x", "Missing argument 'OUT'"),
        ("lmdb x db more", "unexpected extra argument (more); it takes IMAGES and OUT"),
        ("lmdb - db", "IMAGES has to be a folder or a file"),
        ("lmdb x ..", "OUT is ..; give the name of a new folder"),
        ("lmdb x db --resize 256", "'256' is not none, shorter:N, warp:N or"),
        ("lmdb x db --resize shorter:0", "is not none, shorter"),
        ("lmdb x db --resize shorter:3x4", "the shorter side is one number"),
        ("lmdb x db --resize warp:99999", "N is 1 to 16384"),
        ("lmdb x db --split 0.1", "is not a name and a share below 1, as in val=0.1"),
        ("lmdb x db --split val=1", "is not a name and a share"),
        ("lmdb x db --split val=0.0", "is not a name and a share"),
        ("lmdb x db --split ../val=0.1", "is not a name and a share"),
        ("lmdb x db --jobs 0", "'0' is not a whole number"),
        ("mean db mean.txt", "a mean is written as .binaryproto or .npy"),
        ("show db sheet.jpg", "a contact sheet is written as .png"),
        ("show db sheet.png -n 0", "'0' is not a whole number"),
        ("frobnicate", "No such command 'frobnicate'"),
    ],
)
def test_wrong_usage(folder, arguments, message):
    result = run(*arguments.split())

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lmdb none db", "none: no such file; give a folder of class folders"),
        ("lmdb x x/cat/1.png/db", "x/cat/1.png/db: "),
        ("mean none mean.npy", "none: no such folder; `resnet-proto data lmdb` writes one"),
        ("show none sheet.png", "none: no such folder"),
        ("mean x none/mean.npy", "x: not the folder of an LMDB"),
    ],
)
def test_what_is_refused(folder, arguments, message):
    result = run(*arguments.split())

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert sorted(path.name for path in folder.iterdir()) == ["x"]


@pytest.mark.parametrize(("module", "extra"), [("lmdb", "data"), ("PIL", "data")])
def test_a_missing_package_is_said_with_its_extra(folder, module, extra):
    code = (
        f"import sys; sys.modules['{module}'] = None; from resnet_proto.cli import main; "
        "main(['data', 'lmdb', 'x', 'db', '--on-error', 'refuse'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'resnet-proto[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_digits_without_their_package(folder, monkeypatch):
    monkeypatch.setattr("resnet_proto.data.sources.find_spec", lambda name: None)
    result = run("lmdb", "digits", "db")
    assert result.exit_code == 1
    assert "pip install 'resnet-proto[digits]'" in result.stderr


def test_ctrl_c_leaves_what_can_be_gone_on_with(folder):
    code = (
        "import os, signal, resnet_proto.data.write as w\n"
        "from resnet_proto.cli import main\n"
        "real = w.datum\n"
        "def datum(content, label, options, name):\n"
        "    if name.endswith('dog/3.png'): os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(content, label, options, name)\n"
        "w.datum, w.MOST_RECORDS = datum, 2\n"
        "main(['data', 'lmdb', 'x', 'db', '--no-shuffle', '--jobs', '1'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert not (folder / "db").exists()

    result = run("lmdb", "x", "db", "--no-shuffle")
    assert result.stdout == "db: 10 images of 2 classes, 3x8x6\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (83, "1:23"), (3725, "1:02:05")])
def test_time_left(seconds, text):
    assert clock(seconds) == text


def test_progress_has_rate_and_time_left(folder, monkeypatch):
    monkeypatch.setattr("resnet_proto.cli.progress.EVERY", 0.0)
    result = run("lmdb", "x", "db")
    assert "10/10 images, " in result.stderr
    assert " images/s, 0:00 left\n" in result.stderr
