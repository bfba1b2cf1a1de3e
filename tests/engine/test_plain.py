"""The plain engine: which blobs come back, what is computed, and what is refused."""

import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_nets import data, net, normalised, random_input, random_weights, residual

from resnet_proto.engine import run
from resnet_proto.engine.plain import Schedule, forward
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import (
    NetError,
    ResNetProtoError,
    ShapeError,
    UnknownLayerError,
    WeightsError,
)
from resnet_proto.layers import (
    LRN,
    AbsVal,
    BatchNorm,
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    Flatten,
    InnerProduct,
    Pooling,
    ReLU,
    Reshape,
    Scale,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
    make_layer,
)
from resnet_proto.net import Net, overwritten
from resnet_proto.prototxt import to_prototxt
from resnet_proto.weights import Weights

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)


class Named(dict):
    """Weights that know their file."""

    source = "ResNet.caffemodel"


def test_residual_unit_is_what_numpy_says():
    """A unit of 1x1 convolutions, written out with einsum in float64."""
    small = net(
        *normalised("a", "data", "a", 3, kernel_size=1),
        make_layer("sum", "Eltwise", ("data", "a"), ("sum",)),
        ReLU.of("relu", "sum", "sum"),
    )
    w = random_weights(small)

    blobs = forward(small, w, X, dtype="float64")

    x = X.astype(np.float64)
    each = {k: v.astype(np.float64).reshape(-1, 1, 1) for k, v in w.items() if v.ndim == 1}
    y = np.einsum("oc,nchw->nohw", w["a.weight"][:, :, 0, 0].astype(np.float64), x) + each["a.bias"]
    factor = each["bn_a.scale_factor"]
    y = (y - each["bn_a.mean"] / factor) / np.sqrt(each["bn_a.variance"] / factor + 1e-5)
    y = np.maximum(y * each["scale_a.weight"] + each["scale_a.bias"], 0)
    np.testing.assert_allclose(blobs["a"], y, rtol=1e-7)
    np.testing.assert_allclose(blobs["sum"], np.maximum(x + y, 0), rtol=1e-7)


def test_every_blob_in_the_order_of_the_net():
    deep = residual()

    blobs = forward(deep, random_weights(deep), random_input(deep))

    assert " ".join(blobs) == ("data conv1 pool1 a1 a2a a2b a2c a b2a b2b b2c b pool5 fc prob")
    assert {str(blob.dtype) for blob in blobs.values()} == {"float32"}
    np.testing.assert_allclose(blobs["prob"].sum(axis=1), 1, rtol=1e-6)


def test_inputs_are_left_alone():
    small = net(ReLU.of("relu", "data", "data"))
    x = X.copy()

    blobs = forward(small, {}, {"data": x})

    np.testing.assert_array_equal(x, X)
    assert not np.shares_memory(blobs["data"], x)


def test_outputs_in_any_order_only_what_they_need():
    """'a2a' needs neither the other branch nor its weights."""
    deep = residual()
    weights, inputs = random_weights(deep), random_input(deep)
    every = forward(deep, weights, inputs)
    few = {k: v for k, v in weights.items() if k.split(".")[0].split("_")[-1] in ("conv1", "a2a")}

    blobs = forward(deep, few, inputs, outputs=("a2a", "pool1"))

    assert list(blobs) == ["pool1", "a2a"]
    for name, blob in blobs.items():
        np.testing.assert_array_equal(blob, every[name])


def test_until_stops_after_the_last_writer():
    """'conv1' is complete after its ReLU."""
    deep = residual()
    blobs = forward(deep, random_weights(deep), random_input(deep), until="conv1")

    assert list(blobs) == ["data", "conv1"]
    assert blobs["conv1"].min() == 0


