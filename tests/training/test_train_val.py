"""Deploy net <-> train_val net."""

from dataclasses import replace

import pytest

from resnet_proto.build import deploy_net
from resnet_proto.errors import NetError
from resnet_proto.layers import BatchNorm, Convolution, make_layer
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.recipe import Training
from resnet_proto.spec import ResNetSpec
from resnet_proto.training.train_val import to_deploy, to_train_val

DATA_AND_LOSS = {"Input", "Data", "SoftmaxWithLoss", "Accuracy", "Softmax"}
FILLERS = {"weight_filler", "bias_filler"}


def stripped(net):
    """What deploy and train_val must share: everything but data, loss, fillers, rates."""
    rows = []
    for row in net.canonical():
        if row["type"] in DATA_AND_LOSS:
            continue
        fixed = row["param"].get("weight_filler", {}).get("type") == "constant"
        gate = row["param"].get("bias_filler", {}).get("value", 0) < 0
        kept = {k: v for k, v in row["param"].items() if k not in FILLERS or fixed or gate}
        kept.pop("use_global_stats", None)
        if gate:
            kept.pop("weight_filler")
        fields = {k: v for k, v in row["fields"].items() if k != "param"}
        rows.append({**row, "param": kept, "fields": fields})
    return rows


def find(net, type):
    return [layer for layer in net.layers if layer.type == type]


@pytest.mark.parametrize("name", PRESETS)
def test_differs_from_deploy_only_in_data_loss_fillers_rates_and_statistics(name):
    spec = PRESETS[name].spec
    deploy = deploy_net(spec)

    train_val = to_train_val(deploy, spec.training)

    assert stripped(train_val) == stripped(deploy)
    assert [layer.type for layer in train_val.layers[:2]] == ["Data", "Data"]
    assert [layer.type for layer in train_val.layers[-3:]] == [
        "SoftmaxWithLoss", "Accuracy", "Accuracy"
    ]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_the_way_back_gives_the_deploy_net(name):
    spec = PRESETS[name].spec
    deploy = deploy_net(spec)

    again = to_deploy(to_train_val(deploy, spec.training))

    assert again.canonical() == deploy.canonical()


@pytest.mark.parametrize("name", ["resnet-18", "cifar-resnet-20", "se-resnet-50"])
def test_nothing_is_left_constant_and_no_statistics_are_learned(name):
    """BatchNorm with a rate destroys its statistics; weights without a filler stay 0."""
    spec = PRESETS[name].spec
    net = to_train_val(deploy_net(spec), spec.training)

    assert {"Convolution", "InnerProduct", "BatchNorm", "Scale"} <= {x.type for x in net.layers}
    for layer in net.layers:
        if layer.type in ("Convolution", "InnerProduct") and not layer.fixed:
            assert layer.weight_filler == {"type": "msra"}
        if layer.type == "BatchNorm":
            assert layer.fields["param"] == ({"lr_mult": 0.0, "decay_mult": 0.0},) * 3
            assert layer.use_global_stats is None
        if layer.type == "Scale" and len(layer.bottoms) == 1:
            assert layer.bias_term


def test_zero_padding_keeps_its_fixed_weights():
    net = to_train_val(deploy_net(ResNetSpec(stages=(1, 1), shortcut="A")), Training())

    (fixed,) = [layer for layer in find(net, "Convolution") if layer.fixed]
    assert fixed.weight_filler == {"type": "constant", "value": 1.0}
    assert fixed.fields["param"] == ({"lr_mult": 0.0, "decay_mult": 0.0},)


def test_gates_begin_with_their_bias():
    """Also those of a train_val of the deploy net of a train_val."""
    deploy = deploy_net(ResNetSpec(stages=(1,), highway=True, gate_bias=-2.0))
    net = to_train_val(deploy, Training())

    assert to_deploy(net).canonical() == deploy.canonical()
    gates = [layer for layer in find(net, "Convolution") if "transform" in layer.name]
    assert [layer.bias_filler for layer in gates] == [{"type": "constant", "value": -2.0}]
    assert gates[0].weight_filler == {"type": "msra"}


