"""A net in an engine that stays open: what all engines share, and our own two.

    Job -> Running; inputs -> run -> blobs, as often as one likes

A run for ``verify`` is one of a ``Running`` that is ``exact``: the engine runs each layer as it is
written. One that ``start`` opens may fold and join layers, as long as it gives the blobs asked for.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from resnet_proto.engine.plain import Schedule, check_inputs, cut, forward, given_shapes, name_list
from resnet_proto.errors import ResNetProtoError, UnknownLayerError, UnknownShapeError
from resnet_proto.fit import exact, fit, step_blobs
from resnet_proto.fold import folded
from resnet_proto.memory import BLOBS, check_room
from resnet_proto.net import check_runs
from resnet_proto.weights import Weights

if TYPE_CHECKING:
    from resnet_proto.engine.job import Job
    from resnet_proto.engine.planned import Plan
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

KEPT = 16
"""For how many sizes of the inputs a ``Running`` remembers what it has found out."""


class Running(ABC):
    """A net in an engine, ready for many runs. ``engine.start`` opens one; it is a context manager.

    Args:
        job: its ``inputs`` are not looked at.
        exact: run each layer as it is written, on inputs of the net's own shapes.

    It serves one thread at a time. Whoever forgets to close it leaves nothing behind, either.
    """

    engine: ClassVar[str]
    reads_files: ClassVar[bool] = False
    """Whether the engine reads prototxt and caffemodel, and may know layers that we do not."""

    def __init__(self, job: Job, *, exact: bool = False) -> None:
        self.job = job
        self.exact = exact
        self._sizes: dict[tuple[tuple[str, Shape], ...], Any] = {}
        self._stack = ExitStack()
        self._end = weakref.finalize(self, self._stack.close)
        try:
            self._open()
            with suppress(UnknownShapeError):  # of data, which comes with the first inputs
                if not exact:
                    self._sized({})
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The blobs asked for, of these inputs.

        Args:
            inputs: blob name -> array. Batch, rows and columns may be others than the net's, and
                others in each run, as far as its layers take them with the same weights.

        Returns:
            The blobs in the order in which they were asked for, float32 (float64 from the engine
            of that name). No later run touches them.

        Raises:
            NetError: an input is missing, or the net has no such input.
            ShapeError: a layer does not take inputs of these shapes.
            ResNetProtoError: the engine gives up, or has been closed.
        """
        if not self._end.alive:
            raise ResNetProtoError(f"engine '{self.engine}' is closed; start it again")
        check_mapping(inputs)
        with self.job.net.named():
            blobs = self._run(self._sized(inputs), inputs)
        if self.exact or self.job.outputs is None:
            return blobs
        return chosen(self.engine, blobs, self.job.outputs)

    def needs(self, shapes: Mapping[str, Shape]) -> int:
        """Bytes that a run on inputs of these shapes takes at least; 0 where that is not known."""
        return 0

    @property
    def opened(self) -> int:
        """Bytes that it has taken to open it, at least: of weights; 0 where that is not known."""
        return 0

    def close(self) -> None:
        """End it, with whatever process and files it has; a second time is no error."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sized(self, inputs: Mapping[str, Array]) -> Any:
        """What ``_prepare`` has made for inputs of such shapes."""
        import numpy as np

        shapes: dict[str, Shape] = {}
        for name, value in inputs.items():
            with suppress(ValueError):  # rows of different lengths: refused when they are read
                shapes[name] = np.shape(value)
        net, own = self.job.net, self.job.net.inputs()
        given = given_shapes(net, inputs)
        others = {k: v for k, v in shapes.items() if k not in given and v != own.get(k)}
        if self.exact:
            others = {}
        key = tuple({**others, **given}.items())
        found = self._sizes.pop(key, None)
        if found is None:
            outputs = self.job.outputs
            found = self._prepare(net.with_input_shapes(others, outputs) if others else net, given)
            while len(self._sizes) >= KEPT:
                del self._sizes[next(iter(self._sizes))]
        self._sizes[key] = found  # the last one used is at the end
        return found

    def _schedule(self, net: Net, given: Mapping[str, Shape]) -> Schedule:
        """The layers that are needed; only the inputs where the engine may know more of them."""
        job = self.job
        if not self.reads_files:
            return Schedule.of(net, job.outputs, job.until, given)
        if not self.exact:
            with suppress(UnknownLayerError, UnknownShapeError):
                for step in net.walk(shapes=given, wanted=job.outputs):
                    check_runs(step)
        return input_schedule(net, job.outputs, job.until)

    def _open(self) -> None:
        """Begin whatever does not depend on the size of the inputs."""
        return

    @abstractmethod
    def _prepare(self, net: Net, given: Mapping[str, Shape]) -> Any:
        """What is needed for inputs of these sizes."""

    @abstractmethod
    def _run(self, sized: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Blobs by name."""


