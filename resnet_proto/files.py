"""Writing files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from resnet_proto.errors import ResNetProtoError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends without an error.

    A link stays a link, and a file keeps its mode. What is no regular file (a device, a FIFO)
    is not replaced, but gets the content once it is complete.

    Raises:
        ResNetProtoError: the folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    special = target.exists() and not target.is_file()
    try:
        with buffered(target) if special else replacing(target) as file:
            yield file
    except OSError as error:
        raise ResNetProtoError(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file of a temporary name in the same folder; removed if the block raises (Ctrl-C too)."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    mode = target.stat().st_mode & 0o7777 if target.exists() else None
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(0, "the file is read-only")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w+b") as file:
            yield file
        if mode is not None:
            part.chmod(mode)
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def buffered(target: Path) -> Iterator[BinaryIO]:
    """A file elsewhere, whose content is written to ``target`` when the block ends."""
    from tempfile import NamedTemporaryFile  # `gen` starts without it

    with NamedTemporaryFile("w+b", prefix="resnet-proto-") as file:
        yield cast("BinaryIO", file.file)
        file.seek(0)
        with target.open("wb") as opened:
            shutil.copyfileobj(file, opened)