SMALL = ResNetSpec("small", (1, 1), width=(4,), stem_width=4, classes=5, input_size=32)


def test_database_and_phases():
    training = Training(batch=7, test_images=90, test_batch=40, mean=(1.0, 2.0, 3.5), scale=0.5)

    train, test = find(to_train_val(deploy_net(SMALL), training), "Data")

    assert train.fields["include"] == ({"phase": "TRAIN"},)
    assert train.fields["transform_param"] == {
        "crop_size": 32, "mirror": True, "mean_value": (1.0, 2.0, 3.5), "scale": 0.5
    }  # fmt: skip
    assert train.fields["data_param"] == {
        "source": "train_lmdb", "batch_size": 7, "backend": "LMDB"
    }  # fmt: skip
    assert test.fields["include"] == ({"phase": "TEST"},)
    assert "mirror" not in test.fields["transform_param"]
    assert test.fields["data_param"]["batch_size"] == 30  # the largest divisor of 90 up to 40


@pytest.mark.parametrize(
    ("values", "type", "message", "expected"),
    [
        (
            {"data": "leveldb", "mean_file": "m.binaryproto"}, "Data", "transform_param",
            {"crop_size": 32, "mirror": True, "mean_file": "m.binaryproto"},
        ),
        (
            {"data": "image-list", "train_source": "l.txt", "root_folder": "im/", "resize": 40},
            "ImageData", "image_data_param",
            {"source": "l.txt", "batch_size": 32, "root_folder": "im/", "shuffle": True,
             "new_height": 40, "new_width": 40},
        ),
        (
            {"data": "hdf5", "train_source": "l.txt"}, "HDF5Data", "hdf5_data_param",
            {"source": "l.txt", "batch_size": 32, "shuffle": True},
        ),
        (
            {"data": "memory"}, "MemoryData", "memory_data_param",
            {"batch_size": 32, "channels": 3, "height": 32, "width": 32},
        ),
    ],
)  # fmt: skip
def test_other_data(values, type, message, expected):
    net = to_train_val(deploy_net(SMALL), Training(**values))

    first = net.layers[0]
    assert (first.type, first.tops) == (type, ("data", "label"))
    assert first.fields[message] == expected


def test_dummy_data_serves_both_phases():
    net = to_train_val(deploy_net(SMALL), Training(data="dummy", batch=6))

    assert net.layers[0].fields["dummy_data_param"]["shape"] == (
        {"dim": (6, 3, 32, 32)}, {"dim": (6,)}
    )  # fmt: skip
    for phase in ("TRAIN", "TEST"):
        (scores,) = [step for step in net.walk(phase) if "fc5" in step.layer.tops]
        assert scores.tops == ((6, 5),)


def test_decay_on_weights_only():
    net = to_train_val(deploy_net(replace(SMALL, conv_bias=True)), Training(decay="weights"))

    def params(type):
        return find(net, type)[0].fields.get("param")

    assert params("Convolution") == (
        {"lr_mult": 1.0, "decay_mult": 1.0}, {"lr_mult": 1.0, "decay_mult": 0.0}
    )  # fmt: skip
    assert params("Scale") == ({"lr_mult": 1.0, "decay_mult": 0.0},) * 2
    both = find(to_train_val(deploy_net(SMALL), Training()), "Scale")[0]
    assert "param" not in both.fields


def test_finetuning_raises_the_classifiers_rate():
    net = to_train_val(deploy_net(SMALL), Training(finetune=True, classifier_rate=20.0))

    rates = [layer.fields.get("param") for layer in find(net, "InnerProduct")]
    assert rates == [({"lr_mult": 20.0, "decay_mult": 1.0},) * 2]
    assert "param" not in find(net, "Convolution")[0].fields


