"""Units: paper, figures 2 and 5; pre-activation: paper 2 (arXiv 1603.05027), figure 4(e).

Each function draws a unit, or a part of one, and returns the name of its last blob. Parts
compose: a path of convolutions, in one of two orders; a shortcut of some kind; how they join.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from resnet_proto import layers  # a type's module is imported when a unit first has it
from resnet_proto.build.drawing import Drawing
from resnet_proto.errors import ResNetProtoError
from resnet_proto.spec import EXPANSION, ResNetSpec


class PathStep(NamedTuple):
    """One convolution of a path."""

    kernel: int
    channels: int
    stride: int = 1
    dilation: int = 1
    group: int = 1


class UnitGeometry(NamedTuple):
    """What there is to know of a unit before it is drawn.

    Args:
        name: as it stands within names, ``2a``.
        first: whether it is the first of its net.
        bottom: the blob that enters, with ``channels``; ``out`` is how many leave.
        stride: of the whole unit; 1 where dilation stands for it.
        dilation: of what enters.
        steps: the convolutions of the main path.
    """

    name: str
    first: bool
    channels: int
    out: int
    stride: int
    dilation: int
    steps: tuple[PathStep, ...]

    @property
    def changes(self) -> bool:
        """Whether what leaves has another shape than what enters."""
        return self.stride > 1 or self.channels != self.out


def units(spec: ResNetSpec) -> Iterator[UnitGeometry]:
    """Each unit of a net, with its geometry.

    The first unit of each stage but the first has stride 2. Where the output stride is
    reached, what comes behind the place of the stride is dilated instead, so that the same
    weights see the same pixels (DeepLab, arXiv 1412.7062, section 3.1).
    """
    channels = spec.stem_width if spec.stem != "none" else 0
    reached = (2 if spec.stem != "3x3" else 1) * (2 if spec.pool != "none" else 1)
    dilation = 1
    for i, n_units in enumerate(spec.stages):
        width = spec.widths[i]
        out = width * EXPANSION[spec.unit]
        for index in range(n_units):
            before, stride = dilation, 1
            if index == 0 and i > 0:
                if spec.output_stride and reached >= spec.output_stride:
                    dilation *= 2
                else:
                    stride = 2
                    reached *= 2
            name = spec.names.of_unit(i + 2, index, n_units)
            steps = PATHS[spec.unit](spec, width, out, stride, (before, dilation))
            yield UnitGeometry(name, (i, index) == (0, 0), channels, out, stride, before, steps)
            channels = out


# ---- paths: what the convolutions of a unit are


def basic(
    spec: ResNetSpec, width: int, out: int, stride: int, dilation: tuple[int, int]
) -> tuple[PathStep, ...]:
    """Two 3x3 convolutions: figure 5, left."""
    before, behind = dilation
    return PathStep(3, width, stride, before), PathStep(3, out, 1, behind)


def bottleneck(
    spec: ResNetSpec, width: int, out: int, stride: int, dilation: tuple[int, int]
) -> tuple[PathStep, ...]:
    """1x1 reduces, 3x3, 1x1 restores: figure 5, right; in groups: arXiv 1611.05431, figure 3(c)."""
    inner = max(1, width * spec.base_width // 64) * spec.cardinality
    first = max(1, inner // 2) if spec.halve_first else inner
    before, behind = dilation
    if spec.stride_in == "3x3":
        return (
            PathStep(1, first),
            PathStep(3, inner, stride, before, spec.cardinality),
            PathStep(1, out),
        )
    return (
        PathStep(1, first, stride),
        PathStep(3, inner, 1, behind, spec.cardinality),
        PathStep(1, out),
    )


def fully_connected(
    spec: ResNetSpec, width: int, out: int, stride: int, dilation: tuple[int, int]
) -> tuple[PathStep, ...]:
    """Two matrices: section 3.2, at its end."""
    return PathStep(1, width), PathStep(1, out)


PATHS = {"basic": basic, "bottleneck": bottleneck, "fully-connected": fully_connected}


# ---- units


def original(d: Drawing, unit: UnitGeometry, bottom: str) -> str:
    """Path and shortcut, their sum, then ReLU: section 3.2, equations 1 and 2."""
    shortcut = draw_shortcut(d, unit, bottom, bottom)
    *before, last = enumerate(unit.steps, 1)
    blob = bottom
    for number, step in before:
        place = d.place(unit.name, number)
        blob = draw_step(d, place.convolution, blob, step)
        blob = d.relu(place.relu, d.batch_norm(place, blob))
    blob = draw_dropout(d, unit, blob)
    place = d.place(unit.name, last[0])
    blob = d.batch_norm(place, draw_step(d, place.convolution, blob, last[1]))
    if d.spec.squeeze_relu:
        blob = d.relu(place.relu, blob)
    blob = draw_squeeze(d, unit, blob)
    if shortcut is None:
        return d.relu(place.relu, blob)
    if d.spec.highway:
        return draw_gate(d, unit, bottom, shortcut, d.relu(place.relu, blob))
    blob = d.eltwise(d.names.of("sum", unit=unit.name), (shortcut, blob))
    return d.relu(d.names.of("sum_relu", unit=unit.name), blob)


def pre_activation(d: Drawing, unit: UnitGeometry, bottom: str) -> str:
    """BatchNorm and ReLU before each convolution; an identity shortcut reads what entered."""
    blob = activated = ""
    for number, step in enumerate(unit.steps, 1):
        place = d.place(unit.name, number)
        blob = d.batch_norm(place, blob or bottom, in_place=bool(blob))
        blob = d.relu(place.relu, blob)
        if number == 1:
            activated = blob
            shortcut = draw_shortcut(d, unit, bottom, activated)
        if number == len(unit.steps):
            blob = draw_dropout(d, unit, blob)
        blob = draw_step(d, place.convolution, blob, step)
    blob = draw_squeeze(d, unit, blob)
    if shortcut is None:
        return blob
    return d.eltwise(d.names.of("sum", unit=unit.name), (shortcut, blob))


def connected(d: Drawing, unit: UnitGeometry, bottom: str) -> str:
    """Y = W2 relu(W1 x) + x, or + Ws x where widths differ; then ReLU: section 3.2, at its end."""
    project = d.spec.shortcut != "none" and (unit.changes or d.spec.shortcut == "C")
    shortcut = bottom
    if project:
        name = d.projection(unit.name).convolution
        shortcut = d.put(
            layers.InnerProduct.of(name, bottom, name, num_output=unit.out, bias_term=False)
        )
    first, last = (d.place(unit.name, number) for number in (1, 2))
    inner, out = (step.channels for step in unit.steps)
    blob = d.put(
        layers.InnerProduct.of(first.convolution, bottom, first.convolution, num_output=inner)
    )
    blob = d.relu(first.relu, blob)
    blob = draw_dropout(d, unit, blob)
    blob = d.put(layers.InnerProduct.of(last.convolution, blob, last.convolution, num_output=out))
    if d.spec.shortcut == "none":
        return d.relu(last.relu, blob)
    blob = d.eltwise(d.names.of("sum", unit=unit.name), (shortcut, blob))
    return d.relu(d.names.of("sum_relu", unit=unit.name), blob)


UNITS: dict[str, Callable[[Drawing, UnitGeometry, str], str]] = {
    "original": original,
    "pre-activation": pre_activation,
    "fully-connected": connected,
}


def draw_unit(d: Drawing, unit: UnitGeometry, bottom: str) -> str:
    """A unit in the spec's order."""
    kind = d.spec.unit if d.spec.unit in UNITS else d.spec.order
    return UNITS[kind](d, unit, bottom)


