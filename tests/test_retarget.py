"""Each step towards a target: what it makes, the same result, and where it does nothing."""

from dataclasses import replace

import numpy as np
import pytest

from resnet_proto import forward, random_weights, read_prototxt, to_prototxt
from resnet_proto.check.target import Limit, Target, header
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.layers import REGISTRY
from resnet_proto.retarget import STEPS, left_over, retargeted

SOURCES = dict.fromkeys(
    ("header", "batch", "batch_norm", "floor", "spelled", "pairs", "factor", "zero_pad", "text"),
    "a page",
)
ANY = Target("chain", "the chain", "1", dict.fromkeys(REGISTRY, "a list"), (), sources=SOURCES,
             floor=("round_mode", "ceil_mode"))  # fmt: skip
HEAD = """
layer { name: "in" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 4 dim: 9 dim: 14 } } }
"""
X = np.random.default_rng(0).normal(size=(2, 4, 9, 14)).astype(np.float32)


def without(*types):
    return {"types": {kind: "a list" for kind in REGISTRY if kind not in types}}


def layers(text):
    return read_prototxt(HEAD + text)


CONV = 'layer {{ name: "{0}" type: "{1}" bottom: "data" top: "{0}" convolution_param {{ {2} }} }}\n'
SQUARE = "num_output: 4 kernel_size: 3 group: 4"
DROPPED = """
layer { name: "d" type: "Dropout" bottom: "data" top: "d" }
layer { name: "c" type: "Dropout" bottom: "d" top: "d" }
layer { name: "r" type: "ReLU" bottom: "d" top: "d" }
layer { name: "e" type: "Dropout" bottom: "d" top: "d" }
layer { name: "y" type: "TanH" bottom: "d" top: "y" }
"""
SUM = """
layer {{ name: "r" type: "ReLU" bottom: "data" top: "r" }}
layer {{ name: "y" type: "Eltwise" bottom: "data" bottom: "r" top: "y" eltwise_param {{ {0} }} }}
"""
POOL = 'layer {{ name: "y" type: "Pooling" bottom: "data" top: "y" pooling_param {{ {0} }} }}'
LRN = 'layer {{ name: "y" type: "LRN" bottom: "data" top: "y" lrn_param {{ {0} }} }}'
NORMAL = CONV.format("y", "Convolution", "num_output: 3 kernel_size: 3 bias_term: false") + (
    'layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" }\n'
)


def limits(kind, quantity, *among):
    return {"limits": (Limit((kind,), quantity, 0, 0, among, "", "a page"),)}