def test_a_blob_is_freed_after_its_last_reader():
    schedule = Schedule.of(residual(), ["prob"], None)

    freed = {
        name: step.layer.name
        for step, names in zip(schedule.steps, schedule.freed, strict=True)
        for name in names
    }

    assert freed["data"] == "conv1"
    assert freed["pool1"] == "a2a"
    assert freed["a"] == "b"
    assert "prob" not in freed


PART = 1 << 20  # bytes of each blob below


@pytest.mark.parametrize("layer", ["TanH", "ReLU"])  # computed by its own forward; in the arena
@pytest.mark.parametrize("way", ["plain", "planned"])
def test_only_two_blobs_of_a_chain_are_there_at_a_time(way, layer):
    """What was allocated at most, as tracemalloc counts it: freed after the last reader."""
    names = [f"x{i}" for i in range(13)]
    layers = (make_layer(top, layer, bottom, top) for bottom, top in pairwise(["data", *names]))
    some_net = net(*layers, shape=(2, 4, 256, 128))
    x = random_input(some_net)["data"]
    run = Plan(some_net, {}).run if way == "planned" else partial(forward, some_net, {})

    few, every = (peak(partial(run, x, outputs=outputs)) for outputs in (names[-1:], None))

    assert few < 6 * PART  # input and its copies, a bottom, a top, the result
    assert every > 13 * PART


def peak(function):
    """Bytes that were in use at most."""
    tracemalloc.start()
    function()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


@pytest.mark.parametrize("way", ["plain", "planned"])
def test_only_what_a_blob_needs_is_computed(way, monkeypatch):
    """Other branches, and what lies behind, are not run; nor are their weights looked at."""
    ran = []
    for cls in (TanH, Sigmoid):
        own = cls.forward
        monkeypatch.setattr(
            cls, "forward", lambda self, *a, own=own: ran.append(self.name) or own(self, *a)
        )
    layers = [
        TanH.of("a", "data", "a"),
        Sigmoid.of("b", "data", "b"),
        InnerProduct.of("fc", "b", "fc", num_output=4),
        TanH.of("c", "a", "c"),
        Sigmoid.of("d", "c", "d"),
    ]
    some_net = net(*layers)
    run = Plan(some_net, {}).run if way == "planned" else partial(forward, some_net, {})

    assert [*run(random_input(some_net), outputs=["c"])] == ["c"]
    assert ran == ["a", "c"]


def test_a_blob_that_is_overwritten_is_freed_once():
    """The name lives on with its new value until that has been read."""
    some_net = net(
        ReLU.of("r", "data", "x"), ReLU.of("s", "x", "x"), ReLU.of("t", "x", "y"), shape=(2, 3)
    )

    schedule = Schedule.of(some_net, ["y"], None)

    assert schedule.freed == ((), ("data",), (), ("x",))


def test_layers_of_one_name_have_weights_of_their_own():
    conv = Convolution.of("c", "data", "x", num_output=3, kernel_size=1, bias_term=False)
    again = Convolution.of("c", "x", "y", num_output=3, kernel_size=1, bias_term=False)
    one = np.eye(3)[:, :, None, None]

    blobs = forward(net(conv, again), {"c.weight": one, "c#2.weight": 2 * one}, X)

    np.testing.assert_allclose(blobs["y"], 2 * X, rtol=1e-6)


@pytest.mark.parametrize("stored", [(5,), (1, 5), (1, 1, 1, 5)])
def test_old_files_store_four_axes(stored):
    small = net(InnerProduct.of("fc", "data", "fc", num_output=5))
    weights = {"fc.weight": np.zeros((1, 1, 5, 105)), "fc.bias": np.arange(5.0).reshape(stored)}

    assert forward(small, weights, X)["fc"].tolist() == [[0, 1, 2, 3, 4]] * 2


def test_unaligned_weights_of_a_mapped_file():
    small = net(InnerProduct.of("fc", "data", "fc", num_output=2, bias_term=False))
    weight = np.arange(210, dtype="<f4").reshape(2, 105)
    unaligned = np.frombuffer(b"\0" + weight.tobytes(), "<f4", offset=1).reshape(2, 105)

    blobs = forward(small, {"fc.weight": unaligned}, X)

    np.testing.assert_allclose(blobs["fc"], X.reshape(2, -1) @ weight.T, rtol=1e-5)


