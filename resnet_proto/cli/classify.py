"""``resnet-proto classify``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.classifier_options import ClassifierOptions, classifier_options
from resnet_proto.cli.engine_options import files, weights_for, weights_option
from resnet_proto.cli.image_options import (
    image_files,
    image_options,
    is_array,
    note_on,
    of_release,
)
from resnet_proto.cli.options import (
    echo_json,
    file_to_read,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    readable,
    say,
    stage_options,
    whole,
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
@click.option("--top", type=whole(1), default=5, show_default=True, metavar="N",
              help="Number of classes to show for each image.")  # fmt: skip
@image_options
@classifier_options
@stage_options
@lenient_option
@json_option
def command(
    net: str,
    images: tuple[str, ...],
    weights: str,
    top: int,
    image: ImageOptions,
    how: ClassifierOptions,
    state: State,
    lenient: bool,
    as_json: bool,
) -> None:
    """Classify images and show the most likely classes.

    IMAGE is a file, a folder of images, an array of the net's shape (.npy), or - for one image
    from stdin. An unreadable image is left out, and the exit status is 1. The weights of a known
    released model bring its image options.

    \b
    resnet-proto classify deploy.prototxt --weights ResNet-50.caffemodel \\
        --preprocess msra --labels imagenet cat.jpg dog.jpg
    resnet-proto classify deploy.prototxt --weights ResNet-50.caffemodel \\
        --preprocess msra --crops 10 --json photos
    """
    from resnet_proto.evaluate.classifier import classes_of
    from resnet_proto.evaluate.released import known_release

    the_net = read_net(net, lenient=lenient, state=state)
    classes_of(the_net)  # what is no classifier is said before weights are read
    names = image_files(images)
    the_weights = weights_for(the_net, weights, 0, {})
    release = None if weights == "random" else known_release(the_net, the_weights)
    image = of_release(image, release, weights)
    called = ["stdin" if name == "-" else name for name in names]
    classifier = how.classifier(the_net, the_weights, image, release, **files(net, weights))
    for note in notes(names, image):
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


def notes(names: Sequence[str], image: ImageOptions) -> Iterator[str]:
    """What the user may take for granted, and is not so; once for all images and all arrays."""
    arrays = [name for name in names if is_array(name)]
    if len(arrays) < len(names) and (note := note_on("the images", image)):
        yield note
    if arrays and (note := note_on(arrays[0], image)):
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
