"""State dicts of torchvision and timm -> nets. The packages' own models are in oracles/."""

import json
import re

import numpy as np
import pytest

from resnet_proto import Net, forward, load, random_weights, save, to_prototxt
from resnet_proto.check import check_text
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.layers import Convolution, Input
from resnet_proto.state_dict import is_state_dict, net_of_state_dict
from resnet_proto.weights import Weights

RNG = np.random.default_rng(7)


def norm(key, n):
    return {
        f"{key}.weight": RNG.uniform(0.5, 1, n),
        f"{key}.bias": RNG.normal(size=n),
        f"{key}.running_mean": RNG.normal(size=n),
        f"{key}.running_var": RNG.uniform(0.5, 2, n),
        f"{key}.num_batches_tracked": np.array(3),
    }


def conv(key, bn, *shape):
    return {f"{key}.weight": RNG.normal(size=shape), **norm(bn, shape[0])}


def state_dict(**changes):
    """Two stages of one basic unit, as torchvision's keys would be; None takes a key away."""
    state = {
        **conv("conv1", "bn1", 6, 3, 7, 7),
        **conv("layer1.0.conv1", "layer1.0.bn1", 6, 6, 3, 3),
        **conv("layer1.0.conv2", "layer1.0.bn2", 6, 6, 3, 3),
        **conv("layer2.0.conv1", "layer2.0.bn1", 10, 6, 3, 3),
        **conv("layer2.0.conv2", "layer2.0.bn2", 10, 10, 3, 3),
        **conv("layer2.0.downsample.0", "layer2.0.downsample.1", 10, 6, 1, 1),
        "fc.weight": RNG.normal(size=(4, 10)),
        "fc.bias": RNG.normal(size=4),
    }
    state = {k: v if v.ndim == 0 else v.astype(np.float32) for k, v in state.items()}
    state |= {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in state.items() if value is not None}


def weights_of(state, source="x.pt"):
    return Weights.of(state, source)


def logits(net, weights):
    image = np.random.default_rng(3).uniform(-128, 128, net.inputs()["data"]).astype(np.float32)
    return forward(net, weights, image, outputs=["fc4"])["fc4"]


def test_layers_and_blobs():
    """Which layer has which tensor, by Caffe's names, and what a BatchNorm is made of."""
    state = state_dict()
    assert is_state_dict(weights_of(state))

    net, weights = net_of_state_dict(weights_of(state), ["input_size=45"])

    assert net.inputs() == {"data": (1, 3, 45, 45)}
    types = {layer.name: layer.type for layer in net.layers}
    assert types["res3a_branch1"] == "Convolution"
    assert types["scale3a_branch2b"] == "Scale"
    for ours, theirs in {
        "conv1.weight": "conv1.weight",
        "res3a_branch1.weight": "layer2.0.downsample.0.weight",
        "bn3a_branch2b.mean": "layer2.0.bn2.running_mean",
        "bn3a_branch2b.variance": "layer2.0.bn2.running_var",
        "scale3a_branch2b.weight": "layer2.0.bn2.weight",
        "scale_conv1.bias": "bn1.bias",
        "fc4.bias": "fc.bias",
    }.items():
        assert weights[ours].tobytes() == state[theirs].tobytes()
    assert weights["bn_conv1.scale_factor"].tolist() == [1]
    assert len(weights) == len(state) - 6 + 6  # no count of batches, and a factor for each


def test_what_is_said():
    notes, warnings = [], []

    net_of_state_dict(weights_of(state_dict()), ["eps=2e-5"], notes, warnings)

    assert notes == [
        "x.pt: ResNet-6, a net of 1,1 basic units, a stem 7x7 of 6, shortcut B, widths 6,10, "
        "4 classes",
        "keys and shapes do not tell pool padded, input_size 224: taken as in torchvision and "
        "timm; --set FIELD=VALUE for another",
        "images: as the model took them, mostly --preprocess torchvision",
    ]
    assert warnings == [
        "x.pt: an anti-aliased (resnetaa*, resnetblur*) or dilated net has the same keys and "
        "shapes, and would not compute the same; nothing in the file tells"
    ]


