"""The fast way gives what the plain one gives."""

import numpy as np
import pytest
from small_nets import net, normalised, random_input, random_weights, residual

from resnet_proto.engine import plain, run
from resnet_proto.engine.compare import compare
from resnet_proto.engine.planned import Layout, Life, Plan
from resnet_proto.errors import NetError, ResNetProtoError, WeightsError
from resnet_proto.layers import (
    AbsVal,
    BatchNorm,
    Concat,
    Convolution,
    Crop,
    Deconvolution,
    Dropout,
    Eltwise,
    Filter,
    Flatten,
    InnerProduct,
    Input,
    Pooling,
    Power,
    Proposal,
    ReLU,
    Reshape,
    Scale,
    Sigmoid,
    Silence,
    Slice,
    Softmax,
    Split,
    TanH,
    make_layer,
)
from resnet_proto.net import Net

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def distance(a, b):
    """Relative L2."""
    return np.linalg.norm(a - b) / (np.linalg.norm(b) or 1)


def assert_equal_to_plain(some_net, outputs=None, until=None):
    """In both dtypes, every blob asked for; and nothing that was handed out changes later."""
    weights, inputs = random_weights(some_net), random_input(some_net)
    other = {name: value + 1 for name, value in inputs.items()}
    for dtype, tolerance in TOLERANCE.items():
        plan = Plan(some_net, weights, dtype=dtype)
        expected = plain.forward(
            some_net, weights, inputs, dtype=dtype, outputs=outputs, until=until
        )
        blobs = plan.run(inputs, outputs, until)
        kept = {name: blob.copy() for name, blob in blobs.items()}
        plan.run(other, outputs, until)

        assert list(blobs) == list(expected)
        for name, blob in blobs.items():
            assert blob.shape == expected[name].shape
            assert blob.dtype == dtype
            assert distance(blob, expected[name]) <= tolerance, name
            np.testing.assert_array_equal(blob, kept[name])


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("outputs", [None, ["prob"], ["b", "a2c", "conv1"], ["data", "fc"]])
def test_residual_net(batch, outputs):
    assert_equal_to_plain(residual((batch, 3, 19, 13)), outputs)


@pytest.mark.parametrize("until", ["conv1", "a", "b2c"])
def test_part_of_a_net(until):
    assert_equal_to_plain(residual(), until=until)


def test_small_blocks(monkeypatch):
    """A row at a time, so that every loop over blocks runs more than once."""
    monkeypatch.setattr("resnet_proto.engine.planned.BLOCK", 50)

    assert_equal_to_plain(residual())
    assert_equal_to_plain(net(*NETS["a filter for each channel"]))


