"""LSTMUnit, value by value. A whole LSTM is in test_lstm.py."""

import math

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import LSTMUnit

LAYER = LSTMUnit.of("l", ("c", "gates", "cont"), ("y", "h"))
RNG = np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_value_by_value():
    c, gates, cont = RNG.normal(size=(1, 3, 2)), RNG.normal(size=(1, 3, 8)), np.array([[1, 0, 0.5]])

    y, h = LAYER.forward([c, gates, cont], [])

    assert LAYER.top_shapes([c.shape, gates.shape, cont.shape]) == [y.shape, h.shape]
    for n, d in np.ndindex(3, 2):
        i, f, o, g = gates[0, n, d::2].tolist()
        new = cont[0, n] * sigmoid(f) * c[0, n, d] + sigmoid(i) * math.tanh(g)
        assert y[0, n, d] == pytest.approx(new)
        assert h[0, n, d] == pytest.approx(sigmoid(o) * math.tanh(new))


def test_a_gate_that_is_nearly_shut():
    """A large c shows each digit of it; the tanh of Sigmoid would be wrong in the fifth."""
    gates = np.array([[[0, -7.5, 0, 0]]], np.float32)
    c = np.full((1, 1, 1), 1e6, np.float32)

    y, _ = LAYER.forward([c, gates, np.ones((1, 1), np.float32)], [])

    assert y.dtype == np.float32
    assert y.item() == pytest.approx(1e6 * sigmoid(-7.5), rel=3e-7)


def test_where_a_sequence_begins_no_gate_counts():
    gates = np.array([[[0.0, np.nan, 0.0, 0.0]]])

    y, h = LAYER.forward([np.ones((1, 1, 1)), gates, np.zeros((1, 1))], [])

    assert (y.item(), h.item()) == (0, 0)


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 3, 2), (1, 3, 7), (1, 3)],
        [(2, 3, 2), (2, 3, 8), (2, 3)],
        [(1, 3, 2), (1, 3, 8), (1, 3, 1)],
        [(1, 3), (1, 12), (1,)],
    ],
)
def test_refused_and_accepted(shapes):
    assert LAYER.top_shapes([(1, 3, 2), (1, 3, 8), (1, 3)]) == [(1, 3, 2)] * 2

    with pytest.raises(ShapeError, match=r"takes \(1, N, D\), \(1, N, 4 \* D\) and \(1, N\)"):
        LAYER.top_shapes(shapes)
