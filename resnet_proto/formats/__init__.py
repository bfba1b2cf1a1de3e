"""Weight files: suffix or content chooses the format, and each has the same two functions.

read(path) -> Weights, lazily
write(file, weights, net, progress)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from copy import copy
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from resnet_proto.errors import FormatError
from resnet_proto.files import WEIGHTS, atomic, buffered, path_of, unreadable
from resnet_proto.fit import fitted, named, with_shared
from resnet_proto.formats.metadata import provenance
from resnet_proto.net import check_net
from resnet_proto.sniff import HEAD, MEAN, SOLVERSTATE, format_of, kind
from resnet_proto.weights import Weights, same_values
from resnet_proto.words import counted

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

FORMATS = ("caffemodel", "npz", "safetensors", "hdf5", "pt")
"""Names of the formats: their suffixes without the dot, and their modules."""
SUFFIXES = {**{name: name for name in FORMATS}, "h5": "hdf5", "pth": "pt"}
"""Suffix -> format; Caffe's own are ``.caffemodel`` and ``.caffemodel.h5``."""

ELSEWHERE = {
    "onnx": "; `resnet-proto convert` writes it",
    "keras": "; `resnet-proto convert` writes it",
    "prototxt": "; where a net is made too, its prototxt comes to stand beside the caffemodel",
}
"""What is written in another way, and how: the end of a message."""

MEANS = (".binaryproto", ".npy")
"""Suffixes of a mean of images: ``binaryproto.py``."""

INT_MAX = (1 << 31) - 1
"""Bytes of the largest caffemodel that Caffe reads: io.cpp, kProtoReadBytesLimit."""

Progress = Callable[[int], object]
"""Is told of each number of bytes that is done."""


def load(path: str | os.PathLike[str]) -> Weights:
    """The weights of a file; values are read when they are asked for.

    Args:
        path: its suffix names the format. With any other suffix the content decides, and HDF5
            is known by its content always, as Caffe knows it.

    Raises:
        FormatError: the file cannot be read, is damaged, or is something else. A pipe or a
            device is not read: weights are read here and there.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        raise FormatError(unreadable(path, error)) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise FormatError(f"{path} is {what}, not a weight file; save what comes from it in a file")
    return _module(_format_to_read(Path(path))).read(path)  # type: ignore[no-any-return]


def save(
    path: str | os.PathLike[str] | BinaryIO,
    weights: Mapping[str, Array],
    net: Net | None = None,
    *,
    to: str | None = None,
    verify: bool = True,
    force: bool = True,
    progress: Progress = lambda size: None,
    prove: Callable[[Path], object] = lambda part: None,
    warnings: list[str] | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
    beside: Mapping[Path, bytes] = MappingProxyType({}),
) -> None:
    """Write weights to a file, which is there when it is complete, and not before.

    Args:
        path: its suffix names the format, unless ``to`` does. An open binary file gets the
            content once it is complete.
        weights: ``<layer>.<blob>`` -> array.
        net: gives a caffemodel its structure; other formats carry its text, so that the way
            back needs none. None takes the net that the weights carry. What its layers share
            stands at each of them in a caffemodel, as Caffe has it, and once elsewhere.
        to: one of ``FORMATS``.
        verify: read the file back and compare, before it takes its name.
        force: take the place of a file that has other content.
        progress: is told of each number of bytes written.
        prove: is given the file before it takes its name; what it raises keeps it from that.
        warnings: gets a sentence for each thing that may not be as it was meant: layers that
            could not be checked, a caffemodel that is too large for Caffe.
        options: names and values that formats with metadata keep, beside the name and the sha256
            of the file that the weights come from.
        beside: small files that are there when that of a path is, and not without it.

    Raises:
        WeightsError: the weights do not fit the net, or the format cannot hold them.
        FormatError: no format is called so, or what was read back differs.
        ResNetProtoError: no net, or the file cannot be written, or may not be replaced.
    """
    if net is not None:
        check_net(net)
    if isinstance(path, Mapping):
        raise FormatError("save takes the path first, then the weights")
    if isinstance(path, str | os.PathLike):
        target, opened = Path(path), atomic(path, force=force, beside=beside)
    else:
        target, opened = Path(str(getattr(path, "name", "the stream"))), buffered(path)
    name = format_to_write(target, to)
    module = _module(name)
    given = Weights.of(weights)
    if net is None:
        net = net_of(given)
    if net is not None:
        given = named(given, net)
        given = with_shared(given, fitted(given, net, warnings), net, once=name != "caffemodel")
    if name != "caffemodel":
        given = copy(given)
        given.provenance = provenance(given.source, options)
    with opened as file:
        module.write(file, given, net, progress)
        file.flush()
        if name == "caffemodel" and file.tell() > INT_MAX and warnings is not None:
            warnings.append(
                f"{target} has {file.tell():,} bytes; Caffe itself reads at most {INT_MAX:,}"
            )
        if name == "hdf5" and warnings is not None and (lost := not_found(given)):
            warnings.append(
                f"{target}: Caffe itself finds no layer in HDF5 whose name has a slash or repeats: "
                f"{counted(len(lost), 'layer')}, the first is '{lost[0]}'; a caffemodel has them"
            )
        part = path_of(file)
        try:
            if verify:
                with closing(module.read(part)) as written:
                    compare(given, written, target)
            prove(part)
        except FormatError as error:
            raise FormatError(str(error).replace(str(part), str(target))) from None


def held_by(path: str | os.PathLike[str]) -> str:
    """What a file holds by its content: ``weights``, a solver's ``state``, or a ``mean``.

    It is ``weights`` too where nothing is recognised, or the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except (OSError, ValueError):
        return "weights"
    if format_of(head) == "hdf5":
        from resnet_proto.formats.hdf5 import holds_state

        return "state" if holds_state(path) else "weights"
    found = kind(head)
    return "state" if found is SOLVERSTATE else "mean" if found is MEAN else "weights"


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    net: Net | None = None,
    *,
    to: str | None = None,
    verify: bool = True,
    progress: Progress = lambda size: None,
    warnings: list[str] | None = None,
) -> None:
    """Write the weights of one file, as ``load`` takes it, to another; arguments as of ``save``.

    Raises:
        FormatError: ``load`` or ``save`` refuses a file.
        WeightsError: the weights do not fit the net, or the format cannot hold them.
        ResNetProtoError: no net, or the file cannot be written.
    """
    with closing(load(source)) as weights:
        save(target, weights, net, to=to, verify=verify, progress=progress, warnings=warnings)


