"""A net's spec from its graph: the law is that the spec's net has the same graph."""

from dataclasses import fields, replace

import numpy as np
import pytest
import wild
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.graph import Graph, difference, match
from resnet_proto.layers import REGISTRY
from resnet_proto.presets import PRESETS, PYNETBUILDER, RELEASED
from resnet_proto.prototxt import parse_net, read_prototxt
from resnet_proto.recipe import RECIPES, Training
from resnet_proto.recognize import nearest_preset, recognize
from resnet_proto.spec import DETECTION, TASKS, Names, ResNetSpec, for_task
from resnet_proto.training.train_val import to_deploy, to_train_val
from resnet_proto.weights import random_weights

DOTTED = Names(
    unit="res{stage}.{block}", place="{unit}.conv{number}", projection="{unit}.skipConv",
    convolution="{place}", batch_norm="{place}/bn", scale="{place}/scale", relu="{place}/relu",
    sum="{unit}.sum", sum_relu="{unit}.relu", other="{unit}.{role}", stem_convolution="stem{part}",
    last="last_{role}", pool="pool2", classifier="fc", probabilities="loss",
)  # fmt: skip


def recovered(spec):
    """A spec without what leaves no trace: training, and the factors of a width."""
    usual = spec.training if spec.task != "classification" else Training()
    return replace(spec, width=spec.widths, width_multiplier=1.0, training=usual)


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_of_every_preset(name):
    spec = PRESETS[name].spec
    warnings = []

    found = recognize(deploy_net(spec), warnings)

    assert recovered(found) == recovered(spec)
    assert deploy_net(found) == deploy_net(spec)
    assert warnings == []
    assert nearest_preset(found) == (name, {})


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_released_nets(depth, released_dir):
    net = read_prototxt(released_dir / f"ResNet-{depth}-deploy.prototxt")

    assert recovered(recognize(net)) == recovered(PRESETS[f"resnet-{depth}"].spec)


def test_released_half_width_net(half_width):
    """Its rates and fillers are no part of it; its own name for the classifier is."""
    net = read_prototxt(half_width[0])
    warnings = []

    spec = recognize(net, warnings)

    preset = PRESETS["resnet-50-1by2"].spec
    names = replace(PYNETBUILDER, classifier="fc_nsfw")
    assert recovered(spec) == recovered(replace(preset, name=net.name, classes=2, names=names))
    assert warnings == []
    assert difference(net, deploy_net(spec)) is None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "name", ["resnet-101", "resnet-18", "preact-resnet-18", "resnet-50-1by2", "resnet-50-d"]
)
def test_other_tasks(name, task):
    """Head and trunk are found, the names too, and the deploy net of a train_val."""
    if task in DETECTION and name.startswith("preact"):
        pytest.skip("no spec makes it")
    spec = for_task(PRESETS[name].spec, task)
    net = deploy_net(spec)
    warnings = []

    found = recognize(net, warnings)

    assert recovered(found) == recovered(spec)
    assert deploy_net(found) == net
    assert warnings == []


def test_boxes_before_the_classifier():
    net = deploy_net(for_task(ResNetSpec(stages=(1, 1)), "localization"))
    *body, scores, probabilities, boxes = net.layers

    spec = recognize(replace(net, layers=(*body, boxes, scores, probabilities)))

    assert (spec.task, spec.classes) == ("localization", 1000)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("segmentation", lambda x: x.type == "Crop" and {"crop_param": {"offset": (2,)}},
         "layer 'score_crop' .Crop. has offset 2; expected 5"),
        ("localization",
         lambda x: x.name == "bbox_pred" and {"inner_product_param": {"num_output": 4}},
         "the net ends in layer 'prob' .*, layer 'bbox_pred' .*; expected one softmax"),
        ("r-fcn", lambda x: x.name == "rfcn_bbox" and {"convolution_param": {"num_output": 3}},
         "layer 'rfcn_bbox' .* expected"),
    ],
)  # fmt: skip
def test_heads_that_no_spec_draws(task, change, message):
    net = deploy_net(for_task(ResNetSpec(stages=(1, 1)), task))
    layers = (
        replace(layer, fields={**layer.fields, **changes}) if (changes := change(layer)) else layer
        for layer in net.layers
    )

    with pytest.raises(NetError, match=message):
        recognize(replace(net, layers=tuple(layers)))


