"""How many images a second become an LMDB: ours, and Caffe's convert_imageset.

    python bench/data.py [--images 2000] [--rounds 3]

JPEGs of 500x375, smooth with some noise, about 60 KB each; to a shorter side of 256 (ours, 256x341)
and to 256x341 (convert_imageset, which only warps; OpenCV's INTER_LINEAR). Whole processes in turn,
the files in the page cache; the best run of each. convert_imageset, which decodes one image at a
time, is that of ``make caffe``, or the one beside ``CAFFE``.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

MAIN = [sys.executable, "-c", "from resnet_proto.cli import main; main()"]
ROWS, COLUMNS = 375, 500
DECODE = """
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from resnet_proto.data.images import Options, datum

def made(path):
    return datum(path.read_bytes(), 0, Options(resize=256), path.name)[0]

if __name__ == "__main__":
    pools = {"threads": ThreadPoolExecutor, "processes": ProcessPoolExecutor}
    with pools[sys.argv[1]](int(sys.argv[2])) as pool:
        paths = sorted(Path("photos").rglob("*.jpg"))
        assert sum(map(len, pool.map(made, paths, chunksize=8))) > 0
"""
"""Decoding and resizing alone, without the writing: what threads and processes come to."""


def images(folder: Path, count: int) -> None:
    """Write the images, in one class folder, and a list of them."""
    rng = np.random.default_rng(0)
    (folder / "photos" / "a").mkdir(parents=True)
    names = []
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = np.asarray(small.resize((COLUMNS, ROWS), Image.Resampling.BICUBIC), np.int16)
        pixels = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        names.append(f"a/{i:05}.jpg")
        Image.fromarray(pixels).save(folder / "photos" / names[-1], quality=90)
    (folder / "list.txt").write_text("".join(f"{name} 0\n" for name in names))


def processor() -> float:
    """Seconds that the processes which have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    find = ["bash", str(Path(__file__).parents[1] / "examples" / "build-caffe.sh"), "--find"]
    found = subprocess.run(find, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    caffe = os.environ.get("CAFFE") or found
    data = [*MAIN, "data", "lmdb", "list.txt", "out", "--root", "photos", "--no-shuffle"]
    shorter = ["--resize", "shorter:256"]
    commands = {
        "`data lmdb --resize shorter:256 --jobs 1`": [*data, *shorter, "--jobs", "1"],
        "`data lmdb --resize shorter:256 --jobs 2`": [*data, *shorter, "--jobs", "2"],
        "`data lmdb --encoded --jobs 2`": [*data, "--encoded", "--jobs", "2"],
    }
    for pool in ("threads", "processes"):
        commands[f"decoding and resizing alone, 2 {pool}"] = [
            sys.executable, "decode.py", pool, "2",
        ]  # fmt: skip
    if caffe:
        tool = str(Path(caffe).absolute().with_name("convert_imageset"))
        commands["convert_imageset, resized to 256x341"] = [
            tool, "--resize_height", "256", "--resize_width", "341", "photos/", "list.txt", "out",
        ]  # fmt: skip
        commands["convert_imageset --encoded"] = [tool, "--encoded", "photos/", "list.txt", "out"]
    best = dict.fromkeys(commands, float("inf"))
    used = dict(best)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images(folder, options.images)
        (folder / "decode.py").write_text(DECODE)
        size = sum(path.stat().st_size for path in folder.glob("photos/a/*"))
        print(f"{options.images} JPEGs of {COLUMNS}x{ROWS}, {size / options.images / 1024:.0f} KB")
        for _ in range(options.rounds):
            for label, command in commands.items():
                start, before = time.perf_counter(), processor()
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
                best[label] = min(best[label], time.perf_counter() - start)
                used[label] = min(used[label], processor() - before)
                shutil.rmtree(folder / "out", ignore_errors=True)
    print(f"\n| the best of {options.rounds} runs | images/s | processor, ms an image |")
    print("|---|---:|---:|")
    for label, seconds in best.items():
        each = 1e3 * used[label] / options.images
        print(f"| {label} | {options.images / seconds:,.0f} | {each:.2f} |")


if __name__ == "__main__":
    main()
