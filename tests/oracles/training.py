"""The real Caffe with training, in a process of its own: folder + files -> status, log.

Built by ``make caffe``; the fixture ``caffe_binary`` finds it. It is a fork, and older than
mainline Caffe where it reads data and upgrades files:

* A net read from a file loses the ``param`` of each BatchNorm that has exactly three, so that
  weight decay eats the statistics; a net in the solver (``in_solver``) keeps them.
* Two nets of one process, TRAIN and TEST of one solver, must not read one database.
* Pooling has ``ceil_mode`` where mainline has ``round_mode``; there is no Clip, Swish or Python.
* It has layers of other forks: ``run_net`` gives their tops.
"""

import os
import re
import signal
import subprocess

import lmdb
import numpy as np

from resnet_proto.formats import save
from resnet_proto.net import Net
from resnet_proto.prototxt import to_prototxt
from resnet_proto.schema import encode

ABORTED = -signal.SIGABRT
"""The status of a Caffe that refuses: what it says is in the log, with ``Check failed``."""

LOADER = """
net: "net.prototxt"
train_state {{ phase: {phase} }}
base_lr: 0
lr_policy: "fixed"
max_iter: 0
snapshot_after_train: false
"""


def run_caffe(binary, folder, *args, timeout=600):
    """Run ``caffe train -solver ...`` in a folder; give its exit status and its log."""
    # threads of OpenBLAS do not make small nets faster, and others share the machine
    env = {**os.environ, "GLOG_logtostderr": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [binary, *args],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout


def load(binary, folder, net_text, phase, timeout=600):
    """Have Caffe set a net up for a phase, without a forward pass: status and log.

    ``caffe train`` of no iterations: every layer is created, shaped and filled, but the memory
    of tops and gradients is never touched, so the cost is that of the weights: for ResNet-152
    half a second and 320 MB (``caffe time -iterations 0``, which runs once forward and backward:
    twice that at batch 1). A Data layer fetches three batches besides, 900 MB in all for 256
    images of 224x224. A solver's ``train_state`` has the last word on the phase, so TEST goes the
    same way; ``caffe test`` costs the same, wants weights, and cannot do TRAIN.

    A Data layer opens its source: ``make_lmdb`` makes one. Paths in the net are relative to
    ``folder``.
    """
    (folder / "net.prototxt").write_text(net_text)
    (folder / "load.prototxt").write_text(LOADER.format(phase=phase))
    return run_caffe(binary, folder, "train", "-solver", "load.prototxt", timeout=timeout)


SOURCE = """
layer {{ name: "{name}" type: "HDF5Data" top: "{name}"
        hdf5_data_param {{ source: "{file}.txt" batch_size: {batch} }} }}
"""
SINK = """
layer {{ name: "to {file}" type: "HDF5Output" bottom: "{name}" bottom: "{name}"
        hdf5_output_param {{ file_name: "{file}.h5" }} }}
"""


def run_net(binary, folder, net, inputs, weights=None, blobs=None):
    """Have Caffe compute a net at phase TEST, from HDF5 files to HDF5 files: status, log, blobs.

    Args:
        binary: the caffe that trains.
        folder: an empty one, for all files.
        net: its Input layers become HDF5Data layers.
        inputs: blob name -> array.
        weights: those of ``net``, if it has any.
        blobs: names of those that are wanted; all tops if None. A blob that is written in place
            has its last value.

    Returns:
        Exit status, log, and the blobs, each with four axes as HDF5Output writes them.
    """
    import h5py

    layers = [layer for layer in net.upgraded().layers if layer.type != "Input"]
    if blobs is None:
        blobs = list(dict.fromkeys(top for layer in layers for top in layer.tops))
    text = ""
    for i, (name, value) in enumerate(inputs.items()):
        with h5py.File(folder / f"in{i}.h5", "w") as file:
            file[name] = np.asarray(value, np.float32)
        (folder / f"in{i}.txt").write_text(f"{folder}/in{i}.h5\n")
        text += SOURCE.format(name=name, file=f"in{i}", batch=len(value))
    text += to_prototxt(Net("", tuple(layers)))
    text += "".join(SINK.format(name=name, file=f"out{i}") for i, name in enumerate(blobs))
    (folder / "net.prototxt").write_text(text)
    if weights:
        save(folder / "net.caffemodel", weights, net)
    else:
        (folder / "net.caffemodel").write_bytes(encode("NetParameter", {"name": "no weights"}))
    status, log = run_caffe(
        binary, folder, "test", "-model", "net.prototxt", "-weights", "net.caffemodel",
        "-iterations", "1",
    )  # fmt: skip
    values = {}
    for i, name in enumerate(blobs if status == 0 else ()):
        with h5py.File(folder / f"out{i}.h5", "r") as file:
            values[name] = file["data"][:]
    return status, log, values


def top_shape(log, layer):
    """The shape of a layer's first top when it was set up, as the log has it."""
    found = re.search(rf"Setting up {layer}\n.*?Top shape: ([\d ]*)\(", log)
    return tuple(map(int, found[1].split()))


def in_solver(net_text):
    """The lines of a solver that hold its net, in place of ``net: "net.prototxt"``.

    Such a net is not upgraded: BatchNorm keeps ``param { lr_mult: 0 decay_mult: 0 }``.
    """
    return f"net_param {{\n{net_text}\n}}\n"


def make_lmdb(path, images, labels):
    """Write a database as ``convert_imageset`` does.

    One database for each of the nets that a process reads.

    Args:
        path: the folder that it will be.
        images: (N, C, H, W), uint8, or float32.
        labels: (N,), integers.
    """
    images = np.asarray(images)
    _, channels, height, width = images.shape
    # address space, not disk
    map_size = 4 * images.nbytes + (1 << 24)
    with lmdb.open(str(path), map_size=map_size) as database, database.begin(write=True) as records:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            datum = {"channels": channels, "height": height, "width": width, "label": int(label)}
            if images.dtype == np.uint8:
                datum["data"] = image.tobytes()
            else:
                datum["float_data"] = tuple(map(float, image.flat))
            records.put(b"%08d" % i, encode("Datum", datum))


def losses(log):
    """(iteration, loss) of each line that ``display`` asked for, averaged over ``average_loss``."""
    lines = re.findall(r"Iteration (\d+)(?: \([^)]*\))?, loss = (\S+)", log)
    return [(int(iteration), float(loss)) for iteration, loss in lines]