NETS = {
    "an hourglass of other types": [  # whose tops must not lie where their bottoms lay
        Convolution.of("c", "data", "c", num_output=4, kernel_size=3, pad=1),
        Slice.of("s", "c", ("s1", "s2"), slice_point=1),
        Concat.of("cat", ("s2", "s1"), "cat"),
        Power.of("p", "cat", "p", scale=0.5, shift=1.0, power=2.0),
        Pooling.of("pool", "p", "pool", kernel_size=2, stride=2),
        Deconvolution.of("up", "pool", "up", num_output=4, kernel_size=4, stride=2, group=2),
        Crop.of("crop", ("up", "c"), "crop", offset=(1, 0)),
        Eltwise.of("e", ("c", "crop"), "e"),
        Sigmoid.of("sig", "e", "e"),
        Dropout.of("drop", "e", "e"),
        Split.of("split", "e", ("e1", "e2")),
        AbsVal.of("abs", "e1", "a"),
        TanH.of("tanh", "e2", "t"),
        Flatten.of("flat", "t", "flat", axis=2),
        Reshape.of("shape", "flat", "r", shape={"dim": (0, -1, 5, 7)}),
        Reshape.of("back", "r", "b", shape={"dim": (0, -1, 7, 5)}),
        Eltwise.of("f", ("a", "b"), "f"),
        InnerProduct.of("fc", "f", "fc", num_output=3),
        Silence.of("quiet", "fc", ()),
    ],
    "branch that reads the value before BatchNorm": [
        Convolution.of("c", "data", "c", num_output=4, kernel_size=(3, 2), pad=1),
        Pooling.of("p", "c", "p", kernel_size=1),
        BatchNorm.of("bn", "c", "b"),
        Scale.of("s", "b", "b"),
        Eltwise.of("e", ("p", "b"), "e"),
    ],
    "a blob that is overwritten and read twice": [
        Convolution.of("c", "data", "c", num_output=4, kernel_size=1),
        ReLU.of("r", "c", "c"),
        Convolution.of("d", "c", "d", num_output=4, kernel_size=1),
        Eltwise.of("e", ("c", "d"), "e"),
        ReLU.of("re", "e", "e"),
    ],
    "a sum that is read before its ReLU": [
        Convolution.of("c", "data", "c", num_output=3, kernel_size=1),
        Eltwise.of("e", ("data", "c"), "e"),
        Pooling.of("p", "e", "p", pool="AVE", kernel_size=2),
        ReLU.of("r", "e", "r"),
    ],
    "a blob added to itself": [
        Convolution.of("c", "data", "c", num_output=3, kernel_size=1),
        Eltwise.of("e", ("c", "c", "c"), "e"),
    ],
    "two sums after one another": [
        Convolution.of("c", "data", "c", num_output=3, kernel_size=1),
        Eltwise.of("e", ("c", "data"), "e"),
        Eltwise.of("f", ("data", "e", "data"), "f"),
        ReLU.of("r", "f", "f"),
        BatchNorm.of("bn", "f", "f"),
    ],
    "sums with coefficients, products, maxima": [
        Convolution.of("c", "data", "c", num_output=3, kernel_size=1),
        Eltwise.of("e", ("c", "data"), "e", coeff=(0.5, -1.0)),
        Eltwise.of("f", ("c", "e"), "f", operation="PROD"),
        Eltwise.of("g", ("f", "e"), "g", operation="MAX"),
        Eltwise.of("h", ("g", "e"), "h", coeff=(1.0, 1.0)),
    ],
    "leaky ReLU": [
        *normalised("c", "data", "c", 4, relu=False, kernel_size=3),
        ReLU.of("r", "c", "c", negative_slope=0.1),
    ],
    "pre-activation": [
        BatchNorm.of("bn", "data", "bn", eps=0.001),
        Scale.of("s", "bn", "s", bias_term=True),
        ReLU.of("r", "s", "r"),
        Convolution.of("c", "r", "c", num_output=3, kernel_size=(3, 2), pad=(1, 0)),
        BatchNorm.of("bn2", "c", "bn2"),
        Scale.of("s2", "bn2", "s2"),
    ],
    "batch statistics": [
        Convolution.of("c", "data", "c", num_output=3, kernel_size=2),
        BatchNorm.of("bn", "c", "c", use_global_stats=False),
        ReLU.of("r", "c", "c"),
    ],
    "batch statistics, and what follows them": [
        Convolution.of("c", "data", "c", num_output=3, kernel_size=1),
        BatchNorm.of("bn", "c", "bn", use_global_stats=False, eps=0.01),
        Scale.of("s", "bn", "s", bias_term=True),
        Eltwise.of("e", ("data", "s"), "e"),
        ReLU.of("r", "e", "e"),
        BatchNorm.of("bn2", "e", "bn2", use_global_stats=False, scale_bias=True),
        Scale.of("s2", "bn2", "s2"),
        InnerProduct.of("ip", "s2", "ip", num_output=5),
        BatchNorm.of("bn3", "ip", "bn3", use_global_stats=False),
        make_layer("bn4", "BN", "s2", "bn4", {"bn_param": {"moving_average": False}}),
    ],
    "a filter for each channel": [
        *normalised(
            "c",
            "data",
            "c",
            3,
            kernel_size=(3, 2),
            stride=(2, 1),
            pad=(1, 0),
            dilation=(1, 2),
            group=3,
            bias_term=False,
        ),
        Convolution.of("one", "c", "one", num_output=3, kernel_size=1, group=3),
        Eltwise.of("e", ("c", "one"), "e"),
        ReLU.of("r", "e", "e"),
        Convolution.of("wider", "e", "wider", num_output=6, kernel_size=1, group=3),
        Convolution.of("none", "wider", "none", num_output=6, kernel_size=2, pad=1, group=6),
    ],
    "groups, dilation, axis": [
        Convolution.of("c", "data", "c", num_output=6, kernel_size=(3, 2), group=3, pad=2),
        Convolution.of("d", "c", "d", num_output=4, kernel_size=(2, 3), dilation=(2, 1)),
        Convolution.of("e", "d", "e", num_output=2, kernel_size=2, axis=-3, stride=(2, 1)),
        Convolution.of("f", "d", "f", num_output=2, kernel_size=(2, 3, 1), axis=0),
    ],
    "dilation 0": [  # every tap of a kernel column sees one value
        Convolution.of("c", "data", "c", num_output=4, kernel_size=(3, 2), dilation=(0, 2)),
        Deconvolution.of("d", "c", "d", num_output=3, kernel_size=(3, 2), dilation=(2, 0)),
    ],
    "a window that reaches past the padding": [
        Pooling.of("p", "data", "p", kernel_h=6, kernel_w=4, pool="AVE"),
        Convolution.of("c", "p", "c", num_output=4, kernel_size=3, stride=2),
    ],
    "a window that leaves rows unread": [
        Convolution.of("c", "data", "c", num_output=4, kernel_size=2, stride=(3, 2)),
        Convolution.of("d", "data", "d", num_output=4, kernel_size=1, stride=(4, 3)),
        Convolution.of("e", "data", "e", num_output=4, kernel_size=1, pad=(2, 1)),
    ],
    "pooling": [
        Pooling.of(
            "p", "data", "p", kernel_h=3, kernel_w=2, stride_h=2, stride_w=1, pad_h=1, pad_w=0
        ),
        Pooling.of("q", "data", "q", pool="AVE", kernel_size=3, stride=2, pad=2),
        Pooling.of("r", "data", "r", pool="AVE", kernel_size=4, stride=3, round_mode="FLOOR"),
        make_layer("m", "Pooling", ("data",), ("v", "mask"), {"pooling_param": {"kernel_size": 2}}),
    ],
    "other axes": [
        Scale.of("s", "data", "s", axis=2, num_axes=2),
        Scale.of("t", "s", "t", axis=-3, bias_term=True),
        InnerProduct.of("f", "t", "f", num_output=4, axis=2),
        ReLU.of("r", "f", "f"),
        BatchNorm.of("b", "f", "b"),
        Softmax.of("p", "b", "p", axis=2),
    ],
    "in place on the input": [
        Scale.of("s", "data", "data", bias_term=True),
        ReLU.of("r", "data", "data"),
        Convolution.of("c", "data", "c", num_output=2, kernel_size=3),
    ],
}