def test_all_is_set():
    """Then nothing is taken for granted; arrays by key are a state dict too."""
    notes = []
    net, _ = net_of_state_dict(state_dict(), ["pool=ceil", "eps=1e-5", "input_size=224"], notes)
    assert [note.partition(":")[0] for note in notes] == ["the state dict", "images"]

    assert net.inputs() == {"data": (1, 3, 224, 224)}


def test_caffes_own_layers_are_none(tmp_path):
    """A caffemodel whose layers somebody has called like torchvision's modules."""
    layers = (
        Input.of("in", (), "data", shape=({"dim": (1, 3, 5, 5)},)),
        Convolution.of("layer1.0.conv1", "data", "c", num_output=2, kernel_size=3),
    )
    net = Net("x", layers)
    save(tmp_path / "x.caffemodel", random_weights(net), net)

    assert list(load(tmp_path / "x.caffemodel")) == ["layer1.0.conv1.weight", "layer1.0.conv1.bias"]
    assert not is_state_dict(load(tmp_path / "x.caffemodel"))
    assert is_state_dict(weights_of({"layer1.0.conv1.weight": np.ones((2, 3, 3, 3))}))


def test_settings():
    net, _ = net_of_state_dict(
        weights_of(state_dict()), ["pool=ceil", "eps=1e-3", "names.classifier=score", "name=mine"]
    )

    layers = {layer.name: layer for layer in net.layers}
    assert layers["pool1"].param == {"pool": "MAX", "kernel_size": 3, "stride": 2}
    assert layers["bn_conv1"].param["eps"] == np.float32(1e-3)
    assert layers["score"].type == "InnerProduct"
    assert net.name == "mine"
    with pytest.raises(ResNetProtoError, match="stride_in 3x3 goes with unit bottleneck"):
        net_of_state_dict(weights_of(state_dict()), ["stride_in=3x3"])
    with pytest.raises(NetError, match=r"'conv1\.weight' is 6x3x7x7; expected 6x3x3x3, in a"):
        net_of_state_dict(weights_of(state_dict()), ["stem=3x3"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes(prefix):
    state = {f"{prefix}{key}": value for key, value in state_dict().items()}

    _, weights = net_of_state_dict(weights_of(state))

    assert weights["fc4.bias"].tolist() == state[f"{prefix}fc.bias"].tolist()
    state["fc.bias"] = state.pop(f"{prefix}fc.bias")
    with pytest.raises(NetError, match=r"it has no .layer1.*; export it from torch as ONNX"):
        net_of_state_dict(weights_of(state))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"bn1__num_batches_tracked": None}, ""),
        ({"fc__weight": None}, "no classifier: 'fc.weight' is missing; save a model th"),
        ({"fc__bias": None}, "1 key ('fc.bias') missing"),
        ({"layer1__0__conv1__weight": None}, "'layer1.0.conv1.weight' is missing"),
        ({"layer2__0__bn2__running_var": None}, "1 key ('layer2.0.bn2.running_var') missing"),
        ({"layer2__0__downsample__0__weight": None},
         "1 key ('layer2.0.downsample.0.weight') missing"),
        ({"layer1__0__conv3__bias": np.ones(6)}, "1 key ('layer1.0.conv3.bias') too many"),
        ({"layer4__0__conv1__weight": np.ones((10, 10, 3, 3))}, "'layer3.0.conv1.weight' is miss"),
        ({"layer2__9__conv1__weight": np.ones((10, 10, 3, 3))}, "'layer2.1.conv1.weight' is miss"),
        ({"aux__weight": np.ones(2)}, "1 key ('aux.weight') too many"),
        ({"fc__weight": np.ones((4, 11), np.float32)}, "'fc.weight' is 4x11; expected 4x10, in a"),
        ({"fc__weight": np.ones((4, 10, 1, 1))}, "'fc.weight' is 4x10x1x1; expected 2 sizes"),
        ({"fc__weight": np.ones((0, 10))}, "'fc.weight' is 0x10; expected 2 sizes, none of th"),
        ({"fc__weight": np.ones((4, 10), np.int64)}, "'fc.weight' is int64; expected floats"),
        ({"layer2__0__conv2__weight": np.ones((10, 5, 3, 3), np.float32)},
         "'layer2.0.conv2.weight' is 10x5x3x3; expected 10x10x3x3, in a net of 1,1 basic units"),
        ({"bn1__running_var": np.full(6, np.nan, np.float32)},
         "values for 'bn_conv1.variance' are not finite"),
    ],
)  # fmt: skip
def test_what_does_not_fit(changes, message):
    """The first two are taken."""
    weights = weights_of(state_dict(**changes))
    if not message:
        net_of_state_dict(weights)
        return
    with pytest.raises(NetError, match=rf"^x\.pt: .*{re.escape(message)}"):
        net_of_state_dict(weights)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("layer1.0.se.conv.weight", "efficient channel attention"),
        ("layer1.0.bn1.IN.weight", "instance normalization within its BatchNorm"),
        ("maxpool.0.weight", "a convolution in the place of the pooling"),
        ("layer1.0.convs.0.weight", "convolutions in scales"),
        ("layer2.0.conv2.filt", "anti-aliasing"),
        ("resnet.embedder.embedder.convolution.weight", "the keys of transformers"),
        ("stages.0.blocks.0.norm1.weight", "pre-activation units"),
    ],
)
def test_other_nets_by_name(key, what):
    state = weights_of({**state_dict(), key: np.ones(3, np.float32)})

    assert is_state_dict(state)
    with pytest.raises(NetError, match=f"x.pt: a net that is not converted: it has .*{what}"):
        net_of_state_dict(state)


