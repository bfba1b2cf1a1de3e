"""Dropout at phase TEST."""

import numpy as np
import pytest

from resnet_proto.engine import run
from resnet_proto.errors import NetError
from resnet_proto.layers import Dropout, Input
from resnet_proto.net import Net
from resnet_proto.words import Word


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_copies(ratio):
    """No scaling: training divides by 1 - ratio."""
    x = np.arange(6.0).reshape(2, 3)

    (y,) = Dropout.of("d", "x", "y", dropout_ratio=ratio).forward([x], [])

    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)


@pytest.mark.parametrize("engine", ["numpy", "float64", "onnxruntime", "torch"])
def test_of_phase_train_drops_in_a_net_of_phase_test(engine, request):
    """Caffe gives a layer the net's phase only where it has none: net.cpp, Init. It drops."""
    if engine == "torch":
        request.getfixturevalue("torch")
    data, x = Input.of("in", (), "x", shape={"dim": (2, 3)}), np.ones((2, 3))
    for phase in ("TEST", "TRAIN"):
        layer = Dropout("d", "Dropout", ("x",), ("y",), {"phase": Word(phase)})
        net = Net("n", (data, layer))
        if phase == "TEST":
            assert run(engine, net, {}, {"x": x})["y"].tolist() == x.tolist()
    with pytest.raises(NetError, match=r"layer 'd' \(Dropout\) draws at random in Caffe"):
        run(engine, net, {}, {"x": x})
