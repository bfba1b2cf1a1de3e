"""Net + weights + inputs -> every blob, computed by somebody else.

caffe and opencv read the user's own prototxt and caffemodel where there are any, so that a
misreading of ours shows as a difference. onnxruntime and torch are given our ``Net``: they
check the arithmetic, not the reading. An engine is asked by a ``Job`` and gives what it can:
a blob that a net writes several times (in-place) has its last value.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_proto.engine.plain import Schedule, check_inputs, cut, given_shapes
from resnet_proto.errors import (
    NetError,
    ResNetProtoError,
    UnknownLayerError,
    UnknownShapeError,
    WeightsError,
)
from resnet_proto.net import labels, overwritten
from resnet_proto.state import DEFAULT, State
from resnet_proto.weights import Weights, split, step_blobs, targets

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

CHILD = Path(__file__).with_name("caffe_child.py")
TIMEOUT = 600.0
"""Seconds that an engine in another process may take."""


@dataclass(frozen=True)
class Job:
    """One forward pass: what goes in, and how far it goes.

    Args:
        net: in a state of phase TEST. ``net_file`` is the prototxt it was read from, if any.
        weights: ``<layer>.<blob>`` -> array. ``weights_file`` is where they come from.
        inputs: blob name -> array.
        outputs: the blobs that are wanted; all if None.
        until: stop after the last layer that writes this blob.
        caffe_python: a Python that can ``import caffe``; else CAFFE_PYTHON names it.
        timeout: seconds.
    """

    net: Net
    weights: Mapping[str, Array]
    inputs: Mapping[str, Array]
    outputs: Sequence[str] | None = None
    until: str | None = None
    net_file: Path | None = None
    weights_file: Path | None = None
    caffe_python: str | None = None
    timeout: float = TIMEOUT

    def files(
        self, folder: Path, dtypes: Sequence[str] = ("float32", "float64"), *, plain: bool = False
    ) -> tuple[Path, Path]:
        """Prototxt and caffemodel: the user's own, else written into ``folder``.

        ``dtypes`` are those that the engine reads. ``plain`` is for one that has no states and
        shares no weights: its net has the layers of the state only, and each its own weights.

        Raises:
            ResNetProtoError: two layers with weights have one name.
        """
        check_names(self.net)
        net, weights = self.net_file, self.weights_file
        if plain and self.net.sharing():
            weights = None
        if net is None or (plain and self.net.state != DEFAULT):
            from resnet_proto.prototxt import to_prototxt

            net = folder / "net.prototxt"
            text = to_prototxt(self.net.settled() if plain else self.net)
            net.write_text(text, encoding="utf-8")
        stored = Weights.of(self.weights)
        readable = all(blob.dtype in dtypes for blob in stored.blobs.values())
        if weights is None or weights.suffix != ".caffemodel" or stored.hdf5 or not readable:
            from resnet_proto.formats import save

            weights = folder / "net.caffemodel"
            save(weights, whole(self.weights, self.net), self.net)
        return net.absolute(), weights.absolute()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for files on their way to another program.

    Raises:
        ResNetProtoError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="resnet-proto-") as name:
        try:
            yield Path(name)
        except OSError as error:
            problem = error.strerror or error
            raise ResNetProtoError(f"{name}: cannot be written: {problem}") from None


def check_names(net: Net) -> None:
    """Refuse what others than we would mix up without a word.

    Raises:
        ResNetProtoError: two layers with weights have one name.
    """
    wanted, first, _ = targets(net)
    firsts, shared = set(first.values()), net.sharing()
    for label, shapes in wanted.items():
        if set(shapes) - set(shared.get(label, ())) and label not in firsts:
            raise ResNetProtoError(
                f"layer '{label}' is the second of its name: Caffe and OpenCV give the weights "
                "of both to the first; give each layer a name of its own"
            )


def whole(weights: Mapping[str, Array], net: Net) -> dict[str, Array]:
    """Float32 weights for every layer of a net, and for no other.

    Others want all of them; where there are none that fit, in layers that nobody needs, they
    get zeros. Layers of types that are not known here, and those behind them, have what is
    stored for them.
    """
    import numpy as np

    arrays: dict[str, Array] = {}
    rest = set(labels(layer.name for layer in net.upgraded().filtered().layers))
    with suppress(UnknownLayerError, UnknownShapeError):
        for step in net.walk():
            rest.remove(step.label)
            try:
                values = step_blobs(step, weights, "float32")
            except WeightsError:
                values = [np.zeros(shape, np.float32) for shape in step.blobs.values()]
            names = (f"{step.label}.{name}" for name in step.blobs)
            arrays.update(zip(names, values, strict=True))
    return arrays | {key: value for key, value in weights.items() if split(key)[0] in rest}


def caffe(job: Job) -> dict[str, Array]:
    """The real Caffe, in another Python.

    A blob whose memory a later layer has overwritten under another name is left out.

    Raises:
        ResNetProtoError: there is no such Python, or Caffe refuses the net; with its own words.
    """
    python = job.caffe_python or os.environ.get("CAFFE_PYTHON")
    if not python:
        raise ResNetProtoError(
            "engine 'caffe' runs in a Python of its own, one that can `import caffe`; "
            "name it with --caffe-python or CAFFE_PYTHON"
        )
    with scratch() as folder:
        write_job(folder, *job.files(folder), every_input(job), job.until, job.net.state)
        run_jobs(python, [folder], job.timeout)
        blobs = read_job(folder)
    with suppress(NetError):  # in Caffe it runs
        for name in overwritten(job.net.reaching(None, job.until).layers):
            blobs.pop(name, None)
    return blobs


def every_input(job: Job) -> dict[str, Array]:
    """The inputs with zeros for those that nobody needs: the net's file may have other shapes."""
    import numpy as np

    unused = {blob: np.zeros(shape) for blob, shape in job.net.inputs().items()}
    return {**unused, **job.inputs}


