"""Completion, asked as a shell asks it, and in real shells."""

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import missing

from resnet_proto import PRESETS, deploy_net, random_weights, read_prototxt, save, to_prototxt
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


def test_layers_of_the_net_on_the_line(net, tmp_path):
    assert values("summary", net, "--layer", "res2a_branch2a") == [
        "res2a_branch2a", "res2a_branch2a_relu",
    ]  # fmt: skip
    other = tmp_path / "net.prototxt"
    layers = (
        f'layer {{ name: {name} type: "ReLU" bottom: "x" top: {name} {rule} }}'
        for name, rule in (
            ('"a"', ""), ('"a\\nplain,b"', ""), ('"at"', "include { phase: TRAIN stage: 'deep' }")
        )
    )  # fmt: skip
    other.write_text('input: "x" input_shape { dim: 2 dim: 3 }\n' + "\n".join(layers))
    assert values("summary", str(other), "--layer", "a") == ["a"]
    train = ("summary", str(other), "--phase", "TRAIN", "--net-stage", "deep")
    assert values(*train, "--layer", "a") == ["a", "at"]


def test_a_net_is_found_as_the_command_finds_it(net, tmp_path):
    """Through a solver, in a weight file that carries it; not in a pipe, which is read once."""
    layers = ["pool1", "pool5"]
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "{net}" base_lr: 1 lr_policy: "fixed" max_iter: 1')
    carrier, pipe = tmp_path / "w.npz", tmp_path / "pipe"
    weights = random_weights(read_prototxt(net))
    save(carrier, weights, read_prototxt(net))
    os.mkfifo(pipe)

    assert values("summary", str(solver), "--layer", "pool") == layers
    assert values("summary", str(carrier), "--layer", "pool") == layers
    assert offered("summary", str(pipe), "--layer", "pool") == []
    assert offered("summary", "-", "--layer", "pool") == []


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


HOSTILE = "x;touch ran"
SHELLS = {
    "bash": ("--norc --noprofile -i", """
        bind 'set enable-bracketed-paste off'; bind 'set show-all-if-ambiguous on'; LINE() {
            printf %s "$READLINE_LINE" > line.part; mv line.part line; }
        bind -x '"\\C-g": LINE'; PS1='$ '; eval "$(resnet-proto completion bash)" """),
    "zsh": ("-f -i", """
        resnet-proto completion zsh > _resnet-proto; fpath=($PWD $fpath)
        autoload -U compinit; compinit -D -u; unsetopt beep zle_bracketed_paste list_ambiguous
        LINE() { print -rn -- "$BUFFER" > line.part; mv line.part line; }
        zle -N LINE; bindkey '^G' LINE; PS1='$ '"""),
}  # fmt: skip
"""How each is started, its completion installed, and Ctrl-G made to write down the line so far."""


def home_of(name, folder, net):
    """The environment of a shell with the command on its path, and ``net`` beside it."""
    if shutil.which(name) is None:
        missing(f"{name} is not here: apt-get install {name}")
    tool = folder / "bin" / "resnet-proto"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resnet_proto "$@"\n')
    tool.chmod(0o755)
    relu = f'layer {{ name: "{HOSTILE}" type: "ReLU" bottom: "prob" top: "a:b=c" }}'
    (folder / "net.prototxt").write_text(Path(net).read_text() + relu)
    return {
        **os.environ,
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "TERM": "dumb",
    }


class Shell:
    """A real shell in a terminal of its own, into which one types."""

    def __init__(self, name, folder, net):
        environment = home_of(name, folder, net)
        options, setup = SHELLS[name]
        self.line = folder / "line"
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.chdir(folder)
            os.execvpe(name, [name, *options.split()], environment)
        self.shown = ""
        script = folder / "setup"
        script.write_text(setup)
        self.type(". ./setup; echo rea''dy\n")
        self.read_until(lambda: "ready" in self.shown)

    def type(self, keys):
        os.write(self.terminal, keys.encode())

    def read_until(self, done):
        """Take what the shell shows, until something has come and no more comes."""
        end = time.monotonic() + 300
        while True:
            came, _, _ = select.select([self.terminal], [], [], 0.1)
            if came:
                self.shown += os.read(self.terminal, 1 << 16).decode()
            elif done():
                return
            assert time.monotonic() < end, self.shown

    def tab(self, words):
        """Type words and the tab key: what is offered, and what the line is then."""
        self.shown = ""
        self.type(f"resnet-proto {words}\t\x07")
        self.read_until(self.line.exists)
        line = self.line.read_text()
        self.line.unlink()
        self.type("\x15")
        last = words.replace("=", " ").replace(",", " ").split()[-1]
        offered = [word for word in self.shown.split() if word.startswith(last)]
        return offered, line.removeprefix("resnet-proto ")

    def close(self):
        os.close(self.terminal)  # which ends it
        os.waitpid(self.child, 0)


@pytest.mark.parametrize("name", SHELLS)
def test_typed_into_a_real_shell(name, tmp_path, net):
    shell = Shell(name, tmp_path, net)
    try:
        for option in ("--preset ", "--preset="):
            offered, line = shell.tab(f"gen {option}cifar-resnet-1")
            assert {"cifar-resnet-110", "cifar-resnet-1202"} <= set(offered)
            assert line == f"gen {option}cifar-resnet-1"
        offered, _ = shell.tab("summary net.prototxt --layer res5b_b")
        branches = {f"res5b_branch2{x}" for x in ("a", "b", "a_relu")}
        assert branches <= set(offered) <= {*branches, "res5b_b", "res5b_branch2"}
        assert shell.tab("summary net.prototxt --layer=fc")[1].endswith(" --layer=fc1000 ")
        assert shell.tab("forward net.prototxt --until fc")[1].endswith(" --until fc1000 ")
        assert shell.tab("forward net.prototxt --blob prob,a:b=")[1].endswith(" prob,a:b=c ")
        assert shell.tab("gen --set stem_")[1] == "gen --set stem_width="  # and no space
        assert shell.tab("summary ne")[1] == "summary net.prototxt "
        _, line = shell.tab("summary net.prototxt --layer x")
        assert shlex.split(line)[-1] == HOSTILE
        assert "\\;" in line  # which the shell would not run
    finally:
        shell.close()


def test_fish(tmp_path, net):
    environment = home_of("fish", tmp_path, net)
    asked = ["forward net.prototxt --until poo", "forward net.prototxt --blob prob,fc",
             "gen --preset=cifar-resnet-1", "summary net.prototxt --layer x", "summary net",
             "gen --spec=net", "gen --out=bi"]  # fmt: skip
    script = "resnet-proto completion fish | source; " + "; ".join(
        f"complete -C 'resnet-proto {words}'" for words in asked
    )

    done = subprocess.run(
        ["fish", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "pool1", "pool5", "prob,fc1000", "--preset=cifar-resnet-110", "--preset=cifar-resnet-1202",
        HOSTILE, "net.prototxt", "--spec=net.prototxt", "--out=bin/\tDirectory",
    ]  # fmt: skip
