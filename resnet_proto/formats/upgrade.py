"""A net, a solver or a caffemodel of any age -> a current one.

    text  -> tree -> upgrade.upgraded -> text
    model -> for each layer: a tree of all but its blobs, and where its blobs lie
          -> upgrade.upgraded -> each layer, followed by its blobs as they lie in the file

No value of a blob is looked at or held. Layers that are current already are copied as they are,
with the fields of forks in them; of older ones Caffe, too, takes the fields that it knows.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from resnet_proto.errors import FormatError, NetError, PrototxtError
from resnet_proto.files import NETS, atomic, buffered, path_of, unreadable
from resnet_proto.formats import INT_MAX, compare
from resnet_proto.formats.caffemodel import (
    BYTES,
    LAYERS,
    V0,
    Piece,
    Pieces,
    Walk,
    encoded,
    mapped,
    read,
)
from resnet_proto.sniff import CAFFEMODEL, CONTROL, EMPTY, HEAD, PROTOTXT, TEXT, kind
from resnet_proto.upgrade import old_within, upgraded, upgraded_solver

NAMES = {100: ("layer", "LayerParameter"), 2: ("layers", "V1LayerParameter")}
"""Fields of NetParameter that are layers, and their messages."""
TEXTS = (".prototxt", ".pbtxt", ".prototext", ".txt")
PARAM = 6  # LayerParameter.param


class Upgraded(NamedTuple):
    """What was done.

    Args:
        kind: ``net``, ``solver`` or ``caffemodel``.
        done: a phrase for each thing that was old; without any the file was current already.
        state: ``written``, or ``unchanged`` where the file held this already.
    """

    kind: str
    done: list[str]
    state: str


def upgrade(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | BinaryIO,
    *,
    name: str = "",
    force: bool = False,
    lenient: bool = False,
    warnings: list[str] | None = None,
) -> Upgraded:
    """Write the current form of a net, a solver or a caffemodel; its content says which it is.

    Args:
        source: a file.
        target: a file, which is there when it is complete, or an open binary file.
        name: what errors call ``source``.
        force: overwrite a file that has other content.
        lenient: keep fields of a text that Caffe's schema lacks.
        warnings: gets a sentence for each thing that is lost or may not be as it was meant.

    Raises:
        ResNetProtoError: it is none of the three, Caffe would not upgrade it, or the target has
            other content or cannot be written.
    """
    source, name = Path(source), name or str(source)
    warnings = [] if warnings is None else warnings
    if is_binary(source, name):
        return of_model(source, name, target, force, warnings)
    check_suffix(target, (".caffemodel",), f"{name} is text", ".prototxt")
    found, done, text = of_text(source, name, lenient, warnings)
    state = put(target, lambda file: file.write(text), force)
    return Upgraded(found, done, state)


def check_suffix(
    target: str | os.PathLike[str] | BinaryIO, wrong: tuple[str, ...], what: str, right: str
) -> None:
    """Refuse a name that says something else than what the file will be.

    Raises:
        FormatError: it does.
    """
    if isinstance(target, str | os.PathLike) and Path(target).suffix.lower() in wrong:
        raise FormatError(
            f"{target}: {what}, and so is what is written; give it the suffix {right}"
        )


def is_binary(path: Path, name: str) -> bool:
    """Whether a file may be a caffemodel; else it may be text.

    Raises:
        FormatError: it is neither, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except (OSError, ValueError) as error:
        raise FormatError(unreadable(path, error, NETS, name)) from None
    found = kind(head)
    if found not in (None, CAFFEMODEL, EMPTY, PROTOTXT, TEXT):
        what = found.what if found else ""
        raise FormatError(
            f"{name} is {what}; upgrade takes a prototxt of a net or a solver, or a caffemodel"
        )
    return found is CAFFEMODEL or (found is None and CONTROL.search(head) is not None)


