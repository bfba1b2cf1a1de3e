"""Each rule about nets finds its bad net, and passes over the good twin."""

from dataclasses import replace

import pytest
from good_nets import deploy, edited, of_type, train_val, without

from resnet_proto.build import deploy_net
from resnet_proto.check import check_text
from resnet_proto.check.nets import RULES, namesake
from resnet_proto.layers import make_layer
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt

CIFAR = train_val("cifar-resnet-20")
CIFAR_DEPLOY = deploy("cifar-resnet-20")
DEPLOY = deploy("resnet-50")
FINETUNE = train_val("resnet-18", freeze_batch_norm=True, finetune=True)
ZERO = ({"lr_mult": 0.0, "decay_mult": 0.0},)


def sized(net, size):
    fields = {**net.fields, "input_dim": (1, 3, size, size)}
    return Net(net.name, net.layers, fields)


def in_place_preact():
    """A pre-activation net whose second unit normalises the sum where it lies."""
    net = deploy("preact-resnet-18")
    norm = next(x for x in net.layers if x.type == "BatchNorm" and x.bottoms == ("res2a",))

    def moved(names):
        return tuple("res2a" if name == norm.tops[0] else name for name in names)

    layers = tuple(replace(x, bottoms=moved(x.bottoms), tops=moved(x.tops)) for x in net.layers)
    return Net(net.name, layers, net.fields), norm.name


PREACT, PREACT_LAYER = in_place_preact()

SPLIT_NORM = """
name: "x" input: "data" input_shape { dim: 2 dim: 3 dim: 5 dim: 7 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "TOP" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "relu" }
layer { name: "sum" type: "Eltwise" bottom: "TOP" bottom: "relu" top: "sum" }
"""


def order(text):
    """The other reader stands before the BatchNorm: behind it, it would read what that has made."""
    lines = text.splitlines()
    bn = next(i for i, line in enumerate(lines) if '"bn"' in line)
    lines[bn], lines[bn + 1] = lines[bn + 1], lines[bn]
    return read_prototxt("\n".join(lines))


def depthwise(value):
    """A train_val net with a convolution of each channel by itself, all weights of this value."""
    one = f"""
layer {{ name: "dw" type: "ConvolutionDepthwise" bottom: "data" top: "dw" convolution_param {{
        num_output: 3 kernel_size: 3 weight_filler {{ value: {value} }} }} }}"""
    text = to_prototxt(edited(CIFAR, "conv1", bottoms=("dw",)))
    at = text.index('layer {\n  name: "conv1"')
    return read_prototxt(text[:at] + one + text[at:])


def retyped(net, name, type):
    """The net with another word for the type of one layer."""
    layers = (
        make_layer(x.name, type, x.bottoms, x.tops) if x.name == name else x for x in net.layers
    )
    return Net(net.name, tuple(layers), net.fields)


