"""Weights as a mapping, random ones, and the verdicts of ``match``."""

import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward, random_inputs
from resnet_proto.errors import ResNetProtoError, WeightsError
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Input,
    Pooling,
    Scale,
    make_layer,
)
from resnet_proto.net import Net, labels
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt
from resnet_proto.weights import (
    Blob,
    Held,
    StoredLayer,
    Verdict,
    Weights,
    blob_names,
    fitted,
    match,
    possible,
    random_weights,
    same_values,
    split,
)

DATA = Input.of("in", (), "data", shape=({"dim": (2, 3, 7, 5)},))
CONV = Convolution.of("conv", "data", "conv", num_output=4, kernel_h=3, kernel_w=2)
FC = InnerProduct.of("fc", "conv", "fc", num_output=6)
NET = Net("n", (DATA, CONV, FC))


def stored(label, *shapes, name=None, type="X", legacy=False, shapeless=False):
    """One layer with blobs of these shapes, numbered."""
    name = label if name is None else name
    blobs = []
    for i, size in enumerate(shapes):
        values = np.zeros(size, np.float32)
        blobs.append(
            Blob(label, name, type, str(i), values.shape, "float32", values.nbytes, Held(values),
                 legacy, shapeless)
        )  # fmt: skip
    return StoredLayer(label, name, type, tuple(blobs))


GOOD = (stored("conv", (4, 3, 3, 2), (4,)), stored("fc", (6, 80), (6,)))


def verdicts(layers, net=NET):
    return {v.layer: (v.verdict, v.reason) for v in match(Weights(layers), net)}


def words(layers, net=NET):
    return {label: verdict for label, (verdict, _) in verdicts(layers, net).items()}


# The mapping.


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
        ({"a.w": [[1, 2], [3]]}, {"a.w": [[1, 2], [3, 4]]}, r"'a\.w' is no array: .*inhomogeneous"),
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


# Verdicts. tests/oracles/test_match.py asks the real Caffe the same.


def test_copied():
    assert verdicts(GOOD) == {"conv": ("copied", ""), "fc": ("copied", "")}


def test_ignored():
    """Layers that only the weights have; without blobs they are not worth a word."""
    extra = (stored("old", (2, 3)), stored("data"), stored("conv_conv_0_split"))

    assert verdicts((*GOOD, *extra)) == verdicts(GOOD) | {
        "old": ("ignored", "the net has no such layer")
    }


def test_left_at_its_filler():
    assert verdicts(GOOD[:1]) == {"conv": ("copied", ""), "fc": ("left at its filler", "")}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (stored("fc", (80, 6), (6,)), "weight is 80x6 in the weights, the net needs 6x80"),
        (stored("fc", (6, 80), (7,)), "bias is 7 in the weights, the net needs 6"),
        (stored("fc", (6, 80), (1, 6)), "bias is 1x6 in the weights, the net needs 6"),
        (stored("fc", (6, 80)), "1 blob (6x80) in the weights, 2 (6x80, 6) in the net"),
        (stored("fc", (6, 80), (6,), (6,)), "3 blobs (6x80, 6, 6) in the weights, 2"),
        (stored("fc"), "the weights have none for it, the net needs 6x80, 6"),
    ],
)
def test_refused(layer, reason):
    """Caffe copies blob by blob, whatever they are called, and ends at the first misfit."""
    assert words((GOOD[0], stored("fc", (6, 80), (6,)))) == {"conv": "copied", "fc": "copied"}

    verdict, why = verdicts((GOOD[0], layer))["fc"]

    assert verdict == "refused"
    assert why.startswith(reason)


