"""The command ``convert``."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import load, random_weights, read_prototxt, save, to_prototxt
from resnet_proto.cli import main
from resnet_proto.cli.convert import progress
from resnet_proto.layers import BatchNorm, Convolution, Input
from resnet_proto.net import Net

TEXT = """
name: "tiny"
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer {
  name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 }
}
"""
SAID = "2 blobs, 64 bytes of values"


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)], input=stdin)


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def model(tmp_path):
    """A caffemodel in a folder of its own."""
    path = tmp_path / "in" / "net.caffemodel"
    save(path, random_weights(read_prototxt(TEXT)), read_prototxt(TEXT))
    return path


def test_there_and_back(tmp_path, model, net):
    """The net goes along, so the way back needs none."""
    there, back = tmp_path / "a.safetensors", tmp_path / "b.caffemodel"

    first = run(model, there, "--net", net)
    second = run(there, back)

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert first.stdout == second.stdout == ""
    assert first.stderr == f"wrote {there}: {SAID}, read back equal\n"
    assert back.read_bytes() == model.read_bytes()


def test_no_verify_does_not_claim_it(tmp_path, model):
    result = run(model, tmp_path / "a.npz", "--no-verify")

    assert result.stderr == f"wrote {tmp_path / 'a.npz'}: {SAID}\n"
    assert load(tmp_path / "a.npz")["fc.bias"].tolist() == load(model)["fc.bias"].tolist()


def test_to(tmp_path, model):
    """Any name, and the format by --to, but not another format's suffix."""
    assert run(model, tmp_path / "weights.bin", "--to", "npz").exit_code == 0
    assert zipfile.is_zipfile(tmp_path / "weights.bin")

    refused = run(model, tmp_path / "weights.safetensors", "--to", "npz")

    assert refused.exit_code == 1
    assert "weights.safetensors: its suffix is that of another format than npz" in refused.stderr
    assert not (tmp_path / "weights.safetensors").exists()


def test_json(tmp_path, model):
    result = run(model, tmp_path / "x.npz", "--json")

    shown = json.loads(result.stdout)
    assert shown.keys() == {"file", "blobs", "bytes", "verified"}
    assert shown["blobs"] == len(np.load(tmp_path / "x.npz").files) - 1  # metadata.json
    assert shown["verified"] is True


def test_stdin_and_stdout(tmp_path, model, net):
    """All the bytes on one side, all the talk on the other. What is piped in has no name."""
    save(tmp_path / "a.npz", dict(load(model)), read_prototxt(net))

    result = run("-", "-", "--to", "npz", "--net", net, stdin=model.read_bytes())

    assert result.exit_code == 0, result.stderr
    with (
        zipfile.ZipFile(io.BytesIO(result.stdout_bytes)) as ours,
        zipfile.ZipFile(tmp_path / "a.npz") as file,
    ):
        assert ours.namelist() == file.namelist()
        for name in ours.namelist()[:-1]:
            assert ours.read(name) == file.read(name)
        metadata = json.loads(ours.read("metadata.json"))
        assert metadata["net"] == json.loads(file.read("metadata.json"))["net"]
        assert "source" not in metadata
    assert result.stderr == f"wrote stdout: {SAID}, read back equal\n"
    back = run("-", "-", "--to", "caffemodel", stdin=result.stdout_bytes)
    assert back.stdout_bytes == model.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["IN"], "Missing argument 'OUT'"),
        (["IN", "-"], "OUT is -: name its format with --to"),
        (["IN", "x.npz", "--to", "onyx"], "'onyx' is not one of"),
        (["IN", "x.npz", "--too", "npz"], "No such option"),
        (["IN", "."], ". is a folder; give the name of a file"),
    ],
)
def test_usage(model, arguments, message):
    result = run(*(model if a == "IN" else a for a in arguments))

    assert result.exit_code == 2
    assert message in result.stderr


