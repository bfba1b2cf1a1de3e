"""Net + weights -> plan; plan + inputs -> the activations of ``plain``, faster.

    Schedule -> values -> chains of layers -> tasks -> places in one arena -> run

A *value* is one version of a blob: a layer that works in place makes a new one. Where
nobody sees the values between them, layers become one task: a convolution with the
BatchNorm, Scale, sum and ReLU after it. What has no fast way here is computed by the
layer's own ``forward``.

Activations lie in memory as (N, H, W, C), and are handed out as (N, C, H, W) views. A
pixel's channels are neighbours: a batch is one matrix with a row for each pixel, a 1x1
convolution is one product, and im2col copies long runs.

Values that are not finite may differ from ``plain``'s: a ReLU makes 0 of -inf, where Caffe's
makes a nan, and a folded layer may overflow earlier or later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from resnet_proto.engine.plain import (
    Schedule,
    check_inputs,
    check_test_net,
    float_type,
    given_shapes,
    name_list,
    tops_of,
)
from resnet_proto.fit import named, step_blobs
from resnet_proto.fold import batch_norm_blobs, fold, is_affine, normalises
from resnet_proto.layers import (
    Convolution,
    Eltwise,
    Pooling,
    ReLU,
    Shape,
    count,
)
from resnet_proto.layers.batch_norm import statistics
from resnet_proto.layers.pooling import LOWEST
from resnet_proto.memory import BLOBS, check_room

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

BLOCK = 1 << 20
"""Values that are worked on together, so that they are still in cache for the next step."""
LINE = 64
"""Bytes of a cache line; every place in the arena starts on one."""

Compute: TypeAlias = "Callable[[Sequence[Array], Array, Array], None]"
"""Reads bottoms, writes the top, works in scratch; bottoms and top are (N, H, W, C)."""


Request: TypeAlias = "tuple[frozenset[str] | None, str | None, frozenset[tuple[str, Shape]]]"
"""Which blobs, how far, and the shapes of what is handed in for data layers."""


class Plan:
    """A net with its weights, made ready to run many times.

    Args:
        net: any net whose layer types are known.
        weights: arrays by ``<layer>.<blob>``; read when a request first needs them.
        dtype: float32 or float64; everything is computed in it.

    A plan keeps its buffers from run to run, so two threads need two plans.
    """

    def __init__(
        self, net: Net, weights: Mapping[str, Array], *, dtype: DTypeLike = "float32"
    ) -> None:
        check_test_net(net)
        self.net = net
        self.dtype = float_type(dtype)
        self.store = Store(named(weights, net), self.dtype)
        self.any_shape = bool(net.data_tops())
        self._programs: dict[Request, Program] = {}

    @property
    def weights(self) -> Mapping[str, Array]:
        """Those of the net, as they are stored."""
        return self.store.weights

    def resized(self, net: Net) -> Plan:
        """A plan for the same net with inputs of other sizes (``Net.with_input_shapes``).

        Both have the same folded weights and the same memory, so only one may run at a time.
        """
        plan = copy(self)
        plan.net, plan._programs = net, {}
        return plan

    def run(
        self,
        inputs: Array | Mapping[str, Array],
        outputs: Iterable[str] | None = None,
        until: str | None = None,
    ) -> dict[str, Array]:
        """Compute blobs; arguments, result and errors are those of ``plain.forward``.

        The arrays belong to the caller: no later run touches them. They share one piece of
        memory, so copy what is to be kept for long.
        """
        shapes = given_shapes(self.net, inputs) if self.any_shape else {}
        program = self.prepare(outputs, until, shapes)
        arrays = check_inputs(self.net, program.schedule, inputs, self.dtype)
        with self.net.named():
            return program.run(arrays)

    def prepare(
        self,
        outputs: Iterable[str] | None = None,
        until: str | None = None,
        shapes: Mapping[str, Shape] | None = None,
    ) -> Program:
        """Plan a request without running it. Only the last request's plan is kept.

        ``shapes`` are those of what will be handed in for data layers.
        """
        shapes = shapes or {}
        outputs = name_list(outputs)
        request = (
            None if outputs is None else frozenset(outputs),
            until,
            frozenset(shapes.items()),
        )
        if request not in self._programs:
            schedule = Schedule.of(self.net, outputs, until, shapes)
            self._programs.clear()
            self.store.ask(request[:2])
            with self.net.named():
                self._programs[request] = Program(schedule, self.store)
        return self._programs[request]


class Store:
    """What all sizes of a net have in common: weights as its tasks take them, and memory.

    Args:
        weights: arrays by ``<layer>.<blob>``.
        dtype: what everything is computed in.
    """

    def __init__(self, weights: Mapping[str, Array], dtype: np.dtype[Any]) -> None:
        self.weights = weights
        self.dtype = dtype
        self._asked: object = None
        self._folded: dict[tuple[str, ...], Folded] = {}
        self._blobs: dict[str, Sequence[Array]] = {}
        self._memory = np.empty(0, dtype)

    def ask(self, request: object) -> None:
        """Forget what was folded for another request: its chains may be other ones."""
        if request != self._asked:
            self._folded, self._blobs, self._asked = {}, {}, request

    def folded(self, steps: Sequence[Step]) -> Folded:
        """A chain of layers, folded once."""
        labels = tuple(step.label for step in steps)
        if labels not in self._folded:
            self._folded[labels] = Folded.of(steps, self.weights, self.dtype)
        return self._folded[labels]

    def blobs(self, step: Step) -> Sequence[Array]:
        """The weights of a layer, read once."""
        if step.label not in self._blobs:
            self._blobs[step.label] = step_blobs(step, self.weights, self.dtype)
        return self._blobs[step.label]

    @property
    def size(self) -> int:
        """Values of the memory that is there."""
        return len(self._memory)

    @property
    def copied(self) -> int:
        """Bytes of the weights that are copies, and no part of a file."""
        arrays = [array for folded in self._folded.values() for array in folded]
        arrays += [array for blobs in self._blobs.values() for array in blobs]
        return sum(array.nbytes for array in arrays if array is not None and is_copy(array))

    def memory(self, size: int) -> Array:
        """So many values to work in, on a cache line; the same ones for everybody."""
        if len(self._memory) < size:
            self._memory = np.empty(0, self.dtype)  # let go of before more is taken
            self._memory = aligned(size, self.dtype)
        return self._memory


class Folded(NamedTuple):
    """A chain of layers as a product, a factor and an offset.

    Args:
        weight: (kernel_h * kernel_w * C, num_output), times the factors; None without a product.
        mean: (C,), subtracted first where a BatchNorm begins the chain.
        gain: (C,) factors. ``bias`` likewise, offsets.
    """

    weight: Array | None
    mean: Array | None
    gain: Array
    bias: Array | None

    @classmethod
    def of(
        cls, steps: Sequence[Step], weights: Mapping[str, Array], dtype: np.dtype[Any]
    ) -> Folded:
        """Fold a convolution or an affine layer, and what follows it."""
        first, mean = steps[0], None
        if normalises(first):
            mean = statistics(batch_norm_blobs(first, weights, dtype)[0])[0]
        weight, gain, bias = fold(steps, weights, dtype)
        return cls(None if weight is None else scaled(weight, gain), mean, gain, bias)


class Program:
    """One request on one net: tasks in order, and where their values lie.

    Args:
        schedule: which layers run, and which blobs are wanted.
        store: weights and memory.
    """

    def __init__(self, schedule: Schedule, store: Store) -> None:
        self.schedule = schedule
        self.store = store
        self.values = values = Values.of(schedule)
        self.tasks = [
            make_task(chain, store)
            for chain in chains(schedule.steps, values)
            if not chain.steps[0].layer.from_outside
        ]
        self.last_read = {v: i for i, task in enumerate(self.tasks) for v in task.bottoms}
        inside = [Life(-1 - i, task.scratch, i, i) for i, task in enumerate(self.tasks)]
        kept: dict[int, int] = {}
        for i, task in enumerate(self.tasks):
            for v in task.tops if task.compute else ():
                size, last = count(values.shapes[v]), self.last_read.get(v, i)
                if v in values.seen:
                    kept[v] = size
                else:
                    inside.append(Life(v, size, i, last))
        self.arena = Layout.of(inside, store.dtype)
        self.results = Layout.side_by_side(kept, store.dtype)

    @property
    def room(self) -> int:
        """Bytes that a run takes besides its inputs, and what is taken already."""
        values = max(0, self.arena.size - self.store.size) + self.results.size
        return values * self.store.dtype.itemsize

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs of the right shape and dtype, by name -> the blobs wanted.

        Raises:
            ResNetProtoError: they would not fit into memory.
        """
        values = self.values
        if self.arena.size > self.store.size:
            check_room(self.room, *BLOBS)
        memory = self.arena.cut(self.store.memory(self.arena.size)) | self.results.allocate()
        arrays = {values.inputs[name]: value for name, value in inputs.items()}
        with np.errstate(all="ignore"):
            for i, task in enumerate(self.tasks):
                bottoms = [arrays[v] for v in task.bottoms]
                if task.compute:
                    (top,) = task.tops
                    arrays[top] = channels_last(memory[top], values.shapes[top])
                    task.compute(
                        [as_pixels(x) for x in bottoms], as_pixels(arrays[top]), memory[-1 - i]
                    )
                else:
                    tops = tops_of(task.step, bottoms, task.blobs)
                    arrays.update(zip(task.tops, tops, strict=True))
                for v in {*task.bottoms, *task.tops} - values.seen:
                    if self.last_read.get(v, i) == i:
                        del arrays[v]
        return {name: arrays[v] for name, v in values.wanted.items()}


