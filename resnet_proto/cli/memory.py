"""``resnet-proto memory``."""

from __future__ import annotations

import click

from resnet_proto.cli.options import (
    counts,
    echo_json,
    json_option,
    lenient_option,
    net_argument,
    read_net,
)


def shapes(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """``1,3,224,224`` or ``label=1,1,224,224`` as shapes by name; the images have none."""
    found = {}
    for value in values:
        name, _, sizes = value.rpartition("=")
        found[name] = counts(context, option, sizes) or ()
    return found


@click.command("memory")
@net_argument
@click.option(
    "--batch", type=click.IntRange(1), metavar="N",
    help="Images at a time on one GPU.  [what the net says]",
)  # fmt: skip
@click.option(
    "--phase",
    type=click.Choice(["train", "test", "both"], case_sensitive=False),
    default="both",
    show_default=True,
    help="What to measure.",
)
@click.option(
    "--input-shape", callback=shapes, metavar="[NAME=]N,C,H,W", multiple=True,
    help="Shape of the images, or of another blob, where the data layer does not say it.",
)  # fmt: skip
@lenient_option
@json_option
def command(
    net: str,
    batch: int | None,
    phase: str,
    input_shape: dict[str, tuple[int, ...]],
    lenient: bool,
    as_json: bool,
) -> None:
    """Show how much memory a net needs for a batch, in training and in tests.

    NET is a deploy net or a train_val net, or - for stdin; a deploy net is measured as if a
    loss stood at its end. The bytes are those that Caffe allocates for one GPU with its own
    engine and SGD; cuDNN's workspace comes on top. The batch is one GPU's, as batch_size is
    in Caffe.

    \b
    resnet-proto memory deploy.prototxt --batch 32
    resnet-proto memory train_val.prototxt --phase train --json
    resnet-proto memory hdf5_train_val.prototxt --input-shape 1,3,224,224
    """
    from resnet_proto.errors import UnknownShapeError
    from resnet_proto.memory import as_json as to_json
    from resnet_proto.memory import memory, table

    phases = ("train", "test") if phase.lower() == "both" else (phase.lower(),)
    try:
        found = memory(read_net(net, lenient=lenient), batch, phases, input_shape)
    except UnknownShapeError as error:
        reason = str(error).partition(";")[0]
        raise UnknownShapeError(
            f"{reason}; give it: --input-shape 1,3,224,224 for images, NAME=... for another blob"
        ) from None
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json(to_json(found))
    else:
        click.echo("\n".join(table(found)))
