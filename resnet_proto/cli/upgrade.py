"""``resnet-proto upgrade``."""

from __future__ import annotations

import sys

import click

from resnet_proto.cli.options import (
    echo_json,
    file_to_read,
    file_to_write,
    force_option,
    json_option,
    lenient_option,
    regular,
)


@click.command("upgrade")
@click.argument("old", metavar="OLD", callback=file_to_read)
@click.argument(
    "new",
    metavar="NEW",
    callback=file_to_write,
)
@force_option
@lenient_option
@json_option
def command(old: str, new: str, force: bool, lenient: bool, as_json: bool) -> None:
    """Upgrade a net, a solver or a caffemodel of an older Caffe.

    OLD is the prototxt of a net or a solver, or a caffemodel, with any suffix; - is stdin or
    stdout. NEW is what Caffe's own upgrade tools would write. Weights are copied byte for byte;
    comments in a text are lost. All other commands read old nets and weights as they are.

    \b
    resnet-proto upgrade old.prototxt new.prototxt
    resnet-proto upgrade old.caffemodel new.caffemodel
    resnet-proto upgrade old.prototxt - | resnet-proto summary -
    """
    from resnet_proto.formats.upgrade import upgrade

    if new == "-" and as_json:
        raise click.UsageError("NEW is -: leave --json out")
    source, name = regular(old)
    warnings: list[str] = []
    target = sys.stdout.buffer if new == "-" else new
    result = upgrade(source, target, name=name, force=force, lenient=lenient, warnings=warnings)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json(
            {"file": new, "kind": result.kind, "upgraded": result.done, "state": result.state}
        )
        return
    what = f"upgraded {', '.join(result.done)}" if result.done else "current already"
    click.echo(f"{name} ({result.kind}): {what}", err=True)
    if new != "-":
        click.echo(f"{new}  {result.state}")
