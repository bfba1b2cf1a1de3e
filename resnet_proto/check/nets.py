"""Rules about nets: a net at one phase -> what would hurt.

A rule that cannot decide, because shapes are not known, says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from resnet_proto.check.finding import ERROR, NOTE, WARNING, Found
from resnet_proto.errors import MAX_NAME, NetError, UnknownLayerError, UnknownShapeError
from resnet_proto.layers import REGISTRY, Convolution, Layer, Shape, count, dims
from resnet_proto.memory import SMALL_BATCH, layer_batch
from resnet_proto.net import Net, Step, count_readers
from resnet_proto.presets import PRESETS
from resnet_proto.schema import MAINLINE_TYPES
from resnet_proto.spec import ResNetSpec
from resnet_proto.structure import is_activation

WEIGHTED = ("Convolution", "Deconvolution", "InnerProduct")
DEPTHWISE = ("ConvolutionDepthwise", "DepthwiseConvolution")
ENLARGING = ("Deconvolution", "Interp", "Upsample", "Crop")
UNFIT = "Caffe ends when it sets this net up"
APART = ("does-not-fit", "zero-weights")
"""Rules whose errors are no reason why a net cannot be set up."""
PASSING = ("Dropout", "Flatten", "Reshape", "Split")


@dataclass(frozen=True)
class View:
    """A net at one phase.

    Args:
        net: with old inputs upgraded, all phases.
        phase: TEST or TRAIN.
        layers: those of the phase.
        steps: the first of them, as far as their shapes are known.
        error: why the walk ended before the last of them.
        trained: whether it is a net to train: it has a loss, or a solver names it.
        pretrained: whether the solver begins with weights of a file.
        within: whether it is a net within a solver, which Caffe does not upgrade.
    """

    net: Net
    phase: str
    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]
    error: NetError | None
    trained: bool
    pretrained: bool = False
    within: bool = False

    @property
    def training(self) -> bool:
        """Whether this is what is trained."""
        return self.trained and self.phase == "TRAIN"

    @cached_property
    def writers(self) -> list[list[Layer]]:
        """For each layer: those that have written its bottoms, as it reads them."""
        last: dict[str, Layer] = {}
        found = []
        for layer in self.layers:
            found.append([last[name] for name in layer.bottoms if name in last])
            last |= dict.fromkeys(layer.tops, layer)
        return found

    @cached_property
    def readers(self) -> list[list[Layer]]:
        """For each layer: those that read its tops as it writes them."""
        places = {id(layer): i for i, layer in enumerate(self.layers)}
        found: list[list[Layer]] = [[] for _ in self.layers]
        for layer, writers in zip(self.layers, self.writers, strict=True):
            for writer in writers:
                found[places[id(writer)]].append(layer)
        return found


def view(
    net: Net,
    phase: str,
    *,
    shapes: Mapping[str, Shape] | None = None,
    trained: bool | None = None,
    pretrained: bool = False,
    within: bool = False,
) -> View:
    """The net at a phase, walked as far as it goes; ``shapes`` are those of its inputs.

    Raises:
        NetError: the net has no layers of a phase: its inputs or its rules are wrong.
    """
    net = net.at(phase=phase).upgraded()
    if shapes:
        net = net.with_input_shapes(shapes)
    layers = net.filtered(phase).layers
    steps: list[Step] = []
    error = None
    try:
        for step in replace(net, source="").walk(phase):
            steps.append(step)
    except NetError as refused:
        error = refused
    has = has_loss(net.filtered("TRAIN").layers) if trained is None else trained
    return View(net, phase, layers, tuple(steps), error, has, pretrained, within)


def has_loss(layers: Sequence[Layer]) -> bool:
    """Whether anything is minimised."""
    return any("Loss" in layer.type or any(layer.fields.get("loss_weight", ())) for layer in layers)


def phases_of(net: Net) -> tuple[str, ...]:
    """The phases that a net by itself is for: TEST, and TRAIN where it has a loss and data."""
    upgraded = net.upgraded()

    def fed(phase: str) -> bool:
        return any(layer.tops and not layer.bottoms for layer in upgraded.filtered(phase).layers)

    if not has_loss(upgraded.filtered("TRAIN").layers):
        return ("TEST",)
    return tuple(phase for phase in ("TRAIN", "TEST") if fed(phase)) or ("TRAIN", "TEST")


# ---- the rules

Rule = Callable[[View], Iterator[Found]]


def zero_weights(at: View) -> Iterator[Found]:
    """Weights that begin as a constant. Option A's fixed subsample is meant to."""
    for layer in at.layers:
        weighted = layer.type in (*WEIGHTED, *DEPTHWISE) and not layer.fixed
        if not at.training or at.pretrained or not weighted:
            continue
        filler = layer.param.get("weight_filler", {})
        value = filler.get("value", 0.0)
        frozen = rates(layer)[:1] == [0.0]
        if filler.get("type", "constant") != "constant" or (frozen and value):
            continue
        remedy = 'give weight_filler { type: "msra" }, or begin with a caffemodel that has them'
        if not value:
            how = "its weight_filler is constant 0" if filler else "it has no weight_filler"
            reason = f"all weights begin as 0 ({how}), so no gradient passes"
            yield Found(ERROR, reason, remedy, layer.name)
        elif layer.type not in DEPTHWISE and layer.param.get("num_output", 1) > 1:
            reason = f"all weights begin as {value:g}, so its outputs are and stay alike"
            yield Found(WARNING, reason, remedy, layer.name)


