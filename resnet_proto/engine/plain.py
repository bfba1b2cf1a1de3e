"""Net + weights + inputs -> activations, in plain numpy.

A reference, not a race: every step is the layer's own definition, written once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_proto.errors import NetError, ResNetProtoError, ShapeError
from resnet_proto.layers import dims
from resnet_proto.net import Net, check_runs, nearest, needed
from resnet_proto.weights import step_blobs

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Step


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
    check_net(net)
    dtype = float_type(dtype)
    schedule = Schedule.of(net, outputs, until)
    blobs = check_inputs(net, schedule, inputs, dtype)
    with np.errstate(all="ignore"):
        for i, step in enumerate(schedule.steps):
            if step.layer.type != "Input":
                bottoms = [blobs[name] for name in step.layer.bottoms]
                tops = step.layer.forward(bottoms, step_blobs(step, weights, dtype))
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
        if isinstance(outputs, str):
            raise NetError(f"outputs is '{outputs}'; give a list of names")
        outputs = None if outputs is None else tuple(outputs)
        steps = list(net.reaching(outputs, until).walk())
        made = dict.fromkeys(name for step in steps for name in step.layer.tops)
        wanted = tuple(made) if outputs is None else tuple(n for n in made if n in outputs)

        if outputs is not None:
            steps = needed(steps, wanted)

        live, freed = set(wanted), []
        for step in reversed(steps):
            check_runs(step)
            names = dict.fromkeys((*step.layer.bottoms, *step.layer.tops))
            freed.append(tuple(name for name in names if name not in live))
            live = (live - set(step.layer.tops)) | set(step.layer.bottoms)
        return cls(tuple(steps), wanted, tuple(reversed(freed)))

    @property
    def inputs(self) -> dict[str, Shape]:
        """Name and shape of the blobs that come from the caller."""
        return {
            name: shape
            for step in self.steps
            if step.layer.type == "Input"
            for name, shape in zip(step.layer.tops, step.tops, strict=True)
        }


def check_net(net: object) -> None:
    """Refuse what is no net, before it is asked for its layers.

    Raises:
        ResNetProtoError: it is the file of one, or something else.
    """
    if isinstance(net, str | os.PathLike):
        raise ResNetProtoError(f"net is a file's name; read it: read_prototxt({str(net)[:80]!r})")
    if not isinstance(net, Net):
        raise ResNetProtoError(
            f"net is a {type(net).__name__}; expected a Net, as read_prototxt has"
        )


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
            raise NetError(f"input '{name}' is missing; the net needs {dims(shape)}")
        arrays[name] = np.array(inputs[name], dtype, order="C")
        if arrays[name].shape != shape:
            raise ShapeError(
                f"input '{name}' is {dims(arrays[name].shape)}, the net needs {dims(shape)}"
            )
    return arrays
