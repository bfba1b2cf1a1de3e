"""``resnet-proto verify``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.engine_options import (
    caffe_python_option,
    check_room,
    engine_choice,
    files,
    inputs_and_weights,
    number,
    seed_option,
    until_option,
    weights_option,
)
from resnet_proto.cli.image_options import image_options, input_option
from resnet_proto.cli.options import (
    Number,
    echo_json,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    shape_option,
    stage_options,
)
from resnet_proto.engine.compare import TOLERANCE, summed_up
from resnet_proto.words import columns, counted, printable

if TYPE_CHECKING:
    from resnet_proto.engine.compare import Row
    from resnet_proto.layers import Shape
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State


@click.command("verify")
@net_argument
@weights_option
@click.option("--against", type=engine_choice, required=True, help="Engine to compare with.")
@click.option("--engine", type=engine_choice, default="numpy", show_default=True,
              help="Engine to verify.")  # fmt: skip
@click.option("--tolerance", type=Number(0), default=TOLERANCE, show_default=True,
              help="Largest relative L2 allowed for a blob.")  # fmt: skip
@input_option
@shape_option
@image_options
@until_option
@caffe_python_option
@stage_options
@seed_option
@lenient_option
@json_option
def command(
    net: str,
    weights: str,
    against: str,
    engine: str,
    tolerance: float,
    inputs: tuple[str, ...],
    shapes: dict[str, Shape],
    image: ImageOptions,
    until: str | None,
    caffe_python: str | None,
    state: State,
    seed: int,
    lenient: bool,
    as_json: bool,
) -> None:
    """Compare every blob of a forward pass with another engine's.

    Each row is a blob that both engines have, with its relative L2 distance from the reference.
    The exit status is 1 if a blob is over the tolerance. Without --input, inputs are random.

    \b
    resnet-proto verify deploy.prototxt --weights r50.npz --against float64
    resnet-proto verify deploy.prototxt --weights random \\
        --against caffe --caffe-python python3.9
    """
    from resnet_proto.engine import random_inputs, run
    from resnet_proto.engine.compare import compare

    if engine == against:
        raise click.UsageError(f"--engine and --against are both {engine}; name two engines")
    the_net = read_net(net, lenient=lenient, state=state, shapes=shapes)
    check_room(the_net, (engine, against), until=until)
    arrays, the_weights, _ = inputs_and_weights(
        the_net, weights, seed, inputs, image, None, until, random_inputs(the_net, seed)
    )
    ours, theirs = (
        run(
            name,
            the_net,
            the_weights,
            arrays,
            until=until,
            caffe_python=caffe_python,
            **files(net, weights),
        )
        for name in (engine, against)
    )
    rows = compare(ours, theirs)
    over = [row for row in rows if not row.within(tolerance)]
    if as_json:
        echo_json(
            {
                "engine": engine,
                "against": against,
                "tolerance": tolerance,
                "first_over": over[0].blob if over else None,
                "blobs": [describe(row) for row in rows],
            }
        )
    else:
        click.echo("\n".join(table(rows, tolerance)))
        click.echo(printable(verdict(rows, over, f"{engine} against {against}", tolerance)))
    if over:
        sys.exit(1)


def describe(row: Row) -> dict[str, Any]:
    """A row for JSON; the reference's shape where it is another."""
    shown = {"blob": row.blob, "shape": list(row.shape)}
    if row.reference != row.shape:
        shown["reference_shape"] = list(row.reference)
    return {**shown, "distance": number(row.distance)}


def table(rows: list[Row], tolerance: float) -> list[str]:
    """One line for each blob."""
    cells = [("blob", "shape", "relative L2")]
    cells += ((row.blob, row.text, f"{row.distance:.2e}") for row in rows)
    ends = ["", *("" if row.within(tolerance) else "over" for row in rows)]
    return list(columns(cells, ends, left=2))


def verdict(rows: list[Row], over: list[Row], who: str, tolerance: float) -> str:
    """The last line: the worst blob, or the first that is over."""
    if over:
        return (
            f"{who}: {len(over)} of {counted(len(rows), 'blob')} over {tolerance:g}; "
            f"the first is '{over[0].blob}' with {over[0].distance:.2e}"
        )
    return summed_up(who, rows, tolerance)
