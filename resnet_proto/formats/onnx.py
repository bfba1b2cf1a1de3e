"""Net + weights -> ONNX model, in float32.

    net -> steps that the outputs need -> nodes and initializers -> model

A layer becomes one node of its name, or a few: ``<layer>/<op>`` before it. A value has its
blob's name where it is the blob's last version; a version that a layer overwrites in place is
``<blob>@<layer>``, after the layer that wrote it. Initializers are ``<layer>.<blob>``. The same
net and weights give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from resnet_proto.errors import NetError, ResNetProtoError, UnknownLayerError
from resnet_proto.formats.caffemodel import encoded
from resnet_proto.formats.onnx_detection import detection_output, proposal, psroi_pooling
from resnet_proto.formats.onnx_recurrent import lstm_unit, recurrent
from resnet_proto.layers import Shape, axis_index, count
from resnet_proto.layers.batch_norm import statistics
from resnet_proto.layers.concat import chosen_axis
from resnet_proto.layers.exp import log_of
from resnet_proto.layers.input import Input
from resnet_proto.layers.loss import legacy
from resnet_proto.layers.pooling import Pair, Pooling
from resnet_proto.net import check_runs, labels, overwritten
from resnet_proto.weights import Weights, step_blobs

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from resnet_proto.layers import (
        BN,
        LRN,
        MVN,
        SPP,
        ArgMax,
        Axpy,
        BatchNorm,
        Bias,
        Clip,
        Concat,
        Convolution,
        Crop,
        Deconvolution,
        Eltwise,
        Embed,
        Exp,
        Filter,
        Im2col,
        InnerProduct,
        Interp,
        Layer,
        Log,
        Normalize,
        Permute,
        Power,
        PReLU,
        PriorBox,
        Reduction,
        ReLU,
        ReLU6,
        ROIPooling,
        Scale,
        ShuffleChannel,
        Slice,
        Softmax,
        Swish,
        Threshold,
        Tile,
        Upsample,
    )
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

OPSET = 13
"""With ``IR_VERSION`` it came with ONNX 1.8, in 2020: any runtime in use reads them."""
OPSETS = range(13, 22)
"""What can be written: before 13 Softmax is another, after 21 nobody has looked."""
IR_VERSION = 7
NEWER = {15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
"""Opset -> the IR version that it came with, where that is a newer one."""
DYNAMIC = ("none", "batch", "size")
"""What may vary in a model: nothing, the batch, or rows and columns too."""
AXES = {0: "N", 2: "H", 3: "W"}
"""Names of the sizes that vary."""
GRAPH, INITIALIZER = 7, 5
"""Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer."""
STEPS = (1, 2, 3, 5, 16)
"""By how much rows vary where a model is tried at several sizes; columns by twice as much."""
LIMIT = (1 << 31) - (1 << 20)
"""Bytes of a model in one file; protobuf reads no more than 2 GB."""
SMALL = 1024
"""Bytes of an initializer that stays in the model, whatever its size: shapes are among them."""
ALIGNED = 4096
"""Where an initializer begins in a file of its own, so that it can be mapped."""
FLOAT, INT64, BOOL = 1, 7, 9
"""Numbers of ``TensorProto.DataType``."""


@dataclass(frozen=True)
class Pixels:
    """What is done to an image on its way to an input: ``(x[:, order] - mean) * scale``.

    Args:
        blob: the input.
        order: for each channel of the net, that of the image.
        mean: (C, 1, 1), or a map (C, H, W). ``scale`` likewise.
    """

    blob: str
    order: tuple[int, ...]
    mean: Array
    scale: Array

    def apply(self, image: Array) -> Array:
        """The input that an image, (N, C, H, W), becomes; in its own dtype."""
        x: Array = (image[:, list(self.order)] - self.mean) * self.scale
        return x


def to_onnx(
    net: Net,
    weights: Mapping[str, Array],
    *,
    outputs: Iterable[str] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    opset: int = OPSET,
    dynamic: str = "none",
    pixels: Pixels | None = None,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The net at phase TEST as an ONNX model.

    Args:
        net: any net whose layer types are known.
        weights: arrays by ``<layer>.<blob>``, ``conv1.weight``.
        outputs: names of the blobs that the model gives, all by default. Only what they need
            is written.
        shapes: blob name -> shape, of what data layers give, as for ``Net.walk``.
        opset: one of ``OPSETS``.
        dynamic: one of ``DYNAMIC``; without any the inputs have the shapes of the net.
        pixels: nodes for it go first, and the model takes ``image`` in the place of the input.
        metadata: goes into the model's ``metadata_props``.

    Returns:
        A model whose inputs and outputs are in the order of the net.

    Raises:
        NetError: no blob of the net has a name asked for; or the net cannot vary so.
        ResNetProtoError: the package ``onnx`` is not installed, or the opset is not known.
        UnknownLayerError: a layer that has no way into ONNX.
        WeightsError: weights are missing, or do not fit the net.
    """
    wanted = None if outputs is None else tuple(outputs)
    drawing = draw(net, weights, wanted, shapes, opset, pixels, dynamic=dynamic)
    loosen(drawing, net, wanted, shapes)
    if dynamic != "none":
        drawing = free(drawing, net, dynamic, wanted, shapes, pixels)
    return drawing.model(metadata)


def check_installed(opset: int = OPSET) -> None:
    """Refuse what cannot be written here.

    Raises:
        ResNetProtoError: the package ``onnx`` is not installed, or the opset is not known.
    """
    if opset not in OPSETS:
        raise ResNetProtoError(f"opset is {opset}; {OPSETS[0]} to {OPSETS[-1]} can be written")
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ResNetProtoError(
            "ONNX needs the package onnx: pip install 'resnet-proto[onnx]'"
        ) from None


