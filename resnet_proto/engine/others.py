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
import select
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.engine.job import TIMEOUT, scratch, written
from resnet_proto.engine.plain import Schedule, check_inputs, cut, numbers
from resnet_proto.engine.running import Running, lighter
from resnet_proto.errors import (
    NetError,
    ResNetProtoError,
)
from resnet_proto.net import labels, overwritten
from resnet_proto.state import DEFAULT, State

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

CHILD = Path(__file__).with_name("caffe_child.py")


def every_input(net: Net, schedule: Schedule, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Float32 inputs, with zeros for those that nobody needs: the net's file may have others."""
    import numpy as np

    unused = {blob: np.zeros(shape, np.float32) for blob, shape in net.inputs().items()}
    data = {
        name: numbers(name, inputs[name], "float32") for name in net.data_tops() if name in inputs
    }
    return {**unused, **data, **check_inputs(net, schedule, inputs, "float32")}


def write_job(
    folder: Path,
    net: Path,
    weights: Path | None,
    inputs: Mapping[str, Array],
    until: str | None = None,
    state: State = DEFAULT,
    outputs: Sequence[str] | None = None,
) -> None:
    """Put a job for ``caffe_child.py`` into its folder."""
    import numpy as np

    job = {
        "net": str(net),
        "weights": weights and str(weights),
        "inputs": list(inputs),
        "until": until,
        "outputs": outputs,
        # left out where they are not needed: an old pycaffe does not take them
        "state": {k: v for k, v in (("level", state.level), ("stages", state.stages)) if v},
    }
    (folder / "job.json").write_text(json.dumps(job))
    np.savez(folder / "inputs.npz", *inputs.values())


class Child:
    """``caffe_child.py`` in another Python: a process that answers each job by an empty line.

    Args:
        python: that Python.
        arguments: of ``caffe_child.py``.
        timeout: seconds until it is said that there is no answer.

    Raises:
        ResNetProtoError: the Python does not run.
    """

    def __init__(self, python: str, *arguments: str, timeout: float) -> None:
        self.python = python
        self.timeout = timeout
        self.talk = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe could be full
        try:
            self.process = subprocess.Popen(
                [python, str(CHILD), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.talk,
                env={"GLOG_minloglevel": "2", **os.environ},
                start_new_session=True,  # so that its forks end with it
            )
        except OSError as error:
            self.talk.close()
            raise ResNetProtoError(f"{python}: cannot be run: {error.strerror}") from None

    def ask(self) -> None:
        """Give it a line; if it has ended, the answer will tell."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()

    def answers(self, end: float) -> bool:
        """Wait for an answer until ``end`` of ``time.monotonic``; false if it gives none any more.

        Raises:
            ResNetProtoError: the time is up.
        """
        assert self.process.stdout is not None
        poll = select.poll()  # unlike select it takes a file of any number
        poll.register(self.process.stdout, select.POLLIN)
        if not poll.poll(1000 * max(0.0, end - time.monotonic())):
            raise ResNetProtoError(
                f"Caffe in {self.python} did not end within {self.timeout:g} s"
            ) from None
        return os.read(self.process.stdout.fileno(), 1) == b"\n"

    def status(self) -> int:
        """How it has ended; 0 if it has not."""
        try:
            return self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return 0

    def no_caffe(self) -> ResNetProtoError:
        """Why it did not even begin."""
        if not (status := self.status()):
            return ResNetProtoError(
                f"{self.python} is not a Python that can `import caffe`: it did nothing"
            )
        self.talk.seek(0)
        talk = self.talk.read().decode(errors="replace")
        return ResNetProtoError(
            f"{self.python}: cannot run Caffe (status {status}): {reason(talk)}"
        )

    def close(self) -> None:
        """End it, and its forks with it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.talk.close()


def run_jobs(python: str, folders: Sequence[Path], timeout: float = TIMEOUT) -> None:
    """Have the Caffe of another Python do jobs, one after the other, each in a fork of its own.

    Raises:
        ResNetProtoError: that Python does not run, has no Caffe, or takes too long.
    """
    end = time.monotonic() + timeout
    with closing(Child(python, *map(str, folders), timeout=timeout)) as child:
        for folder in folders:
            if not child.answers(end) or not (folder / "exit").exists():
                raise child.no_caffe()


def read_job(folder: Path) -> dict[str, Array]:
    """The blobs of a job that is done.

    Raises:
        ResNetProtoError: Caffe refused it; the message is Caffe's.
    """
    try:
        status = int((folder / "exit").read_text())
    except (OSError, ValueError) as error:
        raise ResNetProtoError(f"Caffe's answer cannot be read: {error}") from None
    if status:
        raise refusal(folder, status)
    return read_blobs(folder)


def read_blobs(folder: Path) -> dict[str, Array]:
    """The blobs that Caffe has written down.

    Raises:
        ResNetProtoError: they cannot be read.
    """
    import numpy as np

    try:
        names = json.loads((folder / "blobs.json").read_text())
        with (folder / "blobs.npz").open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            return {name: arrays[f"arr_{i}"] for i, name in enumerate(names)}
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        raise ResNetProtoError(f"Caffe's answer cannot be read: {error}") from None


def refusal(folder: Path, status: int) -> ResNetProtoError:
    """Why Caffe ended, in its own words."""
    try:
        log = (folder / "log").read_text(errors="replace")
    except OSError as error:
        return ResNetProtoError(f"Caffe's answer cannot be read: {error}")
    return ResNetProtoError(f"Caffe refuses the net: {caffe_words(log, status)}")


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


class Caffe(Running):
    """The real Caffe, in another Python: a process that keeps the net open.

    A blob whose memory a later layer has overwritten under another name is left out. Caffe ends
    its process when it refuses something; so the first refusal is the end.
    """

    engine = "caffe"
    reads_files = True

    def _open(self) -> None:
        job = self.job
        python = job.caffe_python or os.environ.get("CAFFE_PYTHON")
        if not python:
            raise ResNetProtoError(
                "engine 'caffe' runs in a Python of its own, one that can `import caffe`; "
                "name it with --caffe-python or CAFFE_PYTHON; `make oracles` in a clone makes one"
            )
        self._folder = self._stack.enter_context(scratch())
        self._lost: set[str] = set()
        with suppress(NetError):  # in Caffe it runs
            self._lost.update(overwritten(job.net.reaching(job.outputs, job.until).layers))
        with written(self._folder):
            self._files = job.files(self._folder)
            self._write({})
        child = Child(python, "--open", str(self._folder), timeout=job.timeout)
        self._child = self._stack.enter_context(closing(child))
        self._wait()

    def _write(self, inputs: Mapping[str, Array]) -> None:
        job = self.job
        write_job(self._folder, *self._files, inputs, job.until, job.net.state, job.outputs)

    def _wait(self) -> None:
        """Wait for the next answer.

        Raises:
            ResNetProtoError: there is none.
        """
        if self._child.answers(time.monotonic() + self.job.timeout):
            return
        status = self._child.status()
        if not status or not (self._folder / "log").exists():
            raise self._child.no_caffe()
        if status in (-signal.SIGKILL, -signal.SIGTERM):
            raise ResNetProtoError(
                f"Caffe's process was ended by {signal.Signals(-status).name}, from outside; "
                "was there enough memory? start the engine again"
            )
        raise refusal(self._folder, status)

    def _prepare(self, net: Net, given: Mapping[str, Shape]) -> tuple[Net, Schedule]:
        return net, self._schedule(net, given)

    def _run(self, sized: tuple[Net, Schedule], inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = every_input(*sized, inputs)
        try:
            with written(self._folder):
                self._write(given)
            self._child.ask()
            self._wait()
            blobs = read_blobs(self._folder)
        except BaseException:  # an answer that comes later would be another one's
            self.close()
            raise
        return {name: value for name, value in blobs.items() if name not in self._lost}


class OpenCV(Running):
    """OpenCV's own importer and layers.

    It knows layers, not blobs: a blob is what its last layer gives, and layers that the
    importer drops are left out. It joins layers only where nobody asks for a blob that a layer but
    a Softmax reads: of a joined one it would give its successor's blob, or none.
    """

    engine = "opencv"
    reads_files = True

    def _open(self) -> None:
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
        self._error = cv2.error
        shown, asked = cut(self.job.net, self.job.outputs, self.job.until)
        names = labels(layer.name for layer in shown.layers)
        writers = {
            top: label
            for layer, label in zip(shown.layers, names, strict=True)
            for top in layer.tops[:1]
            if top in asked
        }
        joined = {
            name
            for layer in self.job.net.upgraded().filtered().layers
            for name in layer.bottoms
            if layer.type != "Softmax" and name not in layer.tops
        }
        joins = not self.exact and joined.isdisjoint(asked)
        with self._refused():
            with scratch() as folder:
                # it cannot read double_data
                files = self.job.files(folder, ["float32"], plain=True)
                self._net = cv2.dnn.readNetFromCaffe(*map(str, files))
            self._net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
            self._net.enableFusion(joins)
            self._net.enableWinograd(False)  # its rounding is ten times a plain convolution's
            known = set(self._net.getLayerNames())
        self._wanted = {blob: layer for blob, layer in writers.items() if layer in known}

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise ResNetProtoError(f"OpenCV refuses the net: {error.err or error}") from None

    def _prepare(self, net: Net, given: Mapping[str, Shape]) -> tuple[Net, Schedule]:
        return net, self._schedule(net, given)

    def _run(self, sized: tuple[Net, Schedule], inputs: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        with self._refused():
            for blob, value in every_input(*sized, inputs).items():
                self._net.setInput(np.ascontiguousarray(value, np.float32), blob)
            wanted = self._wanted
            values = self._net.forward(list(wanted.values())) if wanted else ()
        return {blob: np.array(value) for blob, value in zip(wanted, values, strict=True)}


def onnxruntime() -> Any:
    """The package. It sends nothing to its makers, unless the user has said so before.

    From 1.32 on it does so by itself (its ``Privacy.md``), beginning with the import.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


class OnnxRuntime(Running):
    """The net as ONNX in onnxruntime, on the CPU.

    Where it is not ``exact`` the model takes any batch, and images of any size if the net does and
    one graph is right for all; else there is a model for each size.
    """

    engine = "onnxruntime"

    def _open(self) -> None:
        try:
            self._module = onnxruntime()
        except ImportError:
            raise ResNetProtoError(
                "engine 'onnxruntime' needs onnx and onnxruntime: pip install 'resnet-proto[onnx]'"
            ) from None

    def _prepare(self, net: Net, given: Mapping[str, Shape]) -> tuple[Net, Schedule, Any]:
        schedule = self._schedule(net, given)
        for *_, session in self._sizes.values():
            if takes(session, schedule):
                return net, schedule, session
        return net, schedule, self._session(net, schedule)

    def _session(self, net: Net, schedule: Schedule) -> Any:
        """A model of the net, loaded."""
        levels = self._module.GraphOptimizationLevel
        options = self._module.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised as well
        if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
            options.intra_op_num_threads = int(threads)  # it does not look there itself
        if self.exact:  # each node runs as it is written, none is joined with another
            options.graph_optimization_level = levels.ORT_DISABLE_ALL
        model = self._model(net, schedule)
        try:
            return self._module.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no class in common
            raise ResNetProtoError(f"onnxruntime refuses the net: {error}") from None

    def _model(self, net: Net, schedule: Schedule) -> Any:
        """The net as ONNX, as much of its size left open as can be."""
        from resnet_proto.formats.onnx import to_onnx

        job, wanted, shapes = self.job, schedule.wanted, schedule.shapes
        if self.exact:
            net = net.upgraded().filtered()
            if job.until is not None:
                net = net.until((job.until,))
            return to_onnx(net, job.weights, outputs=wanted, shapes=shapes)
        shown, weights = lighter(job, net, shapes)
        for dynamic in ("size", "batch"):
            with suppress(NetError):  # another size would be another graph
                return to_onnx(shown, weights, outputs=wanted, shapes=shapes, dynamic=dynamic)
        return to_onnx(shown, weights, outputs=wanted, shapes=shapes)

    def _run(
        self, sized: tuple[Net, Schedule, Any], inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        net, schedule, session = sized
        arrays = check_inputs(net, schedule, inputs, "float32")
        names = [value.name for value in session.get_inputs()]
        try:
            values = session.run(
                list(schedule.wanted), dict(zip(names, arrays.values(), strict=True))
            )
        except Exception as error:  # its errors have no class in common
            raise ResNetProtoError(f"onnxruntime refuses the net: {error}") from None
        return dict(zip(schedule.wanted, values, strict=True))


def takes(session: Any, schedule: Schedule) -> bool:
    """Whether a model takes inputs of these shapes; a size of it that is open is no number."""
    shapes = [value.shape for value in session.get_inputs()]
    wanted = schedule.inputs.values()
    return all(
        len(own) == len(shape)
        and all(not isinstance(a, int) or a == b for a, b in zip(own, shape, strict=True))
        for own, shape in zip(shapes, wanted, strict=True)
    )


class Torch(Running):
    """PyTorch's functions, on the CPU."""

    engine = "torch"

    def _open(self) -> None:
        try:
            import torch
        except ImportError:
            raise ResNetProtoError(
                "engine 'torch' needs PyTorch: pip install 'resnet-proto[torch]'"
            ) from None
        self._torch = torch
        self._module: Any = None

    def _prepare(self, net: Net, given: Mapping[str, Shape]) -> tuple[Net, Schedule]:
        schedule = self._schedule(net, given)
        if self._module is None:
            from resnet_proto.engine.torch_module import CaffeNet

            if self.exact:
                self._module = CaffeNet(schedule, self.job.weights).eval()
            else:
                shown, weights = lighter(self.job, net, given)
                self._module = CaffeNet(self._schedule(shown, given), weights).eval()
        return net, schedule

    def _run(self, sized: tuple[Net, Schedule], inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = check_inputs(*sized, inputs, "float32")
        with self._torch.inference_mode():
            blobs = self._module(*map(self._torch.tensor, arrays.values()))
        return {name: value.detach().numpy() for name, value in blobs.items()}