# what is done: the net, the target, and words that are in the new text, or not in it (first "-")
CASES = {
    "Dropout left out": (layers(DROPPED), without("Dropout"), ["-Dropout"]),
    "depthwise convolutions as Convolution with groups": (
        layers(CONV.format("y", "ConvolutionDepthwise", "num_output: 4 kernel_size: 3")),
        without("ConvolutionDepthwise"), ["-ConvolutionDepthwise", "group: 4"],
    ),
    "the only batch size": (layers(SUM.format("")), {"batch": 1}, ["dim: 1", "-dim: 2"]),
    "BatchNorm folded": (layers(NORMAL), {"batch_norm": True}, ["-BatchNorm"]),
    "floor pooling": (
        layers(POOL.format("kernel_size: 3 stride: 2 ceil_mode: false")),
        {"floor": ("round_mode",)}, ["round_mode: FLOOR", "-ceil_mode"],
    ),
    "a bias for every Convolution": (
        layers(CONV.format("y", "Convolution", "num_output: 3 kernel_size: 5 bias_term: false "
                                               "axis: 2")),
        limits("Convolution", "bias_term", True), ["bias_term: true"],
    ),
    "coefficients of 1 left out": (
        layers(SUM.format("coeff: 1 coeff: 1")), limits("Eltwise", "coeff"), ["-coeff"],
    ),
    "defaults spelled": (
        layers(LRN.format("beta: 0.5")), {"spelled": {"LRN": ("alpha", "beta")}},
        ["alpha: 1", "beta: 0.5"],
    ),
    "rows and columns spelled": (
        layers(CONV.format("y", "Convolution", "num_output: 3 kernel_size: 3 kernel_size: 2 "
                                               "pad: 1 pad: 1 stride_h: 2 stride_w: 1")),
        {"pairs": True}, ["kernel_h: 3", "kernel_w: 2", "-kernel_size", "stride_h: 2", "pad: 1"],
    ),
    "inputs written anew": (
        layers(SUM.format("")), {"header": ("input_dim",)},
        ['input: "data"', "-Input", "input_dim"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_step(what):
    """It is done where it is needed, is said, gives the same, and nothing else is done."""
    net, changes, words = CASES[what]
    weights, target = random_weights(net), replace(ANY, **changes)

    new, values, done = retargeted(net, weights, target)
    same, _, nothing = retargeted(net, weights, ANY)

    assert left_over(net, weights, target)
    assert done == [what]
    assert not left_over(new, values, target)
    text = to_prototxt(new)
    for word in words:
        assert (word.removeprefix("-") in text) == (word[0] != "-"), word
    assert read_prototxt(text) == new
    assert nothing == []
    assert same == net
    ours = forward(new, values, X[:1] if "batch" in changes else X)["y"]
    assert relative_l2(ours, forward(net, weights, X)["y"][: len(ours)]) <= TOLERANCE


def test_each_step_has_a_case():
    """But one, which mends nothing that a target refuses: ``tests/test_clips.py``."""
    assert [*CASES] == [what for what in STEPS if what != "limits as ReLU6 or Clip"]


def test_rows_and_columns_as_repeated_fields():
    """The other way round: nncase reads no stride_h."""
    apart = "num_output: 3 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 2 pad_h: 1"
    net = layers(CONV.format("y", "Convolution", apart))
    new, weights, done = retargeted(net, random_weights(net), replace(ANY, pairs=False))

    assert done == ["rows and columns spelled"]
    assert new.layers[1].param == {
        "num_output": 3, "kernel_size": (3, 2), "stride": (2,), "pad": (1, 0)
    }  # fmt: skip
    assert np.array_equal(forward(new, weights, X)["y"], forward(net, weights, X)["y"])


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ("input_dim", {"input": ("data",), "input_dim": (2, 4, 9, 14)}),
        ("input_shape", {"input": ("data",), "input_shape": ({"dim": (2, 4, 9, 14)},)}),
    ],
)
def test_headers(form, field):
    """Both of the net's own fields, and the way back to a layer."""
    net = layers(SUM.format(""))

    new, _, _ = retargeted(net, {}, replace(ANY, header=(form,)))
    back, _, _ = retargeted(new, {}, replace(ANY, header=("layer",)))

    assert new.fields == field
    assert header(new) == form
    assert [layer.type for layer in new.layers] == ["ReLU", "Eltwise"]
    assert header(back) == "layer"
    assert back.inputs() == net.inputs()


def test_dropout_that_ends_a_net():
    """Its blob is the result, so it stays, and is found."""
    net = layers('layer { name: "d" type: "Dropout" bottom: "data" top: "y" }')
    target = replace(ANY, **without("Dropout"))

    new, _, done = retargeted(net, {}, target)

    assert new == net
    assert done == []
    assert [x.rule for x in left_over(new, {}, target)] == ["target-type"]


def test_a_layer_with_the_name_of_a_dropout_keeps_its_weights():
    """It was ``twin#2``, and would be ``twin``."""
    net = layers(DROPPED.replace('"d" type: "Dropout"', '"twin" type: "Dropout"') + """
layer { name: "twin" type: "BatchNorm" bottom: "y" top: "z" }""")  # fmt: skip
    weights = random_weights(net)

    new, blobs, done = retargeted(net, weights, replace(ANY, **without("Dropout")))

    assert done == ["Dropout left out"]
    assert [layer.name for layer in new.layers][-1] == "twin#2"
    z, expected = forward(new, blobs, X)["z"], forward(net, weights, X)["z"]
    assert z.tolist() == expected.tolist()


def test_rules_of_phases_are_gone():
    """A deploy net has none; the layers of TRAIN neither."""
    net = layers("""
    layer { name: "t" type: "Silence" bottom: "data" include { phase: TRAIN } }
    layer { name: "y" type: "ReLU" bottom: "data" top: "y" include { phase: TEST } }
    """)

    new, _, _ = retargeted(net, {}, ANY)

    assert [(layer.type, dict(layer.fields).get("include")) for layer in new.layers[1:]] == [
        ("ReLU", None)
    ]
