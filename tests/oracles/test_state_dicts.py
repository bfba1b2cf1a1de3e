"""Weights of torchvision's and timm's own models in the real Caffe: the same logits."""

import runpy
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
import pytest

from resnet_proto import PRESETS, deploy_net, forward, load, random_weights, read_prototxt, save
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import NetError
from resnet_proto.foreign import SENET, model_of, model_text, save_for
from resnet_proto.graph import difference
from resnet_proto.prototxt import to_prototxt
from resnet_proto.recognize import recognize
from resnet_proto.spec import ResNetSpec
from resnet_proto.state_dict import net_of_state_dict
from resnet_proto.torch_models import prove
from resnet_proto.weights import Blob, StoredLayer, Weights, split

# ---- every member of the family, in full size, without values

MEMBERS = """
resnet10t resnet14t resnet18 resnet18d resnet26 resnet26d resnet26t resnet34 resnet34d resnet50
resnet50c resnet50d resnet50s resnet50t resnet101 resnet101c resnet101d resnet101s resnet152
resnet152c resnet152d resnet152s resnet200 resnet200d wide_resnet50_2 wide_resnet101_2
resnext50_32x4d resnext50d_32x4d resnext101_32x4d resnext101_32x8d resnext101_32x16d
resnext101_32x32d resnext101_64x4d senet154 seresnet18 seresnet34 seresnet50 seresnet50t
seresnet101 seresnet152 seresnet152d seresnet200d seresnet269d seresnext26d_32x4d
seresnext26t_32x4d seresnext50_32x4d seresnext101_32x4d seresnext101_32x8d seresnext101_64x4d
seresnext101d_32x8d legacy_senet154 legacy_seresnet18 legacy_seresnet34 legacy_seresnet50
legacy_seresnet101 legacy_seresnet152 legacy_seresnext26_32x4d legacy_seresnext50_32x4d
legacy_seresnext101_32x4d
""".split()
TORCHVISION = """
resnet18 resnet34 resnet50 resnet101 resnet152 wide_resnet50_2 wide_resnet101_2 resnext50_32x4d
resnext101_32x8d resnext101_64x4d
""".split()
OTHERS = {
    "ecaresnet26t": "efficient channel attention",
    "gcresnet33ts": "a stem of timm's ByobNet",
    "nf_resnet50": "pre-activation units or others",
    "res2net50_14w_8s": "3x3 convolutions in scales",
    "resnest14d": "split attention",
    "resnet50_gn": "GroupNorm",
    "resnet50_clip": "a stem of timm's ByobNet",
    "resnetrs50": "a convolution in the place of the pooling",
    "resnetv2_18": "pre-activation units or others",
    "resnetv2_50x1_bit": "pre-activation units or others",
    "skresnet18": "selective kernels",
}


class Zeros:
    """Values that nobody made."""

    def __init__(self, shape):
        self.shape = shape

    def array(self):
        return np.broadcast_to(np.float32(0), self.shape).reshape(-1)


def without_values(state, source):
    layers = {}
    for key, value in state.items():
        layer, name = split(key)
        shape = tuple(value.shape)
        dtype = str(value.dtype).removeprefix("torch.")
        blob = Blob(layer, layer, "", name, shape, dtype, 4 * prod(shape), Zeros((1,) * len(shape)))
        layers.setdefault(layer, []).append(blob)
    return Weights((StoredLayer(k, k, "", tuple(v)) for k, v in layers.items()), source)


@pytest.fixture
def unchecked(monkeypatch):
    """Zeros are finite, and not looked at."""
    monkeypatch.setattr("resnet_proto.state_dict.check_finite", lambda layers, source: None)


def make(package, name):
    if package == "timm":
        import timm

        return timm.create_model(name)
    from torchvision import models

    return getattr(models, name)(weights=None)