def test_blobs_for_a_layer_that_takes_none():
    relu = make_layer("relu", "ReLU", ("conv",), ("conv",))
    net = Net("n", (DATA, CONV, relu))

    assert words((GOOD[0], stored("relu")), net) == {"conv": "copied"}
    assert verdicts((GOOD[0], stored("relu", (4,))), net)["relu"] == (
        "refused", "1 blob (4) in the weights, 0 (none) in the net",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "wanted", "fits"),
    [
        ((1, 1, 1, 6), (6,), True),
        ((1, 1, 6, 1), (6,), False),
        ((6, 1, 1, 1), (6,), False),
        ((1, 1, 6, 80), (6, 80), True),
        ((6, 80, 1, 1), (6, 80), False),
        ((1, 6, 80, 2), (6, 80, 2), True),
        ((4, 3, 3, 2), (4, 3, 3, 2), True),
        ((1, 1, 1, 1), (), True),
        ((1, 1, 1, 1), (1, 1, 1, 1, 1), False),
    ],
)
def test_old_shapes_count_from_the_right(size, wanted, fits):
    """blob.cpp, ShapeEquals. A shape of today must be equal."""
    (old,), (new,) = stored("x", size, legacy=True).blobs, stored("x", size).blobs

    assert old.fits(wanted) is fits
    assert new.fits(wanted) is (size == wanted)


def test_no_shape_is_one_value():
    (several,), (one,) = (
        stored("x", (6,), shapeless=True).blobs,
        stored("x", (), shapeless=True).blobs,
    )

    assert not several.fits((6,))
    assert one.fits(())
    assert not one.fits((1,))
    why = verdicts((GOOD[0], stored("fc", (6, 80), (6,), shapeless=True)))["fc"][1]
    assert why == "weight is stored without a shape in the weights, the net needs 6x80"


def test_repeated_names():
    """Caffe finds the first layer of a name in the net, for each one of the weights."""
    again = InnerProduct.of("fc", "fc", "fc2", num_output=6)
    net = Net("n", (*NET.layers, again))
    second = stored("fc#2", (6, 80), (6,), name="fc")

    left = Verdict("fc#2", "left at its filler", "Caffe copies to the first of its name only")

    assert match(Weights((*GOOD, second)), net) == [
        Verdict("conv", "copied"),
        Verdict("fc", "copied"),
        Verdict("fc#2", "copied", "over what came before: Caffe takes both for 'fc'"),
        left,
    ]
    other = stored("fc#2", (6, 6), (6,), name="fc")  # fits the second, goes to the first
    assert match(Weights((*GOOD, other)), net)[2:] == [
        Verdict("fc#2", "refused", "weight is 6x6 in the weights, the net needs 6x80"), left,
    ]  # fmt: skip


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


def test_unknown():
    """From the first layer on whose shapes are not known."""
    strange = make_layer("strange", "Pythagoras", ("conv",), ("s",))
    after = InnerProduct.of("after", "s", "after", num_output=6)
    net = Net("n", (DATA, CONV, strange, after))
    layers = (GOOD[0], stored("strange", (3,)), stored("after", (6, 80), (6,)), stored("old", (2,)))

    assert words(layers, net) == {
        "conv": "copied", "strange": "unknown", "after": "unknown", "old": "ignored",
    }  # fmt: skip
    assert "layer 'strange' has type 'Pythagoras'" in verdicts(layers, net)["strange"][1]
    assert verdicts(layers, net)["after"][1] == "behind layer 'strange' (Pythagoras)"


BEHIND = (
    make_layer("data", "Guess", (), ("data", "label")),
    Convolution.of("conv", "data", "conv", num_output=4, kernel_size=(3,)),
    BatchNorm.of("bn", "conv", "conv"),
    Scale.of("scale", "conv", "conv", bias_term=True),
    Convolution.of("more", "conv", "more", num_output=6, kernel_h=3, kernel_w=2, group=2),
    Pooling.of("pool", "more", "pool", pool="AVE", global_pooling=True),
    InnerProduct.of("fc", "pool", "fc", num_output=5, bias_term=False),
    InnerProduct.of("turned", "conv", "turned", num_output=7, transpose=True),
    make_layer("loss", "Pythagoras", ("fc", "label"), ("loss",)),
)
BEHIND_GOOD = {
    "conv": ((4, 3, 3, 3), (4,)),
    "bn": ((4,), (4,), (1,)),
    "scale": ((4,), (4,)),
    "more": ((6, 2, 3, 2), (6,)),
    "fc": ((5, 6),),
    "turned": ((99, 7), (7,)),
}


def behind(**changes):
    """Weights for the net whose first layer is not known."""
    return [stored(k, *shapes) for k, shapes in {**BEHIND_GOOD, **changes}.items() if shapes]