def global_stats(at: View) -> Iterator[Found]:
    """Stored statistics in training, where they would be measured.

    Where weights learn at different rates a net is fine-tuned, and has statistics.
    """
    learned = [x for x in at.layers if x.type in WEIGHTED and not x.fixed]
    finetuned = len({(rates(x) or [1.0])[0] for x in learned}) > 1
    for layer, readers in zip(at.layers, at.readers, strict=True):
        if not (at.training and is_batch_norm(layer) and layer.param.get("use_global_stats")):
            continue
        scales = [x for x in readers if x.type == "Scale"]
        frozen = scales and all(rates(x) and not any(rates(x)) for x in scales)
        yield Found(
            NOTE if at.pretrained or finetuned or frozen else WARNING,
            "use_global_stats: true in training: statistics are not measured, and from scratch "
            "they are 0",
            "leave it out (Caffe measures in TRAIN and uses them in TEST), unless pretrained "
            "statistics are to be kept",
            layer.name,
        )


def batch_statistics(at: View) -> Iterator[Found]:
    """Statistics of the batch in TEST: results depend on what else is in it."""
    for layer in at.layers:
        given = layer.param.get("use_global_stats") if is_batch_norm(layer) else None
        if at.phase == "TEST" and given is False:
            yield Found(
                ERROR,
                "use_global_stats: false at phase TEST: an image's result depends on its batch",
                "leave it out, or set it true in a deploy net",
                layer.name,
            )


def statistics_rates(at: View) -> Iterator[Found]:
    """Rates of BatchNorm's three statistics: batch_norm_layer.cpp, upgrade_proto.cpp."""
    remedy = "give param { lr_mult: 0 decay_mult: 0 } three times"
    for layer in at.layers:
        if not is_batch_norm(layer) or getattr(layer, "scales", False):
            continue
        given = layer.fields.get("param", ())
        learned = any(rates(layer))
        if not given and at.training:
            reason = "no param: Caffe before 2016 learns and decays the statistics"
            yield Found(NOTE, reason, remedy, layer.name)
        elif 0 < len(given) < 3 and learned:
            reason = "a learning rate for its statistics, which ends Caffe 1.0"
            yield Found(ERROR, reason, remedy, layer.name)
        elif len(given) == 3 and learned and at.within:
            reason = "rates that are not 0, which ends Caffe: only in files it sets them to 0"
            yield Found(ERROR, reason, remedy, layer.name)
        elif len(given) == 3 and learned and at.training:
            reason = "rates that are not 0: Caffe 1.0 sets them to 0, older Caffe learns statistics"
            yield Found(NOTE, reason, remedy, layer.name)