def draw_step(d: Drawing, name: str, bottom: str, step: PathStep) -> str:
    """One convolution of a path."""
    return d.convolution(
        name,
        bottom,
        step.channels,
        step.kernel,
        step.stride,
        dilation=step.dilation,
        group=step.group,
    )


# ---- shortcuts


def draw_shortcut(d: Drawing, unit: UnitGeometry, bottom: str, activated: str) -> str | None:
    """What is added to the path: section 3.3; None in a plain net.

    Args:
        d: what is drawn into.
        unit: the unit it belongs to.
        bottom: what entered; an identity and zero padding read it.
        activated: what the path reads; a projection reads it too.
    """
    kind = d.spec.shortcut
    if kind == "none":
        return None
    forced = kind == "C" or (unit.first and d.spec.project_first_stage)
    if not (unit.changes or forced):
        return bottom
    if kind == "A":
        return zero_padded(d, unit, bottom)
    if kind == "D" and unit.stride > 1:
        activated = averaged(d, unit, activated)
        return projected(d, unit, activated, 1)
    return projected(d, unit, activated, unit.stride)


def projected(d: Drawing, unit: UnitGeometry, bottom: str, stride: int) -> str:
    """A convolution, mostly 1x1: options B and C. Before an activation it has no BatchNorm."""
    place = d.projection(unit.name)
    kernel = d.spec.projection_kernel if stride > 1 else 1
    blob = d.convolution(place.convolution, bottom, unit.out, kernel, stride)
    return blob if d.spec.order == "pre-activation" else d.batch_norm(place, blob)


