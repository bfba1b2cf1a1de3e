"""torchvision's and timm's models with our weights: the same logits as the net."""

import runpy
from dataclasses import replace

import numpy as np
import pytest

from resnet_proto import (
    PRESETS,
    deploy_net,
    forward,
    load,
    random_weights,
    read_prototxt,
    to_prototxt,
)
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.foreign import save_for
from resnet_proto.spec import Names

SIZE = 65

BOTH = [
    "resnet-18", "resnet-34", "resnet-50", "resnet-101", "resnet-152", "wide-resnet-50-2",
    "resnext-50-32x4d",
]  # fmt: skip
TIMM = ["resnet-50-d", "se-resnet-50", "se-resnext-50-32x4d"]


def small(name, **values):
    return deploy_net(replace(PRESETS[name].spec, input_size=SIZE, **values))


def logits(net):
    return next(layer.tops[0] for layer in net.layers[::-1] if layer.type == "InnerProduct")


def assert_same(torch, folder, package, net, weights, size=SIZE, suffix="pt", **options):
    """The lines of model.py build a model that loads the file, and gives the net's logits.

    In float64 on both sides: gates of random weights multiply the rounding of float32.
    """
    file = folder / f"x.{suffix}"
    beside = save_for(package, file, weights, net, **options)
    model = runpy.run_path(str(beside))["make_model"]()
    if suffix == "pt":
        state = torch.load(file, weights_only=True)
    else:
        from safetensors.torch import load_file

        state = load_file(file)
    model.load_state_dict(state)
    x = np.random.default_rng(5).uniform(-128, 128, (1, *net.inputs()["data"][1:]))

    with torch.inference_mode():
        theirs = model.double()(torch.tensor(x)).numpy()

    name = logits(net)
    ours = forward(net, weights, x, dtype="float64", outputs=[name])[name]
    assert relative_l2(theirs, ours) <= TOLERANCE


@pytest.mark.parametrize(
    ("package", "name"),
    [("torchvision", name) for name in BOTH] + [("timm", name) for name in [*BOTH, *TIMM]],
)
def test_presets(torch, torch_models, tmp_path, package, name):
    net = small(name)
    assert_same(torch, tmp_path, package, net, random_weights(net), force=True)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_released_net(torch, torch_models, tmp_path, half_width, package, suffix):
    """Half the width, a bias in every convolution, and names of its own."""
    prototxt, model = half_width
    net = read_prototxt(prototxt)
    assert_same(torch, tmp_path, package, net, load(model), suffix=suffix, force=True)


@pytest.mark.parametrize(
    "values",
    [
        {"stride_in": "3x3", "pool": "padded"},
        {"stride_in": "3x3", "pool": "padded", "classes": 7, "input_channels": 4},
        {"stride_in": "3x3", "pool": "padded", "dialect": "nvidia", "conv_bias": True},
        {"stride_in": "3x3", "pool": "padded", "squeeze": 16, "in_place": False},
    ],
)
def test_the_same_as_their_own(torch, torch_models, tmp_path, values):
    """Nothing is otherwise, so no force is needed."""
    net = small("resnet-50", **values)
    package = "timm" if "squeeze" in values else "torchvision"

    assert_same(torch, tmp_path, package, net, random_weights(net))


@pytest.mark.parametrize("name", ["resnet50", "resnet18"])
def test_their_own_model_loads_it(torch, torch_models, tmp_path, name):
    """The stock model without a line of model.py."""
    from torchvision import models

    net = small(f"resnet-{name[6:]}", stride_in="3x3" if name == "resnet50" else "first",
                pool="padded", conv1_bias=True)  # fmt: skip
    weights = random_weights(net)
    save_for("torchvision", tmp_path / "x.pt", weights, net)

    model = getattr(models, name)().double().eval()
    model.load_state_dict(torch.load(tmp_path / "x.pt", weights_only=True))

    x = np.random.default_rng(5).uniform(-128, 128, (1, 3, SIZE, SIZE))
    ours = forward(net, weights, x, dtype="float64", outputs=[logits(net)])[logits(net)]
    with torch.inference_mode():
        assert relative_l2(model(torch.tensor(x)).numpy(), ours) <= TOLERANCE


