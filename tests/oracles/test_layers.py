"""Random configurations of each layer type: our definition against the real Caffe's.

Both must accept the same ones, with the same shapes and values; ``make fuzz`` runs more of
them. onnxruntime and torch get the ones that we accept.
"""

import numpy as np
import pytest
from oracles.configurations import (
    CONFIGURATIONS,
    FROM_FILES,
    NO_ORACLE,
    one_layer_net,
)
from oracles.warm import disagreement, ours, rounded

from resnet_proto.engine import run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.errors import NetError
from resnet_proto.forks import FORKS
from resnet_proto.formats.onnx_layers import WRITERS
from resnet_proto.layers import REGISTRY
from resnet_proto.prototxt import to_prototxt

N_CONFIGURATIONS = 60
N_OTHERS = 30


@pytest.mark.parametrize("type", sorted(CONFIGURATIONS))
def test_equal_to_caffe(type, warm_caffe):
    rng = np.random.default_rng(sum(map(ord, type)))
    cases = []
    for _ in range(N_CONFIGURATIONS):
        net, given = one_layer_net(type, rng)
        text = to_prototxt(net)
        inputs, weights, blobs = ours(text, rng, given)
        cases.append((text, inputs, weights, blobs, warm_caffe.give(text, weights, inputs)))

    refused = 0
    for text, inputs, weights, blobs, job in cases:
        problem = disagreement(text, weights, inputs, blobs, warm_caffe.answer(job))
        assert not problem, f"{problem}\n{text}"
        refused += isinstance(blobs, NetError)
    assert refused < N_CONFIGURATIONS * 2 / 3


ONLY_ONNX = {
    "ArgMax",
    "Filter",
    "Im2col",
    "LSTM",
    "LSTMUnit",
    "PriorBox",
    "RNN",
    "ROIPooling",
    "SPP",
}
"""Types that the engine torch does not have: test_others.py."""


@pytest.mark.parametrize(
    ("engine", "type"),
    [
        (engine, type)
        for engine, types in {"onnxruntime": WRITERS, "torch": WRITERS.keys() - ONLY_ONNX}.items()
        for type in sorted({*types} & CONFIGURATIONS.keys())
    ],
)
def test_equal_to_other_engines(engine, type, request):
    """Of what is refused (test_others.py, test_onnx.py) only some is met here."""
    if engine == "torch":
        request.getfixturevalue("torch")
    rng = np.random.default_rng(sum(map(ord, type)))
    compared = 0
    for _ in range(N_OTHERS):
        net, given = one_layer_net(type, rng, stray=0)
        text = to_prototxt(net)
        inputs, weights, blobs = ours(text, rng, given)
        layer = net.layers[-1]
        if isinstance(blobs, NetError) or 0 in layer.param.get("dilation", ()):
            continue
        theirs = run(engine, net, weights, inputs)
        assert list(theirs) == list(blobs)
        for row in compare(theirs, blobs):
            assert row.shape == row.reference, text
            both = theirs[row.blob], blobs[row.blob]
            assert row.within(TOLERANCE) or rounded(text, weights, inputs, row.blob, *both), (
                f"{row}\n{text}"
            )
        compared += 1
    assert compared > N_OTHERS / 3


def test_every_type_has_configurations():
    assert CONFIGURATIONS.keys() == set(REGISTRY) - FROM_FILES - FORKS.keys() - NO_ORACLE
