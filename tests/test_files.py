"""An interrupted write leaves the old file."""

import errno
import io
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import pytest

from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import NETS, WEIGHTS, atomic, spooled, together, unreadable, why


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_content(tmp_path, error):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"old")

    with pytest.raises(error), atomic(path) as file:
        file.write(b"half of the n")
        raise error

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_ctrl_c_stays_ctrl_c(tmp_path):
    """A ValueError is what zipfile makes of it; one raised where Ctrl-C was caught stays one."""
    path = tmp_path / "weights.npz"

    with pytest.raises(KeyboardInterrupt), atomic(path):
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("Can't close the ZIP file")
    with pytest.raises(ValueError, match="half"):
        try:
            raise KeyboardInterrupt
        finally:
            with atomic(path):
                raise ValueError("half")

    assert not list(tmp_path.iterdir())


def test_the_old_file_is_replaced_and_not_written_over(tmp_path):
    """At every moment the name leads to a whole file, and who has the old one open keeps it."""
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"the old content")
    with path.open("rb") as reader:
        with atomic(path) as file:
            file.write(b"the new")
            file.flush()
            assert path.read_bytes() == b"the old content"
        assert path.read_bytes() == b"the new"
        assert reader.read() == b"the old content"
        assert os.fstat(reader.fileno()).st_ino != path.stat().st_ino


