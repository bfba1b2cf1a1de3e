"""Random ops of ONNX, read as Caffe's layers: onnxruntime, the real Caffe and we agree."""

import zlib

import numpy as np
import onnx
import pytest
from oracles.configurations import CONFIGURATIONS, one_layer_net
from oracles.onnx_graphs import CASES, Model
from oracles.warm import far, ours

from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE, compare, relative_l2
from resnet_proto.errors import NetError, UnknownLayerError
from resnet_proto.formats.onnx import to_onnx
from resnet_proto.formats.onnx_layers import WRITERS
from resnet_proto.formats.onnx_ops import OPS
from resnet_proto.formats.onnx_reader import read
from resnet_proto.layers import dims
from resnet_proto.prototxt import to_prototxt

N, N_CAFFE = 20, 6
NO_POOLING = "are no pooling of Caffe's"
NOT_RUN = (
    "padding values must be n",  # onnxruntime's SAME_* with windows that leave a gap
    "Dilation not supported for AutoP",
)
"""What onnxruntime itself does not run."""


def in_onnxruntime(onnxruntime, proto, inputs):
    """Every output, each node as it is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: inputs[k] for k in given}), strict=True))


def attempt(function, *arguments):
    """What a function gives, or else why not."""
    try:
        return function(*arguments), ""
    except Exception as error:
        return None, str(error)


def test_every_op_has_a_case():
    assert {name.partition(",")[0] for name in CASES} == OPS.keys()


@pytest.mark.parametrize("op", CASES)
def test_random_attributes(op, onnxruntime, warm_caffe, tmp_path):
    seen, refused, waiting = 0, 0, []
    for i in range(N):
        rng = np.random.default_rng([zlib.crc32(op.encode()), i])
        model = CASES[op](rng)
        proto = model.proto(path=tmp_path / "model.onnx")
        inputs = {k: rng.normal(size=v).astype(np.float32) for k, v in model.inputs.items()}
        theirs, reason = attempt(in_onnxruntime, onnxruntime, proto, inputs)
        if theirs is None:
            assert any(words in reason for words in NOT_RUN), reason
            continue
        made, reason = attempt(read, tmp_path / "model.onnx")
        if made is None:
            assert NO_POOLING in reason
            refused += 1
            continue
        net, weights = made
        seen += 1
        inputs = {name: inputs[name] for name in net.inputs()}  # the others nobody reads
        (row,) = compare(forward(net, weights, inputs, dtype="float64"), theirs)
        assert row.within(TOLERANCE), (i, row, to_prototxt(net))
        if len(waiting) < N_CAFFE:
            waiting.append((warm_caffe.give(to_prototxt(net), weights, inputs), theirs))
    for job, theirs in waiting:
        blobs = warm_caffe.answer(job)
        assert isinstance(blobs, dict), f"Caffe refuses it: {blobs}"
        ((name, value),) = theirs.items()
        assert dims(blobs[name].shape) == dims(value.shape)
        assert relative_l2(blobs[name], value) <= TOLERANCE
    assert seen > 3 * refused
    assert seen >= N / 2


NO_WAY_BACK = {
    "ArgMax": "TopK",
    "BatchReindex": "Cast",
    "Embed": "Cast",
    "Filter": "Cast",
    "ROIPooling": "MaxRoiPool",
}
"""Types that are written as ops which are not read."""


@pytest.mark.parametrize("type", sorted({*WRITERS} & CONFIGURATIONS.keys()))
def test_layers_come_back(type, tmp_path):
    """What is written of any layer is read as a net that gives the same."""
    rng = np.random.default_rng(sum(map(ord, type)))
    seen, refused = 0, 0
    for i in range(N):
        net, given = one_layer_net(type, rng, stray=0)
        inputs, weights, blobs = ours(to_prototxt(net), rng, given)
        if isinstance(blobs, NetError):
            continue
        written, _ = attempt(to_onnx, net, weights)
        if written is None:
            continue
        onnx.save(written, tmp_path / "m.onnx")
        made, reason = attempt(read, tmp_path / "m.onnx")
        if made is None:
            known = ["export it as a 2-D one", "its indices are read"]  # the latter of a mask
            known += [f" {NO_WAY_BACK[type]} 'layer"] if type in NO_WAY_BACK else []
            assert any(words in reason for words in known), reason
            refused += 1
            continue
        seen += 1
        back, values = made
        named = {name: inputs[name.partition("@")[0]] for name in back.inputs()}
        theirs = forward(back, values, named, dtype="float64")
        exact = forward(net, weights, inputs, dtype="float64")
        for name in net.layers[-1].tops:
            assert far(theirs[name], exact[name]) <= TOLERANCE, (i, to_prototxt(net))
    assert seen > refused or type in NO_WAY_BACK


REFUSED = {
    "Erf": (lambda m: m.node("Erf", m.input(2, 3)), "no layer does this"),
    "of a domain": (
        lambda m: m.nodes.append(
            onnx.helper.make_node("Relu", [m.input(2, 3)], ["y"], "n", domain="ai.example")
        ),
        "it is of the domain 'ai.example'",
    ),
    "1-D": (
        lambda m: m.node("Conv", m.input(1, 2, 9), m.constant(np.ones((4, 2, 3)))),
        "export it as a 2-D one",
    ),
    "computed weight": (
        lambda m: m.node("Conv", m.input(1, 2, 9, 8), m.input(4, 2, 3, 2)),
        "its weight is computed, and not a constant",
    ),
    "two matrices": (
        lambda m: m.node("MatMul", m.input(2, 3), m.input(3, 4)),
        "its second factor is computed",
    ),
    "transA": (
        lambda m: m.node("Gemm", m.input(3, 2), m.constant(np.ones((3, 4))), transA=1),
        "no layer turns a matrix round",
    ),
    "pool dilations": (
        lambda m: m.node("MaxPool", m.input(1, 2, 9, 8), kernel_shape=[2, 2], dilations=[2, 1]),
        "dilations: Caffe's pooling has none",
    ),
    "indices": (
        lambda m: m.node("Add", *m.node("MaxPool", m.input(1, 2, 9, 8), n_outputs=2,
                                        kernel_shape=[2, 2])),
        "its indices are read",
    ),
    "even LRN": (lambda m: m.node("LRN", m.input(1, 2, 4, 3), size=4), "size 4"),
    "first of equals": (
        lambda m: m.node("ArgMax", m.input(1, 2, 4, 3), axis=1),
        "of equal values it takes the first",
    ),
    "reflected": (
        lambda m: m.node("Pad", m.input(1, 2, 9, 8), m.whole(0, 0, 1, 1, 0, 0, 1, 1),
                         mode="reflect"),
        "mode reflect",
    ),
    "padded by 1": (
        lambda m: m.node("Pad", m.input(1, 2, 9, 8), m.whole(0, 0, 1, 1, 0, 0, 1, 1),
                         m.constant(1)),
        "it pads with 1",
    ),
    "cubic": (
        lambda m: m.node("Resize", m.input(1, 2, 4, 3), "", m.constant([1, 1, 2, 2]),
                         mode="cubic"),
        "mode cubic",
    ),
    "by 1.5": (
        lambda m: m.node("Resize", m.input(1, 2, 4, 6), "", m.constant([1, 1, 1.5, 1.5]),
                         mode="linear"),
        "whole factors are",
    ),
    "backwards": (
        lambda m: m.node("Slice", m.input(1, 2, 4), m.whole(-1), m.whole(-9), m.whole(2),
                         m.whole(-1)),
        "Slice goes forward",
    ),
    "to whole numbers": (
        lambda m: m.node("Cast", m.input(2, 3), to=onnx.TensorProto.INT64),
        "other numbers than floats",
    ),
    "a slope for each value": (
        lambda m: m.node("PRelu", m.input(1, 2, 4, 3), m.constant(np.ones((2, 4, 3)))),
        "is not one for each channel",
    ),
    "batches of a mean": (
        lambda m: m.node("ReduceMean", m.input(2, 3, 5, 4), axes=[0]),
        "Caffe has the maximum along an axis",
    ),
    "axes in another order": (
        lambda m: m.node("Relu", m.node("Transpose", m.input(1, 2, 4, 3), perm=[0, 1, 3, 2])),
        "only the layer Permute of forks moves axes",
    ),
    "training": (
        lambda m: m.node("BatchNormalization", m.input(1, 2, 4, 3),
                         *(m.constant(np.ones(2)) for _ in range(4)), n_outputs=3,
                         training_mode=1),
        "it is in training mode",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_way_is_named(case, tmp_path):
    draw, reason = REFUSED[case]
    model = Model(np.random.default_rng(0), 15)
    draw(model)
    model.proto(outputs=[model.nodes[-1].output[0]], path=tmp_path / "m.onnx")

    with pytest.raises(UnknownLayerError) as error:
        read(tmp_path / "m.onnx")

    assert "1 node cannot be written as layers of mainline Caffe" in str(error.value)
    assert f"'{'n' if case == 'of a domain' else 'node0'}': " in str(error.value)
    assert reason in str(error.value)


def test_all_that_has_no_way_is_named_at_once(tmp_path):
    """Behind what is refused others are looked at: their shapes are known."""
    model = Model(np.random.default_rng(0), 17)
    x = model.node("Erf", model.input(1, 2, 6, 5))
    x = model.node("Conv", x, model.constant(np.ones((4, 2, 3, 3))))
    x = model.node("Einsum", x, equation="nchw->ncwh")
    x = model.node("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2])
    model.node("Sign", x)
    model.proto(path=tmp_path / "m.onnx")

    with pytest.raises(UnknownLayerError) as error:
        read(tmp_path / "m.onnx")

    first, *rows, _ = str(error.value).splitlines()
    assert first.endswith(
        ": 4 nodes cannot be written as layers of mainline Caffe: "
        "Erf (1), Einsum (1), MaxPool (1), Sign (1)"
    )
    assert [row.split(":")[0].strip() for row in rows] == [
        "Erf 'node0'", "Einsum 'node2'", "MaxPool 'node3'", "Sign 'node4'"
    ]  # fmt: skip


def test_what_no_output_needs_is_no_obstacle(tmp_path):
    model = Model(np.random.default_rng(0), 17)
    x = model.input(1, 2, 6, 5)
    model.node("Erf", x)
    model.node("Relu", x)
    model.proto(path=tmp_path / "m.onnx")

    net, _ = read(tmp_path / "m.onnx")

    assert [layer.type for layer in net.layers] == ["Input", "ReLU"]
