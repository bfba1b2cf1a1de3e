"""The deploy nets, against the released ones and published figures."""

import hashlib
import json
from dataclasses import replace

import pytest

from resnet_proto.build import deploy_net
from resnet_proto.errors import ResNetProtoError
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.report.summary import summarize
from resnet_proto.spec import Names, ResNetSpec

RELEASED = {
    key: PRESETS[key].spec
    for key in ("resnet-18", "resnet-34", "resnet-50", "resnet-101", "resnet-152")
}
PROJECTED = {
    "resnet-18-projected": replace(RELEASED["resnet-18"], project_first_stage=True),
    "resnet-34-projected": replace(RELEASED["resnet-34"], project_first_stage=True),
}
HALF = ResNetSpec("half", (3, 4, 6, 3), "bottleneck", width=32)

# key: layers, learned values, BatchNorm values, MACs, activations of one image in floats.
# The rows of 50, 101 and 152 agree with the released files; 18, 34 and half with
# torchvision's resnet18 and resnet34 and with pynetbuilder's half-width net.
FIGURES = {
    "resnet-18": (89, 11_689_512, 9_620, 1_814_073_344, 3_590_096),
    "resnet-34": (161, 21_797_672, 17_060, 3_663_761_408, 5_471_696),
    "resnet-50": (228, 25_557_096, 53_173, 3_857_973_248, 16_461_776),
    "resnet-101": (449, 44_549_160, 105_448, 7_570_194_432, 24_991_696),
    "resnet-152": (670, 60_192_808, 151_579, 11_282_415_616, 35_528_656),
    "resnet-18-projected": (92, 11_693_736, 9_749, 1_826_918_400, 3_790_800),
    "resnet-34-projected": (164, 21_801_896, 17_189, 3_676_606_464, 5_672_400),
    "half": (228, 6_927_528, 26_677, 1_069_572_096, 8_808_912),
}
SPECS = {**RELEASED, **PROJECTED, "half": HALF}

# The first sixteen digits of sha256 over the canonical layer list of the released file.
DIGESTS = {
    "resnet-50": "5bde68fd84a81cc7",
    "resnet-101": "3c737c52c69f3224",
    "resnet-152": "a57d5dd1680285d4",
}

# Paper, table 1, last row: multiply-adds in 1e9.
PAPER_FLOPS = {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}


def digest(net):
    """Of what is not the default, so that a field of another Caffe does not change it."""
    rows = net.canonical()
    for row, layer in zip(rows, net.upgraded().layers, strict=True):
        default = replace(layer, fields={}).resolved()
        row["param"] = {k: v for k, v in row["param"].items() if v != default.get(k)}
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("key", DIGESTS)
def test_layer_list_is_pinned(key):
    assert digest(deploy_net(RELEASED[key])) == DIGESTS[key]


@pytest.mark.parametrize("key", DIGESTS)
def test_equals_the_released_file(key, released_dir):
    """Same layers, order, names, types, bottoms, tops and parameters after defaults."""
    spec = RELEASED[key]
    released = read_prototxt(released_dir / f"{spec.name}-deploy.prototxt")
    assert digest(released) == DIGESTS[key]

    ours = deploy_net(spec)

    assert ours.name == released.name
    assert ours.canonical() == released.canonical()


@pytest.mark.parametrize("key", FIGURES)
def test_figures(key):
    """Layers and sizes to the last digit."""
    net = deploy_net(SPECS[key])

    summary = summarize(net)

    assert (
        len(net.layers),
        summary.parameters,
        summary.statistics,
        summary.macs,
        summary.activation_bytes // 4,
    ) == FIGURES[key]


@pytest.mark.parametrize("depth", PAPER_FLOPS)
def test_flops_of_the_paper(depth):
    """Table 1, to one of its last digit: 3.66 is printed as 3.6 and 3.86 as 3.8, 7.57 as 7.6."""
    macs = summarize(deploy_net(RELEASED[f"resnet-{depth}"])).macs

    assert abs(macs / 1e9 - PAPER_FLOPS[depth]) < 0.1


@pytest.mark.parametrize("key", [*PRESETS, *PROJECTED, "half"])
def test_text_round_trip(key):
    """Reading back what we wrote gives the same net."""
    net = deploy_net(SPECS[key] if key in SPECS else PRESETS[key].spec)

    assert read_prototxt(to_prototxt(net)) == net


@pytest.mark.parametrize(
    "spec",
    [
        ResNetSpec("one unit", (1,), "basic", width=5, classes=3),
        ResNetSpec("odd", (1, 2, 1, 1, 2), "bottleneck", width=3, classes=7, stem_width=9),
        ResNetSpec("1202", (100, 100, 100, 100), "bottleneck", width=2, classes=11),
    ],
    ids=lambda spec: spec.name,
)
def test_any_depth(spec):
    """Any net fits together, has its classes, and reads back equal."""
    net = deploy_net(spec)

    steps = list(net.walk())

    assert steps[-1].tops == ((1, spec.classes),)
    assert len({layer.name for layer in net.layers}) == len(net.layers)
    assert read_prototxt(to_prototxt(net)) == net


def test_1202_layers_with_weights():
    spec = ResNetSpec("1202", (100, 100, 100, 100), "bottleneck")
    main_path = [
        layer
        for layer in deploy_net(spec).layers
        if layer.type in ("Convolution", "InnerProduct") and "branch1" not in layer.name
    ]

    assert len(main_path) == spec.depth == 1202


def test_projection_of_the_first_stage_is_one_convolution_more():
    """Two topologies of ResNet-18 are in circulation under the same layer names."""
    plain = {layer.name for layer in deploy_net(RELEASED["resnet-18"]).layers}
    projected = {layer.name for layer in deploy_net(PROJECTED["resnet-18-projected"]).layers}

    assert projected - plain == {"res2a_branch1", "bn2a_branch1", "scale2a_branch1"}
    assert plain <= projected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"sum": "res"}, "the patterns give 2 layers the name 'res'; use {unit}"),
        ({"pool": "data"}, "a pattern gives a layer the name 'data', which the input has"),
    ],
)
def test_names_that_are_taken(names, message):
    with pytest.raises(ResNetProtoError, match=message):
        deploy_net(ResNetSpec(stages=(1, 1), names=Names(**names)))
