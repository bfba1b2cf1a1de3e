"""Weights of a residual net -> those of torchvision's or timm's model of it.

    net -> spec, and what each layer is in it -> keys, arrays, the lines that build the model

The way back, ``state_dict.py``, has the keys from here. Which layer is which comes from the graph
(``recognize``), not from names. Sources: torchvision 0.28, models/resnet.py; timm 1.0,
models/resnet.py and models/senet.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.fit import named, step_blobs
from resnet_proto.formats import save
from resnet_proto.graph import Graph
from resnet_proto.layers.batch_norm import statistics
from resnet_proto.naming import Sighting, counterparts, sightings
from resnet_proto.recognize import one_image, recognize
from resnet_proto.render import render
from resnet_proto.spec import EXPANSION, ResNetSpec
from resnet_proto.weights import Weights

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array, Layer
    from resnet_proto.net import Net

PACKAGES = ("torchvision", "timm")
SUFFIXES = (".safetensors", ".pt", ".pth")
WIDTHS = (64, 128, 256, 512)
"""Of the stages of torchvision's models, and of timm's SENet."""
EPS = 1e-5
"""Of torch's BatchNorm2d, by default."""


class Keys(NamedTuple):
    """How the keys of a package's models are spelled.

    Args:
        stem: the convolution of a stem of one; ``deep`` those of a stem of three.
        squeeze: what squeezes, within a unit.
        classifier: the last matrix.
    """

    stem: str
    deep: tuple[str, str, str]
    squeeze: str
    classifier: str


RESNET = Keys("conv1", ("conv1.0", "conv1.3", "conv1.6"), "se", "fc")
"""ResNet of torchvision and timm."""
SENET = Keys(
    "layer0.conv1", ("layer0.conv1", "layer0.conv2", "layer0.conv3"), "se_module", "last_linear"
)
"""SENet of timm, a port of its release: Caffe's own stride and pooling."""
STATISTICS = {"mean": "running_mean", "variance": "running_var"}
"""What BatchNorm's blobs are called there."""


class Model(NamedTuple):
    """The class of a package that makes a net, and how its keys are spelled.

    Args:
        module: where it is, with ``name`` and ``block``.
        arguments: of the class, behind block and stages.
        keys: of its state dict.
    """

    module: str
    name: str
    block: str
    arguments: tuple[tuple[str, Any], ...]
    keys: Keys = RESNET


