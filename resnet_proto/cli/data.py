"""``resnet-proto data``: lmdb, mean, show."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from resnet_proto.cli.options import (
    echo_json,
    file_to_write,
    folder_to_write,
    force_option,
    json_option,
    whole,
)
from resnet_proto.cli.progress import processors, progress

NAMED = 10
"""Images left out that are named, each with the reason; --json has all."""
MAX_SIDE = 1 << 14


@click.group("data")
def command() -> None:
    """Make an LMDB of images, compute its mean, show its images.

    \b
    resnet-proto data lmdb IMAGES train_lmdb --resize shorter:256 --split val=0.1
    resnet-proto data mean train_lmdb
    resnet-proto data show train_lmdb sheet.png
    """


def resize_of(_: click.Context, __: click.Parameter, value: str) -> int | tuple[int, int] | None:
    """``none``, ``shorter:256``, ``warp:256`` or ``warp:240x320``."""
    found = re.fullmatch(r"(shorter|warp):(\d{1,5})(?:x(\d{1,5}))?", value)
    sides = [int(side) for side in found.groups()[1:] if side] if found else []
    if value == "none":
        return None
    if not found or not all(1 <= side <= MAX_SIDE for side in sides):
        raise click.BadParameter(
            f"{value!r:.80} is not none, shorter:N, warp:N or warp:ROWSxCOLUMNS; "
            f"N is 1 to {MAX_SIDE}"
        )
    if found[1] == "shorter":
        if len(sides) == 2:
            raise click.BadParameter(f"'{value}': the shorter side is one number")
        return sides[0]
    return (sides[0], sides[-1])


def split_of(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, float] | None:
    """``val=0.1``."""
    if value is None:
        return None
    found = re.fullmatch(r"([\w-]{1,100})=(0?\.\d{1,9})", value)
    if not found or not float(found[2]):
        raise click.BadParameter(f"'{value}' is not a name and a share below 1, as in val=0.1")
    return found[1], float(found[2])


@command.command("lmdb")
@click.argument("images", metavar="IMAGES")
@click.argument("out", metavar="OUT", callback=folder_to_write)
@click.option(
    "--root", type=click.Path(), metavar="DIR",
    help="Folder that a list's paths are relative to (default: the list's own).",
)  # fmt: skip
@click.option("--part", type=click.Choice(["train", "test"]), help="CIFAR part (default: train).")
@click.option(
    "--resize", callback=resize_of, default="none", show_default=True, metavar="HOW",
    help="How to resize: none, shorter:N, warp:N or warp:ROWSxCOLUMNS.",
)  # fmt: skip
@click.option(
    "--pad", type=whole(0, 1024), default=0, metavar="N",
    help="Pixels of zeros to add at each side; 4 for CIFAR in the paper.",
)  # fmt: skip
@click.option("--gray", is_flag=True, help="Store one channel instead of three.")
@click.option("--encoded", is_flag=True, help="Store encoded images: the bytes of JPEG and PNG.")
@click.option("--shuffle/--no-shuffle", default=True, show_default=True, help="Shuffle the images.")
@click.option(
    "--seed", type=whole(0), default=0, show_default=True, metavar="N",
    help="Random seed for shuffling and splitting.",
)  # fmt: skip
@click.option(
    "--split", callback=split_of, metavar="NAME=PART",
    help="Put this share of each class into NAME_lmdb beside OUT.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["skip", "refuse"]), default="skip", show_default=True,
    help="Leave unreadable images out, or stop at the first.",
)  # fmt: skip
@click.option(
    "--jobs", type=whole(1, 256), metavar="N",
    help="Images to decode in parallel (default: one per processor).",
)  # fmt: skip
@force_option
@json_option
def lmdb_command(
    images: str,
    out: str,
    root: str | None,
    part: str | None,
    resize: int | tuple[int, int] | None,
    pad: int,
    gray: bool,
    encoded: bool,
    shuffle: bool,
    seed: int,
    split: tuple[str, float] | None,
    on_error: str,
    jobs: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make an LMDB of images, as Caffe's convert_imageset does.

    IMAGES is a folder with a folder for each class, a list of lines 'path label', an archive or
    a folder of CIFAR-10 or CIFAR-100, or the word digits. If it is interrupted, the same command
    resumes.

    \b
    resnet-proto data lmdb photos train_lmdb --resize shorter:256 --split val=0.1
    resnet-proto data lmdb train.txt train_lmdb --root photos --encoded
    resnet-proto data lmdb cifar-10-python.tar.gz cifar10_train_lmdb --pad 4
    resnet-proto data lmdb digits train_lmdb --resize warp:32 --split val=0.2
    """
    from resnet_proto.data.images import Options
    from resnet_proto.data.sources import find_images
    from resnet_proto.data.write import Plan, write
    from resnet_proto.words import counted

    if images in ("", "-"):
        raise click.UsageError("IMAGES has to be a folder or a file, not stdin")
    if Path(out).name in ("", ".."):
        raise click.UsageError(f"OUT is {out}; give the name of a new folder")
    found = find_images(images, root=Path(root) if root else None, part=part or "")
    for warning in found.warnings:
        click.echo(f"Warning: {found.source}: {warning}", err=True)
    plan = Plan(found, Options(resize, pad, gray, encoded), Path(out), split, shuffle, seed)
    start = time.monotonic()
    with progress() as said:
        written = write(
            plan,
            refuse=on_error == "refuse",
            jobs=jobs or processors(),
            force=force,
            progress=said,
        )
    for at in written:
        if at.resumed:
            click.echo(f"{at.path}: {at.resumed:,} images were there before", err=True)
        for why in list(at.skipped.values())[:NAMED]:
            click.echo(f"Warning: left out: {why.removesuffix('; leave it out')}", err=True)
        if at.skipped:
            left = counted(len(at.skipped), "image")
            click.echo(f"Warning: {at.path}: {left} left out", err=True)
        if len({shape[1:] for shape in at.shapes}) > 1 and not isinstance(resize, int):
            click.echo(
                f"Warning: {at.path}: the images differ in size, so the net needs a crop_size no "
                "larger than the smallest, or --resize warp:N",
                err=True,
            )
    if as_json:
        facts = {"databases": [at.facts() for at in written], "classes": list(found.classes)}
        echo_json({**facts, "seconds": round(time.monotonic() - start, 3)})
        return
    for at in written:
        click.echo(at.line)