CONV = net(Convolution.of("c", "data", "c", num_output=4, kernel_size=(3, 2)))
WEIGHTS = Named(random_weights(CONV))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"c.weight": None},
            r"layer 'c': weight is missing in the weights, the net needs 4x3x3x2",
        ),
        (
            {"c.weight": np.zeros((4, 3, 2, 3))},
            "weight is 4x3x2x3 in the weights, the net needs 4x3x3x2",
        ),
        ({"c.bias": np.zeros(1)}, r"layer 'c': bias is 1 in"),
        ({"c.bias": np.zeros(4, complex)}, r"layer 'c': bias is complex128 in the weights; give"),
        ({"c.bias": "zeros"}, r"layer 'c': bias is <U5 in the weights; give an array of real"),
        ({"c.bias": [[1], [2, 3]]}, r"layer 'c': bias is object in the weights; give an array"),
    ],
)
def test_weights_that_do_not_fit(change, message):
    weights = Named({k: v for k, v in {**WEIGHTS, **change}.items() if v is not None})
    forward(CONV, WEIGHTS, X)

    with pytest.raises(WeightsError, match=message):
        forward(CONV, weights, X)


def test_what_are_no_weights():
    """A name that was forgotten, say."""
    for make in (lambda wrong: forward(CONV, wrong, X), lambda wrong: Plan(CONV, wrong).run(X)):
        make(WEIGHTS)
        with pytest.raises(WeightsError, match="expected a mapping of names to arrays, got None"):
            make(None)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"inputs": X[:1]},
            ShapeError,
            "'data' is 1x3x7x5, the net needs 2x3x7x5",
        ),
        ({"inputs": {}}, NetError, "input 'data' is missing"),
        ({"inputs": {"data": X, "dato": X}}, NetError, "no input 'dato'; did you mean data"),
        ({"outputs": ["d"]}, NetError, "no blob 'd' to compute"),
        ({"outputs": ["dat"]}, NetError, "no blob 'dat' to compute; did you mean data"),
        ({"until": "cc"}, NetError, "no blob 'cc' to compute; did you mean c"),
        ({"until": 7}, NetError, "no blob '7' to compute"),
        ({"dtype": "float16"}, NetError, "dtype is float16; give float32 or float64"),
        ({"dtype": "nonsense"}, NetError, "dtype is 'nonsense'; give float32 or float64"),
        ({"inputs": "x"}, ResNetProtoError, "input 'data' is str of <U1; give an array of real"),
        ({"inputs": X * 1j}, ResNetProtoError, "input 'data' is ndarray of complex64; give"),
        ({"inputs": [[1], [2, 3]]}, ResNetProtoError, "input 'data' is list of object; give"),
        ({"outputs": "c"}, ResNetProtoError, "outputs is 'c'; give a list of names"),
    ],
)
def test_requests_that_are_refused(arguments, error, message):
    forward(CONV, WEIGHTS, X.tolist(), dtype="float64", outputs=["c"], until="c")
    with pytest.raises(error, match=message):
        forward(**{"net": CONV, "weights": WEIGHTS, "inputs": X, **arguments})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("deploy.prototxt", r"net is a file's name; read it: read_prototxt\('deploy.prototxt'\)"),
        (Path("deploy.prototxt"), r"read_prototxt\('deploy.prototxt'\)"),
        (None, "net is a NoneType; expected a Net"),
    ],
)
def test_what_is_no_net(wrong, message):
    for make in (lambda net: forward(net, {}, {}), lambda net: Plan(net, {})):
        make(Net())
        with pytest.raises(ResNetProtoError, match=message):
            make(wrong)