def save_for(
    package: str,
    path: str | os.PathLike[str],
    weights: Mapping[str, Array],
    net: Net,
    *,
    force: bool = False,
    verify: bool = True,
    prove: Callable[[Path], object] = lambda part: None,
) -> Path:
    """Write a residual net's weights under the keys of another package, and ``model.py`` beside.

    Biases of convolutions are taken off the means of the BatchNorm behind them, exactly.

    Args:
        package: one of ``PACKAGES``.
        path: a ``.safetensors`` or ``.pt`` file.
        weights: they fit the net.
        net: a deploy net.
        force: write what the package's own model of this depth would load, and compute something
            else with; and take the place of files that have other content.
        verify: as ``formats.save``.
        prove: likewise.

    Returns:
        The path of ``model.py``.

    Raises:
        NetError: the net is no residual net, the package has none like it, or ``force`` is needed.
        ResNetProtoError: a file is in the way.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ResNetProtoError(
            f"{target}: names of {package} go into {' and '.join(SUFFIXES[:2])}; change the suffix"
        )
    spec = recognize(net)
    with net.named():
        model = model_of(package, spec)
        apart = differences(model, spec)
        if apart and not force:
            raise NetError(
                f"{package}'s own model would load these weights and compute something else: "
                f"{'; '.join(apart)}. With --force they are written all the same: the model.py "
                "beside them builds the model that they are for"
            )
    text = model_text(package, model, spec, target.name)
    script = target.with_name("model.py")
    arrays = Weights.of(renamed(model, spec, net, weights), getattr(weights, "source", "weights"))
    options = {"names": package, **untold(model.keys, spec)}
    content = {script: text.encode()}
    save(target, arrays, verify=verify, force=force, options=options, beside=content, prove=prove)
    return script


def model_of(package: str, spec: ResNetSpec) -> Model:
    """What builds the net of a spec.

    Raises:
        NetError: the package has no such net.
    """
    squeezed, deep = spec.squeeze > 0, spec.stem in ("deep", "tiered")
    for wrong, what in (
        (spec.task != "classification", f"task {spec.task}"),
        (spec.unit not in ("basic", "bottleneck"), f"{spec.unit} units"),
        (spec.order != "original", f"order {spec.order}"),
        (spec.shortcut not in "BD", f"shortcut {spec.shortcut}"),
        (spec.highway, "highway gates"),
        (spec.project_first_stage and first_keeps(spec), "a projection that changes no shape"),
        (not (deep or spec.stem == "7x7"), f"stem {spec.stem}"),
        (
            spec.stem_width % 2 if deep else spec.stem_width != 64,
            f"a stem of {spec.stem_width} channels",
        ),
        (spec.pool == "none", "no pooling behind the stem"),
        (len(spec.stages) != 4, f"{len(spec.stages)} stages"),
        (spec.output_stride > 0, "dilation"),
        (spec.dropout > 0, "dropout within units"),
        (
            spec.squeeze_relu and not is_senet(spec),
            "a ReLU before squeeze and excitation, which only timm's SENet of basic units has",
        ),
        (package == "torchvision" and squeezed, "squeeze and excitation, which timm has"),
        (package == "torchvision" and deep, "a deep stem, which timm has"),
        (package == "torchvision" and spec.shortcut == "D", "shortcut D, which timm has"),
        (package == "torchvision" and spec.halve_first, "a halved 1x1, which timm has"),
        (
            package == "torchvision" and spec.projection_kernel > 1,
            "wide projections, which timm has",
        ),
    ):
        if wrong:
            raise NetError(f"{package} has no such net: it has {what}")
    block = "BasicBlock" if spec.unit == "basic" else "Bottleneck"
    arguments: dict[str, Any]
    if package == "torchvision":
        arguments = {
            "num_classes": spec.classes,
            "groups": spec.cardinality,
            "width_per_group": spec.base_width,
        }
        return Model("torchvision.models.resnet", "ResNet", block, tuple(arguments.items()))
    if squeezed and is_senet(spec):
        kind = "SEResNetBlock" if block == "BasicBlock" else f"SEResNet{block}"
        if spec.cardinality > 1:
            kind = "SEBottleneck" if spec.halve_first else "SEResNeXtBottleneck"
        arguments = {
            "groups": spec.cardinality,
            "reduction": spec.squeeze,
            "num_classes": spec.classes,
            "in_chans": spec.input_channels,
        }
        if deep:
            arguments |= {"inplanes": spec.stem_width, "input_3x3": True}
        if spec.projection_kernel > 1:
            arguments |= {
                "downsample_kernel_size": spec.projection_kernel,
                "downsample_padding": spec.projection_kernel // 2,
            }
        return Model("timm.models.senet", "SENet", kind, tuple(arguments.items()), SENET)
    if squeezed and not squeezes_as_timm(spec):
        raise NetError("timm has no such net: its squeeze is by 16, to multiples of 8")
    arguments = {
        "num_classes": spec.classes,
        "in_chans": spec.input_channels,
        "cardinality": spec.cardinality,
        "base_width": spec.base_width,
        "channels": spec.widths,
    }
    if deep:
        kind = "deep" if spec.stem == "deep" else "deep_tiered"
        arguments |= {"stem_width": spec.stem_width // 2, "stem_type": f'"{kind}"'}
    if spec.shortcut == "D":
        arguments |= {"avg_down": True}
    if spec.halve_first:
        arguments |= {"block_reduce_first": 2}
    if spec.projection_kernel > 1:
        arguments |= {"down_kernel_size": spec.projection_kernel}
    if squeezed:
        arguments |= {"block_args": '{"attn_layer": "se"}'}
    return Model("timm.models.resnet", "ResNet", block, tuple(arguments.items()))


def first_keeps(spec: ResNetSpec) -> bool:
    """Whether the first unit's shortcut has the right shape by itself."""
    return spec.stem_width == spec.widths[0] * EXPANSION[spec.unit]


