"""A task for the workers of a test: sums that depend on their order, and ways to end."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnet_proto.errors import ResNetProtoError

MATRIX = np.random.default_rng(1).normal(size=(37, 501)).astype("f4")
"""OpenBLAS rounds products with it in one way with one thread, in another with two."""


@dataclass
class Sums:
    """Counts and sums of pseudo-random items; ``folder`` gets a line for each shard that is begun.

    ``at`` names the shard at which ``how`` happens; ``once``, only the first time. From shard
    ``stop`` on all wait for a file ``go`` in the folder: until then no more than ``stop`` are done.
    """

    folder: Path
    at: int = -1
    how: str = ""
    once: bool = False
    pause: float = 0.0
    stop: int = 1 << 30
    digest: str = "sums: 1"
    ready: bool = field(default=False)

    def note(self, text):
        with (self.folder / "notes").open("a") as file:
            file.write(f"{text}\n")

    def prepare(self):
        assert not self.ready
        self.ready = True
        self.note(f"prepare {os.getpid()}")
        if self.how == "missing":
            raise ResNetProtoError("/data/val.txt: cannot be read: No such file or directory")

    def run(self, shard):
        assert self.ready
        self.note(f"{shard.index} {os.getpid()}")
        time.sleep(self.pause)
        while shard.index >= self.stop and not (self.folder / "go").exists():
            time.sleep(0.01)
        flag = self.folder / "ended"
        if shard.index == self.at and not (self.once and flag.exists()):
            flag.touch()
            self.end()
        rng = np.random.default_rng(shard.index)
        values = rng.normal(size=(shard.stop - shard.start, 3)) * 10.0 ** rng.integers(-9, 9)
        product = MATRIX @ rng.normal(size=(501, 300)).astype("f4")
        return {"positive": (values > 0).sum(0), "sum": values.sum(0), "product": product}

    def end(self):
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "refuse":
            raise ResNetProtoError("7.png: no image")
        elif self.how == "bug":
            raise LookupError("no such key")
        elif self.how == "hang":
            time.sleep(600)


def notes(folder, kind=""):
    """What the workers noted: (what, pid) for each line."""
    lines = (folder / "notes").read_text().splitlines()
    return [tuple(line.split()) for line in lines if line.startswith(kind)]


def same(one, two):
    """Whether two lists of results are the same, to the bit."""

    def flat(results):
        return [
            [(k, v.dtype.str, v.shape, v.tobytes()) for k, v in sorted(result.items())]
            for result in results
        ]  # fmt: skip

    return flat(one) == flat(two)


@dataclass
class Threads:
    """How many threads this process has after a run of the digits net in an engine."""

    engine: str
    digest: str = "threads: 1"

    def prepare(self):
        from resnet_proto import load, read_prototxt
        from resnet_proto.engine import start

        digits = Path(__file__).parents[2] / "examples" / "digits"
        net = read_prototxt((digits / "deploy.prototxt").read_text())
        weights = load(digits / "digits.caffemodel")
        self.running = start(self.engine, net, weights, outputs=["prob"])

    def run(self, shard):
        prob = self.running.run({"data": np.zeros((64, 1, 8, 8), "f4")})["prob"]
        assert prob.shape[0] == 64
        return {"threads": np.array(len(list(Path("/proc/self/task").iterdir())))}
