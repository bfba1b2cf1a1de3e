"""What work in shards costs: seconds against images, with 1 process and with 2.

    python bench/shards.py [--images 2000 4000 8000 16000 32000] [--rounds 3] [--net resnet-50]

First the digits net of ``examples/``, on scikit-learn's digits over and over: a net so small that
what is not the net's work shows. Then a large net with random weights, whose images are in memory:
images a second of each engine, with one process a processor. Each time is that of ``run_shards``,
with the start of processes and the opening of nets; the line through the times has the latter
as its value at 0 images. Last, what a shard costs besides its work. All are the best of the rounds,
in which the rows take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_proto.evaluate.shards import merge, run_shards, split
from resnet_proto.evaluate.task import Shard

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
ENGINES = ("numpy", "onnxruntime")


@dataclass
class Top1:
    """How many images have the label that the net says."""

    net: str
    engine: str
    batch: int

    @property
    def digest(self) -> str:
        """All that the result depends on."""
        return f"net: {self.net}\nengine: {self.engine}\nbatch: {self.batch}"

    def prepare(self) -> None:
        """Images, labels, and the function from images to scores."""
        from resnet_proto import PRESETS, Plan, deploy_net, load, random_weights, read_prototxt

        if self.net == "digits":
            from resnet_proto.data.sources import find_images

            found = find_images("digits")
            pixels = np.stack([found.read(i) for i in range(len(found))])[:, None]
            self.images = (pixels.astype("float32") - 78) * np.float32(0.0125)
            self.labels = np.array(found.labels)
            net = read_prototxt((DIGITS / "deploy.prototxt").read_text())
            weights: Any = load(DIGITS / "digits.caffemodel")
        else:
            net = deploy_net(PRESETS[self.net].spec)
            ((_, shape),) = net.inputs().items()
            rng = np.random.default_rng(0)
            self.images = rng.normal(0, 60, (self.batch, *shape[1:])).astype("float32")
            self.labels = np.zeros(self.batch, int)
            weights = random_weights(net)
        net = net.with_input_shapes({"": (self.batch, *self.images.shape[1:])})
        ((blob, _),) = net.inputs().items()
        last = list(net.walk())[-1].layer.tops
        if self.engine == "numpy":
            plan = Plan(net, weights)
            self.scores = lambda x: plan.run({blob: x}, last)[last[0]]
        else:
            import onnxruntime

            from resnet_proto.formats.onnx import to_onnx

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            model = to_onnx(net, weights, outputs=last).SerializeToString()
            session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
            name = session.get_inputs()[0].name
            self.scores = lambda x: session.run(None, {name: x})[0]

    def run(self, shard: Shard) -> dict[str, Any]:
        """Counts of a shard; its images are whole batches."""
        right = 0
        for start in range(shard.start, shard.stop, self.batch):
            places = np.arange(start, start + self.batch) % len(self.images)
            said = self.scores(self.images[places]).reshape(self.batch, -1).argmax(1)
            right += int((said == self.labels[places]).sum())
        return {"right": np.array(right), "images": np.array(shard.stop - shard.start)}


def processor() -> float:
    """Seconds that this process and those that have ended have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(task: Top1, size: int, jobs: int, images: int) -> tuple[float, float, int]:
    """Seconds, those of the processor, and how many are right."""
    start, before = time.perf_counter(), processor()
    total = merge(run_shards(task, split(images, size), jobs=jobs))
    assert total["images"] == images
    return time.perf_counter() - start, processor() - before, int(total["right"])


def line(images: list[int], seconds: list[float]) -> str:
    """The straight line that is nearest to the times."""
    slope, start = np.polyfit(images, seconds, 1)
    off = max(abs(start + slope * n - s) / s for n, s in zip(images, seconds, strict=True))
    return f"{start:.2f} s + {1e6 * slope:.0f} us an image, no time more than {off:.1%} off"


