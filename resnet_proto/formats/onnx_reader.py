"""ONNX model -> net and weights.

    file -> nodes that the outputs need -> constants folded, ops as layers -> Net, Weights

The way back of ``onnx.py``. Every size is known: an input's batch is 1 where it may vary. Nothing
of the file is run. Ops are in ``onnx_ops.py``, constants in ``onnx_fold.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import FormatError, NetError, UnknownLayerError
from resnet_proto.files import unreadable
from resnet_proto.formats.onnx import check_installed
from resnet_proto.formats.onnx_draft import Around, Blob, Draft, Lost, NoWayError, Site, Turned
from resnet_proto.formats.onnx_fold import TYPES, folded
from resnet_proto.formats.onnx_ops import FLOATS, OPS, applied
from resnet_proto.layers import MAX_COUNT, Shape, count, dims
from resnet_proto.net import Net
from resnet_proto.sniff import HEAD, refuse
from resnet_proto.weights import Weights
from resnet_proto.words import counted

if TYPE_CHECKING:
    import numpy as np

    Values = np.ndarray[Any, np.dtype[Any]]

OLDEST = 7
"""Opset from which on shapes broadcast as they do today; of 2017."""
MAX_FILE = (1 << 31) - 1
"""Bytes of a model: protobuf reads no more. What is more lies in files beside it."""
TO_CAFFE, FROM_CAFFE = (0, 3, 1, 2), (0, 2, 3, 1)
"""Orders of axes: channels last become channels before rows, and the way back."""
PRODUCER = "resnet-proto"
"""Of models of ours, whose values say which layers worked in place."""


def read(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Shape] | None = None,
    warnings: list[str] | None = None,
) -> tuple[Net, Weights]:
    """The net that computes what a model does, at phase TEST, and its weights in float32.

    Blobs have the names of the values in the model, layers those of its nodes.

    Args:
        path: values outside the file have to lie in its folder.
        shapes: input -> shape; "" is the only input. Where the model says none, a batch is 1.
        warnings: gets a sentence for what is not as it was in the model.

    Raises:
        FormatError: the file is damaged, or no ONNX model.
        NetError: an input's shape is not known, or another than the model's.
        UnknownLayerError: ops without a way into Caffe's layers; the message names every node.
        ResNetProtoError: the package ``onnx`` is not installed.
    """
    check_installed()
    model = load_model(Path(path))
    return Reading(model, Path(path), shapes or {}, warnings if warnings is not None else []).net()


def load_model(path: Path) -> Any:
    """The message of a file, without what lies outside it.

    Raises:
        FormatError: it cannot be read, or is something else.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise FormatError(
                f"{path} has {size:,} bytes; a model has up to {MAX_FILE:,}, and more in files "
                "beside it"
            )
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(unreadable(path, error, ("*.onnx",))) from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        refuse(str(path), data[:HEAD], "an ONNX model")
        raise FormatError(f"{path} is no ONNX model, or is cut off") from None
    if not model.HasField("graph") or not model.graph.output:
        refuse(str(path), data[:HEAD], "an ONNX model")
        raise FormatError(f"{path} is no ONNX model: it has no graph with an output")
    for name in names_of(model.graph):
        if not isinstance(name, str):
            raise FormatError(f"{path}: a name in the model is not UTF-8: {name!r}")
    return model


def names_of(graph: Any) -> Iterator[Any]:
    """Every name in a graph. One that is no UTF-8 is bytes, and no str."""
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def without_rest(model: Any, path: Path) -> None:
    """Take away what no output needs, so that nobody runs it.

    Raises:
        FormatError: as ``read``.
    """
    graph = model.graph
    nodes = Reading(model, path, {}, []).needed()
    kept = [node.SerializeToString() for node in nodes]
    read = {name for node in nodes for name in node.input} | {v.name for v in graph.output}
    del graph.node[:]
    for data in kept:
        graph.node.add().ParseFromString(data)
    for values in (graph.initializer, graph.input):
        for i in reversed(range(len(values))):
            if values[i].name not in read:
                del values[i]


