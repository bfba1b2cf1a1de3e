"""What a residual net is, as data.

TOML or preset -> ResNetSpec -> (build) -> Net
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from resnet_proto.errors import ResNetProtoError
from resnet_proto.recipe import RECIPES, Training
from resnet_proto.settings import changed, check, setting

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONVOLUTIONS = {"basic": 2, "bottleneck": 3, "fully-connected": 2}
"""Layers with weights on the main path of a unit, as the paper counts depth."""
EXPANSION = {"basic": 1, "bottleneck": 4, "fully-connected": 1}
"""Channels that leave a unit, as a multiple of the stage's width."""
MAX_UNITS = 10_000
"""Ten times the deepest net that was trained; a net's text then has some 10 MB."""
MAX_SIZE = 1 << 24
"""The most of any size: what a number of channels may be before its product overflows."""
TASKS = ("classification", "localization", "segmentation", "r-fcn", "faster-r-cnn")
"""What a net is for: the first places of the paper."""
DETECTION = ("r-fcn", "faster-r-cnn")
TASK_DATA = {
    "classification": ("lmdb", "leveldb", "image-list", "hdf5", "memory", "dummy"),
    "localization": ("hdf5", "dummy"),
    "segmentation": ("hdf5", "dummy"),
    **dict.fromkeys(DETECTION, ("roi-data",)),
}
"""What the images and answers of a task may be in."""
TASK_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "classification": {},
    "localization": {},
    "segmentation": {"output_stride": 8, "classes": 21, "input_size": 321},
    "r-fcn": {"output_stride": 16, "classes": 81, "input_size": 600},
    "faster-r-cnn": {"classes": 81, "input_size": 600},
}
"""What a task sets besides its training: PASCAL VOC or COCO, with a class for the background."""
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Names:
    """Patterns for the names of layers. A layer that is not in place gives its name to its top.

    The defaults are those of the released nets (github KaimingHe/deep-residual-networks).
    """

    unit: str = setting(
        "{stage}{letter}",
        "a unit; {stage} from 2, {stage0} from 0; {letter}: a, b; {block} from 1, {block0} from 0",
    )
    numbered_stages: tuple[int, ...] = setting(
        (), "stages (2 is the first) whose {letter} is a, b1, b2 and so on", least=2
    )
    place: str = setting(
        "{unit}_branch2{part}", "a place on the main path; {part}: a, b, c; {number} from 1"
    )
    projection: str = setting("{unit}_branch1", "the place of the projection shortcut")
    convolution: str = setting("res{place}", "the layers of a place")
    batch_norm: str = setting("bn{place}", "its BatchNorm")
    scale: str = setting("scale{place}", "its Scale")
    relu: str = setting("res{place}_relu", "its ReLU")
    sum: str = setting("res{unit}", "the Eltwise that ends a unit")
    sum_relu: str = setting("res{unit}_relu", "the ReLU after it")
    other: str = setting("res{unit}_{role}", "any other layer of a unit; {role}: gate, squeeze ...")
    stem_convolution: str = setting("conv{part}", "the stem; {part}: 1, or 1a, 1b, 1c of three")
    stem_batch_norm: str = setting("bn_conv{part}", "its BatchNorm")
    stem_scale: str = setting("scale_conv{part}", "its Scale")
    stem_relu: str = setting("conv{part}_relu", "its ReLU")
    stem_pool: str = setting("pool1", "the pooling after the stem")
    last: str = setting("{role}_last", "what ends a pre-activation net; {role}: bn, scale, relu")
    pool: str = setting("pool{stage}", "the last pooling")
    classifier: str = setting("fc{classes}", "the classifier")
    probabilities: str = setting("prob", "the softmax")

    KNOWN: ClassVar[Mapping[str, str]] = {
        "unit": "stage stage0 letter block block0",
        "place": "unit part number",
        "projection": "unit",
        **dict.fromkeys(("convolution", "batch_norm", "scale", "relu"), "place unit"),
        **dict.fromkeys(("sum", "sum_relu"), "unit"),
        "other": "unit role",
        **dict.fromkeys(("stem_convolution", "stem_batch_norm", "stem_scale", "stem_relu"), "part"),
        "last": "role",
        "pool": "stage",
        "classifier": "classes",
    }
    """The placeholders of each pattern."""

    def __post_init__(self) -> None:
        check(self)
        for about in fields(self):
            pattern = getattr(self, about.name)
            known = self.KNOWN.get(about.name, "").split()
            if isinstance(pattern, str) and set("{}") & set(PLACEHOLDER.sub("", pattern)):
                raise ResNetProtoError(
                    f"names.{about.name} is '{pattern[:80]}', where a brace stands alone"
                )
            for name in PLACEHOLDER.findall(pattern) if isinstance(pattern, str) else ():
                if name not in known:
                    raise ResNetProtoError(
                        f"names.{about.name} is '{pattern[:80]}', which has {{{name}}}; "
                        f"known there: {', '.join(f'{{{k}}}' for k in known) or 'none'}"
                    )

    def of(self, pattern: str, **values: Any) -> str:
        """The name that a pattern gives: ``of("sum", unit="2a")``."""
        text: str = getattr(self, pattern)
        return PLACEHOLDER.sub(lambda match: str(values[match[1]]), text)

    def of_unit(self, stage: int, index: int, units: int) -> str:
        """What a unit is called within other names: ``2a``, ``4b22``.

        Args:
            stage: 2 is the first.
            index: 0 is the first unit of the stage.
            units: how many the stage has; more than 26 are numbered.
        """
        numbered = stage in self.numbered_stages or units > len(LETTERS)
        letter = f"b{index}" if numbered and index else LETTERS[index]
        return self.of(
            "unit", stage=stage, stage0=stage - 2, letter=letter, block=index + 1, block0=index
        )


