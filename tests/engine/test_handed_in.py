"""Nets with data layers: what they would read is handed in, by every engine alike."""

import numpy as np
import pytest

from resnet_proto.engine import forward, run
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import NetError, ShapeError, UnknownShapeError
from resnet_proto.fit import match
from resnet_proto.formats.onnx import to_onnx
from resnet_proto.layers import (
    Convolution,
    Data,
    DummyData,
    Eltwise,
    InnerProduct,
    Input,
    ReLU,
    Silence,
)
from resnet_proto.net import Net
from resnet_proto.report.summary import summarize
from resnet_proto.weights import random_weights

LAYERS = (
    Convolution.of("conv", "data", "conv", num_output=4, kernel_size=3),
    ReLU.of("relu", "conv", "conv"),
    InnerProduct.of("fc", "conv", "fc", num_output=6),
    Silence.of("quiet", "label", ()),
)
NET = Net("n", (Data.of("d", (), ("data", "label"), batch_size=64), *LAYERS))
SHAPE = (2, 3, 7, 5)
X = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
LABEL = np.array([3, 1], np.float32)
WEIGHTS = random_weights(NET, shapes={"data": SHAPE})
EXPECTED = forward(
    Net("n", (Input.of("d", (), "data", shape={"dim": SHAPE}), *LAYERS[:3])), WEIGHTS, X
)

ENGINES = ["numpy", "float64", "onnxruntime", "torch"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("outputs", [None, ("fc",)])
def test_arrays_go_before_what_the_layer_says(engine, outputs, request):
    """A batch of 2 where the file says 64, in a shape that no field tells."""
    if engine == "torch":
        request.getfixturevalue("torch")

    blobs = run(engine, NET, WEIGHTS, {"data": X, "label": LABEL}, outputs=outputs)

    assert list(blobs) == list(outputs or ("data", "label", "conv", "fc"))
    np.testing.assert_allclose(blobs["fc"], EXPECTED["fc"], rtol=1e-4, atol=1e-4)


def test_one_array():
    """Where only the data is needed, it need not be named."""
    blobs = forward(NET, WEIGHTS, X, outputs=["fc"])

    np.testing.assert_array_equal(blobs["fc"], EXPECTED["fc"])
    np.testing.assert_allclose(Plan(NET, WEIGHTS).run(X, ["fc"])["fc"], blobs["fc"], rtol=1e-5)


def test_a_plan_follows_the_batch():
    plan = Plan(NET, WEIGHTS)

    for n in (2, 1, 2):
        (fc,) = plan.run({"data": X[:n]}, ["fc"]).values()
        np.testing.assert_allclose(fc, EXPECTED["fc"][:n], rtol=1e-5)


@pytest.mark.parametrize("run", [forward, lambda *args: Plan(*args[:2]).run(args[2])])
def test_refused(run):
    with pytest.raises(NetError, match="input 'label' is missing; the net needs 2"):
        run(NET, WEIGHTS, {"data": X})
    with pytest.raises(UnknownShapeError, match="the shape of 'data' is in its data only"):
        run(NET, WEIGHTS, {})
    with pytest.raises(NetError, match="no input 'labl'; did you mean label"):
        run(NET, WEIGHTS, {"data": X, "label": LABEL, "labl": LABEL})
    with pytest.raises(NetError, match="one array was given, but the inputs needed are: data, lab"):
        run(NET, WEIGHTS, X)


FILLED = Net(
    "n",
    (
        DummyData.of("d", (), ("a", "b"), shape={"dim": (2, 3)}, data_filler={"value": 2.5}),
        Eltwise.of("sum", ("a", "b"), "sum"),
    ),
)


@pytest.mark.parametrize("engine", ENGINES)
def test_constants_need_nothing(engine, request):
    if engine == "torch":
        request.getfixturevalue("torch")

    assert run(engine, FILLED, {}, {})["sum"].tolist() == [[5.0] * 3] * 2
    assert run(engine, FILLED, {}, {"b": np.ones((2, 3))})["sum"].tolist() == [[3.5] * 3] * 2
    both = dict.fromkeys(("a", "b"), np.ones((1, 4)))
    assert run(engine, FILLED, {}, both)["sum"].tolist() == [[2.0] * 4]


def test_an_input_beside_constants():
    """A single array is the input's, whose shape is the net's."""
    data = Input.of("in", (), "x", shape={"dim": (2, 3)})
    net = Net("n", (*FILLED.layers, data, Eltwise.of("e", ("x", "sum"), "e")))

    assert forward(net, {}, np.ones((2, 3)))["e"].tolist() == [[6.0] * 3] * 2
    with pytest.raises(ShapeError, match="input 'x' is 3x2, the net needs 2x3"):
        forward(net, {}, np.ones((3, 2)))


def test_fillers_that_have_no_value():
    noise = DummyData.of("d", (), "a", shape={"dim": (2, 3)}, data_filler={"type": "gaussian"})

    with pytest.raises(NetError, match="input 'a' is missing; the net needs 2x3"):
        forward(Net("n", (noise,)), {}, {})
    assert forward(Net("n", (noise,)), {}, {"a": X[0, 0]})["a"].shape == (7, 5)


def test_shapes_that_no_data_layer_makes():
    with pytest.raises(NetError, match="no data layer makes a blob 'dat'; did you mean data"):
        list(NET.walk(shapes={"dat": SHAPE}))
    with pytest.raises(NetError, match="no data layer makes a blob 'fc'"):
        list(NET.walk(shapes={"fc": SHAPE}))


def test_what_is_known_without_shapes():
    """Layers are listed; with the shapes the figures come."""
    summary = summarize(NET)
    assert [row.tops for row in summary.rows][:2] == [{"data": None, "label": None}, {"conv": None}]
    assert "hand it in" in summary.unknown
    assert {v.verdict for v in match(WEIGHTS, NET)} == {"unknown"}

    summary = summarize(NET, shapes={"data": SHAPE})
    assert summary.rows[0].tops == {"data": SHAPE, "label": (2,)}
    assert summary.unknown is None

    assert NET.inputs() == {}
    model = to_onnx(NET, WEIGHTS, outputs=["fc"], shapes={"data": SHAPE})
    assert [value.name for value in model.graph.input] == ["data"]
    model = to_onnx(NET, WEIGHTS, shapes={"data": SHAPE})
    assert [value.name for value in model.graph.input] == ["data", "label"]