@dataclass
class Drawing:
    """A net that has been drawn as a graph.

    Args:
        name: the net's.
        graph: its nodes and initializers.
        inputs: value -> shape; a size that varies is a name, or None where it has none.
        outputs: likewise.
    """

    name: str
    graph: Graph
    inputs: dict[str, tuple[Any, ...]]
    outputs: dict[str, tuple[Any, ...]]

    @property
    def values(self) -> list[str]:
        """Every value that a node makes, in order."""
        return [name for node in self.graph.nodes for name in node.output]

    @property
    def nbytes(self) -> int:
        """Of all values."""
        return sum(value.nbytes for value in self.graph.initializers.values())

    def model(
        self, metadata: Mapping[str, str] | None = None, *, whole: bool = True
    ) -> onnx.ModelProto:
        """The model; ``whole`` is with initializers."""
        from onnx import helper, numpy_helper

        def infos(values: Mapping[str, tuple[Any, ...]]) -> list[Any]:
            return [helper.make_tensor_value_info(*item) for item in with_type(values)]

        def with_type(values: Mapping[str, tuple[Any, ...]]) -> list[Any]:
            return [(name, FLOAT, shape) for name, shape in values.items()]

        tensors = self.graph.initializers.items() if whole else ()
        model = helper.make_model(
            helper.make_graph(
                self.graph.nodes,
                self.name or "net",
                infos(self.inputs),
                infos(self.outputs),
                [numpy_helper.from_array(value, name) for name, value in tensors],
            ),
            producer_name="resnet-proto",
            ir_version=NEWER.get(self.graph.opset, IR_VERSION),
            opset_imports=[helper.make_opsetid("", self.graph.opset)],
        )
        helper.set_model_props(model, dict(metadata or {}))
        return model


def draw(
    net: Net,
    weights: Mapping[str, Array] | None,
    outputs: Iterable[str] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    opset: int = OPSET,
    pixels: Pixels | None = None,
    *,
    dynamic: str = "none",
) -> Drawing:
    """The graph of a net; arguments and errors as in ``to_onnx``.

    Without weights they are 0. Whatever is ``dynamic`` has the sizes of the net still: ``free``.
    """
    import numpy as np

    check_installed(opset)
    net = net.at(phase="TEST").upgraded().filtered()
    names = labels(layer.name for layer in net.layers)
    last = {top: name for layer, name in zip(net.layers, names, strict=True) for top in layer.tops}
    wanted = None if outputs is None else tuple(outputs)
    cut = net if wanted is None else net.until(wanted)
    steps = list(cut.walk(shapes=shapes, wanted=wanted))
    read = (name for step in steps for name in step.layer.bottoms)
    used = {*read, *(last if wanted is None else wanted)}

    overwritten(cut.layers)
    graph = Graph(taken=set(last), opset=opset, any_size=dynamic == "size")
    inputs: dict[str, tuple[Any, ...]] = {}
    values: dict[str, str] = {}  # blob -> its newest version
    made: dict[str, tuple[Any, ...]] = {}
    for step in steps:
        check_runs(step)
        bottoms = [values[name] for name in step.layer.bottoms]
        tops = [
            name if last[name] == step.label else graph.free(f"{name}@{step.label}")
            for name in step.layer.tops
        ]
        if step.layer.from_outside:
            for name, top, size in zip(step.layer.tops, tops, step.tops, strict=True):
                if pixels is not None and name == pixels.blob:
                    inputs[graph.free("image")] = size
                    preprocess(Site(graph, step, list(inputs)[-1:], [top], {}), pixels)
                elif name in used:
                    inputs[top] = size
        else:
            if weights is None:
                arrays = [np.zeros(shape, np.float32) for shape in step.blobs.values()]
            else:
                arrays = step_blobs(step, weights, "float32")
            blobs = dict(zip(step.blobs, arrays, strict=True))
            write(Site(graph, step, bottoms, tops, blobs))
            if isinstance(weights, Weights):
                weights.forget(step.label)
        values.update(zip(step.layer.tops, tops, strict=True))
        for name, size in zip(step.layer.tops, step.tops, strict=True):
            made[name] = with_rows(step.layer, size, None) if step.layer.shape_varies else size
    results = {values[n]: made[n] for n in values if wanted is None or n in wanted}
    return Drawing(net.name, graph, inputs, {name: tuple(s) for name, s in results.items()})


def preprocess(site: Site, pixels: Pixels) -> None:
    """Gather, Sub and Mul, as far as they do something, of an image in front of the net.

    They go before the first layer's padding, which is 0 behind them, as in Caffe.
    """
    import numpy as np

    (x,), (top,) = site.bottoms, site.tops
    ops: list[tuple[str, str, dict[str, int]]] = []
    if pixels.order != tuple(sorted(pixels.order)):
        ops.append(("Gather", site.sizes("order", pixels.order), {"axis": 1}))
    for op, name, value, idle in (
        ("Sub", "mean", pixels.mean, 0), ("Mul", "scale", pixels.scale, 1)
    ):  # fmt: skip
        if (value != idle).any():
            ops.append((op, site.constant(name, value[None].astype(np.float32)), {}))
    for i, (op, constant, attributes) in enumerate(ops):
        x = site.op(op, [x, constant], top if i == len(ops) - 1 else "", **attributes)
    if not ops:
        site.op("Identity", [x], top)


def free(
    drawing: Drawing,
    net: Net,
    dynamic: str,
    outputs: Iterable[str] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    pixels: Pixels | None = None,
) -> Drawing:
    """The drawing with a batch that varies, or rows and columns too.

    The net is drawn at other sizes as well, without its weights. Where the graphs are the same but
    for sizes that a Reshape keeps, which become 0, and one more, which becomes -1, the graph is
    right at any of these sizes.

    ``dynamic`` is one of ``DYNAMIC``; the other arguments are those of the drawing.

    Raises:
        NetError: the graph is another one at another size; the message names the layer.
    """
    if dynamic not in DYNAMIC:
        raise ResNetProtoError(f"dynamic is '{dynamic}'; known: {', '.join(DYNAMIC)}")
    net = net.at(phase="TEST").upgraded().filtered()
    wanted = None if outputs is None else tuple(outputs)
    own = {**net.given, **(shapes or {}), **net.inputs()}
    batch = next((shape[0] for shape in own.values() if shape), 1)

    def drawn(rows: int, images: int) -> Drawing:
        sizes = {name: varied(shape, batch, images, rows) for name, shape in own.items()}
        other = net.with_input_shapes({n: s for n, s in sizes.items() if n in net.inputs()})
        data = {name: size for name, size in sizes.items() if name not in net.inputs()}
        return draw(other, None, wanted, data, drawing.graph.opset, pixels, dynamic=dynamic)

    result = replace(
        drawing,
        graph=replace(drawing.graph, initializers=dict(drawing.graph.initializers)),
        inputs=dict(drawing.inputs),
        outputs=dict(drawing.outputs),
    )
    at_own_size = drawn(0, batch)
    for rows in STEPS if dynamic == "size" else (0,):
        let_vary(at_own_size, drawn(rows, 2 * batch + 1), result)
    return result


