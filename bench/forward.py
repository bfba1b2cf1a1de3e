"""How long a forward pass takes: ours, the engines people use, and the matrix products alone.

    python bench/forward.py [--net resnet-50 ...] [--images 1 8 ...] [--rounds 15] [--threads 2]

Every engine runs in each round, in turn, with the same input, weights and number of threads:
once to warm up and once by the clock; medians. The real Caffe runs in a child process
(CAFFE_PYTHON, or ``make oracles``), and so does what says how long it takes to get ready, and
how much memory of its own (RssAnon) a process has at most. onnxruntime runs our conversion with all
its optimizations; ``--onnx FILE`` another model (of the same net, or the ratio says nothing).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
READY_CHILD = """
import sys, threading, time
import numpy as np
from pathlib import Path
from resnet_proto.engine.planned import Plan
from resnet_proto.formats import load
from resnet_proto.prototxt import read_prototxt

def anon():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

def watch():
    while not done.wait(0.001):
        most.append(anon())

watches, prototxt, model, inputs, *outputs = sys.argv[1:]
x = np.load(inputs)
before, most, done = anon(), [], threading.Event()
watcher = threading.Thread(target=watch)
if watches == "watch":
    watcher.start()
start = time.perf_counter()
net = read_prototxt(Path(prototxt))
plan = Plan(net, load(Path(model)))
plan.prepare(outputs)
ready = time.perf_counter() - start
plan.run(x, outputs)
done.set()
print(ready, max([*most, anon()]) - before)
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
def onnxruntime(model: Any, threads: int, x: Array | None = None) -> Iterator[Timer]:
    """A model's file or bytes, on ``x`` or on random input."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    if x is None:
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        x = np.random.default_rng(0).random(shape, "float32")
    yield timed(lambda: session.run(None, {given.name: x}))


def converted(net: Any, weights: Mapping[str, Array], outputs: Sequence[str]) -> bytes:
    """The net as ONNX."""
    from resnet_proto.formats.onnx import to_onnx

    return bytes(to_onnx(net, weights, outputs=outputs).SerializeToString())


def floor_bytes(net: Any) -> tuple[int, int, int]:
    """Bytes of the weights, the largest bottoms and tops of a layer, and the largest im2col."""
    import numpy as np

    weights = pair = columns = 0
    for step in net.walk():
        weights += 4 * sum(int(np.prod(shape)) for shape in step.blobs.values())
        blobs = {*zip(step.layer.bottoms, step.bottoms, strict=True)}
        blobs |= {*zip(step.layer.tops, step.tops, strict=True)}
        pair = max(pair, 4 * sum(int(np.prod(shape)) for _, shape in blobs))
        if step.layer.type == "Convolution":
            inner = int(np.prod(step.blobs["weight"][1:]))
            columns = max(columns, 4 * inner * int(np.prod(step.tops[0][2:])))
    return weights, pair, columns


def print_ready(net: Any, weights: Any, x: Array, outputs: Sequence[str], folder: Path) -> None:
    """Time to read and plan, median of 5 processes; the most memory until a run ends, of one."""
    import numpy as np

    from resnet_proto.formats import save
    from resnet_proto.prototxt import to_prototxt

    (folder / "net.prototxt").write_text(to_prototxt(net))
    save(folder / "net.caffemodel", weights, net)
    np.save(folder / "x.npy", x)
    files = [str(folder / name) for name in ("net.prototxt", "net.caffemodel", "x.npy")]

    def run(watches: str) -> tuple[float, float]:
        command = [sys.executable, "-c", READY_CHILD, watches, *files, *outputs]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        ready, anon = done.stdout.split()
        return float(ready), float(anon) / 1e3

    times = [run("")[0] for _ in range(5)]
    _, most = run("watch")
    parts = floor_bytes(net)
    words = " + ".join(f"{size / 1e6:.0f}" for size in parts)
    print(
        f"\nread net and weights, and plan: {1e3 * median(times):.0f} ms "
        f"(best {1e3 * min(times):.0f})\nmost anonymous memory: {most:.0f} MB, "
        f"{most / sum(parts) * 1e6:.2f} x (weights + bottoms and tops of a layer + im2col of "
        f"one image: {words} MB)"
    )


def print_difference(plan: Any, net: Any, weights: Any, x: Array) -> None:
    """How far the planned pass is from the plain one, on every blob."""
    from resnet_proto.engine import plain
    from resnet_proto.engine.compare import compare

    rows = list(compare(plan.run(x), plain.forward(net, weights, x)))
    worst = max(rows, key=lambda row: row.distance)
    print(
        f"planned against plain: {len(rows)} blobs, the worst {worst.distance:.1e} ({worst.blob})"
    )


def measure(name: str, images: int, options: argparse.Namespace) -> None:
    """The table of one net and batch."""
    import numpy as np

    from resnet_proto.engine import plain
    from resnet_proto.engine.planned import Plan

    net = read(name, images)
    weights = random_weights(net)
    ((blob, shape),) = net.inputs().items()
    x = np.random.default_rng(1).uniform(-1, 1, shape).astype("float32")
    last = list(net.walk())[-1].layer.tops
    plan, every = Plan(net, weights), Plan(net, weights)
    timers = {
        "ours, planned": timed(lambda: plan.run(x, last)),
        "numpy's matrix products alone": products(net),
        "ours, planned, every blob": timed(lambda: every.run(x)),
        "ours, plain": timed(lambda: plain.forward(net, weights, x, outputs=last)),
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        threads = options.threads
        others = {
            "the real Caffe": lambda: caffe(net, weights, x, folder),
            "OpenCV DNN": lambda: opencv(net, weights, x, folder, threads),
            "onnxruntime": lambda: onnxruntime(converted(net, weights, last), threads, x),
        }
        if options.onnx:
            others[f"onnxruntime, {Path(options.onnx).name}"] = lambda: onnxruntime(
                options.onnx, threads
            )
        for engine, start in others.items():
            try:
                timers[engine] = stack.enter_context(start())
            except (ImportError, LookupError) as reason:
                print(f"{engine} is left out: {reason}")
        times: dict[str, list[float]] = {engine: [] for engine in timers}
        for _ in range(options.rounds):
            for engine, timer in timers.items():
                time.sleep(PAUSE)
                timer()  # plans, wakes threads, fills the caches that the last engine emptied
                times[engine].append(timer())
        print(
            f"{name}, {blob} {'x'.join(map(str, shape))}, {threads} threads, "
            f"median of {options.rounds} interleaved rounds\n"
        )
        base = median(times["ours, planned"])
        print("| engine | ms | best ms | ours, planned / it |\n|---|---:|---:|---:|")
        for engine, values in times.items():
            print(
                f"| {engine} | {1e3 * median(values):.1f} | {1e3 * min(values):.1f} "
                f"| {base / median(values):.2f} |"
            )
        print_ready(net, weights, x, last, folder)
        print_difference(every, net, weights, x)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--net", nargs="+", default=["resnet-50", "resnet-152"], help="presets, or prototxt files"
    )
    parser.add_argument("--images", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--onnx", help="a model for onnxruntime")
    arguments = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when a BLAS is loaded
        os.environ[variable] = str(arguments.threads)
    for net_name in arguments.net:
        for n_images in arguments.images:
            measure(net_name, n_images, arguments)
            print()
