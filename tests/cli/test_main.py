"""The group of commands: help, version, errors."""

import re
import signal
import sys

import click
import pytest
from click.testing import CliRunner

from resnet_proto.cli import COMMANDS, SIGNALS, main
from resnet_proto.cli.options import Number, whole


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
        ("convert a b --input-scale inf", "'--input-scale': 'inf' is not a finite number oth"),
        ("summary a --input-shape \u0663,3,7,5", "is not a list of positive whole numbers"),
        (
            "verify a --weights b",
            "'--against'. Choose from: numpy, float64, caffe, opencv, onnxruntime, torch\n",
        ),
        (
            "classify a b --weights c --scales 9,x",
            "'9,x' is not a list of positive whole numbers, separated",
        ),
        ("convert a=", "Missing argument 'OUT'"),
    ],
)
def test_wrong_usage_says_what_is_right(arguments, message):
    result = CliRunner().invoke(main, arguments.split())

    assert result.exit_code == 2
    assert message in result.stderr


def options():
    """Each option of each command that takes a value, with how the command is called."""
    for name in COMMANDS:
        command = main.get_command(None, name)
        parts = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for part, own in parts:
            for option in own.params:
                if isinstance(option, click.Option) and not option.is_flag:
                    yield f"{name} {part}".strip(), option


def test_numbers_are_refused_in_our_words():
    """All options that take one number have one type, and what it takes is said."""
    of_click = click.types.IntParamType | click.types.FloatParamType
    numbers = [(name, option) for name, option in options() if isinstance(option.type, Number)]

    assert not [option for _, option in options() if isinstance(option.type, of_click)]
    assert {name for name, _ in numbers} >= {"gen", "diff", "memory", "classify", "data lmdb"}
    for name, option in numbers:
        for value in ("", "x", "nan", "1,2", "1_0", "\u0663", "9" * 5000):
            command = name.split(" ")
            result = CliRunner().invoke(main, [*command, option.opts[-1], value, "a", "b"])
            assert result.exit_code == 2
            message = f"{option.opts[-1]}': {value!r:.80} is not {option.type.what}\n"
            assert message in result.stderr


@pytest.mark.parametrize(
    ("type", "what", "refused", "taken"),
    [
        (Number(0), "a number of 0 or more", ["-1e-9", "inf", "1e999"], ["0", "1e-5", "1e300"]),
        (whole(1), "a whole number of 1 or more", ["0", "1.0", "1e3"], ["1", "+7", "99999999999"]),
        (whole(0, 256), "a whole number from 0 to 256", ["-1", "257"], ["0", "256", " 3"]),
        (whole(), "a whole number", ["0x10", "1-2"], ["-5", "007"]),
    ],
)
def test_a_number_of_an_option(type, what, refused, taken):
    for text in taken:
        assert type.convert(text, None, None) == type.make(text)
    for text in refused:
        with pytest.raises(click.BadParameter, match=rf"^'{re.escape(text)}' is not {what}$"):
            type.convert(text, None, None)


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