CASES = {
    "zero-weights: each channel by itself": (
        depthwise(0), depthwise(0.1), ("zero-weights", "error", "dw"),
    ),
    "zero-weights: no filler": (
        edited(CIFAR, "res3b_branch2a", drop=("weight_filler",)), CIFAR,
        ("zero-weights", "error", "res3b_branch2a"),
    ),
    "zero-weights: constant 0": (
        edited(CIFAR, "fc10", {"weight_filler": {"type": "constant"}}), CIFAR,
        ("zero-weights", "error", "fc10"),
    ),
    "zero-weights: constant": (
        edited(CIFAR, "fc10", {"weight_filler": {"type": "constant", "value": 0.1}}), CIFAR,
        ("zero-weights", "warning", "fc10"),
    ),
    "zero-weights: deploy nets need none": (
        edited(CIFAR, "conv1", drop=("weight_filler",)), CIFAR_DEPLOY,
        ("zero-weights", "error", "conv1"),
    ),
    "global-stats": (
        edited(CIFAR, "bn_conv1", {"use_global_stats": True}), CIFAR,
        ("global-stats", "warning", "bn_conv1"),
    ),
    "global-stats: frozen with its Scale": (
        edited(
            edited(CIFAR, "bn_conv1", {"use_global_stats": True}),
            "scale_conv1", fields={"param": ZERO * 2},
        ), CIFAR,
        ("global-stats", "note", "bn_conv1"),
    ),
    "batch-statistics: shared": (
        edited(CIFAR, "bn_conv1", {"use_global_stats": False}), CIFAR,
        ("batch-statistics", "error", "bn_conv1"),
    ),
    "batch-statistics: deploy": (
        edited(DEPLOY, "bn3b_branch2a", {"use_global_stats": False}), DEPLOY,
        ("batch-statistics", "error", "bn3b_branch2a"),
    ),
    "statistics-rates: none": (
        edited(CIFAR, "bn_conv1", drop=("param",)), CIFAR,
        ("statistics-rates", "note", "bn_conv1"),
    ),
    "statistics-rates: two": (
        edited(CIFAR, "bn_conv1", fields={"param": ({"decay_mult": 0.0},) * 2}),
        edited(CIFAR, "bn_conv1", fields={"param": ZERO * 2}),
        ("statistics-rates", "error", "bn_conv1"),
    ),
    "statistics-rates: in a deploy net too": (
        edited(DEPLOY, "bn_conv1", fields={"param": ({"lr_mult": 1.0},)}), DEPLOY,
        ("statistics-rates", "error", "bn_conv1"),
    ),
    "statistics-rates: three that are not 0": (
        edited(CIFAR, "bn_conv1", fields={"param": ({"lr_mult": 1.0},) * 3}), CIFAR,
        ("statistics-rates", "note", "bn_conv1"),
    ),
    "batch-norm-in-place": (
        order(SPLIT_NORM.replace("TOP", "conv")), order(SPLIT_NORM.replace("TOP", "bn")),
        ("batch-norm-in-place", "error", "bn"),
    ),
    "batch-norm-in-place: the identity": (
        PREACT, deploy("preact-resnet-18"),
        ("batch-norm-in-place", "warning", PREACT_LAYER),
    ),
    "final-pooling": (
        sized(DEPLOY, 288), sized(DEPLOY, 224),
        ("final-pooling", "error", "pool5"),
    ),
    "final-pooling: global": (
        sized(DEPLOY, 448),
        edited(sized(DEPLOY, 448), "pool5", {"global_pooling": True},
               drop=("kernel_size", "stride")),
        ("final-pooling", "error", "pool5"),
    ),
    "does-not-fit: too small a map": (
        sized(DEPLOY, 32), sized(DEPLOY, 200),
        ("does-not-fit", "error", "pool5"),
    ),
    "does-not-fit: no such blob": (
        edited(CIFAR_DEPLOY, "fc10", bottoms=("poool4",)), CIFAR_DEPLOY,
        ("does-not-fit", "error", "fc10"),
    ),
    "does-not-fit: beside weights that begin as 0": (
        edited(CIFAR, "fc10", {"weight_filler": {}}, bottoms=("poool4",)),
        edited(CIFAR, "fc10", {"weight_filler": {}}),
        ("does-not-fit", "error", "fc10"),
    ),
    "bias-before-batch-norm": (
        edited(CIFAR_DEPLOY, "conv1", {"bias_term": True}), CIFAR_DEPLOY,
        ("bias-before-batch-norm", "note", "conv1"),
    ),
    "missing-relu": (
        without(CIFAR_DEPLOY, "res3a_relu"), CIFAR_DEPLOY,
        ("missing-relu", "warning", "res3a"),
    ),
    "missing-relu: pre-activation has none": (
        without(DEPLOY, "res5c_relu"), deploy("preact-resnet-50"),
        ("missing-relu", "warning", "res5c"),
    ),
    "small-batch": (
        train_val("cifar-resnet-20", batch=15), train_val("cifar-resnet-20", batch=16),
        ("small-batch", "warning", "data"),
    ),
    "small-batch: pretrained statistics": (
        train_val("resnet-18", batch=4),
        train_val("resnet-18", batch=4, freeze_batch_norm=True),
        ("small-batch", "warning", "data"),
    ),
    "swapped-data": (
        train_val("resnet-18", train_source="val_lmdb", test_source="train_lmdb"),
        train_val("resnet-18"),
        ("swapped-data", "error", "data"),
    ),
    "swapped-data: transformations": (
        edited(
            edited(train_val("resnet-18"), lambda x: x.tops == ("data", "label"),
                   fields={"transform_param": {"crop_size": 224}}),
            lambda x: x.fields.get("include") == ({"phase": "TEST"},) and x.type == "Data",
            fields={"transform_param": {"crop_size": 224, "mirror": True}},
        ), train_val("resnet-18"),
        ("swapped-data", "warning", "data"),
    ),
    "misspelt-type": (
        retyped(CIFAR_DEPLOY, "res2a", "Elwtise"), retyped(CIFAR_DEPLOY, "res2a", "Eltwise3D"),
        ("misspelt-type", "warning", "res2a"),
    ),
    "misspelt-type: upper case": (
        retyped(CIFAR_DEPLOY, "res2a", "ELTWISE"), CIFAR_DEPLOY,
        ("misspelt-type", "warning", "res2a"),
    ),
    "topology: deeper": (
        Net("ResNet-18", DEPLOY.layers, DEPLOY.fields), deploy("resnet-18"),
        ("topology", "warning", ""),
    ),
    "topology: wider": (
        Net("resnet_50", deploy("wide-resnet-50-2").layers, DEPLOY.fields),
        deploy("wide-resnet-50-2"),
        ("topology", "warning", ""),
    ),
    "topology: biases": (
        Net("ResNet-101", edited(deploy("resnet-101"), "conv1", drop=("bias_term",)).layers,
            DEPLOY.fields),
        deploy("resnet-101"),
        ("topology", "note", ""),
    ),
    "topology: biases, v1.5": (
        edited(DEPLOY, "conv1", {"bias_term": False}),
        deploy_net(replace(PRESETS["resnet-50"].spec, stride_in="3x3", conv1_bias=False)),
        ("topology", "note", ""),
    ),
}  # fmt: skip


