"""Other images for the same net: in numpy by each layer's definition, and in the real Caffe."""

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.job import Job, scratch
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import NetError, WeightsError
from resnet_proto.fold import folded
from resnet_proto.formats import load, save
from resnet_proto.inputs import input_scale, reversed_channels, times_scale, to_rgb
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    ConvolutionDepthwise,
    Crop,
    Data,
    Deconvolution,
    DepthwiseConvolution,
    Eltwise,
    InnerProduct,
    Input,
    Pooling,
    ReLU,
    Silence,
    Softmax,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.spec import ResNetSpec
from resnet_proto.weights import random_weights

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)
SCALE = (0.5, -3.0, 20.0)


def net(*layers, shape=X.shape, others=()):
    inputs = {"data": shape, **dict(others)}
    shapes = [{"dim": size} for size in inputs.values()]
    return Net("t", (Input.of("in", (), list(inputs), shape=shapes), *layers))


def conv(name="a", bottom="data", top=None, type=Convolution, **fields):
    fields = {"num_output": 6, "kernel_size": (3, 2), "pad": 1, **fields}
    return type.of(name, bottom, top or name, **fields)


def shared(name, bottom, **fields):
    layer = conv(name, bottom, **fields)
    return type(layer)(
        name, layer.type, layer.bottoms, layer.tops, {**layer.fields, "param": ({"name": "w"},)}
    )


READERS = {
    "convolution": conv(stride=2, dilation=2),
    "groups": conv(group=3, bias_term=False),
    "depthwise": conv(type=DepthwiseConvolution, num_output=9, group=3),
    "depthwise of another fork": conv(type=ConvolutionDepthwise, num_output=3),
    "deconvolution": conv(type=Deconvolution, stride=2),
    "deconvolution in groups": conv(type=Deconvolution, group=3),
    "inner product": InnerProduct.of("a", "data", "a", num_output=4),
    "inner product, transposed": InnerProduct.of("a", "data", "a", num_output=4, transpose=True),
    "negative axis": conv(axis=-3),
}


def equal(new, old, ours, theirs, blobs):
    """Both nets, each with its weights and input, give the same."""
    y = forward(new[0], new[1], ours, dtype="float64", outputs=blobs)
    z = forward(old[0], old[1], theirs, dtype="float64", outputs=blobs)
    for name in blobs:
        assert relative_l2(y[name], z[name]) < 1e-6, name


@pytest.mark.parametrize("layer", READERS.values(), ids=READERS)
def test_each_reader(layer):
    """Channels reversed, factors, and both: what the new net makes of x is what the old made."""
    old = net(layer, ReLU.of("r", "a", "a"))
    weights = random_weights(old)

    rgb = to_rgb(old, weights)
    scaled = input_scale(old, weights, SCALE)
    both = input_scale(*rgb, SCALE)

    whole = (old, weights)
    equal(rgb, whole, X, X[:, ::-1], ["a"])
    factors = np.array(SCALE).reshape(3, 1, 1)
    equal(scaled, whole, X, X * factors, ["a"])
    equal(both, whole, X, (X * factors)[:, ::-1], ["a"])
    assert scaled[0].layers == old.layers
    apart = forward(old, weights, X, dtype="float64")["a"]
    assert relative_l2(forward(rgb[0], rgb[1], X, dtype="float64")["a"], apart) > 0.1


def test_bits_stay():
    """Reversed twice the weights are the old ones, and the others are not touched."""
    old = net(conv(), conv("b", "a"))
    weights = random_weights(old)

    once = to_rgb(old, weights)
    twice = to_rgb(*once)

    assert once[0] == twice[0] == old
    assert list(once[1]) == list(weights)
    for key, value in weights.items():
        np.testing.assert_array_equal(twice[1][key], value)
        assert (once[1][key].tobytes() == value.tobytes()) == (key != "a.weight")
        assert once[1][key].dtype == np.float32


def test_one_group_with_zeros():
    old = net(conv(group=3, type=DepthwiseConvolution, num_output=3, kernel_size=1, pad=0))
    weight = np.array([2, 3, 5], np.float32).reshape(3, 1, 1, 1)

    new, values = to_rgb(old, {"a.weight": weight, "a.bias": np.zeros(3, np.float32)})

    layer = new.layers[1]
    assert (layer.type, type(layer), layer.group) == ("Convolution", Convolution, 1)
    assert values["a.weight"][:, :, 0, 0].tolist() == [[0, 0, 2], [0, 3, 0], [5, 0, 0]]