def growth(sizes: list[int], rounds: int) -> None:
    """The table of the digits net."""
    best: dict[tuple[int, int], tuple[float, float]] = {}
    said = set()
    for _ in range(rounds):
        for images in sizes:
            for jobs in (1, 2):
                wall, used, right = measure(Top1("digits", "numpy", 50), 250, jobs, images)
                old = best.get((images, jobs), (np.inf, np.inf))
                best[images, jobs] = min(wall, old[0]), min(used, old[1])
                said.add((images, right))
    assert len(said) == len(sizes)  # any number of processes counts the same
    print("| images | 1 process, s | of the processor | 2 processes, s | of the processor |")
    print("|---:|---:|---:|---:|---:|")
    for images in sizes:
        cells = [f"{seconds:.2f}" for jobs in (1, 2) for seconds in best[images, jobs]]
        print(f"| {images:,} | {' | '.join(cells)} |")
    for jobs in (1, 2):
        for which, words in enumerate(("", ", processor")):
            times = [best[images, jobs][which] for images in sizes]
            print(f"{jobs} process{'es' * (jobs > 1)}{words}: {line(sizes, times)}")


def speed(net: str, rounds: int, jobs: int) -> None:
    """Images a second of a large net: from the difference of a short and a long run."""
    sizes = 16 * jobs, 64 * jobs
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for _ in range(rounds):
        for engine in ENGINES:
            for images in sizes:
                wall, used, _ = measure(Top1(net, engine, 8), 8, jobs, images)
                old = best.get((engine, images), (np.inf, np.inf))
                best[engine, images] = min(wall, old[0]), min(used, old[1])
    print(f"\n| {net}, {jobs} processes, batches of 8 | images/s | processor, ms an image |")
    print("|---|---:|---:|")
    for engine in ENGINES:
        long, short = np.array(best[engine, sizes[1]]), np.array(best[engine, sizes[0]])
        wall, used = (long - short) / (sizes[1] - sizes[0])
        print(f"| {engine} | {1 / wall:.1f} | {1e3 * used:.1f} |")


class Nothing:
    """A task that costs nothing, so that what is seen is the way there and back."""

    digest = "nothing: 1"

    def prepare(self) -> None:
        """Nothing."""

    def run(self, shard: Shard) -> dict[str, Any]:
        """As much as a thousand classes have: 16 KB."""
        return {"right": np.full(1000, shard.index), "sum": np.full(1000, float(shard.index))}


def overhead(count: int = 2000) -> None:
    """Milliseconds a shard, whatever is done with it: the difference of many and few."""
    print("\n| a shard of nothing | ms |\n|---|---:|")
    with ExitStack() as stack:
        ways: dict[str, dict[str, Any]] = {
            "this process": {"jobs": 1}, "2 processes": {"jobs": 2},
            "2 processes, results kept": {"jobs": 2, "folder": True},
        }  # fmt: skip
        try:
            from distributed import LocalCluster

            room = stack.enter_context(tempfile.TemporaryDirectory())
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=room
                )
            )
            ways["Dask, 2 workers"] = {"dask": cluster.scheduler_address}
        except ImportError as reason:
            print(f"Dask is left out: {reason}")
        for words, how in ways.items():
            times = []
            for n in (count // 10, count):
                with tempfile.TemporaryDirectory() as name:
                    given = how | ({"folder": Path(name) / "kept"} if "folder" in how else {})
                    start = time.perf_counter()
                    run_shards(Nothing(), split(n, 1), **given)
                    times.append(time.perf_counter() - start)
            print(f"| {words} | {1e3 * (times[1] - times[0]) / (count - count // 10):.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 4000, 8000, 16000, 32000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--net", default="resnet-50", help="a preset")
    arguments = parser.parse_args()
    growth(arguments.images, arguments.rounds)
    speed(arguments.net, arguments.rounds, len(os.sched_getaffinity(0)))
    overhead()