def test_behind_an_unknown_layer():
    """What does not depend on it is known as ever: here all but the first weights of each kind."""
    assert words(behind(), Net("n", BEHIND)) == {
        "conv": "unknown", "bn": "copied", "scale": "copied", "more": "copied",
        "fc": "unknown", "turned": "unknown",
    }  # fmt: skip
    assert words(behind(more=None), Net("n", BEHIND))["more"] == "left at its filler"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conv": ((5, 3, 3, 3), (5,))}, "weight is 5x3x3x3 in the weights, the net needs 4x?x3x3"),
        ({"conv": ((4, 3, 3, 2), (4,))}, "weight is 4x3x3x2 in the weights, the net needs 4x?x3x3"),
        ({"conv": ((4, 3, 3), (5,))}, "bias is 5 in the weights, the net needs 4"),
        ({"conv": ((4, 3, 3, 3),)}, r"1 blob \(4x3x3x3\) in the weights, 2 \(4x\?x3x3, 4\)"),
        ({"bn": ((5,), (4,), (1,))}, "mean is 5 in the weights, the net needs 4"),
        ({"more": ((6, 3, 3, 2), (6,))}, "weight is 6x3x3x2 in the weights, the net needs 6x2x3x2"),
        ({"fc": ((6, 6),)}, r"weight is 6x6 in the weights, the net needs 5x\?"),
        ({"fc": ((5, 6, 1),)}, r"weight is 5x6x1 in the weights, the net needs 5x\?"),
        ({"turned": ((7, 99), (7,))}, r"weight is 7x99 in the weights, the net needs \?x7"),
    ],
)
def test_refused_behind_an_unknown_layer(changes, reason):
    (label,) = changes
    verdict, why = verdicts(behind(**changes), Net("n", BEHIND))[label]

    assert verdict == "refused"
    assert re.search(reason.replace("4x?x", r"4x\?x"), why)


@pytest.mark.parametrize(
    "changes",
    [
        {"conv": ((4, 9, 3, 3), (4,))},
        {"conv": ((4, 3, 3), (4,))},
        {"conv": ((4, 3, 3, 3, 3, 3), (4,))},
        {"fc": ((5, 7),)},
        {"turned": ((1, 7), (7,))},
    ],
)
def test_what_is_not_known_is_not_refused(changes):
    """Channels, and the number of axes of what the unknown layer makes."""
    (label,) = changes

    assert words(behind(**changes), Net("n", BEHIND))[label] == "unknown"


def test_old_shapes_behind_an_unknown_layer():
    def old(*sizes):
        return [stored("conv", sizes, (1, 1, 1, 4), legacy=True)]

    assert words(old(4, 3, 3, 3), Net("n", BEHIND))["conv"] == "unknown"
    assert words(old(5, 3, 3, 3), Net("n", BEHIND))["conv"] == "refused"


def test_layers_that_cannot_be_checked_are_counted():
    warnings = []
    random = random_weights(NET)
    fitted(random, NET, warnings)
    assert warnings == []

    names = {"bn": ["mean", "variance", "scale_factor"]}
    arrays = {
        f"{k}.{name}": np.zeros(shape)
        for k, shapes in BEHIND_GOOD.items()
        for name, shape in zip(names.get(k, ["weight", "bias"]), shapes, strict=False)
    }
    fitted(Weights.of(arrays), Net("n", BEHIND), warnings)
    assert warnings == [
        "2 of the net's layers cannot be checked with the weights, and 3 only in part: "
        "layer 'data' has type 'Guess', whose shapes are not known"
    ]
    arrays["fc.weight"] = np.zeros((6, 6))
    with pytest.raises(WeightsError, match=r"layer 'fc' .*: weight is 6x6 .* the net needs 5x\?"):
        fitted(Weights.of(arrays), Net("n", BEHIND))


