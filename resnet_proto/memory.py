"""Net and batch -> bytes that Caffe needs, for training and for tests.

    Net -> with_batch -> walk -> for each layer: what it keeps -> Memory -> table or JSON

What is counted is what Caffe 1.0 allocates for one GPU (or the CPU) with its own engine: blobs are
allocated when they are first touched, in-place layers share them, and the Split that Caffe inserts
where several layers read a blob shares its data, but has gradients of its own for each reader.
cuDNN's workspace and what CUDA takes for itself come on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.layers import MAX_COUNT, Layer, Shape, axis_index, count
from resnet_proto.layers.loss import legacy
from resnet_proto.net import Net, Step
from resnet_proto.words import columns, in_three_digits

FLOAT = 4  # bytes; masks are int and unsigned int, as wide
SMALL_BATCH = 16
"""Below it the statistics of a batch are poor: github BVLC/caffe #4716, cvjena/cnn-models #5."""
KINDS = {
    "weights": "weights and statistics",
    "gradients": "their gradients",
    "momentum": "the solver's momentum",
    "data": "activations",
    "diff": "gradients of activations",
    "batch_norm": "BatchNorm's copies",
    "scale": "Scale's copies",
    "columns": "columns of convolutions",
    "masks": "masks of pooling, dropout",
    "other": "data read ahead, loss, sums",
}
"""What takes memory -> how a table calls it."""
BATCHED = {
    "Data": "data_param",
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "MemoryData": "memory_data_param",
    "WindowData": "window_data_param",
}
"""Data layers, and the message that has their ``batch_size``."""
PREFETCH = ("Data", "ImageData", "WindowData")
BLOBS = (
    "the net's blobs",
    "give it fewer images at a time (--batch), or smaller ones (--scales, --input-shape)",
)
"""What takes memory in a run, and what takes less; for ``check_room``."""


@dataclass(frozen=True)
class Memory:
    """Bytes by phase and kind.

    Args:
        name: the net's.
        batches: phase -> images of the data that a step takes; 0 where that is not known.
        phases: ``train`` and ``test``, or one of them -> ``KINDS`` -> bytes.
        logged: phase -> what Caffe's log calls "Memory required for data": all tops, those in
            place and those of Splits counted each.
        warnings: what would hurt with this batch.
    """

    name: str
    batches: Mapping[str, int]
    phases: Mapping[str, Mapping[str, int]]
    logged: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def batch(self) -> int | None:
        """The batch of all phases; None where they differ."""
        found = set(self.batches.values())
        return found.pop() if len(found) == 1 else None

    @property
    def totals(self) -> dict[str, int]:
        """Phase -> bytes; ``both`` for a solver that trains and tests, whose nets share weights."""
        totals = {phase: sum(kinds.values()) for phase, kinds in self.phases.items()}
        if len(totals) > 1:
            totals["both"] = sum(totals.values()) - self.phases["test"]["weights"]
        return totals


def memory(
    net: Net,
    batch: int | None = None,
    phases: Sequence[str] = ("train", "test"),
    shapes: Mapping[str, Shape] | None = None,
    *,
    histories: int = 1,
) -> Memory:
    """How many bytes a batch needs.

    A deploy net is measured in training as if a loss stood at its end.

    Args:
        net: a deploy net or a train_val net; of its state, the phase is not looked at.
        batch: images at a time on one GPU; by default what the net says.
        phases: which to measure.
        shapes: of inputs, as for ``Net.with_input_shapes``; ``batch`` goes before their first size.
        histories: how many values the solver keeps for each weight: Adam and AdaDelta two.

    Raises:
        NetError: layers that do not fit together, or whose shapes are not known.
    """
    if batch is not None:
        net = with_batch(net, batch)
        shapes = {name: (batch, *shape[1:]) for name, shape in (shapes or {}).items()}
    measured: dict[str, dict[str, int]] = {}
    logged = {}
    nets = {phase: net.at(phase=phase.upper()) for phase in phases}
    if shapes:
        nets = {phase: at.with_input_shapes(shapes) for phase, at in nets.items()}
    for phase, at in nets.items():
        steps = list(at.walk())
        blobs = Blobs(steps)
        values = values_of(steps, blobs, training=phase == "train")
        values["momentum"] *= histories
        measured[phase] = {kind: FLOAT * number for kind, number in values.items()}
        logged[phase] = FLOAT * blobs.logged
    batches = {phase: batch_size(at, phase.upper()) for phase, at in nets.items()}
    warnings = tuple(warn(net, batches["train"])) if "train" in phases else ()
    return Memory(net.name, batches, measured, logged, warnings)


