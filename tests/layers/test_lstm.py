"""LSTM, step by step and stream by stream."""

import numpy as np
import pytest
from recurrent_nets import CONT, STATE, X, bottoms, sigmoid

from resnet_proto.errors import ShapeError
from resnet_proto.layers import LSTM

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("exposed", [False, True])
def test_step_by_step(static, exposed):
    arrays, names = bottoms(RNG, static, 2 * exposed)
    tops = ("y", "h", "c")[: 1 + 2 * exposed]
    layer = LSTM.of("l", names, tops, num_output=6, expose_hidden=exposed)
    shapes = layer.blob_shapes([x.shape for x in arrays])
    w = {name: RNG.normal(size=shape) for name, shape in shapes.items()}
    assert list(shapes) == ["W_xc", "b_c", *(["W_xc_static"] * static), "W_hc"]
    assert shapes["W_xc"] == (24, 10)

    y, *state = layer.forward(arrays, list(w.values()))

    x, cont, *others = arrays
    for n in range(3):
        h, c = (s[0, n] for s in others[-2:]) if exposed else (np.zeros(6), np.zeros(6))
        for t in range(4):
            total = w["W_hc"] @ (h * cont[t, n]) + w["W_xc"] @ x[t, n].ravel() + w["b_c"]
            if static:
                total += w["W_xc_static"] @ others[0][n]
            i, f, o = (sigmoid(total[k * 6 : k * 6 + 6]) for k in range(3))
            c = cont[t, n] * f * c + i * np.tanh(total[18:])
            h = o * np.tanh(c)
            np.testing.assert_allclose(y[t, n], h)
        if exposed:
            np.testing.assert_allclose(state[0][0, n], h)
            np.testing.assert_allclose(state[1][0, n], c)
    assert layer.top_shapes([a.shape for a in arrays]) == [top.shape for top in (y, *state)]


def test_refused_and_accepted():
    names = ("x", "cont", "h", "c")
    two = {"num_output": 6, "expose_hidden": True}
    layer = LSTM.of("l", names, ("y", "ht", "ct"), **two)
    assert layer.top_shapes([X, CONT, STATE, STATE]) == [(4, 3, 6), STATE, STATE]

    with pytest.raises(ShapeError, match="takes 4 or 5 bottom and 3 top, has 4 and 2"):
        LSTM.of("l", names, ("y", "ht"), **two).top_shapes([X, CONT, STATE, STATE])
    with pytest.raises(ShapeError, match="takes 4 or 5 bottom and 3 top, has 3 and 3"):
        LSTM.of("l", names[:3], ("y", "ht", "ct"), **two).top_shapes([X, CONT, STATE])
