"""``.caffemodel``: Caffe's binary NetParameter <-> weights.

    file -> map -> layers -> blobs -> where the values lie (pieces of the map)

Reading walks the wire format itself: protobuf would copy every value, and ends at 2 GB. Only
names, types, bottoms and blobs are looked at; what else a layer says is the prototxt's business.
Field numbers are those of caffe.proto.
"""

from __future__ import annotations

import gc
import mmap
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from resnet_proto import upgrade
from resnet_proto.errors import FormatError, WeightsError
from resnet_proto.files import WEIGHTS, unreadable
from resnet_proto.fit import fitted
from resnet_proto.layers import MAX_AXES, Shape, count, dims
from resnet_proto.net import labels
from resnet_proto.sniff import HEAD, refuse
from resnet_proto.weights import (
    PART,
    Blob,
    Held,
    StoredLayer,
    Weights,
    blob_names,
    possible,
)

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

DATA, SHAPE = 0x2A, 0x3A  # tags of BlobProto.data (packed) and .shape
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
WIRE_NAMES = {VARINT: "a varint", FIXED64: "8 bytes", BYTES: "a length", FIXED32: "4 bytes"}
MAX_PIECES = 4096
"""A blob in more pieces than this was made to do harm; protobuf writes one."""
MAX_ITEMS = 1 << 17
"""Layers and blobs of a file; a net of 1,202 layers has some 16,000."""
SMALL = 1 << 20
"""Files up to this size are read and not mapped: if one is cut meanwhile, nothing crashes."""
MADV_POPULATE_READ = 22  # madvise(2); Python has no name for it
ITEM_SIZES = {"float16": 2, "float32": 4, "float64": 8}
RAW_TYPES = {0: "float64", 1: "float32", 2: "float16"}  # NVIDIA's fork: raw_data_type
V1_TYPES = tuple(upgrade.V1_TYPES.values())
"""V1LayerParameter.LayerType by number, in the words of today."""


class Numbers(NamedTuple):
    """Field numbers of one generation of layer messages."""

    name: int
    type: int
    bottom: int
    blobs: int


LAYERS = {100: Numbers(name=1, type=2, bottom=3, blobs=7), 2: Numbers(4, 5, 2, 6)}
"""NetParameter.layer (LayerParameter) and .layers (V1LayerParameter)."""
V0 = Numbers(name=1, type=2, bottom=0, blobs=50)
"""V1LayerParameter.layer (V0LayerParameter), number 1; its bottoms stand outside of it."""


class Piece(NamedTuple):
    """Values in the file from ``start`` to ``stop``; ``tagged`` ones each follow a one-byte tag."""

    start: int
    stop: int
    tagged: bool = False