def test_frozen_up_to_a_blob():
    net = to_train_val(deploy_net(SMALL), Training(freeze="res2a", freeze_batch_norm=False))
    zero = {"lr_mult": 0.0, "decay_mult": 0.0}

    frozen = {
        layer.name
        for layer in net.layers
        if layer.fields.get("param") and set(map(str, layer.fields["param"])) == {str(zero)}
    }
    weights = {layer.name for layer in net.layers if layer.type in ("Convolution", "Scale")}
    assert {name for name in weights if "2a_" in name and "3a" not in name} <= frozen
    assert not {name for name in weights if "3a" in name} & frozen
    by_name = {layer.name: layer for layer in find(net, "BatchNorm")}
    assert by_name["bn2a_branch2a"].use_global_stats is True
    assert by_name["bn3a_branch2a"].use_global_stats is None


def test_frozen_statistics():
    net = to_train_val(deploy_net(SMALL), Training(freeze_batch_norm=True))

    assert {layer.use_global_stats for layer in find(net, "BatchNorm")} == {True}


@pytest.mark.parametrize("name", ["resnet-50", "cifar-resnet-20"])
def test_text_round_trip(name):
    spec = PRESETS[name].spec
    net = to_train_val(deploy_net(spec), spec.training)

    assert read_prototxt(to_prototxt(net)) == net


# ---- nets that others made

WILD = """
name: "wild"
layer { name: "data" type: "Input" top: "pixels" input_param { shape { dim: 10 dim: 1 dim: 12 dim: 12 } } }
layer { name: "c" type: "Convolution" bottom: "pixels" top: "c" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } bias_filler { value: 0.2 } } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" batch_norm_param { use_global_stats: true eps: 0.001 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 4 } }
"""  # noqa: E501


def test_a_net_found_in_the_wild():
    """Its fillers stay; what has none gets one; a softmax need not be there."""
    net = to_train_val(read_prototxt(WILD), Training(mean=(7.0,)))

    assert net.layers[0].tops == ("pixels", "label")
    assert net.layers[0].fields["transform_param"]["crop_size"] == 12
    (convolution,) = find(net, "Convolution")
    assert convolution.weight_filler == {"type": "xavier"}
    assert convolution.bias_filler["value"] == pytest.approx(0.2)
    assert find(net, "BatchNorm")[0].param == {"eps": pytest.approx(0.001)}
    assert find(net, "InnerProduct")[0].weight_filler == {"type": "msra"}
    assert find(net, "SoftmaxWithLoss")[0].bottoms == ("f", "label")


@pytest.mark.parametrize(
    ("text", "training", "message"),
    [
        (WILD + WILD.split("\n")[2].replace('"pixels"', '"more"'), {}, "the inputs pixels, more"),
        (WILD.replace("dim: 12 }", "dim: 13 }"), {"mean": (0.0,)}, "Caffe crops squares"),
        (WILD.replace(" dim: 12 }", " }"), {}, "is 10x1x12; data layers give"),
        (WILD, {}, "mean has 3 values, the net's input 1 channels"),
        (WILD, {"mean": (0.0,), "freeze": "d"}, "no layer writes the blob 'd'"),
        (WILD + 'layer { name: "g" type: "ReLU" bottom: "c" top: "g" }', {"mean": (0.0,)},
         "ends in f, g; one blob of scores"),
        ('input: "x" input_dim: 1 input_dim: 1 input_dim: 2 input_dim: 2 '
         'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }', {"mean": (0.0,)},
         "no layer with weights"),
        (WILD.replace('"f"', '"label"'), {"mean": (0.0,)}, "has the name 'label', which training"),
        (WILD.replace('name: "r"', 'name: "loss"'), {"mean": (0.0,)}, "layer 'loss' .*training"),
    ],
)  # fmt: skip
def test_nets_that_cannot_be_trained_as_they_are(text, training, message):
    with pytest.raises(NetError, match=message):
        to_train_val(read_prototxt(text), Training(**training))


