"""How long it takes to list, load and convert a caffemodel of ResNet-152: ours and the peers.

    python bench/formats.py [--rounds 7] [--folder DIR]

Random weights, 241 MB, in a temporary folder (below ``--folder``) that is removed after. Every
row is a process of its own, run in turn with the others (A B A B ...), and measures itself after
its imports; medians. Before each run files are read into the page cache, and targets removed.
``anon`` is the most memory of its own (RssAnon) that a process had: pages of mapped files do not
count, they can be taken back at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

MODEL, TENSORS, NPZ, TEXT = "net.caffemodel", "net.safetensors", "net.npz", "net.prototxt"
PRELUDE = """
import json, sys, threading, time
def anon():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
def measure(call):
    most = [anon()]
    def watch():
        while not done.wait(0.005):
            most.append(anon())
    done = threading.Event()
    watcher = threading.Thread(target=watch)
    if "--memory" in sys.argv:
        watcher.start()
    start = time.perf_counter()
    kept = call()
    took = time.perf_counter() - start
    most.append(anon())
    done.set()
    print(json.dumps([took, max(most)]))
"""
PROTOBUF = """
import numpy as np
from google.protobuf.message_factory import GetMessageClass
from resnet_proto import schema
Message = GetMessageClass(schema.message("NetParameter"))
Message()
def parse():
    message = Message()
    with open("net.caffemodel", "rb") as file:
        message.ParseFromString(file.read())
    return message
"""
LISTED = "[(b.key, b.shape, b.dtype) for b in load('net.caffemodel').blobs.values()]"
LIST = {
    "ours: load, list every blob": (
        "import numpy; from resnet_proto.formats import load, caffemodel",
        LISTED,
    ),
    "protobuf: parse, list": (
        PROTOBUF,
        "[(x.name, i, tuple(b.shape.dim)) for x in parse().layer for i, b in enumerate(x.blobs)]",
    ),
    "safetensors: open, list": (
        "from safetensors import safe_open",
        "[(k, f.get_slice(k).get_shape()) for f in [safe_open('net.safetensors', 'np')]"
        " for k in f.keys()]",
    ),
}
LOAD = {
    "ours: caffemodel, every value copied": (
        "import numpy as np; from resnet_proto.formats import load, caffemodel",
        "[np.array(a) for a in load('net.caffemodel').values()]",
    ),
    "ours: caffemodel, every value summed in place": (
        "import numpy as np; from resnet_proto.formats import load, caffemodel",
        "[a.sum() for a in load('net.caffemodel').values()]",
    ),
    "protobuf: parse, np.array of each blob": (
        PROTOBUF,
        "[np.array(b.data, np.float32) for x in parse().layer for b in x.blobs]",
    ),
    "OpenCV: readNetFromCaffe": (
        "import cv2",
        "cv2.dnn.readNetFromCaffe('net.prototxt', 'net.caffemodel')",
    ),
    "safetensors: load_file of the converted file": (
        "from safetensors.numpy import load_file",
        "load_file('net.safetensors')",
    ),
    "numpy: np.load of the converted file, every array": (
        "import numpy as np",
        "[a for f in [np.load('net.npz')] for k, a in f.items() if k != 'metadata.json']",
    ),
}
SAVE = (
    "import numpy; from resnet_proto.formats import load, save, caffemodel, safetensors\n"
    "import subprocess; from pathlib import Path\n"
    "def write(target, **options):\n"
    "    with load('net.caffemodel') as weights:\n"
    "        save(target, weights, verify=False, **options)\n"
)
COPY = "cp --reflink=never"
CONVERT = {
    COPY: (SAVE, f"subprocess.run([*'{COPY}'.split(), 'net.caffemodel', 'target'], check=True)"),
    "ours: to safetensors, not verified": (SAVE, "write('target', to='safetensors')"),
    "ours: to safetensors, read back": (
        SAVE,
        "save('target', load('net.caffemodel'), to='safetensors')",
    ),
    "ours: to npz, not verified": (SAVE, "write('target', to='npz')"),
    "ours: to caffemodel, not verified": (
        SAVE + "from resnet_proto import read_prototxt; net = read_prototxt('net.prototxt')\n",
        "write('target', net=net, to='caffemodel')",
    ),
    "safetensors: save_file of arrays in memory": (
        "import numpy as np; from safetensors.numpy import save_file\n"
        "from resnet_proto.formats import load, caffemodel\n"
        "arrays = {k: np.array(a) for k, a in load('net.caffemodel').items()}",
        "save_file(arrays, 'target')",
    ),
}


def prepare(folder: Path) -> int:
    """Write the files that are read; gives the size of the caffemodel."""
    from resnet_proto import random_weights
    from resnet_proto.build import deploy_net
    from resnet_proto.formats import convert, save
    from resnet_proto.presets import PRESETS
    from resnet_proto.prototxt import to_prototxt

    net = deploy_net(PRESETS["resnet-152"].spec)
    (folder / TEXT).write_text(to_prototxt(net))
    save(folder / MODEL, random_weights(net), net)
    for name in (TENSORS, NPZ):
        convert(folder / MODEL, folder / name, net)
    return (folder / MODEL).stat().st_size


def once(folder: Path, code: tuple[str, str], *options: str) -> tuple[float, int] | str:
    """One process; seconds and kB, or why there are none."""
    script = f"{code[0]}\n{PRELUDE}\nmeasure(lambda: {code[1]})"
    (folder / "target").unlink(missing_ok=True)
    for path in folder.iterdir():  # some machines drop pages early
        if path.name in script:
            path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", script, *options],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended"])[-1]
    took, most = json.loads(done.stdout.splitlines()[-1])
    return took, most


def table(title: str, folder: Path, rows: dict[str, tuple[str, str]], rounds: int) -> None:
    """Each row in turn, times against the first row's; then memory, in a run of its own."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    failed = {}
    for i in range(rounds + 1):
        for name, code in rows.items():
            result = once(folder, code)
            if isinstance(result, str):
                failed[name] = result
            elif i:  # the first round warms the caches
                times[name].append(result[0])
    base = median(times[next(iter(rows))])
    print(f"\n| {title} | ms | best ms | ratio | anon MB |\n|---|---:|---:|---:|---:|")
    for name, values in times.items():
        if not values:
            print(f"| {name} | left out: {failed[name]} | | | |")
            continue
        memory = once(folder, rows[name], "--memory")
        anon = f"{memory[1] / 1e3:.0f}" if isinstance(memory, tuple) else "?"
        print(
            f"| {name} | {1e3 * median(values):.1f} | {1e3 * min(values):.1f} "
            f"| {median(values) / base:.2f} | {'' if name == COPY else anon} |"
        )


def main(rounds: int, where: str | None) -> None:
    os.environ["PYTHONDONTWRITEBYTECODE"] = ""
    with tempfile.TemporaryDirectory(dir=where, prefix="resnet-proto-bench-") as name:
        folder = Path(name)
        size = prepare(folder)
        print(
            f"ResNet-152 with random weights, {size / 1e6:.1f} MB, median of {rounds} interleaved "
            f"rounds\nPython {platform.python_version()}, {len(os.sched_getaffinity(0))} CPUs, "
            f"{platform.machine()}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"
        )
        table("list", folder, LIST, rounds)
        table("load", folder, LOAD, rounds)
        table("convert", folder, CONVERT, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="where the temporary folder goes; default: TMPDIR")
    options = parser.parse_args()
    main(options.rounds, options.folder)
