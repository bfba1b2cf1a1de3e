"""Net + weights -> ONNX model, in float32.

    net -> steps that the outputs need -> nodes and initializers -> model

A layer becomes one node of its name, or a few: ``<layer>/<op>`` before it. A value has its
blob's name where it is the blob's last version; a version that a layer overwrites in place is
``<blob>@<layer>``, after the layer that wrote it. Initializers are ``<layer>.<blob>``. The same
net and weights give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ResNetProtoError, UnknownLayerError
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Eltwise,
    InnerProduct,
    Pooling,
    ReLU,
    Scale,
    Shape,
    Softmax,
    axis_index,
    count,
)
from resnet_proto.layers.batch_norm import statistics
from resnet_proto.net import check_runs, labels, needed
from resnet_proto.weights import step_blobs

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

OPSET = 13
IR_VERSION = 7
"""Both came with ONNX 1.8, in 2020: any runtime in use reads them."""


def to_onnx(
    net: Net, weights: Mapping[str, Array], *, outputs: Iterable[str] | None = None
) -> onnx.ModelProto:
    """The net at phase TEST as an ONNX model, with the input shapes of the net.

    Args:
        net: any net whose layer types are known.
        weights: arrays by ``<layer>.<blob>``, ``conv1.weight``.
        outputs: names of the blobs that the model gives, all by default. Only what they need
            is written.

    Returns:
        A model whose inputs and outputs are in the order of the net.

    Raises:
        NetError: no blob of the net has a name asked for.
        ResNetProtoError: the package ``onnx`` is not installed.
        UnknownLayerError: a layer that has no way into ONNX.
        WeightsError: weights are missing, or do not fit the net.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise ResNetProtoError(
            "ONNX needs the package onnx: pip install 'resnet-proto[onnx]'"
        ) from None

    net = net.upgraded().filtered()
    names = labels(layer.name for layer in net.layers)
    last = {top: name for layer, name in zip(net.layers, names, strict=True) for top in layer.tops}
    wanted = None if outputs is None else tuple(outputs)
    steps = list((net if wanted is None else net.until(wanted)).walk())
    if wanted is not None:
        steps = needed(steps, wanted)

    def info(value: str, shape: Shape) -> Any:
        return helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)

    graph = Graph(taken=set(last))
    inputs: list[Any] = []
    values: dict[str, str] = {}  # blob -> its newest version
    shapes: dict[str, Shape] = {}
    for step in steps:
        check_runs(step)
        bottoms = [values[name] for name in step.layer.bottoms]
        tops = [
            name if last[name] == step.label else graph.free(f"{name}@{step.label}")
            for name in step.layer.tops
        ]
        if step.layer.type == "Input":
            inputs += map(info, tops, step.tops)
        else:
            blobs = dict(zip(step.blobs, step_blobs(step, weights, "float32"), strict=True))
            write(Site(graph, step, bottoms, tops, blobs))
        values.update(zip(step.layer.tops, tops, strict=True))
        shapes.update(zip(step.layer.tops, step.tops, strict=True))
    results = [info(values[n], shapes[n]) for n in values if wanted is None or n in wanted]
    return helper.make_model(
        helper.make_graph(graph.nodes, net.name or "net", inputs, results, graph.initializers),
        producer_name="resnet-proto",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


@dataclass
class Graph:
    """What is written so far.

    Args:
        taken: names of values; the blobs' own from the start.
        nodes: in order of running. ``initializers`` likewise.
    """

    taken: set[str]
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    def free(self, name: str) -> str:
        """The name, numbered where a blob or another value has it."""
        nth, chosen = 1, name
        while chosen in self.taken:
            nth += 1
            chosen = f"{name}_{nth}"
        self.taken.add(chosen)
        return chosen


@dataclass(frozen=True)
class Site:
    """The place in a graph where one layer is written.

    Args:
        bottoms: the values that the layer reads. ``tops`` likewise, that it makes.
        blobs: its weights, float32.
    """

    graph: Graph
    step: Step
    bottoms: Sequence[str]
    tops: Sequence[str]
    blobs: Mapping[str, Array]

    def op(self, type: str, inputs: Sequence[str], top: str = "", **attributes: Any) -> str:
        """Add a node that makes ``top``, or a value between; return the value's name."""
        from onnx import helper

        value = top or self.graph.free(f"{self.step.label}/{type}")
        name = self.step.label if value == self.tops[0] else value
        self.graph.nodes.append(helper.make_node(type, inputs, [value], name, **attributes))
        return value

    def constant(self, name: str, value: Array | np.ndarray[Any, np.dtype[np.int64]]) -> str:
        """Add an initializer ``<layer>.<name>``; return its full name."""
        from onnx import numpy_helper

        full = self.graph.free(f"{self.step.label}.{name}")
        self.graph.initializers.append(numpy_helper.from_array(value, full))
        return full

    def sizes(self, name: str, sizes: Iterable[int]) -> str:
        """Add an initializer of whole numbers, for an op that takes a shape or pads."""
        import numpy as np

        return self.constant(name, np.array(list(sizes), np.int64))

    def reshape(self, value: str, old: Shape, new: Shape, top: str = "") -> str:
        """The value in a new shape; without a node where none is needed."""
        if old == new and not top:
            return value
        return self.op("Reshape", [value, self.sizes("shape", new)], top)


def write(site: Site) -> None:
    """Add the nodes of one layer.

    Raises:
        UnknownLayerError: its type has no way into ONNX.
    """
    layer = site.step.layer
    if layer.type not in WRITERS:
        raise UnknownLayerError(
            f"layer '{layer.name}' has type '{layer.type}', which cannot be written as ONNX; "
            f"known: {', '.join(sorted(WRITERS))}"
        )
    WRITERS[layer.type](site, layer)


def convolution(site: Site, layer: Convolution) -> None:
    """Conv for each bottom; it wants one axis before the channels, and at least one behind."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    channel = axis_index(layer.axis, shape)
    spatial = shape[channel + 1 :]
    kernel, stride, pad, dilation = layer.windows(len(spatial))
    flat, flat_top = (
        (count(size[:channel]), size[channel], *(size[channel + 1 :] or (1,)))
        for size in (shape, top_shape)
    )
    weight, *bias = site.blobs.values()
    inputs = [site.constant("weight", weight.reshape(*weight.shape[:2], *(kernel or (1,))))]
    inputs += [site.constant("bias", value) for value in bias]
    same = flat_top == top_shape
    for bottom, top in zip(site.bottoms, site.tops, strict=True):
        y = site.op(
            "Conv",
            [site.reshape(bottom, shape, flat), *inputs],
            top if same else "",
            kernel_shape=kernel or (1,),
            strides=stride or (1,),
            pads=(*pad, *layer.end_pad(spatial)) or (0, 0),
            dilations=dilation or (1,),
            group=layer.group,
        )
        if not same:
            site.reshape(y, flat_top, top_shape, top)


def batch_norm(site: Site, layer: BatchNorm) -> None:
    """BatchNormalization, mostly without gamma and beta; batch statistics in single steps."""
    import numpy as np

    (x,), (top,) = site.bottoms, site.tops
    if layer.use_global_stats is False:
        axes = (0, *range(2, len(site.step.bottoms[0])))
        centred = site.op("Sub", [x, site.op("ReduceMean", [x], axes=axes)])
        square = site.op("ReduceMean", [site.op("Mul", [centred, centred])], axes=axes)
        eps = site.constant("eps", np.array(layer.eps, np.float32))
        deviation = site.op("Sqrt", [site.op("Add", [square, eps])])
        y = site.op("Div", [centred, deviation], "" if layer.scales else top)
        if layer.scales:
            spread = (-1, *(1 for _ in site.step.bottoms[0][2:]))
            gamma, beta = (
                site.constant(name, site.blobs[name].reshape(spread)) for name in ("weight", "bias")
            )
            site.op("Add", [site.op("Mul", [y, gamma]), beta], top)
        return
    mean, variance = statistics(list(site.blobs.values()))
    inputs: dict[str, Array] = {
        "weight": site.blobs["weight"] if layer.scales else np.ones_like(mean),
        "bias": site.blobs["bias"] if layer.scales else np.zeros_like(mean),
        "mean": mean,
        "variance": variance,
    }
    constants = [site.constant(name, value) for name, value in inputs.items()]
    site.op("BatchNormalization", [x, *constants], top, epsilon=layer.eps)


def scale(site: Site, layer: Scale) -> None:
    """Mul and Add; factors get ones behind their axes, because ONNX broadcasts from the right."""
    spread = layer.spread(site.step.bottoms)
    x, *factors = site.bottoms
    factors = [site.reshape(factors[0], site.step.bottoms[1], spread)] if factors else []
    factors += [site.constant(name, blob.reshape(spread)) for name, blob in site.blobs.items()]
    gamma, *beta = factors
    y = site.op("Mul", [x, gamma], "" if beta else site.tops[0])
    if beta:
        site.op("Add", [y, *beta], site.tops[0])


def relu(site: Site, layer: ReLU) -> None:
    """Relu or LeakyRelu."""
    if layer.negative_slope:
        site.op("LeakyRelu", site.bottoms, site.tops[0], alpha=layer.negative_slope)
    else:
        site.op("Relu", site.bottoms, site.tops[0])


def pooling(site: Site, layer: Pooling) -> None:
    """MaxPool, or Pad and AveragePool, with end pads in the place of rounding up.

    Runtimes have been wrong about ceil_mode and about pads of averages, onnxruntime until
    2026 (#16203, #27375): neither is used.

    Raises:
        UnknownLayerError: STOCHASTIC, or a mask.
    """
    import numpy as np

    layer.check_pool()
    if len(site.tops) > 1:
        raise UnknownLayerError(
            f"layer '{layer.name}' (Pooling): its mask '{layer.tops[1]}' cannot be written as "
            "ONNX; leave the second top out"
        )
    shape = site.step.bottoms[0]
    kernel, stride, pad = layer.windows(shape)
    pads = (*pad, *layer.end_pad(shape))
    (x,), (top,) = site.bottoms, site.tops
    if layer.pool == "MAX":
        site.op("MaxPool", [x], top, kernel_shape=kernel, strides=stride, pads=pads)
        return
    if any(pads):
        x = site.op("Pad", [x, site.sizes("pads", (0, 0, *pads[:2], 0, 0, *pads[2:]))])
    # AveragePool divides by the whole kernel, Caffe's divisor ends with the padding.
    factors = (count(kernel) / layer.divisors(shape)).astype(np.float32)
    whole = bool((factors == 1).all())
    y = site.op("AveragePool", [x], top if whole else "", kernel_shape=kernel, strides=stride)
    if not whole:
        site.op("Mul", [y, site.constant("factors", factors)], top)


def eltwise(site: Site, layer: Eltwise) -> None:
    """Add, Mul or Max, two values at a time.

    Raises:
        NetError: in place, where Caffe loses a bottom.
    """
    import numpy as np

    values = list(site.bottoms)
    if layer.operation == "SUM":  # MAX takes coefficients and does not look at them
        for i, c in enumerate(layer.coeff):
            if c != 1:
                coeff = site.constant("coeff", np.array(c, np.float32))
                values[i] = site.op("Mul", [values[i], coeff])
    op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[layer.operation]
    first, *between, last = values
    for other in between:
        first = site.op(op, [first, other])
    site.op(op, [first, last], site.tops[0])


def inner_product(site: Site, layer: InnerProduct) -> None:
    """Flatten to a matrix and Gemm; other axes than the first come back by Reshape."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    axis = axis_index(layer.axis, shape)
    (x,), (top,) = site.bottoms, site.tops
    if (len(shape), axis) != (2, 1):
        x = site.op("Flatten", [x], axis=axis)
    constants = [site.constant(name, blob) for name, blob in site.blobs.items()]
    same = axis == 1
    y = site.op("Gemm", [x, *constants], top if same else "", transB=int(not layer.transpose))
    if not same:
        site.reshape(y, (count(shape[:axis]), layer.num_output), top_shape, top)


def softmax(site: Site, layer: Softmax) -> None:
    """Softmax; since opset 13 along one axis, as Caffe's."""
    site.op("Softmax", site.bottoms, site.tops[0], axis=layer.axis)


WRITERS: dict[str, Callable[[Site, Any], None]] = {
    "BatchNorm": batch_norm,
    "Convolution": convolution,
    "Eltwise": eltwise,
    "InnerProduct": inner_product,
    "Pooling": pooling,
    "ReLU": relu,
    "Scale": scale,
    "Softmax": softmax,
}
"""How the nodes of each layer type are added; Input is the graph's own."""
