"""What several commands share: arguments, options, and how they read a net."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resnet_proto.errors import ResNetProtoError
from resnet_proto.words import columns, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_proto.layers import Shape
    from resnet_proto.net import Net
    from resnet_proto.recipe import Training
    from resnet_proto.state import State
    from resnet_proto.weights import Weights

Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has none
    """The value of an option that is a number: never nan or infinity, and in Western digits.

    Args:
        least: bounds it; ``most`` likewise.
        whole: whether it is an int, else a float.
    """

    def __init__(
        self, least: float | None = None, most: float | None = None, *, whole: bool = False
    ) -> None:
        self.name = "n" if whole else "x"  # in the help, where nothing else is said
        self.least, self.most = least, most
        self.make: type[int] | type[float] = int if whole else float
        bounds = f" of {least} or more" if most is None else f" from {least} to {most}"
        self.what = f"a {'whole ' * whole}number{'' if least is None else bounds}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """The number that a text spells."""
        text = str(value)
        try:
            number = self.make(text if text.isascii() and "_" not in text else "")
        except ValueError:  # a number of thousands of digits too
            number = None
        if (
            number is None
            or not isfinite(number)
            or (self.least is not None and number < self.least)
            or (self.most is not None and number > self.most)
        ):
            self.fail(f"{text!r:.80} is not {self.what}", param, ctx)
        return number


def whole(least: int | None = None, most: int | None = None) -> Number:
    """The value of an option that counts something."""
    return Number(least, most, whole=True)


def file_to_read(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A click callback for a file's name: not empty, and only one of them is ``-``.

    Whether it can be read is seen when it is: status 1, whatever stands in the way.
    """
    if value == "":
        raise click.BadParameter("it is empty; give the name of a file")
    if value == "-":
        meta = click.get_current_context().meta
        if "stdin" in meta:
            raise click.UsageError("two files are -, and stdin can be read only once")
        meta["stdin"] = True
    return value


