"""ONNX models: well formed, named after the net, and right in a runtime that is not ours."""

import sys
from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import NetError, ResNetProtoError, UnknownLayerError, WeightsError
from resnet_proto.formats.onnx import OPSETS, draw, to_onnx, write_model
from resnet_proto.formats.onnx_layers import WRITERS
from resnet_proto.layers import (
    LRN,
    MVN,
    REGISTRY,
    SPP,
    ArgMax,
    BatchNorm,
    Convolution,
    DetectionOutput,
    Filter,
    Flatten,
    InnerProduct,
    Input,
    Interp,
    Normalize,
    Pooling,
    Power,
    PriorBox,
    Proposal,
    PSROIPooling,
    Reduction,
    ReLU,
    Reshape,
    ROIPooling,
    Scale,
    ShuffleChannel,
    Slice,
    Softmax,
    Upsample,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.prototxt import to_prototxt
from resnet_proto.spec import ResNetSpec
from resnet_proto.weights import random_weights

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)


def net(*layers, shape=(2, 3, 7, 5)):
    return Net("t", (Input.of("in", (), "data", shape=({"dim": shape},)), *layers))


def small(unit="bottleneck"):
    return deploy_net(ResNetSpec("small", (1, 2), unit, width=8, stem_width=6, classes=10))


IN_PLACE = net(
    Convolution.of("conv1", "data", "conv1", num_output=4, kernel_size=(3, 2), pad=(1, 0)),
    BatchNorm.of("bn1", "conv1", "conv1"),
    Scale.of("scale1", "conv1", "conv1", bias_term=True),
    ReLU.of("relu1", "conv1", "conv1"),
    InnerProduct.of("fc", "conv1", "fc", num_output=6),
)


def names(values):
    return [value.name for value in values]