@dataclass(frozen=True)
class Values:
    """Every version of every blob, by number.

    Args:
        bottoms: for each step, the values it reads. ``tops`` likewise, that it makes.
        shapes: of each value.
        readers: for each value, the steps that read it.
        wanted: the value to return for each blob wanted. ``inputs`` likewise, from the caller.
    """

    bottoms: list[tuple[int, ...]]
    tops: list[tuple[int, ...]]
    shapes: list[Shape]
    readers: list[list[int]]
    wanted: dict[str, int]
    inputs: dict[str, int]

    @classmethod
    def of(cls, schedule: Schedule) -> Values:
        """Number the values in the order in which the net makes them."""
        values = cls([], [], [], [], {}, {})
        current: dict[str, int] = {}
        for i, step in enumerate(schedule.steps):
            values.bottoms.append(tuple(current[name] for name in step.layer.bottoms))
            for v in values.bottoms[i]:
                values.readers[v].append(i)
            for name, shape in zip(step.layer.tops, step.tops, strict=True):
                current[name] = len(values.shapes)
                values.shapes.append(shape)
                values.readers.append([])
            values.tops.append(tuple(current[name] for name in step.layer.tops))
            if step.layer.from_outside:
                values.inputs.update(zip(step.layer.tops, values.tops[i], strict=True))
        values.wanted.update((name, current[name]) for name in schedule.wanted)
        return values

    def varying(self, steps: Sequence[Step]) -> set[int]:
        """The steps that read what has its shape only when the net runs: no buffer has its size."""
        found: set[int] = set()
        values: set[int] = set()
        for i, step in enumerate(steps):
            reads = not values.isdisjoint(self.bottoms[i])
            if reads:
                found.add(i)
            if reads or step.layer.shape_varies:
                values.update(self.tops[i])
        return found

    def only_reader(self, value: int) -> int | None:
        """The one step that reads a value which nobody wants; None if others see it."""
        readers = self.readers[value]
        return readers[0] if len(readers) == 1 and value not in self.seen else None

    @cached_property
    def seen(self) -> set[int]:
        """The values that are wanted."""
        return set(self.wanted.values())


