"""``resnet-proto bn-stats``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.engine_options import number, warn_ignored
from resnet_proto.cli.image_options import image_given, image_options, note_on, of_release
from resnet_proto.cli.options import (
    echo_json,
    file_to_read,
    file_to_write,
    force_option,
    json_option,
    lenient_option,
    net_argument,
    read_net,
    read_weights,
    say,
    stage_options,
    whole,
)
from resnet_proto.cli.shard_options import ShardOptions, shard_options
from resnet_proto.errors import ResNetProtoError
from resnet_proto.words import counted, printable

if TYPE_CHECKING:
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State


@click.command("bn-stats")
@net_argument
@click.option("--weights", required=True, metavar="FILE", callback=file_to_read,
              help="Weights in any format; - is stdin.")  # fmt: skip
@click.option("-o", "--out", required=True, metavar="FILE", callback=file_to_write,
              help="Weight file to write; its suffix selects the format.")  # fmt: skip
@click.option("--data", metavar="IMAGES", callback=file_to_read,
              help="Images: a folder of class folders, a list, a CIFAR archive, an LMDB, or digits "
              "(default: the source of the net's data layer).")  # fmt: skip
@click.option("--batch", type=whole(1), metavar="N",
              help="Images per batch (default: the data layer's batch_size, else 32).")  # fmt: skip
@click.option("--batches", type=whole(1), metavar="N",
              help="Number of batches (default: 100, or all there are).")  # fmt: skip
@click.option("--seed", type=whole(0), default=0, show_default=True,
              help="Random seed for the choice of images, crops and mirroring.")  # fmt: skip
@click.option("--in-order", is_flag=True,
              help="Read images in order, as Caffe's Data layer does.")  # fmt: skip
@image_options
@shard_options
@stage_options
@force_option
@lenient_option
@json_option
def command(
    net: str,
    weights: str,
    out: str,
    data: str | None,
    batch: int | None,
    batches: int | None,
    seed: int,
    in_order: bool,
    image: ImageOptions,
    shards: ShardOptions,
    state: State,
    force: bool,
    lenient: bool,
    as_json: bool,
) -> None:
    """Recompute BatchNorm statistics exactly, over training batches.

    Each batch is normalised by its own statistics, in every layer; the means and variances are
    averaged over all batches. A train_val net's data layer gives images and preprocessing; a
    deploy net needs --data and image options.

    \b
    resnet-proto bn-stats train_val.prototxt --weights iter_600000.caffemodel \\
        --out strict.caffemodel
    resnet-proto bn-stats deploy.prototxt --weights ResNet-50.caffemodel \\
        --data train/ --batches 500 --out strict.caffemodel
    """
    from resnet_proto.evaluate.bn_stats import average, feed_of, training_net
    from resnet_proto.evaluate.released import known_release
    from resnet_proto.fit import fitted, named
    from resnet_proto.formats import SUFFIXES, save

    if Path(out).is_file() and not force:  # known before the work, whatever comes of it
        raise ResNetProtoError(f"{out} exists already; --force overwrites it")
    if Path(out).suffix.lower()[1:] not in SUFFIXES:
        raise click.UsageError(f"--out {out}: give it a suffix: .{', .'.join(SUFFIXES)}")
    given = read_net(net, lenient=lenient, state=state)
    whole = given.at(phase="TRAIN") if given.at(phase="TRAIN").data_tops() else given
    stored = read_weights(weights)
    warn_ignored(stored, whole)
    fitted(named(stored, whole), whole)  # what save() would refuse is said before the work
    trained = training_net(given)
    options = image if image_given() else None
    if not trained.data_tops():
        options = of_release(image, known_release(whole, stored), weights)
        if note := note_on("the images", options):
            say(f"Note: {note}")
    folder = None if net == "-" else Path(net).parent
    feed = feed_of(trained, data, batch, options, folder)
    for warning in feed.source.warnings:
        say(f"Warning: {warning}")
    with shards.how() as how:
        found = average(trained, stored, feed, batches=batches, seed=seed, in_order=in_order, **how)
    changes = found.changes(stored)
    warnings: list[str] = []
    save(out, found.written(stored), whole, warnings=warnings)
    for warning in warnings:
        say(f"Warning: {warning}")
    if as_json:
        echo_json({
            "batches": found.n_batches,
            "batch": found.batch,
            "images_left_out": found.left_out,
            "layers": {
                label: {key: number(value) for key, value in change._asdict().items()}
                for label, change in changes.items()
            },
            "file": out,
        })  # fmt: skip
        return
    click.echo(
        f"{counted(found.n_batches, 'batch', 'batches')} of {counted(found.batch, 'image')} of "
        f"{printable(feed.source.source)}; {found.left_out:,} of {len(feed.source):,} images left "
        "out"
    )
    moved = max(changes, key=lambda label: changes[label].mean)
    low = min(changes, key=lambda label: changes[label].variance_min)
    high = max(changes, key=lambda label: changes[label].variance_max)
    click.echo(
        f"{len(changes)} BatchNorms: means moved by at most {changes[moved].mean:.3g} standard "
        f"deviations ({moved}); variances are {changes[low].variance_min:.3g} ({low}) to "
        f"{changes[high].variance_max:.3g} ({high}) times what they were"
    )
    click.echo(f"wrote {out}")
