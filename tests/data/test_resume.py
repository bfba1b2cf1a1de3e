"""After any end the same command goes on, and what it makes is what an unbroken run makes."""

import resource
import signal
import subprocess
import sys
from functools import partial

import pytest
from small_images import class_folder, held, written

from resnet_proto.data import write as module
from resnet_proto.data.images import Options
from resnet_proto.data.sources import find_images
from resnet_proto.data.write import Plan, write
from resnet_proto.errors import ResNetProtoError

CHILD = """
import os, signal, sys
from pathlib import Path
from resnet_proto.data import write as module
from resnet_proto.data.images import Options
from resnet_proto.data.sources import find_images

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(done, before, total):
    if done >= int(sys.argv[2]):
        die()

module.MOST_RECORDS = 7
if sys.argv[1] == "moving":
    rename, moves = Path.rename, []
    def moved(self, target):
        moves.append(target)
        if len(moves) > int(sys.argv[2]):
            die()
        return rename(self, target)
    Path.rename = moved
    progress = lambda *_: None
if sys.argv[1] == "beginning":
    module.atomic = die
options = Options(resize=(9, 11))
plan = module.Plan(find_images("digits"), options, Path("train_lmdb"), ("val", 0.25), True, 3)
module.write(plan, jobs=2, progress=progress)
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Train and val of digits, in one go."""
    folder = tmp_path_factory.mktemp("unbroken")
    written("digits", folder / "train_lmdb", **known())
    return [held(folder / name) for name in ("train_lmdb", "val_lmdb")]


def known():
    return {"resize": (9, 11), "split": ("val", 0.25), "shuffle": True, "seed": 3}


def test_an_unbroken_run(unbroken):
    """Every image once: by the number in its key, over both databases."""
    train, val = unbroken
    names = [key[9:] for key, _ in (*train, *val)]
    assert (len(train), len(val)) == (1347, 450)
    assert sorted(names) == sorted(b"digits/%d" % i for i in range(1797))
    assert [key[:8] for key, _ in val] == [b"%08d" % i for i in range(450)]
    # a quarter of each class, rounded: 178, 182, 177, 183 ... digits
    all_labels = find_images("digits").labels
    labels = [all_labels[int(key[16:])] for key, _ in val]
    assert [labels.count(i) for i in range(10)] == [44, 46, 44, 46, 45, 46, 45, 45, 44, 45]


