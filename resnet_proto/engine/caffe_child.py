"""Run jobs in the real Caffe, or keep one net open: ``python caffe_child.py``.

A job is a folder with ``job.json`` (net, weights, input names, until, outputs, state) and
``inputs.npz``. The answer is ``blobs.json`` (names) and ``blobs.npz`` beside them, arrays in the
same order, and ``exit``: 0, the status of a process that Caffe ended, or the signal's number,
negative. What Caffe said is in ``log``.

``caffe_child.py FOLDER ...`` does these jobs. Without arguments the folders come by stdin, one a
line, and a line goes to stdout for each that is done. Caffe ends the process when it refuses a
net, so each job runs in a fork of its own; that also imports Caffe once for many jobs.

``caffe_child.py --open FOLDER`` opens the net of a job and says so by a line on stdout. For each
line on stdin it then runs the inputs that lie in the folder, answers, and writes a line; in one
process, which Caffe ends when it refuses. The end of stdin is the end of either.

This file runs in the other Python, 3.6 or newer, and imports only numpy and caffe.
"""

import encodings.cp437  # noqa: F401 - names in a zip file are: each fork would import it
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # errors only

import caffe  # type: ignore[import-not-found, unused-ignore]
import numpy as np


class Job:
    """A folder's net with its weights, ready to run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        job = json.loads((folder / "job.json").read_text())
        self.net = net = caffe.Net(job["net"], caffe.TEST, **job["state"])
        if job["weights"]:
            net.copy_from(job["weights"])
        tops = [[net._blob_names[blob] for blob in net._top_ids(i)] for i in range(len(net.layers))]
        wanted = job.get("outputs")
        ends = {job["until"]} if wanted is None else set(wanted)
        self.last = max(i for i in range(len(tops)) if ends & {None, *tops[i]})
        names = []
        for i in range(self.last + 1):
            own = [f"{net._layer_names[i]}_{k}" for k in range(len(tops[i]))]
            if net.layers[i].type == "Split" and tops[i] == own:
                continue  # Caffe has inserted it: its tops are in no prototxt
            names += tops[i]
        # an automatic one is that of a loss without a top
        names = [name for name in dict.fromkeys(names) if name != "(automatic)"]
        self.tops = [name for name in names if wanted is None or name in wanted]

    def run(self) -> None:
        """Run the inputs that lie in the folder, and write down the blobs."""
        net, file = self.net, self.folder / "inputs.npz"
        names = json.loads((self.folder / "job.json").read_text())["inputs"]
        with np.load(str(file), allow_pickle=False) as arrays:
            for i, name in enumerate(names):
                value = arrays[f"arr_{i}"]
                net.blobs[name].reshape(*value.shape)
                net.blobs[name].data[...] = value
        net.reshape()
        net._forward(0, self.last)
        blobs = [net.blobs[name].data for name in self.tops]
        (self.folder / "blobs.json").write_text(json.dumps(self.tops))
        np.savez(str(self.folder / "blobs.npz"), *blobs)


def speak_into(log: Path) -> None:
    """Let all that is said from here on go to a file."""
    number = os.open(str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 1)
    os.dup2(number, 2)


def fork(folder: Path) -> None:
    """Do one job in a process of its own, and write down how it ended."""
    pid = os.fork()
    if pid == 0:
        speak_into(folder / "log")
        status = 1
        try:
            Job(folder).run()
            status = 0
        except Exception as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    status = os.waitpid(pid, 0)[1]
    status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    (folder / "exit").write_text(str(status))


def stay(folder: Path) -> None:
    """Open a net, and run it for each line that comes."""
    answers = os.fdopen(os.dup(1), "w")
    speak_into(folder / "log")
    job = Job(folder)
    print(file=answers, flush=True)
    for _ in sys.stdin:
        job.run()
        print(file=answers, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        stay(Path(sys.argv[2]))
    else:
        for argument in sys.argv[1:] or sys.stdin:
            fork(Path(argument.rstrip("\n")))
            print(flush=True)