def with_rows(layer: Layer, shape: Shape, more: int | None) -> tuple[Any, ...]:
    """The shape of a top whose rows are found when it runs: more of them, or any number."""
    axis = 2 if layer.type == "DetectionOutput" else 0
    rows = None if more is None else shape[axis] + more
    return (*shape[:axis], rows, *shape[axis + 1 :])


def loosen(
    drawing: Drawing,
    net: Net,
    outputs: Iterable[str] | None = None,
    shapes: Mapping[str, Shape] | None = None,
) -> None:
    """Let vary, in a drawing, how many rows come from a layer that finds as many as there are.

    What is behind such a layer is drawn with other numbers, as in ``free``.

    Raises:
        NetError: the graph is another one with another number of rows.
    """
    net = net.at(phase="TEST").upgraded().filtered()
    wanted = None if outputs is None else tuple(outputs)
    steps = list(net.walk(shapes=shapes, wanted=wanted))
    for step in steps:
        if not step.layer.shape_varies:
            continue

        def drawn(more: int, step: Step = step) -> Drawing:
            tops = [with_rows(step.layer, size, more) for size in step.tops]
            given = Input.of(
                step.layer.name, (), step.layer.tops, shape=tuple({"dim": size} for size in tops)
            )
            layers = tuple(given if la is step.layer else la for la in net.layers)
            size = "size" if drawing.graph.any_size else "none"
            other = replace(net, layers=layers)
            return draw(other, None, wanted, shapes, drawing.graph.opset, dynamic=size)

        few, more = drawn(0), drawn(3)
        vary_shapes(few.graph, more.graph, drawing.graph, f"rows from '{step.label}'")
        for name, size in few.outputs.items():
            sizes = zip(drawing.outputs[name], size, more.outputs[name], strict=True)
            drawing.outputs[name] = tuple(old if a == b else None for old, a, b in sizes)


def varied(shape: Shape, batch: int, images: int, rows: int) -> Shape:
    """The shape of an input with another batch; of images with more rows and columns."""
    n = images if shape[:1] == (batch,) else (shape or (0,))[0]
    if len(shape) == 4:
        return (n, shape[1], shape[2] + rows, shape[3] + 2 * rows)
    return (n, *shape[1:]) if shape else shape


def let_vary(ours: Drawing, other: Drawing, result: Drawing) -> None:
    """Let vary in ``result`` what differs in two drawings of it.

    Raises:
        NetError: more than a shape differs.
    """
    vary_shapes(ours.graph, other.graph, result.graph)
    for kind in ("inputs", "outputs"):
        values: dict[str, tuple[Any, ...]] = getattr(result, kind)
        for name, shape in values.items():
            sizes = zip(getattr(ours, kind)[name], getattr(other, kind)[name], strict=True)
            values[name] = tuple(
                old if one == two else AXES.get(i) if kind == "inputs" or not i else None
                for i, (old, (one, two)) in enumerate(zip(shape, sizes, strict=True))
            )


def vary_shapes(a: Graph, b: Graph, result: Graph, what: str = "the inputs") -> None:
    """Let vary in ``result`` the shapes that differ in two graphs of it.

    Raises:
        NetError: more than a shape differs.
    """

    def fixed(label: str) -> NetError:
        return NetError(
            f"layer '{label}': at another size of {what} it is another ONNX graph, "
            "so their size cannot vary"
        )

    for one, two, label in zip(a.nodes, b.nodes, a.labels, strict=False):
        if one != two:
            raise fixed(label)
    for name, value in a.initializers.items():
        there = b.initializers[name]
        if value.shape != there.shape:
            raise fixed(a.owners[name])
        if value.dtype.kind == "f" and value.nbytes > ALIGNED and not value.any():
            continue  # weights, which are 0 here; not a page of them is touched
        different = value != there
        if not different.any():
            continue
        if name not in a.reshapes:
            raise fixed(a.owners[name])
        known = result.initializers[name] = result.initializers[name].copy()
        old, new = a.reshapes[name], b.reshapes[name]
        for i in map(int, different.nonzero()[0]):
            kept = i < len(old) and (old[i], new[i]) == (value[i], there[i])
            if known[i] > 0:
                known[i] = 0 if kept else -1  # 0 copies; MNN hangs with -1 for a batch
            elif not known[i] and not kept:
                raise fixed(a.owners[name])
        if (known == -1).sum() > 1:
            raise fixed(a.owners[name])


def write_model(
    file: BinaryIO,
    drawing: Drawing,
    metadata: Mapping[str, str] | None = None,
    beside: tuple[str, BinaryIO] | None = None,
) -> None:
    """Write a model, one initializer after the other, so that it is never twice in memory.

    The file gets what ``drawing.model(metadata)`` is. ``beside`` is the name of another file and
    that file, which gets the values of all initializers that are not ``SMALL``.
    """
    import numpy as np
    from onnx import TensorProto

    model = drawing.model(metadata, whole=False)
    graph = model.graph.SerializeToString(deterministic=True)
    model.ClearField("graph")
    pieces: list[tuple[bytes, memoryview]] = []
    for name, value in drawing.graph.initializers.items():
        number = FLOAT if value.dtype.kind == "f" else INT64
        tensor = TensorProto(name=name, data_type=number, dims=value.shape)
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        if beside is not None and len(data) >= SMALL:
            location, values = beside
            values.write(bytes(-values.tell() % ALIGNED))
            where = {"location": location, "offset": values.tell(), "length": len(data)}
            tensor.data_location = TensorProto.EXTERNAL
            for key, text in where.items():
                tensor.external_data.add(key=key, value=str(text))
            values.write(data)
            data = memoryview(b"")
            head = tensor.SerializeToString(deterministic=True)
        else:
            head = tensor.SerializeToString(deterministic=True)
            head += field_head(TensorProto.RAW_DATA_FIELD_NUMBER, len(data))
        pieces.append((head, data))
    size = len(graph)
    for head, data in pieces:
        length = len(head) + len(data)
        size += len(field_head(INITIALIZER, length)) + length
    file.write(model.SerializeToString(deterministic=True))
    file.write(field_head(GRAPH, size))
    file.write(graph)
    for head, data in pieces:
        file.write(field_head(INITIALIZER, len(head) + len(data)))
        file.write(head)
        file.write(data)


def field_head(number: int, length: int) -> bytes:
    """Tag and length of a protobuf field of bytes."""
    return encoded(number << 3 | 2) + encoded(length)


