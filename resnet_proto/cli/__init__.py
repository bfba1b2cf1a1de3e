"""The command ``resnet-proto``. Each command's module is imported when it is called."""

from __future__ import annotations

import atexit
import gc
import io
import os
import re
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

import resnet_proto
from resnet_proto.errors import ResNetProtoError, similar
from resnet_proto.words import printable

HEADING = "Examples:"
EXAMPLES = re.compile(r"^( *)\x08\n", re.M)
"""Where the examples of a help begin: click leaves their lines as they are."""
COMMANDS = {
    "gen": "Generate a residual net: deploy, train_val, solver, train.sh.",
    "list": "List the presets of `gen`, with parameters, MACs and source.",
    "spec": "Recognise a residual net and print the spec that generates it.",
    "train-val": "Make a deploy net ready to train: train_val, solver, train.sh.",
    "deploy": "Make the deploy net of a train_val net.",
    "summary": "Show each layer of a net with shape, parameters and MACs.",
    "draw": "Draw a net's stages and residual units: SVG, PNG, PDF or text.",
    "view": "Open a net in the browser: layers, weights, feature maps.",
    "check": "Report likely mistakes in nets and solvers.",
    "upgrade": "Upgrade a net, a solver or a caffemodel of an older Caffe.",
    "log": "Turn Caffe's training logs into a table, CSV and curves.",
    "memory": "Compute the memory that a batch needs in training and testing.",
    "inspect": "List the blobs of a weight file, solver state or image mean.",
    "diff": "Compare two weight files, or two nets.",
    "convert": "Convert weights between formats, chosen by the file suffix.",
    "forward": "Run a net forward and show or save its blobs.",
    "classify": "Classify images and show the most likely classes.",
    "eval": "Evaluate a net or an ensemble on labelled images: top-1, top-5.",
    "verify": "Compare every blob of a forward pass with another engine's.",
    "bn-stats": "Recompute BatchNorm statistics exactly, over training batches.",
    "data": "Make an LMDB of images, compute its mean, show its images.",
    "completion": "Print the completion script for bash, zsh or fish.",
}
STOPPED: list[int] = []
"""The signal that ends the command, once there is one."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


EXTRA = {
    "gen": "a depth goes with --depth N",
    "train-val": "it takes one net, and a folder to write to with --out DIR",
    "deploy": "it takes one net, and a file to write with --out FILE",
    "summary": "it takes one net",
    "draw": "it takes one net, and a file to write with -o FILE",
    "view": "it takes one net; a second one goes with --compare OTHER",
    "inspect": "it takes one file, and a net with --net NET",
    "upgrade": "it takes OLD and NEW",
    "diff": "it takes A and B",
    "convert": "it takes IN and OUT, and a net with --net NET",
    "forward": "weights go with --weights FILE, inputs with --input FILE, or --input FOLDER",
    "verify": "weights go with --weights FILE, inputs with --input FILE",
    "eval": "it takes NET and IMAGES; weights go with --weights FILE",
    "bn-stats": "weights go with --weights FILE, images with --data IMAGES",
    "lmdb": "it takes IMAGES and OUT",
    "mean": "it takes LMDB and OUT",
    "show": "it takes LMDB and OUT",
}
"""What an argument too many may have meant."""


class Commands(click.Group):
    """Commands by name; the help of all of them is shown without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which work is done."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        parts = command.commands.values() if isinstance(command, click.Group) else ()
        for part in (*parts, command):
            headed(part)
            if ctx and ctx.resilient_parsing:  # a shell asks what could come next
                from resnet_proto.cli.completing import with_completion

                with_completion(part)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            hint = similar(name, COMMANDS) or f"; known: {', '.join(COMMANDS)}"
            raise click.UsageError(f"No such command '{name}'{hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands that begin so; none is imported for it."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = COMMANDS.items()
        return [CompletionItem(n, help=h) for n, h in found if n.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from ``COMMANDS``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; an output that takes nothing ends with a message and status 1.

        Its own help and version come here, and what click says of wrong usage.
        """
        reopen_closed()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        hook = sys.unraisablehook
        try:
            return super().main(*args, **kwargs)
        except Exception as error:
            if STOPPED:  # a library, or the compiler, has made something else of it
                aborted(STOPPED[0])
            if not isinstance(error, OSError):
                raise
            drop_stdout()
            with suppress(OSError):  # it may have been stderr
                click.echo(f"Error: {unprinted(error)}", err=True)
            sys.exit(1)
        finally:
            for number, handler in before.items():
                if handler is not None:  # set by another language, and gone
                    signal.signal(number, handler)
            sys.unraisablehook = hook
            STOPPED.clear()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the library refuses ends with its message and status 1."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except ResNetProtoError as error:
            raise click.ClickException(shown(str(error))) from None
        except click.UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2, it is the help
                raise
            hint = usage_hint(error)
            # click has a line for each choice
            message = shown(
                error.format_message()
                .replace("Choose from:\n\t", "Choose from: ")
                .replace(",\n\t", ", ")
            )
            message = f"{message.rstrip('.')}; {hint}" if hint else message
            raise click.UsageError(message, error.ctx) from None
        except MemoryError as error:
            raise click.ClickException(f"out of memory: {error}") from None
        except BrokenPipeError:
            raise  # the reader has had enough: click ends quietly
        except OSError as error:
            drop_stdout()
            raise click.ClickException(unprinted(error)) from None
        except KeyboardInterrupt:
            aborted(signal.SIGINT)


def headed(command: click.Command) -> None:
    """Put a heading before the examples of a command's help."""
    if command.help and HEADING not in command.help:
        command.help = EXAMPLES.sub(rf"\g<0>\g<1>{HEADING}\n", command.help, count=1)


def usage_hint(error: click.UsageError) -> str:
    """What to do about wrong usage, where click does not say it."""
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
        if isinstance(error.param.type, click.Choice):
            return ""
        return f"give {error.param.opts[0]} {error.param.metavar or '...'}"
    dashed = (name for name in sys.argv[1:] if name.startswith("-") and os.path.lexists(name))
    if isinstance(error, click.NoSuchOption) and (name := next(dashed, "")):
        return f"the file is given as ./{name}"
    if error.ctx and "unexpected extra argument" in error.message:
        return EXTRA.get(error.ctx.info_name or "", "")
    return ""


def shown(message: str) -> str:
    """A message as a terminal may have it; names in it come from files."""
    return "\n".join(map(printable, message.split("\n")))


def unprinted(error: OSError) -> str:
    """What is said of an error that nobody has caught; where it names no file it is stdout's."""
    from resnet_proto.files import why

    name = error.filename
    return shown(f"{name}: {why(name, error)}" if name else f"stdout: {error.strerror or error}")


def drop_stdout() -> None:
    """Forget what could not be printed; the interpreter would try once more when it ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reopen_closed() -> None:
    """Make a closed stdin or stdout (``<&-``, ``>&-``) one that fails when it is used.

    Python has None in its place, and the next file that is opened would have its number.
    """
    for name, flags in (("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, flags)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))


def aborted(number: int) -> NoReturn:
    """End as a shell says of this signal."""
    if number == signal.SIGINT:
        click.echo("Aborted!", err=True)
    sys.exit(128 + number)


def stop(number: int, _: object) -> None:
    """End in good order: a plain signal would leave half-written files, a second one too."""
    STOPPED[:] = [number]
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def unheard(lost: Any) -> None:
    """Stop once more, if the end came in a callback, as of a weak reference: Python goes on."""
    if not issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit)):
        if not STOPPED:  # of what was half made, nobody needs to hear
            sys.__unraisablehook__(lost)
    elif STOPPED and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, 0.001)  # when the callback is over


def again(_: int, frame: object) -> None:
    """Stop as before, if it has not come to that meanwhile."""
    if STOPPED:
        stop(STOPPED[0], frame)


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the installed version and stop."""
    if wanted and not ctx.resilient_parsing:
        click.echo(f"resnet-proto {resnet_proto.__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version,
    help="Show the version and exit.",
)  # fmt: skip
def main() -> None:
    """Generate, convert and verify residual networks in Caffe.

    \b
    Examples:
    resnet-proto gen --depth 152
    resnet-proto summary generated/resnet-152/deploy.prototxt
    resnet-proto convert ResNet-152.caffemodel ResNet-152.safetensors
    resnet-proto verify deploy.prototxt --weights W.caffemodel --against float64
    """
    gc.set_threshold(100_000)  # a net is many small objects, and no cycles
    atexit.register(gc.freeze)  # nor does the end look for some in all that was imported
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)
    sys.unraisablehook = unheard
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of layers may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
