"""A state dict of torchvision's or timm's residual nets -> the net in Caffe's layers, its weights.

    keys, shapes -> ResNetSpec -> its net, and the keys that it needs -> the same blobs as Caffe's

Which key is which layer's is ``foreign``'s to know. A wrong guess is no answer: every key has to be
one that the net needs, in its shape. What keys and shapes do not tell, a file that was written
here says; else it is as in the package's own models, or as it is set.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_proto.build import deploy_net
from resnet_proto.build.units import PathStep
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.foreign import RESNET, SENET, STATISTICS, Keys, placed, untold_there
from resnet_proto.layers import Shape, dims
from resnet_proto.presets import PRESETS
from resnet_proto.recipe import training_for
from resnet_proto.recognize import FoundUnit, squeezes, widths
from resnet_proto.settings import assignments
from resnet_proto.spec import CONVOLUTIONS, ResNetSpec, adapted
from resnet_proto.weights import Blob, BlobData, Held, Made, StoredLayer, Weights
from resnet_proto.words import counted

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

PREFIXES = ("module.", "_orig_mod.", "model.")
"""Before every key: of DataParallel, of torch.compile, of a module around the model."""
OTHERS = {
    r"^(stem\.conv\.weight|stages\.\d+\.blocks\.\d+\.norm1\.weight)$": (
        "pre-activation units or others of its own (timm's ResNetV2, BiT, NF-ResNet, RegNet)"
    ),
    r"^stem\.conv1\.": "a stem of timm's ByobNet (resnet*ts, *_clip, *q)",
    r"\.se\.conv\.weight$": "efficient channel attention (ecaresnet*)",
    r"^maxpool\.0\.weight$": "a convolution in the place of the pooling (resnetrs*)",
    r"\.(IN|BN)\.weight$": "instance normalization within its BatchNorm (IBN-Net)",
    r"^layer1\.0\.convs\.0\.weight$": "3x3 convolutions in scales (res2net*)",
    r"^layer1\.0\.conv[12]\.paths\.0\.": "selective kernels (skresnet*)",
    r"^layer1\.0\.conv2\.conv\.weight$": "split attention (resnest*)",
    r"\.filt$": "anti-aliasing (blur)",
    r"^(resnet\.)?embedder\.embedder\.": "the keys of transformers' models",
}
"""Keys of nets that are residual too, but that no spec makes; and what they have."""
ANTI_ALIASED = re.compile(r"resne\w*(blur|aa(?=\d))", re.IGNORECASE)
"""Names of models that have the keys and shapes of others, and compute something else."""
UNIT = re.compile(r"layer([1-9]\d{0,3})\.(\d{1,5})\.")
MAX_SIDE = 1024
"""The largest image that a file may say its net is for; a user may say more."""
MAX_CONFIG = 1 << 20
"""Bytes of a config.json."""
ELSE = "export it from torch as ONNX, and convert that"
SHOWN = 3
"""Keys that a message names."""


class Shapes(dict[str, Shape]):
    """Key -> shape; one that is missing is an error in words."""

    def __init__(self, shapes: Mapping[str, Shape], source: str) -> None:
        super().__init__(shapes)
        self.source = source

    def of(self, key: str, axes: int) -> Shape:
        """The shape of a tensor that has to be there.

        Raises:
            NetError: it is not, or has other axes, or none of some size.
        """
        if key not in self:
            raise NetError(f"{self.source}: '{key}' is missing")
        shape = self[key]
        if len(shape) != axes or not all(shape):
            raise NetError(
                f"{self.source}: '{key}' is {dims(shape)}; expected {axes} sizes, none of them 0"
            )
        return shape


class Found(NamedTuple):
    """What a state dict is for.

    Args:
        spec: of the net.
        keys: how they are spelled.
        told: whether the file itself says what neither keys nor shapes tell.
    """

    spec: ResNetSpec
    keys: Keys
    told: bool


@dataclass(frozen=True, slots=True)
class Floats(Made):
    """Values of float16, as float32."""

    blob: Blob

    def array(self) -> Array:
        """Each value the same."""
        import numpy as np

        return self.blob.array().astype(np.float32).reshape(-1)


def is_state_dict(weights: Weights) -> bool:
    """Whether the keys are those of a model of torch's, residual or with BatchNorm.

    Layers that have a type are Caffe's, whatever they are called.
    """
    if any(layer.type for layer in weights.layers):
        return False
    keys = stripped(weights.blobs)
    return bool(other(keys)) or any(
        key.startswith("layer1.0.") or key.endswith(".running_var") for key in keys
    )


def net_of_state_dict(
    weights: Mapping[str, Array],
    settings: Sequence[str] = (),
    notes: list[str] | None = None,
    warnings: list[str] | None = None,
) -> tuple[Net, Weights]:
    """The net that a state dict of torchvision or timm is for, and its weights, where they lie.

    Args:
        weights: of a ``.pt`` or a ``.safetensors`` file, or arrays by key. A prefix of all keys
            (``module.``) goes.
        settings: fields of the spec, ``stride_in=first``, for what keys and shapes do not tell.
        notes: where to say what the net is taken for, and why.
        warnings: where to say what it may be as well, and would then compute something else.

    Returns:
        Weights that fit the net as Caffe has them. Float16 and bfloat16 are widened.

    Raises:
        NetError: no residual net of these packages, or one that no spec makes, with its name; a key
            is missing, is one too many, or has another shape; values that are not finite.
        ResNetProtoError: settings or the file say what cannot be.
    """
    weights = Weights.of(weights, "the state dict")
    source = weights.source
    blobs = stripped(weights.blobs)
    refuse_others(blobs, source)
    found = spec_of(Shapes({key: blob.shape for key, blob in blobs.items()}, source), weights)
    spec = named(adapted(found.spec, assignments(found.spec, settings), "--set"))
    net = deploy_net(spec)
    layers = tuple(stored_layers(net, spec, found.keys, blobs, source))
    check_finite(layers, source)
    if notes is not None:
        notes += said_of(spec, found, weights, settings)
    if warnings is not None and found.keys is RESNET and not found.told:
        warnings.append(
            f"{source}: an anti-aliased (resnetaa*, resnetblur*) or dilated net has the same keys "
            "and shapes, and would not compute the same; nothing in the file tells"
        )
    return net, Weights(layers, source)


def stripped(blobs: Mapping[str, Blob]) -> dict[str, Blob]:
    """The blobs without what stands before all of their keys."""
    found = dict(blobs)
    for _ in PREFIXES:
        for prefix in PREFIXES:
            if found and all(key.startswith(prefix) for key in found):
                found = {key.removeprefix(prefix): blob for key, blob in found.items()}
    return found


# ---- what it is not


def other(keys: Iterable[str]) -> str:
    """What a net has that no spec makes; empty if there is nothing that is known."""
    text = "\n".join(keys)
    return next(
        (what for pattern, what in OTHERS.items() if re.search(pattern, text, re.MULTILINE)), ""
    )


def refuse_others(blobs: Mapping[str, Blob], source: str) -> None:
    """Refuse nets that are known to be others, by their keys or by the name of the model.

    Raises:
        NetError: it is one.
    """
    what = other(blobs)
    if not what and not any(key.startswith("layer1.0.") for key in blobs):
        what = "no 'layer1.0...', as their residual nets have"
    if what:
        raise NetError(f"{source}: a net that is not converted: it has {what}; {ELSE}")
    if any(key.endswith("bn1.weight") for key in blobs) and not any(
        key.endswith(".running_var") for key in blobs
    ):
        raise NetError(
            f"{source}: a net that is not converted: it has GroupNorm, or another normalization "
            f"without statistics; {ELSE}"
        )
    name = model_name(source)
    if ANTI_ALIASED.search(name):
        raise NetError(
            f"{source}: '{name}' is anti-aliased: it has the keys of a net without that, which "
            f"would compute something else, and is not converted; {ELSE}"
        )


def model_name(source: str) -> str:
    """What a model is called: by the config.json beside it, as hubs have it, or by its file."""
    path = Path(source)
    try:
        with path.with_name("config.json").open("rb") as file:
            name = json.loads(file.read(MAX_CONFIG))["architecture"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    return name[:200] if isinstance(name, str) else path.name


# ---- keys and shapes -> spec


def spec_of(shapes: Shapes, weights: Weights) -> Found:
    """The spec that the keys and shapes speak of; whether all of them do is seen later.

    Raises:
        NetError: what tells the net is missing.
    """
    keys = SENET if SENET.stem + ".weight" in shapes else RESNET
    kind = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
    stem, first = stem_of(shapes, keys)
    stages = staged(shapes, kind, first["stem_width"])
    units = [unit for stage in stages for unit in stage]
    projections = [unit for unit in units if unit.shortcut != "identity"]
    averaged = any(unit.shortcut == "averaged" for unit in projections)
    kept = first["stem_width"] == stages[0][0].out
    if f"{keys.classifier}.weight" not in shapes:
        raise NetError(
            f"{shapes.source}: no classifier: '{keys.classifier}.weight' is missing; save a model "
            "that has one"
        )
    classes, _ = shapes.of(f"{keys.classifier}.weight", 2)
    try:
        values: dict[str, Any] = {
            "stages": tuple(map(len, stages)),
            "unit": kind,
            "stem": stem,
            **first,
            **widths(stages),
            **squeezed(shapes, keys, stages),
            "shortcut": "D" if averaged else "B",
            "project_first_stage": kept and units[0].shortcut != "identity",
            "projection_kernel": max((unit.kernel for unit in projections), default=1),
            "classes": classes,
            "training": training_for(first["input_channels"], ResNetSpec.input_size),
        }
        spec = ResNetSpec(**values)
        usual = untold_there(keys, spec)
        told = [f"{field}={value}" for field, value in said(weights, usual).items()]
        spec = replace(spec, **usual)
        spec = adapted(spec, assignments(spec, told), "its options")
        return Found(spec, keys, "names" in weights.options)
    except ResNetProtoError as error:
        raise NetError(f"{shapes.source}: no spec makes this net: {error}") from None


def named(spec: ResNetSpec) -> ResNetSpec:
    """The spec, with a name of its own where that by its depth is the name of another net."""
    theirs = next((p.spec for p in PRESETS.values() if p.spec.name == spec.title), None)
    if theirs is None or spec.name:
        return spec
    more = []
    if (spec.cardinality, spec.base_width) != (theirs.cardinality, theirs.base_width):
        more.append(f"{spec.cardinality}x{spec.base_width}d")
    if spec.widths != theirs.widths:
        more.append(f"width-{'-'.join(map(str, spec.width))}")
    if spec.squeeze:
        more.append("SE")
    if spec.stem != theirs.stem:
        more.append(f"stem-{spec.stem}")
    elif spec.stem_width != theirs.stem_width and spec.widths == theirs.widths:
        more.append(f"stem-{spec.stem_width}")
    if spec.shortcut != theirs.shortcut:
        more.append(spec.shortcut)
    return replace(spec, name="-".join([spec.title, *more])) if more else spec


def said(weights: Weights, fields: Iterable[str]) -> dict[str, str]:
    """What a file that was written here says of its net.

    Raises:
        NetError: its images are too large to be true.
    """
    if "names" not in weights.options:
        return {}
    told = {field: weights.options[field] for field in fields if field in weights.options}
    size = told.get("input_size", "1")
    if not (size.isdecimal() and len(size) < 9 and int(size) <= MAX_SIDE):
        raise NetError(
            f"its options say input_size {size[:80]}; expected at most {MAX_SIDE}. Write it again"
        )
    return told


def stem_of(shapes: Shapes, keys: Keys) -> tuple[str, dict[str, int]]:
    """The kind of a stem; its width, and the channels of an image."""
    if f"{keys.deep[-1]}.weight" in shapes:
        (first, channels, *_), (second, *_), (width, *_) = (
            shapes.of(f"{key}.weight", 4) for key in keys.deep
        )
        kind = "deep" if first == second else "tiered"
        return kind, {"stem_width": width, "input_channels": channels}
    width, channels, *_ = shapes.of(f"{keys.stem}.weight", 4)
    return "7x7", {"stem_width": width, "input_channels": channels}


def staged(shapes: Shapes, kind: str, channels: int) -> list[list[FoundUnit]]:
    """The units of each stage.

    Raises:
        NetError: a stage, or a unit, is missing before another.
    """
    seen = {(int(m[1]), int(m[2])) for key in shapes if (m := UNIT.match(key))}
    n_units = Counter(stage for stage, _ in seen)
    places = [
        (stage, block)
        for stage in range(1, max(n_units, default=1) + 1)
        for block in range(n_units.get(stage, 1))
    ]
    for stage, block in places:
        if (stage, block) not in seen:
            raise NetError(f"{shapes.source}: 'layer{stage}.{block}.conv1.weight' is missing")
    stages: list[list[FoundUnit]] = [[] for _ in n_units]
    for stage, block in places:
        unit = unit_at(shapes, f"layer{stage}.{block}", kind, channels)
        stages[stage - 1].append(unit)
        channels = unit.out
    return stages


def unit_at(shapes: Shapes, key: str, kind: str, channels: int) -> FoundUnit:
    """A unit that so many channels enter. Strides are not told."""
    steps = []
    for number in range(1, CONVOLUTIONS[kind] + 1):
        out, in_group, kernel, _ = shapes.of(f"{key}.conv{number}.weight", 4)
        steps.append(PathStep(kernel, out, group=max(1, channels // in_group)))
        channels = out
    path = f"the unit '{key}'"
    for place, shortcut in ((1, "averaged"), (0, "projection")):
        if len(shapes.get(f"{key}.downsample.{place}.weight", ())) == 4:
            kernel = shapes.of(f"{key}.downsample.{place}.weight", 4)[2]
            return FoundUnit(path, kind, tuple(steps), (), shortcut, kernel)
    return FoundUnit(path, kind, tuple(steps), (), "identity")


def squeezed(shapes: Shapes, keys: Keys, stages: Sequence[Sequence[FoundUnit]]) -> dict[str, int]:
    """By how much squeeze and excitation reduces, where the first unit has some."""
    gates = [
        f"layer{stage}.{block}.{keys.squeeze}.fc1.weight"
        for stage, units in enumerate(stages, 1)
        for block in range(len(units))
    ]
    if gates[0] not in shapes:
        return {}
    sizes = [shapes.of(gate, 4) for gate in gates]
    return squeezes([(channels, inner) for inner, channels, *_ in sizes])


# ---- spec -> the keys that it needs


def stored_layers(
    net: Net, spec: ResNetSpec, keys: Keys, blobs: Mapping[str, Blob], source: str
) -> list[StoredLayer]:
    """The weights of a net, in its order, from those of a state dict.

    Raises:
        NetError: they are not those of this net.
    """
    import numpy as np

    places = {layer.name: (key, kind) for layer, key, kind in placed(keys, spec, net.layers)}
    spare = dict(blobs)
    missing, layers = [], []
    for step in net.walk():
        if not step.blobs:
            continue
        key, kind = places[step.layer.name]
        rows = []
        for name, shape in step.blobs.items():
            theirs = f"{key}.{STATISTICS.get(name, name)}"
            blob = spare.pop(theirs, None)
            if name == "scale_factor" or (name == "bias" and kind == "convolution"):
                value = np.full(shape, name == "scale_factor", np.float32)
                blob = Blob("", "", "", "", shape, "float32", value.nbytes, Held(value))
            elif blob is None:
                missing.append(theirs)
                continue
            else:  # a gate's matrix is a 1x1 convolution there
                ones = (1, 1) if (kind, name) == ("gate", "weight") else ()
                check_blob(blob, theirs, (*shape, *ones), spec, source)
            rows.append(adopted(blob, step.layer.name, step.layer.type, name, shape))
        spare.pop(f"{key}.num_batches_tracked", None)
        layers.append(StoredLayer(step.label, step.layer.name, step.layer.type, tuple(rows)))
    if missing or spare:
        wrong = [f"{listed(missing)} missing"] if missing else []
        wrong += [f"{listed([*spare])} too many"] if spare else []
        raise NetError(
            f"{source}: not the keys of {described(spec)}, for which they were taken: "
            f"{'; '.join(wrong)}"
        )
    return layers


def listed(keys: Sequence[str]) -> str:
    """How many keys, and the first of them."""
    shown = ", ".join(f"'{key[:80]}'" for key in keys[:SHOWN])
    return f"{counted(len(keys), 'key')} ({shown}{', ...' if len(keys) > SHOWN else ''})"


def check_blob(blob: Blob, key: str, shape: Shape, spec: ResNetSpec, source: str) -> None:
    """Refuse a tensor of another shape, or that is no floats.

    Raises:
        NetError: it is one.
    """
    if blob.shape != shape:
        small = spec.stem == "7x7" and blob.shape == (*shape[:2], 3, 3)
        remedy = (
            "; if the stem is one 3x3 of stride 1, give --set stem=3x3, and --set pool=none if no "
            "pooling follows"
        ) * small
        raise NetError(
            f"{source}: '{key}' is {dims(blob.shape)}; expected {dims(shape)}, in {described(spec)}"
            f"{remedy}"
        )
    if blob.dtype not in ("float16", "float32", "float64"):
        raise NetError(f"{source}: '{key}' is {blob.dtype}; expected floats")


def adopted(blob: Blob, layer: str, type: str, name: str, shape: Shape) -> Blob:
    """A blob under Caffe's names; no values are moved."""
    data: BlobData = blob.data
    dtype, nbytes = blob.dtype, blob.nbytes
    if dtype == "float16":
        data, dtype, nbytes = Floats(blob), "float32", 2 * nbytes
    return Blob(layer, layer, type, name, shape, dtype, nbytes, data, stored=blob.stored)


