"""``resnet-proto spec``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from resnet_proto.cli.options import (
    echo_json,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    shape_of_images,
    shape_option,
    stage_options,
)

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.state import State


@click.command("spec")
@net_argument
@stage_options
@shape_option
@lenient_option
@json_option
def command(net: str, state: State, shapes: dict[str, Shape], lenient: bool, as_json: bool) -> None:
    """Recognise a residual net and print the spec that generates it.

    The spec is printed as TOML. NET is any prototxt, deploy or train_val, or - for stdin. It is
    recognised by what its layers compute, not by their names; the spec's net has the same graph.
    If no spec can express the net, the error names the layer that prevents it.

    \b
    resnet-proto spec deploy.prototxt > my.toml
    resnet-proto gen --spec my.toml --set classes=37
    resnet-proto spec train_val.prototxt --input-shape 1,3,224,224 --json
    """
    from dataclasses import asdict

    from resnet_proto.recognize import nearest_preset, recognize
    from resnet_proto.settings import spelled, to_toml
    from resnet_proto.training.train_val import is_train_val, to_deploy

    found = read_net(net, lenient=lenient, state=state, shapes=shapes)
    if is_train_val(found):
        found = to_deploy(found, shape_of_images(found, shapes))
    warnings: list[str] = []
    spec = recognize(found, warnings)
    preset, other = nearest_preset(spec)
    if as_json:
        echo_json({"spec": asdict(spec), "preset": preset, "unlike": other, "warnings": warnings})
        return
    click.echo(to_toml(spec), nl=False)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if len(other) <= 3:
        values = ", ".join(f"{key}={spelled(value)}" for key, value in other.items())
        click.echo(f"preset {preset}{' but for ' if other else ''}{values}", err=True)