# ---- random specs


@st.composite
def specs(draw):
    """Any spec whose fields go together; widths rise, so that stages can be told apart."""
    units = st.sampled_from(["basic", "bottleneck", "fully-connected"])
    stages = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    values = {
        "stages": stages,
        "unit": draw(units),
        "width": tuple(sorted(draw(st.sets(st.integers(1, 12), min_size=1, max_size=len(stages))))),
        "classes": draw(st.integers(1, 12)),
        "input_size": draw(st.integers(16, 70)),
        "input_channels": draw(st.integers(1, 4)),
        "dropout": draw(st.sampled_from([0.0, 0.3])),
        "in_place": draw(st.booleans()),
        "names": draw(st.sampled_from([Names(), RELEASED, PYNETBUILDER, DOTTED])),
        "shortcut": draw(st.sampled_from("ABCD") | st.just("none")),
    }
    if values["unit"] == "fully-connected":
        assume(values["shortcut"] not in ("A", "D"))
        return ResNetSpec("net", stem="none", pool="none", **values)
    if values["unit"] == "bottleneck":
        values["stride_in"] = draw(st.sampled_from(["first", "3x3"]))
        values["cardinality"] = draw(st.integers(1, 3))
        values["base_width"] = draw(st.sampled_from([64, 4, 128, 7]))
        values["halve_first"] = draw(st.booleans())
    if values["shortcut"] == "A":
        values |= {"width": (6,), "stem_width": draw(st.sampled_from([1, 2, 6]))}
    else:
        values["stem_width"] = draw(st.integers(1, 9))
    values |= {
        "order": draw(st.sampled_from(["original", "pre-activation"])),
        "stem": draw(st.sampled_from(["7x7", "3x3", "deep", "tiered"])),
        "pool": draw(st.sampled_from(["ceil", "padded", "none"])),
        "head": draw(st.sampled_from(["fixed", "global"])),
        "output_stride": draw(st.sampled_from([0, 8, 16, 32])),
        "conv_bias": draw(st.booleans()),
        "conv1_bias": draw(st.booleans()),
        "eps": draw(st.sampled_from([1e-5, 2e-5])),
        "moving_average_fraction": draw(st.sampled_from([0.999, 0.9])),
        "dialect": draw(st.sampled_from(["mainline", "nvidia"])),
    }
    if draw(st.booleans()) and values["order"] == "original" and values["shortcut"] != "none":
        values |= {"highway": True, "gate_bias": draw(st.sampled_from([-1.0, -2.5, 0.0]))}
    else:
        values["squeeze"] = draw(st.sampled_from([0, 2, 3, 16]))
        values["squeeze_least"] = draw(st.sampled_from([1, 3])) if values["squeeze"] else 1
        if values["squeeze"] and values["order"] == "original" and values["shortcut"] != "none":
            values["squeeze_relu"] = draw(st.booleans())
    if values["shortcut"] in "BCD":
        values["project_first_stage"] = draw(st.booleans())
    if values["shortcut"] in "BC":
        values["projection_kernel"] = draw(st.sampled_from([1, 3]))
    return ResNetSpec("net", **values)


@given(specs())
@settings(max_examples=150)
def test_the_spec_of_a_specs_net_makes_the_same_net(spec):
    try:
        net = deploy_net(spec)
    except ResNetProtoError:  # zeros that do not fit
        assume(False)

    assert deploy_net(recognize(net)) == net


@pytest.mark.parametrize("widths", [(4,), (4, 4), (4, 4, 8)])
def test_stages_of_one_width(widths):
    """Where nothing tells them apart, stages become one: the graph is the same."""
    for stride in (0, 8):
        spec = ResNetSpec(stages=(2, 2, 1), width=widths, stem_width=4, output_stride=stride)

        assert difference(deploy_net(recognize(deploy_net(spec))), deploy_net(spec)) is None


# ---- as others write them