def is_senet(spec: ResNetSpec) -> bool:
    """Whether timm's SENet is the net, with Caffe's pooling, and strides as in SENet's release."""
    usually = untold_there(SENET, spec)
    grouped = spec.cardinality > 1
    width = 4 if grouped else 64
    return (
        all(getattr(spec, field) == usually[field] for field in UNTOLD)
        and (spec.stem, spec.stem_width) in (("7x7", 64), ("deep", 128))
        and spec.shortcut == "B"
        and spec.widths == WIDTHS
        and (
            grouped and spec.cardinality * spec.base_width == 256
            if spec.halve_first
            else spec.base_width == width
        )
        and spec.squeeze_least == 1
    )


def squeezes_as_timm(spec: ResNetSpec) -> bool:
    """Whether each unit is squeezed by 16, to a multiple of 8: timm/layers, make_divisible."""
    out = [width * EXPANSION[spec.unit] for width in spec.widths]
    return spec.squeeze == 16 and all(
        max(spec.squeeze_least, channels // 16) == max(8, (channels // 16 + 4) // 8 * 8)
        for channels in out
    )


def untold_there(keys: Keys, spec: ResNetSpec) -> dict[str, Any]:
    """What neither keys nor shapes tell of a net, as the models with these keys have it.

    Args:
        keys: ``RESNET`` or ``SENET``.
        spec: of which only what keys and shapes tell is looked at.
    """
    first = spec.unit == "basic" or (keys is SENET and spec.cardinality == 1)
    return {
        "stride_in": "first" if first else "3x3",
        "pool": "ceil" if keys is SENET else "padded",
        "eps": EPS,
        "squeeze_relu": keys is SENET and spec.unit == "basic" and spec.squeeze > 0,
        "head": "global",
        "input_size": ResNetSpec.input_size,
        **{field: getattr(ResNetSpec, field) for field in SPELLING},
    }


UNTOLD = ("stride_in", "pool", "eps", "squeeze_relu")
"""Fields that keys and shapes do not tell, and that change what is computed."""
SPELLING = (
    "name", "conv_bias", "conv1_bias", "moving_average_fraction", "in_place", "dialect",
)  # fmt: skip
"""Fields of which models have nothing; a bias is part of the mean behind it there."""


def untold(keys: Keys, spec: ResNetSpec) -> dict[str, str]:
    """What the keys would not tell of this net, and is not as usual: field -> value, as text."""
    return {
        field: str(value).lower() if isinstance(value, bool) else str(value)
        for field, usual in untold_there(keys, spec).items()
        if (value := getattr(spec, field)) != usual
    }


def differences(model: Model, spec: ResNetSpec) -> list[str]:
    """What the package's own model of this depth does otherwise, and would not say."""
    if model.keys is SENET:
        return []
    found = {
        "the stride of a stage is in its first 1x1 (v1), there in the 3x3 (v1.5)": moved(spec),
        "the pooling behind the stem rounds up, there it is padded": spec.pool == "ceil",
        f"BatchNorm's eps is {spec.eps:g}, there {EPS:g}": spec.eps != EPS,
    }
    return [text for text, apart in found.items() if apart]


def moved(spec: ResNetSpec) -> bool:
    """Whether strides are where these packages do not have them."""
    return spec.unit == "bottleneck" and spec.stride_in == "first"


def model_text(package: str, model: Model, spec: ResNetSpec, file: str) -> str:
    """The Python that builds the model."""
    own = package == "torchvision" and spec.widths != WIDTHS
    values: dict[str, Any] = {
        "title": spec.title,
        "package": package,
        "file": file,
        "module": model.module,
        "class": model.name,
        "block": model.block,
        "stages": list(spec.stages),
        "arguments": model.arguments,
        "eps": "" if spec.eps == EPS else repr(spec.eps),
        "width": list(zip(spec.widths, spec.stages, strict=True)) if own else [],
        "classes": spec.classes,
        "channels": spec.input_channels,
        "ceil": spec.pool == "ceil" and model.keys is RESNET,
        "first": moved(spec) and model.keys is RESNET,
    }
    return render("model.py.j2", **values)


def renamed(
    model: Model, spec: ResNetSpec, net: Net, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """The arrays of a net by the keys of a model."""
    import numpy as np

    layers = counterparts(spec, Graph.of(one_image(net, [])))
    given = named(weights, net)
    values = {
        step.layer.name: dict(zip(step.blobs, step_blobs(step, given, "float32"), strict=True))
        for step in net.walk()
    }
    arrays: dict[str, Array] = {}
    offsets: dict[str, Array] = {}
    for layer, key, kind in placed(model.keys, spec, layers):
        own = values[layer.name]
        if kind == "convolution":
            arrays[f"{key}.weight"] = own["weight"]
            offsets[norm_of(key)] = own.get("bias", np.zeros(1, np.float32))
        elif kind == "classifier":
            arrays |= {f"{key}.{name}": array for name, array in own.items()}
        elif kind == "gate":  # there a 1x1 convolution
            arrays |= {f"{key}.weight": own["weight"][..., None, None], f"{key}.bias": own["bias"]}
        else:
            if "mean" in own:
                mean, variance = statistics([own["mean"], own["variance"], own["scale_factor"]])
                exact = mean.astype(np.float64) - offsets[key]
                found = {"mean": exact.astype(np.float32), "variance": variance}
                arrays |= {f"{key}.{STATISTICS[name]}": array for name, array in found.items()}
                arrays[f"{key}.num_batches_tracked"] = np.zeros((), np.int64)
            arrays |= {f"{key}.{name}": own[name] for name in ("weight", "bias") if name in own}
    return arrays


def placed(
    keys: Keys, spec: ResNetSpec, layers: Sequence[Layer]
) -> Iterator[tuple[Layer, str, str]]:
    """Each layer with weights, its key without the blob, and its kind.

    Args:
        keys: how keys are spelled.
        spec: whose net the layers are.
        layers: in the order of the spec's net.

    Returns:
        kind: convolution, batch_norm, scale, gate (of squeeze and excitation), classifier.
    """
    for seen, layer in zip(sightings(spec, layers), layers, strict=True):
        if layer.type in ("Convolution", "InnerProduct", "BatchNorm", "Scale") and (
            len(layer.bottoms) == 1
        ):
            yield layer, *key_of(keys, spec, seen)


def norm_of(convolution: str) -> str:
    """The key of the BatchNorm behind a convolution."""
    *before, last = convolution.split(".")
    if last.isdecimal():  # within a Sequential; the third of a deep stem is the last there
        following = "bn1" if (before, last) == (["conv1"], "6") else ""
        return following or ".".join([*before, str(int(last) + 1)])
    return ".".join([*before, last.replace("conv", "bn")])


def key_of(keys: Keys, spec: ResNetSpec, seen: Sighting) -> tuple[str, str]:
    """The key of a layer with weights, without the blob; and what kind of layer it is."""
    stage, block = seen.unit
    unit = f"layer{stage - 1}.{block - 1}"
    if seen.pattern == "classifier":
        return keys.classifier, "classifier"
    if seen.pattern == "other":
        return f"{unit}.{keys.squeeze}.{ {'down': 'fc1', 'up': 'fc2'}[seen.rest] }", "gate"
    if seen.pattern.startswith("stem"):
        deep = dict(zip(("1a", "1b", "1c"), keys.deep, strict=True))
        convolution = deep.get(seen.rest, keys.stem)
    elif seen.rest == "p":
        convolution = f"{unit}.downsample.{int(spec.shortcut == 'D')}"
    else:
        convolution = f"{unit}.conv{seen.rest}"
    kind = seen.pattern.removeprefix("stem_")
    return (convolution, kind) if kind == "convolution" else (norm_of(convolution), kind)