def found(net, **options):
    report = check_text(to_prototxt(net), "x.prototxt", **options)
    return {(finding.rule, finding.level, (*finding.layers, "")[0]) for finding in report.findings}


@pytest.mark.parametrize("case", CASES)
def test_the_bad_net_and_its_good_twin(case):
    bad, good, expected = CASES[case]
    rule = case.partition(":")[0]

    assert expected in found(bad)
    assert not {row for row in found(good) if row[0] == rule}


def test_every_rule_has_a_case():
    assert {case.partition(":")[0] for case in CASES} == set(RULES)


def test_the_other_topology_of_resnet_18():
    """Both are in circulation: facts, ResNet-18/34 naming in the wild."""
    spec = PRESETS["resnet-18"].spec
    net = deploy_net(replace(spec, project_first_stage=True))

    (finding,) = check_text(to_prototxt(net), "x").findings

    assert (finding.level, finding.rule) == ("note", "topology")
    assert finding.reason.startswith("21 convolutions, ResNet-18 has 20: the other topology")


def test_classes_and_channels_are_no_other_topology():
    net = edited(DEPLOY, "fc1000", {"num_output": 37})
    grey = Net(net.name, net.layers, {**net.fields, "input_dim": (1, 1, 224, 224)})

    assert {row[0] for row in found(grey)} == {"bias-before-batch-norm"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet50", "ResNet-50"), ("ResNet_101", "ResNet-101"), ("Plain-18", "Plain-18"),
     ("ResNet-50-1by2", "ResNet-50-1by2"), ("ResNet-500", None), ("", None), ("CaffeNet", None)],
)  # fmt: skip
def test_namesake(name, expected):
    spec = namesake(name)

    assert (spec and spec.name) == expected


