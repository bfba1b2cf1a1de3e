"""Bottoms for RNN and LSTM, all sizes different: 4 steps of 3 streams, 2 x 5 values, 6 outputs."""

import numpy as np

X, CONT, STATIC, STATE = (4, 3, 2, 5), (4, 3), (3, 7), (1, 3, 6)
NAMES = ("x", "cont", "static", "h", "c")


def bottoms(rng, static, n_states):
    """Arrays, and their names."""
    arrays = [rng.normal(size=X), rng.integers(0, 2, CONT).astype(float)]
    names = ["x", "cont"]
    if static:
        arrays.append(rng.normal(size=STATIC))
        names.append("static")
    for i in range(n_states):
        arrays.append(rng.normal(size=STATE))
        names.append(f"state{i}")
    return arrays, tuple(names)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
