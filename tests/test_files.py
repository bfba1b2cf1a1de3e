"""An interrupted write leaves the old file."""

import os

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