@pytest.mark.parametrize(
    ("package", "name"),
    [("timm", name) for name in MEMBERS] + [("torchvision", name) for name in TORCHVISION],
)
def test_every_member(torch, torch_models, unchecked, tmp_path, package, name):
    """The model that the net speaks of is, module for module, the one whose state dict it was."""
    with torch.device("meta"):
        theirs = make(package, name)
        net, _ = net_of_state_dict(without_values(theirs.state_dict(), name))
        spec = recognize(net)
        (tmp_path / "model.py").write_text(model_text(package, model_of(package, spec), spec, ""))
        ours = runpy.run_path(str(tmp_path / "model.py"))["make_model"]()

    assert str(ours) == str(theirs)
    count = sum(v.numel() for k, v in theirs.state_dict().items() if "num_batches" not in k)
    blobs = (blob for step in net.walk() for blob in step.blobs.items())
    assert count == sum(prod(shape) for blob, shape in blobs if blob != "scale_factor")


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_refused_by_name(torch, torch_models, unchecked, name):
    with torch.device("meta"):
        state = make("timm", name).state_dict()

    with pytest.raises(NetError, match=f"x.pt: a net that is not converted: it has {OTHERS[name]}"):
        net_of_state_dict(without_values(state, "x.pt"))


# ---- small ones in Caffe


def shaken(torch, model, seed=0):
    """A model whose BatchNorm does something, and whose sums do not grow."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                last = name.rpartition(".")[2] in ("bn3", "bn2")
                module.running_mean.normal_(0, 0.5, generator=rng)
                module.running_var.uniform_(0.4, 3, generator=rng)
                module.weight.uniform_(*((0.1, 0.4) if last else (0.6, 1.4)), generator=rng)
                module.bias.normal_(0, 0.3, generator=rng)
    return model.eval()


def timm_resnet(block, layers=(1, 2, 1, 1), **options):
    from timm.models import resnet

    options = {"channels": (16, 24, 40, 72), "num_classes": 11, **options}
    return resnet.ResNet(getattr(resnet, block), layers, **options)


def timm_senet(block, layers=(1, 2, 1, 1), **options):
    from timm.models import senet

    return senet.SENet(getattr(senet, block), layers, reduction=16, num_classes=11, **options)


def torchvision_resnet(block, layers=(1, 2, 1, 1), **options):
    from torchvision.models import resnet

    return resnet.ResNet(getattr(resnet, block), list(layers), num_classes=11, **options)


deep = {"stem_type": "deep", "stem_width": 32}
tiered = {"stem_type": "deep_tiered", "stem_width": 32, "avg_down": True}
squeeze = {"block_args": {"attn_layer": "se"}, "channels": (32, 64, 96, 128)}
MODELS = {
    "torchvision, basic": (partial(torchvision_resnet, "BasicBlock"), 65),
    "torchvision, bottleneck": (partial(torchvision_resnet, "Bottleneck"), 64),
    "torchvision, groups": (
        partial(torchvision_resnet, "Bottleneck", groups=32, width_per_group=4), 50
    ),
    "torchvision, wide": (partial(torchvision_resnet, "Bottleneck", width_per_group=128), 33),
    "basic": (partial(timm_resnet, "BasicBlock"), 77),
    "bottleneck, 4 channels": (partial(timm_resnet, "Bottleneck", in_chans=4), 61),
    "c": (partial(timm_resnet, "Bottleneck", **deep), 64),
    "d": (partial(timm_resnet, "Bottleneck", avg_down=True, **deep), 65),
    "d, basic": (partial(timm_resnet, "BasicBlock", avg_down=True, **deep), 83),
    "s": (partial(timm_resnet, "Bottleneck", stem_type="deep", stem_width=64), 70),
    "t": (partial(timm_resnet, "Bottleneck", **tiered), 91),
    "t, basic": (partial(timm_resnet, "BasicBlock", **tiered), 64),
    "groups, d": (
        partial(timm_resnet, "Bottleneck", cardinality=8, base_width=6, avg_down=True, **deep), 49
    ),
    "se": (partial(timm_resnet, "Bottleneck", **squeeze), 65),
    "se, basic, 8 at least": (
        partial(timm_resnet, "BasicBlock", **squeeze | {"channels": (64, 128, 128, 256)}), 48
    ),
    "se, t, groups": (
        partial(timm_resnet, "Bottleneck", cardinality=4, base_width=16, **tiered, **squeeze), 57
    ),
    "senet154 of today": (
        partial(timm_resnet, "Bottleneck", cardinality=16, base_width=4, block_reduce_first=2,
                down_kernel_size=3, **deep, **squeeze), 65,
    ),
    "legacy se, basic": (partial(timm_senet, "SEResNetBlock", groups=1), 65),
    "legacy se, bottleneck": (partial(timm_senet, "SEResNetBottleneck", groups=1), 64),
    "legacy se, groups": (partial(timm_senet, "SEResNeXtBottleneck", groups=32), 63),
    "legacy senet154": (
        partial(timm_senet, "SEBottleneck", groups=64, inplanes=128, input_3x3=True,
                downsample_kernel_size=3, downsample_padding=1), 65,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def caffes(torch, torch_models, caffe_python, tmp_path_factory):
    """For each model: its state dict as torch saves it, a net of it, Caffe's logits and theirs."""
    folder = tmp_path_factory.mktemp("models")
    rows = {}
    for i, (name, (build, size)) in enumerate(MODELS.items()):
        torch.manual_seed(i)
        model = shaken(torch, build())
        job = folder / str(i)
        job.mkdir()
        torch.save(model.state_dict(), job / "x.pt")
        state = load(job / "x.pt")
        net, weights = net_of_state_dict(state, [f"input_size={size}"])
        (job / "net.prototxt").write_text(to_prototxt(net))
        save(job / "net.caffemodel", weights, net)
        image = np.random.default_rng(i).uniform(-128, 128, net.inputs()["data"])
        image = image.astype(np.float32)
        write_job(job, job / "net.prototxt", job / "net.caffemodel", {"data": image})
        with torch.inference_mode():
            theirs = model.double()(torch.tensor(image, dtype=torch.float64)).numpy()
        rows[name] = (job, state, image, theirs)
    run_jobs(caffe_python, [job for job, *_ in rows.values()])
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_logits_in_caffe(caffes, name):
    job, _, image, theirs = caffes[name]

    logits = read_job(job)["fc11"]
    net, weights = read_prototxt(job / "net.prototxt"), load(job / "net.caffemodel")
    ours = forward(net, weights, image, dtype="float64", outputs=["fc11"])["fc11"]

    assert theirs.std() > 1e-3
    assert relative_l2(ours, theirs) <= 1e-12
    assert relative_l2(logits, theirs) <= TOLERANCE


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("torchvision", "torchvision, groups"),
        ("timm", "d, basic"),
        ("timm", "se, t, groups"),
        ("timm", "senet154 of today"),
        ("timm", "legacy se, basic"),
        ("timm", "legacy senet154"),
    ],
)
def test_into_caffe_and_out_again(caffes, tmp_path, package, name):
    """The same keys and values, bit for bit; without force, as nothing is otherwise."""
    job, state, *_ = caffes[name]
    net, weights = read_prototxt(job / "net.prototxt"), load(job / "net.caffemodel")

    save_for(package, tmp_path / "x.safetensors", weights, net)
    found = load(tmp_path / "x.safetensors")

    assert set(found) == set(state)
    for key in state:
        assert found.blobs[key].dtype == state.blobs[key].dtype
        assert found[key].tobytes() == state[key].tobytes()


