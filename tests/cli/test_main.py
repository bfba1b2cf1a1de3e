"""The group of commands: help, version, errors."""

from importlib import import_module

import pytest
from click.testing import CliRunner

from resnet_proto.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_one_sentence_and_an_example(name):
    """The sentence in the list of commands is the first line of the command's own help."""
    command = import_module(f"resnet_proto.cli.{name}").command

    result = CliRunner().invoke(main, [name, "--help"])

    assert result.exit_code == 0
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert f"resnet-proto {name} " in result.stdout.split("Options:")[0].split("\n", 1)[1]


def test_version():
    assert CliRunner().invoke(main, ["--version"]).stdout.startswith("resnet-proto 0.")


def test_unknown_command():
    result = CliRunner().invoke(main, ["generate"])

    assert result.exit_code == 2
    assert "No such command 'generate'" in result.stderr
