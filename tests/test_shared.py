"""Shared weights where no Caffe is needed: nets, graphs, training, messages.

What the real Caffe does with them is in ``oracles/test_shared_weights.py``.
"""

import numpy as np
import pytest

from resnet_proto.check import check_text
from resnet_proto.errors import NetError, WeightsError
from resnet_proto.fit import step_blobs
from resnet_proto.formats import load, save
from resnet_proto.formats.onnx import to_onnx
from resnet_proto.graph import difference
from resnet_proto.prototxt import parse_net, to_prototxt
from resnet_proto.recipe import Training
from resnet_proto.recognize import recognize
from resnet_proto.training.classifier import with_classes
from resnet_proto.training.train_val import to_deploy, to_train_val
from resnet_proto.weights import Weights, random_weights

DATA = 'input: "data" input_dim: 2 input_dim: 3 input_dim: 7 input_dim: 7\n'


def conv(name, bottom, n, *params, more=""):
    named = " ".join(f"param {{ {param} }}" for param in params)
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {named} '
        f"convolution_param {{ num_output: {n} kernel_size: 3 pad: 1 {more} }} }}\n"
    )


def ip(name, bottom, n, *params):
    return conv(name, bottom, n, *params).replace("Convolution", "InnerProduct").replace(
        "convolution_param", "inner_product_param"
    ).replace("kernel_size: 3 pad: 1", "")  # fmt: skip


def shared(*names, last="w"):
    """Three convolutions in a row, of which some share their weight, and a classifier."""
    params = [f'name: "{name}"' if name else "" for name in names]
    return parse_net(
        DATA
        + conv("a", "data", 3, params[0])
        + conv("b", "a", 3, params[1])
        + conv("c", "b", 3, params[2])
        + ip("fc", "c", 5)
        + 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }'
    )


def test_the_keys_of_what_is_one():
    net = shared("w", "", "w")

    steps = {step.label: step for step in net.walk()}

    assert net.sharing() == {
        "a": {"weight": ("a.weight", "c.weight")},
        "c": {"weight": ("a.weight", "c.weight")},
    }
    assert steps["a"].owned == {"weight": (3, 3, 3, 3), "bias": (3,)}
    assert steps["c"].owned == {"bias": (3,)}
    assert steps["c"].parameters == 3 == steps["a"].parameters - 81
    assert steps["b"].shared == {}
    assert steps["c"].macs == steps["a"].macs > 0


def test_only_layers_of_the_state_share():
    """A layer that is dropped owns nothing: the next of the name does."""
    text = DATA + conv("a", "data", 4, 'name: "w"').replace("convolution_param", "exclude {} "
        "convolution_param") + conv("b", "data", 3, 'name: "w"')  # fmt: skip

    assert parse_net(text).sharing() == {}
    assert [step.parameters for step in parse_net(text).walk()] == [0, 84]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("", "", ""), ("", "", ""), True),
        (("w", "w", ""), ("v", "v", ""), True),
        (("w", "", "v"), ("", "", ""), True),
        (("w", "w", ""), ("", "", ""), False),
        (("", "", ""), ("w", "w", ""), False),
        (("w", "w", ""), ("w", "", "w"), False),
        (("w", "w", ""), ("w", "w", "w"), False),
    ],
)
def test_a_net_that_shares_is_another_net(one, other, same):
    """Whatever the names are."""
    assert (difference(shared(*one), shared(*other)) is None) == same


def pairs(*names):
    """Four convolutions of one input, all alike, each with another reader."""
    return parse_net(DATA + "".join(
        conv(f"x{i}", "data", 3, f'name: "{name}"') + conv(f"y{i}", f"x{i}", i + 1)
        for i, name in enumerate(names)
    ))  # fmt: skip


def test_which_layers_share_is_compared():
    """Each shares with one other, and what they read and give is alike."""
    assert difference(pairs("w", "w", "v", "v"), pairs("v", "v", "w", "w")) is None
    found = difference(pairs("w", "w", "v", "v"), pairs("w", "v", "w", "v"))

    assert str(found) == (
        "layer 'x0' (Convolution) shares its weight with 'x1'; "
        "the other net has other layers that do"
    )


