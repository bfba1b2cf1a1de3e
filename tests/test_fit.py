"""Weights and a net: the verdicts of ``match``, what is fitted."""

import re
from dataclasses import replace

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward
from resnet_proto.errors import WeightsError
from resnet_proto.fit import Verdict, fitted, match
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Eltwise,
    InnerProduct,
    Input,
    Pooling,
    Scale,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt
from resnet_proto.weights import Blob, Held, StoredLayer, Weights, random_weights

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


# tests/oracles/test_match.py asks the real Caffe the same


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
