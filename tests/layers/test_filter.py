"""Filter: how many images there are shows when it runs."""

import numpy as np
import pytest

from resnet_proto.engine import forward
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import ShapeError
from resnet_proto.layers import Convolution, Filter, Input, Reduction, ReLU
from resnet_proto.net import Net
from resnet_proto.weights import random_weights

LAYER = Filter.of("f", ("a", "b", "s"), ("y", "z"))
RNG = np.random.default_rng(0)
A, B, S = RNG.normal(size=(4, 3, 7, 5)), RNG.normal(size=(4, 2)), np.array([0, 1, 0, -0.5])


def test_images():
    y, z = LAYER.forward([A, B, S[:, None]], [])

    assert LAYER.top_shapes([A.shape, B.shape, (4, 1)]) == [A.shape, B.shape]
    np.testing.assert_array_equal(y, A[[1, 3]])
    np.testing.assert_array_equal(z, B[[1, 3]])


def test_layers_behind_it():
    """No shape of the plan holds, so each layer's own way is taken."""
    data = Input.of("in", (), ("a", "s"), shape=({"dim": A.shape}, {"dim": S.shape}))
    conv = Convolution.of("c", "y", "c", num_output=6, kernel_size=3)
    layers = (Filter.of("f", ("a", "s"), "y"), conv, ReLU.of("r", "c", "c"))
    net = Net("n", (data, *layers))
    weights = random_weights(net)

    blobs = Plan(net, weights).run({"a": A, "s": S})

    alone = Net("n", (Input.of("in", (), "y", shape={"dim": (2, 3, 7, 5)}), *layers[1:]))
    expected = forward(alone, weights, A[[1, 3]])
    assert blobs["c"].shape == (2, 6, 5, 3)
    np.testing.assert_allclose(blobs["c"], expected["c"], rtol=1e-5)
    np.testing.assert_allclose(forward(net, weights, {"a": A, "s": S})["c"], expected["c"])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4, 3), (4, 2), (4, 2)], "the selector is 4x2"),
        ([(4, 3), (5, 2), (4,)], "bottom 'b' is 5x2, the selector 4"),
    ],
)
def test_refused(shapes, message):
    with pytest.raises(ShapeError, match=message):
        LAYER.top_shapes(shapes)


def test_a_top_for_each_bottom():
    with pytest.raises(ShapeError, match="has 1 top for 2 bottom and a selector"):
        Filter.of("f", ("a", "b", "s"), "y").top_shapes([(4, 3), (4, 2), (4,)])


@pytest.mark.parametrize("way", [forward, lambda net, *args: Plan(net, args[0]).run(args[1])])
def test_layers_behind_it_look_at_what_is_left(way):
    """More cases, with Caffe: tests/oracles/test_random.py."""
    data = Input.of("in", (), ("a", "s"), shape=({"dim": A.shape}, {"dim": S.shape}))
    total = Net("n", (data, Filter.of("f", ("a", "s"), "y"), Reduction.of("r", "y", "z")))
    assert way(total, {}, {"a": A, "s": S})["z"].shape == ()

    with pytest.raises(ShapeError, match=r"'r' .* are 0x3x7x5 in this run: .* compute 'z' from"):
        way(total, {}, {"a": A, "s": 0 * S})