def of_text(
    path: Path, name: str, lenient: bool, warnings: list[str]
) -> tuple[str, list[str], bytes]:
    """The kind of a text, what was old in it, and the current one."""
    from resnet_proto.prototxt import message_text, net_of, to_prototxt
    from resnet_proto.solver import instances, is_solver
    from resnet_proto.text_format import parse

    text = path.read_bytes().decode("utf-8", "surrogateescape")
    solver = is_solver(text)
    message = "SolverParameter" if solver else "NetParameter"
    tree: Mapping[str, Any] = parse(text, message, source=name, lenient=lenient, warnings=warnings)
    if not tree:
        raise PrototxtError(f"{name}: this is empty; a prototxt holds a net's layers")
    done: list[str] = []
    said: list[str] = []
    try:
        if solver:
            nets = {(net.field, net.place): net.value for net in instances(tree)}
            for (field, _), value in nets.items():
                if isinstance(value, Mapping) and (old := old_within(value)):
                    said.append(f"{field}: {old}; write it to a file of its own")
            text = message_text(upgraded_solver(tree, done))
        else:
            text = to_prototxt(net_of(upgraded(tree, done, said), name))
    except NetError as error:
        raise PrototxtError(f"{name}: {error}") from None
    warnings += [f"{name}: {warning}" for warning in said]
    return "solver" if solver else "net", done, text.encode("utf-8", "surrogateescape")


def of_model(
    path: Path,
    name: str,
    target: str | os.PathLike[str] | BinaryIO,
    force: bool,
    warnings: list[str],
) -> Upgraded:
    """Upgrade a caffemodel; what is written is read back and compared."""
    check_suffix(target, TEXTS, f"{name} is a caffemodel, a binary file", ".caffemodel")
    try:
        given = read(path)
    except FormatError as error:
        raise FormatError(str(error).replace(str(path), name)) from None
    buffer, close = mapped(path)
    with ExitStack() as stack:
        stack.callback(close)
        stack.enter_context(closing(given))
        said: list[str] = []
        old = model(buffer, name, said)
        warnings += [f"{name}: {warning}" for warning in said]

        def write(file: BinaryIO) -> None:
            old.write(file)
            file.flush()
            if file.tell() > INT_MAX:
                size = file.tell()
                warnings.append(f"it has {size:,} bytes; Caffe itself reads at most {INT_MAX:,}")
            with closing(read(path_of(file))) as written:
                compare(given, written, Path(str(getattr(target, "name", target))))

        state = put(target, write, force)
    return Upgraded("caffemodel", old.done, state)


def put(
    target: str | os.PathLike[str] | BinaryIO, write: Callable[[BinaryIO], object], force: bool
) -> str:
    """Write a file that is there when it is complete; whether it had this content before.

    Raises:
        ResNetProtoError: it has other content, and ``force`` is not given.
    """
    if not isinstance(target, str | os.PathLike):
        with buffered(target) as file:
            write(file)
        return "written"
    with atomic(target, force=force) as file:
        write(file)
        file.flush()
        same = Path(target).is_file() and filecmp.cmp(path_of(file), target, shallow=False)
    return "unchanged" if same else "written"


