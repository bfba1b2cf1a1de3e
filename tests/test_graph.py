"""Whether two nets are one graph."""

from dataclasses import replace

import pytest
import wild

from resnet_proto.build import deploy_net
from resnet_proto.errors import NetError
from resnet_proto.graph import difference
from resnet_proto.presets import PRESETS, PYNETBUILDER
from resnet_proto.prototxt import read_prototxt
from resnet_proto.spec import ResNetSpec
from resnet_proto.training.train_val import to_train_val

SMALL = ResNetSpec(stages=(1, 1), width=(5,), stem_width=4, input_size=40, classes=3)


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_released_nets_are_ours(depth, released_dir):
    theirs = read_prototxt(released_dir / f"ResNet-{depth}-deploy.prototxt")

    assert difference(theirs, deploy_net(PRESETS[f"resnet-{depth}"].spec)) is None


def test_half_width_net_is_ours_but_for_its_classes(half_width):
    """With rates, fillers and another name for nearly everything."""
    theirs = read_prototxt(half_width[0])
    spec = replace(PRESETS["resnet-50-1by2"].spec, names=SMALL.names)

    assert str(difference(theirs, deploy_net(spec))) == (
        "layer 'fc_nsfw' (InnerProduct) has num_output 2; the other net has 1000"
    )
    assert difference(theirs, deploy_net(replace(spec, classes=2))) is None


def one(more="", sum_of="a b", swapped=False):
    """A sum of two convolutions."""
    a, b = (
        wild.conv("a", "data", 4, 3),
        wild.conv("b", "data", 4, 1, more="bias_term: false " + more),
    )
    return read_prototxt(
        wild.data() + (b + a if swapped else a + b) + wild.layer("Eltwise", "sum", sum_of)
    )


@pytest.mark.parametrize(
    "other",
    [
        one(swapped=True),
        one(sum_of="b a"),
        one("pad: 0 stride: 1 dilation: 1 group: 1 axis: 1"),
        one("pad_h: 0 pad_w: 0 stride_h: 1 stride_w: 1"),
        one('engine: CAFFE weight_filler { type: "msra" }'),
    ],
)
def test_what_is_aside(other):
    """Order of layers and of summands, defaults, fillers, engines."""
    assert difference(one(), other) is None
    assert difference(other, one()) is None


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (one("stride: 2"), "layer 'b' (Convolution) has stride 1; the other net has 2"),
        (
            one("stride_h: 2 stride_w: 1"),
            "layer 'b' (Convolution) has stride 1; the other net has 2x1",
        ),
        (one("group: 2"), "layer 'b' (Convolution) has group 1; the other net has 2"),
        (
            one(sum_of="a a"),
            "layer 'sum' (Eltwise) reads 'a' and 'b'; the other net has 'a' and 'a' there",
        ),
        (
            replace(one(), layers=one().layers[:-1]),
            "layer 'sum' (Eltwise) reads 'a' and 'b'; the other net has no layer there",
        ),
        (
            replace(one(), layers=(*one().layers[:-1], *one().layers[-1:], read_prototxt(
                wild.layer("ReLU", "r", "sum", "sum")).layers[0])),
            "layer 'sum' (Eltwise) is the last; the other net has layer 'r' (ReLU) too",
        ),
        (
            replace(one(), layers=(*one().layers[:-1], replace(one().layers[-1], type="Concat"))),
            "layer 'sum' (Eltwise) reads 'a' and 'b'; the other net has Concat there",
        ),
    ],
)  # fmt: skip
def test_the_first_difference_in_words(other, words):
    assert str(difference(one(), other)) == words
    assert difference(other, one()) is not None


def test_one_layer_read_twice_is_not_two_layers():
    """Weights of two layers differ, even if the layers are of one kind."""
    text = wild.data() + wild.conv("a", "data", 4, 3)
    again = wild.conv("b", "data", 4, 3)

    twice = read_prototxt(text + again + wild.layer("Eltwise", "sum", "a a"))
    two = read_prototxt(text + again + wild.layer("Eltwise", "sum", "a b"))

    assert difference(twice, two) is not None