@pytest.mark.parametrize("layers", NETS.values(), ids=NETS)
def test_equal_to_plain(layers):
    """All blobs, and then only the last one, so that everything else may be joined."""
    some_net = net(*layers)
    assert_equal_to_plain(some_net)
    assert_equal_to_plain(some_net, outputs=layers[-1].tops)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_maximum_passes_over_nan(dtype):
    """As Caffe's, which keeps what it has unless a value is greater."""
    some_net = net(Pooling.of("p", "data", "p", kernel_size=2, stride=2), shape=(1, 1, 4, 4))
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 1, 1] = np.nan
    x[0, 0, 2:, 2:] = np.nan
    x[0, 0, :2, 2:] = -np.inf

    blobs = Plan(some_net, {}, dtype=dtype).run({"data": x})

    lowest = -np.finfo(np.float32).max
    np.testing.assert_array_equal(blobs["p"], [[[[4, lowest], [13, lowest]]]])
    np.testing.assert_array_equal(
        plain.forward(some_net, {}, x, dtype=dtype)["p"], [[[[4, lowest], [13, lowest]]]]
    )


LARGE_MEANS = {
    "BatchNorm": [BatchNorm.of("bn", "data", "bn")],
    "with gamma and beta": [
        BatchNorm.of("bn", "data", "bn", scale_bias=True),
        Scale.of("s", "bn", "s", bias_term=True),
        ReLU.of("r", "s", "r"),
    ],
    "behind a Scale": [
        Scale.of("s", "data", "s", bias_term=True),
        BatchNorm.of("bn", "s", "bn"),
        Scale.of("t", "bn", "t"),
    ],
    "behind a sum": [
        Convolution.of("c", "data", "c", num_output=3, kernel_size=1),
        Eltwise.of("e", ("data", "c"), "e"),
        BatchNorm.of("bn", "e", "bn"),
    ],
}


