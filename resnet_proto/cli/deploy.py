"""``resnet-proto deploy``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.options import (
    file_to_write,
    force_option,
    lenient_option,
    net_argument,
    read_net,
    shape_of_images,
    shape_option,
    stage_options,
    templates_option,
)

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.state import State


@click.command("deploy")
@net_argument
@click.option(
    "-o",
    "--out",
    default="-",
    metavar="FILE",
    callback=file_to_write,
    help="File to write to; - is stdout.  [-]",
)
@stage_options
@shape_option
@force_option
@templates_option
@lenient_option
def command(
    net: str,
    out: str,
    state: State,
    shapes: dict[str, Shape],
    force: bool,
    templates: str | None,
    lenient: bool,
) -> None:
    """Make the deploy net of a train_val net.

    NET is any train_val prototxt, or - for stdin. Data, loss, accuracy, fillers and rates are
    removed; a softmax replaces the loss; BatchNorm uses its stored statistics.

    \b
    resnet-proto deploy train_val.prototxt --out deploy.prototxt
    resnet-proto deploy train_val.prototxt --input-shape 1,3,224,224 \\
        | resnet-proto summary -
    """
    from resnet_proto.generate import encoded, write_files
    from resnet_proto.prototxt import to_prototxt
    from resnet_proto.training.train_val import to_deploy

    found = read_net(net, lenient=lenient, state=state, shapes=shapes)
    deployed = to_deploy(found, shape_of_images(found, shapes))
    text = to_prototxt(deployed, templates=templates)
    if out == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded(text))
        return
    path = Path(out)
    texts, elsewhere = {path.name: text}, "another --out FILE"
    for written, done in write_files(texts, path.parent, force=force, elsewhere=elsewhere).items():
        click.echo(f"{written}  {done}")