def batch_norm_in_place(at: View) -> Iterator[Found]:
    """A value that is read elsewhere, and that an in-place BatchNorm overwrites."""
    remedy = "give the BatchNorm's top a name of its own"
    for layer, readers in zip(at.layers, count_readers(at.layers), strict=True):
        if is_batch_norm(layer) and layer.in_place and readers[0] > 1:
            reason = f"it overwrites '{layer.bottoms[0]}' in place, which others read: Caffe ends"
            yield Found(ERROR, reason, remedy, layer.name)
    norms: dict[str, list[Layer]] = {}  # of a sum's blob: what has normalised it in place
    for layer in at.layers:
        if is_sum(layer):
            for norm in {id(x): x for name in layer.bottoms for x in norms.get(name, ())}.values():
                yield Found(
                    WARNING,
                    f"it overwrites the sum '{norm.tops[0]}' in place, which the next sum reads "
                    "as its shortcut: the identity is lost",
                    remedy,
                    norm.name,
                )
        for name in layer.tops:
            if name not in layer.bottoms:
                norms.pop(name, None)
                if is_sum(layer):
                    norms[name] = []
            elif name in norms and layer.type == "BatchNorm":
                norms[name].append(layer)


def final_pooling(at: View) -> Iterator[Found]:
    """A fixed average at every place of a map that is too large, before the classifier."""
    made: dict[str, Step] = {}
    for step in at.steps:
        layer = step.layer
        if layer.type == "InnerProduct":
            before = made.get(layer.bottoms[0])
            while before and before.layer.type in PASSING:
                before = made.get(before.layer.bottoms[0])
            if before and is_fixed_average(before) and count(before.tops[0][2:]) > 1:
                yield Found(
                    ERROR,
                    f"the pooling leaves {dims(before.tops[0][2:])} of a map of "
                    f"{dims(before.bottoms[0][2:])}, and the classifier '{layer.name}' is for 1x1",
                    "take the input size that the net is for, or global_pooling: true",
                    before.layer.name,
                )
        made |= {name: step for name in layer.tops if name not in layer.bottoms}


def bias_before_batch_norm(at: View) -> Iterator[Found]:
    """A bias that the mean takes away again."""
    for layer, writers in zip(at.layers, at.writers, strict=True):
        for before in writers if is_batch_norm(layer) else ():
            if before.type in WEIGHTED and before.param.get("bias_term", True):
                yield Found(
                    NOTE,
                    "a bias before BatchNorm, which takes it away again",
                    "set bias_term: false, unless weights that have one are to be loaded",
                    before.name,
                )


def missing_relu(at: View) -> Iterator[Found]:
    """A sum without the ReLU that most sums of the net have. Pre-activation nets have none."""
    followed: list[Layer] = []
    bare: list[Layer] = []
    for layer, writers, readers in zip(at.layers, at.writers, at.readers, strict=True):
        if is_sum(layer) and layer.tops and not any(x.type in ENLARGING for x in writers):
            has = any(is_activation(x) and x.type != "Dropout" for x in readers)
            (followed if has else bare).append(layer)
    if len(followed) >= len(bare):
        for layer in bare:
            yield Found(
                WARNING,
                f"no ReLU reads this sum, as one does {len(followed)} others of the net",
                f"put a ReLU behind '{layer.tops[0]}'",
                layer.name,
            )


def small_batch(at: View) -> Iterator[Found]:
    """Statistics over few images."""
    measured = any(is_batch_norm(x) and not x.param.get("use_global_stats") for x in at.layers)
    for layer in at.layers:
        size = 0 if layer.bottoms else layer_batch(layer)
        if at.training and measured and layer.type != "Input" and 0 < size < SMALL_BATCH:
            yield Found(
                WARNING,
                f"a batch of {size} for each GPU: BatchNorm's statistics are poor under "
                f"{SMALL_BATCH}, and iter_size does not help (github BVLC/caffe #4716)",
                "take a larger batch, a smaller input, or keep pretrained statistics",
                layer.name,
            )


def swapped_data(at: View) -> Iterator[Found]:
    """The data of TRAIN and TEST, the wrong way round."""
    if not at.training:
        return
    train, test = (reading(at.net.filtered(phase).layers) for phase in ("TRAIN", "TEST"))
    if train is None or test is None or train == test:
        return
    if kind_of_data(train) == "test" and kind_of_data(test) == "train":
        yield Found(
            ERROR,
            f"TRAIN reads '{source(train)}' and TEST '{source(test)}': swapped",
            "exchange the sources or the include rules",
            train.name,
        )
    elif augments(test) and not augments(train):
        yield Found(
            WARNING,
            "TEST mirrors or shuffles its data and TRAIN does not: swapped",
            "exchange the transformations or the include rules",
            test.name,
        )


