"""How long a forward pass takes: ours, the engines people use, and the matrix products alone.

    python bench/forward.py [--net resnet-50] [--images 1] [--rounds 15] [--threads 2]

Every engine runs in each round, in turn, with the same input, weights and number of threads:
once to warm up and once by the clock; medians. The real Caffe runs in a child process
(CAFFE_PYTHON, or ``make oracles``). ``--onnx FILE`` adds a model in onnxruntime (of the same
net, or the ratio says nothing).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

CAFFE_CHILD = """
import os, sys, time
import caffe
import numpy as np
net = caffe.Net(sys.argv[1], caffe.TEST)
arrays = np.load(sys.argv[2])
for layer, blobs in net.params.items():
    for i, blob in enumerate(blobs):
        blob.data[...] = arrays["%s/%d" % (layer, i)]
net.blobs[net.inputs[0]].data[...] = arrays["input"]
sys.stdout.write("ready\\n")
sys.stdout.flush()
for line in iter(sys.stdin.readline, ""):
    start = time.perf_counter()
    net.forward()
    sys.stdout.write("%r\\n" % (time.perf_counter() - start))
    sys.stdout.flush()
"""
PAUSE = 0.05
"""Seconds between two engines: OpenBLAS' idle threads spin for a while, and would slow the next."""
Array = Any
Timer = Callable[[], float]
"""Runs once, gives seconds."""


def timed(call: Callable[[], object]) -> Timer:
    def run() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return run


def read(name: str, images: int) -> Any:
    """A preset or a file, for this many images."""
    from resnet_proto.build import deploy_net
    from resnet_proto.layers import make_layer
    from resnet_proto.presets import PRESETS

    if name in PRESETS:
        net = deploy_net(PRESETS[name].spec).upgraded()
    else:
        from resnet_proto.prototxt import read_prototxt

        net = read_prototxt(Path(name)).upgraded()
    shapes = net.inputs()
    if len(shapes) != 1:
        raise SystemExit(f"one input is needed, {name} has {', '.join(shapes)}")
    ((blob, shape),) = shapes.items()
    fields = {"input_param": {"shape": ({"dim": (images, *shape[1:])},)}}
    data = make_layer("input", "Input", (), (blob,), fields)
    return replace(net, layers=(data, *(x for x in net.layers if x.type != "Input")))


def random_weights(net: Any) -> dict[str, Array]:
    """Of sensible scale, so that no value overflows or is denormal."""
    import numpy as np

    rng = np.random.default_rng(0)
    weights = {}
    for step in net.walk():
        for name, shape in step.blobs.items():
            values = rng.normal(size=shape) * (2 / max(1, np.prod(shape[1:]))) ** 0.5
            if len(shape) == 1:
                values = rng.uniform(0.5, 1, shape)
            weights[f"{step.label}.{name}"] = values.astype("float32")
    return weights


def products(net: Any) -> Timer:
    """Numpy's float32 matrix products of the net's convolutions and inner products."""
    import numpy as np

    rng = np.random.default_rng(0)
    calls = []
    for step in net.walk():
        if step.layer.type in ("Convolution", "InnerProduct"):
            weight = step.blobs["weight"]
            outputs, inner = weight[0], int(np.prod(weight[1:]))
            pixels = step.macs // (outputs * inner)
            x = rng.random((pixels, inner), "float32")
            w = rng.random((outputs, inner), "float32")
            calls.append((x, w.T, np.empty((pixels, outputs), "float32")))
    return timed(lambda: [np.matmul(x, w, out=out) for x, w, out in calls])