def test_layers_of_one_kind_are_told_apart_by_what_reads_them():
    def crossed(first, second):
        return read_prototxt(
            wild.data()
            + wild.conv("a", "data", 4, 3)
            + wild.conv("b", "data", 4, 3)
            + wild.layer("TanH", "t", first)
            + wild.layer("Sigmoid", "s", second)
        )

    assert difference(crossed("a", "b"), crossed("b", "a")) is None
    assert difference(crossed("a", "a"), crossed("a", "b")) is not None


def test_in_place_or_not_is_one_graph():
    spec = replace(SMALL, in_place=False, names=PYNETBUILDER)

    assert difference(deploy_net(SMALL), deploy_net(spec)) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("kernel_size: 3 stride: 2 ceil_mode: false", "kernel_size: 3 stride: 2", False),
        ("kernel_size: 3 stride: 2 ceil_mode: true", "kernel_size: 3 stride: 2", True),
        ("kernel_size: 3 stride: 2 ceil_mode: false",
         "kernel_size: 3 stride: 2 round_mode: FLOOR", True),
        ("kernel_size: 3 round_mode: FLOOR", "kernel_size: 3", True),  # nothing to round
        ("global_pooling: true", "kernel_size: 224", False),
        ("kernel_h: 3 kernel_w: 2", "kernel_size: 3", False),
        ("pool: AVE kernel_size: 3", "kernel_size: 3", False),
    ],
)  # fmt: skip
def test_pooling(one, other, same):
    nets = [
        read_prototxt(
            wild.data() + wild.layer("Pooling", "p", "data", more=f"pooling_param {{ {fields} }}"),
        )
        for fields in (one, other)
    ]

    assert (difference(*nets) is None) == same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("scale_bias: true", "use_weight_bias: true", True),  # NVIDIA's and Intel's
        ("scale_bias: true", "filler { value: 1 }", True),
        ("use_weight_bias: false", "", True),
        ("use_weight_bias: true", "", False),
        ("use_weight_bias: true bias_term: false", "scale_bias: true", False),
        ("use_weight_bias: false bias_term: false", "", True),
    ],
)
def test_gamma_and_beta_inside(one, other, same):
    nets = [
        read_prototxt(
            wild.data() + wild.layer("BatchNorm", "b", "data", more=f"batch_norm_param {{ {x} }}")
        )
        for x in (one, other)
    ]

    assert (difference(*nets) is None) == same


def test_statistics():
    """Unset, TEST takes the stored ones; set to false, those of the batch."""

    def norm(fields):
        more = f"batch_norm_param {{ {fields} }}"
        return read_prototxt(wild.data() + wild.layer("BatchNorm", "b", "data", more=more))

    assert difference(norm(""), norm("use_global_stats: true")) is None
    assert str(difference(norm(""), norm("use_global_stats: false"))) == (
        "layer 'b' (BatchNorm) has use_global_stats true; the other net has false"
    )
    assert difference(norm(""), norm("scale_bias: true")) is not None


def test_fixed_weights_are_part_of_the_graph():
    """Zero padding chooses pixels; a convolution of the same shape learns."""
    spec = replace(SMALL, shortcut="A", width=(4,))
    net = deploy_net(spec)
    learned = tuple(
        replace(layer, fields={k: v for k, v in layer.fields.items() if k != "param"})
        for layer in net.layers
    )

    assert str(difference(net, replace(net, layers=learned))) == (
        "layer 'res3a_subsample' (Convolution) has fixed true; the other net has false"
    )


def test_rates_are_no_part_of_the_graph_but_data_and_loss_are():
    net = deploy_net(SMALL)
    trained = to_train_val(net, SMALL.training)

    assert str(difference(net, trained)).startswith(
        "layer 'input' (Input) reads nothing; the other"
    )


def test_what_is_no_number_equals_itself():
    text = wild.data() + 'layer { name: "p" type: "Power" bottom: "data" power_param { %s } }'
    top = ' top: "p" }'
    nan, inf = (read_prototxt(text[:-2] % f"shift: {value}" + top) for value in ("nan", "inf"))

    assert difference(nan, read_prototxt(text[:-2] % "shift: nan" + top)) is None
    assert str(difference(nan, inf)) == "layer 'p' (Power) has shift nan; the other net has inf"


def test_no_graph():
    text = wild.data() + wild.conv("a", "image", 4, 3)

    with pytest.raises(NetError, match="reads blob 'image', which no layer before it writes"):
        difference(read_prototxt(text), read_prototxt(text))
    assert difference(one(), one()) is None