@dataclass
class Chain:
    """Layers that run together; only the last one's tops are seen.

    Args:
        steps: the first layer, and the Scale that is folded into it; into a convolution the
            BatchNorm too.
        bottoms: values read: those of the first layer, then those added to it.
        tops: values made.
        relu: whether a ReLU ends the chain.
        fast: whether its shapes are known beforehand.
    """

    steps: list[Step]
    bottoms: list[int]
    tops: tuple[int, ...]
    relu: bool = False
    fast: bool = True


def chains(steps: Sequence[Step], values: Values) -> list[Chain]:
    """Join layers that can run together, in the order of the last layer of each chain."""
    ended: dict[int, Chain] = {}
    taken: set[int] = set()
    varying = values.varying(steps)
    for i, step in enumerate(steps):
        if i in taken:
            continue
        chain = Chain([step], list(values.bottoms[i]), values.tops[i], fast=i not in varying)
        end = i
        begins = (is_convolution, is_pointwise, is_normalised, is_sum, is_relu)
        if chain.fast and any(begin(step) for begin in begins):
            chain.relu = is_relu(step)
            summed, convolves = is_sum(step), is_convolution(step)
            while not chain.relu:
                following = values.only_reader(chain.tops[0])
                if following is None or following in taken or following in varying:
                    break
                after = steps[following]
                if is_pointwise(after) and not summed and (convolves or not normalises(after)):
                    chain.steps.append(after)
                elif is_sum(after):
                    chain.bottoms += [v for v in values.bottoms[following] if v != chain.tops[0]]
                    summed = True
                elif is_relu(after):
                    chain.relu = True
                else:
                    break
                taken.add(following)
                chain.tops, end = values.tops[following], following
        ended[end] = chain
    return [ended[i] for i in sorted(ended)]


