"""What a shell offers where a user presses the tab key.

click knows commands, options and choices. The rest is here: files, presets, fields of a spec, and
names in the net that stands on the same line. Nothing here may fail or print: a shell would show
it in the middle of the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from resnet_proto.errors import ResNetProtoError

if TYPE_CHECKING:
    from resnet_proto.net import Net

FILES = ("FILE", "NET", "OTHER", "LOG", "IMAGE", "OLD", "NEW", "LMDB", "OUT", "PYTHON")
"""What a metavar says of what is wanted; an argument without one is a file."""
Complete = Callable[[click.Context, str], list[CompletionItem]]


def with_completion(command: click.Command) -> None:
    """Give a command's parameters the completions that click lacks."""
    for parameter in command.params:
        if complete := complete_of(parameter):
            # click takes a function only where a parameter is made, and these are shared
            parameter.shell_complete = partial(quietly, complete)  # type: ignore[method-assign]


def quietly(complete: Complete, context: click.Context, incomplete: str) -> list[CompletionItem]:
    """What can be offered; nothing if it cannot be found."""
    try:
        return complete(context, incomplete)
    except Exception:  # whatever is wrong with the line or its files is said when it is run
        return []


def complete_of(parameter: click.Parameter) -> Complete | None:
    """What completes a parameter; None leaves it to click."""
    if isinstance(parameter.type, click.Choice) or getattr(parameter, "is_flag", False):
        return None
    if parameter.name in BY_NAME:
        return BY_NAME[parameter.name]
    metavar = parameter.metavar or ("FILE" if isinstance(parameter, click.Argument) else "")
    if "DIR" in metavar:
        return folder
    return file if any(word in metavar for word in FILES) else None


def file(_: click.Context, incomplete: str) -> list[CompletionItem]:
    """A file."""
    return [CompletionItem(incomplete, type="file")]


def folder(_: click.Context, incomplete: str) -> list[CompletionItem]:
    """A folder."""
    return [CompletionItem(incomplete, type="dir")]


def preset(_: click.Context, incomplete: str) -> list[CompletionItem]:
    """A net of `list`."""
    from resnet_proto.presets import PRESETS

    return beginning(incomplete, PRESETS)


def blob(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """A blob of the net; the last of several that commas part."""
    before, comma, last = incomplete.rpartition(",")
    layers = net_of(context).upgraded().filtered().layers
    names = dict.fromkeys(top for layer in layers for top in layer.tops)
    return beginning(last, names, before + comma)


def layer(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """A layer of the net."""
    from resnet_proto.net import labels

    layers = net_of(context).upgraded().filtered().layers
    return beginning(incomplete, labels(layer.name for layer in layers))


def shaped(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """``NAME=`` of an input of the net; for the shape behind it there is nothing to offer."""
    net = net_of(context)
    return beginning(incomplete, (f"{name}=" for name in (*net.inputs(), *net.data_tops())))


def setting(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """``FIELD=`` of a spec or a recipe."""
    from dataclasses import fields

    from resnet_proto.recipe import Training
    from resnet_proto.spec import ResNetSpec

    names = [field.name for field in fields(Training)]
    if context.info_name != "train-val":
        own = [field.name for field in fields(ResNetSpec) if field.name != "training"]
        names = [*own, *(f"training.{name}" for name in names)]
    return beginning(incomplete, (f"{name}=" for name in names))


BY_NAME: dict[str | None, Complete] = {
    "name_of_preset": preset,
    "layers": layer,
    "until": blob,
    "outputs": blob,
    "shapes": shaped,
    "settings": setting,
}


def net_of(context: click.Context) -> Net:
    """The net that stands on the line.

    Raises:
        ResNetProtoError: there is none that can be read.
    """
    from resnet_proto.cli.options import read_net
    from resnet_proto.state import State

    # click leaves arguments unparsed behind an option that has no value yet
    rest = (arg for arg in context.args if not arg.startswith("-"))
    said = context.params.get
    path = said("net") or next(rest, "")
    if not Path(path).is_file():  # a pipe is for the command itself
        raise ResNetProtoError(f"{path}: no file")
    state = State(said("phase") or "TEST", said("level") or 0, said("stages") or ())
    with redirect_stderr(StringIO()):
        return read_net(path, lenient=bool(said("lenient")), state=state)


def beginning(incomplete: str, words: Iterable[str], before: str = "") -> list[CompletionItem]:
    """The words that begin so, each behind what stands before them.

    What is not printable has no place on a line.
    """
    found = (word for word in words if word.startswith(incomplete) and word.isprintable())
    return [CompletionItem(before + word) for word in found]
