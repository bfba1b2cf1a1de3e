"""Writing files so that a reader sees the old content or the new, never a part.

And what is said of a file that cannot be read or written, with what to do.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, cast

from resnet_proto.errors import ResNetProtoError, check_kind, similar

MAX_LISTED = 1000
"""How many names of a folder are looked at for a hint."""
NETS = ("deploy.prototxt", "*.prototxt")
WEIGHTS = ("*.caffemodel", "*.npz", "*.safetensors", "*.h5", "*.pt")
"""What is meant by a folder that is given for a file: the one file of the first such name."""
FOUND = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What opening a file can end with, whatever is in it."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What only writing can end with."""


@contextmanager
def atomic(
    path: str | os.PathLike[str],
    *,
    force: bool = True,
    beside: Mapping[Path, bytes] = MappingProxyType({}),
) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends without an error.

    A link stays a link, and a file keeps its mode. What is no regular file (a device, a FIFO)
    is not replaced, but gets the content once it is complete. Several may write to one path at
    a time, from any thread or process: it holds what the last of them wrote. Folders that are
    missing are made, and taken away again if the block raises.

    Args:
        path: the file.
        force: replace a file that has other content.
        beside: small files and their content, which are there when the file is, and not without
            it. What is in their way is known before the block begins.

    Raises:
        ResNetProtoError: the folder or a file cannot be written; or it may not be replaced.
    """
    with together(*beside, path, force=force) as (*others, file):
        for (name, content), other in zip(beside.items(), others, strict=True):
            other.write(content)
            if not force:
                refuse_other(name, other)
        yield file


@contextmanager
def together(*paths: str | os.PathLike[str], force: bool = True) -> Iterator[list[BinaryIO]]:
    """Binary files that become ``paths`` when the block ends without an error: all, or none.

    Everything else is as for ``atomic``. Ctrl-C in the block stays Ctrl-C, where a library makes
    an error of its own of it (zipfile, a ValueError).
    """
    handled = sys.exc_info()[1]
    parts: dict[Path, Path] = {}  # a file -> what it is called until it is complete
    made: list[Path] = []
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(opened(path, parts, made)) for path in paths]
            yield files
            for path, file in zip(paths, files, strict=True):
                if not force:
                    refuse_other(path, file)
        take_names(parts)
    except BaseException as error:
        for part in parts.values():
            attempt(part.unlink)
        for folder in made:
            attempt(folder.rmdir)  # somebody else may have put something there
        before = error.__context__
        if isinstance(before, KeyboardInterrupt) and before is not handled:
            raise before from None
        raise


@contextmanager
def blamed_on(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of which file it is that it cannot be written.

    Raises:
        ResNetProtoError: an OSError came.
    """
    try:
        yield
    except OSError as error:
        raise ResNetProtoError(f"{path}: cannot be written: {why(path, error)}") from None


def as_path(name: str, value: object) -> Path | None:
    """An argument that is a path, as text or as a Path; None stays None.

    Raises:
        ResNetProtoError: it is neither, or empty.
    """
    if value is None:
        return None
    check_kind(name, value, (str, os.PathLike), "a path")
    path = os.fspath(value)  # type: ignore[call-overload]
    if not path or not isinstance(path, str):
        raise ResNetProtoError(f"{name} is {value!r}; give a path")
    return Path(path)


def attempt(do: Callable[..., object], *args: object) -> None:
    """Do what is no error where it cannot be done."""
    with suppress(OSError):
        do(*args)


@contextmanager
def opened(
    path: str | os.PathLike[str], parts: dict[Path, Path], made: list[Path]
) -> Iterator[BinaryIO]:
    """A new file in the folder of ``path``, which becomes one of ``parts``; ``made`` gets folders.

    What is no regular file gets the content when the block ends.
    """
    with blamed_on(path):
        target = Path(os.path.realpath(path))
        if target.is_symlink():  # which realpath could not follow to its end
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            with buffered(target) as file:
                yield file
            return
        mode = target.stat().st_mode & 0o7777 if target.exists() else None
        if mode is not None and not os.access(target, os.W_OK):
            raise PermissionError(0, "the file is read-only")
        if mode is not None and not may_replace(target):
            raise PermissionError(
                0, "it belongs to another user, in a sticky folder; give another name"
            )

        def exclusively(name: str, flags: int) -> int:
            """Open a file that is new, no link, and for nobody who may not read the old one."""
            return os.open(name, flags, 0o666 if mode is None else 0o600)

        if target in parts:
            raise ResNetProtoError(f"{path}: two files would have this name; give one another")
        make_folder(target.parent, made)
        parts[target] = part = name_beside(target)
        with open(part, "x+b", opener=exclusively) as file:
            yield file
        if mode is not None:
            part.chmod(mode)