class Model(NamedTuple):
    """A caffemodel and what becomes of it.

    Args:
        buffer: the file.
        layers: its layers as trees; their ``blobs`` are pieces of the buffer.
        heads: their bytes without blobs, if they are current already.
        new: ``NetParameter`` in the current format.
        done: what was old.
    """

    buffer: memoryview
    layers: tuple[Mapping[str, Any], ...]
    heads: list[bytes]
    new: Mapping[str, Any]
    done: list[str]

    def write(self, file: BinaryIO) -> None:
        """Write the current file; if nothing was old, byte for byte the same."""
        from resnet_proto.schema import encode

        if not self.done:
            self.copy(file, Piece(0, len(self.buffer)))
            return
        layers = self.new.get("layer", ())
        rest = {key: value for key, value in self.new.items() if key != "layer"}
        file.write(encode("NetParameter", rest))
        n_added = len(layers) - len(self.heads)  # an Input layer, before those of the file
        for i, layer in enumerate(layers, -n_added):
            blobs = layer.get("blobs", ())
            if not self.heads or i < 0:
                own = {key: value for key, value in layer.items() if key != "blobs"}
                head = encode("LayerParameter", own)
            elif layer is self.layers[i]:
                head = self.heads[i]
            else:
                param = encode("LayerParameter", {"param": layer["param"]})
                head = without(self.heads[i], PARAM) + param
            self.write_layer(file, head, blobs)

    def write_layer(self, file: BinaryIO, head: bytes, blobs: tuple[Piece, ...]) -> None:
        """One ``layer`` of NetParameter; its blobs come from the file."""
        sizes = [blob.stop - blob.start for blob in blobs]
        tags = [b"\x3a" + encoded(size) for size in sizes]  # LayerParameter.blobs
        total = len(head) + sum(map(len, tags)) + sum(sizes)
        file.write(b"\xa2\x06" + encoded(total) + head)  # NetParameter.layer
        for tag, blob in zip(tags, blobs, strict=True):
            file.write(tag)
            self.copy(file, blob)

    def copy(self, file: BinaryIO, piece: Piece) -> None:
        """Write a piece of the buffer."""
        for part in Pieces(self.buffer, (piece,), "float32").parts():
            file.write(part)


def model(buffer: memoryview, source: str, warnings: list[str]) -> Model:
    """A caffemodel, and what becomes of it.

    Args:
        buffer: the file; ``caffemodel.read`` has taken it.
        source: what errors call it.
        warnings: gets a sentence for each thing that Caffe drops and does not tell.

    Raises:
        FormatError: a message that is damaged, or that Caffe would not upgrade.
    """
    from resnet_proto.schema import decode

    walk = Walk(buffer, source)
    net = bytearray()
    rows: dict[str, list[dict[str, Any]]] = {}
    heads = []
    done: list[str] = []
    try:
        for number, _, at, start, end in walk.fields(0, len(buffer)):
            if number not in NAMES:
                net += buffer[at:end]
                continue
            name, message = NAMES[number]
            head, blobs = parted(walk, start, end, number)
            layer = decode(message, head)
            if blobs:
                layer.get("layer", layer)["blobs"] = blobs
            rows.setdefault(name, []).append(layer)
            heads.append(head)
        rest = decode("NetParameter", bytes(net))
        layers = tuple(rows.get("layer", ()))
        new = upgraded({**rest, **{k: tuple(v) for k, v in rows.items()}}, done, warnings)
    except (NetError, FormatError) as error:
        where = "" if str(error).startswith(f"{source}: ") else f"{source}: "
        raise FormatError(f"{where}{error}") from None
    return Model(buffer, layers, heads if layers else [], new, done)


def parted(walk: Walk, at: int, stop: int, number: int) -> tuple[bytes, tuple[Piece, ...]]:
    """A layer's bytes without its blobs, and where those are; of a V0 layer, those within."""
    head, blobs = bytearray(), []
    inner: tuple[Piece, ...] | None = None
    blobs_number = V0.blobs if number == 1 else LAYERS[number].blobs
    for field, wire, begin, start, end in walk.fields(at, stop):
        if field == blobs_number and wire == BYTES:
            blobs.append(Piece(start, end))
        elif (number, field, wire) == (2, 1, BYTES):
            own, found = parted(walk, start, end, field)
            head += b"\x0a" + encoded(len(own)) + own
            inner = (inner or ()) + found
        else:
            head += walk.buffer[begin:end]
    return bytes(head), tuple(blobs) if inner is None else inner


def without(message: bytes, number: int) -> bytes:
    """A message without one of its fields."""
    fields = Walk(memoryview(message), "").fields(0, len(message))
    return b"".join(message[at:end] for found, _, at, _, end in fields if found != number)
