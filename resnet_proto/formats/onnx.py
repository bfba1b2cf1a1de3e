"""Net + weights -> ONNX model, in float32.

    net -> steps that the outputs need -> nodes and initializers -> model

A layer becomes one node of its name, or a few: ``<layer>/<op>`` before it. A value has its
blob's name where it is the blob's last version; a version that a layer overwrites in place is
``<blob>@<layer>``, after the layer that wrote it. Initializers are ``<layer>.<blob>``. The same
net and weights give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from resnet_proto.errors import NetError, ResNetProtoError, ShapeError
from resnet_proto.fit import step_blobs
from resnet_proto.formats.caffemodel import encoded
from resnet_proto.formats.onnx_graph import FLOAT, INT64, OPSET, Graph, Site
from resnet_proto.formats.onnx_layers import write
from resnet_proto.layers.input import Input
from resnet_proto.net import check_runs, labels, overwritten
from resnet_proto.weights import Weights

if TYPE_CHECKING:
    import onnx

    from resnet_proto.layers import Layer, Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

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
LARGE_STEPS = (32, 64, 160)
"""The same, for a net that does not take all of ``STEPS``: where maps become smaller and larger
again, they fit at multiples of the strides."""
LIMIT = (1 << 31) - (1 << 20)
"""Bytes of a model in one file; protobuf reads no more than 2 GB."""
SMALL = 1024
"""Bytes of an initializer that stays in the model, whatever its size: shapes are among them."""
ALIGNED = 4096
"""Where an initializer begins in a file of its own, so that it can be mapped."""


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
        opset: 13 to 21.
        dynamic: what may vary: ``none``, ``batch``, or ``size``, which is rows and columns too.
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
    graph = Graph(taken=dict.fromkeys(last, 1), opset=opset, any_size=dynamic == "size")
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
    *,
    batch_too: bool = True,
    warnings: list[str] | None = None,
) -> Drawing:
    """The drawing with a batch that varies, or rows and columns too.

    The net is drawn at other sizes as well, without its weights. Where the graphs are the same but
    for sizes that a Reshape keeps, which become 0, and one more, which becomes -1, the graph is
    right at any of these sizes.

    ``dynamic`` is one of ``DYNAMIC``; the other arguments are those of the drawing. Without
    ``batch_too`` only rows and columns vary. ``warnings`` gets a sentence where the net takes some
    sizes only.

    Raises:
        NetError: the graph is another one at another size; the message names the layer.
    """
    if dynamic not in DYNAMIC:
        raise ResNetProtoError(f"dynamic is '{dynamic}'; known: {', '.join(DYNAMIC)}")
    net = net.at(phase="TEST").upgraded().filtered()
    wanted = None if outputs is None else tuple(outputs)
    own = {**net.given, **(shapes or {}), **net.inputs()}
    batch = next((shape[0] for shape in own.values() if shape), 1)

    def resized(rows: int, images: int) -> tuple[Net, dict[str, Shape]]:
        """The net, and the shapes of data layers, with more rows and columns, and so many images.

        Raises:
            ShapeError: a layer would need other weights.
        """
        sizes = {name: varied(shape, batch, images, rows) for name, shape in own.items()}
        other = net.with_input_shapes({n: s for n, s in sizes.items() if n in net.inputs()})
        return other, {name: size for name, size in sizes.items() if name not in net.inputs()}

    def drawn(net: Net, data: Mapping[str, Shape]) -> Drawing:
        return draw(net, None, wanted, data, drawing.graph.opset, pixels, dynamic=dynamic)

    result = replace(
        drawing,
        graph=replace(drawing.graph, initializers=dict(drawing.graph.initializers)),
        inputs=dict(drawing.inputs),
        outputs=dict(drawing.outputs),
    )
    at_own_size = drawn(*resized(0, batch))
    images = 2 * batch + 1 if batch_too else batch
    if batch_too:
        let_vary(at_own_size, drawn(*resized(0, images)), result, "batch")
    not_taken = ""
    for rows in STEPS if dynamic == "size" else ():
        other = resized(rows, images)
        try:
            let_vary(at_own_size, drawn(*other), result, "size of the inputs")
        except ShapeError as error:
            not_taken = str(error)
    if not_taken:
        for rows in LARGE_STEPS:
            let_vary(at_own_size, drawn(*resized(rows, images)), result, "size of the inputs")
        if warnings is not None:
            warnings.append(f"not every size fits the net, as in Caffe: {not_taken}")
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
        what = f"number of rows from '{step.label}'"
        vary_shapes(few.graph, more.graph, drawing.graph, what)
        for name, size in few.outputs.items():
            sizes = zip(drawing.outputs[name], size, more.outputs[name], strict=True)
            drawing.outputs[name] = tuple(old if a == b else None for old, a, b in sizes)


def varied(shape: Shape, batch: int, images: int, rows: int) -> Shape:
    """The shape of an input with another batch; of images with more rows and columns."""
    n = images if shape[:1] == (batch,) else (shape or (0,))[0]
    if len(shape) == 4:
        return (n, shape[1], shape[2] + rows, shape[3] + 2 * rows)
    return (n, *shape[1:]) if shape else shape


def let_vary(ours: Drawing, other: Drawing, result: Drawing, what: str) -> None:
    """Let vary in ``result`` what differs in two drawings of it, with another ``what``.

    Raises:
        NetError: more than a shape differs.
    """
    vary_shapes(ours.graph, other.graph, result.graph, what)
    for kind in ("inputs", "outputs"):
        values: dict[str, tuple[Any, ...]] = getattr(result, kind)
        for name, shape in values.items():
            sizes = zip(getattr(ours, kind)[name], getattr(other, kind)[name], strict=True)
            values[name] = tuple(
                old if one == two else AXES.get(i) if kind == "inputs" or not i else None
                for i, (old, (one, two)) in enumerate(zip(shape, sizes, strict=True))
            )


def vary_shapes(a: Graph, b: Graph, result: Graph, what: str) -> None:
    """Let vary in ``result`` the shapes that differ in two graphs of it, with another ``what``.

    Raises:
        NetError: more than a shape differs.
    """

    def fixed(label: str) -> NetError:
        return NetError(
            f"layer {label}: with another {what} it is another ONNX graph, so that cannot vary"
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
