"""ONNX models as nets: round trips, names, sizes, and files that are wrong.

What each op becomes is held against onnxruntime and the real Caffe in ``tests/oracles``.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
from nets.classic import NETS, SMALLER
from onnx import TensorProto, helper, numpy_helper
from oracles.onnx_graphs import Model

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward, random_inputs
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.onnx_file import prove_read, results, save_onnx
from resnet_proto.errors import FormatError, NetError, ResNetProtoError, UnknownLayerError
from resnet_proto.fold import folded
from resnet_proto.formats.onnx_reader import read
from resnet_proto.graph import difference
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Eltwise,
    InnerProduct,
    Input,
    Pooling,
    Power,
    ReLU,
    Scale,
    Sigmoid,
)
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.weights import random_weights


def small(name):
    """The spec of a preset with two units in a stage, half as wide, and a smaller input."""
    spec = PRESETS[name].spec
    values = {
        "stages": tuple(min(n, 2) for n in spec.stages),
        "width": tuple(n // 2 for n in spec.width),
        "stem_width": spec.stem_width // 2,
        "input_size": min(spec.input_size, 64),
    }
    return replace(spec, name="small", classes=10, **values)


FAMILY = {repr(small(name)): name for name in reversed(PRESETS)}  # those of one kind are one then
ALL = {
    **{name: partial(deploy_net, small(name)) for name in FAMILY.values()},
    **{**NETS, **SMALLER},
}


def without_dropout(net):
    """The net without what does nothing at phase TEST."""
    names, layers = {}, []
    for layer in net.layers:
        bottoms = tuple(names.get(name, name) for name in layer.bottoms)
        for top in layer.tops:
            names.pop(top, None)
        if layer.type == "Dropout":
            names.update(dict.fromkeys(layer.tops, bottoms[0]))
        else:
            layers.append(replace(layer, bottoms=bottoms))
    return replace(net, layers=tuple(layers))


def blobs(net):
    return {top for layer in net.layers for top in layer.tops}


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "not folded"])
@pytest.mark.parametrize("name", ALL)
def test_there_and_back(name, fold, tmp_path):
    """The same graph, the same names of blobs, the same scores."""
    net = ALL[name]().upgraded()
    net = net.needed(results(net))
    weights = random_weights(net)
    save_onnx(tmp_path / "m.onnx", net, weights, fold_bn=fold, verify=False)

    back, values = read(tmp_path / "m.onnx")

    small, kept = folded(net, weights) if fold else (net, weights)
    small = without_dropout(small)
    assert difference(back, small) is None
    assert blobs(back) == blobs(small)
    for layer in small.layers:
        if layer.type in ("Convolution", "InnerProduct"):
            assert (values[f"{layer.name}.weight"] == kept[f"{layer.name}.weight"]).all()
    if name in FAMILY.values():
        inputs = random_inputs(net)
        last = [net.layers[-2].tops[0]]
        ours = forward(back, values, inputs, dtype="float64", outputs=last)
        (row,) = compare(ours, forward(net, weights, inputs, dtype="float64", outputs=last))
        assert row.within(TOLERANCE)


def test_versions_of_a_blob_come_back(tmp_path):
    """A layer worked in place on a blob that others read before, and two did not."""
    net = Net("t", (
        Input.of("in", (), "data", shape=({"dim": (2, 3, 7, 5)},)),
        Convolution.of("conv", "data", "conv", num_output=4, kernel_size=3),
        BatchNorm.of("bn", "conv", "conv"), Scale.of("scale", "conv", "conv", bias_term=True),
        ReLU.of("relu", "conv", "relu"), Sigmoid.of("gate", "relu", "relu"),
        Power.of("power", "relu", "p", power=2, scale=0.5, shift=1.5),
        Eltwise.of("sum", ("p", "conv"), "sum"),
        Pooling.of("pool", "sum", "pool", pool="AVE", kernel_size=3, stride=2, pad=1),
        InnerProduct.of("fc", "pool", "fc", num_output=6, bias_term=False),
    ))  # fmt: skip
    weights = random_weights(net)
    save_onnx(tmp_path / "m.onnx", net, weights, fold_bn=False, dynamic="none")

    back, _ = read(tmp_path / "m.onnx")

    assert [(a.name, a.type, a.bottoms, a.tops) for a in back.layers[1:]] == [
        (a.name, a.type, a.bottoms, a.tops) for a in net.layers[1:]
    ]
    assert difference(back, net) is None


def chain(path, opset=13, **changes):
    """A small model, changed before it is written."""
    model = Model(np.random.default_rng(0), opset)
    x = model.input(1, 2, 6, 5)
    y = model.node("Conv", x, model.constant(np.ones((4, 2, 3, 3))))
    z = model.node("Relu", y)
    model.node("MaxPool", z, kernel_shape=[2, 2])
    proto = model.proto()
    for change in changes.values():
        change(proto)
    onnx.save(proto, path)
    return path


def test_names(tmp_path):
    """Blobs are called as values; with a name of its own where there is none."""
    path = chain(tmp_path / "m.onnx")

    net, weights = read(path)

    assert [(layer.name, layer.bottoms, layer.tops) for layer in net.layers] == [
        ("x0", (), ("x0",)),
        ("node0", ("x0",), ("Relu1_0",)),
        ("node1", ("Relu1_0",), ("Relu1_0",)),
        ("node2", ("Relu1_0",), ("MaxPool2_0",)),
    ]
    assert list(weights) == ["node0.weight"]
    assert weights.source == str(path)


@pytest.mark.parametrize("name", [b"Relu", b"x0", b"node1"])
def test_a_name_that_is_no_utf8(name, tmp_path):
    path = chain(tmp_path / "m.onnx")
    read(path)
    path.write_bytes(path.read_bytes().replace(name, b"\xff" * len(name)))

    with pytest.raises(FormatError, match="a name in the model is not UTF-8"):
        read(path)


def test_names_that_are_not_unique_or_missing(tmp_path):
    """Layers get numbers; a blob between two layers gets no name of a value."""

    def rename(proto):
        for node, name in zip(proto.graph.node, ("a", "a", ""), strict=True):
            node.name = name

    net, _ = read(chain(tmp_path / "m.onnx", rename=rename))

    assert [layer.name for layer in net.layers] == ["x0", "a", "a_2", "MaxPool2_0"]


def test_an_output_that_is_an_input_or_twice(tmp_path):
    model = Model(np.random.default_rng(0), 13)
    x = model.input(2, 3)
    y = model.node("Relu", x)
    z = model.node("Identity", y)
    c = model.node("Identity", model.constant([[1, 2, 3]]))
    model.proto(outputs=[z, y, x, c], path=tmp_path / "m.onnx")

    net, weights = read(tmp_path / "m.onnx")

    made = forward(net, weights, {"x0": np.array([[-1, 2, 3], [4, -5, 6]])})
    assert made[y].tolist() == made[z].tolist() == [[0, 2, 3], [4, 0, 6]]
    assert made[c].tolist() == [[1, 2, 3]]
    assert prove_read(tmp_path / "m.onnx", net, weights).worst.within(TOLERANCE)


def dynamic(*names):
    def change(proto):
        for dim, name in zip(proto.graph.input[0].type.tensor_type.shape.dim, names, strict=True):
            if name:
                dim.dim_param = name

    return change


def test_sizes_that_may_vary(tmp_path):
    path = chain(tmp_path / "m.onnx", vary=dynamic("N", "", "H", "W"))

    with pytest.raises(NetError, match=r"'x0' is Nx2xHxW; give .*: --input-shape x0=N,C,H,W"):
        read(path)
    with pytest.raises(NetError, match="'x0' is Nx2xHxW in the model, not 1x3x6x5"):
        read(path, {"x0": (1, 3, 6, 5)})
    with pytest.raises(NetError, match="the model has no input 'y'; it has x0"):
        read(path, {"y": (1, 2, 6, 5)})

    net, weights = read(path, {"": (3, 2, 9, 7)})

    assert net.inputs() == {"x0": (3, 2, 9, 7)}
    assert prove_read(path, net, weights).worst.within(TOLERANCE)


def test_an_input_with_channels_last(tmp_path):
    """It is as Caffe has blobs, and so is an output; that is said."""
    model = Model(np.random.default_rng(0), 13)
    x = model.node("Transpose", model.input(1, 6, 5, 3), perm=[0, 3, 1, 2])
    x = model.node("Conv", x, model.constant(np.ones((4, 3, 2, 2))))
    model.node("Relu", model.node("Transpose", x, perm=[0, 2, 3, 1]))
    path, warnings = tmp_path / "m.onnx", []
    model.proto(path=path)

    net, weights = read(path, {"": (2, 6, 5, 3)}, warnings)

    assert net.inputs() == {"x0": (2, 3, 6, 5)}
    assert [warning.partition(":")[0] for warning in warnings] == [
        "input 'x0' is 2x3x6x5, with channels before rows",
        "output 'Relu3_0' has channels before rows",
    ]
    assert net.layers[-1].type == "ReLU"
    net, weights = read(path)
    assert prove_read(path, net, weights).worst.within(TOLERANCE)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_floats(kind, tmp_path):
    """All become float32; what float64 loses is said."""
    number = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}.get(
        kind, TensorProto.DOUBLE
    )

    def retype(proto):
        (tensor,) = proto.graph.initializer
        value = np.random.default_rng(1).normal(size=tuple(tensor.dims))
        new = helper.make_tensor(tensor.name, number, value.shape, value.reshape(-1))
        tensor.CopyFrom(new)
        for item in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
            item.type.tensor_type.elem_type = number

    warnings = []
    path = chain(tmp_path / "m.onnx", 13, retype=retype)

    net, weights = read(path, warnings=warnings)

    (stored,) = onnx.load(path).graph.initializer
    expected = numpy_helper.to_array(stored).astype(np.float32)
    assert weights["node0.weight"].dtype == np.float32
    assert (weights["node0.weight"] == expected).all()
    assert bool(warnings) == (kind == "float64")
    assert prove_read(path, net, weights).worst.within(TOLERANCE)


def outside(path, location, *, offset=0, length=None):
    """The weight of ``chain`` in a file beside it."""

    def move(proto):
        (tensor,) = proto.graph.initializer
        data = numpy_helper.to_array(tensor).tobytes()
        (path.parent / "w.bin").write_bytes(bytes(64) + data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": location, "offset": offset, "length": length or len(data)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))

    return chain(path, move=move)


def test_values_beside_the_model(tmp_path):
    path = outside(tmp_path / "m.onnx", "w.bin", offset=64)

    net, weights = read(path)

    assert (weights["node0.weight"] == 1).all()
    assert prove_read(path, net, weights).worst.within(TOLERANCE)


@pytest.mark.parametrize(
    ("location", "values", "reason"),
    [
        ("../w.bin", {}, "outside the model's folder; it is not read"),
        ("/etc/hostname", {}, "outside the model's folder; it is not read"),
        ("link.bin", {}, "outside the model's folder; it is not read"),
        ("a\\w.bin", {}, "outside the model's folder; it is not read"),
        ("", {}, "outside the model's folder; it is not read"),
        ("missing.bin", {}, "which is no file"),
        (".", {}, "outside the model's folder; it is not read"),
        ("w.bin", {"offset": 65}, "it is cut off"),
        ("w.bin", {"offset": -4}, "needs 288 bytes of 'w.bin'"),
        ("w.bin", {"length": 287}, "which has 287 bytes of it"),
        ("w.bin", {"offset": "x"}, "cannot be read"),
        ("w\0.bin", {}, "cannot be read"),
    ],
)
def test_values_elsewhere_are_refused(location, values, reason, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")

    with pytest.raises(FormatError) as error:
        read(outside(folder / "m.onnx", location, **values))

    assert reason in str(error.value)


def change_graph(function):
    return lambda proto: function(proto.graph)


def renamed_input(graph):
    graph.node[1].input[0] = "nobody"


def a_cycle(graph):
    graph.node[0].input[0] = graph.node[2].output[0]


def twice(graph):
    graph.node[1].output[0] = graph.node[0].output[0]
    graph.node[2].input[0] = graph.node[0].output[0]


def no_initializer(graph):
    del graph.initializer[:]


def doubled_initializer(graph):
    graph.initializer.add().CopyFrom(graph.initializer[0])


def as_input_and_node(graph):
    graph.initializer[0].name = graph.node[0].output[0]


def too_few_bytes(graph):
    graph.initializer[0].raw_data = graph.initializer[0].raw_data[:-4]


def lying(*shape):
    def change(graph):
        graph.initializer[0].dims[:] = shape

    return change


def of_type(number):
    def change(graph):
        graph.initializer[0].data_type = number

    return change


def input_of(*shape):
    def change(graph):
        for dim, size in zip(graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = size

    return change


def input_type(graph):
    graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def no_outputs(graph):
    del graph.output[:]


def unknown_output(graph):
    graph.output[0].name = "nobody"


def attribute(name, value):
    def change(graph):
        graph.node[2].attribute.append(helper.make_attribute(name, value))

    return change


HOSTILE = {
    "a missing value": (renamed_input, "reads 'nobody', which no initializer, input or node makes"),
    "a cycle": (a_cycle, "nodes have to be in order, and in no cycle"),
    "a value made twice": (twice, "is made by two nodes"),
    "no weights": (no_initializer, "reads 'c0', which no initializer, input or node makes"),
    "weights twice": (doubled_initializer, "value 'c0' is there twice"),
    "weights that a node makes": (as_input_and_node, "is there twice"),
    "too few bytes": (too_few_bytes, "is 4x2x3x3, and has 284 bytes, not 288"),
    "too large": (lying(10**9, 10**9, 10**9), "which no blob can be"),
    "below 0": (lying(4, 2, -3, -3), "which no blob can be"),
    "a lying shape": (lying(10**9), "has 288 bytes, not 4000000000"),
    "text": (of_type(TensorProto.STRING), "'c0' is of type STRING"),
    "float8": (of_type(TensorProto.FLOAT8E4M3FN), "'c0' is of type FLOAT8E4M3FN"),
    "no type": (of_type(99), "'c0' is of type 99"),
    "whole numbers": (input_type, "is not of floats, as Caffe's blobs are"),
    "no output": (no_outputs, "it has no graph with an output"),
    "an output of nobody": (unknown_output, "output 'nobody' is made by no node"),
    "an input of 10^9": (input_of(1, 2, 10**9, 10**9), "more values than a blob may hold"),
    "another input": (input_of(1, 3, 6, 5), "weight 4x2x3x3 and group 1 do not fit 3 channels"),
    "too small an input": (input_of(1, 2, 2, 2), "its kernel 3x3 is larger than what it reads"),
    "a number for text": (attribute("auto_pad", 3), "its attribute 'auto_pad' is 3"),
    "strides for another net": (attribute("strides", [1]), "its attribute 'strides' is (1,)"),
    "a stride of 0": (attribute("strides", [0, 1]), "its attribute 'strides' is (0, 1)"),
    "endless pads": (attribute("pads", [2**60] * 4), "its pads are"),
    "large pads": (attribute("pads", [2**30] * 4), "no pooling of Caffe's"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_wrong_files(case, tmp_path):
    """Each has the same twin, which is read: ``test_names``."""
    change, reason = HOSTILE[case]

    with pytest.raises(ResNetProtoError) as error:
        read(chain(tmp_path / "m.onnx", change=change_graph(change)))

    assert reason in str(error.value)
    assert str(tmp_path / "m.onnx") in str(error.value)


@pytest.mark.parametrize("opset", [1, 6])
def test_old_operators(opset, tmp_path):
    def old(proto):
        proto.opset_import[0].version = opset

    with pytest.raises(FormatError, match=f"of opset {opset}; 7 and newer are read"):
        read(chain(tmp_path / "m.onnx", old=old))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is an empty file, not an ONNX model"),
        (b"\xff" * 100, "is no ONNX model, or is cut off"),
        (b"name: 'net'\nlayer { }\n", "is a prototxt"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
    ],
)
def test_what_is_no_model(content, reason, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)

    with pytest.raises(FormatError, match=reason):
        read(tmp_path / "m.onnx")
    with pytest.raises(FormatError, match="no such file"):
        read(tmp_path / "none.onnx")


def test_cut_off_anywhere(tmp_path):
    """Most places are no end of a message; whatever is left is refused or read, without a crash."""
    data = chain(tmp_path / "m.onnx").read_bytes()
    refused = 0
    for size in range(0, len(data), 7):
        (tmp_path / "cut.onnx").write_bytes(data[:size])
        try:
            read(tmp_path / "cut.onnx")
        except ResNetProtoError:
            refused += 1
    assert refused > len(data) / 7 * 0.9


def test_bytes_changed_anywhere(tmp_path):
    """Refused or read, without a crash."""
    data = chain(tmp_path / "m.onnx").read_bytes()
    rng = np.random.default_rng(5)
    read_well = 0
    for _ in range(400):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            changed[place] = rng.integers(0, 256)
        (tmp_path / "changed.onnx").write_bytes(changed)
        try:
            read(tmp_path / "changed.onnx")
            read_well += 1
        except ResNetProtoError:
            pass
    assert read_well


def test_graphs_within_are_refused(tmp_path):
    """If with graphs in graphs: none of them is looked into."""
    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [],
        [helper.make_empty_tensor_value_info("y")],
    )
    for _ in range(20):
        node = helper.make_node("If", ["c"], ["y"], "if", then_branch=body, else_branch=body)
        body = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")])
        if body.ByteSize() > 1 << 20:
            break
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))
    condition = numpy_helper.from_array(np.array(True), "c")
    graph = helper.make_graph([body.node[0]], "g", [x], list(body.output), [condition])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")

    with pytest.raises(UnknownLayerError, match="If 'if': it runs graphs of its own"):
        read(tmp_path / "m.onnx")


BOMBS = {
    "ConstantOfShape": lambda m: m.node("ConstantOfShape", m.whole(10**5, 10**5)),
    "Expand": lambda m: m.node("Expand", m.constant([1]), m.whole(10**5, 10**5)),
    "Range": lambda m: m.node(
        "Range", m.constant(0), m.constant(10**12), m.constant(1)
    ),
    "Add": lambda m: m.node(
        "Add", m.constant(np.ones((2**14, 1))), m.constant(np.ones((1, 2**14)))
    ),
    "Gather": lambda m: m.node(
        "Gather", m.constant(np.ones(2**10)), m.node("Expand", m.whole(0), m.whole(2**14, 2**12))
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_constants_that_would_fill_the_memory(case, tmp_path):
    model = Model(np.random.default_rng(0), 13)
    value = BOMBS[case](model)
    model.node("Add", model.input(1), value)
    proto = helper.make_model(
        helper.make_graph(
            model.nodes, "g", [helper.make_tensor_value_info("x0", TensorProto.FLOAT, (1,))],
            [helper.make_empty_tensor_value_info(model.value)],
            [numpy_helper.from_array(v, k) for k, v in model.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
    )  # fmt: skip
    onnx.save(proto, tmp_path / "m.onnx")

    with pytest.raises(ResNetProtoError, match=r"a constant of|a range from|does not fit"):
        read(tmp_path / "m.onnx")


BLOWN = {
    "a kernel that grows": lambda m, x: m.node(
        "Conv", x, m.constant(np.ones((4, 2, 3, 3))), pads=[0, 0, 2**20, 2**20]
    ),
    "a dilation": lambda m, x: m.node(
        "Conv", m.node("Pad", x, m.whole(0, 0, 0, 0, 0, 0, 2**25, 0)),
        m.constant(np.ones((4, 2, 3, 3))), dilations=[2**24, 1],
    ),
    "a map of divisors": lambda m, x: m.node(
        "AveragePool", m.node("Expand", m.input(1, 1, 1, 1), m.whole(1, 1, 30000, 30000)),
        kernel_shape=[3, 3], pads=[1, 1, 1, 1],
    ),
    "a larger map": lambda m, x: m.node(
        "Resize", x, "", m.constant([1, 1, 2**16, 2**16]), mode="nearest"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BLOWN)
def test_ops_that_would_fill_the_memory(case, tmp_path):
    model = Model(np.random.default_rng(0), 13)
    BLOWN[case](model, model.input(1, 2, 6, 5))
    onnx.save(model.proto(), tmp_path / "m.onnx")

    with pytest.raises(UnknownLayerError, match="cannot be written as layers of mainline Caffe"):
        read(tmp_path / "m.onnx")


def test_an_op_that_nobody_needs_is_not_run(tmp_path):
    """The proof runs what the outputs need, and nothing else of the file."""

    def add(graph):
        graph.node.append(helper.make_node("NoSuchOp", ["x0"], ["nothing"]))

    path = chain(tmp_path / "m.onnx", add=change_graph(add))

    net, weights = read(path)

    assert prove_read(path, net, weights).worst.within(TOLERANCE)


def test_the_proof_sees_a_wrong_net(tmp_path):
    path = chain(tmp_path / "m.onnx")
    net, weights = read(path)
    wrong = {key: value + 1e-4 for key, value in weights.items()}

    proof = prove_read(path, net, wrong)

    assert proof.worst.blob in ("Relu1_0", "MaxPool2_0")
    assert not proof.worst.within(TOLERANCE)
