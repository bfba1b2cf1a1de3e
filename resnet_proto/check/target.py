"""What a tool chain that reads Caffe takes: profiles as data, and rules for a net and one of them.

    targets/NAME.toml -> Target; Target + a net at TEST + weights -> what is not taken

A profile says what its sources say, line by line; the tool chain itself is not asked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_proto.check.finding import ERROR, Found
from resnet_proto.check.nets import View, is_batch_norm
from resnet_proto.errors import ShapeError
from resnet_proto.layers import Layer, Shape
from resnet_proto.layers.base_convolution import BaseConvolution
from resnet_proto.layers.pooling import Pooling
from resnet_proto.training.train_val import is_train_val

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

FOLDER = Path(__file__).with_name("targets")
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
"""The targets that ``check --target`` and ``convert --target`` know."""
DEPTHWISE = ("ConvolutionDepthwise", "DepthwiseConvolution")
PAIRS = {"kernel_size": "kernel", "stride": "stride", "pad": "pad"}
"""Repeated fields of a Convolution, and what the fields for rows and columns begin with."""
HEADERS = ("layer", "input_shape", "input_dim", "input_dims")
"""How the inputs of a net are written, the newest first; ``input_dims`` are of several inputs."""
POSITIVE = ("ReLU", "ReLU6", "Sigmoid", "Softmax", "AbsVal")
"""Types whose tops are never negative; those of ``KEEPING`` if no bottom is."""
KEEPING = ("Concat", "Dropout", "Flatten", "Permute", "Pooling", "Reshape", "Slice", "Split")
ROUNDING = {"round_mode", "ceil_mode"}


class Limit(NamedTuple):
    """What one quantity of some layers may be.

    Args:
        types: of the layers.
        quantity: a key of ``QUANTITIES``, or a field of the type's own message.
        least: the smallest number that is taken, if it is a range. ``most`` likewise.
        among: the values that are taken, if it is no range; of a tuple, each of its values.
        why: what happens otherwise, if the source says more than that it is not taken.
        source: where it is said.
    """

    types: tuple[str, ...]
    quantity: str
    least: float
    most: float
    among: tuple[Any, ...] | None
    why: str
    source: str

    def takes(self, value: Any) -> bool:
        """Whether a value is taken; each of several has to be."""
        if isinstance(value, tuple):
            return all(map(self.takes, value))
        if self.among is not None:
            return value in self.among
        return bool(self.least <= value <= self.most)

    @property
    def text(self) -> str:
        """The values that are taken, as people write them."""
        if self.among is None:
            return f"{self.least:g} to {self.most:g}"
        values = (str(x).lower() if isinstance(x, bool) else str(x) for x in self.among)
        return " or ".join(values) or "none"


@dataclass(frozen=True)
class Target:
    """A tool chain.

    Args:
        name: of its file.
        title: what messages call it.
        version: the version that the sources are about, and when they were read.
        types: layer type -> the source that says it is taken.
        limits: of layers of these types.
        header: forms of the net's inputs, of ``HEADERS``.
        batch: the only batch size, or 0.
        batch_norm: whether BatchNorm has to be folded.
        floor: the fields that say that pooling rounds down.
        spelled: layer type -> fields that have to be spelled although they have a default.
        pairs: whether different values for rows and columns are to be spelled ``_h`` and ``_w``
            (True), or as repeated fields (False); None if either will do.
        factor: whether BatchNorm's scale factor must not be 0.
        zero_pad: whether a maximum beyond the image is 0, so that it is right behind a ReLU only.
        text: whether there are only the fields of Caffe 1.0.
        sources: of these, by their name here.
    """

    name: str
    title: str
    version: str
    types: Mapping[str, str]
    limits: tuple[Limit, ...]
    header: tuple[str, ...] = HEADERS
    batch: int = 0
    batch_norm: bool = False
    floor: tuple[str, ...] = ()
    spelled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: bool | None = None
    factor: bool = False
    zero_pad: bool = False
    text: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)


@cache
def load_target(name: str) -> Target:
    """The profile of one of ``NAMES``."""
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    types: dict[str, str] = {}
    limits: list[Limit] = []
    sources: dict[str, str] = {}
    values: dict[str, Any] = {}
    for line in data["line"]:
        line = dict(line)
        source, why = line.pop("source"), line.pop("why", "")
        taken, of = line.pop("types", ()), tuple(line.pop("of", ()))
        types |= dict.fromkeys(taken, source)
        if of:
            limits += [limit(of, key, value, why, source) for key, value in line.items()]
        else:
            values |= {k: tuple(v) if isinstance(v, list) else v for k, v in line.items()}
            sources |= dict.fromkeys(line, source)
    if "spelled" in values:
        values["spelled"] = {k: tuple(v) for k, v in values["spelled"].items()}
    return Target(
        name, data["title"], data["version"], types, tuple(limits), sources=sources, **values
    )


def limit(types: tuple[str, ...], quantity: str, value: Any, why: str, source: str) -> Limit:
    """One entry of a line: a list of values, or a range ``"1..16"``."""
    if isinstance(value, list):
        return Limit(types, quantity, 0, 0, tuple(value), why, source)
    least, _, most = value.partition("..")
    return Limit(types, quantity, float(least), float(most or "inf"), None, why, source)


@cache
def fields_of_1_0() -> Mapping[str, frozenset[str]]:
    """Message -> its fields that the tag 1.0 lacks: of ``caffe-1.0.toml``."""
    data = tomllib.loads((FOLDER / "caffe-1.0.toml").read_text(encoding="utf-8"))
    return {message: frozenset(names) for message, names in data["later"].items()}


# ---- quantities: a step -> what a limit is about; None where there is nothing to say


def windows(step: Step) -> tuple[tuple[int, ...], ...] | None:
    """Kernel, stride, pad and dilation, each with a value for each axis."""
    layer = step.layer
    if isinstance(layer, Pooling):
        return None if layer.global_pooling else (*layer.windows(step.bottoms[0]), (1,))
    if isinstance(layer, BaseConvolution):
        return layer.windows(len(step.bottoms[0][2:]))
    return None


def side(place: int) -> Callable[[Step], tuple[int, ...] | None]:
    """One of the four of ``windows``."""

    def of(step: Step) -> tuple[int, ...] | None:
        found = windows(step)
        return None if found is None else found[place]

    return of


def stride_for_kernel(step: Step) -> tuple[float, ...] | None:
    """How many kernels a stride is long."""
    found = windows(step)
    return None if found is None else tuple(s / k for k, s in zip(*found[:2], strict=True))


def reach(step: Step) -> tuple[int, ...]:
    """How many rows and columns the last windows of a pooling reach past the image.

    Nothing where a window lies outside of it, which has no sensible value in Caffe either.
    """
    layer = step.layer
    assert isinstance(layer, Pooling)
    try:
        return layer.end_pad(step.bottoms[0])
    except ShapeError:
        return ()


def average_beyond_pad(step: Step) -> tuple[int, ...] | None:
    """How far the last windows of an average reach past the pad, for Caffe rounds up."""
    layer = step.layer
    if not isinstance(layer, Pooling) or layer.pool != "AVE":
        return None
    pads = layer.windows(step.bottoms[0])[2]
    return tuple(max(0, end - pad) for end, pad in zip(reach(step), pads, strict=False))


def padded_average_beyond_pad(step: Step) -> tuple[int, ...] | None:
    """The same, of an average with a pad only."""
    found = average_beyond_pad(step)
    pads = () if found is None else step.layer.windows(step.bottoms[0])[2]  # type: ignore[attr-defined]
    return found if any(pads) else None


def use_global_stats(step: Step) -> bool | None:
    """Whether stored statistics are used, after the phase's default."""
    return bool(getattr(step.layer, "is_global", True))


