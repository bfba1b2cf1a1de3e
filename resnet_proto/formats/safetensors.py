"""``.safetensors``: a JSON header and the values behind it <-> weights.

Tensors are ``<layer>.<blob>``; ``__metadata__`` holds what ``metadata.py`` says. Read by the
safetensors package, which checks the header. Written here: the package wants all values in
memory at once, and a caffemodel's can go from file to file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from resnet_proto.errors import FormatError, ResNetProtoError, WeightsError
from resnet_proto.files import WEIGHTS, unreadable
from resnet_proto.formats.metadata import pack, unpack
from resnet_proto.layers import Shape, count, dims
from resnet_proto.sniff import HEAD, refuse
from resnet_proto.weights import PART, Blob, BlobData, Held, Made, Weights, possible, split

if TYPE_CHECKING:
    from resnet_proto.formats import Progress
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

METADATA = "__metadata__"
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of an open file."""

    file: Any
    key: str
    shape: Shape
    nbytes: int

    def array(self) -> Array:
        """A copy."""
        array: Array = self.file.get_tensor(self.key)
        return array.reshape(-1)

    def parts(self) -> Iterator[memoryview]:
        """Slices along the first axis, where it is large."""
        if self.nbytes <= PART or len(self.shape) == 0:
            yield from Held(self.array()).parts()
            return
        rows = max(1, self.shape[0] * PART // self.nbytes)
        view = self.file.get_slice(self.key)
        for start in range(0, self.shape[0], rows):
            stop = min(start + rows, self.shape[0])
            yield from Held(view[start:stop]).parts()


@dataclass(frozen=True, slots=True)
class Widened(Made):
    """A tensor of bfloat16, which numpy lacks: the upper halves of float32."""

    source: str
    start: int
    size: int

    def array(self) -> Array:
        """Float32, each value the same."""
        import numpy as np

        with Path(self.source).open("rb") as file:
            file.seek(self.start)
            halves = np.frombuffer(file.read(2 * self.size), "<u2")
        return (halves.astype(np.uint32) << 16).view(np.float32)


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights of a safetensors file; no value is read yet.

    Raises:
        FormatError: the file is damaged, no safetensors, or has a type that numpy lacks.
    """
    source = os.fspath(path)
    package = needed()
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise FormatError(unreadable(path, error, WEIGHTS)) from None
    if head[8:9] != b"{":
        refuse(source, head, "a safetensors file")
    try:
        opened = package.safe_open(source, framework="np")
    except (package.SafetensorError, OSError, ValueError) as error:
        raise FormatError(
            f"{source}: not a safetensors file, or cut off: {error}; get it again"
        ) from None
    blobs = []
    starts: dict[str, int] = {}
    for key in opened.offset_keys():
        layer, name = split(key)
        view = opened.get_slice(key)
        stored = "bfloat16" if view.get_dtype() == "BF16" else ""
        dtype = "float32" if stored else DTYPES.get(view.get_dtype(), "")
        if not dtype:
            raise FormatError(
                f"{source}: '{key}' is {view.get_dtype()}, which numpy lacks; "
                f"save it as {', '.join(list(DTYPES)[:3])}"
            )
        shape = tuple(view.get_shape())
        if not possible(shape):
            raise FormatError(f"{source}: '{key}' is {dims(shape)[:200]}; there is no such array")
        nbytes = count(shape) * item_size(dtype)
        data: BlobData = Tensor(opened, key, shape, nbytes)
        if stored:
            starts = starts or starts_of(source)
            data = Widened(source, starts[key], count(shape))
        blobs.append(Blob(layer, layer, "", name, shape, dtype, nbytes, data, stored=stored))
    return unpack(blobs, opened.metadata() or {}, source)


def starts_of(source: str) -> dict[str, int]:
    """Where the values of each tensor begin; the package has checked the header."""
    with Path(source).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        key: 8 + length + row["data_offsets"][0] for key, row in header.items() if key != METADATA
    }


def needed() -> Any:
    """The safetensors package.

    Raises:
        ResNetProtoError: it is not installed.
    """
    try:
        import safetensors
    except ImportError:
        raise ResNetProtoError(
            "safetensors files need the safetensors package: "
            "pip install 'resnet-proto[safetensors]'"
        ) from None
    return safetensors


def item_size(dtype: str) -> int:
    """Bytes of a value."""
    import numpy as np

    return np.dtype(dtype).itemsize


def write(file: BinaryIO, weights: Weights, net: Net | None, progress: Progress) -> None:
    """Write header and values; errors as in ``metadata.pack``.

    Raises:
        WeightsError: a type or a name that the format lacks.
    """
    needed()  # so that what is written can be read back
    if METADATA in weights:
        raise WeightsError(
            f"{weights.source}: '{METADATA}' is what safetensors calls its metadata; "
            "rename the array"
        )
    header: dict[str, Mapping[str, Any]] = {METADATA: pack(weights, net)}
    end = 0
    for key, blob in weights.blobs.items():
        if blob.dtype not in NAMES:
            raise WeightsError(
                f"{weights.source}: '{key}' is {blob.dtype}; known: {', '.join(NAMES)}: "
                "convert it to one of them"
            )
        start, end = end, end + blob.nbytes
        header[key] = {
            "dtype": NAMES[blob.dtype],
            "shape": blob.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that values are aligned
    file.write(len(text).to_bytes(8, "little") + text)
    for blob in weights.blobs.values():
        for part in blob.data.parts():
            file.write(part)
            progress(len(part))