def test_a_train_val_is_no_deploy_net():
    net = to_train_val(deploy_net(SMALL), Training())

    with pytest.raises(NetError, match="has data or loss layers already"):
        to_train_val(net, Training())


TRAINED = """
name: "found"
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 8 } data_param { source: "a" batch_size: 64 backend: LMDB } }
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 10 } data_param { source: "b" batch_size: 9 backend: LMDB } }
layer { name: "flat" type: "Flatten" bottom: "label" top: "flat" }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 3 }
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" param { lr_mult: 0 } param { lr_mult: 0 }
  param { lr_mult: 0 } batch_norm_param { use_global_stats: false } }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" include { phase: TRAIN } }
layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss"
  loss_weight: 0.3 softmax_param { axis: 1 } }
layer { name: "acc" type: "Accuracy" bottom: "f" bottom: "flat" top: "acc" include { phase: TEST } }
"""


def test_deploy_net_of_a_train_val_found_in_the_wild():
    net = to_deploy(read_prototxt(TRAINED))

    assert net.fields == {"input": ("data",), "input_dim": (1, 3, 10, 10)}
    assert [layer.name for layer in net.layers] == ["c", "b", "f", "prob"]
    assert net.layers[0].fields == {"convolution_param": {"num_output": 3, "kernel_size": (3,)}}
    assert net.layers[1].param == {"use_global_stats": True}
    assert net.layers[-1] == make_layer(
        "prob", "Softmax", ("f",), ("prob",), {"softmax_param": {"axis": 1}}
    )


def test_deploy_net_of_another_size():
    net = to_deploy(read_prototxt(TRAINED), (2, 3, 14, 9))

    assert net.inputs() == {"data": (2, 3, 14, 9)}


def test_deploy_net_needs_a_size():
    text = TRAINED.replace("transform_param { crop_size: 10 }", "")

    with pytest.raises(NetError, match="the size of 'data' is not known"):
        to_deploy(read_prototxt(text))
    assert to_deploy(read_prototxt(text), (1, 3, 10, 10)).inputs() == {"data": (1, 3, 10, 10)}


def test_deploy_net_without_data():
    net = Net("n", (Convolution.of("c", "x", "c", num_output=1, kernel_size=1),))

    with pytest.raises(NetError, match="has no data layer in phase TEST"):
        to_deploy(net)


def test_deploy_net_of_a_deploy_net_is_the_same():
    net = deploy_net(SMALL)

    assert to_deploy(net).canonical() == net.canonical()
    assert isinstance(to_deploy(net).layers[1], BatchNorm)


def test_deploy_net_of_a_net_with_an_auxiliary_loss():
    """Each has probabilities of its own."""
    more = (
        TRAINED
        + """
layer { name: "g" type: "InnerProduct" bottom: "c" top: "g" inner_product_param { num_output: 4 } }
layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "g" bottom: "label" top: "loss2" }
"""
    )

    net = to_deploy(read_prototxt(more))

    assert [layer.name for layer in net.layers if layer.type == "Softmax"] == ["prob", "g_prob"]
    assert len(list(net.walk())) == len(net.layers) + 1


def test_deploy_net_of_several_inputs_is_refused():
    text = """
input: "data" input_shape { dim: 1 dim: 4 } input: "more" input_shape { dim: 1 dim: 4 }
layer { name: "s" type: "Eltwise" bottom: "data" bottom: "more" top: "s" }
"""
    with pytest.raises(NetError, match="reads blob 'more', which no layer before it writes"):
        to_deploy(read_prototxt(text))


def test_deploy_net_of_a_loss_without_bottoms():
    loss = 'layer { name: "l" type: "SoftmaxWithLoss" %s top: "l" }'

    with pytest.raises(NetError, match=r"layer 'l' \(SoftmaxWithLoss\) has no bottom; give it the"):
        to_deploy(read_prototxt(TRAINED + loss % ""))
    assert to_deploy(read_prototxt(TRAINED + loss % 'bottom: "c" bottom: "label"'))
