"""``.npz``: a zip archive of numpy arrays <-> weights.

``numpy.load`` opens it: ``<layer>.<blob>`` -> array. One entry more, ``metadata.json``, holds
what ``metadata.py`` says. Entries are stored, not compressed (trained floats hardly shrink), and
bear no date, so the same weights make the same file.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, BinaryIO

from resnet_proto.errors import FormatError, WeightsError
from resnet_proto.files import WEIGHTS, unreadable
from resnet_proto.formats.metadata import MAX_METADATA, pack, too_long, unpack
from resnet_proto.layers import Shape, count
from resnet_proto.sniff import HEAD, KERAS, kind, refuse
from resnet_proto.weights import PART, Blob, Held, Weights, possible, split

if TYPE_CHECKING:
    from resnet_proto.formats import Progress
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

METADATA = "metadata.json"
MAX_HEADER = 1 << 16
"""Bytes of an array's header; numpy reads 10,000, but only when it has all of them."""
DAMAGED = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError,
    TypeError, SyntaxError, TokenError,
)  # fmt: skip
"""What zipfile and numpy raise for a damaged or encrypted archive."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One array of an archive.

    Args:
        start: bytes of the entry before the values.
        dtype: with its byte order.
        fortran: whether the first axis runs fastest.
    """

    archive: zipfile.ZipFile
    name: str
    source: str
    start: int
    shape: Shape
    dtype: str
    fortran: bool

    def array(self) -> Array:
        """A copy."""
        import numpy as np

        with self.values() as file:
            array = np.frombuffer(file.read(), self.dtype).reshape(
                self.shape, order="F" if self.fortran else "C"
            )
        flat = array.reshape(-1)
        return flat.astype(flat.dtype.newbyteorder("="), copy=False)

    def parts(self) -> Iterator[memoryview]:
        """Read from the archive one after the other."""
        import numpy as np

        if self.fortran:
            yield from Held(self.array()).parts()
            return
        left = count(self.shape) * np.dtype(self.dtype).itemsize
        with self.values() as file:
            while part := file.read(PART):
                left -= len(part)
                yield from Held(np.frombuffer(part, self.dtype)).parts()
            if left:
                raise EOFError(f"its values end {left:,} bytes early")

    @contextmanager
    def values(self) -> Iterator[IO[bytes]]:
        """The entry, from its first value on."""
        with damage(self.source, self.name), self.archive.open(self.name) as file:
            file.read(self.start)
            yield file


@contextmanager
def damage(source: str, name: str) -> Iterator[None]:
    """Turn what goes wrong with an entry into an error that names it."""
    try:
        yield
    except DAMAGED as error:
        raise FormatError(f"{source}: '{name}' is damaged: {error}") from None


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights of an npz file; no value is read yet.

    Raises:
        FormatError: the file is damaged, no npz, or holds something else than numbers.
    """
    source = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
        if not head.startswith(b"PK") or kind(head) is KERAS:
            refuse(source, head, "an npz file")
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise FormatError(unreadable(path, error, WEIGHTS)) from None
    except DAMAGED as error:
        raise FormatError(f"{source}: not an npz file, or cut off: {error}; get it again") from None
    try:
        blobs: list[Blob] = []
        metadata = {}
        for info in archive.infolist():
            if info.filename == METADATA:
                metadata = read_metadata(archive, info, source)
            else:
                blobs.append(read_entry(archive, info, source))
        if len({blob.key for blob in blobs}) < len(blobs):
            raise FormatError(f"{source}: two arrays have one name; write it again")
        return unpack(blobs, metadata, source, archive.close)
    except BaseException:
        archive.close()
        raise


def opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> IO[bytes]:
    """An entry that is packed as numpy and torch pack one.

    Raises:
        FormatError: by bzip2 or LZMA, which fail in ways of their own.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError(
            f"{source}: '{info.filename}' is packed by method {info.compress_type}; only stored "
            "and deflated entries are read: write it again with numpy.savez"
        )
    return archive.open(info)


def read_metadata(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> dict[str, str]:
    """The metadata; none if it is not ours.

    Raises:
        FormatError: it is damaged, or too long.
    """
    with damage(source, METADATA), opened(archive, info, source) as file:
        text = file.read(MAX_METADATA + 1)
    if len(text) > MAX_METADATA:
        raise too_long(source)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in values.items() if isinstance(v, str)} if type(values) is dict else {}


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> Blob:
    """One array, without its values."""
    import numpy as np

    with damage(source, info.filename), opened(archive, info, source) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"npy version {version}")
        old = version == (1, 0)
        length = file.read(2 if old else 4)
        size = int.from_bytes(length, "little")
        if size > MAX_HEADER:  # before it is read: a few bytes inflate to as many as it says
            raise ValueError(f"its header has {size:,} bytes, expected at most {MAX_HEADER:,}")
        header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        try:
            shape, fortran, dtype = header(io.BytesIO(length + file.read(size)))
        except MemoryError:  # Python's, of an expression that is nested too deeply
            raise ValueError("its header is no array's") from None
        start = file.tell()
        if dtype.kind not in "fiub":
            raise FormatError(
                f"{source}: '{info.filename}' has values of type {str(dtype)[:80]}, expected "
                "numbers; save it as numbers, or leave it out. Pickles are never read"
            )
        if not possible(shape):
            raise ValueError(f"there is no array of shape {str(shape)[:200]}")
        if count(shape) * dtype.itemsize != info.file_size - start:
            raise ValueError(
                f"{shape} of {dtype} needs {count(shape) * dtype.itemsize:,} bytes, "
                f"it has {info.file_size - start:,}"
            )
    key = info.filename.removesuffix(".npy")
    layer, name = split(key)
    entry = Entry(archive, info.filename, source, start, shape, dtype.str, fortran)
    return Blob(layer, layer, "", name, shape, dtype.name, info.file_size - start, entry)


def write(file: BinaryIO, weights: Weights, net: Net | None, progress: Progress) -> None:
    """Write an archive; errors as in ``metadata.pack``.

    Raises:
        WeightsError: a name that a zip archive cannot hold.
    """
    import numpy as np

    metadata = pack(weights, net)
    with zipfile.ZipFile(file, "w") as archive:
        for key, blob in weights.blobs.items():
            name = f"{key}.npy"
            if "\0" in name or len(name.encode()) >= 1 << 16:
                raise WeightsError(
                    f"{weights.source}: {key[:80]!r}: an npz archive cannot hold such a name; "
                    "rename the layer"
                )
            with archive.open(stored(name), "w", force_zip64=True) as entry:
                dtype = np.dtype(blob.dtype).newbyteorder("<")
                header = {"descr": dtype.str, "fortran_order": False, "shape": blob.shape}
                np.lib.format.write_array_header_1_0(entry, header)
                for part in blob.data.parts():
                    entry.write(part)
                    progress(len(part))
        text = json.dumps(metadata, ensure_ascii=False, indent=1)
        archive.writestr(stored(METADATA), text, zipfile.ZIP_DEFLATED)


def stored(name: str) -> zipfile.ZipInfo:
    """An entry without a date."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o600 << 16
    return info
