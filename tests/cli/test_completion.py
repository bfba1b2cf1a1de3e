"""Completion, asked as a shell asks it, and in real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import missing

from resnet_proto import PRESETS, deploy_net, to_prototxt
from resnet_proto.cli import COMMANDS, main


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "deploy.prototxt"
    path.write_text(to_prototxt(deploy_net(PRESETS["resnet-18"].spec)))
    return str(path)


def offered(*words):
    """What is offered for the last word, as bash asks: lines ``type,value``."""
    environment = {
        "COMP_WORDS": " ".join(("resnet-proto", *words)),
        "COMP_CWORD": str(len(words)),
        "_RESNET_PROTO_COMPLETE": "bash_complete",
    }
    result = CliRunner().invoke(main, prog_name="resnet-proto", env=environment)
    return [tuple(line.split(",", 1)) for line in result.output.splitlines() if line]


def values(*words):
    return [value for _, value in offered(*words)]


def test_commands_and_options():
    assert values("") == list(COMMANDS)
    assert values("tr") == ["train-val"]
    assert values("data", "l") == ["lmdb"]
    assert values("draw", "--det") == ["--detail"]
    assert values("draw", "x", "--detail", "u") == ["units"]


def test_presets():
    assert values("gen", "--preset", "cifar-resnet-1") == ["cifar-resnet-110", "cifar-resnet-1202"]


def test_blobs_of_the_net_on_the_line(net):
    assert values("forward", net, "--until", "pool") == ["pool1", "pool5"]
    assert values("forward", net, "--blob", "prob,fc") == ["prob,fc1000"]
    assert values("verify", "--until", "pool5", net, "--input-shape", "") == ["data="]


def test_fields_of_a_spec():
    assert values("gen", "--set", "stem") == ["stem=", "stem_width="]
    assert values("gen", "--set", "training.gpu") == ["training.gpus="]
    assert values("train-val", "x", "--set", "gpu") == ["gpus="]


@pytest.mark.parametrize(
    "words",
    [("summary", "ge"), ("convert", "x", "ge"), ("log", "a", "ge"), ("gen", "--spec", "ge"),
     ("draw", "x", "-o", "ge"), ("forward", "x", "--input", "ge")],
)  # fmt: skip
def test_files(words):
    assert offered(*words) == [("file", "ge")]


def test_a_folder():
    assert offered("gen", "--out", "n") == [("dir", "n")]


@pytest.mark.parametrize("content", [None, "layer {", "\0" * 100])
def test_nothing_is_said_of_a_net_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "net.prototxt"
    if content is not None:
        path.write_text(content)

    assert offered("forward", str(path), "--until", "a") == []
    assert offered("forward", str(tmp_path), "--until", "a") == []


def shell(name, script, tmp_path):
    """What a real shell prints, with the command on its path."""
    if shutil.which(name) is None:
        missing(f"{name} is not here: apt-get install {name}")
    tool = tmp_path / "bin" / "resnet-proto"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resnet_proto "$@"\n')
    tool.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    done = subprocess.run(
        [name, "-c", script], env=environment, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_bash(tmp_path, net):
    script = (
        'eval "$(resnet-proto completion bash)"; '
        f"COMP_WORDS=(resnet-proto forward {net} --until poo); COMP_CWORD=4; "
        "_resnet_proto_completion resnet-proto; echo ${COMPREPLY[@]}"
    )

    assert shell("bash", script, tmp_path) == ["pool1", "pool5"]


@pytest.mark.parametrize(("words", "ended"), [("gen --set stem_", "-o nospace"), ("gen --pre", "")])
def test_bash_puts_no_space_where_a_value_follows(tmp_path, words, ended):
    script = (
        'eval "$(resnet-proto completion bash)"; compopt() { echo "$@"; }; '
        f"COMP_WORDS=(resnet-proto {words}); COMP_CWORD={len(words.split())}; "
        "_resnet_proto_completion resnet-proto"
    )

    assert shell("bash", script, tmp_path) == ended.split()


def test_fish(tmp_path, net):
    script = (
        "resnet-proto completion fish | source; "
        f"complete -C 'resnet-proto forward {net} --until poo'"
    )

    assert shell("fish", script, tmp_path) == ["pool1", "pool5"]


def test_zsh(tmp_path):
    """Its completion needs a terminal; that it defines what it should is seen without."""
    script = (
        "autoload -U compinit; compinit -D; "
        'eval "$(resnet-proto completion zsh)"; echo ${_comps[resnet-proto]}'
    )

    assert shell("zsh", script, tmp_path) == ["_resnet_proto_completion"]


def test_zsh_puts_no_space_where_a_value_follows(tmp_path):
    script = (
        "autoload -U compinit; compinit -D; "
        'eval "$(resnet-proto completion zsh)"; '
        "compadd() { print -r - ${@[1,3]} }; commands[resnet-proto]=x; "
        "words=(resnet-proto gen --set stem_); CURRENT=4; _resnet_proto_completion; "
        "words=(resnet-proto gen --preset resnet-101); _resnet_proto_completion"
    )

    assert " ".join(shell("zsh", script, tmp_path)) == "-U -S -V -U -V unsorted"
