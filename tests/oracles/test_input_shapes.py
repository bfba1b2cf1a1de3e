"""``Net.with_input_shapes``, against ``net.blobs['data'].reshape(...); net.reshape()``."""

import numpy as np
import pytest
from oracles.nets_in_caffe import ask

from resnet_proto.engine import run
from resnet_proto.engine.compare import compare
from resnet_proto.errors import NetError, ShapeError
from resnet_proto.prototxt import parse_net
from resnet_proto.weights import random_weights

DATA = """layer {
  name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 8 } }
}
"""
OLD = 'input: "data" input_dim: 2 input_dim: 3 input_dim: 9 input_dim: 8\n'


def layer(type, name, bottom, fields=""):
    return f'layer {{ name: "{name}" type: "{type}" bottom: "{bottom}" top: "{name}" {fields} }}\n'


CONV = layer("Convolution", "conv", "data",
             "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 stride: 2 }")  # fmt: skip
FC = layer("InnerProduct", "fc", "conv", "inner_product_param { num_output: 5 }")
POOL = layer("Pooling", "pool", "conv", "pooling_param { pool: AVE global_pooling: true }")
BEHIND = layer("InnerProduct", "fc", "pool", "inner_product_param { num_output: 5 }")
FIXED = layer("Pooling", "pool", "conv", "pooling_param { pool: AVE kernel_h: 4 kernel_w: 3 }")
CASES = {
    "another batch": (CONV + FC, (5, 3, 9, 8), True),
    "another size before a global pooling": (CONV + POOL + BEHIND, (1, 3, 13, 17), True),
    "another size before an InnerProduct": (CONV + FC, (2, 3, 13, 8), False),
    "as many values before an InnerProduct": (CONV + FC, (2, 3, 8, 11), False),
    "turned, and as many values": (CONV + FC, (2, 3, 11, 6), False),
    "no other values": (CONV + FC, (2, 3, 10, 9), True),
    "behind a pooling of fixed size": (CONV + FIXED + BEHIND, (2, 3, 9, 8), True),
    "behind a pooling that slides": (CONV + FIXED + BEHIND, (2, 3, 11, 8), False),
    "other channels": (CONV, (2, 4, 9, 8), False),
    "another number of axes": (CONV, (2, 3, 9), False),
    "a map much smaller than the kernel": (CONV.replace("h: 3", "h: 7"), (2, 3, 2, 4), False),
    "channels of a BatchNorm": (layer("BatchNorm", "bn", "data"), (2, 4, 9, 8), False),
    "a map of a BatchNorm": (layer("BatchNorm", "bn", "data"), (3, 3, 5, 4), True),
    "channels of a Scale": (layer("Scale", "s", "data"), (2, 4, 9, 8), False),
    "nothing to learn": (layer("ReLU", "r", "data"), (7, 6, 5), True),
    "a Reshape": (
        layer("Reshape", "r", "data", "reshape_param { shape { dim: 0 dim: -1 } }"),
        (7, 6, 5),
        True,
    ),
    "a Reshape of fixed size": (
        layer("Reshape", "r", "data", "reshape_param { shape { dim: 2 dim: 216 } }"),
        (3, 3, 9, 8),
        False,
    ),
}


@pytest.fixture(scope="module")
def answers(caffe_python, tmp_path_factory):
    jobs = [
        {"net": head + layers, "reshape": {"data": shape}}
        for layers, shape, _ in CASES.values()
        for head in (DATA, OLD)
    ]
    answers = ask(caffe_python, tmp_path_factory.mktemp("shapes"), jobs)
    return dict(zip(((n, h) for n in CASES for h in (DATA, OLD)), answers, strict=True))


@pytest.mark.parametrize("head", [DATA, OLD], ids=["Input", "input_dim"])
@pytest.mark.parametrize("name", CASES)
def test_shapes_are_caffes(answers, name, head):
    layers, shape, fits = CASES[name]
    net, theirs = parse_net(head + layers), answers[name, head]
    assert (theirs is not None) == fits

    if not fits:
        with pytest.raises(NetError):
            list(net.with_input_shapes({"data": shape}).walk())
        return
    other = net.with_input_shapes({"data": shape})
    assert other == net.with_input_shapes({"": shape})
    steps = list(other.walk())
    blobs = {
        top: [*size] for step in steps for top, size in zip(step.layer.tops, step.tops, strict=True)
    }
    assert blobs == theirs["blobs"]
    weights = {s.label: [[*size] for size in s.blobs.values()] for s in steps if s.blobs}
    assert weights == theirs["weights"]
    assert parse_net(head + layers) == net  # which is as it was


def test_the_layer_is_named():
    net = parse_net(DATA + CONV + FC)

    with pytest.raises(
        NetError,
        match=r"layer 'fc' \(InnerProduct\): weight is 5x64, and with data 2x3x13x8 it would be "
        "5x96; the weights allow no such size",
    ):
        net.with_input_shapes({"data": (2, 3, 13, 8)})


@pytest.mark.parametrize("shape", ["abc", 3, (2.5, 3, 8, 8), None])
def test_what_is_no_shape(shape):
    net = parse_net(DATA + CONV)

    with pytest.raises(ShapeError, match=r"the shape of 'data' is .*; give whole numbers"):
        net.with_input_shapes({"data": shape})
    assert net.with_input_shapes({"data": [np.int64(2), 3, 8, 8]})


def test_caffe_computes_it_with_its_own_file(caffe_python, tmp_path):
    """It reads the net as it is, and reshapes: the values are ours."""
    (tmp_path / "net.prototxt").write_text(DATA + CONV + POOL + BEHIND)
    net = parse_net(DATA + CONV + POOL + BEHIND).with_input_shapes({"": (4, 3, 13, 17)})
    weights = random_weights(net)
    inputs = {"data": np.random.default_rng(0).normal(size=(4, 3, 13, 17)).astype(np.float32)}

    ours = run("numpy", net, weights, inputs)
    theirs = run("caffe", net, weights, inputs, net_file=tmp_path / "net.prototxt",
                 caffe_python=caffe_python)  # fmt: skip

    rows = compare(ours, theirs)
    assert len(rows) == 4
    assert all(row.within(1e-5) for row in rows)
    assert ours["conv"].shape == (4, 4, 6, 8)


def test_an_input_that_nobody_needs_is_reshaped_too(caffe_python, tmp_path):
    """Else Caffe would add blobs of two sizes in layers that nobody asked for."""
    text = (
        'input: "a" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4\n'
        'input: "b" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4\n'
        'layer { name: "r" type: "ReLU" bottom: "a" top: "r" }\n'
        'layer { name: "s" type: "Eltwise" bottom: "a" bottom: "b" top: "s" }\n'
    )
    (tmp_path / "net.prototxt").write_text(text)
    net = parse_net(text).with_input_shapes({"a": (3, 2, 5, 4), "b": (3, 2, 5, 4)})

    blobs = run("caffe", net, {}, {"a": np.ones((3, 2, 5, 4))}, outputs=["r"],
                net_file=tmp_path / "net.prototxt", caffe_python=caffe_python)  # fmt: skip

    np.testing.assert_array_equal(blobs["r"], np.ones((3, 2, 5, 4)))