def test_library_errors(tmp_path, model, net):
    """One line, which says what to do; the target is not touched."""
    target = tmp_path / "out" / "x.caffemodel"
    target.parent.mkdir()
    target.write_bytes(b"old")
    other = tmp_path / "other.prototxt"
    other.write_text(TEXT.replace("4", "5"))
    broken = tmp_path / "broken.caffemodel"
    broken.write_bytes(model.read_bytes()[:-1])
    run(model, tmp_path / "plain.npz")

    for arguments, message in (
        (
            [model, target, "--net", other],
            "layer 'fc' does not fit the net: weight is 4x3 in the weights, the net needs",
        ),
        ([tmp_path / "plain.npz", target], "contains no prototxt"),
        ([broken, target, "--net", net], "broken.caffemodel: offset"),
        ([tmp_path / "none.npz", target, "--net", net], "none.npz: no such file"),
        ([tmp_path / "none.keras", target], "none.keras: Keras files can only be written;"),
        ([tmp_path / "none.onnx", tmp_path / "x.bin"], "pt, onnx, keras, by the suffix"),
        ([model, target, "--net", tmp_path / "none.prototxt"], "none.prototxt"),
        ([model, tmp_path / "out" / "x.bin"], "no format is called 'bin'; known: caffemodel"),
        ([model, tmp_path / "out" / "r50"], "r50 has no suffix; give it one of .caffemodel, .npz"),
        ([model, model / "x.npz"], "net.caffemodel is not a folder; give another name"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1, arguments
        assert result.stderr.startswith("Error: ")
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert [p.name for p in target.parent.iterdir()] == ["x.caffemodel"]
        assert target.read_bytes() == b"old"

    assert run(model, target, "--net", net, "--force").exit_code == 0
    assert target.read_bytes() == model.read_bytes()


def test_warnings(tmp_path, model, net):
    """What could not be checked is said, on stderr."""
    net.write_text(
        TEXT.replace('"Input"', '"Guess"').replace("input_param { shape { dim: 2 dim: 3 } }", "")
    )

    result = run(model, tmp_path / "x.npz", "--net", net)

    assert result.exit_code == 0, result.stderr
    warning, wrote = result.stderr.splitlines()
    assert warning == (
        "Warning: 1 of the net's layers cannot be checked with the weights, and 1 only in part: "
        f"{net}: layer 'in' has type 'Guess', whose shapes are not known"
    )
    assert wrote.startswith("wrote ")


def test_existing_target_is_replaced_at_once(tmp_path, model):
    """Who has the old file open keeps it whole."""
    target = tmp_path / "x.npz"
    target.write_bytes(b"old and longer than nothing")
    with target.open("rb") as reader:
        assert run(model, target, "--force").exit_code == 0
        assert reader.read() == b"old and longer than nothing"
    assert list(load(target)) == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("suffix", ["caffemodel", "npz", "safetensors", "h5", "pt", "onnx"])
def test_what_has_other_content_is_kept(tmp_path, model, net, suffix, request):
    """And the same command may run twice."""
    if suffix == "pt":
        request.getfixturevalue("torch")
    target = tmp_path / f"x.{suffix}"
    target.write_bytes(b"somebody's")

    refused = run(model, target, "--net", net)

    assert refused.exit_code == 1
    assert f"{target} exists with other content; --force overwrites it" in refused.stderr
    assert target.read_bytes() == b"somebody's"
    assert run(model, target, "--net", net, "--force").exit_code == 0
    written = target.read_bytes()
    assert run(model, target, "--net", net).exit_code == 0
    assert target.read_bytes() == written


def test_what_is_in_the_way_beside_is_kept_too(tmp_path, model, net):
    """It is known before the caffemodel is written."""
    (tmp_path / "x.prototxt").write_text("somebody's")

    refused = run(model, tmp_path / "x.caffemodel", "--net", net, "--fold-bn")

    assert "x.prototxt exists with other content; --force overwrites it" in refused.stderr
    assert not (tmp_path / "x.caffemodel").exists()
    forced = run(model, tmp_path / "x.caffemodel", "--net", net, "--fold-bn", "--force")
    assert forced.exit_code == 0
    assert (tmp_path / "x.prototxt").read_text() != "somebody's"


@pytest.mark.parametrize("suffix", ["caffemodel", "npz", "onnx"])
def test_folders_are_made_when_there_is_something_to_write(tmp_path, model, net, suffix):
    """With a prototxt beside too; a run that fails leaves none."""
    target = tmp_path / "new" / "deep" / f"x.{suffix}"
    other = tmp_path / "other.prototxt"
    other.write_text(TEXT.replace("4", "5"))

    failed = [run(model, target, "--net", other), run(model, target, "--net", other, "--fold-bn")]

    assert [result.exit_code for result in failed] == [1, 1]
    assert not (tmp_path / "new").exists()
    assert run(model, target, "--net", net, "--fold-bn").exit_code == 0
    assert target.exists()
    assert (target.with_suffix(".prototxt").exists()) == (suffix == "caffemodel")


def test_whole_numbers_stay_out_of_a_caffemodel(tmp_path, net):
    np.savez(tmp_path / "x.npz", **{"fc.weight": np.ones((4, 3)), "fc.bias": np.ones(4, np.int32)})

    result = run(tmp_path / "x.npz", tmp_path / "x.caffemodel", "--net", net)

    assert result.exit_code == 1
    assert "'fc.bias' is int32; a caffemodel holds float32" in result.stderr
    assert not (tmp_path / "x.caffemodel").exists()


# The command in a process of its own, stopped after its first part is written: it says so on
# stderr, then waits until somebody writes to its stdin, which nobody does.
STOPPED = """
import sys
import resnet_proto.formats.npz as module
right = module.write
def write(file, weights, net, progress):
    def stop(size):
        file.flush()
        print("writing", file.name, file=sys.stderr, flush=True)
        sys.stdin.read()
    right(file, weights, net, stop)
module.write = write
from resnet_proto.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_a_signal_leaves_nothing_behind(tmp_path, model, number, source):
    """Not the half-written file, nor a copy of stdin. SIGKILL, the twin, cannot be cleaned up."""
    folder, temporary = tmp_path / "out", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    target = folder / "x.npz"
    target.write_bytes(b"old")
    reader, writer = os.pipe()
    os.write(writer, model.read_bytes())
    given = str(model)
    code = STOPPED
    if source == "stdin":
        given = "-"
        code = code.replace("sys.stdin.read()", "import signal; signal.pause()")
        os.close(writer)
    with subprocess.Popen(
        [sys.executable, "-c", code, "convert", given, str(target)],
        stdin=reader,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        text=True,
        preexec_fn=usual_signals,
    ) as child:
        assert child.stderr.readline().startswith("writing ")
        assert len(list(folder.iterdir())) == 2
        child.send_signal(number)
        talk = child.stderr.read()
        status = child.wait(timeout=300)
    os.close(reader)
    if source == "file":
        os.close(writer)

    assert target.read_bytes() == b"old"
    left = [*temporary.iterdir(), *(p for p in folder.iterdir() if p != target)]
    if number == signal.SIGKILL:
        assert (status, bool(left)) == (-9, True)
        return
    assert status == 128 + number
    assert "Traceback" not in talk
    assert left == []


AT_THE_FIRST_PART = """
import os, signal, sys
import resnet_proto.formats.npz as module
right = module.write
def write(file, weights, net, progress):
    right(file, weights, net, lambda size: at_the_first_part())
module.write = write
from resnet_proto.cli import main
def at_the_first_part():
"""


def usual_signals():
    """Signals end a process, also where they are ignored here, as with nohup or ``&``."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def child(code, *arguments, preexec_fn=usual_signals):
    command = [sys.executable, "-c", AT_THE_FIRST_PART + code + "main()", "convert"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, preexec_fn=preexec_fn,
    )  # fmt: skip


@pytest.mark.parametrize("first", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_more_signals_do_not_disturb_the_cleaning(tmp_path, model, first):
    """The first one decides; others that come while files are removed change nothing."""
    code = f"""
    try:
        signal.raise_signal(signal.{first})
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.raise_signal(number)
        print("cleaning", file=sys.stderr)
"""
    target = tmp_path / "out" / "x.npz"
    target.parent.mkdir()

    done = child(code, model, target)

    assert done.returncode == 128 + getattr(signal, first)
    assert done.stderr.replace("Aborted!\n", "").strip() == "cleaning"
    assert list(target.parent.iterdir()) == []


def test_what_is_ignored_stays_ignored(tmp_path, model):
    """As with nohup; the twin, without it, ends."""
    code = "    signal.raise_signal(signal.SIGHUP)\n"

    kept = child(
        code, model, tmp_path / "x.npz",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    ended = child(code, model, tmp_path / "y.npz")

    assert (kept.returncode, ended.returncode) == (0, 128 + signal.SIGHUP)
    assert (tmp_path / "x.npz").exists()
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_stdout_that_is_full(model):
    """Nothing is said to be written before it is."""
    command = [sys.executable, "-c", "from resnet_proto.cli import main; main()", "convert"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*command, str(model), "-", "--to", "npz"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False,
        )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == "Error: stdout: No space left on device\n"


def test_progress_is_for_long_work(monkeypatch):
    """64 MB on a terminal; the command itself is tried below."""
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", shown)
    for size, expected in ((67_108_863, False), (67_108_864, True)):
        with progress(size) as done:
            done(size)
        assert ("writing" in shown.getvalue()) is expected


def test_progress_is_shown_on_a_terminal_only(tmp_path, model):
    code = "from resnet_proto.cli import convert, main; convert.LONG = 0; main()"
    command = [sys.executable, "-c", code, "convert", str(model), str(tmp_path / "x.npz")]
    leader, terminal = os.openpty()
    subprocess.run(command, stderr=terminal, check=True, timeout=300)
    os.close(terminal)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)

    assert "writing" in shown
    assert "100%" in shown
    piped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert piped.stderr.startswith("wrote ")
    assert piped.stdout == ""


# Prints the most memory that the process had, mapped pages too.
MEASURED = """
import sys
from resnet_proto.cli import main
main(sys.argv[1:], standalone_mode=False)
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.parametrize("suffix", ["safetensors", "npz", "h5", "pt", "onnx"])
def test_memory(tmp_path, suffix):
    """The file as it is mapped, or a copy of the values that a model has, and not both."""
    if suffix == "pt":
        pytest.importorskip("torch", reason="torch is not here: make oracles says how to get it")
    used = {}
    for width in (64, 1024):
        layers = [
            layer
            for i in range(8)
            for layer in (
                Convolution.of(f"c{i}", f"b{i}", f"b{i + 1}", num_output=width, kernel_size=1),
                BatchNorm.of(f"n{i}", f"b{i + 1}", f"b{i + 1}"),
            )
        ]
        shape = ({"dim": (1, width, 3, 2)},)
        net = Net("t", (Input.of("in", (), "b0", shape=shape), *layers))
        files = [tmp_path / f"{width}.{name}" for name in ("caffemodel", suffix, "prototxt")]
        save(files[0], random_weights(net), net)
        files[2].write_text(to_prototxt(net))
        command = [sys.executable, "-c", MEASURED, "convert", *files[:2], "--net", files[2]]
        done = subprocess.run(
            [*command, "--no-verify"], capture_output=True, text=True, timeout=120, check=True
        )
        used[files[0].stat().st_size] = int(done.stdout) * 1024
    (small, base), (large, most) = sorted(used.items())

    assert most - base < 1.5 * (large - small)
