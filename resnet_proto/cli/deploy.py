"""``resnet-proto deploy``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from resnet_proto.cli.options import (
    force_option,
    lenient_option,
    net_argument,
    read_net,
    shape_option,
    templates_option,
)


@click.command("deploy")
@net_argument
@click.option(
    "-o", "--out", default="-", metavar="FILE", help="File to write to; - is stdout.  [-]"
)
@shape_option
@force_option
@templates_option
@lenient_option
def command(
    net: str,
    out: str,
    input_shape: tuple[int, ...] | None,
    force: bool,
    templates: str | None,
    lenient: bool,
) -> None:
    """Make the deploy net of a train_val net.

    NET is anybody's train_val prototxt, or - for stdin. Data, loss, accuracy, fillers and rates
    are left out; a softmax stands where the loss was; BatchNorm takes its stored statistics.

    \b
    resnet-proto deploy train_val.prototxt --out deploy.prototxt
    resnet-proto deploy train_val.prototxt --input-shape 1,3,224,224 | resnet-proto summary -
    """
    from resnet_proto.generate import encoded, write_files
    from resnet_proto.prototxt import to_prototxt
    from resnet_proto.training.train_val import to_deploy

    text = to_prototxt(to_deploy(read_net(net, lenient=lenient), input_shape), templates=templates)
    if out == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded(text))
        return
    path = Path(out)
    for written, state in write_files({path.name: text}, path.parent, force=force).items():
        click.echo(f"{written}  {state}")