def test_unknown_layers_are_named_and_can_be_left_out():
    with_crop = Net("t", (*CONV.layers, make_layer("crop", "Crop9", ("c",), ("out",))))

    assert list(forward(with_crop, WEIGHTS, X, until="c")) == ["data", "c"]

    with pytest.raises(UnknownLayerError, match="layer 'crop' has type 'Crop9'"):
        forward(with_crop, WEIGHTS, X)


def test_a_python_layer_is_named_with_its_class():
    param = {"module": "rpn.proposal_layer", "layer": "ProposalLayer"}
    layer = make_layer("p", "Python", ("data",), ("y",), {"python_param": param})

    with pytest.raises(
        UnknownLayerError, match=r"'p' has type 'Python' \(rpn\.proposal_layer\.ProposalLayer\), "
    ):
        forward(net(layer), {}, X)


def test_empty_blobs_cannot_be_computed():
    empty = net(ReLU.of("relu", "data", "relu"), shape=(0, 3))

    with pytest.raises(ShapeError, match="blob 'data' is 0x3"):
        forward(empty, {}, np.zeros((0, 3)))


WIDE = {
    Convolution: {"kernel_size": 3, "pad": 4_000_000, "dilation": 4_000_000, "num_output": 1},
    Deconvolution: {"kernel_size": 1, "stride": 50_000, "pad": 40_000, "num_output": 1},
    Pooling: {"kernel_size": 50_000, "pad": 49_999, "stride": 99_999},
    LRN: {"local_size": 49_999, "norm_region": "WITHIN_CHANNEL"},
}


@pytest.mark.parametrize("type", WIDE)
@pytest.mark.parametrize("way", [forward, lambda net, *args: Plan(net, {}).run(*args[1:])])
def test_pads_that_no_memory_holds(way, type):
    """Their tops are small, so the net itself is taken."""
    padded = net(type.of("l", "data", "y", **WIDE[type]), shape=(1, 1, 3, 3))
    assert all(step.tops[0][2:] < (50_000, 50_000) for step in padded.walk())

    with pytest.raises(ShapeError, match=r"layer 'l' .*: with its pad blob 'data' would be 1x1x"):
        way(padded, {}, np.zeros((1, 1, 3, 3)))


IN_PLACE = {
    "Convolution": Convolution.of("l", "x", "x", num_output=3, kernel_size=1),
    "Pooling": Pooling.of("l", "x", "x", kernel_size=3, stride=1, pad=1),
    "Eltwise SUM": Eltwise.of("l", ("x", "y"), "x"),
    "Eltwise MAX": Eltwise.of("l", ("x", "y"), "x", operation="MAX"),
}


@pytest.mark.parametrize("layer", IN_PLACE.values(), ids=IN_PLACE)
def test_layers_that_cannot_work_in_place(layer, tmp_path, caffe_python):
    """Caffe runs them, and overwrites what it still has to read."""
    before = (ReLU.of("rx", "data", "x"), Scale.of("ry", "data", "y"))
    apart = net(*before, replace(layer, tops=("top",)), shape=X.shape)
    weights = random_weights(apart)
    right = forward(apart, weights, X)["top"]
    in_place = net(*before, layer, shape=X.shape)

    with pytest.raises(NetError, match=r"layer 'l' \(\w+\) cannot work in place"):
        forward(in_place, weights, X)

    theirs = run("caffe", in_place, Weights.of(weights), {"data": X}, caffe_python=caffe_python)
    assert np.abs(theirs["x"] - right).max() > 0.1


def test_layers_that_can_work_in_place(caffe_python):
    layers = [
        BatchNorm.of("b", "data", "data"),
        Scale.of("s", "data", "data"),
        ReLU.of("r", "data", "data"),
        Eltwise.of("e", ("data", "other"), "data", operation="PROD"),
        Softmax.of("p", "data", "data"),
    ]
    small = net(data(*X.shape, name="other"), *layers, shape=X.shape)
    weights = random_weights(small)
    inputs = {"data": X, "other": X[::-1]}

    ours = forward(small, weights, inputs)

    theirs = run("caffe", small, Weights.of(weights), inputs, caffe_python=caffe_python)
    np.testing.assert_allclose(ours["data"], theirs["data"], rtol=1e-5)