def is_convolution(step: Step) -> bool:
    """Whether a convolution has a fast way: two spatial axes; one group, or one per channel."""
    layer = step.layer
    return (
        isinstance(layer, Convolution)
        and len(step.bottoms) == 1
        and len(step.bottoms[0]) == 4
        and layer.axis in (1, -3)
        and (layer.group == 1 or is_depthwise(step))
    )


def is_depthwise(step: Step) -> bool:
    """Whether a convolution filters each channel by itself."""
    layer = step.layer
    return (
        isinstance(layer, Convolution) and layer.group == layer.num_output == step.bottoms[0][1] > 1
    )


def is_pointwise(step: Step) -> bool:
    """Whether a layer is a factor and an offset for each channel of an image."""
    return is_affine(step) and len(step.bottoms[0]) == 4


def is_normalised(step: Step) -> bool:
    """Whether a layer is a BatchNorm, or a BN, that takes the batch's own statistics."""
    return normalises(step) and not is_affine(step) and step.bottoms == step.tops


def is_sum(step: Step) -> bool:
    """Whether a layer adds its bottoms, as they are."""
    layer = step.layer
    return (
        isinstance(layer, Eltwise)
        and layer.operation == "SUM"
        and set(layer.coeff) <= {1.0}
        and len(step.bottoms[0]) == 4
    )


def is_relu(step: Step) -> bool:
    """Whether a layer is max(x, 0)."""
    layer = step.layer
    return isinstance(layer, ReLU) and not layer.negative_slope and len(step.bottoms[0]) == 4


@dataclass
class Task:
    """A chain, ready to run.

    Args:
        step: the first layer; it computes the tops where there is no ``compute``.
        blobs: what the layer's ``forward`` needs.
        bottoms: values read. ``tops`` likewise, made.
        compute: the fast way.
        scratch: how many values ``compute`` works in.
    """

    step: Step
    blobs: Sequence[Array]
    bottoms: tuple[int, ...]
    tops: tuple[int, ...]
    compute: Compute | None = None
    scratch: int = 0


