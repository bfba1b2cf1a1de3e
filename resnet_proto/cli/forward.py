"""``resnet-proto forward``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
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
from resnet_proto.cli.image_options import image_options, input_files, input_option
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
from resnet_proto.cli.progress import progress
from resnet_proto.errors import ResNetProtoError
from resnet_proto.words import counted, printable

if TYPE_CHECKING:
    from resnet_proto.engine.running import Running
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State

TOP = 5
"""Classes that are shown of each image."""
IMAGES = 16
"""A larger batch is shown by its range only."""
BATCH = 10
"""Of many images, how many go through a net at a time; the batch of Caffe's deploy nets."""


@click.command("forward")
@net_argument
@weights_option
@input_option
@shape_option
@image_options
@click.option("--blob", "--outputs", "outputs", metavar="NAME,...", multiple=True,
              help="Blobs to show or save (default: the net's outputs).")  # fmt: skip
@until_option
@click.option("--engine", type=engine_choice, default="numpy", show_default=True,
              help="Engine to run the net with.")  # fmt: skip
@caffe_python_option
@stage_options
@seed_option
@click.option("-o", "--out", metavar="FILE.npz", callback=file_to_write,
              help="Save the blobs; - is stdout. One blob may be an .npy.")  # fmt: skip
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

    A blob with one value for each class is shown as its five largest values, others as shape and
    range. With --until, the blob where the run stops is shown. More images than the net's batch
    are processed in batches; those of a folder are sorted by name, and --json and an .npz list
    them. The weights of a known released model bring its image options.

    \b
    resnet-proto forward deploy.prototxt --weights ResNet-50.caffemodel \\
        --input cat.jpg --preprocess msra
    resnet-proto forward deploy.prototxt --weights ResNet-50.npz \\
        --input data=x.npy --blob res5c,prob --out out.npz
    resnet-proto forward deploy.prototxt --weights ResNet-50.caffemodel \\
        --input photos --preprocess msra --blob pool5 --out features.npy
    """
    from resnet_proto.engine import run, start
    from resnet_proto.files import atomic

    the_net = read_net(net, lenient=lenient, state=state, shapes=shapes)
    if out == "-" and as_json:
        raise click.UsageError("--out - prints the blobs themselves; leave --json out")
    suffix = Path(out).suffix if out not in (None, "-") else ".npz"
    if suffix not in (".npz", ".npy"):
        raise click.UsageError(f"--out {out}: blobs are written as .npz, or one of them as .npy")
    wanted = [name.strip() for text in outputs for name in text.split(",")]
    if "" in wanted:
        raise click.UsageError(f"--outputs {','.join(wanted)}: a name is empty")
    wanted = wanted or ([until] if until else the_net.outputs())
    if suffix == ".npy" and len(wanted) != 1:
        raise click.UsageError(
            f"--out {out}: an .npy holds one blob, and {len(wanted)} are wanted "
            f"({', '.join(wanted)}); name one with --blob, or write an .npz"
        )
    name, paths = ("", []) if until else many_images(the_net, inputs, wanted)
    if paths:
        inputs = (f"{name}={paths[0]}",)
        shape = (min(BATCH, len(paths)), *the_net.inputs()[name][1:])
        the_net = the_net.with_input_shapes({name: shape}, wanted)
    check_room(the_net, (engine,), wanted, until)
    arrays, the_weights, image = inputs_and_weights(
        the_net, weights, seed, inputs, image, wanted, until
    )
    options = {"outputs": wanted, "caffe_python": caffe_python, **files(net, weights)}
    if paths:
        with start(engine, the_net, the_weights, **options) as running, progress() as said:
            blobs = in_batches(running, name, shape, paths, image, said)
    else:
        blobs = run(engine, the_net, the_weights, arrays, until=until, **options)
    if out == "-":
        write_npz(sys.stdout.buffer, blobs, paths)
        return
    if out is not None:
        with atomic(out) as file:
            if suffix == ".npy":
                write_npy(file, blobs[wanted[0]])
            else:
                write_npz(file, blobs, paths)
        click.echo(f"wrote {out}", err=True)
    if as_json:
        images = {"images": paths} if paths else {}
        echo_json({name: {**describe(value), **images} for name, value in blobs.items()})
    else:
        for name, value in blobs.items():
            click.echo("\n".join(map(printable, lines(name, value))))


def many_images(net: Net, given: Sequence[str], wanted: Sequence[str]) -> tuple[str, list[str]]:
    """The one input that ``wanted`` needs and its images, a folder's or no batch of the net.

    Returns:
        Its name and the files in their order; none where they are given as one batch of the net.
    """
    from resnet_proto.engine import needed_inputs

    inputs = needed_inputs(net, wanted, None)
    files = input_files(net, given)
    if len(inputs) != 1 or files.keys() != inputs.keys() or not net.inputs().keys() >= files.keys():
        return "", []
    ((name, paths),) = files.items()
    folder = not given[0].endswith(paths[0])
    if folder or (len(paths) > 1 and len(paths) != inputs[name][0]):
        return name, paths
    return "", []


def in_batches(
    running: Running, name: str, shape: Shape, paths: Sequence[str], image: ImageOptions,
    said: Callable[[int, int, int], object],
) -> dict[str, Array]:  # fmt: skip
    """The blobs of many images, of which a batch is in memory at a time.

    Args:
        running: a net that is open.
        name: its input.
        shape: of the input, (N, C, H, W); N images at a time.
        paths: the images.
        image: how they become the input.
        said: is told of progress, as ``progress`` gives it.

    Returns:
        Of each blob a row for each image, in their order.

    Raises:
        ResNetProtoError: an image cannot be read; a blob has no row for each image, or all rows
            would not fit into memory.
    """
    import numpy as np

    from resnet_proto import memory
    from resnet_proto.layers import dims
    from resnet_proto.preprocess import load_image

    rows: dict[str, Array] = {}
    for at in range(0, len(paths), shape[0]):
        part = [load_image(path, shape, image) for path in paths[at : at + shape[0]]]
        blobs = running.run({name: np.concatenate(part)})
        for blob, value in blobs.items():
            if value.shape[:1] != (len(part),):
                raise ResNetProtoError(
                    f"blob '{blob}' is {dims(value.shape)} for {counted(len(part), 'image')}: no "
                    "row for each of them; give one image at a time"
                )
        if not rows:
            size = sum(value.nbytes for value in blobs.values()) * len(paths) // len(part)
            what = f"{', '.join(blobs)} of {len(paths):,} images"
            memory.check_room(size, what, "give fewer images, or a smaller blob")
            rows = {k: np.empty((len(paths), *v.shape[1:]), v.dtype) for k, v in blobs.items()}
        for blob, value in blobs.items():
            rows[blob][at : at + len(part)] = value
        said(at + len(part), 0, len(paths))
    return rows


def write_npy(file: BinaryIO, value: Array) -> None:
    """Write one blob."""
    import numpy as np

    np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)


def write_npz(file: BinaryIO, blobs: dict[str, Array], images: Sequence[str] = ()) -> None:
    """Write the blobs under their names, and of images, if they have any, those of the rows."""
    import json
    import zipfile

    from resnet_proto.formats.metadata import MAX_METADATA
    from resnet_proto.formats.npz import METADATA, stored

    for name in blobs:
        if any("\ud800" <= char <= "\udfff" for char in name):
            raise click.ClickException(f"blob {name!r} is not UTF-8, which .npz cannot hold")
    # not np.savez: it takes the names as arguments, and a blob may be called 'file'
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in blobs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                write_npy(entry, value)  # type: ignore[arg-type]
        names = json.dumps({"images": images})
        if images and len(names) <= MAX_METADATA:  # more is not read
            archive.writestr(stored(METADATA), names, zipfile.ZIP_DEFLATED)


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
