"""``.caffemodel.h5``: Caffe's HDF5 layout, ``/data/<layer>/<i>`` <-> weights.

    file -> groups -> datasets -> where the values lie (a map, or h5py where they are in chunks)

Source: net.cpp, ToHDF5 and CopyTrainedLayersFromHDF5. h5py reads and writes the structure only.
Values go between file and file as they are, so they may be larger than the memory. Texts beside
``/data``, which Caffe does not look at, hold what ``metadata.py`` says. ``/diff`` is not read.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, BinaryIO

from resnet_proto.errors import FormatError, ResNetProtoError, WeightsError
from resnet_proto.fit import targets
from resnet_proto.formats.caffemodel import MAX_ITEMS, Piece, Pieces, mapped
from resnet_proto.formats.metadata import MAX_METADATA, pack, read_layers, too_long, unpack
from resnet_proto.layers import Shape, count, dims
from resnet_proto.sniff import HEAD, refuse
from resnet_proto.weights import PART, Blob, BlobData, Held, Weights, blob_names, possible

if TYPE_CHECKING:
    from resnet_proto.formats import Progress
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

TEXTS = ("net", "layers")
"""Datasets at the top that hold the metadata which is read."""
MAX_DEPTH = 32
"""Groups within groups; a layer's name has fewer slashes."""
MAX_RATIO = 1040
"""How many times its size deflate can make of something: 1032 (zlib.net, Technical Details)."""
NUMBER = re.compile(rb"0|[1-9][0-9]{0,5}")
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
"""HDF5's own; any other would be looked for in folders of plugins, and run."""
DAMAGED = (
    OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError,
    MemoryError,
)  # fmt: skip
"""What h5py raises for a damaged file."""
LIBRARY = ("earliest", "v108")
"""Caffe may have been built with HDF5 1.8."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Values that h5py has to gather, or to turn: those in chunks, or of another byte order."""

    dataset: Any
    where: str
    nbytes: int

    def array(self) -> Array:
        """A copy."""
        import numpy as np

        with damage(self.where):
            array = np.asarray(self.dataset[()])
        flat = array.reshape(-1)
        return flat.astype(flat.dtype.newbyteorder("="), copy=False)

    def parts(self) -> Iterator[memoryview]:
        """Slices along the first axis, whole chunks of it, where it is large."""
        import numpy as np

        shape, chunks = self.dataset.shape, self.dataset.chunks
        if self.nbytes <= PART or not shape:
            yield from Held(self.array()).parts()
            return
        rows = max(1, shape[0] * PART // self.nbytes)
        rows = -(-rows // chunks[0]) * chunks[0] if chunks else rows
        for start in range(0, shape[0], rows):
            with damage(self.where):
                part = np.asarray(self.dataset[start : start + rows])
            yield from Held(part).parts()


@contextmanager
def damage(where: str) -> Iterator[None]:
    """Turn what h5py says of a damaged file into an error that names the place."""
    try:
        yield
    except DAMAGED as error:
        # h5py's frames hold what HDF5 frees at the end, when Python is gone: a segmentation fault
        clear_frames(error.__traceback__)
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FormatError(f"{where}: the HDF5 file is damaged: {reason}; get it again") from None


def needed() -> Any:
    """The h5py package.

    Raises:
        ResNetProtoError: it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise ResNetProtoError(
            "HDF5 files need the h5py package: pip install 'resnet-proto[hdf5]'"
        ) from None
    return h5py


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights of an HDF5 file; no value is read yet.

    Where the file has no metadata of ours, blobs have Caffe's numbers for names.

    Raises:
        FormatError: the file is damaged, no HDF5, or holds something else than Caffe's weights.
    """
    source = os.fspath(path)
    with opened_file(source) as opened:
        root = opened.file["/"].id
        if not root.links.exists(b"data"):
            raise FormatError(f"{source}: {not_weights(root)}")
        texts = {name: opened.text(root, name) for name in TEXTS}
        rows = read_layers(texts["layers"])
        places = {label: i for i, label in enumerate(rows)}
        layers = dict(opened.walk(opened.group(root, b"data"), b"", rows))
        # in the order of the metadata, then in that of the file
        labels = sorted(layers, key=lambda label: places.get(label, len(places)))
        blobs = [blob for label in labels for blob in layers[label]]
        if len({blob.key for blob in blobs}) < len(blobs):
            raise FormatError(f"{source}: two blobs have one name; write it again")
        weights = unpack(
            blobs,
            {name: text for name, text in texts.items() if text},
            source,
            opened.close,
            [label for label, own in layers.items() if not own],
        )
        weights.hdf5 = True
        return weights


@contextmanager
def opened_file(source: str) -> Iterator[Opened]:
    """An HDF5 file, which stays open if the block ends without an error."""
    opened = Opened(Path(source))
    try:
        with damage(source):
            yield opened
    except BaseException:
        opened.close()
        raise


def holds_state(path: str | os.PathLike[str]) -> bool:
    """Whether an HDF5 file has a history in the place of weights."""
    with opened_file(os.fspath(path)) as opened:
        root = opened.file["/"].id
        found = root.links.exists(b"history") and not root.links.exists(b"data")
    opened.close()
    return bool(found)


def not_weights(root: Any) -> str:
    """What an HDF5 file without a group ``data`` is, and what to do."""
    if root.links.exists(b"history"):
        return "this is a solver state, not weights; those are in the file that `inspect` names"
    if root.links.exists(b"model_weights"):
        return "this is a file of Keras, not of Caffe; save its arrays with numpy.savez"
    return "no group 'data', so this is not an HDF5 file of Caffe's weights; give another file"


class Reader(io.RawIOBase):
    """A buffer as a file. HDF5 2 itself opens real paths only, which a temporary file has not."""

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at}.get(whence, len(self.buffer))
        return self.at

    def tell(self) -> int:
        """The place."""
        return self.at

    def readinto(self, target: Any) -> int:
        """Fill the target, with zeros behind the end."""
        part = self.buffer[self.at : self.at + len(target)]
        target[: len(part)] = part
        target[len(part) :] = bytes(len(target) - len(part))
        self.at += len(part)
        return len(part)


@dataclass
class Opened:
    """An HDF5 file that is read: by h5py where its structure is, and mapped where values are."""

    path: Path
    file: Any = field(init=False)
    buffer: memoryview = field(init=False)
    unmap: Callable[[], None] = field(init=False)
    seen: set[tuple[int, int]] = field(default_factory=set)
    n_items: int = 0
    left: int = 0
    """Bytes of the file that no blob has taken yet."""

    def __post_init__(self) -> None:
        h5py = needed()
        self.buffer, self.unmap = mapped(self.path)
        self.left = len(self.buffer)
        try:
            refuse(str(self.path), bytes(self.buffer[:HEAD]), "an HDF5 file")
            with damage(str(self.path)):
                self.file = h5py.File(Reader(self.buffer), "r")
        except BaseException:
            self.unmap()
            raise

    def close(self) -> None:
        """Let go of the file, as soon as no array of it is in use."""
        self.file.close()
        self.unmap()

    def group(self, root: Any, name: bytes) -> Any:
        """A group at the top, by its identifier in h5py."""
        opened = self.child(root, name)
        if not isinstance(opened, needed().h5g.GroupID):
            raise FormatError(f"{self.path}: {shown(name)} is not a group; in Caffe's files it is")
        return opened

    def child(self, group: Any, name: bytes) -> Any:
        """What a group holds under a name.

        Raises:
            FormatError: it is elsewhere: in another place (a soft link) or file (an external one),
                or it is linked from two places; or there are too many.
        """
        h5py = needed()
        where = f"{self.path}: {shown(name)}"
        if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise FormatError(
                f"{where} is a link to another place or file, which is never followed; "
                "write what it leads to into the file"
            )
        opened = h5py.h5o.open(group, name)
        info = h5py.h5o.get_info(opened)
        place = (info.fileno, info.addr)
        self.n_items += 1
        if place in self.seen:
            raise FormatError(f"{where} has two names; write it twice into the file")
        if self.n_items > MAX_ITEMS:
            raise FormatError(f"{self.path}: more than {MAX_ITEMS:,} layers and blobs")
        self.seen.add(place)
        return opened

    def walk(
        self, group: Any, path: bytes, rows: dict[str, dict[str, Any]], depth: int = 0
    ) -> Iterator[tuple[str, list[Blob]]]:
        """Label and blobs, in Caffe's order, of a group and of those within.

        A layer's name with slashes is a path.
        """
        if depth > MAX_DEPTH:
            raise FormatError(
                f"{self.path}: {shown(path)}: more than {MAX_DEPTH} groups within each other"
            )
        datasets, groups = self.members(group, path)
        if datasets and not path:
            raise FormatError(
                f"{self.path}: a blob outside of any layer; give it a group: /data/fc"
            )
        label = path.decode("utf-8", "surrogateescape")
        if path and (datasets or not groups):
            yield label, self.numbered(datasets, label, rows.get(label, {}))
        for name, opened in groups.items():
            yield from self.walk(opened, b"/".join((path, name)) if path else name, rows, depth + 1)

    def members(self, group: Any, path: bytes) -> tuple[dict[bytes, Any], dict[bytes, Any]]:
        """The blobs and the groups in a group.

        Raises:
            FormatError: there is something else.
        """
        h5py = needed()
        datasets, groups = {}, {}
        for name in group:
            opened = self.child(group, name)
            if isinstance(opened, h5py.h5g.GroupID):
                groups[name] = opened
            elif isinstance(opened, h5py.h5d.DatasetID) and NUMBER.fullmatch(name):
                datasets[name] = opened
            else:
                raise FormatError(
                    f"{self.path}: {shown(path)}: {shown(name)} is not a blob; Caffe's are "
                    "datasets called 0, 1, ..."
                )
        return datasets, groups

    def numbered(
        self, datasets: Mapping[bytes, Any], label: str, row: Mapping[str, Any]
    ) -> list[Blob]:
        """The blobs of a layer in Caffe's order, by the names of the metadata or their numbers."""
        numbers = sorted(datasets, key=int)
        names = row.get("blobs", ())
        if len(names) != len(numbers):
            names = [number.decode() for number in numbers]
        return [
            self.blob(datasets[number], label, str(name), row)
            for number, name in zip(numbers, names, strict=True)
        ]

    def blob(self, dataset: Any, label: str, name: str, row: Mapping[str, Any]) -> Blob:
        """One dataset, without its values.

        Raises:
            FormatError: it has no numbers, not as many as it says, or they are in another file.
        """
        h5py = needed()
        where = f"{self.path}: '{label}.{name}'"
        plan = dataset.get_create_plist()
        layouts = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
        if plan.get_layout() not in layouts or plan.get_external_count():
            raise FormatError(
                f"{where} has its values in another file, which is never opened; "
                "write them into this one"
            )
        kind = dataset.get_type()
        empty = dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL
        if kind.get_class() not in (h5py.h5t.FLOAT, h5py.h5t.INTEGER) or empty:
            raise FormatError(
                f"{where} holds no numbers (floats or integers), as a blob does; "
                "write it again, or leave it out"
            )
        dtype, shape = kind.dtype, tuple(dataset.shape)
        if dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise FormatError(f"{where} is {dtype}; save it as float32 or float64")
        if not possible(shape):
            raise FormatError(f"{where} is {dims(shape)[:200]}; there is no such array")
        nbytes = count(shape) * dtype.itemsize
        data = self.data(dataset, where, shape, dtype, nbytes)
        if name in row.get("legacy", ()) and len(shape) < 4:
            shape = (1,) * (4 - len(shape)) + shape
        return Blob(label, label, "", name, shape, dtype.name, nbytes, data)

    def data(self, dataset: Any, where: str, shape: Shape, dtype: Any, nbytes: int) -> BlobData:
        """Where the values of a dataset are.

        Raises:
            FormatError: there are more of them than the file can hold.
        """
        import numpy as np

        h5d = needed().h5d
        plan = dataset.get_create_plist()
        layout = plan.get_layout()
        if not nbytes:
            return Held(np.empty(0, dtype))
        size = dataset.get_storage_size()
        self.left -= size
        whole = size == nbytes
        if layout == h5d.CHUNKED:
            self.check_filters(plan, where)
            chunk = plan.get_chunk()
            n_chunks = count(tuple(-(-a // b) for a, b in zip(shape, chunk, strict=True)))
            inflated = n_chunks * count(chunk) * dtype.itemsize
            whole = inflated <= MAX_RATIO * size and dataset.get_num_chunks() == n_chunks
        if not whole or self.left < 0:
            raise FormatError(
                f"{where} is {dims(shape)} of {dtype}, {nbytes:,} bytes, and has {size:,} in the "
                "file; get it again"
            )
        start = dataset.get_offset() if layout == h5d.CONTIGUOUS else None
        if start is None or dtype != dtype.newbyteorder("<"):
            return Stored(needed().Dataset(dataset), where, nbytes)
        if start + nbytes > len(self.buffer):
            raise FormatError(f"{where}: its values are beyond the end of the file; get it again")
        return Pieces(self.buffer, (Piece(start, start + nbytes),), dtype.name)

    def check_filters(self, plan: Any, where: str) -> None:
        """Refuse a filter that is not HDF5's own."""
        for i in range(plan.get_nfilters()):
            number = plan.get_filter(i)[0]
            if number not in FILTERS:
                raise FormatError(
                    f"{where} is packed by filter {number}; write it with one of "
                    f"{', '.join(FILTERS.values())}, or with none: h5repack -f NONE"
                )

    def text(self, root: Any, name: str) -> str:
        """A text of the metadata; empty if there is none, or it is not ours."""
        h5py = needed()
        if not root.links.exists(name.encode()):
            return ""
        dataset = self.child(root, name.encode())
        if not isinstance(dataset, h5py.h5d.DatasetID):
            return ""
        kind = dataset.get_type()
        layout = dataset.get_create_plist().get_layout()
        if not isinstance(kind, h5py.h5t.TypeStringID) or layout != h5py.h5d.CONTIGUOUS:
            return ""
        size, start = kind.get_size(), dataset.get_offset()
        if kind.is_variable_str() or dataset.shape != () or start is None:
            return ""
        if size > MAX_METADATA:
            raise too_long(str(self.path))
        content = bytes(self.buffer[start : start + size]).rstrip(b"\0")
        return content.decode("utf-8", "surrogateescape")


def shown(path: bytes) -> str:
    """A name from the file, for a message."""
    return f"'{path[:200].decode('utf-8', 'backslashreplace')}'"


# ---- writing


def write(file: BinaryIO, weights: Weights, net: Net | None, progress: Progress) -> None:
    """Write weights as Caffe does, and the metadata beside them.

    h5py makes the structure with room for the values, and they are written there.

    Raises:
        WeightsError: a name or a type that the layout lacks, or blobs whose order is not known.
    """
    h5py = needed()
    wanted = {} if net is None else targets(net)[0]
    metadata = pack(weights, net, names=True)
    groups = numbered(weights, wanted)
    values: list[tuple[int, BlobData]] = []
    texts: list[tuple[int, bytes]] = []
    with named_errors(), h5py.File(file, "w", libver=LIBRARY) as made:
        top = made.create_group("data")
        for label, blobs in groups.items():
            group = top.require_group(label.encode())
            for i, blob in blobs.items():
                need = wanted.get(label, {}).get(blob.name)
                shape = blob.shape
                if blob.legacy and need is not None and need.known:
                    shape = need.shapes[0]  # Caffe compares HDF5's shapes as they are
                kind = h5py.h5t.py_create(little(blob.dtype))
                values.append((make(group.id, str(i), kind, shape), blob.data))
        for name, text in metadata.items():
            content = text.encode() or b"\n"
            kind = h5py.h5t.C_S1.copy()
            kind.set_size(len(content))
            kind.set_cset(h5py.h5t.CSET_UTF8)
            kind.set_strpad(h5py.h5t.STR_NULLPAD)
            texts.append((make(made.id, name, kind, ()), content))
    for start, data in values:
        file.seek(start)
        for part in data.parts():
            file.write(part)
            progress(len(part))
    for start, content in texts:
        file.seek(start)
        file.write(content)


def make(group: Any, name: str, kind: Any, shape: Shape) -> int:
    """Make a dataset in one piece, without a date; where its values have to be written."""
    h5py = needed()
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(group, name.encode(), kind, space, plan)
    return dataset.get_offset() or 0  # no offset: no values


def little(dtype: str) -> Any:
    """A type as it is stored."""
    import numpy as np

    return np.dtype(dtype).newbyteorder("<")


@contextmanager
def named_errors() -> Iterator[None]:
    """Give what h5py says of a full disk the system's number."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found[1]) if found else error.errno if isinstance(error, OSError) else None
        raise OSError(number or errno.EIO, os.strerror(number or errno.EIO)) from None


def numbered(weights: Weights, wanted: Mapping[str, Iterable[str]]) -> dict[str, dict[int, Blob]]:
    """Label -> number in Caffe -> blob.

    Args:
        weights: of any source.
        wanted: label -> names of all blobs of a layer, of which shared ones may be missing.

    Raises:
        WeightsError: a name or a type that the layout lacks, or blobs whose order is not known.
    """
    groups: dict[str, dict[int, Blob]] = {}
    for layer in weights.layers:
        if not layer.blobs:
            continue
        label, names = layer.label, [blob.name for blob in layer.blobs]
        if "\0" in label or not {"", "."}.isdisjoint(label.split("/")):
            raise WeightsError(
                f"{weights.source}: no HDF5 group can be called {label[:80]!r}; rename the layer"
            )
        known = [[*blob_names(layer.type, n, len(names))] for n in (0, 2)]
        known = [[*wanted.get(label, ())], *known]
        numbers = next((map(every.index, names) for every in known if {*names} <= {*every}), None)
        if numbers is None and all(NUMBER.fullmatch(name.encode()) for name in names):
            numbers = map(int, names)
        if numbers is None:
            keys = ", ".join(f"'{blob.key}'" for blob in layer.blobs)
            raise WeightsError(
                f"{weights.source}: layer '{label}': which blob is Caffe's first is not known of "
                f"{keys}, and HDF5 has numbers for them; give the net that has the layer (--net)"
            )
        for blob in layer.blobs:
            if blob.dtype == "bool":
                raise WeightsError(
                    f"{weights.source}: '{blob.key}' is bool, which Caffe does not read from HDF5; "
                    "convert it to float32"
                )
        groups[label] = dict(zip(numbers, layer.blobs, strict=True))
    for label in groups:
        above, _, last = label.rpartition("/")
        if NUMBER.fullmatch(last.encode()) and int(last) in groups.get(above, ()):
            raise WeightsError(
                f"{weights.source}: layer '{label}' and blob {last} of layer '{above}' would have "
                "one name in an HDF5 file; rename the layer"
            )
    return groups
