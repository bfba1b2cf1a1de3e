"""``resnet-proto forward``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

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
    echo_json,
    file_to_write,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    shape_option,
    stage_options,
)
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State

TOP = 5
"""Classes that are shown of each image."""
IMAGES = 16
"""A larger batch is shown by its range only."""


@click.command("forward")
@net_argument
@weights_option
@input_option
@shape_option
@image_options
@click.option("--blob", "--outputs", "outputs", metavar="NAME,...", multiple=True,
              help="The blobs wanted; the net's outputs by default.")  # fmt: skip
@until_option
@click.option("--engine", type=engine_choice, default="numpy", show_default=True,
              help="What computes.")  # fmt: skip
@caffe_python_option
@stage_options
@seed_option
@click.option(
    "--out", metavar="FILE.npz", callback=file_to_write, help="Write the blobs; - is stdout."
)
@lenient_option
@json_option
def command(
    net: str,
    weights: str,
    inputs: tuple[str, ...],
    shapes: dict[str, Shape],
    image: ImageOptions,
    outputs: tuple[str, ...],
    until: str | None,
    engine: str,
    caffe_python: str | None,
    state: State,
    seed: int,
    out: str | None,
    lenient: bool,
    as_json: bool,
) -> None:
    """Run a net forward and show or save its blobs.

    A blob of one value for each class is shown by its five largest, others by their shape
    and range. --until shows the blob where the run stops. Weights that are a model known by its
    release bring their image options with them.

    \b
    resnet-proto forward deploy.prototxt --weights ResNet-50.caffemodel \\
        --input cat.jpg --preprocess msra
    resnet-proto forward deploy.prototxt --weights ResNet-50.npz \\
        --input data=x.npy --blob res5c,prob --out out.npz
    """
    from resnet_proto.engine import run
    from resnet_proto.files import atomic

    the_net = read_net(net, lenient=lenient, state=state, shapes=shapes)
    if out == "-" and as_json:
        raise click.UsageError("--out - prints the blobs themselves; leave --json out")
    if out not in (None, "-") and Path(out).suffix != ".npz":
        raise click.UsageError(f"--out {out}: blobs are written as .npz")
    wanted = [name.strip() for text in outputs for name in text.split(",")]
    if "" in wanted:
        raise click.UsageError(f"--outputs {','.join(wanted)}: a name is empty")
    wanted = wanted or ([until] if until else the_net.outputs())
    check_room(the_net, (engine,), wanted, until)
    arrays, the_weights, _ = inputs_and_weights(
        the_net, weights, seed, inputs, image, wanted, until
    )
    blobs = run(
        engine,
        the_net,
        the_weights,
        arrays,
        outputs=wanted,
        until=until,
        caffe_python=caffe_python,
        **files(net, weights),
    )
    if out == "-":
        write_npz(sys.stdout.buffer, blobs)
        return
    if out is not None:
        with atomic(out) as file:
            write_npz(file, blobs)
        click.echo(f"wrote {out}", err=True)
    if as_json:
        echo_json({name: describe(value) for name, value in blobs.items()})
    else:
        for name, value in blobs.items():
            click.echo("\n".join(map(printable, lines(name, value))))


def write_npz(file: BinaryIO, blobs: dict[str, Array]) -> None:
    """Write the blobs under their names."""
    import zipfile

    import numpy as np

    for name in blobs:
        if any("\ud800" <= char <= "\udfff" for char in name):
            raise click.ClickException(f"blob {name!r} is no UTF-8, which .npz cannot hold")
    # not np.savez: it takes the names as arguments, and a blob may be called 'file'
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in blobs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(value), allow_pickle=False)


def describe(value: Array) -> dict[str, Any]:
    """Shape and range of a blob; of one value for each class, the largest of each image."""
    row: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
    if value.size:
        row |= {key: number(getattr(value, key)()) for key in ("min", "max", "mean")}
        images = value.reshape(value.shape[0] if value.ndim > 1 else 1, -1)
        if images.shape[1] == max(value.shape[1:], default=value.size) and len(images) <= IMAGES:
            row["top"] = [
                [{"index": int(i), "value": number(image[i])} for i in best(image)]
                for image in images
            ]
    return row


def best(image: Array) -> list[int]:
    """The indices of the largest values."""
    return (-image).argsort(kind="stable")[:TOP].tolist()  # type: ignore[no-any-return]


def lines(name: str, value: Array) -> list[str]:
    """A blob for people."""
    row = describe(value)
    shape = "x".join(map(str, row["shape"]))
    if "top" not in row:
        parts = [f"{key} {text(row[key])}" for key in ("min", "max", "mean") if key in row]
        return ["  ".join([name, shape, *parts])]
    shown = [f"{name}  {shape}"]
    for i, image in enumerate(row["top"]):
        shown += [f"  image {i}"] * (len(row["top"]) > 1)
        shown += [f"  {one['index']:>5}  {text(one['value'])}" for one in image]
    return shown


def text(value: float | None) -> str:
    """A number for people."""
    return "not finite" if value is None else f"{value:.6g}"