QUANTITIES: Mapping[str, Callable[[Step], Any]] = {
    "kernel": side(0),
    "stride": side(1),
    "pad": side(2),
    "dilation": side(3),
    "stride_for_kernel": stride_for_kernel,
    "dilations": lambda step: len(set(getattr(step.layer, "dilation", ()))),
    "bottoms": lambda step: len(step.bottoms),
    "tops": lambda step: len(step.tops),
    "axes": lambda step: len(step.bottoms[0]),
    "size": lambda step: tuple(n for shape in (*step.bottoms, *step.tops) for n in shape[2:]),
    "average_beyond_pad": average_beyond_pad,
    "padded_average_beyond_pad": padded_average_beyond_pad,
    "use_global_stats": use_global_stats,
}
"""Name -> what it is of a layer, where it is more than a field."""


def quantity(step: Step, name: str) -> Any:
    """A quantity of a layer, or a field of its own message after Caffe's default."""
    if name in QUANTITIES:
        return QUANTITIES[name](step)
    return getattr(step.layer, name)


# ---- the rules


@dataclass(frozen=True)
class Aim:
    """A net held against a target.

    Args:
        target: what it is for.
        net: as it is written.
        view: the same at TEST, with old inputs upgraded.
        weights: arrays by ``<layer>.<blob>``, if they are known.
    """

    target: Target
    net: Net
    view: View
    weights: Mapping[str, Array] | None = None


TargetRule = Callable[[Aim], Iterator[Found]]


def makes(target: Target) -> str:
    """The remedy where ``convert`` is one."""
    return f"`convert --target {target.name}` writes what it takes"