def write_job(
    folder: Path,
    net: Path,
    weights: Path | None,
    inputs: Mapping[str, Array],
    until: str | None = None,
    state: State = DEFAULT,
) -> None:
    """Put a job for ``caffe_child.py`` into its folder."""
    import numpy as np

    job = {
        "net": str(net),
        "weights": weights and str(weights),
        "inputs": list(inputs),
        "until": until,
        # left out where they are not needed: an old pycaffe does not take them
        "state": {k: v for k, v in (("level", state.level), ("stages", state.stages)) if v},
    }
    (folder / "job.json").write_text(json.dumps(job))
    np.savez(folder / "inputs.npz", *inputs.values())


def run_jobs(python: str, folders: Sequence[Path], timeout: float = TIMEOUT) -> None:
    """Have the Caffe of another Python do jobs, one after the other.

    Raises:
        ResNetProtoError: that Python does not run, has no Caffe, or takes too long.
    """
    env = {"GLOG_minloglevel": "2", **os.environ}
    try:
        child = subprocess.Popen(
            [python, str(CHILD), *map(str, folders)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,  # so that its forks end with it
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise ResNetProtoError(f"{python}: cannot be run: {error.strerror}") from None
    try:
        talk = child.communicate(timeout=timeout)[1]
    except subprocess.TimeoutExpired:
        raise ResNetProtoError(f"Caffe in {python} did not end within {timeout:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    if child.returncode:
        raise ResNetProtoError(
            f"{python}: cannot run Caffe (status {child.returncode}): {reason(talk)}"
        )
    if not all((folder / "exit").exists() for folder in folders):
        raise ResNetProtoError(f"{python} is no Python that can `import caffe`: it did nothing")


def read_job(folder: Path) -> dict[str, Array]:
    """The blobs of a job that is done.

    Raises:
        ResNetProtoError: Caffe refused it; the message is Caffe's.
    """
    import numpy as np

    try:
        status = int((folder / "exit").read_text())
        log = (folder / "log").read_text(errors="replace") if status else ""
        if status:
            raise ResNetProtoError(f"Caffe refuses the net: {caffe_words(log, status)}")
        names = json.loads((folder / "blobs.json").read_text())
        with (folder / "blobs.npz").open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            return {name: arrays[f"arr_{i}"] for i, name in enumerate(names)}
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        raise ResNetProtoError(f"Caffe's answer cannot be read: {error}") from None


def caffe_words(log: str, status: int) -> str:
    """Why Caffe gave up, without time stamps and stack traces."""
    words = re.findall(r"^(?:[EF]\d{4,8} .*?|\[libprotobuf (?:ERROR|FATAL) .*?)\] (.*)$", log, re.M)
    if words:
        return "; ".join(dict.fromkeys(word.strip() for word in words))
    return last_line(log) if status > 0 else f"ended by {signal.Signals(-status).name}"


def reason(talk: str) -> str:
    """Why a program did not start: how a traceback ends, or else how the talk begins."""
    lines = [line.strip() for line in talk.splitlines() if line.strip()]
    if not lines or "Traceback (most recent call last):" in lines:
        return last_line(talk)
    return "; ".join(lines[:2])


def last_line(text: str) -> str:
    """The last words somebody said."""
    return (text.strip().splitlines() or ["nothing was said"])[-1]


def opencv(job: Job) -> dict[str, Array]:
    """OpenCV's own importer and layers.

    It knows layers, not blobs: a blob is what its last layer gives, and layers that the
    importer drops are left out.

    Raises:
        ResNetProtoError: no OpenCV that reads Caffe's nets, or it refuses this one.
    """
    try:
        import cv2
    except ImportError:
        raise ResNetProtoError(
            "engine 'opencv' needs OpenCV: pip install 'opencv-python-headless<5'"
        ) from None
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise ResNetProtoError(
            f"OpenCV {cv2.__version__} has no Caffe importer (5 removed it): "
            "pip install 'opencv-python-headless<5'"
        )
    import numpy as np

    shown, asked = cut(job.net, job.outputs, job.until)
    names = labels(layer.name for layer in shown.layers)
    writers = {
        top: label
        for layer, label in zip(shown.layers, names, strict=True)
        for top in layer.tops[:1]
        if top in asked
    }
    try:
        with scratch() as folder:
            files = job.files(folder, ["float32"], plain=True)  # it cannot read double_data
            net = cv2.dnn.readNetFromCaffe(*map(str, files))
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.enableFusion(False)  # a fused layer would give its successor's blob
        net.enableWinograd(False)  # its rounding is ten times that of a plain convolution
        for blob, value in every_input(job).items():
            net.setInput(np.ascontiguousarray(value, np.float32), blob)
        known = set(net.getLayerNames())
        wanted = {blob: layer for blob, layer in writers.items() if layer in known}
        values = net.forward(list(wanted.values())) if wanted else ()
    except cv2.error as error:
        raise ResNetProtoError(f"OpenCV refuses the net: {error.err or error}") from None
    return {blob: np.array(value) for blob, value in zip(wanted, values, strict=True)}


def onnxruntime(job: Job) -> dict[str, Array]:
    """The net as ONNX in onnxruntime, on the CPU.

    Raises:
        ResNetProtoError: onnx or onnxruntime is not installed, or it refuses the net.
        UnknownLayerError: a layer that cannot be written as ONNX.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ResNetProtoError(
            "engine 'onnxruntime' needs onnx and onnxruntime: pip install 'resnet-proto[onnx]'"
        ) from None
    from resnet_proto.formats.onnx import to_onnx

    shapes = given_shapes(job.net, job.inputs)
    schedule = Schedule.of(job.net, job.outputs, job.until, shapes)
    inputs = check_inputs(job.net, schedule, job.inputs, "float32")
    net = job.net.upgraded().filtered()
    if job.until is not None:
        net = net.until((job.until,))
    model = to_onnx(net, job.weights, outputs=schedule.wanted, shapes=schedule.shapes)
    options = onnxruntime.SessionOptions()
    # Each node runs as it is written, none is joined with another.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised as well
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_inputs()]
        values = session.run(list(schedule.wanted), dict(zip(names, inputs.values(), strict=True)))
    except Exception as error:  # its errors have no class in common
        raise ResNetProtoError(f"onnxruntime refuses the net: {error}") from None
    return dict(zip(schedule.wanted, values, strict=True))


def torch(job: Job) -> dict[str, Array]:
    """PyTorch's functions, on the CPU.

    Raises:
        ResNetProtoError: torch is not installed.
        UnknownLayerError: a layer that torch cannot compute.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise ResNetProtoError(
            "engine 'torch' needs PyTorch: pip install 'resnet-proto[torch]'"
        ) from None
    from resnet_proto.engine.torch_module import forward

    return forward(job)
