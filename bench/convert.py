"""How long ``convert`` takes for ResNet-152, and its memory: ours, cp, and converters of others.

    python bench/convert.py [--rounds 7] [--folder DIR] [--others DIR]

Random weights, 241 MB, in a temporary folder (below ``--folder``) that is removed after. Every row
is a whole process, from its start to its end, in turn with the others (A B A B ...); medians. What
takes more than 20 seconds runs once. Before each run the files are read into the page cache, and
the last target is removed. Nothing waits for the disk (no fsync), cp neither.

Memory is looked at every 5 ms, in a first run: *anon* is the most of its own that a process
had (RssAnon), *file* the most of mapped files, libraries too (RssFile), *both* their greatest sum,
by the size of the caffemodel.

The others are what can be had from the package index and reads Caffe without Caffe. MNN comes from
``.oracles``; the rest from virtual environments in ``--others DIR``, which are made there if they
are missing (3 GB); without it they are left out. Some need an older Python (``OTHERS``), on PATH or
from pyenv. What is not here, and why:

* brocolli 4.0.2 and pytorch2caffe 0.1.0 make caffemodels, and read none;
* coremltools 5 and later have no Caffe any more, and 4.1 has no wheels for Python 3.9 and later;
* caffe2onnx 2.0.1 needs onnx 1.6, which has no wheels for Python 3.8 and later, and which does not
  compile any more: it runs with Python 3.7;
* ncnn's package has no caffe2ncnn.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MODEL, TEXT = "net.caffemodel", "net.prototxt"
SMALL, SMALL_TEXT = "small.caffemodel", "small.prototxt"
LONG = 20.0
"""Seconds; what takes longer runs once."""
COPY = "cp --reflink=never"
TARGETS = ("safetensors", "npz", "pt", "onnx")
COREML = """
import coremltools
coremltools.converters.caffe.convert(("net.caffemodel", "net.prototxt")).save("target.mlmodel")
"""
MNN = "import sys, _tools; _tools.mnnconvert(sys.argv)"
"""Its script `mnnconvert` without the record of the conversion, which it sends to its makers."""


class Other(NamedTuple):
    """A converter of others.

    Args:
        python: the versions that it runs with, the newest first.
        packages: what pip installs.
        command: behind ``bin`` of its environment.
    """

    python: tuple[str, ...]
    packages: tuple[str, ...]
    command: tuple[str, ...]


OLD = ("numpy<1.24", "protobuf<3.21")
OTHERS = {
    "MNN 3.6.1: to .mnn": Other(
        ("3.11",), ("MNN==3.6.1", "numpy"),
        ("python", "-c", MNN, "-f", "CAFFE", "--modelFile", MODEL, "--prototxt", TEXT,
         "--MNNModel", "target.mnn", "--bizCode", "x"),
    ),
    "coremltools 4.1: to .mlmodel": Other(
        ("3.8",), ("coremltools==4.1", *OLD), ("python", "-c", COREML),
    ),
    "mmdnn 0.3.1: to its own .npy": Other(
        ("3.9", "3.8"), ("mmdnn==0.3.1", *OLD),
        ("mmtoir", "-f", "caffe", "-n", TEXT, "-w", MODEL, "-o", "target"),
    ),
    "caffe2onnx 2.0.1: to ONNX": Other(
        ("3.7",), ("caffe2onnx==2.0.1", "protobuf<3.21"),
        ("python", "-m", "caffe2onnx.convert", "--prototxt", TEXT, "--caffemodel", MODEL,
         "--onnx", "target.onnx"),
    ),
    "openvino-dev 2023.3: to .bin": Other(
        ("3.9", "3.10", "3.11"), ("openvino-dev==2023.3.0", "protobuf<3.21"),
        ("mo", "--framework", "caffe", "--input_model", MODEL, "--input_proto", TEXT,
         "--compress_to_fp16=False", "--use_legacy_frontend", "--model_name", "target"),
    ),
    "x2paddle 1.6.0: to .pdiparams": Other(
        ("3.11", "3.10", "3.9"),
        ("x2paddle==1.6.0", "paddlepaddle==2.6.2", "setuptools", "six", "requests", OLD[1]),
        ("x2paddle", "--framework=caffe", f"--prototxt={TEXT}", f"--weight={MODEL}",
         "--save_dir=target"),
    ),
    "caffe-onnx 0.1.2: to ONNX": Other(
        ("3.11", "3.10", "3.9"), ("caffe-onnx==0.1.2",),
        ("caffe2onnx", TEXT, MODEL, "target", "."),
    ),
}  # fmt: skip


def prepare(folder: Path) -> int:
    """Write the files that are read; gives the size of the caffemodel."""
    from resnet_proto import random_weights
    from resnet_proto.build import deploy_net
    from resnet_proto.formats import save
    from resnet_proto.presets import PRESETS
    from resnet_proto.prototxt import to_prototxt

    for preset, model, text in (
        ("resnet-152", MODEL, TEXT), ("cifar-resnet-20", SMALL, SMALL_TEXT)
    ):  # fmt: skip
        net = deploy_net(PRESETS[preset].spec)
        (folder / text).write_text(to_prototxt(net))
        save(folder / model, random_weights(net), net)
    return (folder / MODEL).stat().st_size


def ours() -> dict[str, list[str]]:
    """The rows of this project, and what they are compared with."""
    program = str(Path(sys.executable).with_name("resnet-proto"))

    def convert(to: str, *options: str, model: str = MODEL, text: str = TEXT) -> list[str]:
        return [program, "convert", model, f"target.{to}", "--net", text, *options]

    rows = {COPY: [*COPY.split(), MODEL, "target"], "sha256sum": ["sha256sum", MODEL]}
    rows["ours: CIFAR's ResNet-20 to npz, 1 MB"] = convert(
        "npz", "--no-verify", model=SMALL, text=SMALL_TEXT
    )
    rows |= {f"ours: to {to}": convert(to, "--no-verify") for to in TARGETS}
    return rows | {f"ours: to {to}, verified": convert(to) for to in TARGETS}


def others(where: Path | None) -> dict[str, list[str]]:
    """The rows of others, of those that are here or can be made."""
    rows = {}
    for name, other in OTHERS.items():
        package = name.partition(" ")[0].lower()
        folder = ROOT / ".oracles" / "mnn" if package == "mnn" else where and where / package
        if folder and not (folder / "bin" / other.command[0]).exists() and package != "mnn":
            make(folder, other)
        if folder and (folder / "bin" / other.command[0]).exists():
            rows[name] = [str(folder / "bin" / other.command[0]), *other.command[1:]]
        else:
            print(f"left out: {name}: it is not installed", file=sys.stderr)
    return rows


def make(folder: Path, other: Other) -> None:
    """Make the virtual environment of a converter, if a Python that it runs with is here."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in other.python:
        found = [*sorted(pyenv.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
        if python := next(filter(None, found), None):
            subprocess.run([python, "-m", "venv", folder], check=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "-qq", *other.packages]
            if subprocess.run(pip, check=False).returncode:
                shutil.rmtree(folder)
            return


def clean(folder: Path) -> None:
    """Remove what the last row made, and read the files into the page cache."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (MODEL, TEXT, SMALL, SMALL_TEXT):
            path.unlink()
    (folder / MODEL).read_bytes()


def once(folder: Path, command: list[str], *, look: bool = False) -> tuple[float, list[int]]:
    """One process: seconds, and with ``look`` the kB of anon, file and both."""
    clean(folder)
    most = [0, 0, 0]
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        while look and child.poll() is None:
            most = [max(pair) for pair in zip(most, resident(child.pid), strict=True)]
            time.sleep(0.005)
        status = child.wait()
    took = time.perf_counter() - start
    if status:
        raise RuntimeError(f"it ended with {status}")
    return took, most


def resident(pid: int) -> tuple[int, int, int]:
    """What a process and its children have in memory now, in kB: their own, of files, both."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0, 0, 0
    sizes = {
        key: int(value.split()[0])
        for key, _, value in (line.partition(":") for line in text.splitlines())
        if key.startswith("Rss")
    }
    own = [(sizes.get("RssAnon", 0), sizes.get("RssFile", 0))]
    anon, file = map(sum, zip(*own, *(resident(int(child))[:2] for child in children), strict=True))
    return anon, file, anon + file


def main(rounds: int, where: str | None, environments: str | None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir=where, prefix="resnet-proto-bench-") as name:
        folder = Path(name)
        size = prepare(folder)
        rows = ours() | others(None if environments is None else Path(environments).absolute())
        times: dict[str, list[float]] = {row: [] for row in rows}
        memory: dict[str, list[int]] = {}
        failed: dict[str, str] = {}
        for i in range(rounds + 1):  # the first is for memory, and warms the caches
            for row, command in rows.items():
                if row in failed or max(times[row], default=0) > LONG:
                    continue
                try:
                    took, most = once(folder, command, look=not i)
                except (RuntimeError, OSError) as error:
                    failed[row] = str(error)
                    continue
                memory.setdefault(row, most)
                if i or took > LONG:
                    times[row].append(took)
        base = median(times[COPY])
        print(
            f"ResNet-152 with random weights, {size / 1e6:.1f} MB, median of {rounds} interleaved "
            f"rounds\nPython {platform.python_version()}, {len(os.sched_getaffinity(0))} CPUs, "
            f"{platform.machine()}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}\n\n"
            "| convert | median ms | best ms | / cp | anon MB | file MB | both / the caffemodel |\n"
            "|---|---:|---:|---:|---:|---:|---:|"
        )
        for row, values in times.items():
            if not values:
                print(f"| {row} | left out: {failed[row]} | | | | | |")
                continue
            anon, file, both = (kb * 1024 for kb in memory[row])
            print(
                f"| {row} | {1e3 * median(values):,.0f} | {1e3 * min(values):,.0f} "
                f"| {median(values) / base:.1f} | {anon / 1e6:.0f} | {file / 1e6:.0f} "
                f"| {both / size:.2f} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="where the temporary folder goes; default: TMPDIR")
    parser.add_argument("--others", help="where the environments of other converters are")
    options = parser.parse_args()
    main(options.rounds, options.folder, options.others)