def may_replace(target: Path) -> bool:
    """Whether its folder lets us: in a sticky one, as /tmp, only owners do (``rename(2)``)."""
    folder = target.parent.stat()
    me = getattr(os, "geteuid", lambda: 0)()
    return not folder.st_mode & stat.S_ISVTX or me in (0, folder.st_uid, target.stat().st_uid)


def name_beside(target: Path) -> Path:
    """A name in the same folder that nobody else has, and short: names have a limit."""
    return target.with_name(f".resnet-proto-{os.urandom(8).hex()}.part")


def take_names(parts: Mapping[Path, Path]) -> None:
    """Give complete files their names; if one cannot have it, the others have theirs no more.

    What had a name before has it again then.
    """
    # No fsync: file systems write the content before such a rename, and if a machine loses
    # its power all the same, the file can be made again. It costs more than the writing.
    with ExitStack() as kept, ExitStack() as undo:
        for target, part in parts.items():
            if len(parts) > 1:
                old = name_beside(target)
                kept.callback(attempt, old.unlink)
                try:
                    old.hardlink_to(target)
                except FileNotFoundError:
                    undo.callback(attempt, target.unlink)
                except OSError:  # a file system where a file has one name
                    undo.callback(attempt, old.replace, target)
                    if target.is_file():
                        with blamed_on(target):
                            target.rename(old)
                else:
                    undo.callback(attempt, old.replace, target)
            with blamed_on(target):
                part.replace(target)
        undo.pop_all()


def unreadable(
    path: str | os.PathLike[str], error: Exception, meant: Sequence[str] = (), name: str = ""
) -> str:
    """What is said of a file that cannot be read, and what to do.

    Args:
        path: the file.
        error: what opening or reading it ended with.
        meant: patterns of the files that may be meant by a folder, the likeliest first.
        name: what messages call it, if not by its path.
    """
    name = name or os.fspath(path)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"{name}: no such file{elsewhere(Path(path))}"
    return f"{name}: cannot be read: {why(path, error, meant)}"


def why(path: str | os.PathLike[str], error: Exception, meant: Sequence[str] = ()) -> str:
    """The system's word for an error, and what to do where that is known."""
    if not isinstance(error, OSError):
        return str(error)
    word = error.strerror or str(error)
    if error.errno == errno.EISDIR:
        return f"{word}; give {within(Path(path), meant)}"
    if isinstance(error, PermissionError) and error.errno:
        what = next(x for x in (path, *Path(path).parents) if os.path.lexists(x))
        return f"{word}; `ls -ld {what}` shows who may, chmod lets others"
    if error.errno == errno.EROFS:
        return f"{word}; give a name in another folder"
    return word


def within(folder: Path, meant: Sequence[str]) -> str:
    """The file of a folder that may be meant, if one is alone of its name."""
    with suppress(OSError):
        for pattern in meant:
            if len(found := list(islice(folder.glob(pattern), 2))) == 1:
                return str(found[0])
    return "the name of a file" + (" within" if meant else "")


def elsewhere(path: Path) -> str:
    """Where a file may be that is not there, as the end of a message."""
    with suppress(OSError, ValueError):
        above = next(x for x in path.parents if x.exists())
        if not above.is_dir():
            return f"; {above} is a file, not a folder"
        missing = next(x for x in (path, *path.parents) if x.parent == above)
        with os.scandir(above) as entries:
            near = similar(missing.name, (entry.name for entry in islice(entries, MAX_LISTED)))
        if missing != path:
            return f"; there is no folder {missing}{near.replace('; ', ', ')}"
        if near or path.is_absolute():
            return near or f"; `ls {above}` shows what is there"
        return f"; the current folder is {Path.cwd()}"
    return ""


def refuse_other(path: str | os.PathLike[str], file: BinaryIO) -> None:
    """Refuse to replace a file by one that has other content.

    Raises:
        ResNetProtoError: ``path`` is a file, and another than what is in ``file``.
    """
    file.flush()
    if Path(path).is_file() and not filecmp.cmp(path_of(file), path, shallow=False):
        raise ResNetProtoError(f"{path} exists with other content; --force overwrites it")


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