def test_no_spec_makes_a_net_that_shares(tmp_path):
    from resnet_proto.build import deploy_net
    from resnet_proto.spec import ResNetSpec

    spec = ResNetSpec(stages=(2,), width=(5,), stem_width=5, input_size=40, classes=3)
    net = deploy_net(spec)
    names = [layer.name for layer in net.layers if layer.type == "Convolution"]
    text = to_prototxt(net)
    assert recognize(parse_net(text)).stages == (2,)

    for name in names[-2:]:  # of one block
        head = f'name: "{name}"\n  type: "Convolution"\n'
        assert head in text
        text = text.replace(head, f'{head}  param {{ name: "w" }}\n')

    with pytest.raises(NetError, match="has shared weight 2; expected unset"):
        recognize(parse_net(text))


def test_names_go_through_training_and_back():
    net = shared("w", "", "w")
    training = Training(data="dummy", mean=(), decay="weights")

    trained = to_train_val(net, training)

    assert trained.sharing() == net.sharing()
    assert [step.parameters for step in trained.walk("TRAIN") if step.blobs][:3] == [84, 84, 3]
    params = {layer.name: layer.fields.get("param") for layer in trained.layers}
    assert params["a"] == params["c"] == (
        {"name": "w", "lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0},
    )  # fmt: skip
    assert params["b"] == ({"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0})
    back = to_deploy(trained)
    assert difference(back, net.with_input_shapes({"": (1, 3, 7, 7)})) is None
    assert [layer.fields.get("param") for layer in back.layers[:3]] == [
        ({"name": "w"},), None, ({"name": "w"},),
    ]  # fmt: skip


def test_what_is_shared_is_not_half_frozen():
    training = Training(data="dummy", mean=(), freeze="b")

    assert to_train_val(shared("w", "w", ""), training)
    with pytest.raises(NetError, match=r"lr_mult of its weight is 1, and layer 'a' has 0"):
        to_train_val(
            shared("w", "", "w"), Training(data="dummy", mean=(), freeze="b", decay="weights")
        )


def test_a_classifier_that_shares_has_no_other_classes():
    text = DATA + ip("x", "data", 5, 'name: "w"') + ip("fc", "data", 5, 'name: "%s"')

    assert with_classes(parse_net(text % "v"), 7).layers[-1].num_output == 7
    with pytest.raises(NetError, match=r"'fc' .* shares its weights with another layer"):
        with_classes(parse_net(text % "w"), 7)


def test_check_walks_a_net_that_shares():
    wrong = to_prototxt(shared("w", "w", "")).replace("num_output: 3", "num_output: 4", 1)

    assert not check_text(to_prototxt(shared("w", "w", "")), "n").findings
    (found,) = check_text(wrong, "n").findings
    assert (found.rule, found.layers) == ("does-not-fit", ("b",))
    assert "it shares 'w' with 'a.weight', so 4x3x3x3 is needed" in found.reason


def test_onnx_has_it_once():
    net = shared("w", "", "w")

    names = [value.name for value in to_onnx(net, random_weights(net)).graph.initializer]

    assert names.count("a.weight") == 1
    assert "c.weight" not in names
    assert {"b.weight", "a.bias", "c.bias"} <= {*names}


def test_plain_arrays_may_have_one_copy_or_several():
    net = shared("w", "", "w")
    weights = dict(random_weights(net).items())
    *_, c = (step for step in net.walk() if step.label == "c")
    assert "c.weight" not in weights

    np.testing.assert_array_equal(step_blobs(c, weights, "float32")[0], weights["a.weight"])
    later = {**weights, "c.weight": weights["a.weight"] + 1}
    a = next(step for step in net.walk() if step.label == "a")
    np.testing.assert_array_equal(step_blobs(a, later, "float32")[0], later["c.weight"])
    earlier = {"c.weight": later["c.weight"], **weights}
    np.testing.assert_array_equal(step_blobs(c, earlier, "float32")[0], weights["a.weight"])
    del weights["a.weight"]
    for none in (weights, Weights.of(weights)):
        with pytest.raises(WeightsError, match="weight is missing in the weights"):
            step_blobs(c, none, "float32")


def test_a_net_that_shares_nothing_is_written_as_it_was(tmp_path):
    """Names that occur once are names and nothing more."""
    net, lone = shared("w", "", "v"), shared("", "", "")
    weights = random_weights(lone)
    for file in ("a.npz", "a.safetensors"):
        save(tmp_path / file, weights, net)
        with load(tmp_path / file) as stored:
            assert [*stored] == [*weights]


def test_many_that_share_take_no_time():
    """A thousand layers with one weight: keys are looked up, not searched for."""
    n = 1000
    net = parse_net(DATA + "".join(ip(f"x{i}", "data", 5, 'name: "w"') for i in range(n)))

    assert sum(step.parameters for step in net.walk()) == 5 * 147 + 5 * n
    assert len(random_weights(net)) == n + 1
