"""Net + weights + inputs -> activations, in plain numpy.

A reference, not a race: every step is the layer's own definition, written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_proto.errors import NetError, ResNetProtoError, ShapeError
from resnet_proto.fit import named, step_blobs
from resnet_proto.layers import count, dims
from resnet_proto.net import check_net, check_runs, met, nearest, overwritten

if TYPE_CHECKING:
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
        net: any net whose layer types are known; ``Net.at`` chooses level and stages.
        weights: arrays by ``<layer>.<blob>``, ``conv1.weight``.
        inputs: an array for each input of the net by name, or the array of the only one. What
            data layers would read is an input too, of any shape.
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
        ResNetProtoError: an input is no array of numbers.
    """
    check_test_net(net)
    dtype = float_type(dtype)
    schedule = Schedule.of(net, outputs, until, given_shapes(net, inputs))
    blobs = check_inputs(net, schedule, inputs, dtype)
    weights = named(weights, net)
    with net.named():
        for _ in steps_run(schedule, blobs, weights, dtype):
            pass
    return {name: blobs[name] for name in schedule.wanted}


def steps_run(
    schedule: Schedule, blobs: dict[str, Array], weights: Mapping[str, Array], dtype: DTypeLike
) -> Iterator[tuple[Step, list[Array]]]:
    """Each step with its tops, when they are computed; ``blobs`` are those that are alive then.

    Args:
        schedule: what is run.
        blobs: the inputs, by name; gets what is computed, and loses what nothing more needs.
        weights: with the net's names.
        dtype: float32 or float64.
    """
    for i, step in enumerate(schedule.steps):
        if not step.layer.from_outside:
            bottoms = [blobs[name] for name in step.layer.bottoms]
            with np.errstate(all="ignore"):
                tops = tops_of(step, bottoms, step_blobs(step, weights, dtype))
            blobs.update(zip(step.layer.tops, tops, strict=True))
        yield step, [blobs[name] for name in step.layer.tops if name in blobs]
        for name in schedule.freed[i]:
            blobs.pop(name, None)  # a label that nobody needs has not been handed in


