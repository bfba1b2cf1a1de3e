"""``resnet-proto draw``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.options import (
    echo_json,
    file_to_write,
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

DETAILS = ("stages", "units", "layers")


@click.command("draw")
@net_argument
@click.option(
    "-o", "--out", metavar="FILE", callback=file_to_write,
    help="Write .svg, .png or .pdf (by Graphviz), .dot or .txt (default: text on stdout).",
)  # fmt: skip
@click.option(
    "--detail", type=click.Choice(DETAILS), default=DETAILS[0], show_default=True,
    help="What gets a box of its own; units: each layer with weights.",
)  # fmt: skip
@state_options
@shape_option
@lenient_option
@json_option
def command(
    net: str,
    out: str | None,
    detail: str,
    state: State,
    shapes: dict[str, Shape],
    lenient: bool,
    as_json: bool,
) -> None:
    """Draw a net's stages and residual units: SVG, PNG, PDF or text.

    Any net will do: its parts are found from the graph, not from names. Shortcuts are red, and
    arrows are labelled with shapes, for one image. --json lists the parts of the net.

    \b
    resnet-proto draw deploy.prototxt
    resnet-proto draw deploy.prototxt -o net.svg --detail units
    resnet-proto gen --depth 34 --only deploy --out - \\
        | resnet-proto draw - -o 34.pdf
    """
    from resnet_proto.report import drawing
    from resnet_proto.structure import structure

    suffix = "" if out in (None, "-") else Path(str(out)).suffix.lower()
    known = (*drawing.PICTURES, ".dot", ".txt")
    if out not in (None, "-") and suffix not in known:
        raise click.UsageError(f"-o {out}: give it one of the suffixes {', '.join(known)}")
    the_net = read_net(net, lenient=lenient, state=state, shapes=shapes)
    found = structure(the_net)
    title = the_net.name or Path(net).name
    if found.unknown:
        click.echo(f"Warning: shapes are unknown from here on: {found.unknown}", err=True)
    if out not in (None, "-"):
        drawing.write(str(out), title, found, detail)
        click.echo(f"wrote {out}", err=True)
    if as_json:
        echo_json(drawing.as_json(found))
    elif out in (None, "-"):
        click.echo("\n".join(drawing.letters(title, found, detail)))
