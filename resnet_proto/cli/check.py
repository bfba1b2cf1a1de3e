"""``resnet-proto check``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.check.target import NAMES
from resnet_proto.cli.options import (
    echo_json,
    file_to_read,
    file_to_write,
    json_option,
    lenient_option,
    readable,
    regular,
    shape_option,
    stage_options,
    weights_of,
    whole,
)

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.state import State


def each_to_read(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """A click callback: every value is the name of a file, and only one is stdin."""
    for value in values:
        file_to_read(context, parameter, value)
    return values


@click.command("check")
@click.argument("files", nargs=-1, required=True, callback=each_to_read, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Let warnings count as errors in the exit status.")
@click.option(
    "--test-images", type=whole(1), metavar="N", help="Number of images in the test data."
)
@click.option(
    "--target",
    type=click.Choice(NAMES),
    metavar="NAME",
    help=f"Report what a tool chain rejects: {', '.join(NAMES)}.",
)
@click.option(
    "--weights", metavar="FILE", callback=file_to_read, help="Weights of the net, for --target."
)
@click.option(
    "--plot",
    metavar="FILE",
    callback=file_to_write,
    help="Plot a solver's learning rate over the iterations: .svg, .png or .pdf.",
)
@stage_options
@shape_option
@lenient_option
@json_option
def command(
    files: tuple[str, ...],
    strict: bool,
    test_images: int | None,
    target: str | None,
    weights: str | None,
    plot: str | None,
    state: State,
    shapes: dict[str, Shape],
    lenient: bool,
    as_json: bool,
) -> None:
    """Report likely mistakes in nets and solvers.

    FILE is the prototxt of a net or a solver, or - for stdin. A solver is checked together with
    its nets, in the states that it gives; --level and --net-stage are for the net that it
    trains. The exit status is 1 if there is an error.

    \b
    resnet-proto check deploy.prototxt
    resnet-proto check solver.prototxt --test-images 50000 --strict
    resnet-proto check solver.prototxt --plot rate.svg

    --target checks a net against the documented limits of a tool chain; `convert --target`
    writes a net that passes.

    \b
    resnet-proto check deploy.prototxt --target tpu-mlir
    """
    from resnet_proto.check import as_json as to_json
    from resnet_proto.check import check_file, check_text, joined

    known: dict[str, Any] = {
        "lenient": lenient,
        "test_images": test_images,
        "state": state,
        "shapes": shapes,
        "target": target,
        "weights": weights_of(*regular(weights)) if weights else None,
    }
    if weights and not target:
        raise click.UsageError("--weights goes with --target")
    if plot is not None and len(files) > 1:
        raise click.UsageError("--plot takes one FILE, a solver")
    reports = []
    for file in files:
        if file == "-":
            with readable("stdin"):
                text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
            reports.append(check_text(text, "stdin", **known))
        else:
            reports.append(check_file(file, **known))
    report = joined(reports)
    if as_json:
        echo_json(to_json(report))
    else:
        click.echo("\n".join(report.lines()))
    if plot is not None:
        from resnet_proto.prototxt import read_text
        from resnet_proto.report.curves import plot_rate

        plot_rate(plot, text if files[0] == "-" else read_text(files[0]))
        click.echo(f"wrote {plot}", err=True)
    if report.count("error") or (strict and report.count("warning")):
        sys.exit(1)
