"""What ``shard_options`` gives a command."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from resnet_proto.cli.shard_options import ShardOptions, shard_options


def run(*arguments):
    """What a command with these options gets, and what it prints."""
    got = {}

    @click.command()
    @shard_options
    def command(shards):
        with shards.how() as how:
            got.update(how)
            how["warn"]("shard 3 is run again")

    return CliRunner().invoke(command, arguments), got


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], (5, None, None)), (["--jobs", "3"], (3, None, None)),
     (["--dask", "h:8786", "--keep", "x/y"], (5, "h:8786", Path("x/y")))],
)  # fmt: skip
def test_what_a_command_gets(arguments, expected, monkeypatch):
    monkeypatch.setattr("resnet_proto.cli.shard_options.processors", lambda: 5)
    result, got = run(*arguments)

    assert result.stderr == "Warning: shard 3 is run again\n"
    assert (got["jobs"], got["dask"], got["folder"]) == expected
    assert callable(got["progress"])


def test_more_jobs_than_processors(monkeypatch):
    monkeypatch.setattr("resnet_proto.cli.shard_options.processors", lambda: 5)
    result, got = run("--jobs", "7")

    assert got["jobs"] == 7
    assert result.stderr.splitlines()[0] == (
        "Note: 7 jobs on 5 processors; more than 5 are no faster"
    )
    assert run("--jobs", "5")[0].stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--jobs", "0"], "'0' is not a whole number"), (["--keep", ""], "--keep is empty"),
     (["--dask", ""], "--dask is empty"),
     (["--jobs", "2", "--dask", "h:1"], "give one of them")],
)  # fmt: skip
def test_wrong_usage(arguments, message):
    result, _ = run(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("keep", [None, "done"])
def test_ctrl_c_says_how_to_go_on(keep, capsys):
    with pytest.raises(KeyboardInterrupt), ShardOptions(1, None, keep).how():
        raise KeyboardInterrupt

    said = "finished work is kept in done; the same command resumes from there\n" if keep else ""
    assert capsys.readouterr().err == said
