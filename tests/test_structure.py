"""The parts of nets are what their papers and specs say."""

from dataclasses import replace

import pytest
from nets import alexnet, densenet, googlenet, mobilenet, mobilenet_v2, squeezenet, ssd, vgg16

from resnet_proto import PRESETS, deploy_net, read_prototxt
from resnet_proto.layers import make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import parse_net
from resnet_proto.recognize import recognize
from resnet_proto.structure import dominators, structure

PLAIN = [name for name in PRESETS if "plain" in name]
RESIDUAL = [name for name in PRESETS if name not in PLAIN]


def kinds(found):
    return [part.kind for part in found.parts]


def stages(found):
    return [part for part in found.parts if part.kind == "stage"]


def names(found, layers):
    return [found.graph.nodes[i].layer.name for i in layers]


def everything_once(found):
    layers = sorted(i for part in found.parts for i in part.layers)
    return layers == list(range(len(found.graph.nodes)))


@pytest.mark.parametrize("name", RESIDUAL)
def test_presets_have_the_stages_of_their_specs(name):
    spec = PRESETS[name].spec
    found = structure(deploy_net(spec))

    assert tuple(len(stage.units) for stage in stages(found)) == spec.stages
    assert {unit.kind for stage in stages(found) for unit in stage.units} == {"residual"}
    assert kinds(found) == ["stem", *["stage"] * len(spec.stages), "head"]
    assert everything_once(found)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_presets_have_the_parts_of_their_residual_twins(name):
    """The same layers in each part, but for what joins."""
    plain = structure(deploy_net(PRESETS[name].spec))
    residual = structure(deploy_net(PRESETS[name.replace("plain", "resnet")].spec))

    for part, twin in zip(plain.parts, residual.parts, strict=True):
        beside = {i for unit in twin.units for i in (unit.join, *unit.shortcut)}
        ours, theirs = (
            [name for name in names(found, layers) if not name.endswith("_relu")]
            for found, layers in (
                (plain, part.layers),
                (residual, [i for i in twin.layers if i not in beside]),
            )
        )
        assert (part.kind, part.shape) == (twin.kind, twin.shape)
        assert ours == theirs
    assert everything_once(plain)


@pytest.mark.parametrize(
    ("fields", "in_stem"),
    [
        ({"order": "pre-activation"}, 9),  # BatchNorm, Scale, ReLU of the first unit too
        ({"unit": "bottleneck", "dropout": 0.3}, 6),
        ({"stem": "3x3"}, 6),
        ({"stem": "3x3", "pool": "none"}, 5),
        ({"stem": "deep"}, 14),
    ],
    ids=str,
)
def test_a_plain_net_of_any_spec_has_a_stem(fields, in_stem):
    spec = replace(PRESETS["plain-18"].spec, stages=(1, 3, 2), **fields)
    found = structure(deploy_net(spec))

    a_unit = {"basic": 2, "bottleneck": 3}[spec.unit]
    assert kinds(found) == ["stem", *["stage"] * 3, "head"]
    assert [len(stage.units) for stage in stages(found)] == [a_unit, 3 * a_unit, 2 * a_unit]
    assert len(found.parts[0].layers) == in_stem


@pytest.mark.parametrize(
    ("second", "sizes"),
    [
        ('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', [1, 1]),
        ('type: "LRN"', [1, 1, 1]),
    ],
    ids=["pooling", "no pooling"],
)
def test_a_pooling_ends_the_stem_and_nothing_else_does(second, sizes):
    conv = 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 2 stride: %d }'
    types = [conv % 1, second, conv % 1, conv % 2]
    layers = "".join(
        f'layer {{ name: "b{i}" bottom: "b{i - 1}" top: "b{i}" {type} }}'
        for i, type in enumerate(types, 1)
    )
    found = structure(
        parse_net(f'input: "b0" input_shape {{ dim: 2 dim: 3 dim: 24 dim: 16 }} {layers}')
    )

    assert [len(stage.units) for stage in stages(found)] == sizes
    assert everything_once(found)


