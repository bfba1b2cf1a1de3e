"""What is drawn of a net so far, and the place where one layer is added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from resnet_proto.layers import Shape
from resnet_proto.words import free

if TYPE_CHECKING:
    import numpy as np

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Step

OPSET = 13
"""With ``IR_VERSION`` it came with ONNX 1.8, in 2020: any runtime in use reads them."""
END = 2**31 - 1
"""Of a Slice: as far as there is something; of a number at most: as many as there are."""
FLOAT, INT64, BOOL = 1, 7, 9
"""Numbers of ``TensorProto.DataType``."""


@dataclass
class Graph:
    """What is written so far.

    Args:
        taken: names of values, as ``words.free`` has them; the blobs' own from the start.
        opset: that it is written in.
        any_size: whether rows and columns may vary.
        nodes: in order of running. ``labels`` are their layers, as messages name them.
        initializers: name -> value. ``owners`` are their layers likewise, ``reshapes`` those
            that a Reshape takes for its shape, with the shape of what it reads.
        shared: the owner's key of what layers share -> the initializers that it has become.
    """

    taken: dict[str, int]
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
        return free(name, self.taken)


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

    @property
    def label(self) -> str:
        """The layer in a message."""
        return f"'{self.step.label}' ({self.step.layer.type})"

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
        self.graph.labels.append(self.label)

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
        self.graph.owners[full] = self.label
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


def sides(site: Site, x: str, start: int, end: int) -> str:
    """Some of the sizes that ``x`` has when it runs."""
    bounds = [site.sizes(name, (value,)) for name, value in (("start", start), ("end", end))]
    return site.op("Slice", [site.op("Shape", [x]), *bounds])


def product(site: Site, sizes: str) -> str:
    """Of sizes that are known when it runs; of one axis."""
    return site.reduce("ReduceProd", sizes, (0,))


def counting(site: Site, n: str) -> str:
    """0, 1, 2 ... as many as ``n``, of one axis, says; whole numbers."""
    import numpy as np

    none = site.sizes("no_axes", ())
    bounds = [site.constant(name, np.array(i, np.int64)) for i, name in enumerate(("from", "by"))]
    return site.op("Range", [bounds[0], site.op("Reshape", [n, none]), bounds[1]])