def sizes(value):
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def nodes(model):
    """Type, name and output of each node."""
    return [(node.op_type, node.name, *node.output) for node in model.graph.node]


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def initializers(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run_onnx(model, *inputs):
    """Every output by name."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = dict(zip(names(session.get_inputs()), inputs, strict=True))
    return dict(zip(names(model.graph.output), session.run(None, feeds), strict=True))


@pytest.mark.parametrize("outputs", [None, ["prob"]])
@pytest.mark.parametrize("unit", ["basic", "bottleneck"])
def test_checker(unit, outputs):
    """The checker of the package onnx finds nothing, with shape inference too."""
    model = to_onnx(small(unit), random_weights(small(unit)), outputs=outputs)

    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (7, 13)


def test_same_bytes():
    first, second = (to_onnx(small(), random_weights(small())) for _ in range(2))

    assert first.SerializeToString() == second.SerializeToString()


def test_names():
    """A blob's last version has its name; initializers and nodes have their layer's."""
    model = to_onnx(IN_PLACE, random_weights(IN_PLACE))

    assert model.graph.name == "t"
    assert nodes(model) == [
        ("Conv", "conv1", "conv1@conv1"),
        ("BatchNormalization", "bn1", "conv1@bn1"),
        ("Mul", "scale1/Mul", "scale1/Mul"),
        ("Add", "scale1", "conv1@scale1"),
        ("Relu", "relu1", "conv1"),
        ("Flatten", "fc/Flatten", "fc/Flatten"),
        ("Gemm", "fc", "fc"),
    ]
    assert " ".join(names(model.graph.initializer)) == (
        "conv1.weight conv1.bias bn1.weight bn1.bias bn1.mean bn1.variance "
        "scale1.weight scale1.bias fc.weight fc.bias"
    )
    assert [(value.name, sizes(value)) for value in model.graph.input] == [("data", (2, 3, 7, 5))]
    assert [(value.name, sizes(value)) for value in model.graph.output] == [
        ("data", (2, 3, 7, 5)), ("conv1", (2, 4, 7, 4)), ("fc", (2, 6)),
    ]  # fmt: skip


def test_a_name_that_a_blob_has_is_not_taken():
    some_net = net(
        ReLU.of("relu", "data", "a.weight"),
        Convolution.of("a", "a.weight", "a", num_output=4, kernel_size=1),
    )

    model = to_onnx(some_net, random_weights(some_net))

    assert names(model.graph.output) == ["data", "a.weight", "a"]
    assert names(model.graph.initializer) == ["a.weight_2", "a.bias"]


def test_an_input_that_is_overwritten():
    model = to_onnx(net(ReLU.of("relu", "data", "data")), {})

    assert names(model.graph.input) == ["data@in"]
    assert names(model.graph.output) == ["data"]


def test_outputs_only_what_they_need():
    """In the order of the net; weights of other layers are not looked at."""
    some_net = net(
        ReLU.of("a", "data", "a"),
        Convolution.of("b", "data", "b", num_output=4, kernel_size=1),
        ReLU.of("d", "a", "a"),
        ReLU.of("c", "a", "c"),
    )

    model = to_onnx(some_net, {}, outputs=["c", "data"])

    assert names(model.graph.output) == ["data", "c"]
    assert nodes(model) == [("Relu", "a", "a@a"), ("Relu", "d", "a"), ("Relu", "c", "c")]
    with pytest.raises(WeightsError, match="layer 'b': weight is missing"):
        to_onnx(some_net, {}, outputs=["b"])
    with pytest.raises(NetError, match="no blob 'x' to compute"):
        to_onnx(some_net, {}, outputs=["x"])


@pytest.mark.parametrize(("factor", "mean"), [(4, [0.5, 1.0, 1.5]), (0, [0.0, 0.0, 0.0])])
def test_statistics_are_divided_by_their_factor(factor, mean):
    """4 makes of a stored mean of 2, 4, 6 the halves; 0 makes zeros."""
    blobs = {"mean": [2, 4, 6], "variance": [4, 8, 12], "scale_factor": [factor]}
    some_net = net(
        Convolution.of("c", "data", "c", num_output=3, kernel_size=1),
        BatchNorm.of("bn", "c", "bn", eps=0.25),
        BatchNorm.of("again", "bn", "again"),
    )
    weights = dict(random_weights(some_net))
    weights |= {
        f"{bn}.{name}": np.array(value, np.float32)
        for name, value in blobs.items()
        for bn in ("bn", "again")
    }

    stored = initializers(to_onnx(some_net, weights))

    assert stored["bn.mean"].tolist() == mean
    # what does not follow a convolution is centred before
    assert stored["again.centre"].ravel().tolist() == mean
    assert stored["again.mean"].tolist() == [0, 0, 0]
    assert stored["bn.variance"].tolist() == [2 * value for value in mean]
    assert stored["bn.weight"].tolist() == [1, 1, 1]
    assert stored["bn.bias"].tolist() == [0, 0, 0]


def test_pads_are_the_nets_own():
    """Also where the last windows do not reach the end: it is the pad that people know."""
    some_net = net(
        Convolution.of("c", "data", "c", num_output=2, kernel_size=3, stride=2, pad=1),
        shape=(1, 3, 6, 8),
    )

    (node,) = to_onnx(some_net, random_weights(some_net)).graph.node

    assert list(next(a for a in node.attribute if a.name == "pads").ints) == [1, 1, 1, 1]


def test_pool1_of_the_released_nets():
    """112 pixels, kernel 3, stride 2 make 56 windows; the last reaches one pixel further."""
    layer = Pooling.of("pool1", "data", "pool1", kernel_size=3, stride=2)

    model = to_onnx(net(layer, shape=(1, 2, 112, 113)), {})

    (node,) = model.graph.node
    assert attributes(node) == {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 0]}
    assert sizes(model.graph.output[-1]) == (1, 2, 56, 56)


@pytest.mark.parametrize(("mode", "pads"), [("FLOOR", [1, 1, 1, 1]), ("CEIL", [1, 1, 2, 1])])
def test_pads_are_the_same_on_both_sides(mode, pads):
    """Where windows are as many then, and otherwise as far as they reach."""
    layer = Pooling.of("p", "data", "p", kernel_size=3, stride=2, pad=1, round_mode=mode)

    (node,) = to_onnx(net(layer, shape=(1, 2, 112, 113)), {}).graph.node

    assert attributes(node)["pads"] == pads


@pytest.mark.parametrize(
    ("fields", "ops"),
    [
        ({"kernel_size": 3}, ["AveragePool"]),
        ({"kernel_size": 3, "pad": 1}, ["Pad", "AveragePool"]),  # padding counts
        ({"kernel_size": 2, "stride": 2}, ["Pad", "AveragePool", "Mul"]),  # what is behind does not
        ({"kernel_size": 2, "stride": 2, "round_mode": "FLOOR"}, ["AveragePool"]),
    ],
)
def test_average_needs_no_more_than(fields, ops):
    """Neither ceil_mode nor pads, about which runtimes differ; a Mul where a divisor is clipped."""
    model = to_onnx(net(Pooling.of("p", "data", "p", pool="AVE", **fields)), {})

    assert [node.op_type for node in model.graph.node] == ops
    pool = model.graph.node[ops.index("AveragePool")]
    assert attributes(pool).keys() == {"kernel_shape", "strides"}


POOLINGS = net(
    *(
        Pooling.of(name := f"{pool} {kernel} {stride} {pad} {mode}", "data", name, pool=pool,
                   kernel_h=kernel[0], kernel_w=kernel[1], stride_h=stride[0], stride_w=stride[1],
                   pad_h=pad[0], pad_w=pad[1], round_mode=mode)
        for pool in ("MAX", "AVE")
        for kernel, stride, pad in [
            ((3, 2), (2, 1), (0, 0)), ((3, 3), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)),
            ((3, 4), (3, 2), (2, 1)), ((2, 5), (2, 3), (1, 3)), ((2, 3), (3, 4), (1, 2)),
            ((5, 2), (3, 2), (0, 1)), ((7, 5), (1, 1), (0, 0)), ((4, 4), (3, 3), (3, 3)),
        ]
        for mode in ("CEIL", "FLOOR")
    )
)  # fmt: skip


def test_poolings_are_the_definition():
    theirs = run_onnx(to_onnx(POOLINGS, {}), X)

    for name, value in forward(POOLINGS, {}, X, dtype="float64").items():
        assert theirs[name].shape == value.shape, name
        assert relative_l2(theirs[name], value) <= TOLERANCE, name


def test_poolings_are_caffes(caffe_python, tmp_path):
    (tmp_path / "net.prototxt").write_text(to_prototxt(POOLINGS))
    write_job(tmp_path, tmp_path / "net.prototxt", None, {"data": X})
    run_jobs(caffe_python, [tmp_path])

    theirs = run_onnx(to_onnx(POOLINGS, {}), X)

    caffes = read_job(tmp_path)
    assert theirs.keys() == caffes.keys()
    for name, value in caffes.items():
        assert theirs[name].shape == value.shape, name
        assert relative_l2(theirs[name], value) <= TOLERANCE, name


def test_whole_net_runs_optimised():
    """A runtime may join nodes: the answer stays."""
    weights = random_weights(small())
    (shape,) = small().inputs().values()
    x = np.random.default_rng(1).uniform(-128, 128, shape).astype(np.float32)

    theirs = run_onnx(to_onnx(small(), weights, outputs=["fc10", "prob"]), x)

    ours = forward(small(), weights, x, dtype="float64", outputs=["fc10", "prob"])
    for name, value in ours.items():
        assert relative_l2(theirs[name], value) <= TOLERANCE, name


UNKNOWN = """
Accuracy ContrastiveLoss EuclideanLoss HDF5Output HingeLoss InfogainLoss MultinomialLogisticLoss
SigmoidCrossEntropyLoss SmoothL1Loss SoftmaxWithLoss
"""


def test_types():
    """Data layers are inputs; losses, Accuracy and HDF5Output have no way into ONNX."""
    inner = {type for type, cls in REGISTRY.items() if not cls.from_outside}

    assert inner - WRITERS.keys() == set(UNKNOWN.split())
    assert WRITERS.keys() <= inner


def written(some_net, x=X, **options):
    """What onnxruntime and we compute of the last blob, for an input of any shape."""
    weights = random_weights(some_net)
    last = some_net.layers[-1].tops[0]
    model = to_onnx(some_net, weights, outputs=[last], **options)
    onnx.checker.check_model(model, full_check=True)
    theirs = run_onnx(model, x)[last]
    resized = some_net.with_input_shapes({"data": x.shape})
    ours = forward(resized, weights, x, dtype="float64", outputs=[last])[last]
    assert theirs.shape == ours.shape
    assert relative_l2(theirs, ours) <= TOLERANCE
    return model


MORE = np.random.default_rng(4).normal(size=(5, 3, 7, 5)).astype(np.float32)
WIDER = np.random.default_rng(4).normal(size=(3, 3, 12, 19)).astype(np.float32)


@pytest.mark.parametrize(
    "layer",
    [
        InnerProduct.of("p", "data", "p", num_output=4, axis=2),
        Reshape.of("p", "data", "p", shape={"dim": (0, -1, 5)}),
        Reshape.of("p", "data", "p", shape={"dim": (-1, 15, 7)}),  # the batch is part of an axis
        Flatten.of("p", "data", "p", axis=2),
        Convolution.of("p", "data", "p", num_output=4, kernel_size=3, axis=2),
        Interp.of("p", "data", "p", height=11, width=8),
        ShuffleChannel.of("p", "data", "p", group=3),
        ArgMax.of("p", "data", "p"),
        ArgMax.of("p", "data", "p", axis=1),
        ArgMax.of("p", "data", "p", axis=2, top_k=4),
        ArgMax.of("p", "data", "p", top_k=4, out_max_val=True),
        ArgMax.of("p", "data", "p", axis=1, out_max_val=True),
        LRN.of("p", "data", "p", norm_region="WITHIN_CHANNEL", local_size=3, alpha=2.0),
        SPP.of("p", "data", "p", pyramid_height=2),
        SPP.of("p", "data", "p", pyramid_height=1, pool="AVE"),
        Reduction.of("p", "data", "p", operation="SUMSQ", axis=1),
        Power.of("p", "data", "p", scale=0, shift=3),
        Pooling.of("p", "data", "p", global_pooling=True, pool="AVE"),
        Pooling.of("p", "data", "p", global_pooling=True),
        Convolution.of("p", "data", "p", num_output=4, kernel_size=1, pad=1),
        Convolution.of("p", "data", "p", num_output=4, kernel_size=9, stride=20),  # over its input
    ],
    ids=lambda layer: layer.type,
)
def test_the_batch_varies(layer):
    """2 images in the net, 5 in the runtime."""
    model = written(net(layer), x=MORE, dynamic="batch")

    (value,) = model.graph.input
    assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == [
        "N", 3, 7, 5
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Reshape.of("p", "data", "p", shape={"dim": (2, -1)}), "layer 'p' .Reshape.: shape 2x-1"),
        (
            Slice.of("p", "data", ["p", "q"], axis=0, slice_point=1),
            r"layer 'p' \(Slice\): with another batch it is",
        ),
    ],
)
def test_a_batch_that_cannot_vary(layer, message):
    """What mixes images, or is made for so many of them."""
    fc = InnerProduct.of("fc", "p", "fc", num_output=4)
    some_net = net(layer, fc)
    weights = random_weights(some_net)
    to_onnx(some_net, weights, outputs=["fc"])

    with pytest.raises(NetError, match=message):
        to_onnx(some_net, weights, outputs=["fc"], dynamic="batch")


@pytest.mark.parametrize("pool", [
    {"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "stride": 2, "pad": 1},
    {"kernel_size": 2, "stride": 2}, {"kernel_size": 3, "stride": 2, "round_mode": "FLOOR"},
])  # fmt: skip
def test_rows_and_columns_vary(pool):
    """MAX pooling rounds up at any size; a global average takes what is there."""
    some_net = net(
        Convolution.of("c", "data", "c", num_output=4, kernel_size=3, pad=1, stride=2),
        Pooling.of("max", "c", "max", **pool),
        Pooling.of("p", "max", "p", pool="AVE", global_pooling=True),
        InnerProduct.of("fc", "p", "fc", num_output=4),
    )
    for x in (X, WIDER, WIDER[:, :, :11], WIDER[:, :, 3:, 2:]):
        written(some_net, x=np.ascontiguousarray(x), dynamic="size")


def test_averages_at_any_size():
    """Their divisors, too, are those of the size that comes."""
    sizes = [(7, 5), (8, 6), (9, 8), (10, 7), (12, 19)]
    rng = np.random.default_rng(5)
    seen = 0
    for pool, kernel, stride, pad, mode in product(
        ("AVE", "MAX"), [(3, 2), (2, 5), (4, 4)], [(2, 2), (1, 3), (3, 2)],
        [(0, 0), (0, 1), (2, 1)], ("CEIL", "FLOOR"),
    ):  # fmt: skip
        fields = {
            f"{name}_{side}": value
            for name, pair in (("kernel", kernel), ("stride", stride), ("pad", pad))
            for side, value in zip("hw", pair, strict=True)
        }
        some_net = net(Pooling.of("p", "data", "p", pool=pool, round_mode=mode, **fields))
        try:
            model = to_onnx(some_net, {}, outputs=["p"], dynamic="size")
        except NetError:  # a pad that is no smaller than its kernel; windows outside at some sizes
            assert any(p >= k for p, k in zip(pad, kernel, strict=True)) or (
                pad == (0, 0) and mode == "CEIL" and any(map(int.__lt__, kernel, stride))
            )
            continue
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for size in sizes:
            x = rng.normal(size=(2, 3, *size)).astype(np.float32)
            (theirs,) = session.run(None, {"data": x})
            ours = forward(some_net.with_input_shapes({"data": x.shape}), {}, x, dtype="float64")
            assert theirs.shape == ours["p"].shape, (fields, size)
            assert relative_l2(theirs, ours["p"]) <= TOLERANCE, (fields, size)
        seen += 1
    assert seen > 60


def test_rows_and_columns_that_cannot_vary():
    """Windows that begin behind the image at some sizes."""
    layer = Pooling.of("p", "data", "p", kernel_size=2, stride=3)
    to_onnx(net(layer), {}, dynamic="batch")

    with pytest.raises(
        NetError, match=r"layer 'p' \(Pooling\): with another size of the inputs it is another"
    ):
        to_onnx(net(layer), {}, dynamic="size")
    with pytest.raises(ResNetProtoError, match="dynamic is 'rows'; known: none, batch, size"):
        to_onnx(net(layer), {}, dynamic="rows")


SEQUENCE = Net("t", (
    Input.of("x", (), "x", shape=({"dim": (5, 2, 3, 4)},)),
    Input.of("cont", (), "cont", shape=({"dim": (5, 2)},)),
))  # fmt: skip


def recurrent(type, layers=SEQUENCE.layers):
    return Net("t", (*layers, make_layer(
        "r", type, ("x", "cont"), ("r",), {"recurrent_param": {"num_output": 6}}
    )))  # fmt: skip


@pytest.mark.parametrize("type", ["RNN", "LSTM"])
def test_steps_are_written_one_by_one(type):
    """The first has no state before it, so its weight is read four times."""
    some_net = recurrent(type)
    weights = random_weights(some_net)
    x, cont = np.random.default_rng(0).normal(size=(5, 2, 3, 4)), [[0, 0], *[[1, 1], [1, 0]] * 2]
    inputs = {"x": x.astype(np.float32), "cont": np.array(cont, np.float32)}

    model = to_onnx(some_net, weights, outputs=["r"])

    onnx.checker.check_model(model, full_check=True)
    of_h = {"RNN": "r.W_hh", "LSTM": "r.W_hc"}[type]
    assert sum(of_h in node.input for node in model.graph.node) == 4
    exact = forward(some_net, weights, inputs, dtype="float64", outputs=["r"])["r"]
    assert relative_l2(run_onnx(model, *inputs.values())["r"], exact) <= TOLERANCE


def test_steps_that_are_too_many():
    """1000 are written, in a fixed number; a net of another number is another graph."""

    def long(steps):
        return recurrent("RNN").with_input_shapes({"x": (steps, 2, 3, 4), "cont": (steps, 2)})

    weights = random_weights(recurrent("RNN"))
    to_onnx(long(1000), weights)

    with pytest.raises(UnknownLayerError, match=r"layer 'r' \(RNN\): 1001 steps"):
        to_onnx(long(1001), weights)
    with pytest.raises(NetError, match=r"layer 'r' \(RNN\): with another batch"):
        to_onnx(long(5), weights, dynamic="batch")


def test_a_mask_at_any_size():
    """Places in one map; and Upsample puts values there, whatever the batch."""
    some_net = net(
        Pooling.of("pool", "data", ["pool", "mask"], kernel_size=3, stride=2, pad=1),
        Upsample.of("up", ["pool", "mask"], "up", upsample_h=7, upsample_w=5),
    )
    for kind, x in (("size", WIDER), ("size", X), ("batch", MORE)):
        last = "up" if kind == "batch" else "mask"
        model = to_onnx(some_net, {}, outputs=[last], dynamic=kind)

        onnx.checker.check_model(model, full_check=True)
        resized = some_net.until((last,)).with_input_shapes({"data": x.shape})
        np.testing.assert_array_equal(run_onnx(model, x)[last], forward(resized, {}, x)[last])


REDUCING = net(
    BatchNorm.of("bn", "data", "bn", use_global_stats=False),
    MVN.of("mvn", "bn", "mvn"),
    Normalize.of("norm", "mvn", "norm"),
    Pooling.of("ave", "norm", "ave", pool="AVE", kernel_size=2, stride=2, pad=1),
    LRN.of("lrn", "ave", "lrn"),
    Interp.of("up", "lrn", "up", height=9, width=7),
    Reduction.of("sum", "up", "sum", axis=1),
    Softmax.of("p", "up", "p", axis=2),
    Reduction.of("r", "p", "r", axis=2, operation="MEAN"),
)


@pytest.mark.parametrize("opset", OPSETS)
def test_opsets(opset):
    """Axes of reductions are an attribute in some, and an input in others."""
    model = written(REDUCING, opset=opset)

    assert model.opset_import[0].version == opset


@pytest.mark.parametrize("opset", OPSETS)
def test_opsets_of_layers_of_many_nodes(opset):
    """A Loop has its reductions within."""
    inputs = [Input.of(name, (), name, shape=({"dim": s},)) for name, s in INPUTS.items()]
    inputs.append(Input.of("rois", (), "rois", shape=({"dim": (3, 5)},)))
    regions = Proposal.of("p", PLACES, "y", ratio=1.0, scale=1.0, min_size=0)
    layers = (
        replace(found(confidence_threshold=0.2), name="found", tops=("found",)), regions,
        PSROIPooling.of(
            "ps", ("data", "rois"), "ps", output_dim=3, group_size=1, spatial_scale=0.5
        ),
        ArgMax.of("best", "data", "best", top_k=3, out_max_val=True),
        Pooling.of("max", "data", ("max", "mask"), kernel_size=2),
        Upsample.of("up", ("max", "mask"), "up", upsample_h=7, upsample_w=5),
    )  # fmt: skip
    some_net = Net("t", (*inputs, *layers, *recurrent("LSTM").layers))
    rng = np.random.default_rng(0)
    given = {k: rng.normal(size=s).astype(np.float32) for k, s in some_net.inputs().items()}
    low = rng.uniform(0, 0.5, (3, 2))
    given["priors"][0, 0] = np.hstack([low, low + 0.3]).ravel()
    given |= {"rois": np.array([[0, 1, 2, 9, 7]] * 3), "cont": np.ones((5, 2))}
    given = {name: value.astype(np.float32) for name, value in given.items()}
    given["size"][:] = 40
    weights = random_weights(some_net)
    wanted = ["found", "y", "ps", "best", "up", "r"]

    model = to_onnx(some_net, weights, outputs=wanted, opset=opset)

    onnx.checker.check_model(model, full_check=True)
    theirs = run_onnx(model, *(given[name] for name in names(model.graph.input)))
    for name, value in forward(some_net, weights, given, outputs=wanted).items():
        assert theirs[name].shape == value.shape, name
        assert relative_l2(theirs[name], value) <= TOLERANCE, name


def test_an_opset_that_is_not_known():
    with pytest.raises(ResNetProtoError, match="opset is 12; 13 to 21 can be written"):
        to_onnx(net(ReLU.of("r", "data", "r")), {}, opset=12)


def test_boxes_are_an_initializer():
    sizes = {"min_size": (2.0,), "max_size": (3.0,), "aspect_ratio": (2.0,), "img_size": 30}
    some_net = net(PriorBox.of("p", "data", "p", **sizes))

    theirs = run_onnx(to_onnx(some_net, {}, outputs=["p", "data"]), X)["p"]

    assert relative_l2(theirs, forward(some_net, {}, X)["p"]) <= TOLERANCE


def test_regions():
    regions = np.array([[0, 2, 3, 12, 20], [1, 0, 0, 8, 9], [1, 5, 2, 6, 3]], np.float32)
    some_net = Net("t", (
        Input.of("in", (), "data", shape=({"dim": X.shape},)),
        Input.of("r", (), "rois", shape=({"dim": regions.shape},)),
        ROIPooling.of("p", ["data", "rois"], "p", pooled_h=3, pooled_w=2, spatial_scale=0.25),
    ))  # fmt: skip

    theirs = run_onnx(to_onnx(some_net, {}, outputs=["p"]), X, regions)["p"]

    ours = forward(some_net, {}, {"data": X, "rois": regions}, outputs=["p"])["p"]
    assert relative_l2(theirs, ours) <= TOLERANCE


def test_written_is_what_is_made(tmp_path):
    """A model that is written piece by piece is the one that is made at once."""
    some_net, metadata = small(), {"a": "b"}
    weights = random_weights(some_net)
    drawing = draw(some_net, weights)
    with (tmp_path / "m.onnx").open("wb") as file:
        write_model(file, drawing, metadata)

    assert onnx.load(tmp_path / "m.onnx") == drawing.model(metadata)


def test_values_in_a_file_beside(tmp_path):
    """As they are where a model has more than 2 GB: each begins on a page, shapes stay inside."""
    some_net = small()
    weights = random_weights(some_net)
    drawing = draw(some_net, weights)
    with (tmp_path / "m.onnx").open("wb") as file, (tmp_path / "m.data").open("wb") as values:
        write_model(file, drawing, beside=("m.data", values))

    assert (tmp_path / "m.onnx").stat().st_size < (tmp_path / "m.data").stat().st_size
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    there = initializers(onnx.load(tmp_path / "m.onnx"))
    assert there.keys() == drawing.graph.initializers.keys()
    for name, value in there.items():
        np.testing.assert_array_equal(value, drawing.graph.initializers[name])
    bare = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    where = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in bare.graph.initializer
        if tensor.external_data
    ]
    assert len(where) > 5
    assert {entry["location"] for entry in where} == {"m.data"}
    assert not any(int(entry["offset"]) % 4096 for entry in where)


PLACES = ("rpn", "rpn_moves", "size")
INPUTS = {
    "data": X.shape, "moves": (2, 12), "scores": (2, 6), "priors": (1, 2, 12),
    "rpn": (1, 2, 3, 4), "rpn_moves": (1, 4, 3, 4), "size": (1, 3),
}  # fmt: skip


def found(**fields):
    return DetectionOutput.of("p", ("moves", "scores", "priors"), "y", num_classes=2, **fields)


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        (
            Pooling.of("p", "data", "y", kernel_size=2, pool="STOCHASTIC"),
            Pooling.of("p", "data", "y", kernel_size=2, pool="MAX"),
            "layer 'p': STOCHASTIC",
        ),
        (
            found(nms_param={"eta": 0.9}),
            found(nms_param={"eta": 1.0}),
            r"layer 'p' \(DetectionOutput\): with eta 0.9 the overlap .* end the net before it: "
            "its bottoms are 'moves', 'scores', 'priors'",
        ),
        (found(keep_top_k=0), found(keep_top_k=1), "by num_classes, top_k and keep_top_k it finds"),
        (
            Proposal.of("p", PLACES, "y", ratio=1.0, scale=1.0, pre_nms_topn=0),
            Proposal.of("p", PLACES, "y", ratio=1.0, scale=1.0, pre_nms_topn=1),
            r"layer 'p' \(Proposal\): by pre_nms_topn it finds nothing",
        ),
        (
            make_layer("p", "Crop9", ("data",), ("y",)),
            make_layer("p", "Softmax", ("data",), ("y",)),
            "layer 'p' has type 'Crop9'",
        ),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    inputs = [Input.of(name, (), name, shape=({"dim": s},)) for name, s in INPUTS.items()]
    to_onnx(Net("t", (*inputs, accepted)), {})

    with pytest.raises(UnknownLayerError, match=message):
        to_onnx(Net("t", (*inputs, refused)), {})


def test_what_is_behind_takes_as_many_rows_as_there_are():
    """A Filter lets 2 of 4 images pass; Reshape and InnerProduct know neither number."""
    some_net = Net("t", (
        Input.of("in", (), "data", shape=({"dim": (4, 3, 7, 5)},)),
        Input.of("s", (), "chosen", shape=({"dim": (4,)},)),
        Filter.of("filter", ("data", "chosen"), "some"),
        Reshape.of("p", "some", "p", shape={"dim": (0, 5, -1)}),
        InnerProduct.of("fc", "p", "fc", num_output=6, axis=2),
    ))  # fmt: skip
    weights = random_weights(some_net)
    x = MORE[:4]
    chosen = np.array([0, 2, 0, -1], np.float32)

    model = to_onnx(some_net, weights)

    onnx.checker.check_model(model, full_check=True)
    shapes = {value.name: sizes(value) for value in model.graph.output}
    assert [shapes[name] for name in ("some", "p", "fc")] == [(0, 3, 7, 5), (0, 5, 21), (0, 5, 6)]
    ours = forward(some_net, weights, {"data": x, "chosen": chosen}, dtype="float64")
    theirs = run_onnx(model, x, chosen)
    assert theirs["some"].shape == (2, 3, 7, 5)
    for name in shapes:
        assert theirs[name].shape == ours[name].shape
        assert relative_l2(theirs[name], ours[name]) <= TOLERANCE, name


def test_rows_that_something_counts():
    """Where a layer is made for so many rows, it is named."""
    inputs = [Input.of(name, (), name, shape=({"dim": s},)) for name, s in INPUTS.items()]
    regions = Proposal.of("p", PLACES, "y", ratio=1.0, scale=1.0, post_nms_topn=4)

    def cut(axis):
        parts = Slice.of("s", "y", ("a", "b"), axis=axis, slice_point=2)
        return Net("t", (*inputs, regions, parts))

    to_onnx(cut(1), {})
    with pytest.raises(
        NetError, match=r"layer 's' \(Slice\): with another number of rows from 'p'"
    ):
        to_onnx(cut(0), {})


def test_onnx_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)

    with pytest.raises(ResNetProtoError, match=r"pip install 'resnet-proto\[onnx\]'"):
        to_onnx(IN_PLACE, random_weights(IN_PLACE))