@dataclass(frozen=True)
class ResNetSpec:
    """A residual net (arXiv 1512.03385), or one of those that came of it.

    Sizes are in pixels, widths in channels; ``settings.to_toml`` says what each field means.

    Raises:
        ResNetProtoError: a value that its field cannot hold, or fields that contradict each other.
    """

    name: str = setting("", "the net's name in its prototxt; empty for ResNet-N")
    stages: tuple[int, ...] = setting((3, 4, 6, 3), "units of each stage", least=1, most=MAX_UNITS)
    unit: str = setting("basic", "what a unit is made of", one_of=tuple(CONVOLUTIONS))
    order: str = setting(
        "original",
        "BatchNorm and ReLU behind each convolution, or before it (arXiv 1603.05027)",
        one_of=("original", "pre-activation"),
    )
    shortcut: str = setting(
        "B",
        "zero padding, projection where shapes change, everywhere, averaged first, or plain",
        one_of=("A", "B", "C", "D", "none"),
    )
    highway: bool = setting(False, "y = H(x) T(x) + x (1 - T(x)) with a gate T, not a sum")
    gate_bias: float = setting(-1.0, "the bias that a highway's gates begin with", most=0)
    project_first_stage: bool = setting(
        False, "a projection in the first stage even where the shape stays"
    )
    stride_in: str = setting(
        "first", "the convolution of a unit that has its stride", one_of=("first", "3x3")
    )
    task: str = setting("classification", "what the net is for, and so its head", one_of=TASKS)
    stem: str = setting(
        "7x7",
        "the first convolution: 7x7 of stride 2, 3x3 (CIFAR), three 3x3 (deep, tiered)",
        one_of=("7x7", "3x3", "deep", "tiered", "none"),
    )
    stem_width: int = setting(64, "channels of the stem", least=1, most=MAX_SIZE)
    pool: str = setting(
        "ceil",
        "the pooling after the stem: 3x3 of stride 2, rounded up, or padded and rounded down",
        one_of=("ceil", "padded", "none"),
    )
    head: str = setting(
        "fixed", "average over a map of the size that the input has", one_of=("fixed", "global")
    )
    input_channels: int = setting(3, "channels of an image", least=1, most=MAX_SIZE)
    input_size: int = setting(224, "rows and columns of an image", least=1, most=MAX_SIZE)
    classes: int = setting(
        1000, "how many the classifier tells apart, the background too", least=1, most=MAX_SIZE
    )
    width: tuple[int, ...] = setting(
        (64,),
        "channels of each stage's 3x3; the last given doubles from stage to stage",
        least=1,
        most=MAX_SIZE,
    )
    width_multiplier: float = setting(1.0, "times the width of every stage", least=0, most=1000)
    cardinality: int = setting(1, "groups of the 3x3 (ResNeXt)", least=1, most=MAX_SIZE)
    base_width: int = setting(
        64, "channels of a group where the width is 64 (ResNeXt, wide)", least=1, most=MAX_SIZE
    )
    halve_first: bool = setting(
        False, "half the channels of the 3x3 in the 1x1 before it (SENet-154)"
    )
    projection_kernel: int = setting(
        1, "kernel of the projections that have a stride (SENet-154: 3)", one_of=(1, 3)
    )
    dropout: float = setting(0.0, "ratio of dropout within a unit (wide nets)", least=0, most=0.99)
    squeeze: int = setting(
        0, "squeeze and excitation: by how much it reduces; 0 for none", least=0, most=MAX_SIZE
    )
    squeeze_least: int = setting(
        1, "squeeze and excitation: channels that it leaves at least", least=1, most=MAX_SIZE
    )
    squeeze_relu: bool = setting(
        False, "squeeze and excitation: a ReLU before it (timm's legacy SE-ResNet-18)"
    )
    output_stride: int = setting(
        0, "where strides end and dilation begins; 0 for never", one_of=(0, 8, 16, 32)
    )
    conv_bias: bool = setting(False, "a bias in every convolution")
    conv1_bias: bool = setting(False, "a bias in the stem, as in the released ResNet-50")
    eps: float = setting(1e-5, "BatchNorm's", least=0, most=1)
    moving_average_fraction: float = setting(0.999, "BatchNorm's", least=0, most=1)
    in_place: bool = setting(True, "BatchNorm, Scale and ReLU overwrite their bottoms")
    dialect: str = setting(
        "mainline", "whose Caffe: NVIDIA's BatchNorm scales too", one_of=("mainline", "nvidia")
    )
    names: Names = setting(Names, "patterns for the names of layers")
    training: Training = setting(Training, "how it is trained")

    def __post_init__(self) -> None:
        check(self)
        if not self.stages:
            raise ResNetProtoError("stages are none; give the units of each, as in 3,4,6,3")
        if sum(self.stages) > MAX_UNITS:
            raise ResNetProtoError(
                f"the stages have {sum(self.stages):,} units; {MAX_UNITS:,} are the most"
            )
        if not 0 < len(self.width) <= len(self.stages):
            raise ResNetProtoError(
                f"width has {len(self.width)} values for {len(self.stages)} stages; "
                "one for each, or fewer: the last doubles from stage to stage"
            )
        messages = [message for wrong, message in contradictions(self) if wrong]
        if messages:
            raise ResNetProtoError("; ".join(messages))

    @property
    def title(self) -> str:
        """The net's name; by its depth where it has none."""
        task = "" if self.task == "classification" else f"-{self.task}"
        return self.name or f"ResNet-{self.depth}{task}"

    @property
    def depth(self) -> int:
        """Layers with weights as the paper counts them: no projections, gates or squeezes."""
        return depth(self.stages, self.unit, self.stem)

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each stage, multiplied."""
        given = [*self.width]
        while len(given) < len(self.stages):
            given.append(2 * given[-1])
        return tuple(round(width * self.width_multiplier) for width in given)


def depth(stages: tuple[int, ...], unit: str, stem: str = "7x7") -> int:
    """The stem, the convolutions of the units, and the classifier."""
    return CONVOLUTIONS[unit] * sum(stages) + 1 + (stem != "none")


def contradictions(spec: ResNetSpec) -> list[tuple[bool, str]]:
    """Each pair of fields that do not go together: whether the spec has it, and what to say."""
    connected, plain = spec.unit == "fully-connected", spec.shortcut == "none"
    images = {
        "stem": (spec.stem, "none"),
        "pool": (spec.pool, "none"),
        "order": (spec.order, "original"),
        "highway": (spec.highway, False),
        "squeeze": (spec.squeeze, 0),
        "projection_kernel": (spec.projection_kernel, 1),
        "output_stride": (spec.output_stride, 0),
        "stride_in": (spec.stride_in, "first"),
        "conv_bias": (spec.conv_bias, False),
        "conv1_bias": (spec.conv1_bias, False),
        "project_first_stage": (spec.project_first_stage, False),
    }
    return [
        *(
            (
                connected and value != wanted,
                f"unit fully-connected goes with {field} {str(wanted).lower()}, not "
                f"{str(value).lower()}",
            )
            for field, (value, wanted) in images.items()
        ),
        (
            connected and spec.shortcut not in ("B", "C", "none"),
            f"shortcut is {spec.shortcut}; fully-connected units go with B, C and none",
        ),
        (
            not connected and spec.stem == "none",
            "stem is none, which goes with unit fully-connected only",
        ),
        (
            spec.unit != "bottleneck" and (spec.cardinality, spec.base_width) != (1, 64),
            f"cardinality {spec.cardinality} and base_width {spec.base_width} go with unit "
            f"bottleneck; unit is {spec.unit}. Widen others by width_multiplier",
        ),
        (
            spec.unit != "bottleneck" and spec.stride_in == "3x3" and not connected,
            "stride_in 3x3 goes with unit bottleneck; in a basic unit the first convolution is 3x3",
        ),
        (
            spec.unit != "bottleneck" and spec.halve_first,
            f"halve_first goes with unit bottleneck; unit is {spec.unit}",
        ),
        (
            spec.projection_kernel > 1 and spec.shortcut not in "BC",
            f"projection_kernel {spec.projection_kernel} goes with shortcut B and C; shortcut is "
            f"{spec.shortcut}",
        ),
        (
            spec.squeeze_least > 1 and not spec.squeeze,
            f"squeeze_least {spec.squeeze_least} goes with squeeze; squeeze is 0",
        ),
        (
            spec.squeeze_relu
            and (not spec.squeeze or spec.order != "original" or spec.highway or plain),
            "squeeze_relu goes with squeeze, order original and a shortcut, without highway",
        ),
        (
            plain and spec.highway,
            "highway goes with a shortcut (A, B, C or D); shortcut is none",
        ),
        (
            plain and spec.project_first_stage,
            "project_first_stage goes with a shortcut; shortcut is none",
        ),
        (
            spec.highway and spec.order != "original",
            "highway goes with order original; order is pre-activation",
        ),
        (
            spec.shortcut == "A" and spec.project_first_stage,
            "shortcut A projects nowhere; leave project_first_stage out, or take B",
        ),
        (
            spec.task != "classification" and connected,
            f"task {spec.task} goes with unit basic and bottleneck; unit is fully-connected",
        ),
        (
            spec.task in DETECTION and spec.order != "original",
            f"task {spec.task} goes with order original; order is pre-activation",
        ),
        (
            spec.task in DETECTION and spec.dialect != "mainline",
            f"task {spec.task} goes with dialect mainline, which the forks with its layers speak; "
            f"dialect is {spec.dialect}",
        ),
        (
            spec.training.data not in TASK_DATA[spec.task],
            f"task {spec.task} goes with training.data {' or '.join(TASK_DATA[spec.task])}; it is "
            f"{spec.training.data}. for_task, and gen --set task=..., set what a task needs",
        ),
        (
            min(spec.widths) < 1,
            f"width_multiplier {spec.width_multiplier:g} leaves a stage of {spec.widths} channels",
        ),
    ]  # fmt: skip


def check_data(task: str, training: Training) -> None:
    """Images and answers of a task come from where they can.

    Raises:
        ResNetProtoError: they do not.
    """
    if training.data not in TASK_DATA[task]:
        raise ResNetProtoError(
            f"task {task} goes with data {' or '.join(TASK_DATA[task])}; it is {training.data}"
        )


def for_task(spec: ResNetSpec, task: str) -> ResNetSpec:
    """The net for another task, with the recipe, sizes and classes that are usual there.

    Raises:
        ResNetProtoError: there is no such task, or it contradicts the spec.
    """
    if task not in TASKS:
        raise ResNetProtoError(f"there is no task '{task}'; known: {', '.join(TASKS)}")
    if task == spec.task:
        return spec
    name = spec.name.removesuffix(f"-{spec.task}")
    if name and task != "classification":
        name = f"{name}-{task}"
    training = RECIPES[task].training if task in RECIPES else Training()
    fields = {**TASK_FIELDS[task], "training": training}
    return replace(spec, name=name, task=task, **fields)


def adapted(spec: ResNetSpec, table: Mapping[str, Any], source: str) -> ResNetSpec:
    """The same spec with other values, and what they bring with them where they are other ones.

    A task brings its recipe, a recipe its values; means of three channels go where the images
    have another number of them.

    Raises:
        ResNetProtoError: a field that there is not, or a value that it cannot hold.
    """
    task = table.get("task")
    training = table.get("training")
    given = training if isinstance(training, Mapping) else {}
    if task in TASKS:
        spec = for_task(spec, task)
    recipe = given.get("recipe", spec.training.recipe)
    if recipe and recipe != spec.training.recipe:
        if recipe not in RECIPES:
            raise ResNetProtoError(
                f"{source}: training.recipe is {str(recipe)[:80]!r}; known: {', '.join(RECIPES)}, "
                "or empty for numbers of your own"
            )
        spec = replace(spec, training=RECIPES[recipe].training)
    channels = table.get("input_channels", spec.input_channels)
    if channels != spec.input_channels and "mean" not in given:
        spec = replace(spec, training=replace(spec.training, mean=()))
    return changed(spec, table, source)


def for_finetuning(spec: ResNetSpec) -> ResNetSpec:
    """The spec with a classifier of another name than any released one's, so that Caffe does not
    copy weights into it.
    """
    pattern = spec.names.classifier.removesuffix("_finetune")
    names = replace(spec.names, classifier=f"{pattern}_finetune")
    return replace(spec, names=names, training=replace(spec.training, finetune=True))