def check_finite(layers: Iterable[StoredLayer], source: str) -> None:
    """Every value is a number.

    Raises:
        NetError: one is not.
    """
    import numpy as np

    for blob in (blob for layer in layers for blob in layer.blobs):
        values = blob.array()
        if blob.key.endswith(".variance") and (values < 0).any():
            raise NetError(f"{source}: values for '{blob.key}' are below 0; no variance is")
        if not np.isfinite(values).all():
            raise NetError(
                f"{source}: values for '{blob.key}' are not finite; the net would compute nothing"
            )


# ---- what is said


def described(spec: ResNetSpec) -> str:
    """What keys and shapes tell of a net, in words."""
    stages = ",".join(map(str, spec.stages))
    more = [
        f"a stem {spec.stem} of {spec.stem_width}",
        f"shortcut {spec.shortcut}",
        f"widths {','.join(map(str, spec.widths))}",
    ]
    if (spec.cardinality, spec.base_width) != (1, 64):
        more.append(f"{spec.cardinality}x{spec.base_width}d")
    if spec.squeeze:
        more.append(f"squeeze by {spec.squeeze}")
    return f"a net of {stages} {spec.unit} units, {', '.join(more)}"


def said_of(
    spec: ResNetSpec, found: Found, weights: Weights, settings: Sequence[str]
) -> Iterator[str]:
    """What the net is taken for; what was not told; what was widened."""
    yield f"{weights.source}: {spec.title}, {described(spec)}, {spec.classes} classes"
    own = {setting.partition("=")[0].strip() for setting in settings}
    fields = ("stride_in", "pool", "eps", "input_size")[spec.unit == "basic" :]
    values = ", ".join(f"{name} {getattr(spec, name)}" for name in fields if name not in own)
    whose = "in timm's SENet" if found.keys is SENET else "in torchvision and timm"
    whose = "the file says" if found.told else whose
    if values:
        yield (
            f"keys and shapes do not tell {values}: taken as {whose}; --set FIELD=VALUE for another"
        )
    if not found.told:
        yield "images: as the model took them, mostly --preprocess torchvision"
    widened = Counter(
        stored
        for blob in weights.blobs.values()
        if (stored := blob.stored or blob.dtype) in ("float16", "bfloat16")
    )
    for dtype, n in widened.items():
        yield f"{counted(n, 'tensor')} of {dtype} widened to float32"
