"""Run jobs in the real Caffe: ``python caffe_child.py FOLDER ...``.

Without arguments the folders come by stdin, one a line, and a line goes to stdout for each that
is done.

A job is a folder with ``job.json`` (net, weights, input names, until, state) and ``inputs.npz``.
The answer is ``blobs.json`` (names) and ``blobs.npz`` beside them, arrays in the same order,
and ``exit``: 0, the status of a process that Caffe ended, or the signal's number, negative.
What Caffe said is in ``log``.

Caffe ends the process when it refuses a net, so each job runs in a fork of its own; that
also imports Caffe once for many jobs. This file runs in the other Python, 3.6 or newer,
and imports only numpy and caffe.
"""

import encodings.cp437  # noqa: F401 - names in a zip file are: each fork would import it
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # errors only

import caffe  # type: ignore[import-not-found, unused-ignore]
import numpy as np


def run(folder: Path) -> None:
    """Do one job."""
    job = json.loads((folder / "job.json").read_text())
    arrays = np.load(str(folder / "inputs.npz"), allow_pickle=False)
    net = caffe.Net(job["net"], caffe.TEST, **job["state"])
    if job["weights"]:
        net.copy_from(job["weights"])
    for i, name in enumerate(job["inputs"]):
        value = arrays[f"arr_{i}"]
        net.blobs[name].reshape(*value.shape)
        net.blobs[name].data[...] = value
    net.reshape()
    tops = [[net._blob_names[blob] for blob in net._top_ids(i)] for i in range(len(net.layers))]
    last = max(i for i in range(len(tops)) if job["until"] in [None, *tops[i]])
    net._forward(0, last)
    blobs = {}
    for i in range(last + 1):
        own = [f"{net._layer_names[i]}_{k}" for k in range(len(tops[i]))]
        if net.layers[i].type == "Split" and tops[i] == own:
            continue  # Caffe has inserted it: its tops are in no prototxt
        for name in tops[i]:
            if name != "(automatic)":  # nor is that of a loss without a top
                blobs[name] = np.array(net.blobs[name].data)
    (folder / "blobs.json").write_text(json.dumps(list(blobs)))
    np.savez(str(folder / "blobs.npz"), *blobs.values())


def fork(folder: Path) -> None:
    """Do one job in a process of its own, and write down how it ended."""
    pid = os.fork()
    if pid == 0:
        log = os.open(str(folder / "log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = 1
        try:
            run(folder)
            status = 0
        except Exception as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    status = os.waitpid(pid, 0)[1]
    status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    (folder / "exit").write_text(str(status))


if __name__ == "__main__":
    for argument in sys.argv[1:] or sys.stdin:
        fork(Path(argument.rstrip("\n")))
        print(flush=True)
