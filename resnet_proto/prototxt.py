"""Prototxt text <-> net."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_proto.errors import NetError, PrototxtError
from resnet_proto.files import NETS, unreadable
from resnet_proto.layers import make_layer
from resnet_proto.net import Net, check_net
from resnet_proto.render import render
from resnet_proto.upgrade import current_layers

IS_TEXT = r"[\n\r{]|:[\s\"']"
"""What a str holds that is prototxt and not the path of one."""
IS_SOLVER = r"(?m)^(base_lr|lr_policy|max_iter|test_iter|snapshot_prefix)[ \t]*:"
"""A line that a solver has, and no net. Both are compiled when used: `gen` only writes."""
HEAD = 65536
"""How many bytes of a file tell what it is."""


def read_prototxt(
    source: str | os.PathLike[str], *, lenient: bool = False, warnings: list[str] | None = None
) -> Net:
    """The net that a prototxt describes; one of Caffe's older formats is upgraded.

    Args:
        source: a path, or the text itself: a ``str`` that holds a line break, a ``{``, or a
            ``:`` before a space or a quote is text. A ``Path`` is always a path.
        lenient: keep fields that Caffe's schema lacks, as they are spelled. What ends in
            ``_param`` in a layer of unknown type is always kept.
        warnings: where to say what ``lenient`` kept, and what Caffe drops of an old net.

    Raises:
        PrototxtError: a file that cannot be read or that Caffe would refuse. It names the
            line, and shows it.
    """
    if isinstance(source, str) and (not source or re.search(IS_TEXT, source)):
        return parse_net(source, lenient=lenient, warnings=warnings)
    return parse_net(read_text(source), source=str(source), lenient=lenient, warnings=warnings)


def parse_net(
    text: str,
    *,
    source: str = "<text>",
    lenient: bool = False,
    warnings: list[str] | None = None,
) -> Net:
    """``read_prototxt`` of a text that errors call ``source``."""
    from resnet_proto.text_format import parse  # `gen` only writes, and starts without it

    refuse_other(text[:HEAD], source)
    if re.search(IS_SOLVER, text[:HEAD]):
        raise PrototxtError(
            f"{source}: this is a solver, not a net; give the file that its field 'net' names"
        )
    tree = parse(text, "NetParameter", source=source, lenient=lenient, warnings=warnings)
    if not tree:
        raise PrototxtError(f"{source}: this is empty; a prototxt holds a net's layers")
    return net_of(tree, source, warnings)


def net_of(tree: Mapping[str, Any], source: str, warnings: list[str] | None = None) -> Net:
    """The net of a tree of ``NetParameter`` of any age; layers of V0 and V1 become current.

    Raises:
        PrototxtError: it holds old layers that Caffe would not upgrade.
    """
    said: list[str] = []
    try:
        tree = current_layers(tree, warnings=said)
    except NetError as error:
        raise PrototxtError(f"{source}: {error}") from None
    if warnings is not None:
        warnings += [f"{source}: {warning}" for warning in said]
    own = ("name", "type", "bottom", "top")
    layers = tuple(
        make_layer(
            layer.get("name", ""),
            layer.get("type", ""),
            layer.get("bottom", ()),
            layer.get("top", ()),
            {key: value for key, value in layer.items() if key not in own},
            lenient=True,  # what may be kept is the parser's to say
        )
        for layer in tree.get("layer", ())
    )
    rest = {key: value for key, value in tree.items() if key not in ("name", "layer")}
    return Net(tree.get("name", ""), layers, rest, source)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a prototxt file; bytes that are no UTF-8 become ``surrogateescape``'s.

    Raises:
        PrototxtError: it cannot be read, or is clearly something else.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
            refuse_other(head.decode("utf-8", "surrogateescape"), str(path))
            return (head + file.read()).decode("utf-8", "surrogateescape")
    except (OSError, ValueError) as error:
        raise PrototxtError(unreadable(path, error, NETS)) from None


def refuse_other(head: str, source: str) -> None:
    """Say what it is, if it begins as another kind of file than text does.

    Raises:
        PrototxtError: nothing that begins so is prototxt.
    """
    from resnet_proto.sniff import EMPTY, PROTOTXT, TEXT, kind  # `gen` only writes

    try:
        found = kind(head.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # a str that was no file
        found = None
    if found and found not in (EMPTY, PROTOTXT, TEXT):
        advice = found.for_net or found.advice
        raise PrototxtError(f"{source} is {found.what}, not a prototxt; {advice}")
    if "\0" in head:
        raise PrototxtError(
            f"{source} is a binary file (a caffemodel?), not a prototxt; "
            "give the prototxt, and weights to --weights (IN of convert)"
        )


def to_prototxt(
    net: Net,
    *,
    templates: str | os.PathLike[str] | None = None,
    comments: Sequence[str] = (),
) -> str:
    """The net as prototxt, as Caffe reads it.

    Args:
        net: any net, generated or read.
        templates: a folder whose templates go before the project's own.
        comments: lines to say above it.

    Raises:
        ResNetProtoError: no net, or a template that is wrong.
    """
    check_net(net)
    lines = [line for comment in comments for line in comment.split("\n")]
    return render("net.prototxt.j2", templates=templates, net=net, comments=lines)


def message_text(tree: Mapping[str, Any]) -> str:
    """Any message as text, a solver say: the template spells it as the fields of a net."""
    return render("net.prototxt.j2", net=Net(fields=tree), comments=())
