"""The group of commands: help, version, errors."""

import signal
import sys

import pytest
from click.testing import CliRunner

from resnet_proto.cli import COMMANDS, SIGNALS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_one_sentence_and_an_example(name):
    """The sentence in the list of commands is the first line of the command's own help."""
    command = main.get_command(None, name)

    result = CliRunner().invoke(main, [name, "--help"])

    assert result.exit_code == 0
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert f"resnet-proto {name} " in result.stdout.split("Options:")[0].split("\n", 1)[1]


def test_version():
    assert CliRunner().invoke(main, ["--version"]).stdout.startswith("resnet-proto 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("generate", "No such command 'generate'; did you mean gen?"),
        ("foo", "No such command 'foo'; known: gen, "),
        ("gen 18", "argument (18); a depth goes with --depth N"),
        ("inspect a b", "argument (b); it takes one file, and a net with --net NET"),
        ("forward a b --weights c", "argument (b); weights go with --weights FILE"),
        ("verify a --against float64", "Missing option '--weights'; give --weights FILE"),
        ("forward a --weights=", "Invalid value for '--weights': it is empty"),
        ("inspect a --net=", "Invalid value for '--net': it is empty"),
        ("inspect - --net -", "two files are -, and stdin can be read only once"),
        ("gen --depth 18 --out=", "Invalid value for '-o' / '--out': it is empty"),
        ("train-val a --out=", "'--out': it is empty; give the name of a folder"),
        ("deploy a --out=", "'--out': it is empty; give the name of a file"),
        ("convert a b --input-scale inf", "'--input-scale': 'inf' is no number to divide by"),
        ("summary a --input-shape \u0663,3,7,5", "is not a list of positive numbers"),
        (
            "verify a --weights b",
            "'--against'. Choose from: numpy, float64, caffe, opencv, onnxruntime, torch\n",
        ),
        (
            "classify a b --weights c --scales 9,x",
            "'9,x' is not a list of positive numbers, parted",
        ),
        ("convert a=", "Missing argument 'OUT'"),
    ],
)
def test_wrong_usage_says_what_is_right(arguments, message):
    result = CliRunner().invoke(main, arguments.split())

    assert result.exit_code == 2
    assert message in result.stderr


def test_empty_names():
    for arguments in (["summary", ""], ["inspect", ""], ["convert", "", "x.npz"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert "it is empty; give the name of a file" in result.stderr


@pytest.mark.parametrize("command", ["summary {}", "inspect {}", "convert {} x.npz",
                                     "forward {} --weights random"])  # fmt: skip
def test_unusable_files_are_one_status(tmp_path, command):
    """Missing, a folder, or below a file: status 1, and the name."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path, tmp_path / "file" / "x"):
        result = CliRunner().invoke(main, command.format(path).split())
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: {path}: ")


def test_errors_show_what_a_terminal_would_obey():
    text = 'layer { name: "\\x1b[31m" type: "ReLU" bottom: "\\n" top: "a" }'

    result = CliRunner().invoke(main, ["summary", "-"], input=text)

    assert result.exit_code == 1
    assert r"layer '\x1b[31m' (ReLU) reads blob" in result.stderr


def test_tables_show_what_a_terminal_would_obey(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "\\x1b[31m" type: "Input" top: "\\x1b[2J" input_param { shape { dim: 2 } } }'
    )

    for arguments, shown in (
        (["summary"], r"\x1b[31m  Input "),
        (["verify", "--weights", "random", "--against", "float64"], r"\x1b[2J  2         0.00e+00"),
    ):
        result = CliRunner().invoke(main, [arguments[0], str(path), *arguments[1:]])
        assert result.exit_code == 0, result.stderr
        assert shown in result.stdout
        assert "\x1b" not in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_have_a_heading(name):
    shown = CliRunner().invoke(main, [name, "--help"]).stdout

    assert f"\n  Examples:\n  resnet-proto {name}" in shown


@pytest.mark.parametrize("name", [*COMMANDS, "data lmdb", "data mean", "data show"])
def test_help_fits_a_terminal(name):
    shown = CliRunner().invoke(main, [*name.split(), "--help"]).stdout

    assert max(map(len, shown.splitlines())) <= 80


def test_a_phase_is_shown_as_caffe_spells_it():
    assert "--phase [TEST|TRAIN] " in CliRunner().invoke(main, ["summary", "--help"]).stdout
    for phase in ("TEST", "train"):
        net = 'layer { name: "a" type: "ReLU" bottom: "x" top: "a" }'
        result = CliRunner().invoke(main, ["summary", "-", "--phase", phase], input=net)
        assert "reads blob 'x'" in result.stderr  # it was taken
    assert CliRunner().invoke(main, ["summary", "-", "--phase", "DEPLOY"]).exit_code == 2


def test_a_program_that_calls_a_command_keeps_its_own_hooks(monkeypatch):
    """Those for signals, and for what is raised where nobody can catch it."""
    hooks = []
    monkeypatch.setattr("sys.unraisablehook", hooks.append)
    before = [signal.getsignal(number) for number in SIGNALS]

    assert CliRunner().invoke(main, ["list"]).exit_code == 0
    assert sys.unraisablehook == hooks.append
    assert [signal.getsignal(number) for number in SIGNALS] == before