def large_mean(some_net):
    """Weights and inputs whose BatchNorm meets a mean of about 1000 and deviations of 0.1."""
    weights, inputs = random_weights(some_net), random_input(some_net)
    if "c.weight" in weights:
        weights["c.weight"] *= 0
        weights["c.bias"] *= 0
    inputs = {name: (1000 + value / 10).astype(np.float32) for name, value in inputs.items()}
    bottom = next(step.layer.bottoms[0] for step in some_net.walk() if step.layer.name == "bn")
    x = plain.forward(some_net, weights, inputs, outputs=[bottom])[bottom]
    weights["bn.mean"], weights["bn.variance"] = x.mean((0, 2, 3)), x.var((0, 2, 3)) + 1e-3
    weights["bn.scale_factor"] = np.ones(1, np.float32)
    return weights, inputs


@pytest.mark.parametrize("layers", LARGE_MEANS.values(), ids=LARGE_MEANS)
def test_a_mean_that_is_large(layers):
    """As a factor and an offset, a BatchNorm would lose the digits that mean and values share."""
    some_net = net(*layers)
    weights, inputs = large_mean(some_net)
    last = layers[-1].tops

    exact = plain.forward(some_net, weights, inputs, outputs=last)[last[0]]

    assert distance(Plan(some_net, weights).run(inputs, last)[last[0]], exact) < 1e-6


def test_a_large_mean_behind_a_convolution(caffe_python):
    """There Caffe's own float32 loses as many digits, so the fold is as good as its two layers."""
    some_net = net(
        Convolution.of("c", "data", "c", num_output=4, kernel_size=1),
        BatchNorm.of("bn", "c", "bn"),
    )
    weights, inputs = random_weights(some_net), random_input(some_net)
    weights["c.bias"] += 100
    weights["bn.mean"] = weights["c.bias"] * weights["bn.scale_factor"]
    exact, folded, theirs = (
        run(name, some_net, weights, inputs, outputs=["bn"], caffe_python=caffe_python)["bn"]
        for name in ("float64", "numpy", "caffe")
    )

    assert distance(theirs, exact) > 1e-6
    assert distance(folded, exact) < 2 * distance(theirs, exact)


@pytest.mark.parametrize("seed", range(40))
def test_random_nets(seed):
    """Layers that keep the shape, on random blobs, in place where nobody else reads them."""
    rng = np.random.default_rng(seed)
    blobs, layers, read = ["data"], [], set()
    for i in range(12):
        bottom = str(rng.choice(blobs))
        new = f"x{i}"
        top = bottom if rng.random() < 0.5 and bottom not in read else new
        kind = rng.integers(6)
        if kind == 0:
            layers.append(Convolution.of(f"l{i}", bottom, new, num_output=3, kernel_size=1))
        elif kind == 1:
            layers.append(Convolution.of(f"l{i}", bottom, new, num_output=3, kernel_size=3, pad=1))
        elif kind == 2:
            layers.append(BatchNorm.of(f"l{i}", bottom, top))
        elif kind == 3:
            layers.append(Scale.of(f"l{i}", bottom, top, bias_term=bool(rng.integers(2))))
        elif kind == 4:
            layers.append(ReLU.of(f"l{i}", bottom, top))
        else:
            layers.append(Eltwise.of(f"l{i}", (bottom, str(rng.choice(blobs))), new))
        if not layers[-1].in_place:
            read.update(layers[-1].bottoms)
        blobs = list(dict.fromkeys([*blobs, *layers[-1].tops]))
    some_net = net(*layers)

    assert_equal_to_plain(some_net)
    assert_equal_to_plain(some_net, outputs=list(rng.choice(blobs, 2, replace=False)))


def test_one_task_for_a_unit():
    """Convolution, BatchNorm, Scale, sum and ReLU run together when only the end is wanted."""
    program = Plan(residual(), random_weights(residual())).prepare(["prob"])

    assert " ".join(task.step.layer.name for task in program.tasks) == (
        "conv1 pool1 a2a a2b a2c a1 b2a b2b b2c pool5 fc prob"
    )


def test_request_changes():
    """A plan can be asked for something else, and for the first thing again."""
    deep = residual()
    weights, inputs = random_weights(deep), random_input(deep)
    plan = Plan(deep, weights)

    first, _, again = plan.run(inputs, ["b"]), plan.run(inputs), plan.run(inputs, ["b"])

    np.testing.assert_array_equal(first["b"], again["b"])
    with pytest.raises(NetError, match="no blob 'x'"):
        plan.run(inputs, ["x"])
    with pytest.raises(WeightsError, match="layer 'conv1': weight is missing"):
        Plan(deep, {}).run(inputs)