def test_weights_of_a_file_fit_as_caffe_has_it():
    """A blob too many is refused there; of a plain mapping only what is needed is looked at."""
    bare = net(Convolution.of("c", "data", "c", num_output=4, kernel_size=3, bias_term=False))
    many = random_weights(net(Convolution.of("c", "data", "c", num_output=4, kernel_size=3)))
    assert list(many) == ["c.weight", "c.bias"]
    forward(bare, many, X)

    with pytest.raises(
        WeightsError, match=r"layer 'c' .*: 2 blobs \(4x3x3x3, 4\) in the weights, 1"
    ):
        forward(bare, Weights.of(many), X)


SHARING = {
    "Flatten": Flatten.of("f", "data", "y"),
    "Reshape": Reshape.of("f", "data", "y", shape={"dim": (0, -1)}),
    "Split": make_layer("f", "Split", ("data",), ("y", "z")),
    "Concat": Concat.of("f", "data", "y"),
    "Slice": Slice.of("f", "data", "y"),
}


@pytest.mark.parametrize("type", SHARING)
def test_memory_that_caffe_shares(type, warm_caffe):
    """What works in place on such a top overwrites the bottom: whoever reads that is misled."""
    sharing, in_place = SHARING[type], ReLU.of("r", "y", "y")
    quiet, misled = net(sharing, in_place), net(sharing, in_place, AbsVal.of("late", "data", "a"))
    early = net(AbsVal.of("early", "data", "a"), sharing, in_place)
    copied = net(sharing, ReLU.of("r", "y", "r"), AbsVal.of("late", "data", "a"))
    right = {"y": np.maximum(X, 0).reshape(-1), "a": np.abs(X).reshape(-1)}
    jobs = [warm_caffe.give(to_prototxt(each), {}, {"data": X})
            for each in (quiet, early, copied, misled)]  # fmt: skip

    for accepted, job in zip((quiet, early, copied), jobs, strict=False):
        theirs = warm_caffe.answer(job)
        blobs = forward(accepted, {}, X)
        lost = overwritten(accepted.layers)
        assert theirs.keys() == blobs.keys()
        assert (theirs["data"] == X).all() == ("data" not in lost) == (accepted is copied)
        for name in blobs.keys() - lost:
            np.testing.assert_allclose(blobs[name], theirs[name], rtol=1e-6)
    np.testing.assert_array_equal(forward(quiet, {}, X)["data"], X)
    np.testing.assert_array_equal(forward(early, {}, X)["a"].reshape(-1), right["a"])

    theirs = warm_caffe.answer(jobs[-1])
    np.testing.assert_array_equal(theirs["a"].reshape(-1), right["y"])
    for engine in ("numpy", "float64", "onnxruntime"):
        with pytest.raises(
            NetError, match=r"layer 'late' .* shares its memory with 'y', and layer"
        ):
            run(engine, misled, {}, {"data": X})


def test_a_dropout_overwrites_nothing(caffe_python):
    """At phase TEST; it often follows a Flatten in place. The engine leaves out what is lost."""
    flat, late = Flatten.of("f", "data", "y"), AbsVal.of("a", "data", "a")
    small = net(flat, Dropout.of("d", "y", "y"), late)

    theirs = run("caffe", small, {}, {"data": X}, caffe_python=caffe_python)
    left = run(
        "caffe", net(flat, ReLU.of("r", "y", "y")), {}, {"data": X}, caffe_python=caffe_python
    )

    assert list(theirs) == ["data", "y", "a"]
    assert list(left) == ["y"]
    np.testing.assert_array_equal(forward(small, {}, X)["a"], theirs["a"])