@contextmanager
def caffe(net: Any, weights: Mapping[str, Array], x: Array, folder: Path) -> Iterator[Timer]:
    """The real Caffe in a child; it takes its threads from the environment."""
    import numpy as np

    from resnet_proto.prototxt import to_prototxt

    own = Path(__file__).parents[1] / ".oracles" / "caffe" / "bin" / "python"
    python = os.environ.get("CAFFE_PYTHON") or str(own)
    if not Path(python).exists():
        raise LookupError("set CAFFE_PYTHON, or run make oracles")
    arrays = {
        f"{step.label}/{i}": weights[f"{step.label}.{name}"]
        for step in net.walk()
        for i, name in enumerate(step.blobs)
    }
    np.savez(folder / "weights.npz", input=x, **arrays)
    (folder / "net.prototxt").write_text(to_prototxt(net))
    command = [python, "-c", CAFFE_CHILD, "net.prototxt", "weights.npz"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "GLOG_minloglevel": "2"}
    child = subprocess.Popen(command, text=True, cwd=folder, env=environment, **pipes)
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        stdin, stdout = child.stdin, child.stdout

        def run() -> float:
            stdin.write("run\n")
            stdin.flush()
            return float(stdout.readline())

        yield run
        stdin.close()


@contextmanager
def opencv(
    net: Any, weights: Mapping[str, Array], x: Array, folder: Path, threads: int
) -> Iterator[Timer]:
    """OpenCV's DNN module, version 4: the last with a Caffe importer."""
    import cv2

    from resnet_proto.formats import save
    from resnet_proto.prototxt import to_prototxt

    cv2.setNumThreads(threads)
    text = folder / "opencv.prototxt"
    text.write_text(to_prototxt(net))
    save(folder / "net.caffemodel", weights, net)
    model = cv2.dnn.readNetFromCaffe(str(text), str(folder / "net.caffemodel"))
    model.setInput(x)
    yield timed(model.forward)


@contextmanager
def onnxruntime(file: str, threads: int) -> Iterator[Timer]:
    """A model of the user's, on random input."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    x = np.random.default_rng(0).random(shape, "float32")
    yield timed(lambda: session.run(None, {given.name: x}))


def main(options: argparse.Namespace) -> None:
    import numpy as np

    from resnet_proto.engine import plain
    from resnet_proto.engine.planned import Plan

    net = read(options.net, options.images)
    weights = random_weights(net)
    ((blob, shape),) = net.inputs().items()
    x = np.random.default_rng(1).uniform(-1, 1, shape).astype("float32")
    last = list(net.walk())[-1].layer.tops
    plan = Plan(net, weights)
    timers = {
        "ours, planned": timed(lambda: plan.run(x, last)),
        "numpy's matrix products alone": products(net),
    }
    every = Plan(net, weights)
    timers["ours, planned, every blob"] = timed(lambda: every.run(x))
    timers["ours, plain"] = timed(lambda: plain.forward(net, weights, x, outputs=last))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        others = {
            "the real Caffe": lambda: caffe(net, weights, x, folder),
            "OpenCV DNN": lambda: opencv(net, weights, x, folder, options.threads),
        }
        if options.onnx:
            others[f"onnxruntime, {Path(options.onnx).name}"] = lambda: onnxruntime(
                options.onnx, options.threads
            )
        for name, start in others.items():
            try:
                timers[name] = stack.enter_context(start())
            except (ImportError, LookupError) as reason:
                print(f"{name} is left out: {reason}")
        times: dict[str, list[float]] = {name: [] for name in timers}
        for _ in range(options.rounds):
            for name, timer in timers.items():
                time.sleep(PAUSE)
                timer()  # plans, wakes threads, fills the caches that the last engine emptied
                times[name].append(timer())
    print(
        f"{options.net}, {blob} {'x'.join(map(str, shape))}, {options.threads} threads, "
        f"median of {options.rounds} interleaved rounds\n"
    )
    base = median(times["ours, planned"])
    print("| engine | ms | best ms | ours, planned / it |\n|---|---:|---:|---:|")
    for name, values in times.items():
        print(
            f"| {name} | {1e3 * median(values):.1f} | {1e3 * min(values):.1f} "
            f"| {base / median(values):.2f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="resnet-50", help="a preset, or a prototxt")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--onnx", help="a model for onnxruntime")
    arguments = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when a BLAS is loaded
        os.environ[variable] = str(arguments.threads)
    main(arguments)
