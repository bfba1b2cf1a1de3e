"""``resnet-proto classify``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.engine_options import (
    caffe_python_option,
    engine_choice,
    files,
    weights_for,
    weights_option,
)
from resnet_proto.cli.image_options import (
    image_given,
    image_options,
    instead_of_caffe,
    is_array,
    note_on,
)
from resnet_proto.cli.options import (
    counts,
    echo_json,
    file_to_read,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    readable,
    stage_options,
)
from resnet_proto.errors import ResNetProtoError
from resnet_proto.words import counted, printable

if TYPE_CHECKING:
    from resnet_proto.evaluate.classifier import Guess
    from resnet_proto.evaluate.views import ImageLike
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State


def images_to_read(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """A click callback: ``file_to_read`` for each."""
    for value in values:
        file_to_read(context, parameter, value)
    return values


@click.command("classify")
@net_argument
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", callback=images_to_read)
@weights_option
@click.option(
    "--labels", metavar="FILE|imagenet",
    help="What the classes are called: a file with a line for each, or ImageNet's 1,000.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="N",
              help="How many classes of each image are shown.")  # fmt: skip
@image_options
@click.option("--crops", type=click.Choice(["1", "10"]), default="1", show_default=True,
              help="The centre, or also the corners, with mirror images; see --crop.")  # fmt: skip
@click.option("--scales", callback=counts, metavar="N,...",
              help="Look at the whole image with its shorter side so long, and at its mirror "
              "image; as 224,256,384,480,640 in the paper.")  # fmt: skip
@click.option("--engine", type=engine_choice, default="numpy", show_default=True,
              help="What computes.")  # fmt: skip
@caffe_python_option
@stage_options
@lenient_option
@json_option
def command(
    net: str,
    images: tuple[str, ...],
    weights: str,
    labels: str | None,
    top: int,
    image: ImageOptions,
    crops: str,
    scales: tuple[int, ...] | None,
    engine: str,
    caffe_python: str | None,
    state: State,
    lenient: bool,
    as_json: bool,
) -> None:
    """Say what a net takes images for.

    IMAGE is a file, a folder of images, an array as the net takes it (.npy), or - for one image
    from stdin. An image that cannot be read is left out, and the status is 1. Weights that are a
    model known by its release bring their image options with them.

    \b
    resnet-proto classify deploy.prototxt --weights ResNet-50.caffemodel \\
        --preprocess msra --labels imagenet cat.jpg dog.jpg
    resnet-proto classify deploy.prototxt --weights ResNet-50.caffemodel \\
        --preprocess msra --crops 10 --json photos
    """
    from resnet_proto.evaluate.classifier import Classifier, number_of_classes, score_blob
    from resnet_proto.evaluate.labels import read_labels
    from resnet_proto.evaluate.released import known_release

    if scales and crops != "1":
        raise click.UsageError("--crops and --scales are two ways of testing; give one of them")
    the_net = read_net(net, lenient=lenient, state=state)
    with the_net.named():
        n_classes = number_of_classes(the_net, score_blob(the_net))
    names = found(images)
    the_weights = weights_for(the_net, weights, 0, {})
    release = None if weights == "random" else known_release(the_net, the_weights)
    if release is not None:
        image = instead_of_caffe(image, release.image)
        if "preprocess" not in image_given() or image != release.image:
            say(f"Note: {weights} is {release}")
        if release.found != "structure":  # other weights may be for other classes
            labels = labels or release.labels or None
    called = ["stdin" if name == "-" else name for name in names]
    classifier = Classifier(
        the_net,
        the_weights,
        image=image,
        crops=int(crops),
        scales=scales or (),
        engine=engine,
        labels=None if labels is None else read_labels(labels, n_classes),
        caffe_python=caffe_python,
        **files(net, weights),
    )
    for note in notes(names, known=release is not None):
        say(f"Note: {note}")
    rows: list[dict[str, Any]] = []
    failed = 0
    with classifier:
        try:
            results = classifier.results(opened(names), lambda note: say(f"Note: {note}"))
            for name, scores in zip(called, results, strict=True):
                if isinstance(scores, ResNetProtoError):
                    failed += 1
                    say(f"Error: {scores}")
                    rows.append({"image": name, "error": str(scores)})
                    continue
                best = classifier.best(scores, top)
                if as_json:
                    rows.append({"image": name, "top": [asdict(guess) for guess in best]})
                else:
                    click.echo("\n".join(map(printable, lines(name, best))))
        finally:  # what is done is shown, whatever happens to the engine
            if as_json:
                echo_json(rows)
    if failed:
        say(f"{counted(failed, 'image')} of {len(names):,} left out")
        click.get_current_context().exit(1)


def say(message: str) -> None:
    """One line on stderr; names in it come from files."""
    click.echo(printable(message), err=True)


def found(images: Sequence[str]) -> list[str]:
    """The files of IMAGE..., those of a folder sorted by name.

    Raises:
        ResNetProtoError: a folder without images.
    """
    from resnet_proto.data.sources import SUFFIXES, entries

    names: list[str] = []
    for image in images:
        if image == "-" or not Path(image).is_dir():
            names.append(image)
            continue
        inside = (entry for entry in entries(os.fsencode(image)) if not entry.is_dir())
        own = [
            os.fsdecode(entry.path)
            for entry in inside
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES  # noqa: PTH122 - bytes
        ]
        if not own:
            raise ResNetProtoError(
                f"{image}: a folder with no image in it, by their names; folders within are not "
                "looked into"
            )
        names += own
    return names


def notes(names: Sequence[str], *, known: bool) -> Iterator[str]:
    """What the user may take for granted, and is not so; once for all images and all arrays.

    ``known`` is whether image options come from a release.
    """
    arrays = [name for name in names if is_array(name)]
    if not known and len(arrays) < len(names) and (note := note_on("the images")):
        yield note
    if arrays and (note := note_on(arrays[0])):
        yield note


def opened(names: Sequence[str]) -> Iterator[tuple[str, ImageLike]]:
    """Each image with its name; what comes through a pipe is read here."""
    from resnet_proto.data.sources import MAX_FILE

    for name in names:
        if name != "-" and not Path(name).is_fifo():
            yield name, name
            continue
        name = "stdin" if name == "-" else name
        with readable(name), sys.stdin.buffer if name == "stdin" else Path(name).open("rb") as file:
            content = file.read(MAX_FILE)
        yield name, content


def lines(name: str, best: Sequence[Guess]) -> list[str]:
    """An image for people."""
    rows = (f"  {guess.score:.5f}  {guess.index:>4}  {guess.label or ''}" for guess in best)
    return [name, *(row.rstrip() for row in rows)]