@pytest.mark.parametrize(
    ("text", "expected", "warnings"),
    [
        (
            wild.resnet_18(),
            {"stages": (2, 2, 2, 2), "project_first_stage": True, "moving_average_fraction": 0.9},
            [],
        ),
        (
            wild.bottlenecks(),
            {"stages": (2, 1), "unit": "bottleneck", "width": (5, 12), "stride_in": "3x3",
             "stem_width": 6, "pool": "padded", "head": "global", "conv1_bias": True,
             "classes": 7, "input_size": 64, "in_place": False},
            ["the input 'data' is 10x3x64x64; the spec's net takes one image",
             "45 of 53 layers have other names in the spec's net: 'a1/s' is 'res2a_branch1'"],
        ),
        (
            wild.nvidia_18(),
            {"stages": (2, 2), "dialect": "nvidia", "eps": 1e-4, "moving_average_fraction": 0.9,
             "in_place": False},
            ["21 of 37 layers have other blobs in the spec's net: 'conv1/relu' makes conv1/bn of "
             "conv1/bn, there conv1/relu of conv1/bn"],
        ),
        (
            wild.squeezed(),
            {"stages": (1,), "stem": "3x3", "stem_width": 16, "pool": "none", "head": "global",
             "width": (16,), "squeeze": 4, "classes": 10, "input_channels": 1, "input_size": 28},
            ["6 of 22 layers have other names in the spec's net: 'pool2_1' is 'res2_1_squeeze'"],
        ),
    ],
    ids=["resnet_18", "bottlenecks", "nvidia_18", "squeezed"],
)  # fmt: skip
def test_as_others_write_it(text, expected, warnings):
    net = read_prototxt(text)
    said = []

    spec = recognize(net, said)

    default = ResNetSpec(name=spec.name, names=spec.names, training=spec.training)
    changed = {
        f.name: getattr(spec, f.name)
        for f in fields(spec)
        if getattr(spec, f.name) != getattr(default, f.name)
    }
    assert changed == expected
    assert said == warnings
    one_image = read_prototxt(text.replace("dim: 10 ", "dim: 1 "))
    assert difference(one_image, deploy_net(spec)) is None


@pytest.mark.parametrize("text", [wild.bottlenecks(), wild.squeezed()])
def test_the_specs_net_computes_the_same(text):
    """With weights moved from layer to layer as the graphs pair them: a proof beside the law."""
    theirs = read_prototxt(text.replace("dim: 10 ", "dim: 1 "))
    ours = deploy_net(recognize(theirs))
    one, other = Graph.of(theirs), Graph.of(ours)
    names = {
        one.nodes[i].layer.name: other.nodes[j].layer.name for i, j in match(one, other)[0].items()
    }
    weights = random_weights(theirs, seed=1)
    moved = {
        f"{names[layer]}.{blob}": weights[key]
        for key in weights
        for layer, _, blob in [key.rpartition(".")]
    }
    image = np.random.default_rng(2).standard_normal(theirs.inputs()["data"])

    expected = forward(theirs, weights, image)["prob"]
    found = forward(ours, moved, image)["prob"]

    assert expected.std() > 1e-3
    np.testing.assert_array_equal(found, expected)


def test_dotted_names_become_patterns():
    spec = recognize(read_prototxt(wild.nvidia_18()))

    assert spec.names == replace(
        Names(), unit="res{stage}.{block}", place="{unit}.conv{number}",
        projection="{unit}.skipConv", convolution="{place}", batch_norm="{place}/bn",
        relu="{place}/relu", sum="{unit}.sum", sum_relu="{unit}.relu",
        stem_batch_norm="conv{part}/bn", stem_relu="conv{part}/relu", pool="pool2",
        classifier="fc",
    )  # fmt: skip


def test_the_authors_names_are_found_without_knowing_them():
    """Patterns that nobody told: of 101, with its a, b1, b2."""
    text = "".join(
        line.replace("res", "unit-").replace("branch", "way")
        for line in to_text(deploy_net(PRESETS["resnet-101"].spec))
    )
    warnings = []

    names = recognize(read_prototxt(text), warnings).names

    assert warnings == []
    assert (names.unit, names.place, names.convolution) == (
        "{stage}{letter}", "{unit}_way2{part}", "unit-{place}"
    )  # fmt: skip
    assert names.numbered_stages == (3, 4)


