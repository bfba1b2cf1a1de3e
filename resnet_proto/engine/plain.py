"""Net + weights + inputs -> activations, in plain numpy.

A reference, not a race: every step is the layer's own definition, written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_proto.errors import NetError, ShapeError, WeightsError
from resnet_proto.layers import dims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step


def forward(
    net: Net,
    weights: Mapping[str, Array],
    inputs: Array | Mapping[str, Array],
    *,
    dtype: DTypeLike = "float32",
    outputs: Iterable[str] | None = None,
    until: str | None = None,
) -> dict[str, Array]:
    """Compute the blobs of a net, at phase TEST.

    Args:
        net: any net whose layer types are known.
        weights: arrays by ``<layer>.<blob>``, ``conv1.weight``.
        inputs: an array for each input of the net by name, or the array of the only one.
        dtype: float32 or float64; everything is computed in it.
        outputs: names of the blobs wanted, all by default. Only what they need is
            computed, and every other blob is freed after its last reader.
        until: stop after this blob is complete, that is after the last layer that writes it.

    Returns:
        Every blob wanted, by name, in the order of the net. A blob that layers overwrite in
        place has its last value.

    Raises:
        NetError: no blob of the net has a name asked for.
        ShapeError: an input does not have the net's shape.
        WeightsError: weights are missing, or do not fit the net.
        UnknownLayerError: a layer that would be needed cannot be computed.
    """
    dtype = float_type(dtype)
    schedule = Schedule.of(net, outputs, until)
    blobs = check_inputs(net, schedule, inputs, dtype)
    with np.errstate(all="ignore"):
        for i, step in enumerate(schedule.steps):
            if step.layer.type != "Input":
                bottoms = [blobs[name] for name in step.layer.bottoms]
                tops = step.layer.forward(bottoms, layer_blobs(step, weights, dtype))
                blobs.update(zip(step.layer.tops, tops, strict=True))
            for name in schedule.freed[i]:
                del blobs[name]
    return {name: blobs[name] for name in schedule.wanted}


@dataclass(frozen=True)
class Schedule:
    """The layers that a request needs, and how long each blob lives.

    Args:
        steps: in order of running.
        wanted: names of the blobs to return, in the order of the net.
        freed: for each step the blobs that nothing after it reads and nobody wants.
    """

    steps: tuple[Step, ...]
    wanted: tuple[str, ...]
    freed: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, net: Net, outputs: Iterable[str] | None, until: str | None) -> Schedule:
        """Find the layers that ``outputs`` need, up to ``until``.

        Raises:
            NetError: no blob has that name, or it lies behind ``until``.
        """
        outputs = None if outputs is None else tuple(outputs)
        net = net.upgraded().filtered()
        if until is not None:
            net = cut(net, (until,))
        if outputs is not None:
            net = cut(net, outputs)
        steps = list(net.walk())
        made = dict.fromkeys(name for step in steps for name in step.layer.tops)
        wanted = tuple(made) if outputs is None else tuple(n for n in made if n in outputs)

        live, kept, freed = set(wanted), [], []
        for step in reversed(steps):
            tops, bottoms = set(step.layer.tops), set(step.layer.bottoms)
            if outputs is None or tops & live:
                check_filled(step)
                kept.append(step)
                names = dict.fromkeys((*step.layer.bottoms, *step.layer.tops))
                freed.append(tuple(name for name in names if name not in live))
                live = (live - tops) | bottoms
        return cls(tuple(reversed(kept)), wanted, tuple(reversed(freed)))

    @property
    def inputs(self) -> dict[str, Shape]:
        """Name and shape of the blobs that come from the caller."""
        return {
            name: shape
            for step in self.steps
            if step.layer.type == "Input"
            for name, shape in zip(step.layer.tops, step.tops, strict=True)
        }


def cut(net: Net, names: Sequence[str]) -> Net:
    """The net up to the last layer that writes one of these blobs.

    Raises:
        NetError: no layer writes a blob of that name.
    """
    last = {name: i for i, layer in enumerate(net.layers) for name in layer.tops}
    for name in names:
        if name not in last:
            raise NetError(f"no blob '{name}' to compute{nearest(name, last)}")
    return replace(net, layers=net.layers[: max((last[n] for n in names), default=-1) + 1])


def check_filled(step: Step) -> None:
    """A blob without values can be part of a net, but not of a run: blob.cpp, cpu_data."""
    names = (*step.layer.bottoms, *step.layer.tops)
    for name, shape in zip(names, (*step.bottoms, *step.tops), strict=True):
        if 0 in shape:
            raise ShapeError(
                f"layer '{step.label}' ({step.layer.type}): blob '{name}' is {dims(shape)}; "
                "nothing can be computed with an empty blob"
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """The names that may have been meant, as the end of a message."""
    known = list(known)
    near = get_close_matches(name, known, n=3) or known[-3:]
    return f"; did you mean {', '.join(near)}?" if near else "; the net has none"


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    """What to compute in.

    Raises:
        NetError: neither float32 nor float64.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise NetError(f"dtype is {np.dtype(dtype)}; give float32 or float64")
    return np.dtype(dtype)


def check_inputs(
    net: Net, schedule: Schedule, inputs: Array | Mapping[str, Array], dtype: DTypeLike
) -> dict[str, Array]:
    """Copies of the inputs that the schedule needs, in ``dtype``.

    Raises:
        NetError: an input is missing, or the net does not have it.
        ShapeError: an array does not have the net's shape.
    """
    wanted = schedule.inputs
    if not isinstance(inputs, Mapping):
        if len(wanted) != 1:
            names = ", ".join(wanted) or "none"
            raise NetError(f"one array was given, but the inputs needed are: {names}")
        inputs = dict.fromkeys(wanted, inputs)
    known = net.inputs()
    for name in inputs:
        if name not in known:
            raise NetError(f"the net has no input '{name}'{nearest(name, known)}")
    arrays = {}
    for name, shape in wanted.items():
        if name not in inputs:
            raise NetError(f"input '{name}' is missing; the net needs {shape}")
        arrays[name] = np.array(inputs[name], dtype, order="C")
        if arrays[name].shape != shape:
            raise ShapeError(f"input '{name}' is {arrays[name].shape}, the net needs {shape}")
    return arrays


def layer_blobs(step: Step, weights: Mapping[str, Array], dtype: DTypeLike) -> list[Array]:
    """The weight blobs of one layer, in ``dtype``, contiguous and aligned.

    Old files store every blob with four axes: (1, 1, 1, N) is (N,). blob.cpp, ShapeEquals

    Raises:
        WeightsError: one is missing, or its shape is another.
    """
    source = getattr(weights, "source", None) or "the weights"
    arrays = []
    for name, shape in step.blobs.items():
        key = f"{step.label}.{name}"
        if key not in weights:
            raise WeightsError(
                f"layer '{step.label}': {name} is missing in {source}, the net needs {shape}"
            )
        array = np.require(weights[key], dtype, ["C", "A"])
        if without_ones(array.shape) != without_ones(shape):
            raise WeightsError(
                f"layer '{step.label}': {name} is {array.shape} in {source}, the net needs {shape}"
            )
        arrays.append(array.reshape(shape))
    return arrays


def without_ones(shape: Shape) -> Shape:
    """The shape without the ones in front."""
    return without_ones(shape[1:]) if shape[:1] == (1,) else shape