def test_a_layer_that_fits_no_guess():
    """A sum of what is known and what is not: nothing can be said behind it but its own count."""
    strange = make_layer("strange", "Pythagoras", ("conv",), ("s",))
    total = Eltwise.of("sum", ("conv", "s"), "sum")
    grouped = Convolution.of("odd", "sum", "odd", num_output=22, kernel_size=(1,), group=11)
    net = Net("n", (DATA, CONV, strange, total, grouped))

    found = words((GOOD[0], stored("odd", (22, 2, 1, 1), (22,)), stored("sum", (2,))), net)

    assert found == {"conv": "copied", "odd": "unknown", "sum": "unknown"}


def test_two_topologies_that_share_names():
    """ResNet-18 files differ in whether the first stage has a projection, and in widths."""
    spec = replace(PRESETS["resnet-18"].spec, width=8, stem_width=8, classes=10)
    plain, projected = (
        deploy_net(replace(spec, project_first_stage=value)) for value in (False, True)
    )
    wide = deploy_net(replace(spec, stem_width=16, project_first_stage=True))

    assert set(words(random_weights(plain).layers, plain).values()) == {"copied"}
    more = words(random_weights(projected).layers, plain)
    less = words(random_weights(plain).layers, projected)
    other = words(random_weights(wide).layers, projected)

    names = {"res2a_branch1", "bn2a_branch1", "scale2a_branch1"}
    assert {k for k, v in more.items() if v != "copied"} == names
    assert {more[k] for k in names} == {"ignored"}
    assert {k for k, v in less.items() if v == "left at its filler"} == names
    assert {k for k, v in other.items() if v == "refused"} == {
        "conv1", "bn_conv1", "scale_conv1", "res2a_branch1", "res2a_branch2a",
    }  # fmt: skip


# fitted


def test_fitted_sorts_by_name():
    weights = Weights.of(dict(reversed([*random_weights(NET).items()])))

    rows = {label: [b.name for b in blobs] for _, label, blobs in fitted(weights, NET)}

    assert rows == {"in": [], "conv": ["weight", "bias"], "fc": ["weight", "bias"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, r"layer 'fc' .*: 1 blob \(6x80\) in the weights"),
        ({"fc.bias": np.zeros(7)}, "layer 'fc' .*: bias is 7 in the weights, the net needs 6"),
        ({"conv.gamma": np.zeros(4)}, "layer 'conv' .*: 3 blobs"),
        (
            {"fc.bias": None, "fc.beta": np.zeros(6)},
            "layer 'fc' .*: its blobs are weight, beta in the weights, weight, bias in the net",
        ),
    ],
)
def test_not_fitted(change, message):
    good = dict(random_weights(NET))
    assert len(fitted(Weights.of(good), NET)) == 3

    bad = {k: v for k, v in {**good, **change}.items() if v is not None}
    with pytest.raises(WeightsError, match=message) as refused:
        fitted(Weights.of(bad, "x.npz"), NET)
    assert str(refused.value).startswith("x.npz: layer")
    assert "`resnet-proto inspect` with --net" in str(refused.value)


def test_second_of_a_name_has_its_own():
    again = InnerProduct.of("fc", "fc", "fc2", num_output=6)
    net = Net("n", (*NET.layers, again))

    rows = {label: [b.shape for b in blobs] for _, label, blobs in fitted(random_weights(net), net)}

    assert rows["fc#2"] == [(6, 6), (6,)]


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


def test_match_goes_by_the_names_of_blobs():
    """Files of named arrays have the blobs of a layer in any order; the types are not said."""
    weights = random_weights(NET)
    turned = Weights.of({key: weights[key] for key in reversed(list(weights))})

    assert {v.verdict for v in match(turned, NET)} == {"copied"}


def test_gamma_and_beta_of_a_fork_in_the_weights():
    """Nets of Intel's fork need not say that BatchNorm has them; ours do."""
    net = "input: 'x' input_shape { dim: 2 dim: 3 } layer { type: 'BatchNorm' name: 'b' %s }"
    ends = "bottom: 'x' top: 'y'"
    plain = read_prototxt(net % ends)
    inside = read_prototxt(net % f"{ends} batch_norm_param {{ use_weight_bias: true }}")

    with pytest.raises(WeightsError, match=r"5 blobs .*say use_weight_bias: true in "):
        forward(plain, random_weights(inside), np.ones((2, 3)))
    assert forward(inside, random_weights(inside), np.ones((2, 3)))["y"].shape == (2, 3)