@pytest.mark.parametrize("name", ["t, basic", "legacy se, basic"])
def test_the_proof(caffes, name):
    """It finds the model, and what is wrong: a stride, a pooling, an eps, one value."""
    _, state, *_ = caffes[name]
    net, weights = net_of_state_dict(state)

    package, row = prove(net, weights, state)

    assert (package, row.blob) == ("timm", "fc11")
    assert row.distance <= 1e-12
    other = dict(weights)
    other["fc11.bias"] = other["fc11.bias"] * np.float32(1.01)
    assert not prove(net, other, state)[1].within(TOLERANCE)


def test_what_keys_do_not_tell_would_be_wrong(caffes, torch):
    """With another stride, pooling or eps the same weights fit, and the logits are others."""
    _, state, image, theirs = caffes["torchvision, bottleneck"]

    for setting in ("stride_in=first", "pool=ceil", "eps=1e-3"):
        net, weights = net_of_state_dict(state, ["input_size=64", setting])
        ours = forward(net, weights, image, dtype="float64", outputs=["fc11"])["fc11"]
        assert relative_l2(ours, theirs) > 1e-3
        _, row = prove(net, weights, state)  # their model is built with the same
        assert row.within(TOLERANCE)


@pytest.mark.parametrize("name", ["resnet18", "legacy_seresnet18"])
def test_safetensors(torch, torch_models, tmp_path, name):
    """As others save it, half as precise."""
    from safetensors.torch import save_file

    model = shaken(torch, make("timm", name))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        state = {k: v.to(dtype) if v.is_floating_point() else v
                 for k, v in model.state_dict().items()}  # fmt: skip
        save_file(state, tmp_path / "x.safetensors", metadata={"format": "pt"})
        notes = []
        given = load(tmp_path / "x.safetensors")

        _, weights = net_of_state_dict(given, (), notes)

        for blob in ("bn_conv1.mean", "fc1000.weight", "res4b_branch2a.weight"):
            assert weights[blob].dtype == np.float32
        key = "last_linear.weight" if "legacy" in name else "fc.weight"
        assert weights["fc1000.weight"].tolist() == state[key].tolist()
        said = [note for note in notes if "widened" in note]
        word = str(dtype).removeprefix("torch.")
        assert len(said) == (dtype != torch.float32)
        assert all(f"of {word} widened to float32" in note for note in said)