def topology(at: View) -> Iterator[Found]:
    """Other layers or weights than the preset of the same name has."""
    spec = namesake(at.net.name)
    ours = Topology.of(at)
    if spec is None or ours is None:
        return
    theirs = preset_topology(spec)
    if ours.convolutions != theirs.convolutions:
        reason = f"{ours.convolutions} convolutions, {spec.name} has {theirs.convolutions}"
        if ours.convolutions == projected(spec):
            yield Found(
                NOTE,
                f"{reason}: the other topology of this name, with a projection in the first stage",
                "take weights of this topology; `gen --project-first-stage` makes it",
            )
        else:
            yield Found(WARNING, reason, "give it another name, or see `gen --print-spec`")
    elif None not in (ours.weights, theirs.weights) and ours.weights != theirs.weights:
        yield Found(
            WARNING,
            f"{ours.weights:,} weights between the first convolution and the classifier, "
            f"{spec.name} has {theirs.weights:,}",
            "give it another name, or see `gen --print-spec`",
        )
    elif ours.biases != theirs.biases and ours.strides == theirs.strides:
        yield Found(
            NOTE,
            f"{ours.biases} convolutions with a bias, {spec.name} has {theirs.biases}",
            "weights of that net do not fit where one has a bias and the other none",
        )


def misspelt_type(at: View) -> Iterator[Found]:
    """A type that is no layer's, and almost another. One with more at an end is a fork's own."""
    known = {name.lower(): name for name in (*REGISTRY, *MAINLINE_TYPES)}
    for layer in at.layers:
        if layer.type in known.values():
            continue
        folded = layer.type[:MAX_NAME].lower()
        near = get_close_matches(folded, known, n=1, cutoff=0.85)
        if near and (near[0] == folded or near[0] not in folded):
            yield Found(
                WARNING,
                f"no layer type is called '{layer.type}'; Caffe ends there",
                f"write {known[near[0]]}, unless it is a fork's own",
                layer.name,
            )


def does_not_fit(at: View) -> Iterator[Found]:
    """What ends Caffe when it sets the net up."""
    unknown = (UnknownLayerError, UnknownShapeError)
    if at.error is not None and not isinstance(at.error, unknown):
        match = re.match(r"layer '([^']*)'(?: \(\w+\))?:? ?(.*)", str(at.error), re.S)
        layer, reason = match.groups() if match else ("", str(at.error))
        reason, _, remedy = reason.rpartition("; ")
        yield Found(ERROR, reason or remedy, remedy if reason else UNFIT, layer)


RULES: dict[str, Rule] = {
    "zero-weights": zero_weights,
    "global-stats": global_stats,
    "batch-statistics": batch_statistics,
    "statistics-rates": statistics_rates,
    "batch-norm-in-place": batch_norm_in_place,
    "final-pooling": final_pooling,
    "missing-relu": missing_relu,
    "small-batch": small_batch,
    "swapped-data": swapped_data,
    "topology": topology,
    "bias-before-batch-norm": bias_before_batch_norm,
    "misspelt-type": misspelt_type,
    "does-not-fit": does_not_fit,
}


def check_views(views: Sequence[View]) -> Iterator[tuple[str, Found]]:
    """Rule and finding, for each phase of a net.

    What ends Caffe at a layer is said once: by the rule that knows why, if there is one.
    """
    found = [[(name, item) for name, rule in RULES.items() for item in rule(at)] for at in views]
    for at, items, others in zip(views, found, found[::-1], strict=True):
        wrong = {x.layer for name, x in items if x.level == ERROR and name not in APART}
        for name, item in items:
            if name != "does-not-fit":
                yield name, item
            elif not item.layer or item.layer not in wrong:
                alone = len(views) > 1 and (name, item) not in others
                reason = f"at phase {at.phase}: {item.reason}" if alone else item.reason
                yield name, item._replace(reason=reason)


# ---- what the rules ask


def is_batch_norm(layer: Layer) -> bool:
    """Whether it normalises by statistics."""
    return layer.type == "BatchNorm"