def averaged(d: Drawing, unit: UnitGeometry, bottom: str) -> str:
    """2x2 means before the projection: arXiv 1812.01187, figure 2(c)."""
    name = d.other(unit.name, "pool")
    return d.put(
        layers.Pooling.of(name, bottom, name, pool="AVE", kernel_size=2, stride=unit.stride)
    )


def zero_padded(d: Drawing, unit: UnitGeometry, bottom: str) -> str:
    """Every second pixel, and zeros for the new channels: option A.

    Pooling with kernel 1 would round 32 up to 17, so the pixels are chosen by a convolution
    with fixed weights of 1; the zeros are 0 times it.
    """
    blob = bottom
    if unit.stride > 1:
        name = d.other(unit.name, "subsample")
        blob = d.put(
            layers.Convolution.subsample(name, bottom, name, unit.channels, (unit.stride,) * 2)
        )
    if unit.channels == unit.out:
        return blob
    if unit.out % unit.channels:
        raise ResNetProtoError(
            f"shortcut A pads with zeros as often as channels fit: {unit.channels} into {unit.out} "
            f"(unit {unit.name}) does not go; change width or stem_width, or take B"
        )
    zeros, padded = (d.other(unit.name, role) for role in ("zeros", "padded"))
    d.put(layers.Power.of(zeros, blob, zeros, scale=0.0))
    copies = unit.out // unit.channels - 1
    return d.put(layers.Concat.of(padded, (blob, *(zeros,) * copies), padded))


# ---- what else may be in a unit


def draw_dropout(d: Drawing, unit: UnitGeometry, blob: str) -> str:
    """Dropout before the last convolution: wide nets, arXiv 1605.07146, section 2.4."""
    if not d.spec.dropout:
        return blob
    name = d.other(unit.name, "dropout")
    top = blob if d.spec.in_place else name
    return d.put(layers.Dropout.of(name, blob, top, dropout_ratio=d.spec.dropout))


def draw_squeeze(d: Drawing, unit: UnitGeometry, blob: str) -> str:
    """Squeeze and excitation: each channel times a gate from its mean, arXiv 1709.01507."""
    if not d.spec.squeeze:
        return blob
    squeeze, down, down_relu, up, gate, excite = (
        d.other(unit.name, role)
        for role in ("squeeze", "down", "down_relu", "up", "gate", "excite")
    )
    d.put(layers.Pooling.of(squeeze, blob, squeeze, pool="AVE", global_pooling=True))
    inner = max(d.spec.squeeze_least, unit.out // d.spec.squeeze)
    d.put(layers.InnerProduct.of(down, squeeze, down, num_output=inner))
    d.put(layers.InnerProduct.of(up, d.relu(down_relu, down), up, num_output=unit.out))
    d.put(layers.Sigmoid.of(gate, up, gate))
    return d.put(layers.Scale.of(excite, (blob, gate), excite, axis=0))


def draw_gate(d: Drawing, unit: UnitGeometry, bottom: str, shortcut: str, blob: str) -> str:
    """Y = H(x) T(x) + x (1 - T(x)): highway networks, arXiv 1505.00387, equation 3.

    The gate begins with a negative bias, which lets x pass: section 2.3 there.
    """
    transform, gate, carry, kept, new = (
        d.other(unit.name, role) for role in ("transform", "transform_gate", "carry", "kept", "new")
    )
    d.convolution(
        transform,
        bottom,
        unit.out,
        3,
        unit.stride,
        dilation=unit.dilation,
        bias=True,
        bias_filler={"type": "constant", "value": d.spec.gate_bias},
    )
    d.put(layers.Sigmoid.of(gate, transform, gate))
    d.put(layers.Power.of(carry, gate, carry, scale=-1.0, shift=1.0))
    d.eltwise(new, (blob, gate), "PROD")
    d.eltwise(kept, (shortcut, carry), "PROD")
    return d.eltwise(d.names.of("sum", unit=unit.name), (new, kept))
