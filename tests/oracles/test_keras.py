"""Keras on torch: each layer type in random configurations, nets of the family, the real Caffe."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from oracles import test_fork_types
from oracles.configurations import CONFIGURATIONS, one_layer_net
from oracles.test_many_types import NET as MANY
from oracles.warm import ours, rounded

from resnet_proto import PRESETS, deploy_net, read_prototxt
from resnet_proto.engine import random_inputs, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.keras_layers import FUNCTIONS
from resnet_proto.engine.keras_model import draw, run_model, save_keras
from resnet_proto.errors import NetError
from resnet_proto.forks import FORKS
from resnet_proto.layers import REGISTRY
from resnet_proto.prototxt import to_prototxt
from resnet_proto.spec import for_task
from resnet_proto.weights import random_weights

pytestmark = [pytest.mark.usefixtures("keras"), pytest.mark.filterwarnings("ignore")]

N_COMPARED = 12
N_CONFIGURATIONS = 150
"""As many are tried until so many have been compared."""
REFUSED = (
    "cannot be written as Keras",  # test_keras_model.py has each
    "the first axis of its top is not the images'",
    "the number of images cannot vary",
)


def drawn(net, weights):
    """The model; None where it is refused for a reason that is known."""
    try:
        return draw(net, weights)
    except NetError as refusal:
        if not any(words in str(refusal) for words in REFUSED):
            raise
    return None


def loaded(keras, drawing, path):
    """The model, from its file."""
    drawing.model.save(path)
    return keras.saving.load_model(path, safe_mode=True)


@pytest.mark.parametrize("type", sorted({*FUNCTIONS} & {*CONFIGURATIONS} - {"Silence"}))
def test_equal_to_ours(type, keras, tmp_path):
    """The first few through a file."""
    rng = np.random.default_rng(sum(map(ord, type)))
    compared = 0
    for _ in range(N_CONFIGURATIONS):
        net, given = one_layer_net(type, rng, stray=0)
        text = to_prototxt(net)
        inputs, weights, blobs = ours(text, rng, given)
        if isinstance(blobs, NetError):
            continue
        drawing = drawn(net, weights)
        if drawing is None:
            continue
        model = drawing.model
        if compared < 4:
            model = loaded(keras, drawing, tmp_path / "one.keras")
        theirs = run_model(model, inputs, drawing.blobs)
        assert [*theirs] == [name for name in blobs if name not in inputs or name in theirs]
        for row in compare(theirs, blobs):
            assert row.shape == row.reference, text
            both = theirs[row.blob], blobs[row.blob]
            assert row.within(TOLERANCE) or rounded(text, weights, inputs, row.blob, *both), (
                f"{row}\n{text}"
            )
        compared += 1
        if compared == N_COMPARED:
            break
    assert compared == N_COMPARED


@pytest.mark.parametrize("type", sorted(test_fork_types.CONFIGURATIONS))
def test_types_of_forks(type, keras, tmp_path):
    compared = 0
    for case in test_fork_types.cases(type):
        if case.refusal is not None:
            continue
        drawing = drawn(case.net, case.weights)
        if drawing is None:
            continue
        model = drawing.model
        if compared < 4:
            model = loaded(keras, drawing, tmp_path / "one.keras")
        case.agrees(run_model(model, case.inputs, drawing.blobs))
        compared += 1
        if compared == N_COMPARED:
            break
    assert compared == N_COMPARED


def test_which_types_have_no_way():
    """Detection layers, recurrent ones, losses, and what has no images."""
    forks = FORKS.keys() - FUNCTIONS.keys()
    losses = {type for type in REGISTRY if type.endswith("Loss")}
    data = {type for type in REGISTRY if type.endswith("Data")}

    assert set(REGISTRY) - FUNCTIONS.keys() - losses - data == {
        "Accuracy", "Filter", "HDF5Output", "Im2col", "Input", "LSTM", "LSTMUnit", "Parameter",
        "RNN", "SPP",
    } | (forks - losses)  # fmt: skip
    assert forks - losses == {
        "DetectionOutput", "PSROIPooling", "PriorBox", "Proposal", "ROIPooling", "Upsample",
    }  # fmt: skip


def test_equal_to_caffe(caffe_python):
    """A net of many types: every blob of the real Caffe's."""
    many = read_prototxt(MANY)
    weights = random_weights(many)
    inputs = {
        "data": np.random.default_rng(0).normal(size=(2, 3, 22, 18)).astype(np.float32),
        "label": np.zeros(2, np.float32),
        "target": np.zeros((2, 6), np.float32),
    }
    drawing = draw(many, weights, ["log"])

    rows = compare(
        run_model(drawing.model, inputs, drawing.blobs),
        run("caffe", many, weights, inputs, caffe_python=caffe_python),
    )

    assert len(rows) == len(drawing.blobs) > 15
    assert not [row for row in rows if row.shape != row.reference or not row.within(TOLERANCE)]


SMALL = {"stages": (1, 2), "width": (8,), "stem_width": 6, "classes": 5, "input_size": 41}
CIFAR = {"stages": (1, 2), "width": (6, 12), "stem_width": 6, "classes": 5, "input_size": 19}
FAMILY = {
    "resnet-50": SMALL,
    "preact-resnet-18": SMALL,
    "resnet-50-d": SMALL,
    "resnext-50-32x4d": SMALL | {"cardinality": 4},
    "se-resnet-50": SMALL | {"squeeze": 2},
    "cifar-resnet-20": CIFAR | {"shortcut": "A"},
    "cifar-wide-resnet-16-8": CIFAR | {"dropout": 0.3, "in_place": False},
    "cifar-plain-20": CIFAR | {"highway": True, "shortcut": "A"},
}


@pytest.mark.parametrize("name", FAMILY)
def test_the_family(name, tmp_path):
    assert_saved(deploy_net(replace(PRESETS[name].spec, **FAMILY[name])), tmp_path)


@pytest.mark.parametrize("task", ["segmentation", "localization"])
def test_tasks(task, tmp_path):
    spec = replace(PRESETS["resnet-18"].spec, **SMALL | {"stages": (1, 1, 1, 1)})

    assert_saved(deploy_net(for_task(spec, task)), tmp_path)


def assert_saved(net, folder):
    """A file whose every blob is the net's."""
    proof = save_keras(folder / "m.keras", net, random_weights(net))

    assert proof.worst.within(TOLERANCE)
    tops = {top for layer in net.upgraded().layers for top in layer.tops}
    assert {row.blob for row in proof.rows} == tops - {*random_inputs(net)} - between(net)


def between(net):
    """Blobs between a BatchNorm and its Scale, which are not in the model."""
    return {
        scale.bottoms[0]
        for bn, scale in pairwise(net.layers)
        if (bn.type, scale.type) == ("BatchNorm", "Scale") and scale.bottoms != scale.tops
    }