def is_sum(layer: Layer) -> bool:
    """Whether it adds its bottoms."""
    return layer.type == "Eltwise" and layer.param.get("operation", "SUM") == "SUM"


def is_fixed_average(step: Step) -> bool:
    """Whether it averages at every place, which makes sense where there is one only."""
    layer: Any = step.layer
    if layer.type != "Pooling" or layer.pool != "AVE" or layer.global_pooling:
        return False
    kernel, stride, _ = layer.windows(step.bottoms[0])
    return bool(stride == (1, 1) and min(kernel) > 1)


def rates(layer: Layer) -> list[float]:
    """``lr_mult`` of each ``param`` that was given."""
    return [param.get("lr_mult", 1.0) for param in layer.fields.get("param", ())]


def reading(layers: Sequence[Layer]) -> Layer | None:
    """The first layer that reads files."""
    return next((layer for layer in layers if not layer.bottoms and source(layer)), None)


def source(layer: Layer) -> str:
    """Where a data layer reads."""
    return next((str(m["source"]) for m in messages(layer) if "source" in m), "")


def augments(layer: Layer) -> bool:
    """Whether images are changed or mixed by chance."""
    return any(m.get("mirror") or m.get("shuffle") for m in messages(layer))


def messages(layer: Layer) -> list[Mapping[str, Any]]:
    """The messages that were set in a layer."""
    return [value for value in layer.fields.values() if isinstance(value, Mapping)]


def kind_of_data(layer: Layer) -> str:
    """``train`` or ``test``, where the source's own name says so, and says nothing else."""
    name = Path(source(layer)).name.lower()
    kinds = {"train"} if "train" in name else set()
    kinds |= (
        {"test"} if re.search(r"(?<![a-z])(val|valid|validation|test)(?![a-z])", name) else set()
    )
    return kinds.pop() if len(kinds) == 1 else ""


@dataclass(frozen=True)
class Topology:
    """What tells nets of one name apart; ``weights`` is None where shapes are not known.

    ``strides`` are kernels and strides of the convolutions, in which v1.5 is another net.
    """

    convolutions: int
    biases: int
    weights: int | None
    strides: Sequence[tuple[Shape, ...]]

    @classmethod
    def of(cls, at: View) -> Topology | None:
        """A classifier's figures; None of a net that is something else.

        Weights are those between the first convolution, which the images' channels decide, and
        the classifier, which the classes do.
        """
        weighted = [x for x in at.layers if x.type in WEIGHTED and not x.fixed]
        convolutions = [x for x in weighted if x.type == "Convolution"]
        classifies = weighted and weighted[-1].type == "InnerProduct"
        if not classifies or any(x.type == "Deconvolution" for x in weighted):
            return None
        steps = [step for step in at.steps if step.layer.type in WEIGHTED and not step.layer.fixed]
        weights = sum(count(step.blobs["weight"]) for step in steps[1:-1])
        biases = sum(bool(x.param.get("bias_term", True)) for x in convolutions)
        whole = len(steps) == len(weighted)
        strides = sorted(
            step.layer.windows(len(step.blobs["weight"]) - 2)[:2]
            for step in steps
            if isinstance(step.layer, Convolution)
        )
        return cls(len(convolutions), biases, weights if whole else None, strides)


@cache
def preset_topology(spec: ResNetSpec) -> Topology:
    """A spec's own figures."""
    from resnet_proto.build import deploy_net

    found = Topology.of(view(deploy_net(spec), "TEST"))
    return found or Topology(0, 0, None, [])


def projected(spec: ResNetSpec) -> int:
    """Convolutions with a projection in the first stage; 0 where there is one, or can be none."""
    if (spec.unit, spec.shortcut, spec.project_first_stage) != ("basic", "B", False):
        return 0
    return preset_topology(replace(spec, project_first_stage=True)).convolutions


def namesake(name: str) -> ResNetSpec | None:
    """The preset's spec that a net is named after: ``resnet_50`` is ``ResNet-50``."""
    wanted = plain(name)
    specs = (preset.spec for preset in PRESETS.values()) if wanted else ()
    return next((spec for spec in specs if plain(spec.name) == wanted), None)


def plain(name: str) -> str:
    """Letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
