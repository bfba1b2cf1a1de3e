"""``resnet-proto verify``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.engine_options import (
    caffe_python_option,
    engine_choice,
    files,
    number,
    seed_option,
    until_option,
    weights_for,
    weights_option,
)
from resnet_proto.cli.image_options import image_options, input_option, read_inputs
from resnet_proto.cli.options import echo_json, json_option, lenient_option, net_argument, read_net
from resnet_proto.engine.compare import TOLERANCE

if TYPE_CHECKING:
    from resnet_proto.engine.compare import Row
    from resnet_proto.preprocess import ImageOptions


@click.command("verify")
@net_argument
@weights_option
@click.option("--against", type=engine_choice, required=True, help="The reference.")
@click.option("--engine", type=engine_choice, default="numpy", show_default=True,
              help="What is checked.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(min=0), default=TOLERANCE, show_default=True,
              help="Relative L2 that a blob may have.")  # fmt: skip
@input_option
@image_options
@until_option
@caffe_python_option
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
    image: ImageOptions,
    until: str | None,
    caffe_python: str | None,
    seed: int,
    lenient: bool,
    as_json: bool,
) -> None:
    """Compare every blob of our forward pass with another engine's.

    One row for each blob that both have: its relative L2 distance from the reference. The
    exit status is 1 if any is over the tolerance. Without --input, inputs are random.

    \b
    resnet-proto verify deploy.prototxt --weights ResNet-50.caffemodel --against float64
    resnet-proto verify deploy.prototxt --weights random --against caffe --caffe-python python3.9
    """
    from resnet_proto.engine import random_inputs, run
    from resnet_proto.engine.compare import compare

    the_net = read_net(net, lenient=lenient)
    arrays = random_inputs(the_net, seed) | read_inputs(the_net, inputs, image)
    the_weights = weights_for(the_net, weights, seed, arrays)
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
                "blobs": [
                    {"blob": row.blob, "shape": list(row.shape), "distance": number(row.distance)}
                    for row in rows
                ],
            }
        )
    else:
        click.echo("\n".join(table(rows, tolerance)))
        click.echo(verdict(rows, over, f"{engine} against {against}", tolerance))
    if over:
        sys.exit(1)


def table(rows: list[Row], tolerance: float) -> list[str]:
    """One line for each blob."""
    name = max(len("blob"), *(len(row.blob) for row in rows))
    shape = max(len("shape"), *(len(row.text) for row in rows))
    lines = [f"{'blob':<{name}}  {'shape':<{shape}}  relative L2"]
    for row in rows:
        mark = "" if row.within(tolerance) else "  over"
        lines.append(f"{row.blob:<{name}}  {row.text:<{shape}}  {row.distance:11.2e}{mark}")
    return lines


def verdict(rows: list[Row], over: list[Row], who: str, tolerance: float) -> str:
    """The last line: the worst blob, or the first that is over."""
    if over:
        return (
            f"{who}: {len(over)} of {len(rows)} blobs over {tolerance:g}; "
            f"the first is '{over[0].blob}' with {over[0].distance:.2e}"
        )
    worst = max(rows, key=lambda row: row.distance)
    return (
        f"{who}: {len(rows)} blobs within {tolerance:g}; "
        f"the worst is '{worst.blob}' with {worst.distance:.2e}"
    )
