"""A classifier for other classes."""

from dataclasses import replace

import pytest
import wild

from resnet_proto.build import deploy_net
from resnet_proto.errors import NetError
from resnet_proto.graph import difference
from resnet_proto.layers import make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt
from resnet_proto.spec import ResNetSpec
from resnet_proto.training.classifier import with_classes

SPEC = ResNetSpec("small", (1, 1), width=(4,), stem_width=4, classes=10, input_size=32)


def test_everything_else_stays():
    net = with_classes(deploy_net(SPEC), 37)

    assert net == deploy_net(replace(SPEC, classes=37))


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("fc1000", 37, "fc37"),
        ("fc1000", 1000, "fc1000_finetune"),
        ("fc1000", None, "fc1000_finetune"),
        ("fc", 37, "fc_finetune"),
        ("fc10001", 37, "fc10001_finetune"),
        ("1000-way", 37, "37-way"),
        ("loss3/classifier", 1, "loss3/classifier_finetune"),
    ],
)
def test_name(name, classes, expected):
    """Always another one, or Caffe would copy weights of other shapes, and end."""
    net = read_prototxt(wild.data() + wild.head("data", fc=name))

    found = with_classes(net, classes)

    assert [layer.name for layer in found.layers] == ["data", "pool5", expected, "prob"]
    assert found.layers[2].num_output == (classes or 1000)
    assert found.layers[3].bottoms == found.layers[2].tops == (expected,)


def test_a_name_that_is_taken():
    """fc37 is a layer, fc37_finetune a blob."""
    text = wild.data() + wild.layer("ReLU", "fc37", "data", "fc37_finetune")
    net = read_prototxt(text + wild.head("fc37_finetune"))

    assert with_classes(net, 37).layers[-2].name == "fc37_finetune_finetune"


def test_a_top_of_its_own_name_stays():
    net = read_prototxt(wild.data() + wild.layer("InnerProduct", "fc10", "data", "scores",
                        "inner_product_param { num_output: 10 }")
                        + wild.layer("Dropout", "drop", "scores", "scores"))  # fmt: skip

    found = with_classes(net, 3)

    assert str(difference(net, found)) == (
        "layer 'fc10' (InnerProduct) has num_output 10; the other net has 3"
    )
    assert [layer.tops for layer in found.layers[1:]] == [("scores",), ("scores",)]


def test_readers_in_place_follow():
    text = wild.data() + wild.head("data", fc="fc10", classes=10)
    text += wild.layer("ReLU", "relu", "fc10", "fc10")

    found = with_classes(read_prototxt(text), 3)

    assert found.layers[-1].bottoms == found.layers[-1].tops == ("fc3",)


def test_the_last_layer_with_weights_is_a_matrix():
    net = read_prototxt(wild.data() + wild.conv("conv10", "data", 1000, 1))

    with pytest.raises(NetError, match=r"layer 'conv10' \(Convolution\) is the last with weights"):
        with_classes(net, 3)


def test_no_weights():
    net = Net("n", (make_layer("r", "ReLU", ("data",), ("r",)),), {"input": ("data",)})

    with pytest.raises(NetError, match="no layer with weights"):
        with_classes(net, 3)
