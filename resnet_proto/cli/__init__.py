"""The command ``resnet-proto``. Each command's module is imported when it is called."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from resnet_proto.errors import ResNetProtoError

COMMANDS = {
    "gen": "Generate the prototxt of a residual net: deploy, train_val, solver.",
    "list": "List the nets that gen knows by name.",
    "summary": "Show each layer of a net with shape, parameters and MACs.",
    "check": "Say what would hurt in a net or a solver, before Caffe does or when it would not.",
    "memory": "Show how much memory a net needs for a batch, in training and in tests.",
    "inspect": "List the blobs of a weight file.",
    "convert": "Convert weights between formats, chosen by the file suffix.",
    "forward": "Run a net forward and show or save its blobs.",
    "verify": "Compare every blob of our forward pass with another engine's.",
}


class Commands(click.Group):
    """Commands by name; the help of all of them is shown without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which work is done."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"resnet_proto.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from ``COMMANDS``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the library refuses ends with its message and status 1."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except ResNetProtoError as error:
            raise click.ClickException(str(error)) from None
        except MemoryError as error:
            raise click.ClickException(f"out of memory: {error}") from None
        except BrokenPipeError:
            raise  # the reader has had enough: click ends quietly
        except OSError as error:
            with suppress(OSError):  # or the interpreter tries to flush stdout once more
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.ClickException(f"{error.filename or 'stdout'}: {error.strerror}") from None
        except KeyboardInterrupt:
            click.echo("Aborted!", err=True)
            sys.exit(130)


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the installed version and stop."""
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"resnet-proto {version('resnet-proto')}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version,
    help="Show the version and exit.",
)  # fmt: skip
def main() -> None:
    """Residual networks in Caffe: generate, read, convert and check them.

    \b
    resnet-proto gen --depth 152
    resnet-proto summary generated/resnet-152/deploy.prototxt
    resnet-proto convert ResNet-152.caffemodel ResNet-152.safetensors
    resnet-proto verify deploy.prototxt --weights ResNet-152.caffemodel --against float64
    """
    gc.set_threshold(100_000)  # a net is many small objects, and no cycles
    # Plain signals would end the process without removing half-written files.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of layers may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
