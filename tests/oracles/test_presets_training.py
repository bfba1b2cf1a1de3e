"""What ``gen`` writes, in the real Caffe: every preset loads, and nets of each kind train."""

import math
import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from oracles.training import losses, make_lmdb, run_caffe
from PIL import Image

from resnet_proto import load
from resnet_proto.generate import generate, write_files
from resnet_proto.presets import PRESETS
from resnet_proto.recipe import Training
from resnet_proto.spec import ResNetSpec, for_finetuning

N_IMAGES = 24


@pytest.fixture(scope="session")
def databases(tmp_path_factory):
    """Side of the images -> folder of two databases, of noise whose mean tells the class."""
    made = {}

    def find(size, channels=3):
        if size not in made:
            folder = tmp_path_factory.mktemp(f"images{size}")
            rng = np.random.default_rng(size)
            labels = np.arange(N_IMAGES) % 5
            noise = rng.integers(0, 100, (N_IMAGES, channels, size, size))
            images = (noise + 30 * labels[:, None, None, None]).astype(np.uint8)
            for name in ("train", "test"):
                make_lmdb(folder / name, images, labels)
            made[size] = folder
        return made[size]

    return find


def here(spec, folder, **training):
    """The spec with data that lies in a folder, for one CPU."""
    values = {
        "train_source": str(folder / "train"),
        "test_source": str(folder / "test"),
        "solver_mode": "CPU",
        "gpus": 1,
        "batch": 1,
        "test_batch": 1,
    }
    return replace(spec, training=replace(spec.training, **{**values, **training}))