@pytest.mark.parametrize("gate", [True, False])
def test_what_is_pooled_to_one_column_is_the_head_unless_it_is_a_gate(gate):
    def conv(name, bottom, fields):
        return (
            f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
            f"convolution_param {{ num_output: 4 {fields} }} }}"
        )

    found = structure(
        parse_net(f"""
        input: "x" input_shape {{ dim: 2 dim: 3 dim: 24 dim: 16 }}
        {conv("first", "x", "kernel_size: 3")} {conv("second", "first", "kernel_size: 2 stride: 2")}
        layer {{ name: "pool" type: "Pooling" bottom: "second" top: "pool"
                 pooling_param {{ pool: AVE global_pooling: true }} }}
        {conv("factors", "pool", "kernel_size: 1")}
        layer {{ name: "product" type: "Scale" {'bottom: "second"' if gate else ""}
                 bottom: "factors" top: "product" scale_param {{ axis: 0 }} }}
        {conv("last", "product", "kernel_size: 1")}
        """)
    )

    assert everything_once(found)
    assert "last" in names(found, found.parts[-1].layers)
    assert kinds(found)[-1] == ("stage" if gate else "head")


def test_the_released_nets(released_dir):
    for depth in (50, 101, 152):
        net = read_prototxt(released_dir / f"ResNet-{depth}-deploy.prototxt")
        found = structure(net)
        assert tuple(len(stage.units) for stage in stages(found)) == recognize(net).stages
        projections = [names(found, unit.shortcut) for s in stages(found) for unit in s.units]
        assert [names for names in projections if names] == [
            [f"res{i}a_branch1", f"bn{i}a_branch1", f"scale{i}a_branch1"] for i in (2, 3, 4, 5)
        ]


@pytest.mark.parametrize(
    ("net", "kind", "sizes"),
    [
        # Szegedy et al. 2014, table 1: 3a and b, 4a to e, 5a and b
        (googlenet.net(), "concat", [2, 5, 2]),
        # Huang et al. 2017, table 1: DenseNet-121
        (densenet.net(), "concat", [6, 12, 24, 16]),
        # Iandola et al. 2016, table 1: fire2 to 4, 5 to 8, 9
        (squeezenet.net("1.0"), "concat", [3, 4, 1]),
        # Sandler et al. 2018, table 2: of n units of a line the first has no shortcut
        (mobilenet_v2.net(), "residual", [1, 2, 3, 2, 2]),
        # Simonyan and Zisserman 2014, table 1, D
        (vgg16.net(), "layer", [2, 2, 3, 3, 3]),
        # Krizhevsky et al. 2012, figure 2
        (alexnet.net(), "layer", [1, 1, 3]),
        # Howard et al. 2017, table 1: the first layer alone; the classifier is a 1x1 convolution
        (mobilenet.net(), "layer", [2, 4, 4, 12, 4]),
    ],
    ids=["googlenet", "densenet", "squeezenet", "mobilenet-v2", "vgg", "alexnet", "mobilenet"],
)
def test_nets_of_other_families(net, kind, sizes):
    found = structure(net)

    assert [len(stage.units) for stage in stages(found)] == sizes
    assert {unit.kind for stage in stages(found) for unit in stage.units} == {kind}
    assert everything_once(found)


def test_a_detector_is_a_trunk_and_a_head():
    """The concatenations of boxes are no modules, and what lies behind them is no stage."""
    found = structure(ssd.net())

    assert [unit.kind for stage in stages(found) for unit in stage.units] == ["residual"] * 4
    assert "mbox_priorbox" in names(found, found.parts[-1].layers)
    assert everything_once(found)