def test_names_of_outputs():
    """As in ``forward``: a string is no list of names, and the first wrong name is reported."""
    deep = residual()
    plan = Plan(deep, random_weights(deep))
    for call in (plan.run, lambda x, names: plain.forward(deep, plan.weights, x, outputs=names)):
        assert list(call(random_input(deep), iter(["b", "a"]))) == ["a", "b"]
        with pytest.raises(ResNetProtoError, match="outputs is 'a'; give a list of names"):
            call(random_input(deep), "a")
        for first, second in (("x", "y"), ("y", "x")):
            with pytest.raises(NetError, match=f"no blob '{first}'"):
                call(random_input(deep), [first, second])


def test_places_that_live_together_do_not_overlap():
    """Against the definition, for random lives; and memory is used again."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 30, 60)
    lives = [
        Life(i, int(size), int(a), int(a + n))
        for i, (size, a, n) in enumerate(
            zip(rng.integers(1, 500, 60), first, rng.integers(0, 5, 60), strict=True)
        )
    ]

    layout = Layout.of(lives, np.dtype("float32"))

    for a in lives:
        for b in lives[: a.name]:
            if a.first <= b.last and b.first <= a.last:
                start_a, start_b = layout.places[a.name][0], layout.places[b.name][0]
                assert start_a + a.size <= start_b or start_b + b.size <= start_a
    assert layout.size < sum(life.size for life in lives) / 2
    assert all(array.ctypes.data % 64 == 0 for array in layout.allocate().values())


def test_layers_whose_tops_vary_in_size():
    """How many regions there are is known when they are found; no buffer is laid out for them."""
    proposal = Proposal.of("p", ("s", "m", "i"), "rois", ratio=1.0, scale=2.0, post_nms_topn=20)
    inputs = {
        "s": np.random.default_rng(0).uniform(size=(1, 2, 3, 4)),
        "m": np.zeros((1, 4, 3, 4)),
        "i": np.array([[48.0, 64.0, 1.0]]),
    }
    given = [Input.of(name, (), name, shape={"dim": x.shape}) for name, x in inputs.items()]
    few = Net("n", (*given, proposal, InnerProduct.of("f", "rois", "f", num_output=2)))
    weights = random_weights(few)

    blobs = Plan(few, weights).run(inputs)

    expected = plain.forward(few, weights, inputs)
    assert 1 < len(blobs["rois"]) == len(blobs["f"]) < 20
    assert all((blobs[name] == expected[name]).all() for name in expected)


def test_only_layers_behind_them_go_their_own_way():
    """A chain ends before a layer that reads what varies; what is no part of that is planned."""
    data = Input.of("in", (), ("a", "s"), shape=({"dim": (4, 3, 7, 5)}, {"dim": (4,)}))
    conv = Convolution.of("c", "a", "c", num_output=6, kernel_size=3)
    layers = (
        conv,
        ReLU.of("r", "c", "c"),
        Convolution.of("d", "c", "d", num_output=2, kernel_size=1),
        Filter.of("f", ("c", "s"), "y"),
        Filter.of("g", ("c", "s"), "z"),
        Eltwise.of("e", ("y", "z"), "e"),
        Convolution.of("h", "e", "h", num_output=2, kernel_size=3),
        ReLU.of("q", "h", "h"),
        ReLU.of("t", "d", "d"),
    )
    net = Net("n", (data, *layers))
    weights = random_weights(net)
    inputs = {"a": np.random.default_rng(0).normal(size=(4, 3, 7, 5)), "s": np.array([1, 0, 1, 1])}
    plan = Plan(net, weights)

    blobs = plan.run(inputs)

    expected = plain.forward(net, weights, inputs)
    assert blobs["h"].shape == expected["h"].shape == (3, 2, 3, 1)
    assert all(row.within(TOLERANCE["float32"]) for row in compare(blobs, expected))
    tasks = plan.prepare().tasks
    assert [task.step.layer.name for task in tasks if task.compute] == ["c", "d"]
    assert [task.step.layer.name for task in tasks if not task.compute] == list("fgehq")
