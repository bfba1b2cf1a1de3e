"""The residual family in the real Caffe: it loads every preset, and computes what we compute."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward, random_inputs
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.formats import save
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import to_prototxt
from resnet_proto.spec import Names, ResNetSpec
from resnet_proto.weights import random_weights

SMALL = ResNetSpec(
    "small", (2, 1, 1), "basic", width=(6,), stem_width=6, classes=5, input_size=52, head="global"
)
BOTTLENECK = replace(SMALL, unit="bottleneck")
CIFAR = replace(SMALL, stem="3x3", pool="none", input_size=22)
SPECS = {
    "basic": SMALL,
    "bottleneck": BOTTLENECK,
    "A": replace(SMALL, shortcut="A"),
    "A, odd size": replace(CIFAR, shortcut="A", input_size=21),
    "A of bottlenecks": replace(BOTTLENECK, shortcut="A"),
    "C": replace(SMALL, shortcut="C"),
    "D": replace(BOTTLENECK, shortcut="D", stride_in="3x3", stem="deep"),
    "D, odd size": replace(SMALL, shortcut="D", input_size=77),
    "plain": replace(SMALL, shortcut="none"),
    "pre-activation": replace(SMALL, order="pre-activation"),
    "pre-activation A": replace(CIFAR, order="pre-activation", shortcut="A"),
    "pre-activation C": replace(BOTTLENECK, order="pre-activation", shortcut="C"),
    "plain pre-activation": replace(SMALL, order="pre-activation", shortcut="none"),
    "highway": replace(SMALL, highway=True),
    "highway A": replace(CIFAR, highway=True, shortcut="A"),
    "fully connected": ResNetSpec(
        "fc", (2, 1), "fully-connected", stem="none", pool="none", width=(8, 5), input_size=7,
        classes=4,
    ),
    "fully connected, plain": ResNetSpec(
        "fc", (2,), "fully-connected", stem="none", pool="none", width=8, input_size=7,
        shortcut="none", dropout=0.5,
    ),
    "3x3": replace(BOTTLENECK, stride_in="3x3"),
    "groups": replace(BOTTLENECK, cardinality=3, base_width=24),
    "wide": replace(SMALL, width_multiplier=1.5, dropout=0.3, order="pre-activation"),
    "squeeze": replace(BOTTLENECK, squeeze=4),
    "squeeze pre-activation": replace(SMALL, squeeze=3, order="pre-activation"),
    "output stride 8": replace(BOTTLENECK, output_stride=8),
    "output stride 8, 3x3": replace(BOTTLENECK, output_stride=8, stride_in="3x3", shortcut="D"),
    "output stride 8, basic": replace(SMALL, output_stride=8, shortcut="A"),
    "biases": replace(SMALL, conv_bias=True, eps=1e-3),
    "padded": replace(SMALL, pool="padded", head="fixed"),
    "tiered, halved, wide projections": replace(
        BOTTLENECK, stem="tiered", stem_width=18, halve_first=True, projection_kernel=3, squeeze=16,
        squeeze_least=5, squeeze_relu=True, stride_in="3x3", input_size=61,
    ),
    "not in place": replace(BOTTLENECK, in_place=False),
    "not in place, pre-activation": replace(SMALL, in_place=False, order="pre-activation"),
    "one channel": replace(CIFAR, input_channels=1),
    "highway C, squeeze, dropout": replace(
        BOTTLENECK, highway=True, shortcut="C", squeeze=4, dropout=0.3, input_size=37
    ),
    "D, dilated, not in place": replace(
        BOTTLENECK, shortcut="D", output_stride=8, stride_in="3x3", in_place=False, stages=(1, 2)
    ),
    "A, dilated, pre-activation, squeeze": replace(
        SMALL, shortcut="A", output_stride=16, order="pre-activation", squeeze=1000, input_size=33
    ),
    "one image point": replace(CIFAR, input_size=1, stages=(1, 1), classes=1, head="fixed"),
    "other names": replace(
        SMALL, names=Names(unit="é/{stage0}/{block}", classifier="a b/{classes}"), highway=True
    ),
}  # fmt: skip


def run_in_caffe(python, folder, nets):
    """Every blob of each net, with random weights where they are given."""
    folders = []
    for i, (net, weights, inputs) in enumerate(nets):
        job = folder / str(i)
        job.mkdir()
        (job / "net.prototxt").write_text(to_prototxt(net))
        stored = None
        if weights is not None:
            stored = job / "net.caffemodel"
            save(stored, weights, net, verify=False)
        write_job(job, job / "net.prototxt", stored, inputs)
        folders.append(job)
    run_jobs(python, folders)
    return [read_job(job) for job in folders]


@pytest.fixture(scope="module")
def caffes_blobs(caffe_python, tmp_path_factory):
    nets = []
    for spec in SPECS.values():
        net = deploy_net(spec)
        nets.append((net, random_weights(net), random_inputs(net)))
    results = run_in_caffe(caffe_python, tmp_path_factory.mktemp("family"), nets)
    return dict(zip(SPECS, results, strict=True))


@pytest.mark.parametrize("name", SPECS)
def test_every_blob_equals_caffes(name, caffes_blobs):
    net = deploy_net(SPECS[name])

    ours = forward(net, random_weights(net), random_inputs(net))

    rows = compare(ours, caffes_blobs[name])
    assert len(rows) == len(ours) == len(caffes_blobs[name])
    assert not [row for row in rows if not row.within(TOLERANCE)]


def shrunk(name):
    """A preset's net at half of its size, or less: Caffe fills every weight it loads."""
    spec = PRESETS[name].spec
    return deploy_net(replace(spec, input_size=64) if spec.input_size > 32 else spec)


