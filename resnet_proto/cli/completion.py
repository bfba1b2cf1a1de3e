"""``resnet-proto completion``."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
UNENDED = {
    "bash": (
        ("+=($value)", "+=($value)\n            [[ $value != *= ]] || compopt -o nospace"),
    ),
    "zsh": (
        ("local -a response", "local -a response unended"),
        ('s+=("$key")', 's+=("$key")\n                [[ $key != *= ]] || unended=(-S "")'),
        ("compadd -U", "compadd -U $unended"),
    ),
}  # fmt: skip
"""What click's scripts lack: no space behind ``FIELD=``, where a value follows. fish has it so."""


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, files, presets and blobs.

    Put its output where your shell reads completions from. In bash a line of ~/.bashrc does
    it too: eval "$(resnet-proto completion bash)"

    \b
    resnet-proto completion bash > ~/.local/share/bash-completion/completions/resnet-proto
    resnet-proto completion zsh > ~/.zfunc/_resnet-proto
    resnet-proto completion fish > ~/.config/fish/completions/resnet-proto.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "SHELLS are those that click has"
    root = context.find_root()
    script = kind(root.command, {}, "resnet-proto", "_RESNET_PROTO_COMPLETE").source()
    for line, ours in UNENDED.get(shell, ()):
        script = script.replace(line, ours)
    click.echo(script)