# ---- there and back

SAME = {"input_size": 65, "classes": 9, "width": (32,), "width_multiplier": 1.0}
SPECS = {
    **{
        name: replace(PRESETS[name].spec, **SAME)
        for name in (
            "resnet-18", "resnet-34", "resnet-50", "resnet-101", "resnet-152", "resnet-50-1by2",
            "wide-resnet-50-2", "resnext-50-32x4d", "resnet-50-d", "se-resnet-50",
            "se-resnext-50-32x4d",
        )
    },
    **{
        f"{name}, as they have it": replace(
            PRESETS[name].spec, pool="padded", head="global", conv1_bias=False, **SAME, **stride
        )
        for name, stride in (
            ("resnet-18", {}), ("resnet-50", {"stride_in": "3x3"}), ("resnext-50-32x4d", {}),
            ("se-resnet-50", {"stride_in": "3x3"}),
        )
    },
    "nvidia, not in place": replace(
        PRESETS["resnet-18"].spec, input_size=33, dialect="nvidia", in_place=False, eps=2e-3
    ),
    "a bias in the stem": replace(PRESETS["resnet-50"].spec, input_size=64, head="global"),
    "legacy": replace(PRESETS["se-resnet-50"].spec, stages=(1, 1, 1, 1), input_size=64),
    "legacy, basic": replace(
        PRESETS["resnet-18"].spec, stages=(1, 1, 1, 1), input_size=64, squeeze=16, squeeze_relu=True
    ),
    "senet 154": replace(
        PRESETS["se-resnet-50"].spec, stages=(1, 1, 1, 1), input_size=64, stem="deep",
        stem_width=128, cardinality=64, base_width=4, stride_in="3x3", halve_first=True,
        projection_kernel=3,
    ),
    "t": ResNetSpec(
        "mine", (1, 2, 1, 1), "bottleneck", stem="tiered", shortcut="D", input_size=70,
        stride_in="3x3", pool="padded",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("package", "name"),
    [
        (package, name)
        for package in ("torchvision", "timm")
        for name, spec in SPECS.items()
        if package == "timm" or (spec.stem == "7x7" and not spec.squeeze)
    ],
)
def test_there_and_back(torch, tmp_path, package, name):
    """The same net but for names, and the same output, from what the file itself says."""
    spec = SPECS[name]
    net = deploy_net(spec)
    weights = random_weights(net)
    save_for(package, tmp_path / "x.pt", weights, net, force=True)
    state, warnings = load(tmp_path / "x.pt"), []

    back, found = net_of_state_dict(state, (), None, warnings)

    assert difference(back, net) is None
    assert back.name == net.name
    assert warnings == []
    legacy = model_of(package, spec).keys is SENET
    v1 = spec.unit == "bottleneck" and spec.stride_in == "first"
    assert ("stride_in" in state.options) == (v1 and not legacy)
    assert ("pool" in state.options) == (spec.pool == "ceil" and not legacy)
    image = np.random.default_rng(5).uniform(-128, 128, net.inputs()["data"])
    ours, theirs = (
        forward(each, values, image, dtype="float64", outputs=[logits])[logits]
        for each, values in ((back, found), (net, weights))
        for logits in [each.layers[-2].name]
    )
    assert relative_l2(ours, theirs) <= TOLERANCE
