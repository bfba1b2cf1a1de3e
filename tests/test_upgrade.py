"""Trees of older formats; ``oracles/test_upgrade_tools.py`` holds them against Caffe's tools."""

import random

import pytest
from old_nets import CAFFENET, MANY, NETS, V0

from resnet_proto import read_prototxt
from resnet_proto.check import check_text
from resnet_proto.errors import NetError, PrototxtError, ResNetProtoError
from resnet_proto.graph import difference
from resnet_proto.memory import memory
from resnet_proto.net import Net
from resnet_proto.prototxt import to_prototxt
from resnet_proto.report.summary import summarize
from resnet_proto.schema import fields
from resnet_proto.text_format import parse
from resnet_proto.training.train_val import to_deploy
from resnet_proto.upgrade import (
    SOLVER_TYPES,
    V0_DROPPED,
    V0_FIELDS,
    V0_MESSAGES,
    V0_TRANSFORM,
    V0_TYPES,
    V1_TYPES,
    upgraded,
)


def tree(text, done=None, warnings=None):
    return upgraded(parse(text, "NetParameter"), done, warnings)


# ---- the tables have what the schema has


def test_every_v1_type():
    """In the order of the numbers, by which binary files have them."""
    numbers = fields("V1LayerParameter")["type"].values

    assert list(numbers) == list(V1_TYPES)
    assert list(numbers.values()) == list(range(len(V1_TYPES)))
    assert set(V0_TYPES.values()) < set(V1_TYPES)


def test_every_v1_field_has_a_place():
    """Those that have a field of their name keep it; the others become ``param``."""
    old, new = fields("V1LayerParameter"), fields("LayerParameter")

    assert old.keys() - new.keys() == {"layer", "blobs_lr", "weight_decay", "blob_share_mode"}
    for name in old.keys() & new.keys() - {"type", "param"}:
        assert (old[name].kind, old[name].message) == (new[name].kind, new[name].message)