@command.command("mean")
@click.argument("lmdb", metavar="LMDB")
@click.argument("out", metavar="[OUT]", required=False, callback=file_to_write)
@json_option
def mean_command(lmdb: str, out: str | None, as_json: bool) -> None:
    """Print the mean of each channel, and write the mean image.

    OUT is .binaryproto or .npy; all images must have the same size. The values are those of
    Caffe's compute_image_mean.

    \b
    resnet-proto data mean train_lmdb
    resnet-proto data mean train_lmdb mean.binaryproto
    """
    from resnet_proto.data.mean import channels_of, mean_of
    from resnet_proto.formats import MEANS
    from resnet_proto.formats.binaryproto import write
    from resnet_proto.layers import dims

    if out is not None and Path(out).suffix.lower() not in MEANS:
        raise click.UsageError(f"OUT is {out}; a mean is written as {' or '.join(MEANS)}")
    mean = None
    with progress() as said:
        if out is None:
            channels = channels_of(Path(lmdb), said)
        else:
            mean = mean_of(Path(lmdb), said)
            channels = [float(channel.mean(dtype="float64")) for channel in mean]
    if out is not None and mean is not None:
        write(out, mean)
    if as_json:
        shape = {} if mean is None else {"file": out, "shape": mean.shape}
        echo_json({**shape, "channels": channels})
        return
    order = " (blue, green, red)" if len(channels) == 3 else ""
    click.echo(f"mean of each channel{order}: {','.join(f'{value:.6g}' for value in channels)}")
    if mean is not None:
        click.echo(f"wrote {out}: {dims(mean.shape)}", err=True)


@command.command("show")
@click.argument("lmdb", metavar="LMDB")
@click.argument("out", metavar="OUT", callback=file_to_write)
@click.option(
    "-n", "--images", "count", type=whole(1, 2000), default=40, show_default=True,
    metavar="N", help="Number of images.",
)  # fmt: skip
@click.option(
    "--seed", type=whole(0), default=0, show_default=True, metavar="N",
    help="Random seed for the choice of images.",
)  # fmt: skip
@json_option
def show_command(lmdb: str, out: str, count: int, seed: int, as_json: bool) -> None:
    """Make a contact sheet (PNG) of images of an LMDB, with their classes.

    \b
    resnet-proto data show train_lmdb sheet.png -n 100 --seed 1
    """
    from resnet_proto.data.show import sheet
    from resnet_proto.files import atomic

    if Path(out).suffix.lower() != ".png":
        raise click.UsageError(f"OUT is {out}; a contact sheet is written as .png")
    page, n = sheet(Path(lmdb), count, seed)
    with atomic(out) as file:
        page.save(file, "PNG")
    if as_json:
        echo_json({"file": out, "images": n, "height": page.height, "width": page.width})
        return
    click.echo(f"wrote {out}: {n:,} images, {page.width}x{page.height} pixels", err=True)
