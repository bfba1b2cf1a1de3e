"""How many images per second each engine takes that stays open, and how long it takes to open.

    python bench/engines.py [--net resnet-50 ...] [--images 8] [--many 1000] [--rounds 9]
                            [--threads 2] [--engine numpy ...]

Each engine is a process of its own, which reads the same prototxt and caffemodel, opens the engine
(``engine.start``) and waits. In each round every engine runs the same batch, in turn: once to warm
up and once by the clock; medians. *Start* is all until the engine is open, from the imports on.
Caffe is that of ``CAFFE_PYTHON``, or of ``make oracles``.

A preset has random weights. ``digits`` is the net in examples/digits, with 256 images of 8x8 in a
batch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits"
CAFFE = ROOT / ".oracles" / "caffe" / "bin" / "python"
PAUSE = 0.05
"""Seconds between two engines: idle threads spin for a while, and would slow the next."""
CHILD = """
import sys, time
begin = time.perf_counter()
from pathlib import Path
import numpy as np
from resnet_proto import load, read_prototxt
from resnet_proto.engine import start

engine, text, model, images, output, python, threads = sys.argv[1:]
if engine == "opencv":
    import cv2
    cv2.setNumThreads(int(threads))
elif engine == "torch":
    import torch
    torch.set_num_threads(int(threads))
x = np.load(images)
net, weights = read_prototxt(Path(text)), load(Path(model))
((blob, _),) = net.inputs().items()
with start(engine, net, weights, outputs=[output], net_file=Path(text), weights_file=Path(model),
           caffe_python=python) as running:
    print(time.perf_counter() - begin, flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        running.run({blob: x})
        print(time.perf_counter() - begin, flush=True)
"""


def prepare(name: str, images: int, folder: Path) -> tuple[Path, Path, Path, str]:
    """Prototxt, caffemodel, images and the name of the scores."""
    import numpy as np

    from resnet_proto import PRESETS, deploy_net, random_weights, read_prototxt, save, to_prototxt

    text, model = folder / "net.prototxt", folder / "net.caffemodel"
    if name == "digits":
        text, model = DIGITS / "deploy.prototxt", DIGITS / "digits.caffemodel"
        net: Any = read_prototxt(text)
        images = 256
    else:
        net = deploy_net(PRESETS[name].spec)
        text.write_text(to_prototxt(net))
        save(model, random_weights(net), net)
    ((_, shape),) = net.inputs().items()
    x = np.random.default_rng(1).uniform(-1, 1, (images, *shape[1:])).astype("float32")
    np.save(folder / "x.npy", x)
    return text, model, folder / "x.npy", net.layers[-1].tops[0]


class Timer:
    """An engine in a process, with the seconds that each of its runs took."""

    def __init__(self, command: list[str], stack: ExitStack) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.child: Any = subprocess.Popen(command, text=True, **pipes)
        stack.callback(self.child.wait)
        stack.callback(self.child.stdin.close)
        self.times: list[float] = []
        answer = self.child.stdout.readline()
        self.start = float(answer) if answer else None

    def refusal(self) -> str:
        """Why it did not begin."""
        lines = self.child.stderr.read().strip().splitlines()
        return lines[-1] if lines else "nothing was said"

    def run(self) -> float:
        """Once."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline())


def measure(name: str, options: argparse.Namespace) -> None:
    """The table of one net."""
    import numpy as np

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        text, model, images, output = prepare(name, options.images, folder)
        shape = np.load(images).shape
        python = os.environ.get("CAFFE_PYTHON") or str(CAFFE)
        timers: dict[str, Timer] = {}
        for engine in options.engine:
            files = [str(path) for path in (text, model, images)]
            arguments = [engine, *files, output, python, str(options.threads)]
            timer = Timer([sys.executable, "-c", CHILD, *arguments], stack)
            if timer.start is None:
                print(f"{engine} is left out: {timer.refusal()}")
            else:
                timers[engine] = timer
        for _ in range(options.rounds):
            for timer in timers.values():
                time.sleep(PAUSE)
                timer.run()  # wakes threads, fills the caches that the last engine emptied
                timer.times.append(timer.run())
        print(
            f"{name}, batches of {'x'.join(map(str, shape))}, {options.threads} threads, median of "
            f"{options.rounds} interleaved rounds; load {os.getloadavg()[0]:.1f}\n"
        )
        print(
            "| engine | images/s | best | start, s "
            f"| images/s of {options.many:,}, with the start |\n|---|---:|---:|---:|---:|"
        )
        for engine, timer in timers.items():
            assert timer.start is not None
            rate = shape[0] / median(timer.times)
            print(
                f"| `{engine}` | {rate:,.1f} | {shape[0] / min(timer.times):,.1f} "
                f"| {timer.start:.2f} | {options.many / (timer.start + options.many / rate):,.1f} |"
            )
        print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", default=["resnet-50", "digits"])
    parser.add_argument("--images", type=int, default=8, help="in a batch")
    parser.add_argument("--many", type=int, default=1000, help="images after one start")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--engine",
        nargs="+",
        default=["numpy", "float64", "onnxruntime", "opencv", "torch", "caffe"],
    )
    arguments = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when a BLAS is loaded
        os.environ[variable] = str(arguments.threads)
    for net_name in arguments.net:
        measure(net_name, arguments)