class Numpy(Running):
    """Ours, fast: float32, BatchNorm and Scale folded into the convolution before them.

    They are folded once, and all sizes have one working memory, as large as the largest needs.
    """

    engine = "numpy"

    def _open(self) -> None:
        from resnet_proto.engine.planned import Plan

        self._plan = Plan(self.job.net, self.job.weights)

    def needs(self, shapes: Mapping[str, Shape]) -> int:
        """Besides the inputs, and what earlier runs have left."""
        inputs = without_values(shapes)
        plan: Plan = self._sized(inputs)
        given = given_shapes(plan.net, inputs)
        return plan.prepare(self.job.outputs, self.job.until, given).room

    @property
    def opened(self) -> int:
        """Folded weights."""
        return self._plan.store.copied

    def _prepare(self, net: Net, given: Mapping[str, Shape]) -> Plan:
        plan = self._plan.resized(net)
        plan.prepare(self.job.outputs, self.job.until, given)
        return plan

    def _run(self, sized: Plan, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return sized.run(inputs, outputs=self.job.outputs, until=self.job.until)


class Float64(Running):
    """Ours, plain: each layer's definition in float64."""

    engine = "float64"

    def needs(self, shapes: Mapping[str, Shape]) -> int:
        """What one layer reads or writes, all the rest left out."""
        room: int = self._sized(without_values(shapes))[1]
        return room

    def _prepare(self, net: Net, given: Mapping[str, Shape]) -> tuple[Net, int]:
        schedule = self._schedule(net, given)
        return net, 8 * schedule.together(kept=self.job.outputs is None)

    def _run(self, sized: tuple[Net, int], inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs, until = self.job.outputs, self.job.until
        net, room = sized
        check_room(room, *BLOBS)
        return forward(net, self.job.weights, inputs, dtype="float64", outputs=outputs, until=until)


def without_values(shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """Inputs of these shapes that take no memory."""
    import numpy as np

    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def check_mapping(inputs: object) -> None:
    """Refuse one array: an engine takes inputs by name."""
    if not isinstance(inputs, Mapping):
        kind = type(inputs).__name__
        raise ResNetProtoError(f"inputs is a {kind}; give a dict, blob name -> array")


def chosen(engine: str, blobs: Mapping[str, Array], outputs: Iterable[str]) -> dict[str, Array]:
    """The blobs asked for, in that order.

    Raises:
        ResNetProtoError: the engine has not given one of them.
    """
    for name in outputs:
        if name not in blobs:
            raise ResNetProtoError(f"engine '{engine}' gives no blob '{name}'")
    return {name: blobs[name] for name in outputs}


def lighter(job: Job, net: Net, given: Mapping[str, Shape]) -> tuple[Net, Mapping[str, Array]]:
    """The layers that the outputs need, with BatchNorm and Scale folded where no output is lost.

    Where layers have one name the net stays as it is: weights are found by place then.
    """
    outputs = job.outputs or ()
    part = net.reaching(outputs, None).needed(outputs)
    names = [layer.name for layer in part.layers]
    if len({*names}) < len(names) or len({la.name for la in net.layers}) < len(net.layers):
        return net, job.weights
    shapes = {name: given[name] for name in part.data_tops() if name in given}
    shown, weights = folded(part, job.weights, shapes, merge=True)
    made = {name for layer in shown.layers for name in layer.tops}
    return (shown, weights) if made.issuperset(outputs) else (net, job.weights)


def checked(job: Job) -> Job:
    """A job whose names, inputs and weights fit the net, with the inputs that it needs.

    Layers of types that are not known here, and those behind them, are left to the engine; so is
    what data layers read.
    """
    job = replace(job, outputs=name_list(job.outputs))
    net, _ = cut(job.net, job.outputs, job.until)
    schedule = input_schedule(job.net, job.outputs, job.until)
    inputs = check_inputs(job.net, schedule, job.inputs, "float64")
    check_weights(job)
    data = {name: job.inputs[name] for name in net.data_tops() if name in job.inputs}
    return replace(job, inputs=data | inputs)


def check_weights(job: Job) -> None:
    """Refuse weights that do not fit the layers of a job.

    Others than we leave a layer without weights at its filler, and say nothing.

    Raises:
        WeightsError: a layer has none, or others.
    """
    net, wanted = cut(job.net, job.outputs, job.until)
    with suppress(UnknownLayerError, UnknownShapeError):
        for step in net.walk(shapes=given_shapes(net, job.inputs), wanted=wanted):
            if isinstance(job.weights, Weights):
                fit(job.weights, step.label, exact(step.blobs), step.shared)
            else:
                step_blobs(step, job.weights, "float32")


def input_schedule(net: Net, outputs: Iterable[str] | None, until: str | None) -> Schedule:
    """The Input layers that a request needs, whatever the types of the others."""
    shown, wanted = cut(net, outputs, until)
    part = shown.needed(wanted)
    given = replace(shown, layers=tuple(la for la in part.layers if la.type == "Input"))
    return Schedule.of(given, needed_inputs(net, outputs, until), None)


def needed_inputs(net: Net, outputs: Iterable[str] | None, until: str | None) -> dict[str, Shape]:
    """Name and shape of each input that a request needs.

    Raises:
        NetError: no blob has a name asked for.
    """
    shown, wanted = cut(net, outputs, until)
    part = shown.needed(wanted)
    read = {name for layer in part.layers for name in layer.bottoms} | {*wanted}
    return {name: shape for name, shape in part.inputs().items() if name in read}
