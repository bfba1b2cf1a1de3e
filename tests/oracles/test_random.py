"""Random nets and random texts against the real Caffe; and cases that were found once, kept.

``make fuzz`` runs more of them, and prints what it finds as rows of ``KEPT``.
"""

import numpy as np
import pytest
from oracles.random_nets import random_net
from oracles.random_texts import random_text
from oracles.warm import disagreement, far, ours

from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE
from resnet_proto.errors import PrototxtError, ResNetProtoError
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.text_format import parse

N_NETS = 200
N_TEXTS = 300

INPUT = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }
"""
FILTER = (
    INPUT
    + """
layer { name: "chosen" type: "Input" top: "s" input_param { shape { dim: 2 } } }
layer { name: "f" type: "Filter" bottom: "x" bottom: "s" top: "y" }
"""
)
NONE, ONE = {"s": np.array([0, 0])}, {"s": np.array([0, 1])}
BEHIND = """
layer { name: "r" type: "ReLU" bottom: "y" top: "r" }
layer { name: "c" type: "Convolution" bottom: "r" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 } }
layer { name: "i" type: "InnerProduct" bottom: "p" top: "i" inner_product_param { num_output: 3 } }
"""
SUM = 'layer { name: "e" type: "Eltwise" bottom: "y" bottom: "x" top: "z" }'
PRODUCT = """
layer { name: "i" type: "InnerProduct" bottom: "y" top: "z"
  inner_product_param { num_output: 3 axis: 0 } }
"""
EMBED = """
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {} }} }} }}
layer {{ name: "e" type: "Embed" bottom: "x" top: "y"
  embed_param {{ num_output: 3 input_dim: 2 }} }}
"""
BILINEAR = (
    INPUT.replace("{", "{{").replace("}", "}}")
    + """
layer {{ name: "d" type: "Deconvolution" bottom: "x" top: "y"
  convolution_param {{ num_output: 3 {} weight_filler {{ type: "bilinear" }} }} }}
"""
)
# Name -> the net, the inputs that are not any, and whether both take it.
KEPT = {
    "layer names repeat": (
        INPUT
        + """
layer { name: "in" type: "AbsVal" bottom: "x" top: "y" }
layer { name: "in" type: "Power" bottom: "y" top: "z" power_param { shift: 1 } }
""",
        {},
        True,
    ),
    "a layer without weights repeats the name of one with weights": (
        INPUT
        + """
layer { name: "a" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 } }
layer { name: "a" type: "AbsVal" bottom: "y" top: "z" }
""",
        {},
        True,
    ),
    "an empty exclude drops a layer": (
        INPUT
        + """
layer { name: "gone" type: "AbsVal" bottom: "nobody" top: "y" exclude {} }
layer { name: "kept" type: "AbsVal" bottom: "x" top: "y" include {} }
""",
        {},
        True,
    ),
    "and who reads it has no bottom": (
        INPUT
        + """
layer { name: "gone" type: "AbsVal" bottom: "x" top: "y" exclude {} }
layer { name: "lost" type: "AbsVal" bottom: "y" top: "z" }
""",
        {},
        False,
    ),
    "a layer's phase is no rule": (
        INPUT
        + """
layer { name: "a" type: "AbsVal" bottom: "x" top: "y" phase: TRAIN }
layer { name: "b" type: "AbsVal" bottom: "y" top: "z" phase: TEST }
""",
        {},
        True,
    ),
    "columns that an int can count": (
        INPUT
        + """
layer { name: "c" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 1 kernel_size: 100 pad: 70 } }
""",
        {},
        True,
    ),
    "columns that none can": (
        INPUT
        + """
layer { name: "c" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 1 kernel_size: 100 pad: 250 } }
""",
        {},
        False,
    ),
    "the same of a Deconvolution": (
        INPUT
        + """
layer { name: "c" type: "Deconvolution" bottom: "x" top: "y"
  convolution_param { num_output: 700000 kernel_size: 10 pad: 7 } }