def test_every_v0_field_has_a_place():
    kept = {"name", "type", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param"}

    assert {*V0_FIELDS, *V0_TRANSFORM, *V0_DROPPED, *kept} == fields("V0LayerParameter").keys()
    for name, types in V0_FIELDS.values():
        for type in types.split():
            assert name in fields(fields("V1LayerParameter")[V0_MESSAGES[type]].message)


def test_every_solver_type():
    assert list(SOLVER_TYPES) == list(fields("SolverParameter")["solver_type"].values)


# ---- what becomes of single fields


def test_rates_become_param():
    """As many as the longest list has: upgrade_proto.cpp, UpgradeV1LayerParameter."""
    (layer,) = tree(
        "layers { type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 weight_decay: 0 param: 'w' "
        "blob_share_mode: STRICT blob_share_mode: 1 blob_share_mode: 0 }"
    )["layer"]

    assert layer == {
        "type": "Convolution",
        "param": (
            {"name": "w", "share_mode": "STRICT", "lr_mult": 1.0, "decay_mult": 0.0},
            {"share_mode": "PERMISSIVE", "lr_mult": 2.0},
            {"share_mode": "STRICT"},
        ),
    }


def test_transformation_fields():
    """If one layer has any, others of such types get empty messages too."""
    data, images, other = tree(
        "layers { type: DATA data_param { batch_size: 3 scale: 2 mirror: true } "
        "transform_param { scale: 4 crop_size: 5 } }"
        "layers { type: IMAGE_DATA } layers { type: MEMORY_DATA }"
    )["layer"]

    assert data["data_param"] == {"batch_size": 3}
    assert data["transform_param"] == {"scale": 2.0, "crop_size": 5, "mirror": True}
    assert images == {"type": "ImageData", "image_data_param": {}, "transform_param": {}}
    assert other == {"type": "MemoryData"}


def test_padding_goes_into_what_reads_it():
    net = read_prototxt(V0)
    pads = {x.name: x.param["pad"] for x in net.layers if "pad" in x.param}

    assert pads == {"pool1": 1, "conv2": (2,)}
    assert {x.name: x.bottoms for x in net.layers if x.name in pads} == {
        "pool1": ("conv1",), "conv2": ("norm1",),
    }  # fmt: skip
    assert not any("pad" in x.name for x in net.layers)


def test_padding_goes_before_the_layer_s_own():
    text = V0.replace('name: "conv2"', 'name: "conv2" pad: 7')
    assert read_prototxt(text) == read_prototxt(V0)
    text = text.replace('"padding" pad: 2', '"padding"')
    conv2 = next(x for x in read_prototxt(text).layers if x.name == "conv2")
    assert conv2.param["pad"] == (0,)


# ---- what is said


def test_what_was_done():
    def done(text):
        found = []
        tree(text, found)
        return found

    assert done(CAFFENET) == ["V1 layers", "transformation fields of data layers"]
    assert done(MANY) == ["V1 layers", "old inputs"]
    assert done(V0) == ["V0 layers", "old inputs"]
    assert done('input: "x" layer { }') == ["inputs without sizes, left out"]
    rates = 'layer { type: "BatchNorm" param {} param {} param { lr_mult: 0 decay_mult: 0 } }'
    assert done(rates * 2) == ["rates of 2 BatchNorm layers"]
    again = to_prototxt(Net(fields=tree(rates)))
    assert done(again) == done("layer { }") == done("input_dim: 3") == []


def test_what_is_lost():
    """Caffe says no word of it."""
    warnings = []
    text = V0.replace("force_backward", 'state { stage: "x" } debug_info: true force_backward')
    text = text.replace('name: "fc8"', 'name: "fc8" new_num: 3')
    text = text.replace('bottom: "cat" top: "fc8"', 'bottom: "cat" top: "fc8" loss_weight: 1')

    net = read_prototxt(text, warnings=warnings)

    assert net == read_prototxt(V0)
    assert warnings == [
        "<text>: Caffe drops what a net with V0 layers has besides: state, debug_info",
        "<text>: layer 'fc8' (V0 type 'innerproduct'): Caffe drops loss_weight, new_num",
    ]


def test_refused_with_the_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("layers { } layer { }")

    with pytest.raises(PrototxtError, match=r"net.prototxt: the net has both 'layer' and"):
        read_prototxt(path)
    with pytest.raises(NetError, match=r"^the net has 3 input_dim for 1 input: four"):
        tree('input: "x" input_dim: [1, 2, 3] layers { type: RELU }')


@pytest.mark.parametrize("name", NETS)
def test_mutated_text(name):
    """Old text with random damage is refused, or is a net that can be written and read back."""
    rng = random.Random(name)
    bits = [*'{}[]:,"', "layer", "layers", "pad: 1", "type: 3", '"padding"', '"conv"', "bottom", ""]
    taken = 0
    for _ in range(150):
        text = NETS[name]
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(text) + 1)
            end = start + rng.choice([0, 0, 1, 3, 20])
            text = text[:start] + rng.choice(bits) + text[end:]
        try:
            net = read_prototxt(text, lenient=rng.random() < 0.5)
        except ResNetProtoError as error:
            str(error).encode()  # can be shown
        else:
            taken += 1
            assert read_prototxt(to_prototxt(net), lenient=True) == net
    assert 2 < taken < 148


# ---- old nets are nets


@pytest.mark.parametrize("name", NETS)
def test_upgraded_twice_is_upgraded_once(name):
    """And what is read of the old text is the net of the new one."""
    once = tree(NETS[name])

    assert upgraded(once) == once
    net = read_prototxt(NETS[name])
    new = read_prototxt(message(once))
    assert new.canonical() == net.canonical()
    assert difference(new, net) is None
    assert read_prototxt(to_prototxt(net)) == net


def message(once):
    return to_prototxt(Net(fields=once))


def test_more_rates_than_blobs():
    """Not the upgrade refuses that, but the net: net.cpp, Init."""
    net = read_prototxt(NETS["lenet"].replace("blobs_lr: 1.", "blobs_lr: 1. blobs_lr: 2."))

    assert len(list(read_prototxt(NETS["lenet"]).walk())) == 7
    with pytest.raises(NetError, match=r"layer 'ip1' .* has 3 param for 2 blobs"):
        list(net.walk())


def test_an_old_train_val_net_is_worked_with():
    """Rules of phases, a deploy net, memory and checks."""
    net = read_prototxt(CAFFENET)
    shapes = {"data": (2, 3, 61, 61), "label": (2,)}

    assert net.filtered("TRAIN").layers[0].fields["data_param"]["batch_size"] == 4
    rows = {row.layer: row for row in summarize(net, "TEST").rows}
    assert rows["conv1"].tops == {"conv1": (2, 6, 13, 13)}
    assert rows["accuracy"].type == "Accuracy"
    deploy = to_deploy(net, (1, 3, 61, 61))
    assert [layer.type for layer in deploy.layers][-1] == "Softmax"
    assert memory(net, 2, ("train",), {"": shapes["data"]}).batch == 2
    report = check_text(CAFFENET, "net.prototxt")
    assert not any("unreadable" in line for line in report.lines())
