"""What several commands share: arguments, options, and how they read a net."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from resnet_proto.net import Net

net_argument = click.argument("net", type=click.Path(dir_okay=False, allow_dash=True))
"""A prototxt; ``-`` is stdin."""
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
    from resnet_proto.prototxt import read_prototxt

    warnings: list[str] = []
    if path == "-":
        text = click.get_binary_stream("stdin").read().decode("utf-8", "surrogateescape")
        net = read_prototxt(text + "\n", lenient=lenient, warnings=warnings)
    else:
        net = read_prototxt(Path(path), lenient=lenient, warnings=warnings)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    return net


def echo_json(value: Any) -> None:
    """Print a value as JSON, one key a line."""
    import json

    click.echo(json.dumps(value, indent=2))
