"""The same images in every engine that stays open: the same classes, and the same scores."""

from pathlib import Path

import numpy as np
import pytest
from oracles.test_released import photograph

from resnet_proto import load, read_prototxt, save, to_prototxt
from resnet_proto.dense import fully_convolutional
from resnet_proto.engine import ENGINES, start
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.plain import forward
from resnet_proto.preprocess import PRESETS, ImageOptions, load_image

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
GREY = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY")


@pytest.fixture(params=ENGINES)
def opened(request):
    """Open an engine that is here on the files of a net, and run some inputs in it."""
    options = {}
    if request.param == "caffe":
        options["caffe_python"] = request.getfixturevalue("caffe_python")
    elif request.param in ("opencv", "torch", "onnxruntime"):
        request.getfixturevalue({"opencv": "cv2"}.get(request.param, request.param))

    def call(net_file, weights_file, inputs, outputs):
        files = {"net_file": net_file, "weights_file": weights_file}
        net, weights = read_prototxt(net_file), load(weights_file)
        with start(request.param, net, weights, outputs=outputs, **files, **options) as running:
            return [running.run({"data": x}) for x in inputs]

    return call


def exact(net_file, weights_file, inputs, outputs):
    """Our definition in float64, layer by layer."""
    net, weights = read_prototxt(net_file), load(weights_file)
    sized = [net.with_input_shapes({"data": x.shape}) for x in inputs]
    return [
        forward(each, weights, x, dtype="float64", outputs=outputs)
        for each, x in zip(sized, inputs, strict=True)
    ]


def best(scores):
    """The five best classes of each image, or all."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :5]


def assert_agree(found, expected, outputs):
    for ours, theirs in zip(found, expected, strict=True):
        for blob in outputs:
            assert ours[blob].shape == theirs[blob].shape
            assert relative_l2(ours[blob], theirs[blob]) <= TOLERANCE, blob
            np.testing.assert_array_equal(best(ours[blob]), best(theirs[blob]))


def test_the_digits(opened):
    """All 64, 10 classes, in batches of two sizes; each image is the digit that it shows."""
    lines = (DIGITS / "labels.txt").read_text().splitlines()
    paths, labels = zip(*(line.split() for line in lines), strict=True)
    x = np.concatenate([load_image(DIGITS / path, (1, 1, 8, 8), GREY) for path in paths])
    files = DIGITS / "deploy.prototxt", DIGITS / "digits.caffemodel"
    inputs, outputs = (x[:45], x[45:]), ["prob"]

    found = opened(*files, inputs, outputs)

    assert_agree(found, exact(*files, inputs, outputs), outputs)
    first = np.concatenate([best(blobs["prob"])[:, 0] for blobs in found])
    assert (first == np.array(labels, int)).sum() == 64


@pytest.fixture(scope="module")
def dense(half_width, tmp_path_factory):
    """Files of the released net as a fully convolutional one."""
    folder = tmp_path_factory.mktemp("dense")
    net, weights = read_prototxt(half_width[0]), load(half_width[1])
    new, arrays = fully_convolutional(net, weights)
    files = folder / "net.prototxt", folder / "net.caffemodel"
    files[0].write_text(to_prototxt(new))
    save(files[1], arrays, new)
    return files


@pytest.fixture(scope="module")
def photographs(caffe_python):
    """Two, at the net's own size and at a larger one."""
    cat = photograph(caffe_python)
    shapes = (1, 3, 224, 224), (1, 3, 320, 256)
    paths = cat, cat.with_name("coffee.png")
    return [
        np.concatenate([load_image(path, shape, PRESETS["caffe"]) for path in paths])
        - np.float32([104, 117, 123]).reshape(3, 1, 1)
        for shape in shapes
    ]


@pytest.fixture(scope="module")
def right(half_width, dense, photographs):
    """What is right, in float64: of the net itself at its own size, and of the dense one."""
    outputs = ["fc_nsfw", "prob"]
    return (
        exact(*half_width, photographs[:1], outputs),
        exact(*dense, photographs, [*outputs, "fc_nsfw_map"]),
    )


def test_the_released_net(opened, half_width, photographs, right):
    outputs = ["fc_nsfw", "prob"]

    assert_agree(opened(*half_width, photographs[:1], outputs), right[0], outputs)


def test_the_released_net_on_larger_images(opened, dense, photographs, right):
    """Fully convolutional, from its files; at its own size it is the net that it was."""
    outputs = ["fc_nsfw", "prob"]

    found = opened(*dense, photographs, outputs)

    assert_agree(found, right[1], outputs)
    assert_agree(found[:1], right[0], outputs)
    assert relative_l2(right[1][0]["prob"], right[0][0]["prob"]) <= 1e-14
    assert right[1][1]["fc_nsfw_map"].shape == (2, 2, 4, 2)