def make_task(chain: Chain, store: Store) -> Task:
    """Fold the chain's weights and choose how it is computed."""
    first = chain.steps[0]
    task = Task(first, (), tuple(chain.bottoms), chain.tops)
    if not chain.fast:
        task.blobs = store.blobs(first)
    elif is_convolution(first):
        weight, _, _, bias = store.folded(chain.steps)
        assert weight is not None
        kind = Depthwise if is_depthwise(first) else Convolve
        convolve = kind.of(first, weight, Finish(bias, chain.relu))
        task.compute, task.scratch = convolve, convolve.scratch
    elif is_pointwise(first):
        _, mean, gain, bias = store.folded(chain.steps)
        task.compute = Pointwise(mean, gain, Finish(bias, chain.relu))
    elif is_normalised(first):
        task.compute = Normalise.of(chain, store.weights, store.dtype)
    elif is_sum(first) or is_relu(first):
        task.compute = Pointwise(None, None, Finish(None, chain.relu))
    elif (
        isinstance(first.layer, Pooling)
        and first.layer.pool != "STOCHASTIC"
        and len(chain.tops) == 1
    ):
        pool = Pool.of(first, store.dtype)
        task.compute, task.scratch = pool, pool.scratch
    else:
        task.blobs = store.blobs(first)
    return task


def is_copy(array: Array) -> bool:
    """Whether an array, or that of which it is a view, has memory of its own."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return bool(array.flags.owndata)


def scaled(weight: Array, gain: Array) -> Array:
    """(num_output, C, h, w) weight -> (h * w * C, num_output), times each output's factor."""
    taps_first = weight.transpose(0, 2, 3, 1)
    if gain.ndim or not taps_first.flags.c_contiguous:
        factors = np.broadcast_to(gain, len(weight))[:, None, None, None]
        taps_first = np.multiply(taps_first, factors, order="C")
    return taps_first.reshape(len(weight), -1).T


@dataclass
class Finish:
    """What follows a product while its rows are in cache."""

    bias: Array | None
    relu: bool

    def __call__(self, y: Array, others: Iterable[Array] = ()) -> None:
        """Add the bias and the ``others`` to ``y`` (pixels, C), and cut it at 0."""
        if self.bias is not None:
            np.add(y, self.bias, out=y)
        for other in others:
            np.add(y, other, out=y)
        if self.relu:
            np.maximum(y, 0, out=y)


@dataclass
class Pointwise:
    """BatchNorm and Scale, a sum, ReLU: any chain without a convolution.

    Args:
        mean: (C,), subtracted first: in an offset a large one would cost digits.
        gain: (C,) factors.
        finish: what follows them.
    """

    mean: Array | None
    gain: Array | None
    finish: Finish

    def __call__(self, bottoms: Sequence[Array], top: Array, scratch: Array) -> None:
        """Write ``top``, a block of pixels at a time."""
        for part in parts(top.shape, count(top.shape[2:])):
            x, *others = (bottom[part] for bottom in bottoms)
            y = top[part]
            if self.mean is not None:
                x = np.subtract(x, self.mean, out=y)
            if self.gain is not None:
                np.multiply(x, self.gain, out=y)
            elif others:
                np.add(x, others.pop(), out=y)
            else:
                np.copyto(y, x)
            self.finish(y, others)