def net_of(weights: Weights, **options: Any) -> Net | None:
    """The net whose text the weights carry; options as those of ``read_prototxt``."""
    if weights.net_text is None:
        return None
    from resnet_proto.prototxt import parse_net

    return parse_net(weights.net_text, source=f"the net in {weights.source}", **options)


def compare(given: Weights, written: Weights, target: Path) -> None:
    """Hold what was read back against what was to be written.

    Raises:
        FormatError: they differ.
    """
    wrong = [key for key in given if key not in written or not same_blob(given, written, key)]
    wrong += [key for key in written if key not in given]
    if wrong:
        raise FormatError(
            f"{target}: read back, {len(wrong)} of {len(given)} blobs differ, the first is "
            f"'{wrong[0]}'; the file was not kept. Is the disk full or failing?"
        )


def not_found(weights: Weights) -> list[str]:
    """The layers that Caffe does not find in an HDF5 file: ``fit.match``."""
    return [
        layer.label
        for layer in weights.layers
        if layer.blobs and ("/" in layer.label or layer.label != layer.name)
    ]


def same_blob(given: Weights, written: Weights, key: str) -> bool:
    """Whether shape and values of one blob are the same in both."""
    a, b = given.blobs[key], written.blobs[key]
    same = a.shape == b.shape and same_values(a, b)
    for weights, blob in ((given, a), (written, b)):
        weights.forget(blob.layer)  # else both files are in memory in the end
    return same


def _format_to_read(path: Path) -> str:
    known = SUFFIXES.get(path.suffix.lower()[1:])
    try:
        with path.open("rb") as file:
            found = format_of(file.read(HEAD))
    except OSError as error:
        raise FormatError(unreadable(path, error, WEIGHTS)) from None
    return found if known is None or found == "hdf5" else known


def format_to_write(path: Path, to: str | None, others: Iterable[str] = ()) -> str:
    """The name of a format, by ``to`` or else by the suffix.

    Args:
        path: what is to be written.
        to: as for ``save``.
        others: what the caller writes besides ``FORMATS``.

    Raises:
        FormatError: no format is called so, or the suffix is that of another.
    """
    suffix = path.suffix.lower()[1:]
    name = SUFFIXES.get(suffix, suffix) if to is None else to
    if not name:
        raise FormatError(
            f"{path} has no suffix; give it one of .{', .'.join((*SUFFIXES, *others))}, or name "
            "the format "
            "with --to"
        )
    known = (*FORMATS, *others)
    if name not in known:
        raise FormatError(
            f"{path}: no format is called '{name}'; known: {', '.join(known)}, by the suffix"
            + ELSEWHERE.get(name, "")
        )
    if SUFFIXES.get(suffix, name) != name:
        raise FormatError(f"{path}: its suffix is that of another format than {name}; change one")
    return name


def _module(name: str) -> Any:
    return import_module(f"resnet_proto.formats.{name}")