@pytest.fixture(scope="module")
def shapes_in_caffe(caffe_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    paths = [folder / f"{name}.prototxt" for name in PRESETS]
    for name, path in zip(PRESETS, paths, strict=True):
        path.write_text(to_prototxt(shrunk(name)))
    child = Path(__file__).with_name("shapes_child.py")
    done = subprocess.run(
        [caffe_python, str(child), *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(PRESETS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", PRESETS)
def test_caffe_loads_every_preset_with_our_shapes(name, shapes_in_caffe):
    net = shrunk(name)

    ours = {
        t: list(s) for step in net.walk() for t, s in zip(step.layer.tops, step.tops, strict=True)
    }

    assert shapes_in_caffe[name] == ours


def at(net: Net, **blobs):
    """The value of some blobs of a net with random weights."""
    return forward(net, random_weights(net), random_inputs(net), **blobs, dtype="float64")


@pytest.mark.parametrize("stride_in", ["first", "3x3"])
@pytest.mark.parametrize("highway", [False, True])
@pytest.mark.parametrize("unit", ["basic", "bottleneck"])
def test_dilation_sees_what_strides_saw(unit, highway, stride_in):
    """Every second pixel of the dilated net is the strided net's: same weights, same taps."""
    spec = replace(SMALL, unit=unit, stages=(1, 2, 2), input_size=64, highway=highway)
    if unit == "bottleneck":
        spec = replace(spec, stride_in=stride_in)
    strided, dilated = deploy_net(spec), deploy_net(replace(spec, output_stride=8))
    last = "res4b"
    weights = random_weights(strided)

    few = forward(strided, weights, random_inputs(strided), outputs=[last], dtype="float64")[last]
    many = forward(dilated, weights, random_inputs(strided), outputs=[last], dtype="float64")[last]

    assert few.shape[2:] == (4, 4)
    assert many.shape[2:] == (8, 8)
    np.testing.assert_allclose(many[:, :, ::2, ::2], few, rtol=1e-9, atol=1e-12)


def test_zero_padding_is_the_pixels_and_zeros():
    """Option A: section 3.3."""
    net = deploy_net(replace(CIFAR, shortcut="A"))
    blobs = at(net)

    x, padded = blobs["res2b"], blobs["res3a_padded"]

    assert padded.shape == (1, 12, 11, 11)
    assert np.array_equal(padded[:, :6], x[:, :, ::2, ::2])
    assert not padded[:, 6:].any()


def test_nvidias_dialect_is_the_same_net():
    """Gamma and beta within BatchNorm: blobs 3 and 4 there, a Scale's in mainline Caffe."""
    net = deploy_net(SMALL)
    twin = deploy_net(replace(SMALL, dialect="nvidia"))
    weights = random_weights(net)
    theirs = {}
    for key in weights:
        layer, blob = key.rsplit(".", 1)
        if layer.startswith("scale"):
            layer = layer.replace("scale", "bn", 1)
        theirs[f"{layer}.{blob}"] = weights[key]

    ours = forward(net, weights, random_inputs(net))
    fused = forward(twin, theirs, random_inputs(net))

    assert not [layer for layer in twin.layers if layer.type == "Scale"]
    assert ours.keys() == fused.keys()
    assert not [row for row in compare(fused, ours) if not row.within(TOLERANCE)]


def test_the_half_width_net_layer_for_layer(half_width):
    """The released file has fillers and rates too, which a deploy net does not need."""
    from resnet_proto.prototxt import read_prototxt
    from resnet_proto.training.train_val import cleaned

    spec = PRESETS["resnet-50-1by2"].spec
    names = replace(spec.names, classifier="fc_nsfw")
    ours = deploy_net(replace(spec, classes=2, names=names))
    released = read_prototxt(half_width[0])
    theirs = replace(released, layers=tuple(map(cleaned, released.layers)))

    rows = theirs.canonical()
    assert rows[0].pop("name") == "data"  # the Input layer; ours is Caffe's own, named input
    expected = ours.canonical()
    expected[0].pop("name")
    assert rows == expected