def test_no_statistics():
    state = {k: v for k, v in state_dict().items() if "running" not in k}

    with pytest.raises(NetError, match="it has GroupNorm, or another normalization without stat"):
        net_of_state_dict(weights_of(state))


def test_names_of_models_that_keys_do_not_tell(tmp_path):
    """The name of the file, and a hub's config.json before it."""
    for name, config, refused in [
        ("resnet18.pt", None, ""),
        ("resnetblur18-1a2b.pt", None, "resnetblur18-1a2b.pt"),
        ("seresnextaa101d.pt", None, "seresnextaa101d.pt"),
        ("model.pt", {"architecture": "resnetaa50"}, "resnetaa50"),
        ("resnetblur18.pt", {"architecture": "resnet18"}, ""),
        ("model.pt", {"architecture": ["resnetaa50"]}, ""),
        ("model.pt", [], ""),
    ]:
        (tmp_path / "config.json").unlink(missing_ok=True)
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        weights = weights_of(state_dict(), str(tmp_path / name))
        if not refused:
            net_of_state_dict(weights)
            continue
        with pytest.raises(NetError, match=f"'{refused}' is anti-aliased: it has the keys of a"):
            net_of_state_dict(weights)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype, tmp_path):
    """Float16 becomes float32, and that is said; float64 stays, as a caffemodel can hold it."""
    state = {k: v.astype(dtype) if v.ndim else v for k, v in state_dict().items()}
    notes = []

    net, weights = net_of_state_dict(weights_of(state), ["input_size=45"], notes)
    save(tmp_path / "x.caffemodel", weights, net)
    found = load(tmp_path / "x.caffemodel")

    assert ("32 tensors of float16 widened to float32" in notes) == (dtype == np.float16)
    expected = np.float32 if dtype == np.float16 else np.float64
    assert found["bn_conv1.mean"].dtype == expected
    assert found["bn_conv1.mean"].tolist() == state["bn1.running_mean"].tolist()
    same = net_of_state_dict(weights_of({k: v.astype(expected) for k, v in state.items()}))[1]
    np.testing.assert_array_equal(logits(net, found), logits(net, same))


