"""What several commands share: arguments, options, and how they read a net."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.errors import ResNetProtoError

if TYPE_CHECKING:
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights

net_argument = click.argument("net", type=click.Path(dir_okay=False, allow_dash=True))
"""A prototxt; ``-`` is stdin."""
net_option = click.option(
    "--net", type=click.Path(dir_okay=False, allow_dash=True), metavar="NET",
    help="The net's prototxt; - is stdin.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
lenient_option = click.option(
    "--lenient", is_flag=True, help="Keep fields that Caffe does not know, with a warning."
)
phase_option = click.option(
    "--phase",
    type=click.Choice(["TEST", "TRAIN"], case_sensitive=False),
    default="TEST",
    show_default=True,
    help="Keep the layers of this phase.",
)


def read_net(path: str, *, lenient: bool = False) -> Net:
    """The net of a prototxt; ``-`` is stdin. Warnings go to stderr."""
    from resnet_proto.prototxt import parse_net, read_prototxt

    warnings: list[str] = []
    if path == "-":
        claim_stdin()
        text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        net = parse_net(text, source="stdin", lenient=lenient, warnings=warnings)
    else:
        net = read_prototxt(Path(path), lenient=lenient, warnings=warnings)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    return net


def read_weights(path: str) -> Weights:
    """The weights of a file; ``-`` is stdin. The file stays open until the command ends."""
    from resnet_proto.files import spooled
    from resnet_proto.formats import load

    context = click.get_current_context()
    if path == "-":
        claim_stdin()
    if path == "-" or Path(path).is_fifo():  # as the shell's <(...)
        name = "stdin" if path == "-" else path
        with Path(path).open("rb") if path != "-" else nullcontext(sys.stdin.buffer) as source:
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


def claim_stdin() -> None:
    """Refuse a second ``-`` for reading.

    Raises:
        click.UsageError: stdin has been read.
    """
    meta = click.get_current_context().meta
    if "stdin" in meta:
        raise click.UsageError("two files are -, and stdin can be read only once")
    meta["stdin"] = True


def echo_json(value: Any) -> None:
    """Print a value as JSON, one key a line."""
    import json

    click.echo(json.dumps(value, indent=2))