def turned_inputs(graph: Any) -> set[str]:
    """Inputs with channels last, which only a Transpose reads; but those that are outputs."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    result = set()
    for value in graph.input:
        found = readers.get(value.name, [])
        if len(found) == 1 and found[0].op_type == "Transpose":
            perm = next((tuple(a.ints) for a in found[0].attribute if a.name == "perm"), ())
            if perm == TO_CAFFE:
                result.add(value.name)
    return result - {output.name for output in graph.output}


class Reading:
    """One model on its way.

    Attributes:
        values: name -> a constant, a ``Blob``, or what is on its way to be one.
        obstacles: (node, op, why) of all that have no way.
    """

    def __init__(
        self, model: Any, path: Path, shapes: Mapping[str, Shape], warnings: list[str]
    ) -> None:
        self.model, self.path, self.shapes, self.warnings = model, path, shapes, warnings
        self.graph = model.graph
        self.outputs = [value.name for value in self.graph.output]
        names = frozenset(name for node in self.graph.node for name in node.output)
        self.draft = Draft(self.graph.name, names, model.producer_name == PRODUCER)
        self.values: dict[str, Any] = {}
        self.obstacles: list[tuple[str, str, str]] = []
        self.version = 0
        for imported in model.opset_import:
            if imported.domain in ("", "ai.onnx"):
                self.version = imported.version

    def wrong(self, what: str) -> FormatError:
        """An error of this file."""
        return FormatError(f"{self.path}: {what}")

    def net(self) -> tuple[Net, Weights]:
        """The whole way; errors as ``read``."""
        if self.version < OLDEST:
            raise self.wrong(
                f"its operators are of opset {self.version}; {OLDEST} and newer are read. "
                "onnx.version_converter brings it up to date"
            )
        nodes = self.needed()
        self.uses = Counter(name for node in nodes for name in node.input if name)
        self.uses.update(self.outputs)
        self.read_constants()
        self.read_inputs()
        for node in nodes:
            self.read_node(node)
        return self.finished()

    def needed(self) -> list[Any]:
        """The nodes without which the outputs cannot be computed.

        Raises:
            FormatError: a value is made twice, or is read before it is made, as in a cycle.
        """
        made: dict[str, int] = {}
        nodes = list(self.graph.node)
        for i, node in enumerate(nodes):
            for name in filter(None, node.output):
                if name in made:
                    raise self.wrong(f"value '{name}' is made by two nodes")
                made[name] = i
        kept = {made[name] for name in self.outputs if name in made}
        for i in reversed(range(len(nodes))):
            if i in kept:
                for name in read_by(nodes[i]):
                    if made.get(name, -1) >= i:
                        raise self.wrong(
                            f"node {called(nodes[i])} reads '{name}', which is made behind it; "
                            "nodes have to be in order, and in no cycle"
                        )
                    kept.update([made[name]] if name in made else ())
        return [node for i, node in enumerate(nodes) if i in kept]

    def read_constants(self) -> None:
        """Initializers, as far as they are read.

        Raises:
            FormatError: one is damaged, or stands there twice.
        """
        doubles = []
        made = {name for node in self.graph.node for name in node.output if name}
        for tensor in self.graph.initializer:
            if tensor.name in self.values or tensor.name in made:
                raise self.wrong(f"value '{tensor.name}' is there twice")
            if self.uses[tensor.name]:
                self.values[tensor.name] = value = self.array(tensor)
                if value.dtype.name == "float64" and value.size > 1:
                    doubles.append(tensor.name)
            else:
                self.values[tensor.name] = Lost()
        for sparse in self.graph.sparse_initializer:
            self.values[sparse.values.name] = Lost()
            if self.uses[sparse.values.name]:
                raise self.wrong(f"'{sparse.values.name}' is sparse; write it in full")
        if doubles:
            self.warnings.append(
                f"{counted(len(doubles), 'value')} of float64 become float32, as Caffe has them; "
                f"the first is '{doubles[0]}'"
            )

    def array(self, tensor: Any) -> Values:
        """The values of a tensor; bfloat16 as float32.

        Raises:
            FormatError: they are not those that its shape asks for, or outside the folder.
        """
        import numpy as np
        from onnx import TensorProto, numpy_helper

        shape, kind = tuple(tensor.dims), tensor.data_type
        name = tensor.name or "a constant"
        if kind not in TYPES and kind != TensorProto.BFLOAT16:
            known = dict(TensorProto.DataType.items())
            label = next((key for key, number in known.items() if number == kind), str(kind))
            raise self.wrong(f"'{name}' is of type {label}; known: {', '.join(TYPES.values())}")
        if len(shape) > 32 or any(n < 0 for n in shape) or count(shape) > MAX_COUNT:
            raise self.wrong(f"'{name}' is {dims(shape)}, which no blob can be")
        size = count(shape)
        width = 2 if kind == TensorProto.BFLOAT16 else np.dtype(TYPES[kind]).itemsize
        if tensor.data_location == TensorProto.EXTERNAL:
            data: Values = self.outside(tensor, size * width)
        elif tensor.HasField("raw_data"):
            if len(tensor.raw_data) != size * width:
                raise self.wrong(
                    f"'{name}' is {dims(shape)}, and has {len(tensor.raw_data)} bytes, "
                    f"not {size * width}"
                )
            data = np.frombuffer(tensor.raw_data, np.uint8)
        else:
            fields = (tensor.float_data, tensor.int32_data, tensor.int64_data,
                      tensor.double_data, tensor.uint64_data)  # fmt: skip
            if sum(map(len, fields)) != size:
                raise self.wrong(
                    f"'{name}' is {dims(shape)}, and has {sum(map(len, fields))} values"
                )
            try:
                return plain(numpy_helper.to_array(tensor))
            except (ValueError, TypeError, OverflowError) as error:
                raise self.wrong(f"'{name}' cannot be read: {error}") from None
        if kind == TensorProto.BFLOAT16:
            high: Values = data.view("<u2").astype(np.uint32) << 16
            return high.view(np.float32).reshape(shape)
        return data.view(np.dtype(TYPES[kind]).newbyteorder("<")).reshape(shape)

    def outside(self, tensor: Any, size: int) -> Values:
        """The bytes of a tensor in another file of the model's folder, as a map of the file.

        Raises:
            FormatError: it lies elsewhere, or is not as long.
        """
        import numpy as np

        where = {entry.key: entry.value for entry in tensor.external_data}
        location, name = where.get("location", ""), tensor.name
        folder = self.path.absolute().parent.resolve()
        try:
            file = (folder / location).resolve()
            offset = int(where.get("offset", "0") or 0)
            length = int(where.get("length", size) or size)
            if (
                not location
                or "\\" in location
                or (file.parent != folder and folder not in file.parents)
            ):
                raise self.wrong(
                    f"'{name}' lies in '{location}', outside the model's folder; it is not read"
                )
            if length != size or offset < 0 or not file.is_file():
                reason = "is no file" if not file.is_file() else f"has {length} bytes of it"
                raise self.wrong(f"'{name}' needs {size} bytes of '{location}', which {reason}")
            if offset + size > file.stat().st_size:
                raise self.wrong(f"'{name}' lies behind the end of '{location}': it is cut off")
            if not size:
                return np.zeros(0, np.uint8)
            return np.memmap(file, np.uint8, "r", offset, (size,))
        except (ValueError, OSError, RuntimeError) as error:
            raise self.wrong(f"'{name}' in '{location}' cannot be read: {error}") from None

    def read_inputs(self) -> None:
        """Input layers, of the shapes given or the model's.

        Raises:
            NetError: a size is not known, or another than the model's; or no input has that name.
        """
        inputs = [
            value
            for value in self.graph.input
            if value.name not in self.values and self.uses[value.name]
        ]
        names = [value.name for value in inputs]
        given = dict(self.shapes)
        if "" in given and len(names) == 1:
            given[names[0]] = given.pop("")
        for name in given:
            if name not in names:
                raise NetError(
                    f"{self.path}: the model has no input '{name}'; it has {', '.join(names)}"
                )
        turned = turned_inputs(self.graph)
        if len({*names}) != len(names):
            raise self.wrong("an input is there twice")
        for value in inputs:
            shape = self.input_shape(value, given.get(value.name))
            turns = value.name in turned and len(shape) == len(TO_CAFFE)
            if turns:
                shape = tuple(shape[axis] for axis in TO_CAFFE)
                self.warnings.append(
                    f"input '{value.name}' is {dims(shape)}, with channels before rows: the "
                    "model's own Transpose of it is left out"
                )
            try:
                drawn = self.draft.add("Input", value.name, [], shape=({"dim": shape},))
            except NoWayError as error:
                raise NetError(f"{self.path}: input '{value.name}': {error}") from None
            (blob,) = drawn.tops
            blob.names, blob.uses = [value.name], self.uses[value.name] + 1
            self.values[value.name] = blob
            if turns:
                self.values[value.name] = Turned(blob, FROM_CAFFE, value.name)

    def input_shape(self, value: Any, given: Shape | None) -> Shape:
        """The shape of an input: what is given, where it does not contradict the model."""
        kind = value.type.tensor_type
        if kind.elem_type not in FLOATS:
            raise NetError(
                f"{self.path}: input '{value.name}' is not of floats, as Caffe's blobs are"
            )
        own = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        own = [None if n is not None and n < 1 else n for n in own]
        has = kind.HasField("shape")
        words = dims_of(kind) if has else "unknown"
        if given is not None:
            fits = not has or (
                len(own) == len(given)
                and all(n in (None, m) for n, m in zip(own[1:], given[1:], strict=True))
            )
            if not fits:
                raise NetError(
                    f"{self.path}: input '{value.name}' is {words} in the model, not {dims(given)}"
                )
            return given
        shape = tuple(1 if n is None and i == 0 else n for i, n in enumerate(own))
        if not has or None in shape:
            raise NetError(
                f"{self.path}: input '{value.name}' is {words}; give the sizes that may vary: "
                f"--input-shape {value.name}=N,C,H,W"
            )
        return tuple(int(n or 0) for n in shape)

    def read_node(self, node: Any) -> None:
        """Draw what a node does; or note what stands in the way."""
        outputs = list(node.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        wanted = max((i + 1 for i, name in enumerate(outputs) if self.uses[name]), default=0)
        label = node.name or next(filter(None, outputs), node.op_type)
        inputs = []
        for name in node.input:
            if name and name not in self.values:
                raise self.wrong(
                    f"node {called(node)} reads '{name}', which no initializer, input or node makes"
                )
            inputs.append(self.values[name] if name else None)
        try:
            attributes = self.attributes(node)
            site = Site(self.draft, node.op_type, label, self.version, inputs, attributes, wanted)
            result = self.result(site, node)
        except NoWayError as error:
            if str(error):
                blamed = error.label
                self.obstacles.append((blamed or label, "Transpose" if blamed else node.op_type,
                                       str(error)))  # fmt: skip
            lost = self.lost(node, inputs)
            for name in outputs:
                self.values[name] = lost.get(name, Lost())
            return
        results = result if isinstance(result, list) else [result]
        for name, value in zip(outputs, results, strict=False):
            self.values[name] = value
            blob = value
            while isinstance(blob, Around | Turned):
                blob = blob.blob
            if isinstance(blob, Blob):
                self.name(blob, name, alias=blob is not value)
        for name in outputs[len(results) :]:
            self.values[name] = Lost()
            if self.uses[name]:
                reason = f"its output '{name}' is read, which no layer gives"
                self.obstacles.append((label, node.op_type, reason))

    def name(self, blob: Blob, name: str, *, alias: bool) -> None:
        """Call a blob as the value that it is, and count who reads it."""
        if alias:
            blob.uses += self.uses[name]
        elif blob.names or (blob.maker is not None and blob.maker.type == "Input"):
            blob.names.append(name)
            blob.uses += self.uses[name]
        else:
            blob.names, blob.uses = [name], self.uses[name]

    def result(self, site: Site, node: Any) -> Any:
        """What a node gives."""
        import numpy as np

        if node.domain not in ("", "ai.onnx"):
            raise NoWayError(f"it is of the domain '{node.domain}'")
        if site.op == "Constant":
            return self.constant(site)
        shape = self.shape_of(site.inputs[0]) if site.inputs else None
        if site.op in ("Shape", "Size") and shape is not None:
            if site.op == "Size":
                return np.array(count(shape), np.int64)
            start, end = site.attribute("start", 0), site.attributes.get("end")
            return np.array(shape[start:end], np.int64)
        known = all(site.is_constant(i) or value is None for i, value in enumerate(site.inputs))
        if known and (value := folded(site)) is not None:
            return value
        if site.op not in OPS:
            raise NoWayError("no layer does this")
        if any(isinstance(value, Lost) for value in site.inputs) and not all(
            self.shape_of(value) is not None for value in site.inputs if value is not None
        ):
            raise NoWayError("")  # what it reads is not known, which has been said
        if any(isinstance(value, Lost) for value in site.inputs):
            site.inputs = [
                Blob(value.shape or (), uses=2) if isinstance(value, Lost) else value
                for value in site.inputs
            ]
        try:
            return applied(site)
        except (NetError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise NoWayError(f"it does not fit what it reads: {error}") from None

    def constant(self, site: Site) -> Values:
        """The value of a Constant."""
        import numpy as np

        for name, value in site.attributes.items():
            if name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
                kind = np.float32 if "float" in name else np.int64
                return value if name == "value" else np.array(value, kind)
        raise NoWayError(f"a constant by {', '.join(site.attributes) or 'nothing'}")

    def attributes(self, node: Any) -> dict[str, Any]:
        """The attributes of a node; of graphs only that they are there.

        Raises:
            NoWayError: it has a graph: If, Loop, Scan.
        """
        from onnx import AttributeProto

        result: dict[str, Any] = {}
        for attribute in node.attribute:
            kind = attribute.type
            if kind == AttributeProto.FLOAT:
                result[attribute.name] = float(attribute.f)
            elif kind == AttributeProto.INT:
                result[attribute.name] = int(attribute.i)
            elif kind == AttributeProto.STRING:
                result[attribute.name] = attribute.s.decode("utf-8", "replace")
            elif kind == AttributeProto.TENSOR:
                result[attribute.name] = self.array(attribute.t)
            elif kind == AttributeProto.FLOATS:
                result[attribute.name] = tuple(map(float, attribute.floats))
            elif kind == AttributeProto.INTS:
                result[attribute.name] = tuple(map(int, attribute.ints))
            elif kind in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                raise NoWayError("it runs graphs of its own, which a net has not")
            else:
                raise NoWayError(f"its attribute '{attribute.name}' is of a kind that is not read")
        return result

    def shape_of(self, value: Any) -> Shape | None:
        """The shape of any value, as far as it is known."""
        if isinstance(value, Blob | Lost):
            return value.shape
        if isinstance(value, Around):
            shape = value.blob.shape
            sides = zip(shape[2:], value.begin, value.end, strict=True)
            return (*shape[:2], *(sum(side) for side in sides))
        if isinstance(value, Turned):
            shape = self.shape_of(value.blob) or ()
            return tuple(shape[axis] for axis in value.axes)
        return None if value is None else tuple(value.shape)

    def lost(self, node: Any, inputs: Sequence[Any]) -> dict[str, Lost]:
        """The shapes that a node without a way would have given: others behind it are looked at."""
        from onnx import TensorProto, helper, numpy_helper, shape_inference

        if any(value is not None and self.shape_of(value) is None for value in inputs):
            return {}
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return {}
        infos, tensors = [], []
        for name, value in zip(node.input, inputs, strict=True):
            if value is None:
                continue
            if not isinstance(value, Blob | Lost | Around | Turned) and value.size < 1 << 10:
                tensors.append(numpy_helper.from_array(value, name))
            else:
                infos.append(
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shape_of(value))
                )
        names = [name for name in node.output if name]
        graph = helper.make_graph(
            [node], "one", infos, [helper.make_empty_tensor_value_info(n) for n in names], tensors
        )
        try:
            model = helper.make_model(graph, opset_imports=self.model.opset_import)
            known = shape_inference.infer_shapes(model).graph.output
        except Exception:  # of a node that is wrong, in any way
            return {}
        result = {}
        for value in known:
            sizes = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(d.dim_value > 0 for d in sizes):
                result[value.name] = Lost(tuple(d.dim_value for d in sizes))
        return result

    def finished(self) -> tuple[Net, Weights]:
        """The net of what was drawn.

        Raises:
            UnknownLayerError: something stood in the way.
        """
        ends, wanted = [], []
        for name in self.outputs:
            if name not in self.values:
                raise self.wrong(f"output '{name}' is made by no node")
            value = self.values[name]
            wanted.append(name)
            if isinstance(value, Turned) and value.axes == FROM_CAFFE:
                value, wanted[-1] = value.blob, ""
                self.warnings.append(
                    f"output '{name}' has channels before rows: the model's own Transpose of it is "
                    "left out"
                )
            site = Site(self.draft, "the model's output", name, self.version, [value], {})
            try:
                ends.append(site.blob(0))
            except NoWayError as error:
                if str(error):
                    blamed = error.label
                    self.obstacles.append((blamed or name, "Transpose" if blamed else "output",
                                           str(error)))  # fmt: skip
        if self.obstacles:
            raise UnknownLayerError(self.refusal())
        try:
            net, weights = self.draft.finished(ends, wanted)
        except NetError as error:
            raise type(error)(f"{self.path}: {error}") from None
        weights.source = str(self.path)
        return net, weights

    def refusal(self) -> str:
        """Every node that stands in the way, and why."""
        rows = list(dict.fromkeys(self.obstacles))
        ops = ", ".join(f"{op} ({n})" for op, n in Counter(op for _, op, _ in rows).items())
        lines = [f"  {op} '{label}': {reason}" for label, op, reason in rows]
        return (
            f"{self.path}: {counted(len(rows), 'node')} cannot be written as layers of mainline "
            f"Caffe: {ops}\n" + "\n".join(lines) + "\nend the model before them "
            "(onnx.utils.extract_model) and compute the rest elsewhere, or export it without them"
        )


def plain(value: Values) -> Values:
    """An array of a type that numpy has itself."""
    import numpy as np

    return value if value.dtype.kind in "fiub" else value.astype(np.float32)


def read_by(node: Any) -> Iterator[str]:
    """The names that a node reads."""
    return (name for name in node.input if name)


def called(node: Any) -> str:
    """A node in a message."""
    return f"'{node.name or next(iter(node.output), '')}' ({node.op_type})"


def dims_of(kind: Any) -> str:
    """A shape with the names of what may vary."""
    sizes = (d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in kind.shape.dim)
    return "x".join(map(str, sizes)) or "scalar"