@pytest.mark.parametrize("order", ["original", "pre-activation"])
def test_a_unit_has_its_activations_and_no_others(order):
    spec = replace(PRESETS["resnet-18"].spec, order=order)
    found = structure(deploy_net(spec))

    second = stages(found)[1].units[0]
    types = [found.graph.nodes[i].layer.type for i in second.layers]

    first = {"original": "Convolution", "pre-activation": "BatchNorm"}[order]
    last = {"original": "ReLU", "pre-activation": "Eltwise"}[order]
    assert (types[0], types[-1]) == (first, last)
    assert types.count("Convolution") == 3
    assert types.count("ReLU") == 2


@pytest.mark.parametrize("type", ["BNLL", "PReLU", "Exp", "Swish"])
def test_any_activation_is_of_the_unit_before_it(type):
    """Which types are one is no list: all that compute value by value."""
    net = deploy_net(PRESETS["cifar-resnet-20"].spec)
    layers = (
        make_layer(la.name, type, la.bottoms, la.tops) if la.type == "ReLU" else la
        for la in net.layers
    )

    found, plain = structure(replace(net, layers=tuple(layers))), structure(net)

    assert [p.units for p in found.parts] == [p.units for p in plain.parts]


def test_a_net_of_unknown_types_has_parts():
    """Shapes end where the type is not known; the graph does not."""
    net = deploy_net(PRESETS["cifar-resnet-20"].spec)
    layers = list(net.layers)
    place = next(i for i, layer in enumerate(layers) if layer.name == "res3b_branch2a_relu")
    layers[place] = make_layer("odd", "Odd", layers[place].bottoms, layers[place].tops)

    found = structure(replace(net, layers=tuple(layers)))

    assert "Odd" in found.unknown
    assert sum(len(stage.units) for stage in stages(found)) == 9
    assert everything_once(found)


@pytest.mark.parametrize(
    ("type", "kinds_of_units"), [("Split", ["residual"]), ("Slice", ["layer"] * 2)]
)
def test_a_sum_of_what_one_layer_parts_is_no_residual_unit(type, kinds_of_units):
    """Its branches are those of two images, say; what a Split makes is one blob twice."""
    text = f"""
    input: "x" input_shape {{ dim: 2 dim: 6 dim: 7 dim: 5 }}
    layer {{ name: "parts" type: "{type}" bottom: "x" top: "a" top: "b" }}
    layer {{ name: "one" type: "Convolution" bottom: "a" top: "one"
             convolution_param {{ num_output: 4 kernel_size: 1 }} }}
    layer {{ name: "two" type: "Convolution" bottom: "b" top: "two"
             convolution_param {{ num_output: 4 kernel_size: 1 }} }}
    layer {{ name: "sum" type: "Eltwise" bottom: "one" bottom: "two" top: "sum" }}
    """
    found = structure(parse_net(text))

    assert [unit.kind for stage in stages(found) for unit in stage.units] == kinds_of_units
    assert everything_once(found)


def test_an_empty_net_and_one_of_data_alone():
    data = make_layer(
        "data", "Input", (), ("data",), {"input_param": {"shape": ({"dim": (2, 3, 5, 7)},)}}
    )

    assert structure(Net()).parts == ()
    assert kinds(structure(Net(layers=(data,)))) == ["stem"]


def test_dominators_of_a_diamond_in_a_diamond():
    """Input -> a -> (b, c -> (d, e) -> f) -> g: f is joined behind c, g behind a."""

    def relu(name, bottom):
        return make_layer(name, "ReLU", (bottom,), (name,))

    def total(name, *bottoms):
        return make_layer(name, "Eltwise", bottoms, (name,))

    data = make_layer("x", "Input", (), ("x",), {"input_param": {"shape": ({"dim": (2, 3)},)}})
    layers = (data, relu("a", "x"), relu("b", "a"), relu("c", "a"), relu("d", "c"), relu("e", "c"),
              total("f", "d", "e"), total("g", "b", "f"))  # fmt: skip
    found = structure(Net(layers=layers))

    passed = dominators(found.graph)

    assert [found.graph.nodes[i].layer.name if i >= 0 else "" for i in passed] == [
        "", "x", "a", "a", "c", "c", "c", "a",
    ]  # fmt: skip