def test_legacy_senet_loads_it(torch, torch_models, tmp_path):
    """SENet's release was Caffe's; timm's port of it needs no force."""
    import timm

    net = small("se-resnet-50")
    weights = random_weights(net)
    save_for("timm", tmp_path / "x.safetensors", weights, net)
    from safetensors.torch import load_file

    model = timm.create_model("legacy_seresnet50").double().eval()
    model.load_state_dict(load_file(tmp_path / "x.safetensors"))

    x = np.random.default_rng(5).uniform(-128, 128, (1, 3, SIZE, SIZE))
    ours = forward(net, weights, x, dtype="float64", outputs=[logits(net)])[logits(net)]
    with torch.inference_mode():
        assert relative_l2(model(torch.tensor(x)).numpy(), ours) <= TOLERANCE


def test_names_mean_nothing(torch, torch_models, tmp_path):
    """Layers that are called 1, 2, 3 ..., in the prototxt of somebody else."""
    net = small("resnet-18", names=Names())
    weights = dict(random_weights(net))
    number = {layer.name: str(i) for i, layer in enumerate(net.layers)}
    renamed = replace(net, layers=tuple(replace(la, name=number[la.name]) for la in net.layers))
    (tmp_path / "x.prototxt").write_text(to_prototxt(renamed))
    values = {f"{number[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v
              for k, v in weights.items()}  # fmt: skip

    assert_same(torch, tmp_path, "torchvision", read_prototxt(tmp_path / "x.prototxt"), values,
                force=True)  # fmt: skip


@pytest.mark.parametrize(
    ("package", "name", "values", "message"),
    [
        ("torchvision", "resnet-50", {}, r"first 1x1 \(v1\), there in the 3x3.*rounds up"),
        ("torchvision", "resnet-18", {}, "compute something else: the pooling behind the stem"),
        ("timm", "resnet-18", {"pool": "padded", "eps": 2e-5}, "eps is 2e-05, there 1e-05"),
    ],
)
def test_what_needs_force(torch, torch_models, tmp_path, package, name, values, message):
    """It would run and be wrong; with force, the model of model.py is right."""
    net = small(name, **values)
    with pytest.raises(NetError, match=message):
        save_for(package, tmp_path / "x.pt", random_weights(net), net)
    assert not list(tmp_path.iterdir())

    assert_same(torch, tmp_path, package, net, random_weights(net), force=True)


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("torchvision", "preact-resnet-18", "no such net: it has order pre-activation"),
        ("timm", "cifar-resnet-20", "no such net: it has shortcut A"),
        ("torchvision", "resnet-50-d", "deep stem, which timm has"),
        ("torchvision", "se-resnet-50", "squeeze and excitation, which timm has"),
    ],
)
def test_nets_that_there_are_not(torch, tmp_path, package, name, message):
    net = deploy_net(PRESETS[name].spec)
    with pytest.raises(NetError, match=message):
        save_for(package, tmp_path / "x.pt", {}, net, force=True)


@pytest.mark.parametrize("relu", [False, True])
def test_a_relu_before_the_squeeze(torch, torch_models, tmp_path, relu):
    """The SENet of timm with basic units has one, and so is not the net without."""
    net = small("resnet-18", squeeze=16, squeeze_relu=relu, stages=(1, 1, 1, 1))
    if relu:
        assert_same(torch, tmp_path, "timm", net, random_weights(net))
        return
    with pytest.raises(NetError, match="no such net: its squeeze is by 16, to multiples of 8"):
        save_for("timm", tmp_path / "x.pt", random_weights(net), net, force=True)


def test_what_is_in_the_way(torch, tmp_path):
    """A model.py of somebody's own is kept; ours is written again."""
    net = small("resnet-18", pool="padded")
    weights = random_weights(net)
    with pytest.raises(ResNetProtoError, match=r"x\.npz: names of timm go into \.safetensors"):
        save_for("timm", tmp_path / "x.npz", weights, net)
    (tmp_path / "model.py").write_text("mine")
    with pytest.raises(ResNetProtoError, match=r"model\.py exists with other content; --force"):
        save_for("timm", tmp_path / "x.pt", weights, net)
    (tmp_path / "model.py").unlink()

    save_for("timm", tmp_path / "x.pt", weights, net)
    save_for("timm", tmp_path / "x.pt", weights, net)