def without(text, *fields):
    """A solver's text without some of its lines."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(fields))


@pytest.mark.parametrize("name", PRESETS)
def test_caffe_loads_both_nets_and_the_solver(name, caffe_binary, databases, tmp_path):
    """A run of no iterations sets the net up for TRAIN and for TEST, and tests one image."""
    spec = PRESETS[name].spec
    spec = here(spec, databases(spec.input_size))
    write_files(generate(spec), tmp_path)
    for solver in sorted(tmp_path.glob("solver*.prototxt")):
        text = solver.read_text()
        assert f"max_iter: {spec.training.max_iter}" in text or "warmup" in solver.name
        none = without(text, "max_iter", "test_iter", "display")
        none += "max_iter: 0 test_iter: 1 snapshot_after_train: false\n"
        (tmp_path / "load.prototxt").write_text(none)

        status, log = run_caffe(caffe_binary, tmp_path, "train", "-solver", "load.prototxt")

        assert status == 0, log[-2000:]
        assert "Creating training net" in log
        assert "Creating test net (#0)" in log


SMALL = ResNetSpec(stages=(1, 1), width=(4,), stem_width=4, input_size=32, classes=5)
TRAINED = {
    "cifar-resnet-20": PRESETS["cifar-resnet-20"].spec,
    "cifar-resnet-56": PRESETS["cifar-resnet-56"].spec,
    "cifar-plain-20": PRESETS["cifar-plain-20"].spec,
    "cifar-preact-resnet-164": PRESETS["cifar-preact-resnet-164"].spec,
    "half-width ResNet-18": replace(
        PRESETS["resnet-18"].spec, width_multiplier=0.5, stem_width=32, input_size=64
    ),
    "squeezed": replace(SMALL, unit="bottleneck", squeeze=4),
    "highway": replace(SMALL, highway=True, squeeze=2),
    "wide with dropout": replace(SMALL, order="pre-activation", dropout=0.3),
    "fully connected": ResNetSpec(
        stages=(2,), unit="fully-connected", stem="none", pool="none", width=16, input_size=32,
        classes=5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_ten_iterations(name, caffe_binary, databases, tmp_path):
    """Forward and backward; the loss is finite, and in the end no higher than guessing gives."""
    spec = TRAINED[name]
    few = {"batch": 8, "test_batch": 8, "base_lr": 0.01, "display": 1, "test_images": 24}
    spec = here(spec, databases(spec.input_size), **few)
    write_files(generate(spec), tmp_path)
    short = without((tmp_path / "solver.prototxt").read_text(), "max_iter", "test_interval")
    short += "max_iter: 10 test_interval: 10 random_seed: 3 snapshot_after_train: false\n"
    (tmp_path / "short.prototxt").write_text(short)

    status, log = run_caffe(caffe_binary, tmp_path, "train", "-solver", "short.prototxt")

    assert status == 0, log[-2000:]
    found = [loss for _, loss in losses(log)]
    assert len(found) >= 10
    assert all(map(math.isfinite, found))
    assert min(found) < math.log(spec.classes) < 3 * max(found)
    assert "accuracy_top1 = " in log


def test_the_script_warms_up_trains_and_goes_on(caffe_binary, databases, tmp_path):
    """Three iterations at the low rate, six at the other; then on from the last snapshot."""
    few = {
        "batch": 8, "test_batch": 8, "train_images": 24, "test_images": 24, "display": 1,
        "drops": (2.0,), "epochs": 3.0, "snapshot_epochs": 1.0,
        "warm_up_lr": 0.001, "warm_up_iterations": 3,
    }  # fmt: skip
    spec = here(replace(SMALL, name="it's a net"), databases(32), **few)
    folder = tmp_path / "a folder"
    write_files(generate(spec), folder)
    script = folder / "train.sh"
    environment = {**os.environ, "CAFFE": str(caffe_binary), "GLOG_logtostderr": "1"}

    def run():
        return subprocess.run(
            ["bash", script], env=environment, cwd=tmp_path, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip

    first = run()
    assert first.returncode == 0, first.stdout[-2000:] + first.stderr
    assert "going on from it_s_a_net_iter_3.solverstate" in first.stderr
    assert "Iteration 2, lr = 0.001" in first.stdout
    assert "Iteration 5, lr = 0.1" in first.stdout
    assert "Iteration 7, lr = 0.01" in first.stdout
    states = {path.name for path in folder.glob("*.solverstate")}
    assert states == {f"it_s_a_net_iter_{i}.solverstate" for i in (3, 6, 9)}

    (folder / "it_s_a_net_iter_9.solverstate").unlink()
    second = run()
    assert second.returncode == 0
    assert "going on from it_s_a_net_iter_6.solverstate" in second.stderr
    assert "Iteration 5, lr" not in second.stdout
    assert len(list((folder / "logs").glob("*.log"))) >= 2

    missing = subprocess.run(
        ["bash", script], env={**environment, "CAFFE": "/nowhere/caffe"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert missing.returncode == 127


DUMPER = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "train" batch_size: 24 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { source: "test" batch_size: 24 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label" include { phase: TEST }
        hdf5_output_param { file_name: "images.h5" } }
"""