@pytest.mark.parametrize(
    ("where", "count"),
    [("work", 32), ("work", 700), ("work", 1347), ("work", 1400), ("work", 1797),
     ("moving", 0), ("moving", 1), ("beginning", 0)],
)  # fmt: skip
def test_a_killed_writer_is_gone_on_with(tmp_path, monkeypatch, unbroken, where, count):
    """SIGKILL at different places: nothing is lost, nothing doubled, every byte is the same."""
    monkeypatch.chdir(tmp_path)
    run = subprocess.run([sys.executable, "-c", CHILD, where, str(count)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "train_lmdb").exists()
    if where == "work":
        assert (tmp_path / "train_lmdb.part").is_dir()

    done = written("digits", tmp_path / "train_lmdb", **known())

    assert [held(tmp_path / name) for name in ("train_lmdb", "val_lmdb")] == unbroken
    assert sorted(x.name for x in tmp_path.iterdir()) == ["train_lmdb", "val_lmdb"]
    names = sorted(x.name for x in (tmp_path / "train_lmdb").iterdir())
    assert names == ["data.mdb", "labels.txt", "lock.mdb"]
    assert sum(at.images for at in done) == 1797
    if count > 32 or where == "moving":
        assert sum(at.resumed for at in done) > count // 2


def test_a_full_disk_is_said_and_gone_on_from(tmp_path, unbroken):
    """RLIMIT_FSIZE stands for a disk that is full."""
    code = CHILD.replace("int(sys.argv[2])", "10**9").replace(
        "module.write(", "sys.tracebacklimit = 0\nmodule.write("
    )
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (150_000, 150_000))
    run = subprocess.run(
        [sys.executable, "-c", code, "work", "0"], cwd=tmp_path, preexec_fn=limit,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "train_lmdb: cannot be written: " in run.stderr
    assert "make room, and give the same command again" in run.stderr

    done = written("digits", tmp_path / "train_lmdb", **known())

    assert [held(tmp_path / name) for name in ("train_lmdb", "val_lmdb")] == unbroken
    assert done[0].resumed > 0


def test_the_map_grows_by_itself(tmp_path, monkeypatch, unbroken):
    """From two pages' worth; the records are the same."""
    monkeypatch.setattr("resnet_proto.data.lmdb.FIRST_SIZE", 1 << 14)
    monkeypatch.setattr(module, "MOST_RECORDS", 10)
    written("digits", tmp_path / "train_lmdb", **known())
    assert [held(tmp_path / name) for name in ("train_lmdb", "val_lmdb")] == unbroken


@pytest.mark.parametrize("jobs", [1, 3])
def test_jobs_and_commits_change_nothing(tmp_path, monkeypatch, unbroken, jobs):
    monkeypatch.setattr(module, "MOST_BYTES", 1 << 12)
    written("digits", tmp_path / "train_lmdb", jobs=jobs, **known())
    assert held(tmp_path / "train_lmdb") == unbroken[0]


class StoppedError(Exception):
    pass


def stop(done, before, total):
    raise StoppedError


def begun(source, out, **known):
    """A run that ends at its first word."""
    with pytest.raises(StoppedError):
        written(source, out, progress=stop, **known)


def test_other_images_or_options_are_refused(tmp_path):
    """``--force`` begins again; the same go on, whatever ``jobs`` and ``refuse`` say."""
    class_folder(tmp_path / "x", each=20)
    begun(tmp_path / "x", tmp_path / "db")
    other = {"pad": 1}, {"grey": True}, {"encoded": True}, {"seed": 1}, {"shuffle": True}
    for known in (*other, {"resize": 7}, {"split": ("val", 0.5)}):
        with pytest.raises(ResNetProtoError, match=r"db\.part: begun with other images or options"):
            written(tmp_path / "x", tmp_path / "db", **known)
    (tmp_path / "x" / "a" / "new.png").write_bytes(b"")
    with pytest.raises(ResNetProtoError, match="begun with other images"):
        written(tmp_path / "x", tmp_path / "db")
    (at,) = written(tmp_path / "x", tmp_path / "db", force=True)
    assert (at.images, at.resumed) == (63, 0)
    assert at.skipped.keys() == {"a/new.png"}


def test_another_list_of_the_same_name_is_refused(tmp_path):
    class_folder(tmp_path / "x", each=20)
    lines = [f"x/a/{i}.png {i % 4}\n" for i in range(20)]
    (tmp_path / "list").write_text("".join(lines))
    begun(tmp_path / "list", tmp_path / "db")
    (tmp_path / "list").write_text("".join(lines[::-1]))
    with pytest.raises(ResNetProtoError, match="begun with other images"):
        written(tmp_path / "list", tmp_path / "db")
    (tmp_path / "list").write_text("".join(lines))
    (at,) = written(tmp_path / "list", tmp_path / "db", jobs=2, refuse=True)
    assert at.images == 20


def test_images_left_out_before_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_RECORDS", 8)
    class_folder(tmp_path / "x", each=20)
    (tmp_path / "x" / "a" / "2.png").write_bytes(b"")
    begun(tmp_path / "x", tmp_path / "db")

    (at,) = written(tmp_path / "x", tmp_path / "db")

    assert (at.images, at.resumed) == (62, 24)
    assert at.skipped == {"a/2.png": "a/2.png: an earlier run could not read it"}
    assert at.labels == {0: 19, 1: 21, 2: 22}


def test_a_database_is_not_overwritten(tmp_path):
    class_folder(tmp_path / "x")
    written(tmp_path / "x", tmp_path / "db")
    before = held(tmp_path / "db")

    with pytest.raises(ResNetProtoError, match="db exists already; --force replaces it"):
        written(tmp_path / "x", tmp_path / "db", grey=True)
    assert held(tmp_path / "db") == before

    written(tmp_path / "x", tmp_path / "db", grey=True, force=True)
    assert len(held(tmp_path / "db")[0][1]) < len(before[0][1])


@pytest.mark.parametrize("where", ["db", "db.part", "val_lmdb"])
def test_what_is_no_database_is_left_alone(tmp_path, where):
    class_folder(tmp_path / "x")
    (tmp_path / where).mkdir()
    (tmp_path / where / "thesis.tex").write_text("x")

    with pytest.raises(ResNetProtoError, match="move it away"):
        written(tmp_path / "x", tmp_path / "db", split=("val", 0.5), force=True)

    assert (tmp_path / where / "thesis.tex").read_text() == "x"


def test_two_writers_do_not_mix(tmp_path):
    class_folder(tmp_path / "x", each=20)

    def second(done, before, total):
        with pytest.raises(ResNetProtoError, match="another process is writing there"):
            written(tmp_path / "x", tmp_path / "db")

    (at,) = written(tmp_path / "x", tmp_path / "db", progress=second)
    assert at.images == 63


def test_a_split_needs_images_on_both_sides(tmp_path):
    class_folder(tmp_path / "x")
    images = find_images(str(tmp_path / "x"))
    with pytest.raises(ResNetProtoError, match="would have no image of 15"):
        write(Plan(images, Options(), tmp_path / "db", ("val", 0.01)))
    with pytest.raises(ResNetProtoError, match="both databases would be"):
        write(Plan(images, Options(), tmp_path / "val_lmdb", ("val", 0.5)))
    assert not (tmp_path / "db.part").exists()


def test_force_begins_again_and_waits_for_nobody(tmp_path):
    """An image that was mended comes in; where another process writes, nothing is touched."""
    class_folder(tmp_path / "x")
    bad = tmp_path / "x" / "a" / "0.png"
    good = bad.read_bytes()
    bad.write_bytes(b"no image")
    plan = Plan(find_images(str(tmp_path / "x")), Options(), tmp_path / "db", None, False, 0)

    def stop(done, before, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(plan, progress=stop)
    bad.write_bytes(good)
    with module.locked(plan.part / module.STATE):
        before = sorted(path.name for path in plan.part.rglob("*"))
        with pytest.raises(ResNetProtoError, match="another process is writing there"):
            write(plan, force=True)
        assert sorted(path.name for path in plan.part.rglob("*")) == before
    (at,) = write(plan, force=True)
    assert (at.resumed, at.skipped, len(held(tmp_path / "db"))) == (0, {}, len(plan.images))


def test_what_wrote_nothing_leaves_nothing(tmp_path):
    """No image can be read: with good ones in their place the same command goes."""
    class_folder(tmp_path / "x")
    files = sorted((tmp_path / "x").rglob("*.png"))
    contents = [file.read_bytes() for file in files]
    for file in files:
        file.write_bytes(b"no image")
    plan = Plan(find_images(str(tmp_path / "x")), Options(), tmp_path / "db", None, True, 0)
    with pytest.raises(ResNetProtoError, match="no image can be read"):
        write(plan)
    assert not plan.part.exists()
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    (at,) = write(plan)
    assert at.images == len(plan.images)
