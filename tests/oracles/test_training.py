"""The real Caffe trains, loads nets and refuses them: what later tests build on.

The net is written by hand, so that nothing of ours but ``Datum`` is in it.
"""

import math

import lmdb
import numpy as np
import pytest
from oracles.training import ABORTED, in_solver, load, losses, make_lmdb, run_caffe
from PIL import Image

from resnet_proto import load as load_weights
from resnet_proto.schema import decode

N_IMAGES, N_CLASSES = 40, 4
PIXELS = "transform_param { scale: 0.0078125 mean_value: 128 }"
STATISTICS = "param { lr_mult: 0 decay_mult: 0 } " * 3
NET = f"""
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
        data_param {{ source: "train" backend: LMDB batch_size: 10 }} {PIXELS} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
        data_param {{ source: "val" backend: LMDB batch_size: 5 }} {PIXELS} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param {{ num_output: 5 kernel_h: 3 kernel_w: 1 pad_h: 1 bias_term: false
                            weight_filler {{ type: "msra" }} }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" {STATISTICS} }}
layer {{ name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param {{ num_output: {N_CLASSES} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
        include {{ phase: TEST }} }}
"""
SOLVER = """
net: "net.prototxt"
base_lr: 0.05
momentum: 0.9
weight_decay: 0.0001
lr_policy: "fixed"
max_iter: 10
display: 1
test_iter: 4
test_interval: 10
random_seed: 1
snapshot_prefix: "tiny"
"""
REFUSED = {
    "unknown type": ('"ReLU"', '"Clip"', "Unknown layer type: Clip"),
    "unknown bottom": ('bottom: "fc"', 'bottom: "nowhere"', "Unknown bottom blob 'nowhere'"),
    "unknown field": ("num_output: 5", "num_outputs: 5", 'no field named "num_outputs"'),
    "wrong shape": ("kernel_h: 3 kernel_w: 1", "kernel_size: 3 kernel_w: 1", "or kernel_h/w"),
    "no source": ('source: "', 'source: "not-', "No such file or directory"),
}
"""What is replaced in the net, by what, and Caffe's words."""


@pytest.fixture
def folder(tmp_path):
    """Images of noise and of one bright column for each class, for TRAIN and for TEST.

    Two databases: this Caffe aborts or hangs where two nets of a process read one of them.
    """
    rng = np.random.default_rng(0)
    for name in ("train", "val"):
        labels = np.arange(N_IMAGES) % N_CLASSES
        images = rng.integers(0, 100, (N_IMAGES, 3, 8, 6))
        images[np.arange(N_IMAGES), 1, :, labels] += 150
        make_lmdb(tmp_path / name, images.astype(np.uint8), labels)
    return tmp_path


def train(caffe_binary, folder, solver):
    """The log of ten iterations."""
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(solver)
    # this Caffe hangs where it reads one database twice
    status, log = run_caffe(
        caffe_binary, folder, "train", "-solver", "solver.prototxt", timeout=300
    )
    assert status == 0, log
    return log


def records(path):
    """The Datums of a database, in the order of their keys."""
    with lmdb.open(str(path), readonly=True) as database, database.begin() as transaction:
        return [decode("Datum", value) for _, value in transaction.cursor()]


def test_database_is_as_caffe_writes_it(caffe_binary, tmp_path):
    """By ``convert_imageset``, which decodes images with OpenCV: blue first."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    labels = [3, 0, 2, 1]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    listed = "".join(f"{i}.png {label}\n" for i, label in enumerate(labels))
    (tmp_path / "list.txt").write_text(listed)

    make_lmdb(tmp_path / "ours", images[..., ::-1].transpose(0, 3, 1, 2), labels)
    tool = caffe_binary.with_name("convert_imageset")
    status, log = run_caffe(tool, tmp_path, f"{tmp_path}/", "list.txt", "theirs")

    assert status == 0, log
    theirs = records(tmp_path / "theirs")
    assert not any(datum.pop("encoded", False) for datum in theirs)
    assert records(tmp_path / "ours") == theirs


def test_mean_image(caffe_binary, folder):
    tool = caffe_binary.with_name("compute_image_mean")
    status, log = run_caffe(tool, folder, "train", "mean.binaryproto")

    assert status == 0, log
    mean = decode("BlobProto", (folder / "mean.binaryproto").read_bytes())
    pixels = [np.frombuffer(datum["data"], np.uint8) for datum in records(folder / "train")]
    assert mean["data"] == pytest.approx(np.mean(pixels, axis=0), rel=1e-6)


def test_training_lowers_the_loss(caffe_binary, folder):
    log = train(caffe_binary, folder, SOLVER)

    history = losses(log)
    assert [iteration for iteration, _ in history] == list(range(11))
    assert all(math.isfinite(loss) for _, loss in history)
    assert history[-1][1] < history[0][1] / 2, history
    assert "Test net output #0: accuracy" in log


@pytest.mark.parametrize("inline", [True, False])
def test_statistics_decay_unless_the_net_is_in_the_solver(caffe_binary, folder, inline):
    """Why ``in_solver`` is there; mainline Caffe keeps the statistics either way."""
    solver = SOLVER.replace("weight_decay: 0.0001", "weight_decay: 1")
    if inline:
        solver = solver.replace('net: "net.prototxt"', in_solver(NET))

    train(caffe_binary, folder, solver)

    factor = load_weights(folder / "tiny_iter_10.caffemodel")["bn.scale_factor"].item()
    kept = sum(0.999**i for i in range(10))
    assert factor == pytest.approx(kept, rel=1e-6) if inline else factor < kept / 2


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_net_loads(caffe_binary, folder, phase):
    status, log = load(caffe_binary, folder, NET, phase)

    assert status == 0, log
    assert ("Creating layer accuracy" in log) == (phase == "TEST")
    assert losses(log) == []


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("name", REFUSED)
def test_net_is_refused(caffe_binary, folder, phase, name):
    old, new, words = REFUSED[name]
    assert old in NET

    status, log = load(caffe_binary, folder, NET.replace(old, new), phase)

    assert status == ABORTED, log
    assert words in log
