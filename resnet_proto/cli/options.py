"""What several commands share: arguments, options, and how they read a net."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.errors import ResNetProtoError

if TYPE_CHECKING:
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights


def file_to_read(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A click callback for a file's name: not empty, and only one of them is ``-``.

    Whether it can be read is seen when it is: status 1, whatever stands in the way.
    """
    if value == "":
        raise click.BadParameter("it is empty; give the name of a file")
    if value == "-":
        meta = click.get_current_context().meta
        if "stdin" in meta:
            raise click.UsageError("two files are -, and stdin can be read only once")
        meta["stdin"] = True
    return value


def file_to_write(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A click callback for a file's name: not empty, and in a folder that exists."""
    if value == "":
        raise click.BadParameter("it is empty; give the name of a file")
    if value is not None and not Path(value).absolute().parent.is_dir():
        raise ResNetProtoError(f"{value}: no such folder: {Path(value).parent}; make it first")
    return value


net_argument = click.argument("net", callback=file_to_read)
"""A prototxt; ``-`` is stdin."""
net_option = click.option(
    "--net", metavar="NET", callback=file_to_read,
    help="The net's prototxt; - is stdin.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
lenient_option = click.option(
    "--lenient", is_flag=True, help="Keep fields that Caffe does not know, with a warning."
)
phase_option = click.option(
    "--phase",
    type=click.Choice(["TEST", "TRAIN"], case_sensitive=False),
    metavar="[TEST|TRAIN]",
    default="TEST",
    show_default=True,
    help="Keep the layers of this phase.",
)


def read_net(path: str, *, lenient: bool = False) -> Net:
    """The net of a prototxt, or of a weight file that carries one; ``-`` is stdin.

    Warnings go to stderr.
    """
    from resnet_proto.prototxt import parse_net, read_prototxt

    warnings: list[str] = []
    if path == "-":
        with readable("stdin"):
            text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        net = parse_net(text, source="stdin", lenient=lenient, warnings=warnings)
    elif carries_net(path):
        net = carried_net(path, lenient=lenient, warnings=warnings)
    else:
        net = read_prototxt(Path(path), lenient=lenient, warnings=warnings)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    return net


def carries_net(path: str) -> bool:
    """Whether a file is a weight file that may have its net's prototxt within."""
    return path.lower().endswith((".npz", ".safetensors"))


def carried_net(path: str, **options: Any) -> Net:
    """The net whose prototxt a weight file carries.

    Raises:
        ResNetProtoError: it carries none.
    """
    from resnet_proto.formats import load, net_of

    with load(path) as weights:
        net = net_of(weights, **options)
    if net is None:
        raise ResNetProtoError(
            f"{path} carries no prototxt; give the net's own file, or convert with --net first"
        )
    return net


def read_weights(path: str) -> Weights:
    """The weights of a file; ``-`` is stdin. The file stays open until the command ends."""
    from resnet_proto.files import spooled
    from resnet_proto.formats import load

    context = click.get_current_context()
    if path == "-" or Path(path).is_fifo():  # as the shell's <(...)
        name = "stdin" if path == "-" else path
        with readable(name), ExitStack() as stack:
            fifo = path != "-"
            source = stack.enter_context(Path(path).open("rb")) if fifo else sys.stdin.buffer
            file = context.with_resource(spooled(source))
        try:
            weights = load(file)
        except ResNetProtoError as error:
            raise type(error)(str(error).replace(str(file), name)) from None
        weights.source = name
    else:
        weights = load(path)
    context.call_on_close(weights.close)
    return weights


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what goes wrong with a pipe into an error that names it."""
    try:
        yield
    except OSError as error:
        raise ResNetProtoError(f"{name}: cannot be read: {error.strerror}") from None


def echo_json(value: Any) -> None:
    """Print a value as JSON, one key a line."""
    import json

    click.echo(json.dumps(value, indent=2))