def test_option_a_is_no_constant_weight():
    """Its subsample is a convolution of ones with rate 0, and stays so."""
    assert any(layer.fixed for layer in CIFAR.layers)
    assert not found(CIFAR)


def test_fine_tuning_with_kept_statistics_is_a_note_only():
    """Whether weights will be given, rates tell that differ; else a solver's `weights` says so."""
    alike = train_val("resnet-18", freeze_batch_norm=True)

    assert {row[:2] for row in found(FINETUNE)} == {("global-stats", "note")}
    assert {row[:2] for row in found(alike)} == {("global-stats", "warning")}


def test_findings_of_many_layers_are_one():
    bad = edited(CIFAR, of_type("Convolution", "InnerProduct"), drop=("weight_filler",))

    findings = check_text(to_prototxt(bad), "x").findings
    (zero,) = [finding for finding in findings if finding.rule == "zero-weights"]

    assert len(zero.layers) == 20 + 2  # the subsamples too: without their ones they are 0
    assert zero.line.startswith("x: error: layer 'conv1' and 21 more: all weights begin as 0")


def test_a_layer_is_blamed_once():
    """What ends Caffe is said by the rule that knows why, not by the shapes again."""
    bad, _, _ = CASES["statistics-rates: two"]

    assert [row for row in found(bad) if row[1] == "error"] == [
        ("statistics-rates", "error", "bn_conv1")
    ]


def test_what_both_phases_say_is_said_once():
    bad = edited(CIFAR, "conv1", drop=("weight_filler",))

    (finding,) = check_text(to_prototxt(bad), "x").findings

    assert finding.layers == ("conv1",)


def test_another_net_of_a_presets_name_is_not_refused():
    """No first-stage projection goes with shortcut A."""
    short = without(CIFAR_DEPLOY, "res4c_branch2b")

    assert ("topology", "warning", "") in found(short)


def test_one_phase_that_does_not_fit_is_named():
    text = """
    layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "a" type: "ReLU" bottom: "nothing" top: "a" include { phase: TRAIN } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "data" bottom: "data" top: "loss" }
    """

    (finding,) = check_text(text, "x").findings

    assert finding.line.startswith("x: error: layer 'a': at phase TRAIN: reads blob 'nothing'")


def test_unknown_layers_are_no_error():
    text = to_prototxt(CIFAR_DEPLOY).replace('type: "Pooling"', 'type: "Pythagoras"')

    assert "Pythagoras" in text
    assert not check_text(text.replace("pooling_param", "pythagoras_param"), "x").findings


@pytest.mark.parametrize(
    "layer",
    [
        'type: "BatchNorm"', 'type: "BatchNorm" bottom: "data"', 'type: "Eltwise" top: "x"',
        'type: "InnerProduct" top: "x"', 'type: "Scale"', 'type: "Pooling" top: "data"',
        'type: "Convolution" bottom: "data" bottom: "data"', 'type: "SoftmaxWithLoss"',
        'type: "Data"', 'type: ""', 'type: "DummyData" dummy_data_param { shape { } }',
    ],
)  # fmt: skip
def test_broken_layers_do_not_break_the_check(layer):
    text = (
        'name: "ResNet-18" input: "data" input_shape { dim: 2 dim: 3 }\n'
        f'layer {{ name: "y" {layer} }} layer {{ name: "loss" type: "XLoss" bottom: "data" }}'
    )

    assert check_text(text, "x").checked


def test_a_sum_without_a_top():
    """Nothing can be said of it; with one it is found."""
    net = without(CIFAR_DEPLOY, "res3a_relu")

    assert "missing-relu" in {row[0] for row in found(net)}
    assert "missing-relu" not in {row[0] for row in found(edited(net, "res3a", tops=()))}