def test_mode_is_that_of_any_new_file(tmp_path):
    with (tmp_path / "plain").open("wb"), atomic(tmp_path / "ours") as file:
        file.write(b"x")

    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "a").write_text("")

    with (
        pytest.raises(ResNetProtoError, match=r"a/b: cannot be written: .*/a is a file, not a"),
        atomic(tmp_path / "a" / "b"),
    ):
        raise AssertionError("not reached")


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "a").mkdir()

    with (
        pytest.raises(ResNetProtoError, match=f"{os.sep}a: cannot be written"),
        atomic(tmp_path / "a") as file,
    ):
        file.write(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")

    with atomic(tmp_path / "link") as file:
        file.write(b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_a_fifo_stays_a_fifo(tmp_path):
    """And its reader gets all or nothing."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    got = []
    reader = Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    with pytest.raises(ValueError, match="halfway"), atomic(path) as file:
        file.write(b"never seen")
        raise ValueError("halfway")
    with atomic(path) as file:
        file.write(b"all")
    reader.join(timeout=300)

    assert got == [b"all"]
    assert path.is_fifo()


def test_a_device_is_not_replaced():
    with atomic("/dev/null") as file:
        file.write(b"x")

    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what is read-only")
def test_a_read_only_file_is_refused(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"old")
    path.chmod(0o444)

    with pytest.raises(ResNetProtoError, match="read-only"), atomic(path):
        raise AssertionError("not reached")
    assert path.read_bytes() == b"old"


def test_many_at_a_time(tmp_path):
    """Threads of one process, which have one number: the file is that of one of them."""
    path = tmp_path / "x"
    contents = [bytes([i]) * (100_000 + 7_777 * i) for i in range(4)]
    start = Barrier(4)

    def write(content):
        start.wait()
        for _ in range(10):
            with atomic(path) as file:
                for at in range(0, len(content), 1000):
                    file.write(content[at : at + 1000])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, contents))

    assert path.read_bytes() in contents
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_name_of_the_part_cannot_be_known(tmp_path):
    """It is another one each time, and is made, not opened: nothing can be put in its way."""
    names = []
    for _ in range(2):
        with atomic(tmp_path / "x") as file:
            names.append(file.name)
    assert names[0] != names[1]


@pytest.mark.parametrize("size", [1, 249, 255])
def test_names_may_be_as_long_as_the_system_lets_them(tmp_path, size):
    with atomic(tmp_path / ("x" * size)) as file:
        file.write(b"new")

    assert [p.name for p in tmp_path.iterdir()] == ["x" * size]
    with pytest.raises(ResNetProtoError, match="cannot be written: File name too long"):
        atomic(tmp_path / ("x" * 256)).__enter__()


def test_a_private_file_is_private_all_the_time(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o600)

    with atomic(path) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600


def test_folders_that_were_made_for_it_go_again(tmp_path):
    path = tmp_path / "a" / "b" / "x"
    with pytest.raises(ValueError, match="halfway"), atomic(path):
        raise ValueError("halfway")
    assert list(tmp_path.iterdir()) == []

    with pytest.raises(ValueError, match="halfway"), atomic(path):
        (tmp_path / "a" / "of somebody else").touch()
        raise ValueError("halfway")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["of somebody else"]

    with atomic(path):
        pass
    assert path.exists()


def test_a_circle_of_links(tmp_path):
    """It leads nowhere, and stays; a link to what is not there yet is followed."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ResNetProtoError, match="/a: cannot be written: Too many levels"):
        atomic(tmp_path / "a").__enter__()
    assert (tmp_path / "a").is_symlink()

    (tmp_path / "c").symlink_to("new")
    with atomic(tmp_path / "c") as file:
        file.write(b"x")
    assert (tmp_path / "new").read_bytes() == b"x"


OLD = {"a": b"old a", "b": b"old b"}


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("old", [{}, {"b": b"old b"}, OLD])
@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("links", [True, False])
def test_files_take_their_names_together(tmp_path, monkeypatch, old, at, links):
    """Whichever of the renames is interrupted, all is as it was; when none is, both are new."""
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    numbers = itertools.count()
    replace = Path.replace

    def interrupted(part, target):
        if next(numbers) == at:
            raise KeyboardInterrupt
        return replace(part, target)

    def refused(link, target):
        """As FAT and others do."""
        target.stat()
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def write():
        with together(tmp_path / "a", tmp_path / "b") as files:
            for file, name in zip(files, "ab", strict=True):
                file.write(f"new {name}".encode())

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        if not links:
            patch.setattr(Path, "hardlink_to", refused)
        if at < 2:
            with pytest.raises(KeyboardInterrupt):
                write()
        else:
            write()
    assert contents(tmp_path) == (old if at < 2 else {"a": b"new a", "b": b"new b"})


@pytest.mark.parametrize("at", "bc")
def test_one_file_that_cannot_take_its_name_keeps_the_others_from_it(tmp_path, at):
    (tmp_path / "a").write_bytes(b"old a")
    with (
        pytest.raises(ResNetProtoError, match=f"/{at}: cannot be written: Is a directory"),
        together(*(tmp_path / name for name in "abc")) as (a, *_),
    ):
        a.write(b"new a")
        (tmp_path / at).mkdir()

    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a"]
    assert contents(tmp_path) == {"a": b"old a"}


@pytest.mark.parametrize("at", "ab")
def test_a_folder_in_the_way_is_known_before_the_work(tmp_path, at):
    (tmp_path / at).mkdir()
    with (
        pytest.raises(ResNetProtoError, match=f"/{at}: cannot be written: Is a directory"),
        together(tmp_path / "a", tmp_path / "b"),
    ):
        pytest.fail("the work begins")

    assert [p.name for p in tmp_path.iterdir()] == [at]


@pytest.mark.parametrize(("mode", "me"), [(0o1777, 1), (0o777, 1), (0o1777, None)])
def test_a_file_of_another_in_a_sticky_folder(tmp_path, monkeypatch, mode, me):
    """Nobody could take its name, nor a second name away again; other folders and owners may."""
    (tmp_path / "b").write_bytes(b"old")
    tmp_path.chmod(mode)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + me if me else os.getuid())
    refused = mode == 0o1777 and me
    if refused:
        with (
            pytest.raises(ResNetProtoError, match="/b: cannot be written: it belongs to an"),
            together(tmp_path / "a", tmp_path / "b"),
        ):
            pytest.fail("the work begins")
    else:
        with together(tmp_path / "a", tmp_path / "b") as files:
            for file in files:
                file.write(b"new")

    assert contents(tmp_path) == ({"b": b"old"} if refused else {"a": b"new", "b": b"new"})


def test_two_files_of_one_name(tmp_path):
    """Through a link; each would be complete, and one of them lost."""
    (tmp_path / "b").symlink_to("a")
    with (
        pytest.raises(ResNetProtoError, match="/b: two files would have this name"),
        together(tmp_path / "a", tmp_path / "b"),
    ):
        pytest.fail("it is known before the work begins")

    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_when_a_small_file_is_closed(tmp_path):
    """Nothing has been flushed until then; the large one does not take its name."""
    with (
        pytest.raises(ResNetProtoError, match="/dev/full: cannot be written: No space left"),
        atomic(tmp_path / "new" / "large", beside={Path("/dev/full"): b"small"}) as file,
    ):
        file.write(b"large")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("at", "kept"), [("a", True), ("b", True), ("", False)])
def test_what_is_in_the_way_of_one_keeps_all(tmp_path, at, kept):
    """The small file's is known before the work; the same content is in nobody's way."""
    (tmp_path / "a").write_bytes(b"small" if at != "a" else b"mine")
    if at == "b":
        (tmp_path / "b").write_bytes(b"mine")
    before = contents(tmp_path)
    worked = False
    try:
        with atomic(tmp_path / "b", force=False, beside={tmp_path / "a": b"small"}) as file:
            worked = True
            file.write(b"large")
    except ResNetProtoError as error:
        assert f"{tmp_path / at} exists with other content" in str(error)  # noqa: PT017
    assert worked == (at != "a")
    assert contents(tmp_path) == (before if kept else {"a": b"small", "b": b"large"})