def target_deploy(aim: Aim) -> Iterator[Found]:
    """A net that trains."""
    if is_train_val(aim.net.upgraded().filtered()):
        reason = f"this is a train_val net, {aim.target.title} takes the net for inference"
        yield Found(ERROR, reason, "`resnet-proto deploy` makes it of this one")


def target_type(aim: Aim) -> Iterator[Found]:
    """Layer types that are not taken."""
    target, at = aim.target, aim.view
    for layer in at.layers:
        if layer.type in target.types or is_input(layer):
            continue
        remedy = "end the net before it and compute the rest elsewhere, or use other layers"
        if layer.type == "Dropout" or (layer.type in DEPTHWISE and "Convolution" in target.types):
            remedy = makes(target)
        listed = next(iter(target.types.values()))
        reason = f"{target.title} takes no {layer.type} ({listed})"
        yield Found(ERROR, reason, remedy, layer.name)


def target_value(aim: Aim) -> Iterator[Found]:
    """Values of layers that are not taken."""
    target, at = aim.target, aim.view
    for step in at.steps:
        for one in target.limits:
            if step.layer.type not in one.types:
                continue
            value = quantity(step, one.quantity)
            if value is None or one.takes(value):
                continue
            shown = "x".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
            what = one.quantity.replace("_for_", "/")
            yield Found(
                ERROR,
                f"{what} {shown} in a {step.layer.type}: {target.title} takes {one.text}"
                f"{f', {one.why}' if one.why else ''} ({one.source})",
                "change the net, or end it before this layer",
                step.layer.name,
            )


def target_header(aim: Aim) -> Iterator[Found]:
    """Inputs that are written otherwise."""
    target, form = aim.target, header(aim.net)
    if form and form not in target.header:
        known = " or ".join(map(spelled_header, target.header))
        yield Found(
            ERROR,
            f"its inputs are written as {spelled_header(form)}, {target.title} reads {known} "
            f"({target.sources['header']})",
            makes(target),
        )


def target_batch(aim: Aim) -> Iterator[Found]:
    """A batch of another size."""
    target, at = aim.target, aim.view
    for name, shape in input_shapes(at):
        if target.batch and shape and shape[0] != target.batch:
            yield Found(
                ERROR,
                f"input '{name}' has a batch of {shape[0]}, {target.title} takes {target.batch} "
                f"({target.sources['batch']})",
                makes(target),
            )


def target_batch_norm(aim: Aim) -> Iterator[Found]:
    """BatchNorm where it is not taken."""
    target, at = aim.target, aim.view
    for layer in at.layers:
        if target.batch_norm and is_batch_norm(layer):
            yield Found(
                ERROR,
                f"BatchNorm, which {target.title} takes as part of the layer before it only "
                f"({target.sources['batch_norm']})",
                makes(target),
                layer.name,
            )


def target_floor(aim: Aim) -> Iterator[Found]:
    """Fields about rounding that are not known, or are passed over."""
    target, at = aim.target, aim.view
    for layer in at.layers:
        words = (layer.param.keys() & ROUNDING) - {*target.floor}
        if isinstance(layer, Pooling) and words:
            known = " or ".join(target.floor) or "no such field, as far as its sources say"
            yield Found(
                ERROR,
                f"{min(words)} in a Pooling: {target.title} knows {known} "
                f"({target.sources['floor']})",
                makes(target),
                layer.name,
            )


def target_pad(aim: Aim) -> Iterator[Found]:
    """Maxima past the image where they are 0, of what may be negative."""
    target, at = aim.target, aim.view
    positive: set[str] = set()
    for step in at.steps if target.zero_pad else ():
        layer = step.layer
        if layer.type in POSITIVE and not layer.param.get("negative_slope"):
            positive |= {*layer.tops}
        elif layer.type not in KEEPING or not positive.issuperset(layer.bottoms):
            positive -= {*layer.tops}
        else:
            positive |= {*layer.tops}
        if not isinstance(layer, Pooling) or layer.pool != "MAX" or layer.bottoms[0] in positive:
            continue
        if any((*layer.windows(step.bottoms[0])[2], *reach(step))):
            yield Found(
                ERROR,
                f"a maximum past the image of what may be negative: {target.title} takes it as 0 "
                f"there ({target.sources['zero_pad']})",
                "put a ReLU before it, or choose sizes at which the windows end with the image",
                layer.name,
            )


def target_spelled(aim: Aim) -> Iterator[Found]:
    """Fields whose default is another than Caffe's."""
    target, at = aim.target, aim.view
    for layer in at.layers:
        for name in target.spelled.get(layer.type, ()):
            if name not in layer.param:
                yield Found(
                    ERROR,
                    f"{name} is not spelled in a {layer.type}, and {target.title} has another "
                    f"default than Caffe ({target.sources['spelled']})",
                    makes(target),
                    layer.name,
                )


