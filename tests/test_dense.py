"""Classifiers in their fully convolutional form: the same at their own size, and larger."""

import itertools

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import forward, load, read_prototxt, save, to_prototxt
from resnet_proto.cli import main
from resnet_proto.dense import Plan, fully_convolutional
from resnet_proto.engine import start
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.errors import NetError, WeightsError
from resnet_proto.layers import (
    BatchNorm,
    Concat,
    Convolution,
    Dropout,
    Eltwise,
    Flatten,
    InnerProduct,
    Input,
    Pooling,
    PReLU,
    ReLU,
    Reshape,
    Scale,
    Softmax,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.weights import random_weights

LARGER = (2, 3, 35, 31)


def net(*layers, shape=(2, 3, 23, 19)):
    data = Input.of("in", (), "data", shape=({"dim": shape},))
    return Net("t", (data, *layers))


def conv(name, bottom, **values):
    return Convolution.of(name, bottom, name, **{"num_output": 4, "kernel_size": 3, **values})


def fc(name, bottom, top=None, n=5, **values):
    return InnerProduct.of(name, bottom, top or name, num_output=n, **values)


def shared(name, bottom):
    fields = {"param": ({"name": "w"},), "inner_product_param": {"num_output": 6}}
    return make_layer(name, "InnerProduct", (bottom,), (name,), fields)


# 23x19 -> 11x9 -> 5x4 at strides of 4, without padding
TRUNK = (
    conv("a", "data", stride=2),
    ReLU.of("ra", "a", "a"),
    Pooling.of("p", "a", "p", kernel_size=3, stride=2),
    conv("b", "p", num_output=6, kernel_size=(2, 1)),
)
AVE = Pooling.of("gap", "b", "gap", pool="AVE", global_pooling=True)
END = Softmax.of("prob", "fc", "prob")
NETS = {
    "a whole map": net(*TRUNK, fc("fc", "b"), END),
    "an average": net(*TRUNK, AVE, fc("fc", "gap", bias_term=False), END),
    "a maximum, Dropout": net(
        *TRUNK,
        Pooling.of("gap", "b", "gap", global_pooling=True),
        Dropout.of("drop", "gap", "gap"),
        fc("fc", "gap", transpose=True, axis=-3),
        END,
    ),
    "three, with all between them": net(
        *TRUNK,
        fc("f1", "b", n=8),
        ReLU.of("r1", "f1", "f1"),
        Dropout.of("d1", "f1", "f1"),
        fc("f2", "f1", n=7),
        BatchNorm.of("bn", "f2", "bn"),
        Scale.of("s", "bn", "bn", bias_term=True),
        PReLU.of("r2", "bn", "r2"),
        fc("fc", "r2"),
        END,
    ),
    "two ends, and things behind": net(
        *TRUNK,
        AVE,
        fc("fc", "gap"),
        fc("other", "gap", n=3),
        ReLU.of("r", "other", "other"),
        Reshape.of("re", "other", "re", shape={"dim": (0, 3, 1)}),
        END,
    ),
    "names that are taken": net(
        *TRUNK[:3],
        conv("fc_map", "p", num_output=6, kernel_size=(2, 1)),
        ReLU.of("fc_mean", "fc_map", "fc_mean"),
        fc("fc", "fc_mean"),
        END,
    ),
}


def images(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def float64(weights):
    return {name: np.asarray(value, np.float64) for name, value in weights.items()}


@pytest.mark.parametrize("name", NETS)
def test_equal_at_its_own_size(name):
    """Every blob that has its name, shapes too, to the order of sums in float64."""
    old = NETS[name]
    weights, x = float64(random_weights(old)), images((2, 3, 23, 19))

    new, arrays = fully_convolutional(old, weights)

    assert "InnerProduct" not in {layer.type for layer in new.layers}
    assert read_prototxt(to_prototxt(new)) == new
    theirs = forward(old, weights, x, dtype="float64")
    ours = forward(new, arrays, x, dtype="float64")
    common = [blob for blob in ours if blob in theirs]
    gone = [blob for blob in theirs if blob not in ours]
    assert gone == (["f1", "f2", "bn", "r2"] if name.startswith("three") else [])
    assert {"fc", "prob", "b" if "taken" not in name else "fc_map"} <= {*common}
    for blob in common:
        assert ours[blob].shape == theirs[blob].shape
        assert relative_l2(ours[blob], theirs[blob]) <= 1e-15, blob


def test_weights_are_the_same_numbers():
    """The float32 of a file too; nothing is computed."""
    old = NETS["three, with all between them"]
    weights = dict(random_weights(old))

    _, arrays = fully_convolutional(old, weights)

    assert arrays.keys() == weights.keys()
    for name, value in weights.items():
        assert arrays[name].dtype == value.dtype == np.float32
        np.testing.assert_array_equal(arrays[name].ravel(), value.ravel())
    assert arrays["f1.weight"].shape == (8, 6, 4, 4)
    assert arrays["f2.weight"].shape == (7, 8, 1, 1)


@pytest.mark.parametrize("name", NETS)
def test_each_place_is_a_crop(name):
    """Without padding a place of the map is the old net on that crop, and the scores their mean."""
    old = NETS[name]
    weights, x = random_weights(old), images(LARGER)
    new, arrays = fully_convolutional(old, weights)
    blob = "fc_map2" if "taken" in name else "fc_map"

    larger = forward(new.with_input_shapes({"data": LARGER}), arrays, x, dtype="float64")

    assert larger[blob].shape == (2, 5, 4, 4)
    for row in range(4):
        for column in range(4):
            crop = x[:, :, 4 * row : 4 * row + 23, 4 * column : 4 * column + 19]
            fc = forward(old, weights, crop, dtype="float64", outputs=["fc"])["fc"]
            assert relative_l2(larger[blob][:, :, row, column], fc) <= 1e-14, (row, column)
    scores = larger[blob].mean(axis=(2, 3))
    assert relative_l2(larger["fc"], scores) <= 1e-15
    powers = np.exp(scores)
    assert relative_l2(larger["prob"], powers / powers.sum(1, keepdims=True)) <= 1e-14


def test_the_real_caffe_runs_it(caffe_python, tmp_path):
    """Prototxt and caffemodel as files, at the net's own size and at a larger one."""
    old = NETS["three, with all between them"]
    weights = random_weights(old)
    new, arrays = fully_convolutional(old, weights)
    text, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    text.write_text(to_prototxt(new))
    save(model, arrays, new)
    x, larger = images((2, 3, 23, 19)), images(LARGER)
    sized = new.with_input_shapes({"data": LARGER})
    asked = ["fc_map", "fc", "prob"]

    with start("caffe", new, load(model), outputs=asked, net_file=text, weights_file=model,
               caffe_python=caffe_python) as caffe:  # fmt: skip
        theirs, theirs_larger = caffe.run({"data": x}), caffe.run({"data": larger})
    with start("caffe", old, weights, outputs=asked[1:], caffe_python=caffe_python) as caffe:
        before = caffe.run({"data": x})

    ours = forward(sized, arrays, larger, dtype="float64", outputs=asked)
    for blob in asked:
        assert theirs_larger[blob].shape == ours[blob].shape
        assert relative_l2(theirs_larger[blob], ours[blob]) <= TOLERANCE, blob
    for blob in asked[1:]:
        assert theirs[blob].shape == before[blob].shape
        assert relative_l2(theirs[blob], before[blob]) <= TOLERANCE, blob


def test_windows_are_spelled_short():
    """A square one by one number; what else a pooling and an InnerProduct say stays."""
    old = net(
        conv("a", "data", stride=2),
        make_layer("gap", "Pooling", ("a",), ("gap",), {
            "pooling_param": {"pool": "AVE", "global_pooling": True}}),
        make_layer("fc", "InnerProduct", ("gap",), ("fc",), {
            "param": ({"lr_mult": 2.0},),
            "inner_product_param": {"num_output": 5, "weight_filler": {"type": "xavier"}}}),
        shape=(2, 3, 9, 9),
    )  # fmt: skip

    new, _ = fully_convolutional(old, random_weights(old))

    layers = {layer.name: layer for layer in new.layers}
    assert layers["gap"].fields == {"pooling_param": {"pool": "AVE", "kernel_size": 4}}
    assert layers["fc"].fields == {
        "param": ({"lr_mult": 2.0},),
        "convolution_param": {
            "num_output": 5, "weight_filler": {"type": "xavier"}, "kernel_size": (1,)},
    }  # fmt: skip
    assert [layer.name for layer in new.layers[-3:]] == ["fc", "fc_mean", "fc_flat"]


@pytest.mark.parametrize("gate", [
    (conv("up", "gap", num_output=6, kernel_size=1), Flatten.of("flat", "up", "flat")),
    (fc("down", "gap", n=3), ReLU.of("rd", "down", "down"), fc("flat", "down", n=6)),
    (
        Pooling.of("max", "b", "max", global_pooling=True),
        Eltwise.of("sum", ("gap", "max"), "sum"),
        fc("flat", "sum", n=6),
    ),
    (
        Reshape.of("re", "gap", "re", shape={"dim": (0, -1)}),
        fc("down", "re", n=3),
        Softmax.of("soft", "down", "soft"),
        fc("flat", "soft", n=6),
    ),
    (  # CBAM's, arXiv 1807.06521, equation 2
        Pooling.of("max", "b", "max", global_pooling=True),
        shared("up", "gap"),
        shared("up2", "max"),
        Eltwise.of("flat", ("up", "up2"), "flat"),
    ),
])  # fmt: skip
def test_a_global_pooling_elsewhere_stays(gate):
    """Squeeze and excitation looks at the whole image, whatever its size, by InnerProducts too."""
    old = net(
        *TRUNK,
        AVE,
        *gate,
        Scale.of("se", ("b", "flat"), "se", axis=0),
        Pooling.of("last", "se", "last", pool="AVE", global_pooling=True),
        fc("fc", "last"),
    )
    weights, x = random_weights(old), images(LARGER)

    new, arrays = fully_convolutional(old, weights)

    pools = {layer.name: layer.global_pooling for layer in new.layers if layer.type == "Pooling"}
    whole = {layer.name: True for layer in gate if layer.type == "Pooling"}
    assert pools == {"p": False, "gap": True, **whole, "last": False, "fc_mean": True}
    products = [layer.name for layer in new.layers if layer.type == "InnerProduct"]
    assert products == [layer.name for layer in gate if layer.type == "InnerProduct"]
    runs = [
        forward(some.with_input_shapes({"data": LARGER}), values, x, outputs=["se"])
        for some, values in ((old.until(["se"]), weights), (new, arrays))
    ]
    np.testing.assert_array_equal(runs[0]["se"], runs[1]["se"])


REFUSED = {
    "no InnerProduct": (net(*TRUNK, AVE), "the net has no InnerProduct"),
    "Flatten": (
        net(*TRUNK, Flatten.of("flat", "b", "flat"), fc("fc", "flat")),
        r"layer 'fc' \(InnerProduct\) reads 2x96, no map, from layer 'flat' \(Flatten\)",
    ),
    "another axis": (
        net(*TRUNK, fc("fc", "b", axis=2)),
        r"layer 'fc' \(InnerProduct\) keeps the axes before axis 2",
    ),
    "shared weights": (
        net(shared("f1", "data"), shared("f2", "data")),
        r"layer 'f1' \(InnerProduct\) shares its weights",
    ),
    "a Softmax between two": (
        net(*TRUNK, fc("f1", "b"), Softmax.of("s", "f1", "s"), fc("fc", "s")),
        r"layer 's' \(Softmax\) reads what layer 'f1' \(InnerProduct\) makes",
    ),
    "something else beside the second": (
        net(*TRUNK, fc("f1", "b"), Softmax.of("s", "f1", "s"), fc("fc", "f1")),
        r"layer 's' \(Softmax\) reads what layer 'f1' \(InnerProduct\) makes",
    ),
    "a gate by windows of one size": (
        net(
            *TRUNK,
            Pooling.of("pool", "b", "pool", pool="AVE", kernel_size=4),
            fc("down", "pool", n=6),
            Scale.of("se", ("b", "down"), "se", axis=0),
            fc("fc", "se"),
        ),
        r"layer 'se' \(Scale\) reads what layer 'down' \(InnerProduct\) makes",
    ),
    "a Scale that counts from the end": (
        net(*TRUNK, fc("f1", "b"), Scale.of("s", "f1", "f1", axis=-1), fc("fc", "f1")),
        r"layer 's' \(Scale\) reads what layer 'f1' \(InnerProduct\) makes",
    ),
    "something else beside the pooling": (
        net(*TRUNK, AVE, fc("fc", "gap"), Concat.of("c", ("gap", "gap"), "c")),
        r"layer 'c' \(Concat\) reads what layer 'gap' \(Pooling\) makes",
    ),
    "a size that is written down": (
        net(
            *TRUNK,
            Reshape.of("re", "b", "re", shape={"dim": (0, 6, 4, 4)}),
            fc("fc", "re"),
        ),
        r"takes no images of twice its size: layer 're' \(Reshape\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """The twins are ``NETS``."""
    old, message = REFUSED[name]

    with pytest.raises(NetError, match=message):
        fully_convolutional(old, random_weights(old))


def test_a_gate_of_thousands():
    """Each layer is looked at once; looked back from each, these would be minutes."""
    names = ["gap", *(f"fc{i}" for i in range(4000))]
    gate = [fc(top, bottom, n=1) for bottom, top in itertools.pairwise(names)]
    old = net(
        conv("conv", "data", num_output=1, kernel_size=3),
        Pooling.of("gap", "conv", "gap", pool="AVE", global_pooling=True),
        *gate,
        Scale.of("se", ("conv", names[-1]), "se", axis=0),
        fc("score", "se"),
    )
    plan = Plan(list(old.walk()))

    assert plan.products == {len(old.layers) - 1}


def test_weights_of_another_net():
    old = NETS["an average"]
    weights = {**random_weights(old), "fc.weight": np.zeros((5, 7), np.float32)}

    with pytest.raises(WeightsError, match=r"layer 'fc': weight is 5x7 .* needs 5x6"):
        fully_convolutional(old, weights)


def test_the_option(tmp_path):
    """``convert --dense``, together with others; proven by both nets, in any format."""
    old = NETS["an average"]
    (tmp_path / "net.prototxt").write_text(to_prototxt(old))
    save(tmp_path / "in.caffemodel", random_weights(old), old)
    out = tmp_path / "out.caffemodel"

    result = CliRunner().invoke(
        main, ["convert", str(tmp_path / "in.caffemodel"), str(out), "--dense", "--to-rgb",
               "--net", str(tmp_path / "net.prototxt")],
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "the new net against the old, random input: 6 blobs within 1e-05" in result.output
    new = read_prototxt(tmp_path / "out.prototxt").with_input_shapes({"data": LARGER})
    assert forward(new, load(out), images(LARGER), outputs=["fc_map"])["fc_map"].shape[2:] == (4, 4)
