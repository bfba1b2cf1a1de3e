"""``resnet-proto memory``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.options import (
    echo_json,
    json_option,
    lenient_option,
    net_argument,
    read_trained,
    shape_option,
    stage_options,
    whole,
)

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.state import State


@click.command("memory")
@net_argument
@click.option(
    "--batch", type=whole(1), metavar="N",
    help="Images per batch on one GPU.  [the net's own]",
)  # fmt: skip
@click.option(
    "--phase",
    "measured",
    type=click.Choice(["train", "test", "both"], case_sensitive=False),
    default="both",
    show_default=True,
    help="Phase to compute.",
)
@stage_options
@shape_option
@lenient_option
@json_option
def command(
    net: str,
    batch: int | None,
    measured: str,
    state: State,
    shapes: dict[str, Shape],
    lenient: bool,
    as_json: bool,
) -> None:
    """Compute the memory that a batch needs in training and testing.

    NET is a deploy net, a train_val net or a solver, or - for stdin; a deploy net counts as if it
    ended in a loss. The bytes are those that Caffe allocates on one GPU with its own engine and
    the solver's type, or SGD; cuDNN needs additional workspace. The batch is that of one GPU, like
    batch_size in Caffe.

    \b
    resnet-proto memory deploy.prototxt --batch 32
    resnet-proto memory train_val.prototxt --phase train --json
    resnet-proto memory hdf5_train_val.prototxt --input-shape 1,3,224,224
    """
    from resnet_proto.errors import UnknownShapeError
    from resnet_proto.formats.solverstate import HISTORIES
    from resnet_proto.memory import as_json as to_json
    from resnet_proto.memory import memory, table

    phases = ("train", "test") if measured.lower() == "both" else (measured.lower(),)
    try:
        # of a solver's nets, the one that is measured first
        state = replace(state, phase=phases[0].upper())
        read, type = read_trained(net, lenient=lenient, state=state)
        found = memory(read, batch, phases, shapes, histories=HISTORIES.get(type, 1))
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