def target_pairs(aim: Aim) -> Iterator[Found]:
    """Values for rows and columns in fields that are not read, or read the other way round."""
    target, at = aim.target, aim.view
    for layer in at.layers:
        if target.pairs is None or not isinstance(layer, BaseConvolution):
            continue
        for one, prefix in PAIRS.items():
            repeated = len(set(layer.param.get(one, ()))) > 1
            apart = bool(layer.param.keys() & {f"{prefix}_h", f"{prefix}_w"})
            if repeated if target.pairs else apart:
                known = f"{prefix}_h and {prefix}_w" if target.pairs else f"{one} twice"
                yield Found(
                    ERROR,
                    f"rows and columns of {one}: {target.title} reads {known} "
                    f"({target.sources['pairs']})",
                    makes(target),
                    layer.name,
                )


def target_text(aim: Aim) -> Iterator[Found]:
    """Fields that Caffe 1.0 does not know, for which it refuses the whole file; others have
    ``target_floor``.
    """
    target, at = aim.target, aim.view
    if not target.text:
        return
    for layer in at.layers:
        if layer.type in target.types:
            for name in {*unknown_fields(layer.fields, "LayerParameter")} - ROUNDING:
                yield Found(
                    ERROR,
                    f"{target.title} knows no field {name} ({target.sources['text']})",
                    "leave it out, or use mainline's layers",
                    layer.name,
                )


def target_weights(aim: Aim) -> Iterator[Found]:
    """Weights that are missing, for which a tool chain has no filler; statistics of nothing."""
    target, at, weights = aim.target, aim.view, aim.weights
    if weights is None:
        return
    for step in at.steps:
        missing = [
            name
            for name in step.blobs
            if not any(key in weights for key in step.shared.get(name, (f"{step.label}.{name}",)))
        ]
        if missing and step.layer.type in target.types:
            yield Found(
                ERROR,
                f"no {missing[0]} in the weights",
                "give weights of this net; a tool chain does not run fillers",
                step.layer.name,
            )
        factor = f"{step.label}.scale_factor"
        if target.factor and factor in weights and not weights[factor].any():
            yield Found(
                ERROR,
                f"a scale factor of 0: {target.title} divides by it ({target.sources['factor']})",
                "fold it with convert --fold-bn, which takes mean and variance as 0 as Caffe does",
                step.layer.name,
            )


TARGET_RULES: Mapping[str, TargetRule] = {
    "target-deploy": target_deploy,
    "target-type": target_type,
    "target-value": target_value,
    "target-header": target_header,
    "target-batch": target_batch,
    "target-batch-norm": target_batch_norm,
    "target-floor": target_floor,
    "target-pad": target_pad,
    "target-spelled": target_spelled,
    "target-pairs": target_pairs,
    "target-text": target_text,
    "target-weights": target_weights,
}


def check_target(aim: Aim) -> Iterator[tuple[str, Found]]:
    """Rule and finding, of all of ``TARGET_RULES``; of a net that trains, of the first only."""
    for name, rule in TARGET_RULES.items():
        findings = list(rule(aim))
        for found in findings:
            yield name, found
        if findings and rule is target_deploy:
            return


# ---- what the rules ask


def is_input(layer: Layer) -> bool:
    """Whether the caller gives its tops."""
    return layer.type == "Input"


def header(net: Net) -> str:
    """How the inputs of a net are written, one of ``HEADERS``; empty where it has none."""
    if any(map(is_input, net.layers)):
        return "layer"
    form = next((form for form in HEADERS[1:3] if form in net.fields), "")
    return "input_dims" if form == "input_dim" and len(net.fields["input"]) > 1 else form


def spelled_header(form: str) -> str:
    """The form in words."""
    if form == "input_dims":
        return "several input, and input_dim"
    return "Input layers" if form == "layer" else f"input and {form}"


def input_shapes(at: View) -> Iterable[tuple[str, Shape]]:
    """Name and shape of each input."""
    for step in at.steps:
        if is_input(step.layer):
            yield from zip(step.layer.tops, step.tops, strict=True)


def unknown_fields(tree: Mapping[str, Any], message: str) -> Iterator[str]:
    """Fields, in messages within too, that Caffe 1.0 lacks."""
    from resnet_proto.schema import fields

    known, later = fields(message), fields_of_1_0().get(message, frozenset())
    for name, value in tree.items():
        if name not in known or name in later:
            yield name
        elif isinstance(value, Mapping) and known[name].message:
            yield from unknown_fields(value, known[name].message)
