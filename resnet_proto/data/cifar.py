"""CIFAR-10 and CIFAR-100, as their authors give them: archive or folder -> Images.

    .tar.gz | .tar | folder -> files by name -> records | pickles, not run -> pixels, labels

Source: www.cs.toronto.edu/~kriz/cifar.html. A pickle there is a dict of lists, texts and one numpy
array of bytes, from the cPickle of Python 2 at protocol 2. ``plain`` reads it: nothing that it
names is imported or called.
"""

from __future__ import annotations

import gzip
import pickletools
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from resnet_proto.data.labelled import Images, of_arrays
from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import FOUND, unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 32
VALUES = 3 * SIDE * SIDE
MAX_BYTES = 1 << 28
"""Of an unpacked archive; the real ones have 187 MB at most."""


class Kind(NamedTuple):
    """One of the four forms.

    Args:
        name: what messages call it.
        folder: in the archive.
        train: the files of the training images.
        test: those of the test images.
        names: the file of the names of classes.
        labels: how many bytes of labels a record has, the last of them the one; or the key of the
            labels in a pickle.
        key: of the names of classes in a pickle.
    """

    name: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    labels: int | str
    key: str = ""


KINDS = (
    Kind(
        "CIFAR-10 (python)",
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        ("test_batch",),
        "batches.meta",
        "labels",
        "label_names",
    ),
    Kind(
        "CIFAR-10 (binary)",
        "cifar-10-batches-bin",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        ("test_batch.bin",),
        "batches.meta.txt",
        1,
    ),
    Kind(
        "CIFAR-100 (python)",
        "cifar-100-python",
        ("train",),
        ("test",),
        "meta",
        "fine_labels",
        "fine_label_names",
    ),
    Kind(
        "CIFAR-100 (binary)",
        "cifar-100-binary",
        ("train.bin",),
        ("test.bin",),
        "fine_label_names.txt",
        2,
    ),
)


def kind_of(path: Path) -> Kind | None:
    """Which CIFAR a folder or an archive is; None if it is another thing.

    Raises:
        ResNetProtoError: an archive of something else; a folder with several of them.
    """
    if path.is_dir():
        inner = [kind for kind in KINDS if (path / kind.folder).is_dir()]
        if len(inner) > 1:
            names = " and ".join(kind.folder for kind in inner)
            raise ResNetProtoError(f"{path}: has {names} in it; give the one that you mean")
        own = [
            kind
            for kind in KINDS
            if (path / kind.names).is_file() and (path / kind.test[0]).is_file()
        ]
        return next(iter((*inner, *own)), None)
    if not path.is_file():
        return None
    if not path.name.lower().endswith((".tar.gz", ".tgz", ".tar")):
        return None
    with unpacked(path) as archive:
        for member in archive:
            for kind in KINDS:
                if kind.folder in Path(member.name).parts:
                    return kind
    folders = ", ".join(kind.folder for kind in KINDS)
    raise ResNetProtoError(f"{path}: not a CIFAR archive: expected a folder {folders} in it")