def tops_of(step: Step, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
    """What a layer computes from these bottoms.

    Raises:
        ShapeError: behind a layer whose ``shape_varies``, it cannot take what reaches it.
    """
    shapes = tuple(x.shape for x in bottoms)
    if shapes != step.bottoms:
        tops = met(step, shapes)
        if any(0 in shape for shape in shapes):  # Caffe loops over nothing, or ends in a few types
            return [np.empty(shape, bottoms[0].dtype) for shape in tops]
    return step.layer.forward(bottoms, blobs)


@dataclass(frozen=True)
class Schedule:
    """The layers that a request needs, and how long each blob lives.

    Args:
        steps: in order of running.
        wanted: names of the blobs to return, in the order of the net.
        freed: for each step the blobs that nothing after it reads and nobody wants.
        shapes: of tops of data layers, as they were handed in.
    """

    steps: tuple[Step, ...]
    wanted: tuple[str, ...]
    freed: tuple[tuple[str, ...], ...]
    shapes: Mapping[str, Shape]

    @classmethod
    def of(
        cls,
        net: Net,
        outputs: Iterable[str] | None,
        until: str | None,
        shapes: Mapping[str, Shape] | None = None,
    ) -> Schedule:
        """Find the layers that ``outputs`` need, up to ``until``.

        ``shapes`` are those of ``given_shapes``.

        Raises:
            NetError: no blob has that name, or it lies behind ``until``.
        """
        net, wanted = cut(net, outputs, until)
        known = net.data_tops() if shapes else {}
        shapes = {name: shape for name, shape in (shapes or {}).items() if name in known}
        steps = list(net.walk(shapes=shapes, wanted=wanted))
        with net.named():
            overwritten(net.layers)
            for step in steps:
                check_runs(step)

        live, freed = set(wanted), []
        for step in reversed(steps):
            names = dict.fromkeys((*step.layer.bottoms, *step.layer.tops))
            freed.append(tuple(name for name in names if name not in live))
            live.difference_update(step.layer.tops)
            live.update(step.layer.bottoms)
        return cls(tuple(steps), wanted, tuple(reversed(freed)), shapes)

    @property
    def inputs(self) -> dict[str, Shape]:
        """Name and shape of the blobs that come from the caller, and that are needed."""
        used = {name for step in self.steps for name in step.layer.bottoms} | {*self.wanted}
        return {
            name: shape
            for step in self.steps
            if step.layer.from_outside
            for name, shape in zip(step.layer.tops, step.tops, strict=True)
            if name in used
        }

    def together(self, *, kept: bool) -> int:
        """How many values are there at one time at least: of all blobs if they are ``kept``.

        Else what one layer reads or writes; it may write where it reads.
        """
        blobs = [
            {*zip(names, shapes, strict=True)}
            for step in self.steps
            for names, shapes in ((step.layer.bottoms, step.bottoms), (step.layer.tops, step.tops))
            if not step.layer.shares_memory
        ]
        some = [set().union(*blobs)] if kept else blobs
        return max((sum(count(shape) for _, shape in one) for one in some), default=0)


def cut(net: Net, outputs: Iterable[str] | None, until: str | None) -> tuple[Net, tuple[str, ...]]:
    """The net up to the last blob asked for, and the blobs wanted, in its order.

    Raises:
        NetError: no blob has that name, it lies behind ``until``, or the net is at phase TRAIN.
    """
    check_test_net(net)
    outputs = name_list(outputs)
    with net.named():
        net = net.reaching(outputs, until)
    made = dict.fromkeys(name for layer in net.layers for name in layer.tops)
    return net, tuple(name for name in made if outputs is None or name in outputs)


def name_list(outputs: Iterable[str] | None) -> tuple[str, ...] | None:
    """The names of the blobs asked for; None for all.

    Raises:
        ResNetProtoError: one string, whose letters would be taken for names.
    """
    if isinstance(outputs, str):
        raise ResNetProtoError(f"outputs is '{outputs}'; give a list of names")
    return None if outputs is None else tuple(outputs)


def check_test_net(net: Net) -> None:
    """Refuse what is no net, or none that can be run.

    Raises:
        ResNetProtoError: it is the file of one, or something else.
        NetError: it is at phase TRAIN, where layers compute other things.
    """
    check_net(net)
    if net.state.phase != "TEST":
        raise NetError(
            f"the net is at phase {net.state.phase}; what is computed here is what layers do at "
            'TEST: net.at(phase="TEST")'
        )


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    """What to compute in.

    Raises:
        NetError: neither float32 nor float64.
    """
    try:
        chosen = np.dtype(dtype)
    except TypeError:
        raise NetError(f"dtype is {dtype!r}; give float32 or float64") from None
    if chosen not in (np.float32, np.float64):
        raise NetError(f"dtype is {chosen}; give float32 or float64")
    return chosen


def given_shapes(net: Net, inputs: Array | Mapping[str, Array]) -> dict[str, Shape]:
    """The shapes of what is handed in for data layers: they go before what the net says."""
    known = net.data_tops()
    if isinstance(inputs, Mapping):
        return {name: np.shape(inputs[name]) for name in known if name in inputs}
    if not known or net.inputs():
        return {}
    needed = [name for name, layer in known.items() if layer.fill(name) is None]
    return {(needed or list(known))[0]: np.shape(inputs)}


def check_inputs(
    net: Net, schedule: Schedule, inputs: Array | Mapping[str, Array], dtype: DTypeLike
) -> dict[str, Array]:
    """Copies of the inputs that the schedule needs, in ``dtype``.

    Raises:
        NetError: an input is missing, or the net does not have it.
        ShapeError: an array does not have the net's shape.
    """
    wanted = schedule.inputs
    fills = {
        name: value
        for step in schedule.steps
        if step.layer.any_shape
        for name in step.layer.tops
        if (value := step.layer.fill(name)) is not None
    }
    if not isinstance(inputs, Mapping):
        needed = [name for name in wanted if name not in fills] or list(wanted)
        if len(needed) != 1:
            names = ", ".join(wanted) or "none"
            raise NetError(f"one array was given, but the inputs needed are: {names}")
        inputs = dict.fromkeys(needed, inputs)
    for name in inputs:
        if name not in wanted:
            known = (*net.inputs(), *net.data_tops())
            if name not in known:
                raise NetError(f"the net has no input '{name}'{nearest(name, known)}")
    arrays = {}
    for name, shape in wanted.items():
        if name not in inputs and name in fills:
            arrays[name] = np.full(shape, fills[name], dtype)
            continue
        if name not in inputs:
            raise NetError(
                f"input '{name}' is missing; the net needs {dims(shape)} (--input {name}=FILE)"
            )
        arrays[name] = numbers(name, inputs[name], dtype)
        if arrays[name].shape != shape:
            raise ShapeError(
                f"input '{name}' is {dims(arrays[name].shape)}, the net needs {dims(shape)}"
            )
    return arrays


def numbers(name: str, value: Any, dtype: DTypeLike) -> Array:
    """A copy of an input, in ``dtype``.

    Raises:
        ResNetProtoError: something else than real numbers.
    """
    try:
        given = np.asarray(value)
    except ValueError:  # rows of different lengths
        given = np.empty(0, object)
    if given.dtype.kind not in "fiub":
        raise ResNetProtoError(
            f"input '{name}' is {type(value).__name__} of {given.dtype}; "
            "give an array of real numbers"
        )
    with np.errstate(over="ignore"):
        return np.array(given, dtype, order="C")


def random_inputs(net: Net, seed: int = 0) -> dict[str, Array]:
    """An array for each input of the net: evenly spread over an image's range, mean removed.

    Where Embed reads one it has whole numbers that are its rows; ``cont`` of LSTM and RNN 0 and 1.
    """
    rng = np.random.default_rng(seed)
    below: dict[str, int] = {}
    for layer in net.layers:
        if layer.type == "Embed":
            below[layer.bottoms[0]] = layer.param.get("input_dim", 0)
        elif layer.type in ("LSTM", "RNN"):
            below.update(dict.fromkeys(layer.bottoms[1:2], 2))
    return {
        name: (
            rng.integers(max(below[name], 1), size=shape)
            if name in below
            else rng.uniform(-128, 128, shape)
        ).astype(np.float32)
        for name, shape in net.inputs().items()
    }