@dataclass
class Graph:
    """What is written so far.

    Args:
        taken: names of values; the blobs' own from the start.
        opset: that it is written in.
        any_size: whether rows and columns may vary.
        nodes: in order of running. ``labels`` are those of their layers.
        initializers: name -> value. ``owners`` are the labels of their layers, ``reshapes`` are
            those that a Reshape takes for its shape, with the shape of what it reads.
        shared: the owner's key of what layers share -> the initializers that it has become.
    """

    taken: set[str]
    opset: int = OPSET
    any_size: bool = False
    nodes: list[Any] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    initializers: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    reshapes: dict[str, Shape] = field(default_factory=dict)
    shared: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)

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
        inner: whether it is a part of the layer, whose tops others of its nodes read.
    """

    graph: Graph
    step: Step
    bottoms: Sequence[str]
    tops: Sequence[str]
    blobs: Mapping[str, Array]
    inner: bool = False

    def op(self, type: str, inputs: Sequence[str], top: str = "", **attributes: Any) -> str:
        """Add a node that makes ``top``, or a value between; return the value's name."""
        value = top or self.between(type)
        self.node(type, inputs, [value], **attributes)
        return value

    def node(
        self, type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Add a node with any outputs."""
        from onnx import helper

        name = self.step.label if outputs[0] == self.tops[0] and not self.inner else outputs[0]
        self.graph.nodes.append(helper.make_node(type, inputs, outputs, name, **attributes))
        self.graph.labels.append(self.step.label)

    def within(self) -> Site:
        """A place for nodes of a graph of their own, in a Loop; it sees all that is here."""
        return replace(self, graph=replace(self.graph, nodes=[], labels=[]), inner=True)

    def between(self, name: str) -> str:
        """A name for a value between, ``<layer>/<name>``."""
        return self.graph.free(f"{self.step.label}/{name}")

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """The parts of a value along an axis; their sizes have been an input since opset 13."""
        if len(sizes) == 1:
            return [value]
        parts = [self.between("Split") for _ in sizes]
        self.node("Split", [value, self.sizes("split", sizes)], parts, axis=axis)
        return parts

    def writer(self, value: str) -> str:
        """The op that makes a value; empty for an input."""
        nodes = reversed(self.graph.nodes)  # it is mostly the last
        return next((node.op_type for node in nodes if value in node.output), "")

    def constant(self, name: str, value: Array | np.ndarray[Any, np.dtype[np.int64]]) -> str:
        """Add an initializer ``<layer>.<name>``; return its full name.

        What layers share is added once, unless they need it in different forms.
        """
        copies = self.graph.shared.setdefault(self.step.shared.get(name, ("",))[0], [])
        for full, other in copies:
            if value.shape == other.shape and (value == other).all():
                return full
        full = self.graph.free(f"{self.step.label}.{name}")
        self.graph.initializers[full] = value
        self.graph.owners[full] = self.step.label
        if name in self.step.shared:
            copies.append((full, value))
        return full

    def number(self, name: str, value: float) -> str:
        """Add an initializer of one float."""
        import numpy as np

        return self.constant(name, np.array(value, np.float32))

    def sizes(self, name: str, sizes: Iterable[int]) -> str:
        """Add an initializer of whole numbers, for an op that takes a shape or pads."""
        import numpy as np

        return self.constant(name, np.array(list(sizes), np.int64))

    def reduce(
        self, type: str, value: str, axes: Sequence[int], top: str = "", *, keepdims: int = 1
    ) -> str:
        """A reduction; its axes were an attribute once, ReduceSum's until opset 13."""
        if type == "ReduceSum" or self.graph.opset >= 18:
            inputs = [value, self.sizes("axes", axes)]
            return self.op(type, inputs, top, keepdims=keepdims)
        return self.op(type, [value], top, axes=tuple(axes), keepdims=keepdims)

    def reshape(self, value: str, old: Shape, new: Shape, top: str = "") -> str:
        """The value in a new shape; without a node where none is needed."""
        if old == new and not top:
            return value
        shape = self.sizes("shape", new)
        self.graph.reshapes[shape] = old
        return self.op("Reshape", [value, shape], top)


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
    """Conv; behind the bottom the pad goes as far as windows reach."""
    convolve(site, layer, "Conv")


def deconvolution(site: Site, layer: Deconvolution) -> None:
    """ConvTranspose, whose weight lies as Caffe's."""
    convolve(site, layer, "ConvTranspose")


def convolve(
    site: Site, layer: Convolution | Deconvolution | Im2col, op: str, group: int = 0
) -> None:
    """One op for each bottom; it wants one axis before the channels, and at least one behind.

    ``group`` is the layer's own where it is 0.
    """
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    channel = axis_index(layer.axis, shape)
    spatial = shape[channel + 1 :]
    kernel, stride, pad, dilation = layer.windows(len(spatial))
    if 0 in dilation:
        raise UnknownLayerError(
            f"layer '{layer.name}' ({layer.type}): dilation 0 cannot be written as ONNX"
        )
    flat, flat_top = (
        (count(size[:channel]), size[channel], *(size[channel + 1 :] or (1,)))
        for size in (shape, top_shape)
    )
    weight, *bias = site.blobs.values()
    inputs = [site.constant("weight", weight.reshape(*weight.shape[:2], *(kernel or (1,))))]
    inputs += [site.constant("bias", value) for value in bias]
    same = flat_top == top_shape
    pads = (*pad, *(layer.end_pad(spatial) if op == "Conv" else pad)) or (0, 0)
    # OpenCV 5.0 takes a 1x1 Conv for one without pads, and gives wrong values.
    apart = op == "Conv" and count(kernel) == 1 and any(pads)
    for bottom, top in zip(site.bottoms, site.tops, strict=True):
        x = site.reshape(bottom, shape, flat)
        if apart:
            half = len(pads) // 2
            x = zeros_around(site, x, pads[:half], pads[half:])
        y = site.op(
            op,
            [x, *inputs],
            top if same else "",
            kernel_shape=kernel or (1,),
            strides=stride or (1,),
            pads=(0,) * len(pads) if apart else pads,
            dilations=dilation or (1,),
            group=group or layer.group,
        )
        if not same:
            site.reshape(y, flat_top, top_shape, top)


def im2col(site: Site, layer: Im2col) -> None:
    """Conv, whose kernels each take one value of one channel.

    Raises:
        UnknownLayerError: dilation 0.
    """
    import numpy as np

    shape = site.step.bottoms[0]
    channel = axis_index(layer.axis, shape)
    kernel = layer.windows(len(shape) - channel - 1)[0]
    one = np.eye(count(kernel), dtype=np.float32).reshape(-1, 1, *kernel)
    weight = np.tile(one, (shape[channel], *(1 for _ in one.shape[1:])))
    convolve(replace(site, blobs={"weight": weight}), layer, "Conv", group=shape[channel])


def batch_norm(site: Site, layer: BatchNorm) -> None:
    """BatchNormalization, mostly without gamma and beta; batch statistics in single steps.

    Runtimes make it a factor and an offset, in which a large mean would cost digits. Into a
    convolution, which rounds by as much, they fold it; elsewhere the mean is subtracted before.
    """
    import numpy as np

    (x,), (top,) = site.bottoms, site.tops
    spread = (-1, *(1 for _ in site.step.bottoms[0][2:]))
    if not layer.is_global:
        axes = (0, *range(2, len(site.step.bottoms[0])))
        centred = site.op("Sub", [x, site.reduce("ReduceMean", x, axes)])
        square = site.reduce("ReduceMean", site.op("Mul", [centred, centred]), axes)
        eps = site.constant("eps", np.array(layer.eps, np.float32))
        deviation = site.op("Sqrt", [site.op("Add", [square, eps])])
        y = site.op("Div", [centred, deviation], "" if layer.scales else top)
        if layer.scales:
            blobs = [blob.reshape(spread) for blob in list(site.blobs.values())[3:]]
            names = ("weight", "bias")[: len(blobs)]
            gamma, *beta = (site.constant(*pair) for pair in zip(names, blobs, strict=True))
            y = site.op("Mul", [y, gamma], "" if beta else top)
            if beta:
                site.op("Add", [y, *beta], top)
        return
    mean, variance = statistics(list(site.blobs.values()))
    inputs: dict[str, Array] = {
        "weight": site.blobs.get("weight", np.ones_like(mean)),
        "bias": site.blobs.get("bias", np.zeros_like(mean)),
        "mean": mean,
        "variance": variance,
    }
    if site.writer(x) != "Conv":
        x = site.op("Sub", [x, site.constant("centre", mean.reshape(spread))])
        inputs["mean"] = np.zeros_like(mean)
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
        UnknownLayerError: STOCHASTIC.
    """
    import numpy as np

    layer.check_pool()
    shape = site.step.bottoms[0]
    kernel, stride, pad = layer.windows(shape)
    (x,), (top, *masks) = site.bottoms, site.tops
    if layer.global_pooling and not masks:
        site.op("GlobalMaxPool" if layer.pool == "MAX" else "GlobalAveragePool", [x], top)
        return
    any_size = site.graph.any_size
    if layer.pool == "MAX":
        ends = end_pads(layer, shape) if any_size else even_pads(layer, shape)
        pads = (*pad, *ends)
        places = [site.between("places") for _ in masks]
        windows = {"kernel_shape": kernel, "strides": stride, "pads": pads}
        site.node("MaxPool", [x], [top, *places], **windows)
        for mask, place in zip(masks, places, strict=True):  # ONNX counts on from map to map
            if any_size:
                area = site.reduce("ReduceProd", sides(site, x, 2, 4), (0,))
            else:
                area = site.sizes("area", (count(shape[2:]),))
            site.op("Cast", [site.op("Mod", [place, area])], mask, to=FLOAT)
        return
    ends = end_pads(layer, shape) if any_size else layer.end_pad(shape)
    seen = zeros_around(site, x, pad, ends) if any((*pad, *ends)) else x
    # AveragePool divides by the whole kernel, Caffe's divisor ends with the padding.
    if any_size and ends != pad:
        y = site.op("AveragePool", [seen], kernel_shape=kernel, strides=stride)
        ones = zeros_around(site, ones_like(site, x), pad, pad, site.number("one", 1))
        ones = zeros_around(site, ones, (0, 0), (ends[0] - pad[0], ends[1] - pad[1]))
        share = site.op("AveragePool", [ones], kernel_shape=kernel, strides=stride)
        site.op("Div", [y, share], top)
        return
    x = seen
    factors = (count(kernel) / layer.divisors(shape)).astype(np.float32)
    whole = bool((factors == 1).all())
    y = site.op("AveragePool", [x], top if whole else "", kernel_shape=kernel, strides=stride)
    if not whole:
        site.op("Mul", [y, site.constant("factors", factors)], top)


def zeros_around(site: Site, x: str, before: Shape, behind: Shape, value: str = "") -> str:
    """A Pad along all axes but the first two; with ``value`` not of zeros.

    pnnx does not read one without its mode.
    """
    pads = site.sizes("pads", (0, 0, *before, 0, 0, *behind))
    return site.op("Pad", [x, pads, *([value] if value else [])], mode="constant")


def ones_like(site: Site, x: str) -> str:
    """An image of ones, of the size that ``x`` has when it runs.

    OpenCV 5.0 does not divide many maps by one.
    """
    import numpy as np
    from onnx import numpy_helper

    shape = site.op("Concat", [site.sizes("one_image", (1,)), sides(site, x, 1, 4)], axis=0)
    one = numpy_helper.from_array(np.ones(1, np.float32))
    return site.op("ConstantOfShape", [shape], value=one)


def sides(site: Site, x: str, start: int, end: int) -> str:
    """Some of the sizes that ``x`` has when it runs."""
    bounds = [site.sizes(name, (value,)) for name, value in (("start", start), ("end", end))]
    return site.op("Slice", [site.op("Shape", [x]), *bounds])


def even_pads(layer: Pooling, shape: Shape) -> Shape:
    """Pads behind the bottom at its own size: those before it, where windows are as many then.

    Of others pnnx has been wrong: where pads differ, it pads twice.
    """
    top = layer.top_shapes([shape])[0]
    sides = zip(shape[2:], top[2:], *layer.windows(shape), layer.end_pad(shape), strict=True)
    return tuple(
        p if (size + 2 * p - k) // s + 1 == out else end for size, out, k, s, p, end in sides
    )


def end_pads(layer: Pooling, shape: Shape) -> Pair:
    """Pads behind the bottom with which windows are as many as Caffe's at any size of it.

    Rounding up is a stride less one more. With a pad no window begins behind the image, so it
    reaches a kernel less one beyond. Without one some could, where strides are larger than kernels:
    then the pad is that of this size.
    """
    kernel, stride, pad = layer.windows(shape)
    sides = zip(kernel, stride, pad, layer.end_pad(shape), strict=True)
    row, column = (
        p if layer.floor
        else min(k, p + s) - 1 if any(pad) or k >= s
        else end
        for k, s, p, end in sides
    )  # fmt: skip
    return row, column


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


def concat(site: Site, layer: Concat) -> None:
    """Concat."""
    axis = chosen_axis(layer, "concat_dim", site.step.bottoms[0])
    site.op("Concat", site.bottoms, site.tops[0], axis=axis)


def slice_(site: Site, layer: Slice) -> None:
    """A Slice for each top: ONNX's Split has changed between its versions."""
    axis, cuts = layer.cuts(site.step.bottoms[0])
    for top, start, end in zip(site.tops, cuts, cuts[1:], strict=False):
        part(site, {axis: (start, end)}, top)


def crop(site: Site, layer: Crop) -> None:
    """Slice along the axes that become smaller."""
    shape = site.step.bottoms[0]
    spans = dict(enumerate(layer.spans(site.step.bottoms)))
    cropped = {i: span for i, span in spans.items() if span != (0, shape[i])}
    part(site, cropped, site.tops[0])


def part(site: Site, spans: Mapping[int, tuple[int, int]], top: str) -> None:
    """Slice the first bottom: axis -> start and end."""
    if not spans:
        site.op("Identity", site.bottoms[:1], top)
        return
    starts, ends = zip(*spans.values(), strict=True)
    bounds = {"starts": starts, "ends": ends, "axes": tuple(spans)}
    constants = [site.sizes(name, values) for name, values in bounds.items()]
    site.op("Slice", [site.bottoms[0], *constants], top)


def reshape(site: Site, layer: Layer) -> None:
    """Reshape, for Flatten too."""
    site.reshape(site.bottoms[0], site.step.bottoms[0], site.step.tops[0], site.tops[0])


def copies(site: Site, layer: Layer) -> None:
    """Identity, for each top; for Silence none."""
    for top in site.tops:
        site.op("Identity", site.bottoms, top)


def power(site: Site, layer: Power) -> None:
    """Mul, Add and Pow; a constant is a Clip, whose shape is its bottom's at any size."""
    import numpy as np

    if layer.constant:
        value = site.number("constant", float(layer.activation(np.zeros(1, np.float32))[0]))
        site.op("Clip", [*site.bottoms, value, value], site.tops[0])
        return
    chain(site, ("Mul", layer.scale), ("Add", layer.shift), ("Pow", layer.power))


def exp(site: Site, layer: Exp) -> None:
    """Exp between two factors."""
    inner, outer = layer.factors
    chain(site, ("Mul", inner), ("Exp", None), ("Mul", outer))


def log(site: Site, layer: Log) -> None:
    """Log of a linear function, times a factor for the base."""
    chain(site, ("Mul", layer.scale), ("Add", layer.shift), ("Log", None),
          ("Mul", 1 / log_of(layer.base)))  # fmt: skip


IDLE = {("Mul", 1), ("Add", 0), ("Pow", 1)}


def chain(site: Site, *ops: tuple[str, float | None]) -> None:
    """Ops one after the other, with a number each or none; some do nothing."""
    kept = [op for op in ops if op not in IDLE] or [("Identity", None)]
    x = site.bottoms[0]
    for i, (op, value) in enumerate(kept):
        others = [] if value is None else [site.number(op.lower(), value)]
        x = site.op(op, [x, *others], site.tops[0] if i == len(kept) - 1 else "")


def one(op: str, *attributes: str) -> Callable[[Site, Layer], None]:
    """The writer of a type that is a single op, whose attributes are called as the fields."""

    def writer(site: Site, layer: Layer) -> None:
        values = {name: getattr(layer, name) for name in attributes}
        site.op(op, site.bottoms, site.tops[0], **values)

    return writer


def prelu(site: Site, layer: PReLU) -> None:
    """PRelu, with the slopes along the second axis."""
    (slope,) = site.blobs.values()
    ones = (1,) * (len(site.step.bottoms[0]) - 2)
    constant = site.constant("weight", slope.reshape(-1, *ones))
    site.op("PRelu", [site.bottoms[0], constant], site.tops[0])


def bias(site: Site, layer: Bias) -> None:
    """Add; beta gets ones behind its axes."""
    spread = layer.spread(site.step.bottoms)
    x, *beta = site.bottoms
    beta = [site.reshape(beta[0], site.step.bottoms[1], spread)] if beta else []
    beta += [site.constant("bias", blob.reshape(spread)) for blob in site.blobs.values()]
    site.op("Add", [x, *beta], site.tops[0])


def tile(site: Site, layer: Tile) -> None:
    """Tile."""
    shape = site.step.bottoms[0]
    repeats = [1] * len(shape)
    repeats[axis_index(layer.axis, shape)] = layer.tiles
    site.op("Tile", [site.bottoms[0], site.sizes("repeats", repeats)], site.tops[0])


def reduction(site: Site, layer: Reduction) -> None:
    """Flatten to a matrix, one op along its second axis, and a factor."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    op = {"ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean", "SUM": "ReduceSum"}
    kind = op[layer.operation]
    x = site.op("Flatten", [site.bottoms[0]], axis=axis_index(layer.axis, shape))
    y = site.reduce(kind, x, (1,), keepdims=0)
    y = site.op("Mul", [y, site.number("coeff", layer.coeff)])
    site.reshape(y, (count(top_shape),), top_shape, site.tops[0])


def threshold(site: Site, layer: Threshold) -> None:
    """Greater, as a number."""
    y = site.op("Greater", [site.bottoms[0], site.number("threshold", layer.threshold)])
    site.op("Cast", [y], site.tops[0], to=1)  # TensorProto.FLOAT


def lrn(site: Site, layer: LRN) -> None:
    """LRN, which has the same fields; within a channel an average of squares."""
    if layer.norm_region == "WITHIN_CHANNEL":
        (x,), (top,) = site.bottoms, site.tops
        mean = site.graph.free(f"{site.step.label}/mean")
        square = site.op("Mul", [x, x])
        pad = (layer.local_size - 1) // 2
        sizes = {"kernel_size": layer.local_size, "pad": pad}
        pool = Pooling.of(layer.name, "", "", pool="AVE", **sizes)
        pooling(replace(site, bottoms=(square,), tops=(mean,), inner=True), pool)
        y = site.op("Mul", [mean, site.number("alpha", layer.alpha)])
        y = site.op("Add", [y, site.number("one", 1)])
        y = site.op("Pow", [y, site.number("beta", -layer.beta)])
        site.op("Mul", [x, y], top)
        return
    fields = {"alpha": layer.alpha, "beta": layer.beta, "bias": layer.k, "size": layer.local_size}
    site.op("LRN", site.bottoms, site.tops[0], **fields)


def mvn(site: Site, layer: MVN) -> None:
    """In single steps: ONNX's own adds eps elsewhere."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    axes = (1, 2, 3) if layer.across_channels else (2, 3)
    (x,), (top,) = site.bottoms, site.tops
    x = site.reshape(x, shape, top_shape)
    mean = site.reduce("ReduceMean", x, axes)
    if not layer.normalize_variance:
        site.op("Sub", [x, mean], top)
        return
    centred = site.op("Sub", [x, mean])
    square = site.reduce("ReduceMean", site.op("Mul", [centred, centred]), axes)
    deviation = site.op("Add", [site.op("Sqrt", [square]), site.number("eps", layer.eps)])
    site.op("Div", [centred, deviation], top)


def embed(site: Site, layer: Embed) -> None:
    """Gather, and Add."""
    weight, *bias = (site.constant(name, blob) for name, blob in site.blobs.items())
    rows = site.op("Cast", [site.bottoms[0]], to=7)  # TensorProto.INT64
    y = site.op("Gather", [weight, rows], "" if bias else site.tops[0])
    if bias:
        site.op("Add", [y, *bias], site.tops[0])


def filter_(site: Site, layer: Filter) -> None:
    """Compress."""
    *values, selector = site.bottoms
    shape = site.step.bottoms[-1]
    chosen = site.op("Cast", [site.reshape(selector, shape, shape[:1])], to=BOOL)
    for value, top in zip(values, site.tops, strict=True):
        site.op("Compress", [value, chosen], top, axis=0)


def batch_reindex(site: Site, layer: Layer) -> None:
    """Gather."""
    x, places = site.bottoms
    site.op("Gather", [x, site.op("Cast", [places], to=7)], site.tops[0])


def parameter(site: Site, layer: Layer) -> None:
    """An initializer, under the top's name by Identity."""
    (weight,) = site.blobs.values()
    site.op("Identity", [site.constant("weight", weight)], site.tops[0])


def swish(site: Site, layer: Swish) -> None:
    """Mul by a Sigmoid."""
    (x,) = site.bottoms
    scaled = site.op("Mul", [x, site.number("beta", layer.beta)])
    site.op("Mul", [x, site.op("Sigmoid", [scaled])], site.tops[0])


def clip(site: Site, layer: Clip) -> None:
    """Min and Max: where the limits cross, Clip is not defined."""
    assert layer.min is not None
    assert layer.max is not None
    y = site.op("Min", [site.bottoms[0], site.number("max", layer.max)])
    site.op("Max", [y, site.number("min", layer.min)], site.tops[0])


def axpy(site: Site, layer: Axpy) -> None:
    """Mul and Add; the factor gets ones behind its axes."""
    factor, x, y = site.bottoms
    shape, spread = site.step.bottoms[:2]
    factor = site.reshape(factor, shape, (*shape[:2], *(1 for _ in spread[2:])))
    site.op("Add", [site.op("Mul", [factor, x]), y], site.tops[0])


def bn(site: Site, layer: BN) -> None:
    """The BatchNorm that it is, on four axes.

    Raises:
        UnknownLayerError: on fewer.
    """
    shape = site.step.bottoms[0]
    if len(shape) != 4:
        raise UnknownLayerError(
            f"layer '{layer.name}' (BN): on {len(shape)} axes it cannot be written as ONNX"
        )
    names = ("mean", "variance", "scale_factor", "weight", "bias")
    blobs = layer.batch_norm_blobs(list(site.blobs.values()))
    within = replace(site, blobs=dict(zip(names, blobs, strict=True)))
    batch_norm(within, layer.as_batch_norm())


def interp(site: Site, layer: Interp) -> None:
    """Resize between the corners, of what the pads leave."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    x = site.reshape(site.bottoms[0], shape, legacy(shape))
    seen = layer.seen(shape)
    if layer.pad_beg or layer.pad_end:
        ends = [-layer.pad_beg + size for size in seen]
        bounds = {"starts": (-layer.pad_beg,) * 2, "ends": ends, "axes": (2, 3)}
        x = site.op("Slice", [x, *(site.sizes(name, values) for name, values in bounds.items())])
    site.op(
        "Resize",
        [x, "", site.constant("scales", scales(seen, top_shape[2:]))],
        site.tops[0],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


def scales(old: Sequence[int], new: Sequence[int]) -> Array:
    """Resize's factors, float32, of the batch, the channels and each side.

    They are as large as they have to be that a runtime which rounds down gets the new size.
    """
    import numpy as np

    factors = np.array([1, 1, *(b / a for a, b in zip(old, new, strict=True))], np.float32)
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        while a * float(factors[2 + i]) < b:
            factors[2 + i] = np.nextafter(factors[2 + i], np.float32(np.inf))
    return factors


def normalize(site: Site, layer: Normalize) -> None:
    """Div by a length, Mul by a scale, in single steps on four axes."""
    shape = site.step.bottoms[0]
    x = site.reshape(site.bottoms[0], shape, legacy(shape))
    square = site.reduce("ReduceSumSquare", x, layer.axes)
    length = site.op("Sqrt", [site.op("Add", [square, site.number("eps", layer.eps)])])
    scale = site.constant("weight", site.blobs["weight"].reshape(-1, 1, 1))
    same = len(shape) == 4
    y = site.op("Mul", [site.op("Div", [x, length]), scale], site.tops[0] if same else "")
    if not same:
        site.reshape(y, legacy(shape), shape, site.tops[0])


def permute(site: Site, layer: Permute) -> None:
    """Transpose."""
    site.op("Transpose", site.bottoms, site.tops[0], perm=layer.axes(site.step.bottoms[0]))


def relu6(site: Site, layer: ReLU6) -> None:
    """Relu or LeakyRelu, and Min."""
    if layer.negative_slope:
        y = site.op("LeakyRelu", site.bottoms, alpha=layer.negative_slope)
    else:
        y = site.op("Relu", site.bottoms)
    site.op("Min", [y, site.number("threshold", layer.threshold)], site.tops[0])


def shuffle_channel(site: Site, layer: ShuffleChannel) -> None:
    """Transpose of groups and what they hold."""
    shape = site.step.bottoms[0]
    n, channels, size = shape[0], shape[1], count(shape[2:])
    groups = (n, layer.group, channels // layer.group, size)
    y = site.op("Transpose", [site.reshape(site.bottoms[0], shape, groups)], perm=(0, 2, 1, 3))
    site.reshape(y, (n, groups[2], groups[1], size), shape, site.tops[0])


def argmax(site: Site, layer: ArgMax) -> None:
    """ArgMax, of equal values the last; or ReduceMax; or TopK of the values turned round."""
    shape, top_shape = site.step.bottoms[0], site.step.tops[0]
    (x,), (top,) = site.bottoms, site.tops
    axis = 1
    if layer.axis is None:
        x = site.op("Flatten", [x], axis=1)
        shape = (shape[0], count(shape[1:]))
    else:
        axis = axis_index(layer.axis, shape)
    if layer.top_k > 1 or (layer.axis is None and layer.out_max_val):
        most(site, layer, x, shape, axis)
        return
    if layer.out_max_val:
        site.reduce("ReduceMax", x, (axis,), top)
        return
    places = site.op("ArgMax", [x], axis=axis, keepdims=1, select_last_index=1)
    same = layer.axis is not None
    y = site.op("Cast", [places], top if same else "", to=FLOAT)
    if not same:
        site.reshape(y, (shape[0], 1), top_shape, top)


def most(site: Site, layer: ArgMax, x: str, shape: Shape, axis: int) -> None:
    """The largest, of equal values the last first: TopK has the first first."""
    turned = site.op("Gather", [x, site.sizes("turned", range(shape[axis])[::-1])], axis=axis)
    values, places = site.between("values"), site.between("places")
    k = site.sizes("top_k", (layer.top_k,))
    site.node("TopK", [turned, k], [values, places], axis=axis)
    if layer.axis is not None and layer.out_max_val:
        site.op("Identity", [values], site.tops[0])
        return
    places = site.op("Sub", [site.sizes("last", (shape[axis] - 1,)), places])
    if layer.axis is not None:
        site.op("Cast", [places], site.tops[0], to=FLOAT)
        return
    rows = [site.op("Cast", [places], to=FLOAT), *([values] if layer.out_max_val else [])]
    both = site.op("Concat", rows, axis=1) if len(rows) > 1 else rows[0]
    old = (shape[0], len(rows) * layer.top_k)
    site.reshape(both, old, site.step.tops[0], site.tops[0])


def roi_pooling(site: Site, layer: ROIPooling) -> None:
    """MaxRoiPool, which is Fast R-CNN's."""
    maps, regions = site.bottoms
    shape = site.step.bottoms[1]
    site.op(
        "MaxRoiPool",
        [maps, site.reshape(regions, shape, (shape[0], 5))],
        site.tops[0],
        pooled_shape=(layer.pooled_h, layer.pooled_w),
        spatial_scale=layer.spatial_scale,
    )


def prior_box(site: Site, layer: PriorBox) -> None:
    """An initializer: the boxes of these sizes."""
    import numpy as np

    zeros = [np.zeros(shape, np.float32) for shape in site.step.bottoms]
    site.op("Identity", [site.constant("boxes", layer.forward(zeros, [])[0])], site.tops[0])


def upsample(site: Site, layer: Upsample) -> None:
    """ScatterElements into zeros, map by map; of several values at one place the last stays."""
    import numpy as np
    from onnx import numpy_helper

    (n, channels, *size), (top_shape,) = site.step.bottoms[0], site.step.tops
    flat = (n, channels, count(tuple(size)))
    values, mask = (site.reshape(bottom, site.step.bottoms[0], flat) for bottom in site.bottoms)
    area = site.sizes("area", (count(top_shape[2:]),))
    shape = site.op("Concat", [sides(site, values, 0, 2), area], axis=0)
    zero = numpy_helper.from_array(np.zeros(1, np.float32))
    zeros = site.op("ConstantOfShape", [shape], value=zero)
    places = site.op("Cast", [mask], to=INT64)
    y = site.op("ScatterElements", [zeros, places, values], axis=2)
    site.reshape(y, (*flat[:2], count(top_shape[2:])), top_shape, site.tops[0])


def spp(site: Site, layer: SPP) -> None:
    """The pooling of each level, flattened, and Concat."""
    (shape,) = site.step.bottoms
    levels = list(layer.levels(shape))
    flat = []
    for level in levels:
        value = site.tops[0] if len(levels) == 1 else site.graph.free(f"{site.step.label}/Pool")
        pooling(replace(site, tops=(value,), inner=len(levels) > 1), level)
        if len(levels) > 1:
            flat.append(site.op("Flatten", [value], axis=1))
    if flat:
        site.op("Concat", flat, site.tops[0], axis=1)


WRITERS: dict[str, Callable[[Site, Any], None]] = {
    "AbsVal": one("Abs"),
    "ArgMax": argmax,
    "Axpy": axpy,
    "BN": bn,
    "BNLL": one("Softplus"),
    "BatchNorm": batch_norm,
    "BatchReindex": batch_reindex,
    "Bias": bias,
    "Clip": clip,
    "Concat": concat,
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Crop": crop,
    "Deconvolution": deconvolution,
    "DepthwiseConvolution": convolution,
    "DetectionOutput": detection_output,
    "Dropout": copies,
    "ELU": one("Elu", "alpha"),
    "Eltwise": eltwise,
    "Embed": embed,
    "Exp": exp,
    "Filter": filter_,
    "Flatten": reshape,
    "Im2col": im2col,
    "InnerProduct": inner_product,
    "Interp": interp,
    "LRN": lrn,
    "LSTM": recurrent,
    "LSTMUnit": lstm_unit,
    "Log": log,
    "MVN": mvn,
    "Normalize": normalize,
    "PReLU": prelu,
    "PSROIPooling": psroi_pooling,
    "Parameter": parameter,
    "Permute": permute,
    "Pooling": pooling,
    "Power": power,
    "PriorBox": prior_box,
    "RNN": recurrent,
    "Proposal": proposal,
    "ROIPooling": roi_pooling,
    "ReLU": relu,
    "ReLU6": relu6,
    "Reduction": reduction,
    "Reshape": reshape,
    "SPP": spp,
    "Scale": scale,
    "ShuffleChannel": shuffle_channel,
    "Sigmoid": one("Sigmoid"),
    "Silence": copies,
    "Slice": slice_,
    "Softmax": softmax,
    "Split": copies,
    "Swish": swish,
    "TanH": one("Tanh"),
    "Threshold": threshold,
    "Tile": tile,
    "Upsample": upsample,
}
"""How the nodes of each layer type are added; Input is the graph's own."""
