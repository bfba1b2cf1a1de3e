"""Folding: fewer layers, the same blobs, in the real Caffe too."""

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.job import Job, scratch
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.fold import folded
from resnet_proto.layers import (
    BN,
    BatchNorm,
    Convolution,
    Deconvolution,
    DepthwiseConvolution,
    InnerProduct,
    Input,
    ReLU,
    Scale,
)
from resnet_proto.net import Net
from resnet_proto.spec import ResNetSpec
from resnet_proto.weights import random_weights

X = np.random.default_rng(0).normal(size=(2, 6, 7, 5)).astype(np.float32)


def net(*layers, shape=X.shape):
    return Net("t", (Input.of("in", (), "data", shape=({"dim": shape},)), *layers))


def tail(bottom, *, in_place):
    """BatchNorm and Scale behind a blob, and a ReLU."""
    bn, scale = (bottom, bottom) if in_place else ("bn", "scale")
    return (
        BatchNorm.of("bn", bottom, bn, eps=0.01),
        Scale.of("scale", bn, scale, bias_term=True),
        ReLU.of("relu", scale, scale),
    )


FIRST = {
    "convolution": Convolution.of("a", "data", "a", num_output=4, kernel_size=(3, 2), stride=2),
    "no bias": Convolution.of("a", "data", "a", num_output=4, kernel_size=3, bias_term=False),
    "groups": Convolution.of("a", "data", "a", num_output=4, kernel_size=(3, 2), group=2),
    "depthwise": DepthwiseConvolution.of("a", "data", "a", num_output=12, kernel_size=3, group=6),
    "deconvolution": Deconvolution.of("a", "data", "a", num_output=4, kernel_size=3, stride=2),
    "deconvolution in groups": Deconvolution.of(
        "a", "data", "a", num_output=9, kernel_size=(3, 2), group=3
    ),
    "inner product": InnerProduct.of("a", "data", "a", num_output=5),
    "inner product, transposed": InnerProduct.of("a", "data", "a", num_output=5, transpose=True),
}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_into_the_layer_before(first, in_place):
    """The blobs that are left have their names and values."""
    whole = net(first, *tail("a", in_place=in_place))
    weights = random_weights(whole)

    small, values = folded(whole, weights)

    assert [layer.type for layer in small.layers] == ["Input", first.type, "ReLU"]
    ours = forward(small, values, X, dtype="float64")
    theirs = forward(whole, weights, X, dtype="float64")
    assert ours.keys() == ({"data", "a"} if in_place else {"data", "scale"})
    for name, value in ours.items():
        assert relative_l2(value, theirs[name]) < 1e-6, name


def test_the_real_caffe_runs_it(caffe_python):
    """A whole net and the net that is left of it, both in Caffe."""
    whole = deploy_net(ResNetSpec("small", (1, 2), "bottleneck", width=8, stem_width=6, classes=10))
    weights = random_weights(whole)
    ((name, shape),) = whole.inputs().items()
    inputs = {name: np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    small, values = folded(whole, weights)

    with scratch() as folder:
        for job in (Job(whole, weights, inputs), Job(small, dict(values), inputs)):
            place = folder / str(len(job.net.layers))
            place.mkdir()
            write_job(place, *job.files(place), inputs)
        theirs, ours = sorted(folder.iterdir(), key=lambda place: -int(place.name))
        run_jobs(caffe_python, [theirs, ours])
        theirs, ours = read_job(theirs), read_job(ours)

    assert not {"BatchNorm", "Scale"} & {layer.type for layer in small.layers}
    assert ours.keys() == theirs.keys()
    for blob, value in ours.items():
        assert relative_l2(value, theirs[blob]) <= TOLERANCE, blob


def conv(name="a", bottom="data", top=None, **fields):
    return Convolution.of(name, bottom, top or name, num_output=6, kernel_size=1, **fields)


@pytest.mark.parametrize(
    "whole",
    [
        net(conv(), ReLU.of("r", "a", "a"), BatchNorm.of("bn", "a", "bn")),
        net(conv(), BatchNorm.of("bn", "a", "bn"), ReLU.of("r", "a", "r")),  # two read it
        net(conv(), BatchNorm.of("bn", "a", "bn", use_global_stats=False)),
        net(conv(), Scale.of("s", "a", "s", axis=2)),
        net(conv(), Scale.of("s", "a", "s", axis=1, num_axes=2)),
        net(conv(), conv("b"), Scale.of("s", ["a", "b"], "s", axis=0)),
        net(BatchNorm.of("bn", "data", "bn"), conv("a", "bn")),  # its padding would be another
        net(conv(), Scale.of("a", "a", "s")),  # one name for two layers
    ],
)
def test_what_stays(whole):
    small, values = folded(whole, {})

    assert small.layers == whole.layers
    assert not list(values)


def test_shared_weights_stay():
    def shared(name, bottom):
        return Convolution(
            name, "Convolution", (bottom,), (name,),
            {"param": ({"name": "w"},), "convolution_param": {
                "num_output": 6, "kernel_size": (1,), "bias_term": False}},
        )  # fmt: skip

    whole = net(shared("a", "data"), Scale.of("s", "a", "s"), shared("b", "s"))

    assert folded(whole, random_weights(whole))[0].layers == whole.layers


@pytest.mark.parametrize("bias_term", [True, False])
def test_merged(bias_term):
    """Elsewhere a BatchNorm takes the Scale in, as NVIDIA's does."""
    whole = net(
        BatchNorm.of("bn", "data", "bn"),
        Scale.of("s", "bn", "bn", bias_term=bias_term),
        Scale.of("again", "bn", "again", bias_term=bias_term),
    )
    weights = random_weights(whole)

    small, values = folded(whole, weights, merge=True)

    assert [layer.type for layer in small.layers] == ["Input", "BatchNorm"]
    ours = forward(small, values, X, dtype="float64", outputs=["again"])["again"]
    theirs = forward(whole, weights, X, dtype="float64", outputs=["again"])["again"]
    assert relative_l2(ours, theirs) < 1e-6
    assert folded(whole, weights)[0].layers == whole.layers


def test_merged_only():
    """A convolution stays as it is, and the BatchNorm behind it takes the Scale in."""
    whole = net(FIRST["convolution"], *tail("a", in_place=True))
    weights = random_weights(whole)

    small, values = folded(whole, weights, merge=True, products=False)

    assert [layer.name for layer in small.layers] == ["in", "a", "bn", "relu"]
    np.testing.assert_array_equal(values["a.weight"], weights["a.weight"])
    ours = forward(small, values, X, dtype="float64", outputs=["a"])["a"]
    theirs = forward(whole, weights, X, dtype="float64", outputs=["a"])["a"]
    assert relative_l2(ours, theirs) < 1e-6


def test_bn_of_a_fork():
    whole = net(conv(), BN.of("bn", "a", "bn"))
    weights = random_weights(whole)

    small, values = folded(whole, weights)

    assert [layer.name for layer in small.layers] == ["in", "a"]
    ours = forward(small, values, X, dtype="float64")["bn"]
    assert relative_l2(ours, forward(whole, weights, X, dtype="float64")["bn"]) < 1e-6