def with_batch(net: Net, batch: int) -> Net:
    """The net with another first axis of its inputs, or batch size of its data layers.

    Raises:
        NetError: no batch is so small or so large.
    """
    if not 0 < batch <= MAX_COUNT:
        raise NetError(f"batch is {batch}; expected 1 to {MAX_COUNT:,}")

    def shaped(shapes: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
        return tuple({"dim": (batch, *shape.get("dim", ())[1:])} for shape in shapes)

    layers = []
    upgraded = net.upgraded()
    for layer in upgraded.layers:
        fields = dict(layer.fields)
        if layer.type == "Input":
            fields["input_param"] = {"shape": shaped(layer.param.get("shape", ()))}
        elif layer.type == "DummyData":
            param = dict(fields.get("dummy_data_param", {}))
            if "num" in param:
                param["num"] = (batch,) * len(param["num"])
            else:
                param["shape"] = shaped(param.get("shape", ()))
            fields["dummy_data_param"] = param
        elif layer.type in BATCHED:
            message = BATCHED[layer.type]
            fields[message] = {**fields.get(message, {}), "batch_size": batch}
        layers.append(replace(layer, fields=fields))
    return replace(upgraded, layers=tuple(layers))


def layer_batch(layer: Layer) -> int:
    """Images that a layer without bottoms gives at a time; 0 where it does not say."""
    if layer.type in BATCHED:
        default = 1 if layer.type == "ImageData" else 0
        size: int = layer.fields.get(BATCHED[layer.type], {}).get("batch_size", default)
        return size
    message = {"Input": "input_param", "DummyData": "dummy_data_param"}.get(layer.type, "")
    param: Mapping[str, Any] = layer.fields.get(message, {})
    first = [
        *param.get("num", ()),
        *(shape.get("dim", (0,))[0] for shape in param.get("shape", ())),
    ]
    return int(first[0]) if first else 0


def batch_size(net: Net, phase: str) -> int:
    """Images of one step: what the first layer without bottoms gives; 0 where it does not say."""
    layers = net.upgraded().filtered(phase).layers
    return next((layer_batch(layer) for layer in layers if not layer.bottoms), 0)


def warn(net: Net, batch: int) -> Iterator[str]:
    """What would hurt with this batch."""
    layers = net.upgraded().filtered("TRAIN").layers
    deploys = not any("Loss" in layer.type for layer in layers)  # and is measured as if it trained
    if 0 < batch < SMALL_BATCH and any(
        layer.type == "BatchNorm" and (deploys or not layer.param.get("use_global_stats"))
        for layer in layers
    ):
        yield (
            f"batch {batch} is under {SMALL_BATCH}: BatchNorm measures its statistics over what "
            "one GPU takes at a time, and neither iter_size nor more GPUs make that more "
            "(github BVLC/caffe #4716)"
        )


@dataclass
class Version:
    """One value of a blob: from a write to the next one in place."""

    shape: Shape
    readers: int = 0
    backward: bool = False


class Blobs:
    """The values that a net's blobs hold, in floats.

    Attributes:
        data: those that Caffe allocates.
        diff: their gradients, where any weight lies before them.
        logged: all tops, as Caffe's log counts them.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self.data = self.diff = self.logged = 0
        current: dict[str, Version] = {}
        versions: list[Version] = []
        for step in steps:
            layer = step.layer
            read = [current[name] for name in layer.bottoms if name in current]
            for version in read:
                version.readers += 1
            backward = learns(step) or any(version.backward for version in read)
            for i, (name, shape) in enumerate(zip(layer.tops, step.tops, strict=True)):
                current[name] = Version(shape, backward=backward)
                versions.append(current[name])
                self.logged += count(shape)
                if layer.bottoms[i : i + 1] == (name,) or layer.shares_memory:
                    # a Split's tops share values, and have a gradient each: split_layer.cpp
                    self.diff += count(shape) * backward * (layer.type == "Split")
                    continue
                self.data += count(shape)
                self.diff += count(shape) * backward
        for version in versions:
            if version.readers > 1:  # insert_splits.cpp
                self.logged += version.readers * count(version.shape)
                self.diff += version.readers * count(version.shape) * version.backward


def learns(step: Step) -> bool:
    """Whether a weight of the layer has a rate: net.cpp, Init."""
    params = step.layer.fields.get("param", ())
    rates = [param.get("lr_mult", 1.0) for param in params[: len(step.blobs)]]
    rates += [1.0] * (len(step.blobs) - len(rates))
    return any(
        rate and name not in step.layer.statistics
        for name, rate in zip(step.blobs, rates, strict=True)
    )


def values_of(steps: Sequence[Step], blobs: Blobs, *, training: bool) -> dict[str, int]:
    """Kind -> floats."""
    weights = sum(count(shape) for step in steps for shape in step.owned.values())
    values = dict.fromkeys(KINDS, 0)
    values["weights"] = weights
    values["data"] = blobs.data
    if training:
        # Those without a rate have both too: solver.cpp, sgd_solver.cpp.
        values["gradients"] = values["momentum"] = weights
        values["diff"] = blobs.diff
    for step in steps:
        for kind, forward, backward in KEPT.get(step.layer.type, nothing)(step):
            values[kind] += forward + backward * training
    return values


def table(found: Memory) -> Iterator[str]:
    """A line for each kind of memory, with the totals."""
    phases = list(found.phases)
    images = {phase: f", batch {size or 'unknown'}" for phase, size in found.batches.items()}
    name = found.name or "net"
    if found.batch is None:
        cells = [(f"{name}: bytes", *(phase + images[phase] for phase in phases))]
    else:
        cells = [(f"{name}{images[phases[0]]}: bytes", *phases)]
    for kind, label in KINDS.items():
        values = [found.phases[phase][kind] for phase in phases]
        cells.append((label, *(f"{value:,}" if value else "" for value in values)))
    cells.append(("total", *(f"{found.totals[phase]:,}" for phase in phases)))
    cells.append(("", *(human(found.totals[phase]) for phase in phases)))
    yield from columns(cells, left=1, rules=(1, len(cells) - 2))
    if "both" in found.totals:
        total = found.totals["both"]
        yield f"a solver that trains and tests, weights shared: {total:,} ({human(total)})"
    for phase, size in found.logged.items():
        yield f'Caffe\'s log at phase {phase.upper()}, "Memory required for data": {size:,}'


def human(size: float) -> str:
    """Bytes in three digits: ``3.21 GiB``."""
    if size < 1024:
        return f"{size:.0f} bytes"
    for unit in ("KiB", "MiB"):
        size /= 1024
        if size < 1023.5:
            return f"{in_three_digits(size)} {unit}"
    return f"{in_three_digits(size / 1024)} GiB"


def as_json(found: Memory) -> dict[str, object]:
    """The same figures as plain data."""
    return {
        "name": found.name,
        "batch": found.batch,
        "batches": dict(found.batches),
        "phases": {phase: dict(kinds) for phase, kinds in found.phases.items()},
        "totals": found.totals,
        "memory_required_for_data": dict(found.logged),
        "warnings": list(found.warnings),
    }


# ---- what a layer keeps besides its tops: kind, floats of the forward pass, more of the backward

Kept = Iterator[tuple[str, int, int]]


def nothing(step: Step) -> Kept:
    """No copies."""
    yield from ()


def batch_norm(step: Step) -> Kept:
    """``temp_`` and ``x_norm_`` in both phases; gradients of ``x_norm_`` in place."""
    shape = step.bottoms[0]
    values, images, channels = count(shape), shape[0], shape[1]
    small = 2 * channels + images + images * channels + values // max(1, images * channels)
    yield "batch_norm", 2 * values + small, values * step.layer.in_place


def scale(step: Step) -> Kept:
    """In place it keeps its bottom, in TEST too; besides, sums along the outer axes."""
    shape = step.bottoms[0]
    factor = step.bottoms[1] if len(step.bottoms) > 1 else step.blobs.get("weight", ())
    axis = axis_index(step.layer.param.get("axis", 1), shape) if factor else 0
    outer, inner = count(shape[:axis]), count(shape[axis + len(factor) :])
    bias = inner * bool(step.layer.param.get("bias_term", False))
    yield "scale", count(shape) * step.layer.in_place + max(outer, inner) + bias, (
        outer * count(factor)
    )  # fmt: skip


def convolution(step: Step) -> Kept:
    """Columns of one image, unless the kernel sees one value: base_conv_layer.cpp, Reshape."""
    layer: Any = step.layer
    transposed = layer.type == "Deconvolution"
    channel = axis_index(layer.axis, step.bottoms[0])
    seen = (step.bottoms if transposed else step.tops)[0][channel + 1 :]
    kernel, stride, pad, _ = layer.windows(len(seen))
    plain = {*kernel, *stride} <= {1} and not any(pad)
    weight = step.blobs["weight"]
    if not plain:
        yield "columns", count(weight[1:]) * layer.group * count(seen), 0
    if "bias" in step.blobs:
        yield "other", count(step.tops[0][channel + 1 :]), 0


def depthwise(step: Step) -> Kept:
    """Ones to sum with; on the GPU backward products before they are summed. conv_dw_layer.cu"""
    top, weight = step.tops[0], step.blobs["weight"]
    values, biased = count(top) // max(1, top[1]), "bias" in step.blobs
    yield "other", values * (1 + biased), 0
    yield "columns", 0, values * (count(weight) + biased * top[1])


def bn(step: Step) -> Kept:
    """A buffer, and ``x_norm_`` unless frozen; sums. bn_layer.cpp"""
    n, c, *size = legacy(step.bottoms[0])
    param = step.layer.param
    frozen = param.get("frozen", False) or param.get("bn_mode") == "INFERENCE"
    yield "batch_norm", (2 - frozen) * n * c * count(tuple(size)), 0
    yield "batch_norm", n * c + 2 * c + n + count(tuple(size)), 0


def normalize(step: Step) -> Kept:
    """Squares of one image, lengths, ones to sum with. normalize_layer.cpp"""
    n, c, *size = legacy(step.bottoms[0])
    pixels = count(tuple(size))
    lengths = n * (1 if step.layer.param.get("across_spatial", True) else pixels)
    yield "other", c * pixels + lengths + c + pixels, c + pixels


def axpy(step: Step) -> Kept:
    """Ones to sum with."""
    yield "other", count(step.bottoms[1][2:]), 0


def pooling(step: Step) -> Kept:
    """Where the maxima are, unless that is a top of its own."""
    if step.layer.param.get("pool", "MAX") != "AVE" and len(step.tops) == 1:
        yield "masks", count(step.tops[0]), 0


def eltwise(step: Step) -> Kept:
    """Likewise for the maximum of bottoms."""
    if step.layer.param.get("operation") == "MAX":
        yield "masks", count(step.tops[0]), 0


def dropout(step: Step) -> Kept:
    """The random mask, allocated in TEST too."""
    yield "masks", count(step.bottoms[0]), 0


def softmax(step: Step) -> Kept:
    """Sums along the axis."""
    shape = step.bottoms[0]
    axis = axis_index(step.layer.fields.get("softmax_param", {}).get("axis", 1), shape)
    yield "other", count(shape) // max(1, shape[axis]) + shape[axis], 0


def softmax_loss(step: Step) -> Kept:
    """The softmax inside, and its probabilities."""
    yield "other", count(step.bottoms[0]), 0
    yield from softmax(step)


def loss(step: Step) -> Kept:
    """A copy of the scores."""
    yield "other", count(step.bottoms[0]), 0


def inner_product(step: Step) -> Kept:
    """A one for each image, to add the bias with."""
    if "bias" in step.blobs:
        yield "other", count(step.tops[0]) // step.tops[0][-1], 0


def detection_output(step: Step) -> Kept:
    """Boxes and scores in the order of classes, on a GPU: detection_output_layer.cu, branch ssd."""
    moves, scores = map(count, step.bottoms[:2])
    shared = step.layer.param.get("share_location", True)
    yield "other", moves * (1 if shared else 2) + scores, 0


def data(step: Step) -> Kept:
    """Batches read ahead: base_data_layer.cpp, whose top is the one that is used."""
    message = step.layer.fields.get("data_param", {})
    ahead = message.get("prefetch", 4) - 1
    yield "other", ahead * sum(map(count, step.tops)), 0


KEPT: dict[str, Callable[[Step], Kept]] = {
    "Axpy": axpy,
    "BN": bn,
    "BatchNorm": batch_norm,
    "Convolution": convolution,
    "ConvolutionDepthwise": depthwise,
    "Deconvolution": convolution,
    "DepthwiseConvolution": convolution,
    "DetectionOutput": detection_output,
    "Dropout": dropout,
    "Eltwise": eltwise,
    "EuclideanLoss": loss,
    "InnerProduct": inner_product,
    "Normalize": normalize,
    "Pooling": pooling,
    "Scale": scale,
    "SigmoidCrossEntropyLoss": loss,
    "Softmax": softmax,
    "SoftmaxWithLoss": softmax_loss,
    **dict.fromkeys(PREFETCH, data),
}


def available() -> int | None:
    """Bytes of memory that can still be had, swap among them; None where no system says it.

    In a container no more than it may have at all.
    """
    try:
        rows = dict(row.split(":") for row in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * sum(int(rows[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, ValueError, KeyError):
        return None
    with suppress(OSError, ValueError):  # where there is no limit, it is the word max
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


def check_room(needed: int, what: str, smaller: str) -> None:
    """Refuse what would not fit into memory, before any of it is taken.

    Args:
        needed: bytes that it takes at least: what fits is not to be refused.
        what: takes them, in words.
        smaller: what to give for less.

    Raises:
        ResNetProtoError: fewer are free.
    """
    free = available()
    if free is not None and needed > free:
        raise ResNetProtoError(
            f"{what} take {human(needed)}, and {human(free)} of memory are free; {smaller}"
        )
