"""Weights as a mapping, and random ones."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward, random_inputs
from resnet_proto.errors import ResNetProtoError, WeightsError
from resnet_proto.fit import match
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Deconvolution,
    InnerProduct,
    Input,
    Scale,
    make_layer,
)
from resnet_proto.net import Net, labels
from resnet_proto.presets import PRESETS
from resnet_proto.weights import (
    Blob,
    Held,
    Weights,
    blob_names,
    possible,
    random_weights,
    same_values,
    split,
)

DATA = Input.of("in", (), "data", shape=({"dim": (2, 3, 7, 5)},))
CONV = Convolution.of("conv", "data", "conv", num_output=4, kernel_h=3, kernel_w=2)
FC = InnerProduct.of("fc", "conv", "fc", num_output=6)
NET = Net("n", (DATA, CONV, FC))


@pytest.mark.parametrize(
    ("key", "layer", "name"),
    [
        ("conv1.weight", "conv1", "weight"),
        ("a.b/c.0", "a.b/c", "0"),
        ("plain", "plain", ""),
        ("dot.", "dot.", ""),
        (".weight", "", "weight"),
        (".", ".", ""),
        ("", "", ""),
    ],
)
def test_split_and_back(key, layer, name):
    assert split(key) == (layer, name)
    assert list(Weights.of({key: 1.0})) == [key]


def test_labels():
    assert list(labels(["a", "b", "a", "a", "b"])) == ["a", "b", "a#2", "a#3", "b#2"]


def test_mapping():
    """Blobs of a layer stand together; what is there is counted and not read."""
    weights = Weights.of(
        {"a.w": np.ones((2, 3), np.float32), "b.w": [1.5, 2.0], "a.b": 7}, "made of dicts"
    )

    assert list(weights) == ["a.w", "a.b", "b.w"]
    assert (len(weights), weights.nbytes) == (3, 24 + 16 + 8)
    assert "b.w" in weights
    assert "b" not in weights
    assert weights["a.b"] == 7
    assert [(row.label, len(row.blobs)) for row in weights.layers] == [("a", 2), ("b", 1)]
    assert repr(weights) == "<Weights made of dicts: 3 blobs, 48 bytes>"
    assert Weights.of(weights) is weights
    with pytest.raises(KeyError):
        weights["b"]


@pytest.mark.parametrize("value", ["text", None, 2j, [b"x"]])
def test_what_is_no_number(value):
    with pytest.raises(WeightsError, match=r"'a\.w' is .*; expected an array of numbers"):
        Weights.of({"a.w": value})
    assert Weights.of({"a.w": True})["a.w"]


@pytest.mark.parametrize(
    ("arrays", "good", "message"),
    [
        (None, {}, "expected a mapping of names to arrays, got None"),
        ([("a.w", 1)], {"a.w": 1}, r"expected a mapping of names to arrays, got \[\('a\.w', 1\)\]"),
        ({1: [1]}, {"1": [1]}, "a name is 1; expected '<layer>.<blob>'"),
        ({"a.w": [[1, 2], [3]]}, {"a.w": [[1, 2], [3, 4]]}, r"'a\.w' is not an array: .*inhomogen"),
        (
            {"a.w": np.ma.masked_array([1.0, 2], [False, True])},
            {"a.w": np.ma.masked_array([1.0, 2], [False, False])},
            r"'a\.w' has masked values, .*: filled\(\)",
        ),
    ],
)
def test_what_are_no_weights(arrays, good, message):
    with pytest.raises(WeightsError, match=f"x.npz: {message}"):
        Weights.of(arrays, "x.npz")
    assert list(Weights.of(good)) == list(good)


def test_closing():
    closed = []
    with Weights([], close=lambda: closed.append(1)):
        pass
    Weights([]).close()

    assert closed == [1]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3), True),
        ((), True),
        ((0, 2**40), True),
        ((1,) * 32, True),
        ((1,) * 33, False),
        ((2, -3), False),
        ((-2, -3), False),
        ((0, 2**40, 2**40), False),
    ],
)
def test_possible(shape, expected):
    """Numpy can make an empty array of every such shape."""
    assert possible(shape) is expected
    if expected and 0 in shape:
        assert np.empty(0).reshape(shape).size == 0


def test_blob_names():
    assert blob_names("Convolution", 1, 1) == ("weight",)
    assert blob_names("Scale", 2, 1) == ("bias",)
    fused = ("mean", "variance", "scale_factor", "weight", "bias")  # NVIDIA's, with Scale inside
    assert blob_names("BatchNorm", 1, 6) == (*fused, "5")
    assert blob_names("Crop", 1, 2) == ("0", "1")


def held(values):
    return Blob("x", "x", "", "w", values.shape, values.dtype.name, values.nbytes, Held(values))


def test_same_values(monkeypatch):
    """To the bit: nan equals itself, 0.0 is not -0.0; a wider type may hold the same."""
    values = np.arange(1000, dtype=np.float32)
    values[7] = np.nan
    a = held(values)

    for size in (1 << 24, 64, 100):
        monkeypatch.setattr("resnet_proto.weights.PART", size)
        assert same_values(a, held(values.copy()))
        for at in (0, 15, 16, 999):
            other = values.copy()
            other[at] += 1
            assert same_values(a, held(other)) is (at == 7)
        assert not same_values(a, held(values[:-1]))
        assert not same_values(held(values[:-1]), a)
    assert not same_values(held(np.zeros(1)), held(-np.zeros(1)))
    assert same_values(held(np.ones(2, np.float16)), held(np.ones(2, np.float32)))
    assert not same_values(held(np.full(1, 1 + 1e-9)), held(np.ones(1, np.float32)))
    assert same_values(held(np.empty(0)), held(np.empty(0)))
    half = np.arange(1000, dtype=np.float16)
    assert same_values(held(half), held(half.astype(np.float32)))
    assert not same_values(held(half), held(half[:-1].astype(np.float32)))


def test_same_values_takes_little_memory():
    """Of another type, too: part by part."""
    half = held(np.ones(4_000_000, np.float16))
    wide = held(np.ones(4_000_000, np.float32))
    tracemalloc.start()
    assert same_values(half, wide)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


@pytest.mark.parametrize("bits", [0x7D01, 0xFE12, 0x7C00])
def test_signalling_nan_is_no_warning(bits):
    """Warnings are errors here."""
    half = np.array([bits], np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):
        wide = half.astype(np.float32)
    assert same_values(held(half), held(wide))


def test_a_blob_that_is_not_there():
    """A KeyError, as of any mapping, and an error of ours, that says what may have been meant."""
    weights = Weights.of({"conv1.weight": np.ones(2), "bn.mean": np.ones(2)}, "x.npz")

    with pytest.raises(KeyError) as refused:
        weights["conv1.wieght"]
    assert str(refused.value) == ("no blob 'conv1.wieght' in x.npz; did you mean conv1.weight?")
    with pytest.raises(WeightsError, match=r"names are <layer>\.<blob>"):
        weights["zzz"]
    assert weights.get("conv1.wieght") is None
    assert weights["conv1.weight"].tolist() == [1, 1]


# Random weights.


def test_seed():
    first, again, other = (random_weights(NET, seed) for seed in (3, 3, 4))
    key, *_ = first

    assert all(first[key].tobytes() == again[key].tobytes() for key in first)
    assert not any(first[key].tobytes() == other[key].tobytes() for key in first)
    assert random_weights(NET, np.int64(3))[key].tobytes() == first[key].tobytes()
    for seed in (-1, 1.5, "x"):
        with pytest.raises(ResNetProtoError, match=f"seed is {seed}; a whole number from 0 on"):
            random_weights(NET, seed)


@pytest.mark.parametrize("name", ["resnet-18", "resnet-50"])
def test_every_blob_of_a_net(name):
    spec = replace(PRESETS[name].spec, width=4, stem_width=6, classes=5)
    net = deploy_net(spec)
    weights = random_weights(net)

    shapes = {f"{step.label}.{n}": shape for step in net.walk() for n, shape in step.blobs.items()}
    assert {key: value.shape for key, value in weights.items()} == shapes
    assert {value.dtype.name for value in weights.values()} == {"float32"}
    assert {v.verdict for v in match(weights, net)} == {"copied"}
    factors = [value.item() for key, value in weights.items() if key.endswith("scale_factor")]
    assert factors
    assert 1 not in factors
    assert all((v > 0).all() for k, v in weights.items() if k.endswith("variance"))


@pytest.mark.parametrize("seed", range(3))
def test_values_stay_in_sight(seed):
    """Through eight units: no blob vanishes, none explodes."""
    spec = replace(PRESETS["resnet-18"].spec, width=8, stem_width=8, classes=10)
    net = deploy_net(spec)

    blobs = forward(net, random_weights(net, seed), random_inputs(net, seed=seed))

    last = [step for step in net.walk() if "5" in step.label]
    assert len(last) > 9
    for step in last:
        for top in step.layer.tops:
            rms = float(np.sqrt(np.square(blobs[top], dtype=np.float64).mean()))
            assert 0.05 < rms < 50, (top, rms)


@pytest.mark.parametrize("fields", [{}, {"squeeze_relu": True}, {"order": "pre-activation"}])
def test_gates_keep_values_in_sight(fields):
    """Sixteen units whose branches end in a gate: they are damped in front of it, and gates differ.

    Undamped, they grow to 300, and float32 is then 1e-5 away from float64, in any engine.
    """
    spec = replace(
        PRESETS["se-resnet-50"].spec, width=(8,), stem_width=8, squeeze=4, input_size=96, **fields
    )
    net = deploy_net(spec)

    blobs = forward(net, random_weights(net), random_inputs(net))

    for top in (top for step in net.walk() if "5" in step.label for top in step.layer.tops):
        if top.endswith("gate"):
            assert blobs[top].std() > 0.05
        else:
            assert 0.05 < np.square(blobs[top], dtype=np.float64).mean() ** 0.5 < 9, top


def test_a_gate_is_one_whether_axpy_adds_or_not():
    """SENet's Axpy is the same as Scale and a sum, so it has the same random weights."""
    gated = deploy_net(replace(PRESETS["se-resnet-50"].spec, width=(4,), stem_width=6, squeeze=2))
    layers = list(gated.layers)
    for i, layer in enumerate(gated.layers):
        if layer.type == "Scale" and len(layer.bottoms) == 2:
            (x, gate), (shortcut, _) = layer.bottoms, gated.layers[i + 1].bottoms
            name = gated.layers[i + 1].name
            layers[i] = make_layer(name, "Axpy", (gate, x, shortcut), (name,))
            layers[i + 1] = None
    net = replace(gated, layers=tuple(filter(None, layers)))

    one, other = random_weights(gated), random_weights(net)

    assert sum(layer.type == "Axpy" for layer in net.layers) == 16
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