""",
        {},
        False,
    ),
    "a blob of 32 axes": (EMBED.format("dim: 1 " * 31), {"x": np.ones([1] * 31)}, True),
    "a blob of 33": (EMBED.format("dim: 1 " * 32), {"x": np.ones([1] * 32)}, False),
    "a bilinear filler of a square": (BILINEAR.format("kernel_size: 4"), {}, True),
    "a bilinear filler of an oblong": (BILINEAR.format("kernel_h: 4 kernel_w: 6"), {}, False),
    "a bilinear filler of no map": (
        INPUT
        + """
layer { name: "i" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 weight_filler { type: "bilinear" } } }
""",
        {},
        False,
    ),
    "a sequence begins behind nan": (
        """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 1 } } }
layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "r" type: "RNN" bottom: "x" bottom: "c" top: "y" recurrent_param { num_output: 4 } }
layer { name: "l" type: "LSTM" bottom: "x" bottom: "c" top: "z" recurrent_param { num_output: 5 } }
""",
        {
            "x": np.array([[[np.nan], [1]], [[-1], [2]], [[3], [4]]]),
            "c": np.array([[0, 0], [0, 1], [1, 1]]),
        },
        True,
    ),
    "one image is left": (FILTER + BEHIND, ONE, True),
    "no image is left": (FILTER + BEHIND, NONE, True),
    "two images and the one that is left": (FILTER + SUM, ONE, False),
    "weights for two images": (FILTER + PRODUCT, ONE, False),
    "a shift beyond the exponents": (
        INPUT
        + """
layer { name: "e" type: "Exp" bottom: "x" top: "y" exp_param { shift: 1000 scale: 0.125 } }
""",
        {},
        True,
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept(name, warm_caffe):
    text, given, taken = KEPT[name]
    inputs, weights, blobs = ours(text, np.random.default_rng(0), given)

    theirs = warm_caffe.answer(warm_caffe.give(text, weights, inputs))

    assert isinstance(blobs, ResNetProtoError) != taken
    assert not disagreement(text, weights, inputs, blobs, theirs)


def test_a_sum_whose_terms_cancel(warm_caffe):
    """Equal to 1e-5 of the sum nobody can be; what is wrong by more than rounding is found."""
    text = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1000 } } }
layer { name: "sum" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 1 bias_term: false } }
"""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 1, 1000)).astype(np.float32)
    most = abs(x[0]).argmax()
    weight[0, most] -= x.astype(np.float64)[0] @ weight.astype(np.float64)[0] / x[0, most]
    net, weights, inputs = read_prototxt(text), {"sum.weight": weight}, {"x": x}
    blobs = forward(net, weights, inputs)
    theirs = warm_caffe.answer(warm_caffe.give(text, weights, inputs))

    def wrong(change):
        return disagreement(text, weights, inputs, {**blobs, "y": blobs["y"] + change}, theirs)

    assert not far(blobs["y"], theirs["y"]) <= TOLERANCE
    assert not wrong(0)
    assert wrong(1e-3 * abs(x * weight).max())
    assert wrong(np.nan)


def test_nets(warm_caffe):
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(N_NETS):
        net, given = random_net(rng)
        text = to_prototxt(net)
        inputs, weights, blobs = ours(text, rng, given)
        cases.append((text, inputs, weights, blobs, warm_caffe.give(text, weights, inputs)))

    refused = 0
    for text, inputs, weights, blobs, job in cases:
        problem = disagreement(text, weights, inputs, blobs, warm_caffe.answer(job))
        assert not problem, f"{problem}\n{text}"
        refused += isinstance(blobs, ResNetProtoError)
    assert N_NETS / 10 < refused < N_NETS * 2 / 3


def test_texts(warm_caffe):
    rng = np.random.default_rng(0)
    texts = [random_text(rng) for _ in range(N_TEXTS)]
    jobs = [warm_caffe.give(text, {}, {}) for text in texts]

    taken = [warm_caffe.parses(job) for job in jobs]

    for text, they_take_it in zip(texts, taken, strict=True):
        try:
            parse(text, "NetParameter")
            refusal = None
        except PrototxtError as error:
            refusal = str(error)
        assert they_take_it == (refusal is None), f"{refusal}\n{text!r}"
    assert N_TEXTS / 10 < sum(taken) < N_TEXTS * 2 / 3