@pytest.fixture(scope="module")
def sources(caffe_binary, databases, tmp_path_factory):
    """A folder with the same images as a list, as HDF5 and as a mean; grey ones as a list."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("train", "test"):
        shutil.copytree(databases(32) / name, folder / name)
    (folder / "net.prototxt").write_text(DUMPER)
    once = 'net: "net.prototxt" max_iter: 0 test_iter: 1 test_interval: 1 lr_policy: "fixed"'
    (folder / "solver.prototxt").write_text(f"{once} snapshot_after_train: false base_lr: 1")
    status, log = run_caffe(caffe_binary, folder, "train", "-solver", "solver.prototxt")
    assert status == 0, log[-2000:]
    (folder / "h5.txt").write_text(f"{folder}/images.h5\n")
    mean = caffe_binary.with_name("compute_image_mean")
    assert run_caffe(mean, folder, "train", "mean.binaryproto")[0] == 0
    rng = np.random.default_rng(0)
    for mode, shape in (("RGB", (36, 40, 3)), ("L", (36, 40))):
        for i in range(N_IMAGES):
            image = rng.integers(0, 255, shape, dtype=np.uint8)
            Image.fromarray(image, mode).save(folder / f"{mode} {i}.png")
        rows = [f"{mode} {i}.png {i % 5}\n" for i in range(N_IMAGES)]
        (folder / f"{mode}.txt").write_text("".join(rows))
    return folder


SOURCES = {
    "image-list": {"train_source": "RGB.txt", "test_source": "RGB.txt", "resize": 33},
    "image-list, grey": {"train_source": "L.txt", "test_source": "L.txt", "mean": (9.0,)},
    "hdf5": {"train_source": "h5.txt", "test_source": "h5.txt"},
    "dummy": {},
    "lmdb": {"mean_file": "mean.binaryproto"},
    "lmdb, one mean": {"mean": (7.0,), "scale": 0.1, "mirror": False},
}
OPTIONS = [
    {"policy": "poly", "power": 2.0, "decay": "weights"},
    {"policy": "step", "nesterov": True, "filler": "xavier"},
    {"policy": "fixed", "iter_size": 2, "filler": "gaussian"},
    {"finetune": True, "freeze": "conv1"},
    {"snapshot_epochs": 0, "momentum": 0, "weight_decay": 0},
    {"test_images": 23, "train_images": 23},
]


@pytest.mark.parametrize(("name", "options"), list(zip(SOURCES, OPTIONS, strict=True)))
def test_data_and_solvers_of_every_kind(name, options, caffe_binary, sources, tmp_path):
    """What ``gen`` writes, as it is: three epochs from each source, and each policy."""
    for path in sources.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for path in ("solver.prototxt", "net.prototxt"):
        (tmp_path / path).unlink()
    short = {
        "data": name.partition(",")[0], "root_folder": f"{tmp_path}/", "batch": 8, "gpus": 1,
        "test_batch": 8, "train_images": 24, "test_images": 24, "display": 1, "epochs": 3.0,
        "drops": (1.0, 2.0), "base_lr": 0.001, "solver_mode": "CPU", "train_source": "train",
        "test_source": "test",
    }  # fmt: skip
    spec = replace(SMALL, input_channels=1 if "grey" in name else 3)
    training = Training(**{**short, **SOURCES[name], **options})
    write_files(generate(replace(spec, training=training)), tmp_path)

    status, log = run_caffe(caffe_binary, tmp_path, "train", "-solver", "solver.prototxt")

    assert status == 0, log[-2000:]
    found = losses(log)
    assert len(found) == training.max_iter + 1
    assert all(math.isfinite(loss) for _, loss in found)
    assert "accuracy_top1 = " in log


def test_fine_tuning_begins_with_the_weights(caffe_binary, databases, tmp_path):
    """A trunk that is frozen keeps them; a classifier of another name is filled anew."""
    few = {
        "batch": 8, "test_batch": 8, "train_images": 24, "test_images": 24, "epochs": 1.0,
        "drops": (0.5,), "solver_mode": "CPU",
    }  # fmt: skip
    spec = here(replace(SMALL, name="trunk"), databases(32), **few)
    write_files(generate(spec), tmp_path / "trunk")
    environment = {**os.environ, "CAFFE": str(caffe_binary), "GLOG_logtostderr": "1"}

    def run(folder, **more):
        return subprocess.run(
            ["bash", tmp_path / folder / "train.sh"], env={**environment, **more},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    assert run("trunk").returncode == 0
    trained = tmp_path / "trunk" / "trunk_iter_3.caffemodel"
    tuned = for_finetuning(here(replace(spec, name="tuned"), databases(32), **few, freeze="res3a"))
    write_files(generate(tuned), tmp_path / "tuned")

    without = run("tuned")
    assert without.returncode != 0
    assert "WEIGHTS: names the caffemodel to begin with" in without.stderr
    done = run("tuned", WEIGHTS=str(trained))

    assert done.returncode == 0, done.stdout[-2000:]
    assert f"Finetuning from {trained}" in done.stdout
    before, after = load(trained), load(tmp_path / "tuned" / "tuned_iter_3.caffemodel")
    for key in before:
        if key.startswith(("res", "scale", "conv1")):
            assert np.array_equal(after[key], before[key]), key
    assert "fc5_finetune.weight" in after
    assert all(math.isfinite(loss) for _, loss in losses(done.stdout))