@pytest.mark.parametrize("fields", [
    {"kernel_size": 4, "stride": 2},
    {"kernel_size": 4, "stride": (2, 1), "group": 6},
    {"kernel_h": 3, "kernel_w": 5},
])  # fmt: skip
def test_deconvolution_keeps_values_in_sight(fields):
    """Its fan-in is the other way round, and the stride spreads it."""
    data = Input.of("in", (), "data", shape={"dim": (2, 24, 17, 19)})
    net = Net("n", (data, Deconvolution.of("up", "data", "up", num_output=48, **fields)))
    x = np.random.default_rng(0).normal(size=(2, 24, 17, 19))

    top = forward(net, random_weights(net), x)["up"]

    assert 1 < np.square(top).mean() < 3


def test_all_types_with_blobs():
    """Two bottoms of Scale, a bias alone, BatchNorm on its own."""
    net = Net(
        "n",
        (
            DATA,
            BatchNorm.of("bn", "data", "bn"),
            Scale.of("scale", ("bn", "bn"), "s", axis=0, bias_term=True),
        ),
    )

    assert {key: value.shape for key, value in random_weights(net).items()} == {
        "bn.mean": (3,), "bn.variance": (3,), "bn.scale_factor": (1,), "scale.bias": (2, 3, 7, 5),
    }  # fmt: skip
