"""An interrupted write leaves the old file."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import atomic


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_content(tmp_path, error):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"old")

    with pytest.raises(error), atomic(path) as file:
        file.write(b"half of the n")
        raise error

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


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
        pytest.raises(ResNetProtoError, match="a/b: cannot be written"),
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
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(path.read_bytes)
        with pytest.raises(ValueError, match="halfway"), atomic(path) as file:
            file.write(b"never seen")
            raise ValueError("halfway")
        with atomic(path) as file:
            file.write(b"all")

    assert got.result() == b"all"
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