@dataclass
class Normalise:
    """BatchNorm by the batch's own statistics, with the Scale, sum and ReLU after it.

    Args:
        eps: of the layer.
        gain: (C,) factors behind it, or a scalar.
        finish: what follows them.
        mean: (C,), float64, of the last batch that was run. ``variance`` likewise, biased.
    """

    eps: float
    gain: Array
    finish: Finish
    mean: Array | None = None
    variance: Array | None = None

    @classmethod
    def of(cls, chain: Chain, weights: Mapping[str, Array], dtype: np.dtype[Any]) -> Normalise:
        """The BatchNorm that a chain begins with; its stored statistics are not looked at."""
        first, *others = chain.steps
        blobs, eps = batch_norm_blobs(first, weights, dtype)
        _, gain, bias = fold(others, weights, dtype)
        gamma, *beta = blobs[3:] or (np.ones((), dtype),)
        if beta:
            bias = beta[0] * gain + (0 if bias is None else bias)
        return cls(eps, gamma * gain, Finish(bias, chain.relu))

    def __call__(self, bottoms: Sequence[Array], top: Array, scratch: Array) -> None:
        """Write ``top``; bottoms after the first are added to it."""
        x, *others = (bottom.reshape(-1, bottom.shape[-1]) for bottom in bottoms)
        y = top.reshape(x.shape)
        self.mean, self.variance = batch_statistics(x)
        mean = self.mean.astype(x.dtype)
        gain = (self.gain / np.sqrt(self.variance + self.eps)).astype(x.dtype)
        for rows in blocks(x):
            np.subtract(x[rows], mean, out=y[rows])
            np.multiply(y[rows], gain, out=y[rows])
            self.finish(y[rows], [other[rows] for other in others])


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel: x is (pixels, C), they are (C,), float64.

    The mean is subtracted before squares are taken, as batch_norm_layer.cpp does: of a mean that
    is large beside the deviations, E[x^2] - E[x]^2 would lose them. No sum is BLAS's, so the
    number of threads changes no bit.
    """
    total = np.zeros(x.shape[1])
    for rows in blocks(x):
        total += np.add.reduce(x[rows], 0, dtype=np.float64)
    mean = total / len(x)
    total[:] = 0
    for rows in blocks(x):
        deviation = x[rows] - mean
        total += np.einsum("ij,ij->j", deviation, deviation)
    return mean, total / len(x)


def blocks(x: Array) -> list[slice]:
    """Rows of (pixels, C) that are worked on together."""
    rows = max(1, (BLOCK >> 4) // x.shape[1])
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


@dataclass
class Convolve:
    """im2col and a matrix product, a block of output rows at a time.

    Args:
        weight: (kernel_h * kernel_w * C, num_output), a transposed view.
        finish: what follows the product.
        kernel: rows, columns. ``stride``, ``pad``, ``dilation`` likewise.
        padded: (N, H, W, C), the bottom as far as windows reach.
        columns: how many values the im2col block has; 0 where the bottom is its own.
        parts: images and rows of each block.
    """

    weight: Array
    finish: Finish
    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    padded: Shape
    columns: int
    parts: list[Part]

    @classmethod
    def of(cls, step: Step, weight: Array, finish: Finish) -> Convolve:
        """The convolution of ``step``, with its folded weight as a matrix."""
        assert isinstance(step.layer, Convolution)
        kernel, stride, pad, dilation = step.layer.windows(2)
        (n, c, *size), (_, _, *out) = step.bottoms[0], step.tops[0]
        reach = [
            max(length + 2 * p, (o - 1) * s + d * (k - 1) + 1)
            for length, o, k, s, p, d in zip(size, out, kernel, stride, pad, dilation, strict=True)
        ]
        direct = kernel == stride == (1, 1) and pad == (0, 0)
        blocks = list(parts((n, *out), out[1] * sum(weight.shape)))
        images, rows = blocks[0]
        columns = images.stop * rows.stop * out[1] * len(weight)
        return cls(
            weight,
            finish,
            kernel,
            stride,
            pad,
            dilation,
            (n, *reach, c),
            0 if direct else columns,
            blocks,
        )

    @property
    def scratch(self) -> int:
        """Room for the padded bottom and one im2col block."""
        return count(self.padded) + self.columns if self.columns else 0

    def __call__(self, bottoms: Sequence[Array], top: Array, scratch: Array) -> None:
        """Write ``top``; bottoms after the first are added to it."""
        x, *others = bottoms
        windows = self.windows(x, scratch[self.columns :]) if self.columns else x[:, :, :, None]
        for part in self.parts:
            seen = windows[part]
            if self.columns:
                block = scratch[: count(seen.shape)].reshape(seen.shape)
                np.copyto(block, seen)
                seen = block
            y = top[part].reshape(-1, top.shape[3])
            np.matmul(seen.reshape(len(y), -1), self.weight, out=y)
            self.finish(y, [other[part].reshape(y.shape) for other in others])

    def windows(self, x: Array, scratch: Array) -> Array:
        """(N, out_h, out_w, kernel_h, kernel_w, C), a view of the padded bottom."""
        if x.shape != self.padded:
            padded = scratch[: count(self.padded)].reshape(self.padded)
            (top, left), (height, width) = self.pad, x.shape[1:3]
            padded[:, :top] = 0
            padded[:, top + height :] = 0
            padded[:, :, :left] = 0
            padded[:, :, left + width :] = 0
            padded[:, top : top + height, left : left + width] = x
            x = padded
        out = [
            (length - d * (k - 1) - 1) // s + 1
            for length, k, s, d in zip(
                x.shape[1:3], self.kernel, self.stride, self.dilation, strict=True
            )
        ]
        image, row, column, channel = x.strides
        (stride_h, stride_w), (dilation_h, dilation_w) = self.stride, self.dilation
        strides = (
            image,
            row * stride_h,
            column * stride_w,
            row * dilation_h,
            column * dilation_w,
            channel,
        )
        shape = (len(x), *out, *self.kernel, x.shape[3])
        return np.ndarray(shape, x.dtype, x, 0, strides)


class Depthwise(Convolve):
    """Each channel by itself: nothing is copied, and every pixel has a product of its own.

    Args:
        weight: (kernel_h * kernel_w, C), a transposed view.
    """

    @property
    def scratch(self) -> int:
        """Room for the padded bottom."""
        return count(self.padded)

    def __call__(self, bottoms: Sequence[Array], top: Array, scratch: Array) -> None:
        """Write ``top``; bottoms after the first are added to it."""
        x, *others = bottoms
        windows = self.windows(x, scratch)
        weight = np.ascontiguousarray(self.weight).reshape(*self.kernel, -1)
        for part in self.parts:
            y = top[part]
            np.einsum("nhwijc,ijc->nhwc", windows[part], weight, out=y)
            self.finish(y, [other[part] for other in others])


@dataclass
class Pool:
    """Maximum or average over windows, along the rows first and then along the columns.

    Args:
        join: of two values. ``fill`` is what a window begins with.
        kernel: rows, columns. ``stride`` and ``pad`` likewise.
        divisor: (out_h, out_w, 1) for an average.
        scratch: how many values lie between the two sweeps.
    """

    join: np.ufunc
    fill: float
    kernel: Shape
    stride: Shape
    pad: Shape
    divisor: Array | None
    scratch: int

    @classmethod
    def of(cls, step: Step, dtype: np.dtype[Any]) -> Pool:
        """The pooling of ``step``.

        Raises:
            ShapeError: a window lies outside the image.
        """
        assert isinstance(step.layer, Pooling)
        kernel, stride, pad = step.layer.windows(step.bottoms[0])
        (n, c, _, width), out_h = step.bottoms[0], step.tops[0][2]
        divisors = step.layer.divisors(step.bottoms[0])[:, :, None].astype(dtype)
        divisor = divisors if step.layer.pool == "AVE" else None
        join, fill = (np.fmax, LOWEST) if divisor is None else (np.add, 0.0)
        return cls(join, fill, kernel, stride, pad, divisor, n * out_h * width * c)

    def __call__(self, bottoms: Sequence[Array], top: Array, scratch: Array) -> None:
        """Write ``top``."""
        x = bottoms[0]
        between = scratch.reshape(len(x), top.shape[1], *x.shape[2:])
        self.sweep(x, between, 0)
        self.sweep(between, top, 1)
        if self.divisor is not None:
            np.divide(top, self.divisor, out=top)

    def sweep(self, x: Array, y: Array, axis: int) -> None:
        """Join each window along the rows (axis 0) or the columns (axis 1), tap by tap."""
        kernel, stride, pad = self.kernel[axis], self.stride[axis], self.pad[axis]
        x, y = np.moveaxis(x, 1 + axis, 0), np.moveaxis(y, 1 + axis, 0)
        y.fill(self.fill)
        for tap in range(-pad, kernel - pad):
            first = max(0, -(tap // stride))  # the windows whose tap lies inside the image
            last = min(len(y), (len(x) - 1 - tap) // stride + 1)
            if first < last:
                seen = x[first * stride + tap :: stride][: last - first]
                self.join(y[first:last], seen, out=y[first:last])


@dataclass(frozen=True)
class Life:
    """A value or a scratch: how large it is, from which task to which it lives."""

    name: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """Places in one piece of memory: where each begins, how long it is, and the size of it all."""

    places: Mapping[int, tuple[int, int]]
    size: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, lives: Iterable[Life], dtype: np.dtype[Any]) -> Layout:
        """Place values so that no two that live together overlap.

        The largest first, each at the lowest place that is free for its whole life.
        """
        unit = LINE // dtype.itemsize
        places: dict[int, tuple[int, int]] = {}
        used: dict[int, list[tuple[int, int]]] = defaultdict(list)  # at each task
        size = 0
        for life in sorted(lives, key=lambda life: -life.size):
            start = 0
            tasks = range(life.first, life.last + 1)
            for begin, end in sorted({span for task in tasks for span in used[task]}):
                if start + life.size <= begin:
                    break
                start = max(start, end)
            end = start + -(-life.size // unit) * unit
            for task in tasks:
                used[task].append((start, end))
            places[life.name] = start, life.size
            size = max(size, end)
        return cls(places, size, dtype)

    @classmethod
    def side_by_side(cls, sizes: Mapping[int, int], dtype: np.dtype[Any]) -> Layout:
        """Places for values that all live together."""
        unit = LINE // dtype.itemsize
        places: dict[int, tuple[int, int]] = {}
        end = 0
        for name, size in sizes.items():
            places[name] = end, size
            end += -(-size // unit) * unit
        return cls(places, end, dtype)

    def allocate(self) -> dict[int, Array]:
        """New memory, and the flat array at each place."""
        return self.cut(aligned(self.size, self.dtype))

    def cut(self, memory: Array) -> dict[int, Array]:
        """The flat array at each place."""
        return {name: memory[start : start + size] for name, (start, size) in self.places.items()}


def aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """New memory that begins with a cache line."""
    memory = np.empty(size + LINE // dtype.itemsize, dtype)
    return memory[-memory.ctypes.data % LINE // dtype.itemsize :]


Part = tuple[slice, slice]


def parts(shape: Shape, row: int) -> Iterator[Part]:
    """Cut (images, rows ...) into even parts of at most ``BLOCK`` values; ``row`` is one row's."""
    images, rows = shape[:2]
    fit = max(1, BLOCK // row)
    if fit >= rows:
        group = fit // rows
        for n in range(0, images, group):
            yield slice(n, min(n + group, images)), slice(0, rows)
        return
    height = -(-rows // -(-rows // fit))
    for n in range(images):
        for r in range(0, rows, height):
            yield slice(n, n + 1), slice(r, min(r + height, rows))


def as_pixels(x: Array) -> Array:
    """(N, C, H, W) -> contiguous (N, H, W, C); a view where the memory is in that order.

    Other numbers of axes likewise.
    """
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def channels_last(memory: Array, shape: Shape) -> Array:
    """Flat memory -> (N, C, H, W) view with the channels of a pixel side by side."""
    n, c, *size = shape
    return np.moveaxis(memory.reshape(n, *size, c), -1, 1)
