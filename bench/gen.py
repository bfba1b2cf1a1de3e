"""How long ``resnet-proto gen`` takes, against its imports, and how it grows with depth.

    python bench/gen.py [--rounds 21]

Whole processes in turn (A B A B ...), compiled bytecode in place; medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

from resnet_proto.build import deploy_net
from resnet_proto.build.deploy import drawn
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.spec import ResNetSpec

MAIN = "from resnet_proto.cli import main; main()"
COMMANDS = {
    'python -c "import click, jinja2"': ["-c", "import click, jinja2"],
    "resnet-proto --help": ["-c", MAIN, "--help"],
    "resnet-proto gen --depth 152": ["-c", MAIN, "gen", "--depth", "152"],
}


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def processes(rounds: int) -> None:
    """Whole processes, interleaved."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(rounds + 1):
            for name, arguments in COMMANDS.items():

                def run(arguments: list[str] = arguments) -> None:
                    subprocess.run(
                        [sys.executable, *arguments],
                        cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL,
                    )  # fmt: skip

                took = seconds(run)
                if i:  # the first round warms the caches
                    times[name].append(took)
    base = median(next(iter(times.values())))
    print(f"| whole process, median of {rounds} | ms | ratio |\n|---|---:|---:|")
    for name, values in times.items():
        print(f"| `{name}` | {1e3 * median(values):.1f} | {median(values) / base:.2f} |")


def build_write_read(spec: ResNetSpec) -> tuple[float, float, float]:
    """Seconds of the three steps."""
    drawn.cache_clear()
    build = seconds(lambda: deploy_net(spec))
    net = deploy_net(spec)
    text = to_prototxt(net)
    return build, seconds(lambda: to_prototxt(net)), seconds(lambda: read_prototxt(text))


def depths(rounds: int) -> None:
    """Build, write and read nets of growing depth."""
    print("\n| layers with weights | build ms | write ms | read ms | us a layer |")
    print("|---:|---:|---:|---:|---:|")
    for units in (6, 25, 50, 100, 200, 400):
        spec = ResNetSpec("bench", (units,) * 4, "bottleneck")
        times = [build_write_read(spec) for _ in range(rounds)]
        build, write, read = (1e3 * median(column) for column in zip(*times, strict=True))
        per_layer = 1e3 * (build + write + read) / spec.depth
        print(f"| {spec.depth:,} | {build:.1f} | {write:.1f} | {read:.1f} | {per_layer:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    processes(rounds)
    depths(max(3, rounds // 4))