def to_text(net):
    from resnet_proto.prototxt import to_prototxt

    return to_prototxt(net).splitlines(keepends=True)


def test_pooling_of_a_fork():
    """``ceil_mode: false`` and padding: ResNet-18-priv of github soeaver/caffe-model."""
    text = wild.resnet_18().replace(
        "kernel_size: 3 stride: 2 }", "kernel_size: 3 stride: 2 pad: 1 ceil_mode: false }"
    )

    assert recognize(read_prototxt(text)).pool == "padded"


@pytest.mark.parametrize("name", ["resnet-50", "cifar-resnet-20", "se-resnet-50"])
def test_train_val_net(name):
    spec = PRESETS[name].spec
    trained = to_train_val(deploy_net(spec), spec.training)
    size = spec.input_size

    found = recognize(to_deploy(trained, (1, 3, size, size)))

    assert recovered(found) == recovered(spec)


@pytest.mark.skipif("Data" not in REGISTRY, reason="data layers have no class here yet")
def test_train_val_net_that_says_its_size():
    spec = PRESETS["resnet-18"].spec

    found = recognize(to_train_val(deploy_net(spec), spec.training))

    assert recovered(found) == recovered(spec)


def test_plain_nets_tell_their_order_by_names():
    """A chain that begins with one 3x3 is both: only names are left."""
    for order in ("original", "pre-activation"):
        spec = ResNetSpec(
            "plain", (2, 1), shortcut="none", order=order, stem="3x3", pool="none", head="global"
        )
        assert recognize(deploy_net(spec)).order == order


@pytest.mark.parametrize(("size", "recipe"), [(32, "cifar"), (64, "cifar"), (65, "imagenet")])
def test_training_is_the_papers_for_the_size(size, recipe):
    spec = ResNetSpec(stages=(1,), input_size=size, head="global")

    assert recognize(deploy_net(spec)).training == RECIPES[recipe].training
    assert recognize(deploy_net(replace(spec, input_channels=1))).training.mean == ()


def test_nearest_preset():
    spec = replace(PRESETS["resnet-34"].spec, classes=37, name="mine", names=DOTTED)

    assert nearest_preset(spec) == ("resnet-34", {"classes": 37})


# ---- what no spec expresses

GOOD = wild.resnet_18()


def line(name):
    return next(text for text in GOOD.splitlines(keepends=True) if f'name: "{name}"' in text)


def changed(name, old, new):
    """The net with something else in one of its layers."""
    assert old in line(name)
    return GOOD.replace(line(name), line(name).replace(old, new))