def test_ten_thousand_unknown_keys():
    """A short message; and as many units, which a net may have, are not all there."""
    state = state_dict() | {f"x{i}.weight": np.ones(1, np.float32) for i in range(10_000)}
    with pytest.raises(NetError, match=r"10,000 keys \('x0\.weight',.*\.\.\.\) too many$") as big:
        net_of_state_dict(weights_of(state))
    assert len(str(big.value)) < 500

    state = state_dict() | {f"layer{i}.0.bn1.weight": np.ones(1) for i in range(1, 10_000)}
    with pytest.raises(NetError, match=r"'layer3\.0\.conv1\.weight' is missing"):
        net_of_state_dict(weights_of(state))


def test_sizes_that_no_net_has():
    state = state_dict(conv1__weight=np.ones((1 << 25, 1, 1, 1), np.float16))

    with pytest.raises(NetError, match=r"no spec makes this net: stem_width is 33554432"):
        net_of_state_dict(weights_of(state))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": "timm", "pool": "ceil", "eps": "0.002", "input_size": "61"}, ""),
        ({"names": "timm", "input_size": "100000"}, "input_size 100000; expected at mo"),
        ({"names": "timm", "input_size": "-3"}, "input_size -3; expected at mo"),
        (
            {"names": "timm", "pool": "open('x')"},
            "its options: pool is .open.*; expected .ceil. or",
        ),
        ({"names": "timm", "eps": "9e9"}, "its options: eps is 9000000000.0; expected 0 to 1"),
    ],
)
def test_what_a_file_says_itself(options, message):
    """Files that ``--names`` wrote say what their keys do not; what cannot be is refused."""
    weights = weights_of(state_dict())
    weights.options = options
    notes, warnings = [], []
    if message:
        with pytest.raises(NetError, match=message):
            net_of_state_dict(weights)
        return

    net, _ = net_of_state_dict(weights, (), notes, warnings)

    assert net.inputs() == {"data": (1, 3, 61, 61)}
    assert next(layer for layer in net.layers if layer.name == "pool1").param.get("pad") is None
    assert "pool ceil, eps 0.002, input_size 61: taken as the file says" in notes[1]
    assert warnings == []


def resnet_18(width, stem=7):
    """Zeros of torchvision's ResNet-18, at another width."""
    n = [width, 2 * width, 4 * width, 8 * width]
    state, before = conv("conv1", "bn1", width, 3, stem, stem), width
    for i, out in enumerate(n, 1):
        for block in "01":
            key = f"layer{i}.{block}"
            state |= conv(f"{key}.conv1", f"{key}.bn1", out, before, 3, 3)
            state |= conv(f"{key}.conv2", f"{key}.bn2", out, out, 3, 3)
            if out != before:
                state |= conv(f"{key}.downsample.0", f"{key}.downsample.1", out, before, 1, 1)
            before = out
    return {**state, "fc.weight": np.zeros((3, before)), "fc.bias": np.zeros(3)}


@pytest.mark.parametrize(
    ("width", "settings", "name"),
    [
        (64, [], "ResNet-18"),
        (8, [], "ResNet-18-width-8"),
        (8, ["name=Mine"], "Mine"),
    ],
)
def test_a_net_is_not_called_as_one_of_other_widths(width, settings, name):
    """So `check` does not take it for that one."""
    net, _ = net_of_state_dict(resnet_18(width), settings)

    assert net.name == name
    assert not [x for x in check_text(to_prototxt(net), "x").findings if x.rule == "topology"]


def test_a_stem_of_3x3_has_to_be_said():
    state = resnet_18(4, stem=3)
    remedy = "give --set stem=3x3, and --set pool=none if no pooling follows"
    with pytest.raises(NetError, match=f"'conv1.weight' is 4x3x3x3; expected 4x3x7x7.*{remedy}"):
        net_of_state_dict(state)

    net, _ = net_of_state_dict(state, ["stem=3x3", "pool=none", "input_size=32"])

    assert net.name == "ResNet-18-width-4-stem-3x3"
    shapes = {step.layer.name: step.tops[0] for step in net.walk()}
    assert shapes["conv1"] == shapes["res2b_relu"] == (1, 4, 32, 32)
