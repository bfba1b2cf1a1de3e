"""``resnet-proto completion``."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
BASH = """\
%(complete_func)s() {
    # bash parts words at = and :, and wants what comes behind the last of them
    local word type value words=("$1") last=${COMP_WORDS[COMP_CWORD]}
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ $word == [=:]* || ${words[-1]} == *[=:] ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    [[ $last != [=:]* ]] || last=
    local before=${words[-1]%%"$last"} IFS=$'\\n'

    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                [[ $value != *= ]] || compopt -o nospace
                value=${value#"$before"}
                # names are of files, and a shell must not run what stands in one
                [[ $value != *[^[:alnum:]_.,:=/@+-]* ]] || printf -v value %%q "$value"
                [[ ! $value ]] || COMPREPLY+=("$value")
                ;;
        esac
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        %(complete_var)s=bash_complete "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
"""In the place of click's, which takes words as bash parts them, and names as they are."""
MENDED = {
    "zsh": (
        ("local -a response", "local -a response unended"),
        ("    for type", "    [[ ${words[CURRENT]} != --*=* ]] || compset -P 1 '*='\n    for type"),
        ('s+=("$key")', 's+=("$key")\n                [[ $key != *= ]] || unended=(-S "")'),
        ("compadd -U", 'compadd "${unended[@]}"'),
        ("== loadautofunc", "== (loadautofunc|shfunc)"),
    ),
    "fish": (
        (
            "    for ",
            "    set -l before (string match -r -- '^--[^=]*=' (commandline -ct));\n\n    for ",
        ),
        ('string split ","', 'string split -m 1 ","'),
        ("echo $metadata[2]", 'echo -- "$before$metadata[2]"'),
        ("ies $metadata[2]", 'ies $metadata[2] | string replace -r "^" -- "$before"'),
        ("path $metadata[2]", 'path $metadata[2] | string replace -r "^" -- "$before"'),
    ),
}  # fmt: skip
"""What click's other scripts lack: no space behind ``FIELD=``, where a value follows (fish has it
so); values behind ``--option=``; values that have a comma; in zsh, where it is a file in ``fpath``,
the second press of the key, which calls that file again."""


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    It completes commands, options, files, and names in a net. Save the script where your shell
    looks for completions; in bash, a line in ~/.bashrc works too:
    eval "$(resnet-proto completion bash)"

    \b
    resnet-proto completion bash \\
        > ~/.local/share/bash-completion/completions/resnet-proto
    resnet-proto completion zsh > ~/.zfunc/_resnet-proto
    resnet-proto completion fish > ~/.config/fish/completions/resnet-proto.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "SHELLS are those that click has"
    root = context.find_root()
    completion = kind(root.command, {}, "resnet-proto", "_RESNET_PROTO_COMPLETE")
    script = BASH % completion.source_vars() if shell == "bash" else completion.source()
    for line, ours in MENDED.get(shell, ()):
        script = script.replace(line, ours)
    click.echo(script)