def files_to_read(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """A click callback for the files of an option that may be given several times."""
    for value in values:
        file_to_read(context, option, value)
    return values


def pairs_to_read(
    context: click.Context, option: click.Parameter, values: tuple[tuple[str, ...], ...]
) -> tuple[tuple[str, ...], ...]:
    """The same for an option that takes several at a time."""
    for names in values:
        files_to_read(context, option, names)
    return values


def file_to_write(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A click callback for a file's name: not empty, and in a folder that is there or can be made.

    Whoever writes the file makes the folder (``files.atomic``), when there is something to write.
    """
    if value == "":
        raise click.BadParameter("it is empty; give the name of a file")
    if value is not None:
        if Path(value).is_dir():
            raise click.BadParameter(f"{value} is a folder; give the name of a file")
        check_above(value)
    return value


def folder_to_write(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A click callback for a folder's name, as ``file_to_write`` of a file's."""
    if value == "":
        raise click.BadParameter("it is empty; give the name of a folder; . is this one")
    if value is not None:
        check_above(value)
    return value


def check_above(name: str) -> None:
    """Refuse a name in what is no folder.

    Raises:
        ResNetProtoError: it is in a file.
    """
    above = next(x for x in Path(name).absolute().parents if os.path.lexists(x))
    if not above.is_dir():
        raise ResNetProtoError(f"{name}: {above} is not a folder; give another name")


def counts(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """``3,4,6,3`` as numbers."""
    if value is None:
        return None
    parts = value.split(",")
    # Python refuses to read numbers of thousands of digits.
    digits = all(part.isascii() and part.strip().isdigit() and len(part) < 100 for part in parts)
    if not digits or 0 in map(int, parts):
        raise click.BadParameter(
            f"'{value}' is not a list of positive whole numbers, separated by commas"
        )
    return tuple(map(int, parts))


net_argument = click.argument("net", callback=file_to_read)
"""A prototxt; ``-`` is stdin."""
net_option = click.option(
    "--net", metavar="NET", callback=file_to_read,
    help="The net's prototxt; - is stdin.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
lenient_option = click.option(
    "--lenient", is_flag=True, help="Accept fields that Caffe does not know, with a warning."
)
phase_option = click.option(
    "--phase",
    type=click.Choice(["TEST", "TRAIN"], case_sensitive=False),
    metavar="[TEST|TRAIN]",
    default="TEST",
    show_default=True,
    help="Use the layers of this phase.",
)
level_option = click.option(
    "--level", type=whole(), default=0, metavar="N", show_default=True,
    help="Use the layers whose rules include this level.",
)  # fmt: skip
net_stage_option = click.option(
    "--net-stage", "stages", multiple=True, metavar="NAME",
    help="Stage for the layers' include and exclude rules. Repeatable.",
)  # fmt: skip


def state_options(command: Command) -> Command:
    """Give a command what a net is read for, as its argument ``state``: phase, level, stages."""
    return phase_option(stage_options(command))


def stage_options(command: Command) -> Command:
    """``state_options`` of a command that is about phase TEST, or chooses the phase itself."""

    @wraps(command)
    def wrapped(
        *args: Any, level: int, stages: tuple[str, ...], phase: str = "TEST", **kwargs: Any
    ) -> Any:
        from resnet_proto.state import State

        return command(*args, state=State(phase, level, stages), **kwargs)

    return level_option(net_stage_option(wrapped))  # type: ignore[return-value]


def named_shapes(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """``1,3,224,224`` or ``label=1,1,224,224`` as shapes by name; the only input has none."""
    found: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, _, sizes = value.rpartition("=")
        if name in found:
            raise click.BadParameter(f"the shape of {name or 'the input'} is given twice")
        found[name] = counts(context, option, sizes) or ()
    return found


shape_option = click.option(
    "--input-shape", "shapes", callback=named_shapes, metavar="[NAME=]N,C,H,W", multiple=True,
    help="Shape of an input, instead of the net's own. Repeatable.",
)  # fmt: skip
LAUNCHERS = {"caffe": (), "mpirun": ("launcher=mpirun", "solver_mode=CPU")}
"""What ``--launcher`` sets; Intel's Caffe computes on CPUs."""
launcher_option = click.option(
    "--launcher", type=click.Choice(list(LAUNCHERS)), default="caffe",
    help="What train.sh starts; mpirun is for Intel's multi-node Caffe.",
)  # fmt: skip
force_option = click.option("--force", is_flag=True, help="Overwrite files with other content.")
templates_option = click.option(
    "--templates",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of templates (net.prototxt.j2, ...) that replace the built-in ones.",
)


def read_net(
    path: str,
    *,
    lenient: bool = False,
    state: State | None = None,
    shapes: Mapping[str, Shape] | None = None,
) -> Net:
    """The net of a prototxt, a solver, or a weight file that carries one; ``-`` is stdin.

    Warnings go to stderr. ``state`` and ``shapes`` are what the options above give: of a solver's
    nets the phase chooses one, and level and stages come on top of those that the solver says.
    """
    return read_trained(path, lenient=lenient, state=state, shapes=shapes)[0]


def read_trained(
    path: str,
    *,
    lenient: bool = False,
    state: State | None = None,
    shapes: Mapping[str, Shape] | None = None,
) -> tuple[Net, str]:
    """``read_net``, and the solver's type; empty where the file is none."""
    from resnet_proto.prototxt import parse_net, read_text
    from resnet_proto.solver import is_solver, parse_solver

    warnings: list[str] = []
    known: dict[str, Any] = {"lenient": lenient, "warnings": warnings}
    source, folder, type = path, Path(path).parent, ""
    if carries_net(path):
        net = carried_net(path, **known)
    else:
        if path == "-":
            source, folder = "stdin", Path()
            with readable(source):
                text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        else:
            text = read_text(path)
        if is_solver(text):
            solver = parse_solver(text, source, folder=folder, **known)
            phase = "TEST" if state is None else state.phase
            net, type = solver.net(phase), solver.type
            click.echo(f"{source} is a solver; its net at phase {phase}: {net.source}", err=True)
        else:
            net = parse_net(text, source=source, **known)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if state is not None:
        if type:  # what the solver says of its net, and more
            stages = (*net.state.stages, *state.stages)
            level = state.level
            if state.phase == "TEST":  # of the net that it trains `caffe train` sets the level
                level = level or net.state.level
            state = replace(net.state, level=level, stages=stages)
        net = replace(net, state=state)
    return (net.with_input_shapes(shapes) if shapes else net), type


def shape_of_images(net: Net, shapes: Mapping[str, Shape]) -> Shape | None:
    """The shape that was given for the images of a net; None if there is none.

    Raises:
        click.UsageError: shapes of other inputs, which a deploy net does not have.
    """
    from resnet_proto.training.train_val import images_of

    if not shapes:
        return None
    images, _ = images_of(net.upgraded().filtered())
    if others := [name for name in shapes if name not in ("", images)]:
        raise click.UsageError(
            f"--input-shape {others[0]}=...: the deploy net has one input, '{images}'"
        )
    return shapes.get(images, shapes.get(""))


def carries_net(path: str) -> bool:
    """Whether a file is a weight file that may have its net's prototxt within."""
    return path.lower().endswith((".npz", ".safetensors", ".h5", ".hdf5", ".pt", ".pth"))


def carried_net(path: str, **options: Any) -> Net:
    """The net whose prototxt a weight file carries.

    Raises:
        ResNetProtoError: it carries none.
    """
    from resnet_proto.formats import load, net_of

    with load(path) as weights:
        net = net_of(weights, **options)
    if net is None:
        raise ResNetProtoError(
            f"{path} contains no prototxt; give the net's own file, or convert with --net first"
        )
    return net


def read_weights(path: str) -> Weights:
    """The weights of a file; ``-`` is stdin. The file stays open until the command ends."""
    return weights_of(*regular(path))


def weights_of(file: Path, name: str) -> Weights:
    """``read_weights`` of what ``regular`` gives."""
    from resnet_proto.formats import load

    with called(file, name):
        weights = load(file)
    weights.source = name
    click.get_current_context().call_on_close(weights.close)
    return weights


def regular(path: str) -> tuple[Path, str]:
    """A file that can be read here and there, and what messages call it.

    That is the file itself; for ``-`` and a pipe, as the shell's <(...), one that holds what
    came from it until the command ends.
    """
    from resnet_proto.files import spooled

    fifo = path != "-" and Path(path).is_fifo()
    if path != "-" and not fifo:
        return Path(path), path
    name = "stdin" if path == "-" else path
    with readable(name), ExitStack() as stack:
        source = stack.enter_context(Path(path).open("rb")) if fifo else sys.stdin.buffer
        return click.get_current_context().with_resource(spooled(source)), name


@contextmanager
def called(file: Path, name: str) -> Iterator[None]:
    """Have errors call a temporary file by the name of what went through it."""
    try:
        yield
    except ResNetProtoError as error:
        raise type(error)(str(error).replace(str(file), name)) from None


@contextmanager
def readable(name: str, meant: Sequence[str] = ()) -> Iterator[None]:
    """Turn what goes wrong with a pipe or a file into an error that names it.

    ``meant`` is as in ``files.unreadable``.
    """
    try:
        yield
    except OSError as error:
        from resnet_proto.files import unreadable

        raise ResNetProtoError(unreadable(name, error, meant)) from None


def say(message: str) -> None:
    """One line on stderr; names in it come from files."""
    click.echo(printable(message), err=True)


def say_once(message: str) -> None:
    """``say``, if this command has not said it: several nets may have the same weights."""
    said = click.get_current_context().meta.setdefault(__name__, set())
    if message not in said:
        said.add(message)
        say(message)


def terminal_width() -> int | None:
    """How wide the terminal is that stdout goes to; None if it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def echo_json(value: Any) -> None:
    """Print a value as JSON, one key a line; a float that is not finite, as null."""
    import json

    click.echo(json.dumps(all_finite(value), indent=2, allow_nan=False))


def all_finite(value: Any) -> Any:
    """The value with None for each nan and infinity within: JSON has none."""
    if isinstance(value, dict):
        return {key: all_finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [all_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


# ---- the files of a net


def check_folder(out: str | None, name: str, only: str, *, as_json: bool) -> None:
    """Refuse an ``--out`` that is no folder, and a net whose name is none where it has to be.

    Args:
        out: as given.
        name: of the net.
        only: a file that ``--only`` may choose, for messages.
        as_json: whether JSON has to go to stdout.

    Raises:
        click.UsageError: it is so.
    """
    if out is not None and out != "-" and Path(out).suffix in (".prototxt", ".sh"):
        raise click.UsageError(
            f"--out {out}: DIR is a folder; for one file, use stdout: --only {only} --out - > {out}"
        )
    if out == "-" and as_json:
        raise click.UsageError("--out - prints the net itself; leave --json out")
    if out is None and set(name) & set("/\\\0\n") | {name} & {"", ".", ".."}:
        raise click.UsageError(
            f"the net's name {name!r} cannot be the name of a folder; give --out DIR"
        )


def chosen(texts: Mapping[str, str], only: str | None, out: str | None) -> Mapping[str, str]:
    """The files that are to be written.

    Raises:
        click.UsageError: there is no such file, or several for stdout.
    """
    from resnet_proto.generate import FILES

    if only and FILES[only] not in texts:
        why = "warm_up_lr is 0" if only == "solver_warmup" else "data is memory"
        raise click.UsageError(f"--only {only}: this spec has none; training.{why}")
    kept = {FILES[only]: texts[FILES[only]]} if only else texts
    if out == "-" and len(kept) > 1:
        names = [key for key, name in FILES.items() if name in texts]
        raise click.UsageError(f"--out - writes one file; choose it, as in --only {names[0]}")
    return kept


def deliver(
    texts: Mapping[str, str],
    folder: Path | None,
    *,
    force: bool,
    facts: Mapping[str, Any] | None,
    figures: str,
    elsewhere: str = "--out DIR",
    training: Training | None = None,
) -> None:
    """Write files and say so.

    Args:
        texts: file name -> content.
        folder: where to; None is stdout, and then what is said goes to stderr.
        force: overwrite what has other content.
        facts: what to print as JSON, together with the files; None prints lines.
        figures: one line about the net.
        elsewhere: the options that name another place, for the refusal to overwrite.
        training: how the files are run, if a script is among them.
    """
    from resnet_proto.generate import FILES, encoded, write_files

    if folder is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded("".join(texts.values())))
        click.echo(figures, err=True)
        return
    done = write_files(texts, folder, force=force, elsewhere=elsewhere)
    if facts is not None:
        echo_json({**facts, "files": {str(path): state for path, state in done.items()}})
        return
    rows = [(str(path), state) for path, state in done.items()]
    click.echo("\n".join([*columns(rows, left=2, rules=()), figures]))
    if training is not None and (FILES["train"] in texts or training.data == "memory"):
        click.echo(how_to_train(training, folder))


def how_to_train(training: Training, folder: Path) -> str:
    """How the files are run, and what they need."""
    from resnet_proto.generate import FILES

    if training.data == "memory":
        return (
            f"train: from a program that fills the net's memory: {folder / FILES['solver']} in "
            "pycaffe, solver.net.set_input_arrays; caffe train cannot"
        )
    if training.launcher == "py-faster-rcnn":
        return f"train: {folder / FILES['train']} (PY_FASTER_RCNN=DIR names a checkout of it)"
    *first, last = training.reads or ("",)
    sources = f"{', '.join(first)} and {last}" if first else last
    if not sources:
        needs = ""
    elif "/" in sources:
        needs = f"; it reads {sources}, as seen from {folder}"
    else:
        needs = f"; put {sources} into {folder}"
    if not training.weights and (training.freeze or training.freeze_batch_norm):
        needs += "; WEIGHTS=FILE names a caffemodel to begin with"
    elif not training.weights and training.finetune:
        needs += "; it begins at random, without training.weights=FILE"
    return f"train: {folder / FILES['train']} (CAFFE=FILE names the caffe binary){needs}"
