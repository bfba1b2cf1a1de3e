"""``resnet-proto eval``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.classifier_options import ClassifierOptions, classifier_options
from resnet_proto.cli.engine_options import files, weights_for, weights_option
from resnet_proto.cli.image_options import (
    image_given,
    image_options,
    instead_of_caffe,
    of_release,
)
from resnet_proto.cli.options import (
    echo_json,
    file_to_write,
    json_option,
    lenient_option,
    net_argument,
    pairs_to_read,
    read_net,
    say,
    shape_of_images,
    shape_option,
    stage_options,
)
from resnet_proto.cli.shard_options import ShardOptions, shard_options
from resnet_proto.errors import ResNetProtoError
from resnet_proto.words import counted

if TYPE_CHECKING:
    from resnet_proto.evaluate.evaluation import Evaluation
    from resnet_proto.evaluate.released import Release
    from resnet_proto.evaluate.source import Source
    from resnet_proto.evaluate.subject import Subject
    from resnet_proto.layers import Shape
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State
    from resnet_proto.weights import Weights

NAMED = 10
"""Images left out that are named; --json has more."""


@click.command("eval")
@net_argument
@click.argument("images", metavar="[IMAGES]", required=False)
@weights_option
@click.option(
    "--also", nargs=2, multiple=True, metavar="NET WEIGHTS", callback=pairs_to_read,
    help="Another net: the scores of all are averaged. Repeatable.",
)  # fmt: skip
@click.option(
    "--root", type=click.Path(), metavar="DIR",
    help="Folder that a list's paths are relative to (default: the list's own).",
)  # fmt: skip
@click.option("--part", type=click.Choice(["train", "test"]), help="CIFAR part (default: test).")
@image_options
@classifier_options
@click.option(
    "--on-error", type=click.Choice(["skip", "refuse"]), default="skip", show_default=True,
    help="Leave unreadable images out, or stop at the first.",
)  # fmt: skip
@shard_options
@click.option("--per-class", is_flag=True, help="Show a line for each class.")
@click.option(
    "--csv", metavar="FILE", callback=file_to_write,
    help="Write a line for each image, with its five best classes; with --per-class, for each "
    "class.",
)  # fmt: skip
@click.option(
    "--confusion", metavar="FILE", callback=file_to_write,
    help="Draw the confusion matrix: .png, .svg or .pdf.",
)  # fmt: skip
@click.option(
    "--mistakes", metavar="FILE.png", callback=file_to_write,
    help="Write a contact sheet of the wrong images with the highest scores.",
)  # fmt: skip
@shape_option
@stage_options
@lenient_option
@json_option
def command(
    net: str,
    images: str | None,
    weights: str,
    also: tuple[tuple[str, str], ...],
    root: str | None,
    part: str | None,
    image: ImageOptions,
    how: ClassifierOptions,
    on_error: str,
    shards: ShardOptions,
    per_class: bool,
    csv: str | None,
    confusion: str | None,
    mistakes: str | None,
    shapes: dict[str, Shape],
    state: State,
    lenient: bool,
    as_json: bool,
) -> None:
    """Evaluate a net or an ensemble on labelled images: top-1, top-5.

    IMAGES is a folder with a folder for each class, a list of lines 'path label', an archive or
    a folder of CIFAR, the word digits, or an LMDB. For a train_val net or a solver, the data
    layer at phase TEST gives the LMDB, mean, scale and crop, so the result is that of `caffe
    test`; options override these. The weights of a known released model bring its image options.

    \b
    resnet-proto eval train_val.prototxt --weights digits.caffemodel
    resnet-proto eval deploy.prototxt val --weights ResNet-50.caffemodel \\
        --preprocess msra --crops 10 --jobs 4 --keep done
    resnet-proto eval deploy.prototxt val_lmdb --weights a.caffemodel \\
        --also other.prototxt b.npz --confusion c.png --mistakes m.png
    """
    from resnet_proto.data.lmdb import is_lmdb
    from resnet_proto.evaluate.evaluation import evaluate
    from resnet_proto.evaluate.source import find_source
    from resnet_proto.evaluate.subject import as_caffe_tests, subject_of
    from resnet_proto.report import evaluation as report
    from resnet_proto.report.curves import PICTURES

    if confusion is not None and Path(confusion).suffix.lower() not in PICTURES:
        raise click.UsageError(
            f"--confusion {confusion}: give it one of the suffixes {', '.join(PICTURES)}"
        )
    if mistakes is not None and Path(mistakes).suffix.lower() != ".png":
        raise click.UsageError(f"--mistakes {mistakes}: a contact sheet is written as .png")
    if csv == "-" and as_json:
        raise click.UsageError("--csv - and --json both write to stdout; leave one out")
    if images == "":
        raise click.UsageError("IMAGES is empty; give a folder, a list, an archive or an LMDB")
    members = []
    for path, file in ((net, weights), *also):
        one = read_net(path, lenient=lenient, state=state, shapes=shapes)
        folders = [Path(), Path(path).parent, Path(one.source).parent]
        at = subject_of(one, folders, shape_of_images(one, shapes), images or "")
        own = files(path, file) if at.net is one else {}
        members.append(Member(at, weights_for(at.net, file, 0, {}), own))
    first = members[0].at
    name = images or first.source
    if not name:
        raise click.UsageError(f"IMAGES is missing, and {net} has no data layer that names them")
    stored = is_lmdb(Path(name))
    if not images and not stored:
        raise ResNetProtoError(
            f"{name}: no such LMDB, neither here nor from the folder of {net}, whose data layer "
            "names it; give IMAGES"
        )
    options = [options_of(member, image, stored=stored) for member in members]
    if (
        first.image is None
        and options[0].mean == (0.0,)
        and not {"preprocess", "mean"} & image_given()
    ):
        say(f"Note: no mean is subtracted from {name}; see --preprocess")
    source = find_source(
        name,
        root=Path(root) if root else None,
        part=part or "",
        grey=all(one.channels == "GRAY" for one in options),
        forced=first.forced,
    )
    for warning in source.warnings:
        say(f"Warning: {source.source}: {warning}")
    if stored and how.crops != "1":
        options = [as_stored(one, Path(name)) for one in options]
    classifiers = [
        how.classifier(member.at.net, member.weights, one, member.release, **member.files)
        for member, one in zip(members, options, strict=True)
    ]
    with shards.how() as by_whom:
        result = evaluate(classifiers, source, on_error=on_error, **by_whom)
    as_caffe = images is None and not also and how.crops == "1" and not how.scales
    if as_caffe and (batch := first.batch) and not result.left_out:
        say(as_caffe_tests(len(result), batch))
    for why in result.reasons[:NAMED]:
        say(f"Warning: left out: {why}")
    if result.left_out > NAMED:
        say(f"Warning: {counted(result.left_out, 'image')} left out")
    if as_json:
        echo_json(report.as_json(result, source))
    elif csv != "-":
        for line in report.table(result):
            click.echo(line)
        if per_class:
            click.echo()
            for line in report.class_table(result):
                click.echo(line)
    if csv is not None:
        write_csv(csv, result, None if per_class else source)
    draw(result, source, confusion, mistakes)  # last: what is refused there costs no figure


@dataclass(frozen=True)
class Member:
    """One net of those whose scores are averaged.

    Args:
        at: the net, and what its data layer says.
        weights: its own.
        files: the files of both, for engines that read them.
    """

    at: Subject
    weights: Weights
    files: Mapping[str, Any]

    @cached_property
    def release(self) -> Release | None:
        """The released model that its weights are."""
        from resnet_proto.evaluate.released import known_release
        from resnet_proto.weights import RANDOM

        return None if self.weights.source == RANDOM else known_release(self.at.net, self.weights)


def options_of(member: Member, image: ImageOptions, *, stored: bool) -> ImageOptions:
    """The image options of a net: what its data layer or its release says, but for what was given.

    What is ``stored`` in an LMDB is resized only if that was given.
    """
    if member.at.image is not None:
        return instead_of_caffe(image, member.at.image)
    options = of_release(image, member.release, member.weights.source)
    if stored and member.release is not None and not {"crop", "preprocess"} & image_given():
        options = replace(options, crop=None)
    return options


def as_stored(options: ImageOptions, path: Path) -> ImageOptions:
    """Options with which ten crops are taken of what an LMDB stores, if no size was given."""
    from resnet_proto.evaluate.subject import first_of

    _, shape = first_of(path)
    if options.crop is not None or shape is None:
        return options
    return replace(options, crop=(shape[1], shape[2]))


def write_csv(path: str, result: Evaluation, source: Source | None) -> None:
    """Write a row for each image, whose names are in ``source``; for each class without it."""
    from resnet_proto.files import atomic
    from resnet_proto.report import evaluation as report

    if source is None:
        text, rows = report.classes_csv(result), counted(result.classes, "class", "classes")
    else:
        text, rows = report.images_csv(result, source), counted(len(result), "image")
    if path == "-":
        click.echo(text, nl=False)
        return
    with atomic(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    click.echo(f"wrote {path}: {rows}", err=True)


def draw(result: Evaluation, source: Source, confusion: str | None, mistakes: str | None) -> None:
    """Write the pictures that were asked for."""
    from resnet_proto.files import atomic
    from resnet_proto.report import evaluation as report

    if confusion is not None:
        report.plot_confusion(confusion, result)
        click.echo(f"wrote {confusion}", err=True)
    if mistakes is not None and not result.wrong():
        click.echo(f"{mistakes} is not written: there is no mistake to show", err=True)
    elif mistakes is not None:
        page, n = report.sheet(result, source)
        with atomic(mistakes) as file:
            page.save(file, "PNG")
        click.echo(f"wrote {mistakes}: {counted(n, 'image')}", err=True)
