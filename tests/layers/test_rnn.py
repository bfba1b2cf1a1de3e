"""RNN, step by step and stream by stream."""

import numpy as np
import pytest
from recurrent_nets import CONT, STATE, STATIC, X, bottoms

from resnet_proto.errors import ShapeError
from resnet_proto.layers import RNN

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("exposed", [False, True])
def test_step_by_step(static, exposed):
    arrays, names = bottoms(RNG, static, int(exposed))
    layer = RNN.of("r", names, ("o", "h")[: 1 + exposed], num_output=6, expose_hidden=exposed)
    shapes = layer.blob_shapes([x.shape for x in arrays])
    w = {name: RNG.normal(size=shape) for name, shape in shapes.items()}
    assert list(shapes) == ["W_xh", "b_h", *(["W_xh_static"] * static), "W_hh", "W_ho", "b_o"]

    tops = layer.forward(arrays, list(w.values()))

    x, cont, *others = arrays
    last = np.empty(STATE)
    for n in range(3):
        h = others[-1][0, n] if exposed else np.zeros(6)
        for t in range(4):
            total = w["W_hh"] @ (h * cont[t, n]) + w["W_xh"] @ x[t, n].ravel() + w["b_h"]
            if static:
                total += w["W_xh_static"] @ others[0][n]
            h = np.tanh(total)
            np.testing.assert_allclose(tops[0][t, n], np.tanh(w["W_ho"] @ h + w["b_o"]))
        last[0, n] = h
    if exposed:
        np.testing.assert_allclose(tops[1], last)
    assert layer.top_shapes([a.shape for a in arrays]) == [top.shape for top in tops]


def test_figures():
    layer = RNN.of("r", ("x", "cont", "static"), "o", num_output=6)
    shapes = [X, CONT, STATIC]
    blobs, tops = layer.blob_shapes(shapes), layer.top_shapes(shapes)

    assert blobs["W_xh"] == (6, 10)
    assert layer.macs(shapes, tops, blobs) == 12 * (6 * 10 + 6 * 6 + 6 * 6) + 3 * 6 * 7


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({"num_output": 0}, [X, CONT], "num_output is 0"),
        ({}, [X[:2], CONT], r"takes \(T, N, ...\) and \(T, N\), has 4x3 and 4x3"),
        ({}, [X, (4, 2)], "has 4x3x2x5 and 4x2"),
        ({}, [X, CONT, (2, 7)], r"the third bottom is 2x7; it needs \(3, ...\)"),
        ({}, [X, CONT, (3,)], "the third bottom is 3"),
        ({}, [X, CONT, STATIC, STATE], "takes 2 or 3 bottom and 1 top, has 4 and 1"),
        ({"expose_hidden": True}, [X, CONT], "takes 3 or 4 bottom and 2 top, has 2 and 1"),
    ],
)
def test_refused_and_accepted(fields, shapes, message):
    names = ("x", "cont", "a", "b")
    RNN.of("r", names[:3], "o", num_output=6).top_shapes([X, CONT, STATIC])

    with pytest.raises(ShapeError, match=message):
        RNN.of("r", names[: len(shapes)], "o", **{"num_output": 6, **fields}).top_shapes(shapes)


def test_state_of_another_shape():
    layer = RNN.of("r", ("x", "cont", "h"), ("o", "z"), num_output=6, expose_hidden=True)
    assert layer.top_shapes([X, CONT, STATE]) == [(4, 3, 6), STATE]

    with pytest.raises(ShapeError, match="a state is 3x6; it has to be 1x3x6"):
        layer.top_shapes([X, CONT, STATE[1:]])
