"""Bytes for a batch, against Caffe's log, sums by hand, and those over the released nets."""

import os
import re
import subprocess
from dataclasses import replace

import pytest
import wild

from resnet_proto.build import deploy_net
from resnet_proto.errors import NetError
from resnet_proto.layers import make_layer
from resnet_proto.memory import KINDS, as_json, batch_size, human, memory, table, with_batch
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.recipe import Training
from resnet_proto.training.train_val import to_train_val

READ = "import caffe, sys\nfor path in sys.argv[1:]: caffe.Net(path, caffe.TEST)"


def net_of(layers, shape="dim: 5 dim: 3 dim: 7 dim: 9"):
    return read_prototxt(f"input: 'data' input_shape {{ {shape} }}\n{layers}")


def kinds(net, phase="train"):
    """Floats of each kind that takes any."""
    found = memory(net, phases=(phase,)).phases[phase]
    return {kind: size // 4 for kind, size in found.items() if size}


@pytest.mark.parametrize(
    ("depth", "values"), [(50, 16_461_776), (101, 24_991_696), (152, 35_528_656)]
)
def test_distinct_blobs_of_the_released_nets(depth, values):
    """Sums over the authors' files: 65.8, 100.0 and 142.1 MB for one image, in place once."""
    net = deploy_net(PRESETS[f"resnet-{depth}"].spec)

    assert kinds(net, "test")["data"] == values


ORACLE_NETS = ["resnet-50", "cifar-resnet-20", "preact-resnet-18", "se-resnet-50"]


def test_caffe_logs_the_same_number(caffe_python, tmp_path):
    """Its "Memory required for data" counts every top, those in place and those of Splits too."""
    paths, ours = [], []
    for name, batch in zip(ORACLE_NETS, (2, 3, 5, 1), strict=True):
        net = with_batch(deploy_net(PRESETS[name].spec), batch)
        paths.append(tmp_path / f"{name}.prototxt")
        paths[-1].write_text(to_prototxt(net))
        ours.append(memory(net, phases=("test",)).logged["test"])

    done = subprocess.run(
        [caffe_python, "-c", READ, *paths],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
    )

    _, *logs = done.stderr.split("Initializing net from")
    assert [int(re.findall(r"Memory required for data: (\d+)", log)[-1]) for log in logs] == ours


def test_layers_by_hand():
    """In place shares; a Split has gradients for each reader; BatchNorm keeps its input twice."""
    net = net_of(
        """
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false } }
        layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
        layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
        layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "conv" top: "sum" }
        """
    )
    images, place = 5, 7 * 9
    made = images * 4 * place
    weights = 4 * 3 * 9 + (4 + 4 + 1)

    assert kinds(net) == {
        "weights": weights,
        "gradients": weights,
        "momentum": weights,
        "data": images * 3 * place + 2 * made,  # data, conv, sum
        "diff": 2 * made + 2 * made,  # conv, sum; two readers of conv; none of data
        "batch_norm": 3 * made + 2 * 4 + images + images * 4 + place,
        "columns": 3 * 9 * place,
    }
    assert kinds(net, "test")["batch_norm"] == 2 * made + 2 * 4 + images + images * 4 + place
    # data, conv and what is done with it twice, two of the Split, sum
    assert memory(net).logged["test"] == 4 * (images * 3 * place + 3 * made + 2 * made + made)


def test_a_split_that_is_written_costs_what_caffes_own_does():
    """Its tops share values, and have a gradient each: split_layer.cpp."""
    conv = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                      convolution_param { num_output: 4 kernel_size: 1 } }"""
    joined = 'layer { name: "s" type: "Eltwise" bottom: "A" bottom: "B" top: "s" }'
    split = 'layer { name: "two" type: "Split" bottom: "conv" top: "a" top: "b" }'

    own = net_of(conv + joined.replace('"A"', '"conv"').replace('"B"', '"conv"'))
    written = net_of(conv + split + joined.replace('"A"', '"a"').replace('"B"', '"b"'))

    assert kinds(written) == kinds(own)


def test_out_of_place_batch_norm_and_scale_keep_less():
    layers = """
    layer { name: "bn" type: "BatchNorm" bottom: "data" top: "NAME" }
    layer { name: "scale" type: "Scale" bottom: "NAME" top: "SECOND" }
    """
    apart = net_of(layers.replace("NAME", "bn").replace("SECOND", "scale"))
    within = net_of(layers.replace("NAME", "bn").replace("SECOND", "bn"))
    values = 5 * 3 * 7 * 9

    assert kinds(within)["scale"] - kinds(apart)["scale"] == values
    assert kinds(apart)["data"] - kinds(within)["data"] == values
    assert kinds(apart)["batch_norm"] == 2 * values + 2 * 3 + 5 + 15 + 63


@pytest.mark.parametrize(
    ("layer", "kind", "values"),
    [
        ("Convolution { num_output: 4 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 "
         "bias_term: false }", "columns", 3 * 6 * 3 * 8),
        ("Convolution { num_output: 6 kernel_size: 3 pad: 1 group: 3 bias_term: false }",
         "columns", 3 * 9 * 7 * 9),
        ("Convolution { num_output: 4 kernel_size: 1 bias_term: false }", "columns", 0),
        ("Convolution { num_output: 4 kernel_size: 1 stride: 2 bias_term: false }",
         "columns", 3 * 4 * 5),
        ("Convolution { num_output: 4 kernel_size: 1 pad: 1 bias_term: false }",
         "columns", 3 * 9 * 11),
        ("Deconvolution { num_output: 4 kernel_size: 4 stride: 2 bias_term: false }",
         "columns", 4 * 16 * 7 * 9),
        ("Convolution { num_output: 4 kernel_size: 1 }", "other", 7 * 9),
        ("Pooling { kernel_size: 3 stride: 2 }", "masks", 5 * 3 * 3 * 4),
        ("Pooling { pool: AVE kernel_size: 3 stride: 2 }", "masks", 0),
        ("Dropout { dropout_ratio: 0.3 }", "masks", 5 * 3 * 7 * 9),
        ("Softmax { axis: 1 }", "other", 5 * 7 * 9 + 3),
        ("InnerProduct { num_output: 11 }", "other", 5),
        ("DepthwiseConvolution { num_output: 3 kernel_size: 3 group: 3 bias_term: false }",
         "columns", 3 * 9 * 5 * 7),
        ("ConvolutionDepthwise { num_output: 3 kernel_size: 3 bias_term: false }",
         "columns", 5 * 5 * 7 * 3 * 9),
        ("ConvolutionDepthwise { num_output: 3 kernel_size: 3 }", "other", 2 * 5 * 5 * 7),
        ("BN { eps: 0.001 }", "batch_norm", 2 * 5 * 3 * 63 + 5 * 3 + 2 * 3 + 5 + 63),
        ("BN { frozen: true }", "batch_norm", 5 * 3 * 63 + 5 * 3 + 2 * 3 + 5 + 63),
        ("Normalize { across_spatial: true }", "other", 3 * 63 + 5 + 2 * (3 + 63)),
        ("Normalize { across_spatial: false }", "other", 3 * 63 + 5 * 63 + 2 * (3 + 63)),
    ],
)  # fmt: skip
def test_what_a_layer_keeps(layer, kind, values):
    type, fields = layer.split(" ", 1)
    message = {
        "InnerProduct": "inner_product",
        "Normalize": "norm",
        **dict.fromkeys(
            ("ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution"), "convolution"
        ),
    }
    net = net_of(
        f'layer {{ name: "x" type: "{type}" bottom: "data" top: "x" '
        f"{message.get(type, type.lower())}_param {fields} }}"
    )

    assert kinds(net).get(kind, 0) == values


def test_axpy_keeps_ones_and_a_permute_that_does_nothing_is_no_new_blob():
    still, turned = (
        kinds(
            net_of(
                wild.layer("Pooling", "g", "data", more="pooling_param { global_pooling: true }")
                + wild.layer("Axpy", "x", "g data data")
                + wild.layer("Permute", "p", "x", more=f"permute_param {{ order: {order} }}")
            ),
            "test",
        )
        for order in (0, 2)
    )

    assert still["other"] == 7 * 9
    assert turned["data"] - still["data"] == 5 * 3 * 7 * 9


def test_pooling_with_its_mask_as_a_top_keeps_none():
    net = net_of(
        'layer { name: "x" type: "Pooling" bottom: "data" top: "x" top: "mask" '
        "pooling_param { kernel_size: 3 } }"
    )

    assert "masks" not in kinds(net)


def test_reshaped_blobs_are_no_new_ones():
    net = net_of('layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }')

    assert kinds(net) == {"data": 5 * 3 * 7 * 9}


def test_a_frozen_trunk_has_no_gradients():
    """net.cpp: nothing before the first weight with a rate goes backward."""
    layer = """
    layer { name: "NAME" type: "InnerProduct" bottom: "BOTTOM" top: "NAME" RATES
            inner_product_param { num_output: 4 } }
    """
    first = layer.replace("NAME", "a").replace("BOTTOM", "data")
    rates = "param { lr_mult: 0 } param { lr_mult: 0 }"
    second = layer.replace("NAME", "b").replace("BOTTOM", "a").replace("RATES", "")

    assert kinds(net_of(first.replace("RATES", "") + second))["diff"] == 5 * 4 + 5 * 4
    assert kinds(net_of(first.replace("RATES", rates) + second))["diff"] == 5 * 4


def test_the_batch_is_the_first_axis():
    net = deploy_net(PRESETS["cifar-resnet-20"].spec)
    one, eight = (memory(net, batch) for batch in (1, 8))

    assert eight.phases["train"]["data"] == 8 * one.phases["train"]["data"]
    assert eight.phases["train"]["weights"] == one.phases["train"]["weights"]
    assert eight.phases["test"]["columns"] == one.phases["test"]["columns"]  # of one image
    assert [one.batch, eight.batch] == [1, 8]
    assert memory(net).batch == 1


@pytest.mark.parametrize("data", ["lmdb", "image-list", "hdf5", "memory", "dummy"])
def test_the_batch_of_data_layers(data):
    training = Training(data=data, batch=24, test_batch=20)
    net = to_train_val(deploy_net(PRESETS["resnet-18"].spec), training)

    assert batch_size(net, "TRAIN") == 24
    assert batch_size(net, "TEST") == (24 if data == "dummy" else 20)
    assert {batch_size(with_batch(net, 7), phase) for phase in ("TRAIN", "TEST")} == {7}


def test_loss_and_accuracy_are_counted_on_their_bottoms():
    """As a train_val net has them; softmax_loss_layer.cpp keeps the probabilities."""
    net = net_of('layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" '
                 "inner_product_param { num_output: 11 bias_term: false } }")  # fmt: skip
    label = make_layer(
        "label", "Input", (), ("label",), {"input_param": {"shape": ({"dim": (5,)},)}}
    )
    ends = (
        make_layer("loss", "SoftmaxWithLoss", ("fc", "label"), ("loss",)),
        make_layer("accuracy", "Accuracy", ("fc", "label"), ("accuracy",)),
    )
    judged = replace(net, layers=(*net.layers, label, *ends))

    more = {k: v - kinds(net).get(k, 0) for k, v in kinds(judged).items()}

    # both read the scores, so a Split; its gradients, the loss's and the accuracy's
    assert {k: v for k, v in more.items() if v} == {
        "data": 5 + 2, "diff": 2 * 5 * 11 + 2, "other": 5 * 11 + 5 + 11
    }  # fmt: skip


def test_totals_and_table():
    found = memory(deploy_net(PRESETS["resnet-50"].spec), 32)
    lines = list(table(found))

    assert found.totals["train"] == sum(found.phases["train"].values()) == 11_454_853_060
    shared = found.phases["test"]["weights"]
    assert found.totals["both"] == found.totals["train"] + found.totals["test"] - shared
    assert lines[0].split() == ["ResNet-50,", "batch", "32:", "bytes", "train", "test"]
    assert lines[2].split()[-2:] == ["102,441,076", "102,441,076"]
    assert [line.split()[0] for line in lines if line.startswith("total")] == ["total"]
    assert any("10.7 GiB" in line for line in lines)
    assert set(as_json(found)["phases"]["test"]) == set(KINDS)


def test_each_phase_has_its_batch():
    training = Training(data="memory", batch=24, test_batch=20)
    net = to_train_val(deploy_net(PRESETS["cifar-resnet-20"].spec), training)
    found = memory(net)
    shown = as_json(found)

    assert (shown["batch"], shown["batches"]) == (None, {"train": 24, "test": 20})
    assert next(table(found)).split("  ")[0] == "ResNet-20: bytes"
    assert next(table(found)).endswith("  train, batch 24  test, batch 20")
    assert "ResNet-20, batch 20: bytes" in next(table(memory(net, phases=("test",))))
    same = as_json(memory(net, 7))
    assert (same["batch"], same["batches"]) == (7, {"train": 7, "test": 7})


def test_a_small_batch_is_warned_of():
    net = deploy_net(PRESETS["resnet-18"].spec)
    without = Net(
        "x", tuple(layer for layer in net.layers if layer.type != "BatchNorm"), net.fields
    )

    assert "batch 15 is under 16" in memory(net, 15).warnings[0]
    assert memory(net, 16).warnings == memory(without, 15).warnings == ()
    assert memory(net, 2, ("test",)).warnings == ()


@pytest.mark.parametrize("batch", [0, -1, 2**31])
def test_refused_batches(batch):
    with pytest.raises(NetError, match="expected 1 to"):
        memory(deploy_net(PRESETS["resnet-18"].spec), batch)


def test_a_net_that_is_too_large_for_caffe():
    with pytest.raises(NetError, match="Caffe's limit"):
        memory(deploy_net(PRESETS["resnet-18"].spec), 1_000_000)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (2048, "2.00 KiB"),
        (3_211_264, "3.06 MiB"),
        ((1 << 20) - 1, "1.00 MiB"),
        (7 << 29, "3.50 GiB"),
        (12 << 30, "12.0 GiB"),
    ],
)
def test_human(size, text):
    assert human(size) == text
