"""``resnet-proto summary``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from resnet_proto.cli.options import (
    echo_json,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    shape_option,
    state_options,
)

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.state import State


@click.command("summary")
@net_argument
@state_options
@shape_option
@lenient_option
@json_option
def command(net: str, state: State, shapes: dict[str, Shape], lenient: bool, as_json: bool) -> None:
    """Show each layer of a net with shape, parameters and MACs.

    NET is a prototxt, a solver (its net of the phase), or - for stdin. MACs are the
    multiply-adds of one forward pass with the weights of convolutions, inner products and
    recurrent layers; activation bytes are those that Caffe allocates, so an in-place layer
    adds none.

    \b
    resnet-proto summary deploy.prototxt
    resnet-proto summary train_val.prototxt --phase TRAIN --net-stage fine
    resnet-proto summary deploy.prototxt --input-shape 4,3,224,224
    resnet-proto gen --depth 18 --only deploy --out - | resnet-proto summary - --json
    """
    from resnet_proto.report.summary import as_json as to_json
    from resnet_proto.report.summary import summarize, table

    summary = summarize(read_net(net, lenient=lenient, state=state, shapes=shapes))
    if as_json:
        echo_json(to_json(summary))
    else:
        click.echo("\n".join(table(summary)))