VGG = (
    wild.data()
    + wild.conv("c1", "data", 64, 3)
    + wild.conv("c2", "c1", 64, 3)
    + wild.head("c2", "kernel_size: 2 stride: 2")
)
GATED = wild.squeezed()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            changed("res3a_branch2b", "kernel_size: 3 pad: 1", "kernel_size: 5 pad: 2"),
            "the unit that ends in layer 'res3a' (Eltwise): main path is 3x3,5x5; expected ",
        ),
        (
            changed("conv1", "kernel_size: 7 pad: 3", "kernel_size: 5 pad: 2"),
            "the stem is 5x5; expected 7x7; 3x3; 3x3,3x3,3x3",
        ),
        (
            changed("prob", "Softmax", "Sigmoid"),
            "the net ends in layer 'fc1000' (InnerProduct) and layer 'prob' (Sigmoid); expected In",
        ),
        (
            changed("res3a_branch2b", '"Convolution"', '"LRN"'),
            "layer 'res3a_branch2b' (LRN) is on the main path to layer 'res3a' (Eltwise); expected",
        ),
        (
            changed("pool1", "stride: 2", "stride: 2 pad: 1"),
            "layer 'pool1' (Pooling) has round_mode CEIL; expected FLOOR",
        ),
        (
            changed("data", "dim: 224 }", "dim: 320 }"),
            "the input 'data' is 1x3x224x320; expected square images",
        ),
        (
            wild.data().replace("data", "info") + GOOD,
            "the net has the inputs info, data; expected one",
        ),
        (
            changed("res4b", " }\n", " eltwise_param { operation: MAX } }\n"),
            "layer 'res4b' (Eltwise) has operation MAX; expected SUM",
        ),
        (
            changed("res4b", 'bottom: "res4a" ', ""),
            "layer 'res4b' (Eltwise) joins 1 blob; expected an Eltwise of path and shortcut",
        ),
        (
            changed("res4b", " top:", ' bottom: "res4a" top:'),
            "layer 'res4b' (Eltwise) joins 3 blobs; expected an Eltwise of path and shortcut",
        ),
        (
            GOOD.replace(line("res4b_relu"), ""),
            "layer 'res5a_branch1' (Convolution) reads 'res4b'; expected ReLU there",
        ),
        (
            changed("scale4b_branch2a", "true", "false"),
            "layer 'scale4b_branch2a' (Scale) has bias_term false; expected true",
        ),
        (
            changed("bn_conv1", "moving", "use_global_stats: false moving"),
            "layer 'bn_conv1' (BatchNorm) has use_global_stats false; expected true",
        ),
        (
            changed("res5b_branch2a", "pad: 1", "pad: 2 dilation: 2"),
            "layer 'res5b_branch2a' (Convolution) has dilation 2; expected 1",
        ),
        (
            changed("pool5", "kernel_size: 7", "kernel_size: 6"),
            "layer 'pool5' (Pooling) has kernel_size 6; expected 7",
        ),
        (
            GOOD.replace(
                line("fc1000"), wild.layer("Dropout", "d", "pool5", "pool5") + line("fc1000")
            ),
            "layer 'd' (Dropout) reads 'pool5'; expected InnerProduct there",
        ),
        (
            GOOD.replace("num_output: 64 kernel_size: 1", "num_output: 64 stride: 2 kernel_size: 1")
            .replace(
                line("res2a_branch2a"), line("res2a_branch2a").replace("pad", "stride: 2 pad")
            ),
            "the unit that ends in layer 'res2a' (Eltwise) is the first and has stride 2; expected",
        ),
        (VGG, "the unit that ends in layer 'c2' (Convolution): main path is 3x3; expected 3x3,"),
        (wild.data(), "the net ends in layer 'data' (Input); expected InnerProduct, Softmax"),
        (wild.data() + wild.head("data"), "the net has no units: no sums, and no path of convol"),
        (
            wild.data() + wild.conv("a", "data", 8, 3) + wild.conv("b", "data", 8, 3)
            + wild.layer("Eltwise", "sum", "a b"),
            "the net ends in layer 'sum' (Eltwise); expected InnerProduct, Softmax",
        ),
        (
            GOOD + wild.layer("Softmax", "again", "fc1000"),
            "the net ends in layer 'prob' (Softmax), layer 'again' (Softmax); expected one softmax",
        ),
        (
            GATED.replace(
                wild.layer("Scale", "scaled", "conv2_1_2 up",
                           more="scale_param { axis: 0 bias_term: false }")
                + wild.layer("Eltwise", "sum", "conv1 scaled"),
                wild.layer("Axpy", "sum", "up conv2_1_2 conv1"),
            ),
            "layer 'sum' (Axpy) joins 3 blobs; expected an Eltwise of path and shortcut",
        ),
        (
            GATED.replace('"Sigmoid"', '"TanH"'),
            "layer 'scaled' (Scale) multiplies by what Pooling, InnerProduct, ReLU, InnerProduct, "
            "TanH make; expected",
        ),
    ],
)  # fmt: skip
def test_what_is_in_the_way(text, message):
    """Each has a twin that is recognised: the net that it changes."""
    with pytest.raises(NetError) as refused:
        recognize(parse_net(text, source="net.prototxt"))

    assert str(refused.value).startswith(f"net.prototxt: {message}")


def test_units_of_two_kinds():
    first = deploy_net(ResNetSpec(stages=(1, 1), unit="bottleneck", width=(4,), stem_width=16))
    text = "".join(to_text(first))
    at = text.index('name: "res3a_branch2a"')
    basic = text[:at] + text[at:].replace("kernel_size: 1", "kernel_size: 3", 1)

    with pytest.raises(NetError, match=r"res3a' \(Eltwise\): main path is 3x3,3x3,1x1; expected"):
        recognize(read_prototxt(basic))
