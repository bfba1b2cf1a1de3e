"""IMAGES -> which images there are, each with its label, in order; none is read yet.

folder of class folders | list file of Caffe | CIFAR archive | digits -> Images
"""

from __future__ import annotations

import gzip
import hashlib
import mmap
import os
import re
import stat
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from resnet_proto.data.cifar import cifar, kind_of
from resnet_proto.data.labelled import Images, of_arrays, shown
from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import unreadable
from resnet_proto.sniff import HEAD, PROTOTXT, TEXT, kind
from resnet_proto.words import counted

DIGITS = "digits"
"""The name of the built-in images."""
DATABASE = (b"data.mdb", b"made-of.json")
"""What is in the folder of a database, or of one that is being written; it is no class."""
DIGITS_FILE = Path("datasets", "data", "digits.csv.gz")
SUFFIXES = frozenset(
    b".bmp .dib .gif .jfif .jpe .jpeg .jpg .jp2 .pbm .pgm .png .ppm .pnm .tif .tiff .webp".split()
)
"""Of images in class folders; other files there are none."""
MAX_FILE = 1 << 28
"""Bytes of one image file."""
MAX_LABEL = (1 << 31) - 1
"""Datum.label is an int32."""
LABEL = re.compile(rb"[+-]?\d{1,20}")
MAX_DEPTH = 100
"""Of folders within a class folder."""


def find_images(source: str, *, root: Path | None = None, part: str = "") -> Images:
    """The images that IMAGES on the command line stands for.

    Args:
        source: a path, or ``digits``.
        root: where the paths of a list lead from; its own folder if None.
        part: ``train`` or ``test``, of an archive that has both; the former if empty.

    Raises:
        ResNetProtoError: there are none, or something is wrong with a label.
    """
    path = Path(source)
    if source == DIGITS:
        found, kind = digits(), None
    elif not path.exists():
        raise ResNetProtoError(
            f"{source}: no such file; give a folder of class folders, a list of lines 'path "
            f"label', a CIFAR archive, or the word {DIGITS}"
        )
    elif kind := kind_of(path):
        found = cifar(path, kind, part or "train")
    else:
        found = class_folders(path) if path.is_dir() else listed(path, root)
    if root is not None and (kind or source == DIGITS or path.is_dir()):
        raise ResNetProtoError(f"--root is for lists; {source} is not one: leave it out")
    if part and not kind:
        raise ResNetProtoError(f"--part is for CIFAR archives; {source} is not one: use --split")
    if not len(found):
        raise ResNetProtoError(f"{source}: there are no images in it")
    if len(found) >= 10**8:
        raise ResNetProtoError(
            f"{source}: {len(found):,} images; the keys of a database have eight digits: split it"
        )
    if len(set(found.labels)) == 1:
        one = f"all images are of one class, {found.labels[0]}: there is nothing to learn"
        found = replace(found, warnings=(*found.warnings, one))
    return found


def content_of(path: bytes, name: str) -> bytes:
    """The bytes of an image file.

    Raises:
        ResNetProtoError: it cannot be read, is no file that ends, or is too large.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would have us wait
        with os.fdopen(number, "rb") as file:
            about = os.fstat(number)
            if not stat.S_ISREG(about.st_mode):
                raise ResNetProtoError(f"{name}: not a regular file")
            if about.st_size > MAX_FILE:
                raise ResNetProtoError(
                    f"{name}: {about.st_size:,} bytes, expected at most {MAX_FILE:,}"
                )
            return file.read(MAX_FILE)
    except OSError as error:
        where = "" if os.path.normpath(shown(path)) == name else f": {shown(path)}"
        raise ResNetProtoError(f"{name}: cannot be read: {error.strerror}{where}") from None
    except ValueError:  # a zero byte
        raise ResNetProtoError(f"{name}: not a name that a file can have") from None


def stamp_of(path: bytes | Path) -> str:
    """Size and time of a file, which are others when it was replaced; empty if it is not there."""
    try:
        about = os.stat(path)  # noqa: PTH116 - bytes
    except (OSError, ValueError):
        return ""
    return f"{about.st_size} {about.st_mtime_ns}"


# ---- folders


def class_folders(folder: Path) -> Images:
    """The images of a folder in which each folder is a class; classes and files sorted by name.

    Files of a class may lie in folders within its own. Links are followed.

    Raises:
        ResNetProtoError: no class folder, a loop of links, or a folder that cannot be read.
    """
    root = os.fsencode(folder)
    classes, beside = [], 0
    for entry in entries(root):
        if entry.is_dir():
            if not any(map(os.path.exists, (os.path.join(entry.path, x) for x in DATABASE))):  # noqa: PTH118 - bytes
                classes.append(entry.name)
        else:
            beside += 1
    if not classes:
        raise ResNetProtoError(
            f"{folder}: no folder in it; expected one for each class, with its images"
        )
    warnings, others = [], 0
    names, ends, labels = bytearray(), array("q", [0]), array("i")
    for label, name in enumerate(classes):
        if b"\n" in name or b"\r" in name:
            raise ResNetProtoError(f"{folder}: class '{shown(name)}' has a line break; rename it")
        before = len(labels)
        for path in files(root, name, ()):
            if os.path.splitext(path)[1].lower() not in SUFFIXES:  # noqa: PTH122 - bytes
                others += 1
                continue
            names += path
            ends.append(len(names))
            labels.append(label)
        if len(labels) == before:
            warnings.append(f"class '{shown(name)}' ({label}) has no images")
    if others:
        names_say = "no image by its name" if others == 1 else "no images by their names"
        warnings.append(f"{counted(others, 'file')} left out: {names_say}")
    if beside:
        warnings.append(f"{counted(beside, 'file')} left out: in no class folder")

    def name_of(i: int) -> bytes:
        return bytes(names[ends[i] : ends[i + 1]])

    def path_of(i: int) -> bytes:
        return os.path.join(root, name_of(i))  # noqa: PTH118 - bytes

    digest = hashlib.sha256(b"\n".join(classes) + b"\0" + names)
    digest.update(ends.tobytes() + labels.tobytes())
    return Images(
        str(folder),
        labels,
        name_of,
        lambda i: content_of(path_of(i), shown(name_of(i))),
        digest.hexdigest(),
        tuple(os.fsdecode(name) for name in classes),
        tuple(warnings),
        lambda i: stamp_of(path_of(i)),
    )


def entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    """What is in a folder, sorted, without what is hidden.

    Raises:
        ResNetProtoError: it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((x for x in found if x.name[:1] != b"."), key=lambda entry: entry.name)
    except OSError as error:
        raise ResNetProtoError(unreadable(os.fsdecode(folder), error, (), shown(folder))) from None


