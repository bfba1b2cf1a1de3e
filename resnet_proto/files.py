"""Writing files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, cast

from resnet_proto.errors import ResNetProtoError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What only writing can end with."""


@contextmanager
def atomic(path: str | os.PathLike[str], *, force: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends without an error.

    A link stays a link, and a file keeps its mode. What is no regular file (a device, a FIFO)
    is not replaced, but gets the content once it is complete. Several may write to one path at
    a time, from any thread or process: it holds what the last of them wrote. Folders that are
    missing are made, and taken away again if the block raises.

    Args:
        path: the file.
        force: replace a file that has other content.

    Raises:
        ResNetProtoError: the folder or the file cannot be written; or it may not be replaced.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.is_symlink():  # which realpath could not follow to its end
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        special = target.exists() and not target.is_file()
        with buffered(target) if special else replacing(target) as file:
            yield file
            if not force and not special:
                refuse_other(path, file)
    except OSError as error:
        raise ResNetProtoError(f"{path}: cannot be written: {error.strerror}") from None


def refuse_other(path: str | os.PathLike[str], file: BinaryIO) -> None:
    """Refuse to replace a file by one that has other content.

    Raises:
        ResNetProtoError: ``path`` is there, and another than what is in ``file``.
    """
    file.flush()
    if Path(path).exists() and not filecmp.cmp(path_of(file), path, shallow=False):
        raise ResNetProtoError(f"{path} exists with other content; --force overwrites it")


@contextmanager
def beside(path: str | os.PathLike[str], content: bytes, *, force: bool = True) -> Iterator[None]:
    """A small file that becomes ``path`` when the block, which writes another, has ended well.

    Errors as those of ``atomic``; what is in the way is known before the block begins.
    """
    with atomic(path, force=force) as file:
        file.write(content)
        if not force:
            refuse_other(path, file)
        yield


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file of a temporary name in the same folder; removed if the block raises (Ctrl-C too)."""
    # A name that nobody else has, and short: that of the target may be as long as names can be.
    part = target.with_name(f".resnet-proto-{os.urandom(8).hex()}.part")
    mode = target.stat().st_mode & 0o7777 if target.exists() else None
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(0, "the file is read-only")

    def exclusively(name: str, flags: int) -> int:
        """Open a file that is new, no link, and for nobody who may not read the old one."""
        return os.open(name, flags, 0o666 if mode is None else 0o600)

    made: list[Path] = []
    try:
        make_folder(target.parent, made)
        with open(part, "x+b", opener=exclusively) as file:
            yield file
        if mode is not None:
            part.chmod(mode)
        # No fsync: file systems write the content before such a rename, and if a machine loses
        # its power all the same, the file can be made again. It costs more than the writing.
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        for folder in made:
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        raise


def make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it; ``made`` gets what was not there, the innermost first."""
    for above in (folder, *folder.parents):
        if above.exists():
            if not above.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{above} is a file, not a folder")
            break
        made.append(above)
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def buffered(target: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A temporary file, whose content is written to ``target`` when the block ends.

    Raises:
        ResNetProtoError: there is no room for the temporary file.
    """
    with temporary() as file:
        with room():
            yield file
            file.flush()
        file.seek(0)
        with target.open("wb") if isinstance(target, Path) else nullcontext(target) as opened:
            shutil.copyfileobj(file, opened)
            opened.flush()


@contextmanager
def spooled(source: BinaryIO) -> Iterator[Path]:
    """What comes from a pipe, as a file that can be read here and there.

    Raises:
        ResNetProtoError: there is no room for it.
    """
    with temporary() as file:
        with room():
            shutil.copyfileobj(source, file)
            file.flush()
        yield path_of(file)


@contextmanager
def temporary() -> Iterator[BinaryIO]:
    """A temporary file, where possible without a name, so that nothing can be left behind."""
    from tempfile import NamedTemporaryFile, TemporaryFile  # `gen` starts without it

    with room(()), ExitStack() as stack:
        file = cast("BinaryIO", stack.enter_context(TemporaryFile()))
        if not path_of(file).exists():
            file = cast("BinaryIO", stack.enter_context(NamedTemporaryFile()))
        opened = stack.pop_all()
    try:
        yield file
    finally:
        with suppress(OSError):  # closing tries once more to write what had no room
            opened.close()


def path_of(file: BinaryIO) -> Path:
    """A path by which an open file can be read; it need not have a name (``proc(5)``)."""
    return Path(file.name if isinstance(file.name, str) else f"/proc/self/fd/{file.fileno()}")


@contextmanager
def room(numbers: tuple[int, ...] = FULL) -> Iterator[None]:
    """Blame these errors on the temporary folder; without numbers, all.

    Raises:
        ResNetProtoError: one of them came.
    """
    try:
        yield
    except OSError as error:
        if numbers and error.errno not in numbers:
            raise
        from tempfile import tempdir

        where = f" in {tempdir}" if tempdir else ""
        raise ResNetProtoError(
            f"no temporary file can be written{where}: {error.strerror}; "
            "set TMPDIR to a folder that has room"
        ) from None