def cifar(path: Path, kind: Kind, part: str) -> Images:
    """The images of one part, ``train`` or ``test``; of CIFAR-100, with the labels of 100 classes.

    Raises:
        ResNetProtoError: a file is missing, damaged, or asks for more than plain values.
    """
    import numpy as np

    wanted = kind.train if part == "train" else kind.test
    found = contents(path, kind, (*wanted, kind.names))
    for name in (*wanted, kind.names):
        if name not in found:
            raise ResNetProtoError(f"{path}: {kind.name} without its file {name}; get it again")
    classes = names_of(found[kind.names], kind, f"{path}: {kind.names}")
    batches = [batch(found[name], kind, f"{path}: {name}") for name in wanted]
    pixels = np.concatenate([pixels for pixels, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise ResNetProtoError(
            f"{path}: labels {labels.min()} to {labels.max()} for {len(classes)} classes; it is "
            "damaged: get it again"
        )
    return of_arrays(str(path), part, pixels, labels, classes)


def batch(content: bytes, kind: Kind, source: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """(N, 3, 32, 32) and (N,) of one file.

    Raises:
        ResNetProtoError: it is damaged.
    """
    import numpy as np

    if isinstance(kind.labels, int):
        size = kind.labels + VALUES
        if len(content) % size or not content:
            raise ResNetProtoError(
                f"{source}: {len(content):,} bytes, expected a multiple of {size:,}: it is cut off"
            )
        table = np.frombuffer(content, np.uint8).reshape(-1, size)
        labels = table[:, kind.labels - 1].astype(np.int64)
        values = table[:, kind.labels :]
    else:
        tree = plain(content, source)
        values = bytes_of(tree.get("data"), source)
        given = tree.get(kind.labels)
        if (
            type(given) is not list
            or len(given) != len(values)
            or not all(type(label) is int and 0 <= label < 256 for label in given)
        ):
            raise ResNetProtoError(f"{source}: '{kind.labels}' are not {len(values)} labels")
        labels = np.array(given, np.int64)
    return values.reshape(-1, 3, SIDE, SIDE), labels


def names_of(content: bytes, kind: Kind, source: str) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        ResNetProtoError: there are none.
    """
    if isinstance(kind.labels, int):
        text = content.decode("latin-1")
        lines: Any = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        lines = plain(content, source).get(kind.key)
    if (
        type(lines) is not list
        or not lines
        or not all(type(name) is str and name and name.isprintable() for name in lines)
    ):
        raise ResNetProtoError(f"{source}: expected the names of classes")
    return tuple(lines)


# ---- files


def contents(path: Path, kind: Kind, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Those of these files that are there."""
    if path.is_dir():
        inner = path / kind.folder
        folder = inner if inner.is_dir() else path
        found = {name: folder / name for name in wanted if (folder / name).is_file()}
        for file in found.values():
            if file.stat().st_size > MAX_BYTES:
                raise ResNetProtoError(f"{file}: more than {MAX_BYTES:,} bytes; no {kind.name}")
        return {name: file.read_bytes() for name, file in found.items()}
    read = {}
    with unpacked(path, whole=True) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name in wanted and kind.folder in Path(member.name).parts:
                content = archive.extractfile(member)
                read[name] = content.read() if content else b""
    return read


@dataclass
class Limited:
    """A file that ends with an error where it is longer than it may be."""

    file: BinaryIO
    left: int = MAX_BYTES

    def read(self, size: int) -> bytes:
        """At most so many bytes."""
        content = self.file.read(min(size, self.left + 1))
        self.left -= len(content)
        if self.left < 0:
            raise OSError(f"it holds more than {MAX_BYTES:,} bytes")
        return content


@contextmanager
def unpacked(path: Path, whole: bool = False) -> Iterator[tarfile.TarFile]:
    """A tar archive, which may be compressed by gzip, read once from its beginning.

    Args:
        path: the file.
        whole: read to the end, behind which gzip's checksum stands.

    Raises:
        ResNetProtoError: it is none, damaged, or larger than it may be.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            plain: Any = gzip.GzipFile(fileobj=file) if packed else file
            limited = Limited(plain)
            with tarfile.open(fileobj=limited, mode="r|") as archive:  # type: ignore[call-overload]
                yield archive
            while whole and limited.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise ResNetProtoError(
            f"{path}: not an archive, or damaged: {error}; get it again"
        ) from None
    except FOUND as error:
        raise ResNetProtoError(unreadable(path, error)) from None
    except OSError as error:
        reason = error.strerror or error
        raise ResNetProtoError(f"{path}: cannot be read: {reason}; get it again") from None


# ---- pickles


@dataclass
class Made:
    """What a pickle would have made by a call: which, of what, and what it was given then."""

    call: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass
class Reader:
    """The stack of a pickle's opcodes, of which each does what its name says to plain values."""

    source: str
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def above_mark(self) -> list[Any]:
        """What lies above the last mark, taken away."""
        mark = self.marks.pop()
        values, self.stack[mark:] = self.stack[mark:], []
        return values

    def take(self, count: int) -> tuple[Any, ...]:
        """The topmost values, taken away."""
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise IndexError
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return values

    def step(self, name: str, value: Any) -> None:
        """Do one opcode."""
        stack = self.stack
        if name in VALUES_OF:
            stack.append(value)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[value] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[value])
        elif name in TUPLES:
            stack.append(self.take(TUPLES[name]))
        elif name == "TUPLE":
            stack.append(tuple(self.above_mark()))
        elif name in ("APPEND", "APPENDS"):
            values = list(self.take(1)) if name == "APPEND" else self.above_mark()
            checked(stack[-1], list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = list(self.take(2)) if name == "SETITEM" else self.above_mark()
            keys = [checked(key, str) for key in values[::2]]
            checked(stack[-1], dict).update(zip(keys, values[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            called = value if name == "GLOBAL" else " ".join(self.take(2))
            if called not in ASKED:
                raise ResNetProtoError(
                    f"{self.source}: its pickle asks for '{str(called)[:80].replace(' ', '.')}', "
                    "expected numbers, texts and an array of bytes, and nothing is run; take the "
                    "binary version"
                )
            stack.append(Made(called, ()))
        elif name == "REDUCE":
            call, arguments = self.take(2)
            made = Made(checked(call, Made).call, checked(arguments, tuple))
            if made.call == "_codecs encode":  # how Python 3 writes bytes for Python 2
                stack.append(made.arguments[0].encode("latin-1"))
            else:
                stack.append(made)
        elif name == "BUILD":
            (state,) = self.take(1)
            checked(stack[-1], Made).state = state
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it has the opcode {name}")


VALUES_OF = frozenset(
    """BININT BININT1 BININT2 LONG1 SHORT_BINSTRING BINSTRING SHORT_BINUNICODE BINUNICODE
    SHORT_BINBYTES BINBYTES BINBYTES8""".split()
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
ASKED = {
    "numpy ndarray",
    "numpy dtype",
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "_codecs encode",
}
"""What may be named; none of it is called."""


def checked(value: Any, type_: type) -> Any:
    """A value of this very type.

    Raises:
        ValueError: it is another.
    """
    if type(value) is not type_:
        raise ValueError(f"it has a {type(value).__name__} where a {type_.__name__} belongs")
    return value


def plain(code: bytes, source: str) -> Mapping[str, Any]:
    """The dict of a pickle that holds plain values, and arrays as ``Made``; nothing is run.

    Raises:
        ResNetProtoError: it is damaged, or asks for more.
    """
    reader = Reader(source)
    try:
        for op, value, _ in pickletools.genops(code):
            if op.name == "STOP":
                break
            reader.step(op.name, value)
        (tree,) = reader.stack
        return checked(tree, dict)  # type: ignore[no-any-return]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error,
            OverflowError, MemoryError) as error:  # fmt: skip
        reason = str(error)[:200] or "it ends early"
        raise ResNetProtoError(f"{source}: its pickle is damaged: {reason}; get it again") from None


def bytes_of(made: Any, source: str) -> NDArray[Any]:
    """(N, 3072) of what a pickle says of an array of bytes: ndarray.__reduce__, dtype.__reduce__.

    Raises:
        ResNetProtoError: it is another array, or none.
    """
    import numpy as np

    try:
        _, shape, dtype, fortran, values = checked(made, Made).state
        rows, columns = shape
        code = dtype.arguments[0]
        values = values.encode("latin-1") if type(values) is str else checked(values, bytes)
        good = (
            made.call.endswith("_reconstruct")
            and dtype.call == "numpy dtype"
            and code in ("u1", b"u1")
            and columns == VALUES
            and len(values) == rows * columns
        )
    except (ValueError, TypeError, AttributeError, IndexError):
        good = False
    if not good:
        raise ResNetProtoError(
            f"{source}: 'data' is not an array of Nx{VALUES} bytes; take the binary version"
        )
    return np.frombuffer(values, np.uint8).reshape(-1, VALUES, order="F" if fortran else "C")
