"""``resnet-proto completion``."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, files, presets and blobs.

    Put its output where your shell reads completions from; for bash also this line into
    ~/.bashrc: eval "$(resnet-proto completion bash)"

    \b
    resnet-proto completion bash > ~/.local/share/bash-completion/completions/resnet-proto
    resnet-proto completion zsh > ~/.zfunc/_resnet-proto
    resnet-proto completion fish > ~/.config/fish/completions/resnet-proto.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "SHELLS are those that click has"
    root = context.find_root()
    click.echo(kind(root.command, {}, "resnet-proto", "_RESNET_PROTO_COMPLETE").source())