MANY = {
    "several readers": net(conv(), conv("b", stride=2), InnerProduct.of("c", "data", "c",
                                                                          num_output=2)),
    "of the size alone": net(conv(pad=3), Crop.of("b", ["a", "data"], "b", axis=2),
                             Silence.of("s", "data", ())),
    "two bottoms": net(conv(bottom=["data", "other"], top=["a", "b"]),
                       others={"other": X.shape}),
    "shared": net(shared("a", "data"), shared("b", "other"), others={"other": (2, 3, 4, 6)}),
    "shared, in groups": net(shared("a", "data", group=3), shared("b", "data", group=3, stride=2)),
    "no image": net(conv(), others={"info": (1, 3)}),
}  # fmt: skip


@pytest.mark.parametrize("old", MANY.values(), ids=MANY)
def test_nets(old):
    """All that read the images change, and nothing else; inputs of two axes are no images."""
    weights = random_weights(old)
    inputs = {
        name: np.random.default_rng(i).normal(size=shape).astype(np.float32)
        for i, (name, shape) in enumerate(old.inputs().items())
    }
    blobs = [name for la in old.layers[1:] for name in la.tops]

    rgb = to_rgb(old, weights)
    scaled = input_scale(old, weights, SCALE)

    equal(rgb, (old, weights), inputs, reversed_channels(inputs), blobs)
    equal(scaled, (old, weights), inputs, times_scale(inputs, SCALE), blobs)


def test_shared_weights_in_files(tmp_path):
    """A caffemodel has the new weight at both layers, an npz once."""
    old = MANY["shared"]
    save(tmp_path / "old.npz", random_weights(old), old)
    weights = load(tmp_path / "old.npz")
    new, values = to_rgb(old, weights)

    for name in ("new.npz", "new.caffemodel"):
        save(tmp_path / name, values, new)

    once, both = load(tmp_path / "new.npz"), load(tmp_path / "new.caffemodel")
    assert set(once) == set(weights) == {"a.weight", "a.bias", "b.bias"}
    for found in (once["a.weight"], both["a.weight"], both["b.weight"]):
        np.testing.assert_array_equal(found, weights["a.weight"][:, ::-1])


def jobs(caffe_python, *given):
    """Blobs that the real Caffe gives for each (net, weights, inputs)."""
    with scratch() as folder:
        places = []
        for i, (net, weights, inputs) in enumerate(given):
            places.append(folder / str(i))
            places[-1].mkdir()
            write_job(places[-1], *Job(net, dict(weights), inputs).files(places[-1]), inputs)
        run_jobs(caffe_python, places)
        return [read_job(place) for place in places]


SPEC = ResNetSpec("small", (1, 2), "bottleneck", width=8, stem_width=6, classes=10)
FOR_CAFFE = {
    "small": deploy_net(SPEC),
    "groups": net(conv(group=3), conv("b", type=Deconvolution, group=3), Softmax.of("p", "a", "p")),
    "several readers": MANY["several readers"],
    "of the size alone": MANY["of the size alone"],
}


@pytest.mark.parametrize("old", FOR_CAFFE.values(), ids=FOR_CAFFE)
@pytest.mark.parametrize("fold", [False, True], ids=["", "folded"])
def test_the_real_caffe_runs_both(caffe_python, old, fold):
    """The new net and the old one, on their own images, every blob that both have."""
    weights = random_weights(old)
    ((name, shape),) = old.inputs().items()
    x = np.random.default_rng(1).uniform(-128, 128, shape).astype(np.float32)
    scale = (0.0171, 0.0175, 0.0174)
    start = folded(old, weights) if fold else (old, weights)

    rgb, values = to_rgb(*start)
    scaled, scaled_values = input_scale(rgb, values, scale)

    before = (x * np.float32(scale).reshape(3, 1, 1))[:, ::-1]
    theirs, swapped, theirs_scaled, ours = jobs(
        caffe_python,
        (old, weights, {name: np.ascontiguousarray(x[:, ::-1])}),
        (rgb, values, {name: x}),
        (old, weights, {name: np.ascontiguousarray(before)}),
        (scaled, scaled_values, {name: x}),
    )
    for a, b in ((swapped, theirs), (ours, theirs_scaled)):
        blobs = {*a} & {*b} - {name}
        assert {rgb.layers[-1].tops[0] if rgb.layers[-1].tops else "b"} <= blobs
        for blob in blobs:
            assert relative_l2(a[blob], b[blob]) <= TOLERANCE, blob