def test_spooled():
    """Content of a pipe, under a path; where possible it has no name that could be left behind."""
    with spooled(io.BytesIO(b"all of it")) as path:
        assert path.read_bytes() == path.read_bytes() == b"all of it"
    assert not path.exists()


@pytest.fixture
def full(monkeypatch):
    """A temporary folder without room."""
    monkeypatch.setattr("tempfile.tempdir", "/full")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: Path("/dev/full").open("w+b"))  # noqa: SIM115


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_the_temporary_folder_is_named(full):
    message = "no temporary file can be written in /full: No space left on device; set TMPDIR"
    with pytest.raises(ResNetProtoError, match=message), spooled(io.BytesIO(b"x")):
        raise AssertionError("not reached")
    with pytest.raises(ResNetProtoError, match=message), atomic("/dev/null") as file:
        file.write(b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_the_target_is_named():
    """The twin: here the temporary folder has room."""
    with (
        pytest.raises(ResNetProtoError, match="/dev/full: cannot be written: No space"),
        atomic("/dev/full") as file,
    ):
        file.write(b"x")


def test_no_temporary_folder_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with (
        pytest.raises(ResNetProtoError, match=r"in .*none: No such file or directory; set TMPDIR"),
        spooled(io.BytesIO(b"x")),
    ):
        raise AssertionError("not reached")


# ---- what cannot be read


def said(path, meant=()):
    """What is said when this cannot be opened."""
    with pytest.raises(OSError) as error, open(path):  # noqa: PT011, PTH123 - of any kind
        pass
    return unreadable(path, error.value, meant)


def test_where_a_file_is_that_is_not_there(tmp_path, monkeypatch):
    """Its neighbours of a like name, or what is there in the place of a folder."""
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    Path("nets/deploy.prototxt").touch()

    for path, hint in {
        "nets/deploy.protoxt": "did you mean deploy.prototxt?",
        "nest/deploy.prototxt": "there is no folder nest, did you mean nets?",
        "a/b/deploy.prototxt": "there is no folder a",
        "nets/deploy.prototxt/x": "nets/deploy.prototxt is a file, not a folder",
        "zzz": f"the current folder is {tmp_path}",
        f"{tmp_path}/nets/zzz": f"`ls {tmp_path}/nets` shows what is there",
    }.items():
        assert said(path) == f"{path}: no such file; {hint}"


def test_the_file_of_a_folder_that_is_meant(tmp_path):
    """The net or the weights, as what is wanted; but none of several."""
    net = tmp_path / "deploy.prototxt"
    weights = tmp_path / "a.caffemodel"
    for path in (net, tmp_path / "train_val.prototxt", tmp_path / "solver.prototxt", weights):
        path.touch()

    start = f"{tmp_path}: cannot be read: Is a directory; give "
    assert said(tmp_path, NETS) == start + str(net)
    assert said(tmp_path, WEIGHTS) == start + str(weights)
    assert said(tmp_path) == start + "the name of a file"
    net.unlink()
    (tmp_path / "b.caffemodel").touch()
    assert said(tmp_path, NETS) == said(tmp_path, WEIGHTS) == start + "the name of a file within"


def test_a_file_of_somebody_else(tmp_path):
    """As ``root`` may read all, the error is made here; of what is not seen the folder is shown."""
    error = PermissionError(13, "Permission denied")
    path = tmp_path / "x"

    for seen in (tmp_path, path):
        assert unreadable(path, error) == (
            f"{path}: cannot be read: Permission denied; `ls -ld {seen}` shows who may, "
            "chmod lets others"
        )
        path.touch()
    assert unreadable("x", OSError(5, "Input/output error")).endswith(": Input/output error")
    assert unreadable("x", ValueError("embedded null byte"), (), "y") == (
        "y: cannot be read: embedded null byte"
    )


def test_who_may_write_is_asked_of_what_is_there(tmp_path):
    """The folders in which a file would lie are made with it."""
    error = PermissionError(13, "Permission denied")

    for name in ("", "a", "a/b/net.prototxt"):
        assert f"`ls -ld {tmp_path}` shows" in why(tmp_path / name, error)
    (tmp_path / "a").mkdir()
    assert f"`ls -ld {tmp_path}/a` shows" in why(tmp_path / "a/b/net.prototxt", error)
