"""The one set of image options that every command shares, and how a command reads its inputs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resnet_proto.cli.options import say_once
from resnet_proto.preprocess import CHANNELS, PRESETS, ImageOptions

if TYPE_CHECKING:
    from resnet_proto.evaluate.released import Release
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

Command = TypeVar("Command", bound=Callable[..., Any])

NUMBERS = "give one value, or three: blue,green,red, as in 104,117,123"

IMAGE = ("preprocess", "mean", "scale", "crop", "channels")
"""The image options."""
MAX_AXES = 5
"""Orders of more axes are not tried."""

input_option = click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]FILE",
    help="An array (.npy), an image or a folder of images for an input of the net. Repeatable; "
    "several images for one input are its batch.",
)  # fmt: skip


def image_options(command: Command) -> Command:
    """Give a command all options for images, and their sum as its argument ``image``."""
    options = [
        click.option(
            "--preprocess", type=click.Choice(list(PRESETS)), default="caffe", show_default=True,
            metavar="NAME",
            help=f"Image options by name: {', '.join(PRESETS)}. Those below override it.",
        ),
        click.option(
            "--mean", callback=optional(read_mean, f"{NUMBERS}; or a .npy or .binaryproto file"),
            metavar="B,G,R|FILE",
            help="Mean to subtract: grey levels (0..255), a .npy or .binaryproto file.",
        ),
        click.option(
            "--scale", callback=optional(read_numbers, NUMBERS), metavar="X|B,G,R",
            help="Factor to multiply with after subtracting the mean.",
        ),
        click.option(
            "--crop", callback=optional(read_crop, "give N or ROWSxCOLUMNS, as in 256 or 256x320"),
            metavar="N|ROWSxCOLUMNS",
            help="Resize to this (N: the shorter side), then crop the centre "
            "(default: warp the image to the net's size).",
        ),
        click.option("--channels", type=click.Choice(CHANNELS), help="Channel order of the input."),
    ]  # fmt: skip

    @wraps(command)
    def wrapped(*args: Any, preprocess: str, **kwargs: Any) -> Any:
        given = {key: kwargs.pop(key) for key in ("mean", "scale", "crop", "channels")}
        image = replace(PRESETS[preprocess], **{k: v for k, v in given.items() if v is not None})
        return command(*args, image=image, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def image_given() -> set[str]:
    """The image options that stand on the command line."""
    source = click.get_current_context().get_parameter_source
    return {name for name in IMAGE if source(name) == click.core.ParameterSource.COMMANDLINE}


def given_as_text() -> str:
    """``--mean, --crop``: those in messages."""
    return ", ".join(f"--{name}" for name in IMAGE if name in image_given())


def instead_of_caffe(image: ImageOptions, default: ImageOptions) -> ImageOptions:
    """Other options than those of the preset caffe, where no preset is on the command line."""
    given = image_given()
    if "preprocess" in given:
        return image
    return replace(default, **{name: getattr(image, name) for name in given})


def of_release(image: ImageOptions, release: Release | None, weights: str) -> ImageOptions:
    """The options of a released model, where no preset is on the command line; a note says it.

    Args:
        image: of the command line.
        release: what the weights are, if they are known.
        weights: what messages call them.
    """
    if release is None:
        return image
    options, given = instead_of_caffe(image, release.image), given_as_text()
    if options != release.image:
        say_once(f"Note: {weights} is {release}; but with {given} of the command line")
    elif "preprocess" not in image_given():
        say_once(f"Note: {weights} is {release}")
    return options


def optional(read: Callable[[str], Any], advice: str) -> Callable[..., Any]:
    """A click callback: ``read`` on what was given; a ValueError is a usage error."""

    def callback(_: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else read(value)
        except ValueError:
            raise click.BadParameter(f"'{value}' is not {parameter.metavar}; {advice}") from None

    return callback


def read_numbers(text: str) -> tuple[float, ...]:
    """``104,117,123`` or ``0.017``."""
    values = tuple(float(part) for part in text.split(","))
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise ValueError
    return values


def read_mean(text: str) -> tuple[float, ...] | Path:
    """Numbers, or the name of a file."""
    is_file = text.lower().endswith((".npy", ".binaryproto"))
    return Path(text) if is_file else read_numbers(text)


def read_crop(text: str) -> int | tuple[int, int]:
    """``256`` or ``256x320``."""
    sizes = tuple(int(part) for part in text.split("x"))
    if min(sizes) < 1 or len(sizes) > 2:
        raise ValueError
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def image_files(images: Sequence[str]) -> list[str]:
    """Names of files and folders -> those of files; a folder's images are sorted by name.

    Raises:
        ResNetProtoError: a folder without images.
    """
    from resnet_proto.data.sources import SUFFIXES, entries
    from resnet_proto.errors import ResNetProtoError

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
                f"{image}: no file in this folder has the suffix of an image; subfolders are not "
                "searched"
            )
        names += own
    return names


def input_files(net: Net, given: Sequence[str]) -> dict[str, list[str]]:
    """The files of each input, of ``[NAME=]FILE``: one array, or images, a folder's one by one.

    Raises:
        click.UsageError: a file without a name where the net has several inputs.
        ResNetProtoError: a folder without images.
    """
    shapes, data = net.inputs(), net.data_tops()
    files: dict[str, list[str]] = {}
    for text in given:
        if not text:
            raise click.UsageError("--input is empty; give it the name of a file")
        name, _, path = text.partition("=")
        if name not in {**shapes, **data} or not path:
            if len(shapes) != 1 or (path and not Path(text).exists()):
                known = ", ".join((*shapes, *data)) or "none"
                raise click.UsageError(
                    f"--input {text}: the net has the inputs {known}; write --input NAME=FILE"
                )
            (name,), path = shapes, text
        files.setdefault(name, []).extend([path] if is_array(path) else image_files([path]))
        if len(files[name]) > 1 and any(map(is_array, files[name])):
            raise click.UsageError(
                f"--input {text}: input '{name}' is given twice; only images make a batch"
            )
    return files


def read_inputs(net: Net, given: Sequence[str], image: ImageOptions) -> dict[str, Array]:
    """The array for each ``[NAME=]FILE``; several images of one input are its batch.

    What data layers would read is an .npy of any shape, or images where the shape was given.

    Raises:
        click.UsageError: as of ``input_files``.
        ResNetProtoError: a file that cannot be read, or does not have the input's shape.
    """
    import numpy as np

    from resnet_proto.errors import ResNetProtoError
    from resnet_proto.preprocess import read_npy

    files = input_files(net, given)
    arrays: dict[str, Array] = {}
    shapes, data = net.inputs(), net.data_tops()
    shapes = {**{name: net.given[name] for name in data if name in net.given}, **shapes}
    for name, paths in files.items():
        if name in data and is_array(paths[0]):
            arrays[name] = read_npy(Path(paths[0]))
        elif name not in shapes:
            raise click.UsageError(
                f"--input {name}={paths[0]}: the shape of '{name}' is not known; give an .npy, or "
                f"--input-shape {name}=N,C,H,W"
            )
        elif len(paths) == 1:
            arrays[name] = read_input(Path(paths[0]), name, shapes[name], image)
        else:
            batch, *rest = shapes[name]
            if batch != len(paths):
                sizes = ",".join(map(str, (len(paths), *rest)))
                raise ResNetProtoError(
                    f"{len(paths)} images are given for input '{name}', which takes {batch}; "
                    f"--input-shape {name}={sizes} makes it accept them"
                )
            one = [read_input(Path(path), name, (1, *rest), image) for path in paths]
            arrays[name] = np.concatenate(one)
        for path in paths:
            if note := note_on(path, image):
                say_once(f"Note: {note}")
    return arrays


def note_on(path: str, image: ImageOptions) -> str:
    """What the user may take for granted about an input, and is not so; else empty."""
    given = image_given()
    if is_array(path):
        return (
            f"{path} is an array and is used as it is, without {given_as_text()}" if given else ""
        )
    if image.mean != (0.0,) or {"preprocess", "mean"} & given:
        return ""
    return f"no mean is subtracted from {path} (--preprocess caffe); see --preprocess"


def is_array(path: str) -> bool:
    """Whether an input is no image."""
    return path.lower().endswith(".npy")


def read_input(path: Path, name: str, shape: Shape, image: ImageOptions) -> Array:
    """One array: from an .npy file, or an image for each place of the batch."""
    import numpy as np

    from resnet_proto.errors import ResNetProtoError
    from resnet_proto.layers import dims
    from resnet_proto.preprocess import load_image, read_npy

    if not is_array(str(path)):
        return np.repeat(load_image(path, shape, image), shape[0], axis=0)
    array = read_npy(path)
    if array.shape != shape:
        hint = reshaping(array.shape, shape)
        if not hint and len(array.shape) == len(shape):
            hint = f"; --input-shape {name}={','.join(map(str, array.shape))} makes it accept this"
        raise ResNetProtoError(
            f"{path}: {dims(array.shape)}, input '{name}' needs {dims(shape)}{hint}"
        )
    return array


def reshaping(shape: Shape, wanted: Shape) -> str:
    """How an array gets the net's shape, as the end of a message; empty if no view of it has it.

    With several ways, the first keeps most axes in their order: (H, W, C) is (2, 0, 1).
    """
    call, axes = "", len(wanted)
    if len(shape) == axes - 1 and wanted[0] == 1:
        call, shape = "[None]", (1, *shape)
    if len(shape) != axes or axes > MAX_AXES or sorted(shape) != sorted(wanted):
        return ""
    if shape == wanted:
        return f"; add the batch axis: x{call}"
    order = next(p for p in permutations(range(axes)) if tuple(shape[i] for i in p) == wanted)
    return f"; put its axes in order: x{call}.transpose{order}"