def files(root: bytes, folder: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
    """The files in a folder and those within, sorted, as paths from ``root``.

    Raises:
        ResNetProtoError: links lead in a circle.
    """
    path = os.path.join(root, folder)  # noqa: PTH118 - bytes
    about = Path(os.fsdecode(path)).stat()
    own = (about.st_dev, about.st_ino)
    if own in above or len(above) == MAX_DEPTH:
        raise ResNetProtoError(f"{shown(path)}: links lead in a circle; take this one away")
    for entry in entries(path):
        name = folder + b"/" + entry.name
        if entry.is_dir():
            yield from files(root, name, (*above, own))
        else:
            yield name


# ---- lists


def no_list(path: Path, what: str) -> ResNetProtoError:
    """What is said of a file that is something else."""
    return ResNetProtoError(
        f"{path} is {what}; expected a list of lines 'path label', a folder of class folders, or "
        "a CIFAR archive"
    )


def listed(path: Path, root: Path | None) -> Images:
    """The images of a list in Caffe's format: lines ``path label``, parted at the last space.

    The file is mapped, so a million lines take a few bytes each.

    Raises:
        ResNetProtoError: a line without a label, or one that Datum cannot hold.
    """
    folder = os.fsencode(path.parent if root is None else root)
    if root is not None and not root.is_dir():
        raise ResNetProtoError(f"--root {root}: no such folder; paths in {path} are relative to it")
    try:
        if not path.is_file():  # opening a FIFO would have us wait
            raise ResNetProtoError(f"{path}: a list has to be a regular file")
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            text: bytes | mmap.mmap = b""
            if about.st_size:
                text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ResNetProtoError(unreadable(path, error)) from None
    found = kind(bytes(text[:HEAD]))
    if found not in (None, TEXT, PROTOTXT):
        raise no_list(path, found.what)
    starts, sizes, labels = array("q"), array("i"), array("i")
    start, number = 0, 0
    while start < len(text):
        number += 1
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        if end - start > 1 << 16:
            raise ResNetProtoError(f"{path}:{number}: a line of {end - start:,} bytes; no list?")
        line = text[start:end].rstrip(b"\r")
        if line.strip():
            name, space, label = line.rpartition(b" ")
            if b"\0" in line:
                raise no_list(path, "a binary file")
            if not space or not name.strip() or not LABEL.fullmatch(label):
                raise ResNetProtoError(
                    f"{path}:{number}: '{shown(line[:80])}': expected a path, a space and a "
                    "number, as in 'cat/1.jpg 3'"
                )
            if not 0 <= int(label) <= MAX_LABEL:
                raise ResNetProtoError(
                    f"{path}:{number}: label {int(label)}; expected 0 to {MAX_LABEL:,}: the place "
                    "of the class among the net's outputs"
                )
            starts.append(start)
            sizes.append(len(name))
            labels.append(int(label))
        start = end + 1

    def name_of(i: int) -> bytes:
        return bytes(text[starts[i] : starts[i] + sizes[i]])

    def path_of(i: int) -> bytes:
        return os.path.join(folder, name_of(i))  # noqa: PTH118 - bytes

    return Images(
        str(path),
        labels,
        name_of,
        lambda i: content_of(path_of(i), shown(name_of(i))),
        hashlib.sha256(text).hexdigest() + f" {os.path.abspath(folder)!r}",  # noqa: PTH100 - bytes
        stamp=lambda i: stamp_of(path_of(i)),
    )


# ---- arrays


def digits() -> Images:
    """1,797 handwritten digits of 8x8, grey, from scikit-learn's files; it is not imported.

    Source: sklearn/datasets/descr/digits.rst: the test part of UCI's Optical Recognition of
    Handwritten Digits (E. Alpaydin, C. Kaynak), 0 to 16, which become 0 to 255.

    Raises:
        ResNetProtoError: it is not installed.
    """
    import numpy as np

    found = find_spec("sklearn")
    path = None
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place) / DIGITS_FILE
    if path is None or not path.is_file():
        raise ResNetProtoError("digits need scikit-learn: pip install 'resnet-proto[digits]'")
    with suppress(OSError, EOFError, ValueError):
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",").astype(np.int64)
        if table.ndim == 2 and table.shape[1] == 65 and table.min() >= 0 and table.max() <= 16:
            pixels = (table[:, :64] * 255 // 16).astype(np.uint8).reshape(-1, 8, 8)
            return of_arrays(DIGITS, DIGITS, pixels, table[:, 64], tuple("0123456789"))
    raise ResNetProtoError(f"{path}: not the digits that scikit-learn has; install it again")