class Pieces(NamedTuple):
    """The values of a blob: pieces of a buffer, in order."""

    buffer: memoryview
    pieces: tuple[Piece, ...]
    dtype: str

    def array(self) -> Array:
        """A read-only view; a copy where the values are not in one piece."""
        import numpy as np

        views = [self.view(piece.start, piece.stop, piece.tagged) for piece in self.pieces]
        flat = views[0] if len(views) == 1 else np.concatenate([*views, self.view(0, 0)])
        flat.flags.writeable = False
        return flat

    def view(self, start: int, stop: int, tagged: bool = False) -> Array:
        """The values of one piece, or of a part of it."""
        import numpy as np

        plain = np.dtype(self.dtype).newbyteorder("<")
        record = np.dtype([("tag", "u1"), ("value", plain)])
        array = np.frombuffer(self.buffer[start:stop], record if tagged else plain)
        return array["value"] if tagged else array

    def parts(self) -> Iterator[memoryview]:
        """Slices of the buffer."""
        for piece in self.pieces:
            record = ITEM_SIZES[self.dtype] + 1 if piece.tagged else 1
            size = PART // record * record
            for start in range(piece.start, piece.stop, size):
                stop = min(start + size, piece.stop)
                populate(self.buffer, start, stop)
                if piece.tagged:
                    yield from Held(self.view(start, stop, True)).parts()
                else:
                    yield self.buffer[start:stop]

    def forget(self) -> None:
        """Let the system take the memory of mapped pages back; they can be read again."""
        if isinstance(self.buffer.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            for start, stop, _ in self.pieces:
                page = start // mmap.PAGESIZE * mmap.PAGESIZE
                self.buffer.obj.madvise(mmap.MADV_DONTNEED, page, stop - page)


def populate(buffer: memoryview, start: int, stop: int) -> None:
    """Have the kernel map these bytes at once: one page after the other may take twice as long."""
    if isinstance(buffer.obj, mmap.mmap) and sys.platform == "linux":
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        with suppress(OSError):  # Linux before 5.14
            buffer.obj.madvise(MADV_POPULATE_READ, page, stop - page)


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights of a caffemodel; no value is read yet.

    Raises:
        FormatError: the file is damaged, or no caffemodel.
    """
    source = os.fspath(path)
    buffer, close = mapped(Path(path))
    try:
        refuse(source, bytes(buffer[:HEAD]), "a caffemodel")
        with no_collection():
            layers = Walk(buffer, source).layers()
    except BaseException:
        close()
        raise
    return Weights(layers, source, close=close)


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection: a walk makes thousands of small objects, and no cycle among them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def mapped(path: Path) -> tuple[memoryview, Callable[[], None]]:
    """The bytes of a file, mapped if it can be, and how to let go of them."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                raise FormatError(f"{path} is a device, not a caffemodel; give a file")
            if not stat.S_ISREG(status.st_mode) or status.st_size <= SMALL:
                return memoryview(file.read()), lambda: None
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise FormatError(unreadable(path, error, WEIGHTS)) from None
    view = memoryview(data)

    def close() -> None:
        with suppress(BufferError):  # arrays are in use; the last of them closes the map
            view.release()
            data.close()

    return view, close


@dataclass(slots=True)
class Walk:
    """One pass over the wire format. ``where`` is the layer's number, then its name, or empty."""

    buffer: memoryview
    source: str
    where: int | str = ""
    seen: dict[str, int] = field(default_factory=dict)
    shapes: dict[bytes, Shape] = field(default_factory=dict)
    n_items: int = 0
    v0: bool | None = None  # whether `layers` are V0's, once one has been seen

    def error(self, offset: int, message: str) -> FormatError:
        """What is wrong at an offset."""
        where = "" if self.where == "" else f"layer {self.where!r}, "
        return FormatError(
            f"{self.source}: {where}offset {offset:,}: {message}; "
            "the file is damaged or not a caffemodel: get it again"
        )

    def varint(self, at: int, stop: int) -> tuple[int, int]:
        """An unsigned number of up to ten bytes, and where it ends."""
        buffer = self.buffer
        value = shift = 0
        i = at
        while i < stop and shift < 70:
            byte = buffer[i]
            i += 1
            if byte < 0x80:
                return (value | byte << shift) & 0xFFFFFFFFFFFFFFFF, i
            value |= (byte & 0x7F) << shift
            shift += 7
        if shift == 70:
            raise self.error(at, "expected a varint of at most 10 bytes, it goes on")
        raise self.error(at, f"expected a varint, the data ends at {stop:,}")

    def field(self, at: int, stop: int) -> tuple[int, int, int, int]:
        """One field: number, wire type, where its content starts and ends.

        A varint's value stands in the place of the start.
        """
        buffer = self.buffer
        tag, start = buffer[at], at + 1
        if tag > 0x7F:
            tag, start = self.varint(at, stop)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise self.error(at, f"expected a field, found the number {number}")
        if not wire & 5:  # VARINT or BYTES
            if start < stop and (size := buffer[start]) < 0x80:
                start += 1
            else:
                size, start = self.varint(start, stop)
            if wire == VARINT:
                return number, wire, size, start
            end = start + size
        elif wire == FIXED32:
            end = start + 4
        elif wire == FIXED64:
            end = start + 8
        else:
            raise self.error(at, f"field {number} has wire type {wire}, which Caffe never writes")
        if end > stop:
            raise self.error(
                at,
                f"field {number} needs {end - start:,} bytes, {stop - start:,} are left; "
                "the file ends early or a length is wrong",
            )
        return number, wire, start, end

    def fields(self, at: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Each field of a message: number, wire type, where it, its content and its end are."""
        while at < stop:
            number, wire, start, end = self.field(at, stop)
            yield number, wire, at, start, end
            at = end

    def within(self, at: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
        """The fields of a V0 layer, which stand in the field 1 of its ``layers``."""
        for number, wire, begin, start, end in self.fields(at, stop):
            if number == 1:
                self.expect("a V0 layer", BYTES, wire, begin)
                yield from self.fields(start, end)

    def expect(self, what: str, wanted: int, wire: int, at: int) -> None:
        """Refuse a known field of another wire type."""
        if wire != wanted:
            raise self.error(at, f"{what}: expected {WIRE_NAMES[wanted]}, found {WIRE_NAMES[wire]}")

    def layers(self) -> list[StoredLayer]:
        """Every layer of the net."""
        at, stop = 0, len(self.buffer)
        layers: list[StoredLayer] = []
        generation = 0
        while at < stop:
            number, wire, start, end = self.field(at, stop)
            if number == 1:
                self.expect("the net's name", BYTES, wire, at)
            elif number in LAYERS:
                self.expect("a layer", BYTES, wire, at)
                if generation not in (0, number):
                    raise self.error(at, "a file has either `layer` or `layers`, this one has both")
                generation = number
                self.where = len(layers) + 1
                layers.append(self.layer(start, end, self.numbers(number, start, end)))
                self.where = ""
            at = end
        if not layers:
            raise FormatError(f"{self.source} has no layer; a caffemodel has at least one")
        labels = {layer.label for layer in layers}
        if len(labels) < len(layers):
            raise FormatError(
                f"{self.source}: two layers come out as one name; "
                "a layer's own name must not look like 'name#2' where 'name' repeats"
            )
        return layers

    def numbers(self, generation: int, at: int, stop: int) -> Numbers:
        """The field numbers of a layer; in a V0 net they are V0's, and then in every layer."""
        if generation != 2:
            return LAYERS[generation]
        old = any(field[:2] == (1, BYTES) for field in self.fields(at, stop))
        if self.v0 not in (None, old):
            raise self.error(at, "a file has layers of V0 or of V1, this one has both")
        self.v0 = old
        return V0 if old else LAYERS[2]

    def layer(self, at: int, stop: int, numbers: Numbers) -> StoredLayer:
        """One layer: name and type first, so that messages can say them, then its blobs."""
        name_number, type_number, bottom_number, blobs_number = numbers
        name = type = ""
        n_bottoms = 0
        blobs: list[tuple[int, int]] = []
        within = self.within if numbers is V0 else self.fields
        for number, wire, begin, start, end in within(at, stop):
            if number == blobs_number:
                self.expect("a blob", BYTES, wire, begin)
                blobs.append((start, end))
                if self.n_items + len(blobs) >= MAX_ITEMS:
                    break
            elif number == name_number:
                self.expect("the layer's name", BYTES, wire, begin)
                name = self.text(start, end)
            elif number == bottom_number:
                n_bottoms += 1
            elif number == type_number:
                if numbers is LAYERS[2]:
                    self.expect("the layer's type", VARINT, wire, begin)
                    type = V1_TYPES[start] if start < len(V1_TYPES) else str(start)
                else:
                    self.expect("the layer's type", BYTES, wire, begin)
                    type = self.text(start, end)
        if numbers is V0:
            type = upgrade.V1_TYPES.get(upgrade.V0_TYPES.get(type, ""), type)
        self.where = name or self.where
        self.n_items += 1 + len(blobs)
        if self.n_items > MAX_ITEMS:
            raise self.error(at, f"more than {MAX_ITEMS:,} layers and blobs")
        self.seen[name] = nth = self.seen.get(name, 0) + 1
        label = name if nth == 1 else f"{name}#{nth}"
        names = blob_names(type, min(n_bottoms, 2), len(blobs)) if blobs else ()
        return StoredLayer(
            label,
            name,
            type,
            tuple(
                self.usual(*span, (label, name, type, blob))
                or self.blob(*span, (label, name, type, blob))
                for span, blob in zip(blobs, names, strict=True)
            ),
        )

    def text(self, start: int, stop: int) -> str:
        """A string; bytes that are no UTF-8 are kept."""
        return str(self.buffer[start:stop], "utf-8", "surrogateescape")

    def usual(self, at: int, stop: int, names: tuple[str, str, str, str]) -> Blob | None:
        """The blob, if it is one of packed floats and a shape, in either order; else None.

        Caffe and protobuf write no other. ``blob`` reads all, and takes twice the time.
        """
        buffer = self.buffer
        if stop - at < 6:
            return None
        if buffer[at] == SHAPE:
            shape_start, shape_stop = at + 2, at + 2 + buffer[at + 1]
            if shape_stop + 1 >= stop or buffer[shape_stop] != DATA:
                return None
            size, start = self.varint(shape_stop + 1, stop)
            whole = start + size == stop
        elif buffer[at] == DATA:
            size, start = self.varint(at + 1, stop)
            end = start + size
            if end + 2 > stop or buffer[end] != SHAPE:
                return None
            shape_start, shape_stop = end + 2, end + 2 + buffer[end + 1]
            whole = shape_stop == stop
        else:
            return None
        if not whole or shape_stop - shape_start > 0x7F:
            return None
        shape = self.shape(shape_start, shape_stop)
        if not size or not possible(shape) or size != 4 * count(shape):
            return None
        data = Pieces(buffer, (Piece(start, start + size),), "float32")
        return Blob(*names, shape, "float32", size, data)

    def blob(self, at: int, stop: int, names: tuple[str, str, str, str]) -> Blob:
        """One BlobProto: its shape, and where its values are."""
        begin = at
        shape: Shape | None = None
        legacy: dict[int, int] = {}
        floats: list[Piece] = []
        doubles: list[Piece] = []
        raw_type, raw = 0, None
        while at < stop:
            number, wire, start, end = self.field(at, stop)
            if number in (5, 8):  # data, double_data
                pieces, size = (floats, 4) if number == 5 else (doubles, 8)
                tagged = wire != BYTES
                if tagged:
                    self.expect("a value", FIXED32 if number == 5 else FIXED64, wire, at)
                    tagged = start == at + 1  # else the tag is longer than it need be
                    start, end = (at, self.run(at, stop, end - at)) if tagged else (start, end)
                elif (end - start) % size:
                    raise self.error(at, f"{end - start:,} bytes are not a whole number of values")
                if end > start:
                    pieces.append(Piece(start, end, tagged))
                if len(pieces) > MAX_PIECES:
                    raise self.error(at, f"a blob in more than {MAX_PIECES:,} pieces")
            elif number == 7:
                self.expect("a shape", BYTES, wire, at)
                shape = (shape or ()) + self.shape(start, end)
                self.check_axes(at, shape)
            elif number <= 4:  # num, channels, height, width
                self.expect("a dimension", VARINT, wire, at)
                legacy[number] = signed(start)
            elif number == 10:
                self.expect("raw_data_type", VARINT, wire, at)
                raw_type = start
            elif number == 12:
                self.expect("raw_data", BYTES, wire, at)
                raw = Piece(start, end)
            at = end
        # blob.cpp, FromProto: double_data goes first, and the old dimensions before the shape.
        dtype, pieces = ("float64", doubles) if doubles else ("float32", floats)
        if raw and not pieces:
            dtype, pieces = RAW_TYPES.get(raw_type, ""), [raw]
            if not dtype or (raw.stop - raw.start) % ITEM_SIZES[dtype]:
                raise self.error(raw.start, f"raw_data of type {raw_type} cannot be read")
        size = ITEM_SIZES[dtype]
        n_values = 0
        for piece in pieces:
            n_values += (piece.stop - piece.start) // (size + piece.tagged)
        dimensions: Shape = (n_values,) if n_values != 1 else ()
        if legacy:
            dimensions = tuple(legacy.get(number, 0) for number in (1, 2, 3, 4))
        elif shape is not None:
            dimensions = shape
        if not possible(dimensions) or count(dimensions) != n_values:
            raise self.error(
                begin,
                f"{names[-1]} is {dims(dimensions)} and has {n_values:,} values, "
                "which do not make such an array",
            )
        return Blob(
            *names,
            dimensions,
            dtype,
            n_values * size,
            Pieces(self.buffer, tuple(pieces), dtype),
            bool(legacy),
            not legacy and shape is None,
        )

    def run(self, at: int, stop: int, record: int) -> int:
        """Where a run of unpacked values ends: records of a tag and a value."""
        import numpy as np

        block = 32
        tag = self.buffer[at]
        while n := min(block, (stop - at) // record):
            tags = np.frombuffer(self.buffer[at : at + n * record], np.uint8)[::record]
            others = np.flatnonzero(tags != tag)
            if len(others):
                return at + int(others[0]) * record
            at += n * record
            block = min(2 * block, 1 << 20)
        return at

    def check_axes(self, at: int, sizes: Sequence[int]) -> None:
        """Refuse a shape as soon as it is longer than any can be."""
        if len(sizes) > MAX_AXES:
            raise self.error(at, f"a shape of more than {MAX_AXES} sizes")

    def shape(self, at: int, stop: int) -> Shape:
        """BlobShape.dim, packed or not; a net has few different ones."""
        message = bytes(self.buffer[at:stop])
        if message in self.shapes:
            return self.shapes[message]
        sizes: list[int] = []
        while at < stop:
            number, wire, start, end = self.field(at, stop)
            if number == 1 and wire == VARINT:
                sizes.append(signed(start))
                self.check_axes(at, sizes)
            elif number == 1:
                self.expect("a shape's sizes", BYTES, wire, at)
                while start < end:
                    size, start = self.varint(start, end)
                    sizes.append(signed(size))
                    if len(sizes) > MAX_AXES:
                        self.check_axes(at, sizes)
            at = end
        return self.shapes.setdefault(message, tuple(sizes))


def signed(value: int) -> int:
    """A varint as int64."""
    return value - (1 << 64) if value >> 63 else value


def write(
    file: BinaryIO,
    weights: Weights,
    net: Net | None,
    progress: Callable[[int], None] = lambda size: None,
) -> None:
    """Write weights as Caffe does: each layer of the net with its parameters and blobs.

    Layers that only the weights have come last, with name, type and blobs. Caffe ignores them.
    A layer without blobs that repeats the name of one with blobs is left out: net.cpp,
    CopyTrainedLayersFrom, refuses a file that has it.

    Raises:
        WeightsError: the weights do not fit the net, are no floats, or would lose their names.
    """
    from resnet_proto.schema import encode

    if net is None:
        raise WeightsError(
            f"{weights.source} contains no prototxt, and a caffemodel is written with the "
            "structure of one: give the net (--net)"
        )
    rows = fitted(weights, net)
    file.write(encode("NetParameter", {"name": net.name}))
    last = {layer.name: i for i, (layer, _, blobs) in enumerate(rows) if blobs}
    for i, (layer, _, blobs) in enumerate(rows):
        if i > last.get(layer.name, i):
            continue  # Caffe would look for no blobs in the first layer of this name
        tree = {
            "name": layer.name,
            "type": layer.type,
            "bottom": layer.bottoms,
            "top": layer.tops,
            "phase": net.state.phase,  # net.cpp, Init: every layer gets the net's
            **layer.fields,
            "blobs": (),  # a prototxt may hold values, over which Caffe copies those of the weights
        }
        write_layer(file, encode("LayerParameter", tree), as_floats(blobs, weights), progress)
    done = {label for _, label, _ in rows}
    alone = [stored for stored in weights.layers if stored.blobs and stored.label not in done]
    names = (*(layer.name for layer, _, _ in rows), *(stored.name for stored in alone))
    for stored, label in zip(alone, [*labels(names)][len(rows) :], strict=True):
        given = tuple(blob.name for blob in stored.blobs)
        # Scale's blobs are called by the number of its bottoms; Caffe does not look at them here.
        found = [n for n in (0, 2) if blob_names(stored.type, n, len(given)) == given]
        if label != stored.label or not found:
            keys = ", ".join(f"'{blob.key}'" for blob in stored.blobs)
            raise WeightsError(
                f"{weights.source}: layer '{stored.label}' is not in the net, and a caffemodel "
                f"would not keep the names of its blobs ({keys}); "
                "leave it out, or give the net that has it"
            )
        tree = {"name": stored.name, "type": stored.type, "bottom": ("",) * found[0]}
        blobs = as_floats(stored.blobs, weights)
        write_layer(file, encode("LayerParameter", tree), blobs, progress)


def write_layer(
    file: BinaryIO, head: bytes, blobs: tuple[Blob, ...], progress: Callable[[int], None]
) -> None:
    """One ``layer`` of NetParameter: its parameters, then its blobs, each of known length."""
    heads = [blob_head(blob) for blob in blobs]
    sizes = [len(h) + blob.nbytes for h, blob in zip(heads, blobs, strict=True)]
    tags = [b"\x3a" + encoded(size) for size in sizes]  # LayerParameter.blobs
    total = len(head) + sum(map(len, tags)) + sum(sizes)
    file.write(b"\xa2\x06" + encoded(total) + head)  # NetParameter.layer
    for tag, start, blob in zip(tags, heads, blobs, strict=True):
        file.write(tag + start)
        for part in blob.data.parts():
            file.write(part)
            progress(len(part))


def blob_head(blob: Blob) -> bytes:
    """A BlobProto up to its values."""
    if blob.legacy:
        shape = b"".join(
            bytes([8 * number]) + encoded(size) for number, size in enumerate(blob.shape, 1)
        )
    elif blob.shapeless:
        shape = b""
    else:
        sizes = b"".join(map(encoded, blob.shape))
        message = b"\x0a" + encoded(len(sizes)) + sizes if sizes else b""
        shape = b"\x3a" + encoded(len(message)) + message
    tag = b"\x2a" if blob.dtype == "float32" else b"\x42"  # data, double_data
    return shape + tag + encoded(blob.nbytes)


def as_floats(blobs: tuple[Blob, ...], weights: Weights) -> tuple[Blob, ...]:
    """The blobs in types that Caffe has.

    Raises:
        WeightsError: one has a type that floats cannot stand for.
    """
    import numpy as np

    floats = []
    for blob in blobs:
        if blob.dtype == "float16":
            with np.errstate(invalid="ignore"):  # signalling nan
                values = blob.array().astype(np.float32)
            blob = blob._replace(dtype="float32", nbytes=values.nbytes, data=Held(values))
        elif blob.dtype not in ("float32", "float64"):
            raise WeightsError(
                f"{weights.source}: '{blob.key}' is {blob.dtype}; a caffemodel holds float32 and "
                "float64 only: convert it to one of them"
            )
        floats.append(blob)
    return tuple(floats)


def encoded(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