REFUSED = {
    "pooling": (net(Pooling.of("p", "data", "p", kernel_size=2), conv(bottom="p")),
                r"layer 'p' \(Pooling\) reads the image; only the weights of Conv"),
    "one of two": (net(conv(), BatchNorm.of("bn", "data", "bn")),
                   r"layer 'bn' \(BatchNorm\) reads the image"),
    "a sum": (net(conv(num_output=3, kernel_size=1, pad=0), Eltwise.of("s", ["a", "data"], "s")),
              r"layer 's' \(Eltwise\) reads the image"),
    "no weights of its own": (
        net(Convolution("a", "Convolution", ("data",), ("a",), {
            "param": ({"lr_mult": 0.0},), "convolution_param": {
                "num_output": 3, "group": 3, "kernel_size": (1,), "bias_term": False,
                "weight_filler": {"type": "constant", "value": 1.0}}})),
        r"layer 'a' \(Convolution\) reads the image; only the weights"),
    "the image and another": (
        net(conv("b", type=Convolution, num_output=3, kernel_size=1, pad=0),
            conv(bottom=["data", "b"], top=["a", "c"])),
        r"layer 'a' \(Convolution\) reads the image and another blob"),
    "shared with another": (
        net(shared("a", "data", num_output=3, kernel_size=1, pad=0),
            shared("b", "a", num_output=3, kernel_size=1, pad=0)),
        r"layer 'a' \(Convolution\) reads the image, and its weight is that of 'b.weight' too"),
    "another axis": (net(InnerProduct.of("a", "data", "a", num_output=4, axis=2)),
                     r"layer 'a' \(InnerProduct\) reads the image, and its axis is 2; only 1"),
    "nothing reads it": (net(Silence.of("s", "data", ())), "no layer reads the image"),
    "no image": (net(InnerProduct.of("a", "data", "a", num_output=4), shape=(2, 3)),
                 r"the net has no input \(N, C, H, W\); make a deploy net of it first"),
    "data layer": (Net("t", (Data.of("d", (), ["data", "label"], batch_size=2, crop_size=9),
                             conv())), "make a deploy net of it first"),
    "two kinds": (net(conv(), others={"mask": (2, 1, 7, 5)}),
                  "differ in channels, and which are images is not known: 'data' is 2x3x7x5, 'ma"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(old, message):
    for change in (to_rgb, lambda net, weights: input_scale(net, weights, (2.0,))):
        with pytest.raises(NetError, match=message):
            change(old, {})


@pytest.mark.parametrize("scale", [(0.0,), (1.0, np.inf, 1.0), (np.nan,), (1.0, 2.0), ()])
def test_refused_factors(scale):
    old = net(conv())

    with pytest.raises(NetError, match="factor"):
        input_scale(old, random_weights(old), scale)


def test_numbers_of_channels():
    """Factors for any number of channels, but three for RGB."""
    x = np.random.default_rng(0).normal(size=(2, 4, 7, 5)).astype(np.float32)
    old = net(conv(group=2), shape=x.shape)
    weights = random_weights(old)
    scale = (1.0, 2.0, 3.0, 5.0)

    new = input_scale(old, weights, scale)

    equal(new, (old, weights), x, times_scale({"data": x}, scale)["data"], ["a"])
    with pytest.raises(NetError, match="input 'data' is 2x4x7x5; channels are reversed of three"):
        to_rgb(old, weights)


def test_a_type_that_nobody_knows_behind():
    """Shapes are needed of what reads the images, and of nothing behind it."""
    old = Net("t", (*net(conv()).layers, make_layer("x", "Guess", ("a",), ("b",))))

    new, values = to_rgb(old, random_weights(net(conv())))

    assert new.layers[2].type == "Guess"
    assert values["a.weight"].shape == (6, 3, 3, 2)


def test_missing_weights():
    with pytest.raises(WeightsError, match="layer 'a'"):
        to_rgb(net(conv()), {})
