"""``resnet-proto summary``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.options import (
    echo_json,
    file_to_read,
    file_to_write,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    say,
    shape_option,
    state_options,
    terminal_width,
)

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.net import Net
    from resnet_proto.state import State


STYLES: dict[str, dict[str, Any]] = {
    "head": {"dim": True},
    "section": {"bold": True},
    "row": {},
    "total": {"bold": True},
}


@click.command("summary")
@net_argument
@click.option(
    "--compare", "other", metavar="OTHER", callback=file_to_read,
    help="Compare with a second net, part by part.",
)  # fmt: skip
@click.option(
    "--layer", "layers", metavar="NAME", multiple=True,
    help="Show one layer in full. Repeatable.",
)  # fmt: skip
@state_options
@shape_option
@lenient_option
@click.option(
    "--csv", "csv", metavar="FILE", callback=file_to_write,
    help="Write a line for each layer; - is stdout.",
)  # fmt: skip
@json_option
def command(
    net: str,
    other: str | None,
    layers: tuple[str, ...],
    state: State,
    shapes: dict[str, Shape],
    lenient: bool,
    csv: str | None,
    as_json: bool,
) -> None:
    """Show each layer of a net with shape, parameters and MACs.

    NET is a prototxt, a solver (its net of this phase), or - for stdin. MACs are the multiply-adds
    (the paper's FLOPs) with weights in one forward pass: of convolutions, inner products and
    recurrent layers. Activation bytes are those that Caffe allocates; an in-place layer adds none.
    On a terminal, layers are grouped as in `draw`, and figures are rounded. --layer shows every
    field of a layer, including Caffe's defaults, and what `check` finds there.

    \b
    resnet-proto summary deploy.prototxt
    resnet-proto summary train_val.prototxt --phase TRAIN --net-stage fine
    resnet-proto summary deploy.prototxt --input-shape 4,3,224,224 --csv l.csv
    resnet-proto summary deploy.prototxt --layer conv1 --layer bn_conv1
    resnet-proto summary r50/deploy.prototxt --compare r101/deploy.prototxt
    resnet-proto gen --depth 18 --only deploy --out - \\
        | resnet-proto summary - --json
    """
    from resnet_proto.files import atomic
    from resnet_proto.report import summary as report
    from resnet_proto.structure import structure

    if other is not None and csv is not None:
        raise click.UsageError("--csv is for one net; --json has the figures of both")
    if layers and (csv is not None or other is not None):
        raise click.UsageError("--layer does not go with --compare or --csv, only with --json")
    if csv == "-" and as_json:
        raise click.UsageError("--csv - and --json both write to stdout; leave one out")
    the_net = read_net(net, lenient=lenient, state=state, shapes=shapes)
    if layers:
        show_layers(the_net, layers, as_json=as_json)
        return
    summary = report.summarize(the_net)
    if other is not None:
        second = read_net(other, lenient=lenient, state=state, shapes=shapes)
        facts = report.compare(
            (summary, structure(the_net)), (report.summarize(second), structure(second))
        )
        if as_json:
            echo_json(facts)
        else:
            click.echo("\n".join(report.comparison(facts)))
        return
    if csv is not None:
        text = report.to_csv(summary, structure(the_net))
        if csv == "-":
            click.echo(text, nl=False)
            return
        with atomic(csv) as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        click.echo(f"wrote {csv}", err=True)
    if as_json:
        echo_json(report.as_json(summary))
    elif (width := terminal_width()) is not None:
        for kind, line in report.by_parts(summary, structure(the_net), width):
            click.echo(click.style(line, **STYLES[kind]))
    else:
        click.echo("\n".join(report.table(summary)))


def show_layers(net: Net, names: tuple[str, ...], *, as_json: bool) -> None:
    """Print all that is known of some layers."""
    from resnet_proto.report import layer as report
    from resnet_proto.structure import structure

    found = structure(net)
    known, _ = report.known_layers(net, found)
    places = report.places_named(names, known, net.source)
    if as_json:
        facts = [report.as_json(known, place) for place in places]
        echo_json({"name": net.name, "layers": facts, "unknown": found.unknown or None})
        return
    for n, place in enumerate(places):
        if n:
            click.echo()
        for i, line in enumerate(report.lines(known, place)):
            kind = "section" if i == 0 else "head" if line.endswith(report.DEFAULT) else "row"
            click.echo(click.style(line, **STYLES[kind]))
    if found.unknown and any(known[place].row is None for place in places):
        say(f"Incomplete: {found.unknown}")
