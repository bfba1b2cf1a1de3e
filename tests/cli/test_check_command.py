"""The command ``check``."""

import json

import pytest
from click.testing import CliRunner

from resnet_proto.cli import main
from resnet_proto.generate import generate
from resnet_proto.presets import PRESETS


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["check", *arguments], input=stdin)


@pytest.fixture
def folder(tmp_path):
    for file, text in generate(PRESETS["cifar-resnet-20"].spec).items():
        (tmp_path / file).write_text(text)
    for name in ("cifar10_train_lmdb", "cifar10_test_lmdb"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_good_files(folder):
    solver, net = folder / "solver.prototxt", folder / "deploy.prototxt"

    result = run(str(solver), str(net))

    assert result.exit_code == 0
    assert result.stdout == (
        f"nothing found in {solver} (solver), {folder / 'train_val.prototxt'} (net of the solver, "
        f"found beside it and not in the current directory), {net} (net)\n"
    )


def test_errors_give_status_1(folder):
    solver = folder / "solver.prototxt"
    solver.write_text(solver.read_text().replace("multistep", "multi"))

    result = run(str(solver))

    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"{solver}: error: field 'lr_policy': lr_policy is 'multi', which Caffe does not know"
    )
    assert result.stdout.splitlines()[-1].startswith(f"1 error in {solver} (solver)")


def test_warnings_count_when_strict(folder):
    solver = str(folder / "solver.prototxt")
    arguments = (solver, "--test-images", "10001")

    assert run(*arguments).exit_code == 0
    assert run(*arguments, "--strict").exit_code == 1
    assert run(solver, "--strict").exit_code == 0


def test_stdin_and_json(folder):
    text = (folder / "deploy.prototxt").read_text()

    result = run("-", "--json", stdin=text)

    assert json.loads(result.stdout) == {
        "files": [{"file": "stdin", "kind": "net", "how": ""}],
        "findings": [],
        "counts": {"error": 0, "warning": 0, "note": 0},
    }


def test_a_file_that_is_no_prototxt_does_not_hide_the_others(folder):
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))

    result = run("no/such.prototxt", str(folder / "x.png"), str(folder / "deploy.prototxt"))

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("no/such.prototxt: error: no such file")
    assert lines[1].startswith(f"{folder / 'x.png'}: error: ")
    assert lines[2].startswith("2 errors in no/such.prototxt")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [[], ["x", "--test-images", "0"], ["-", "-"]])
def test_wrong_usage(arguments):
    assert run(*arguments, stdin='name: "x"').exit_code == 2
