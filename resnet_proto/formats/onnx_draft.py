"""Layers that are drawn op by op -> a net and its weights, with names.

    Site (one node of a graph) -> Drawn layers between Blobs -> Draft -> Net, Weights

A blob is an object here, and gets its name at the end: that of the value which it is in the
graph. So ops may join what they do to the layer before them, and layers work in place where
nobody sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import NetError
from resnet_proto.layers import MAX_COUNT, REGISTRY, Layer, Shape, axis_index, count, dims
from resnet_proto.net import Net
from resnet_proto.weights import Weights
from resnet_proto.words import free

if TYPE_CHECKING:
    import numpy as np

    Values = np.ndarray[Any, np.dtype[Any]]

MAX_MADE = 1 << 26
"""Values of a weight that gets zeros."""
IN_PLACE = ("BatchNorm", "Bias", "Dropout", "PReLU", "ReLU", "Scale")
"""Types that Caffe's users write in place, and that compilers look for there."""


class NoWayError(Exception):
    """Why a node has no way into Caffe's layers; ``label`` names another node that is to blame."""

    def __init__(self, reason: str, label: str = "") -> None:
        super().__init__(reason)
        self.label = label


@dataclass(eq=False)
class Blob:
    """What flows between layers.

    Args:
        shape: at the input's size.
        names: of the values that it is in the graph; none where it is between.
        uses: how many nodes read it; the graph's output is one more.
        maker: the layer whose top it is.
        root: the blob whose values it has in another shape.
        output: the name that it has to have.
    """

    shape: Shape
    names: list[str] = field(default_factory=list)
    uses: int = 1
    maker: Drawn | None = None
    root: Blob | None = None
    output: str = ""


@dataclass(frozen=True)
class Around:
    """A blob with zeros around its rows and columns, for a layer that has a pad."""

    blob: Blob
    begin: Shape
    end: Shape


@dataclass(frozen=True)
class Turned:
    """A blob whose axes have another order, which no mainline layer makes."""

    blob: Blob | Around
    axes: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class Lost:
    """What a node without a way would have given; the shape is None where it is not known."""

    shape: Shape | None = None


@dataclass(eq=False)
class Drawn:
    """A layer to be: fields of its type, blobs as they lie in Caffe, by its own names for them.

    ``spans`` are the parts of a Slice so far: where they begin, end, and what they are. ``factors``
    says of a Scale that it corrects the divisors of an average.
    """

    type: str
    label: str
    bottoms: list[Blob]
    tops: list[Blob]
    param: dict[str, Any]
    arrays: list[Values]
    spans: list[tuple[int, int, Blob]] = field(default_factory=list)
    factors: bool = False

    def layer(self, bottoms: Sequence[str], tops: Sequence[str]) -> Layer:
        """The layer itself, between blobs of these names."""
        return REGISTRY[self.type].of(self.label, tuple(bottoms), tuple(tops), **self.param)

    def top_shapes(self) -> list[Shape]:
        """What Caffe makes of the bottoms.

        Raises:
            NoWayError: it does not take them.
        """
        layer = self.layer(names(self.bottoms), names(self.tops, "t"))
        try:
            shapes = layer.top_shapes([blob.shape for blob in self.bottoms])
        except NetError as error:
            raise NoWayError(f"as a {self.type} layer it is refused: {error}") from None
        for shape in shapes:
            if count(shape) > MAX_COUNT:
                raise NoWayError(f"its output {dims(shape)} has more values than a blob may hold")
        return shapes


def names(blobs: Sequence[Blob], prefix: str = "b") -> list[str]:
    """Names for blobs that have none yet."""
    return [f"{prefix}{i}" for i in range(len(blobs))]


@dataclass
class Draft:
    """A net as far as it is drawn.

    Args:
        name: the net's.
        reserved: names of values; a blob that is none gets none of them.
        ours: whether names of values say which layers worked in place: ``formats/onnx.py``.
        layers: in order. ``inputs`` are among them.
    """

    name: str
    reserved: frozenset[str] = frozenset()
    ours: bool = False
    layers: list[Drawn] = field(default_factory=list)
    slices: dict[tuple[int, int], list[Drawn]] = field(default_factory=dict)

    def add(
        self,
        type: str,
        label: str,
        bottoms: Sequence[Blob],
        arrays: Sequence[Values] = (),
        n_tops: int = 1,
        **param: Any,
    ) -> Drawn:
        """Draw a layer, with tops of its own."""
        tops = [Blob(()) for _ in range(n_tops)]
        drawn = Drawn(type, label, list(bottoms), tops, param, list(arrays))
        for top, shape in zip(tops, drawn.top_shapes(), strict=True):
            top.shape, top.maker = shape, drawn
        self.layers.append(drawn)
        return drawn

    def part(self, label: str, blob: Blob, axis: int, start: int, end: int) -> Blob:
        """A part of a blob along an axis; all parts that do not overlap are tops of one Slice."""
        if (start, end) == (0, blob.shape[axis]):
            return blob
        shape = (*blob.shape[:axis], end - start, *blob.shape[axis + 1 :])
        known = self.slices.setdefault((id(blob), axis), [])
        for drawn in known:
            for first, last, same in drawn.spans:
                if (first, last) == (start, end):
                    return same
            if all(end <= first or last <= start for first, last, _ in drawn.spans):
                break
        else:
            drawn = Drawn("Slice", label, [blob], [], {"axis": axis}, [])
            known.append(drawn)
            self.layers.append(drawn)
        top = Blob(shape, maker=drawn)
        drawn.spans.append((start, end, top))
        drawn.tops.append(top)
        return top

    def finished(self, outputs: Sequence[Blob], wanted: Sequence[str]) -> tuple[Net, Weights]:
        """The net that gives these blobs, under the names wanted.

        Raises:
            NetError: a layer does not take what reaches it.
        """
        ends = self.named_outputs(outputs, wanted)
        kept = needed(self.layers, ends)
        self.layers = [drawn for one in kept for drawn in (cut(one) if one.spans else (one,))]
        labels = Names()
        for drawn in self.layers:
            drawn.label = labels.free(drawn.label)
        shown = self.names_of(ends)
        layers, arrays = [], {}
        for drawn in self.layers:
            bottoms, tops = ([shown[id(b)] for b in s] for s in (drawn.bottoms, drawn.tops))
            layer = drawn.layer(bottoms, tops)
            layers.append(fixed(layer, drawn.arrays))
            for name, value in zip(layer.blob_names(len(drawn.arrays)), drawn.arrays, strict=True):
                arrays[f"{drawn.label}.{name}"] = value
        net = Net(self.name, tuple(layers))
        tuple(net.walk())
        return net, Weights.of(arrays)

    def named_outputs(self, outputs: Sequence[Blob], wanted: Sequence[str]) -> list[Blob]:
        """The blobs to end with: one for each name, a copy where an input has it; "" is any."""
        ends: list[Blob] = []
        for blob, name in zip(outputs, wanted, strict=True):
            is_input = blob.maker is None or blob.maker.type == "Input"
            if not name or (is_input and blob.names[:1] == [name]):
                ends.append(blob)
                continue
            if blob.output or is_input:
                (blob,) = self.add("Split", name, [blob]).tops
            blob.output = name
            ends.append(blob)
        return ends

    def names_of(self, ends: Sequence[Blob]) -> dict[int, str]:
        """A name for each blob, by its identity."""
        taken = Names()
        readers = Counter(id(blob) for drawn in self.layers for blob in drawn.bottoms)
        readers.update(id(blob) for blob in ends)
        same: dict[int, Blob] = {}  # a blob that is overwritten -> what it becomes
        versions: dict[int, str] = {}
        for drawn in reversed(self.layers):
            for top in drawn.tops:
                versions.setdefault(id(top), version_of(top))
            if self.works_in_place(drawn, readers, versions):
                (bottom, *_), (top,) = drawn.bottoms, drawn.tops
                same[id(bottom)] = top
                if not bottom.names:
                    versions[id(bottom)] = versions[id(top)]
        result: dict[int, str] = {}
        tops = [(blob, drawn) for drawn in self.layers for blob in drawn.tops]
        last = {id(blob) for blob, _ in tops if id(blob) not in same}
        for blob, drawn in sorted(tops, key=lambda pair: precedence(pair[0])):
            if id(blob) in last:
                last_name = self.ours and drawn.type != "Input"  # which is behind a Dropout
                name = blob.output or "".join(blob.names[-1:] if last_name else blob.names[:1])
                if not name:
                    taken.last.update(dict.fromkeys(self.reserved & {drawn.label}, 1))
                result[id(blob)] = taken.free(name or drawn.label)
        for blob, _ in reversed(tops):
            if id(blob) in same:
                result[id(blob)] = result[id(same[id(blob)])]
        return result

    def works_in_place(
        self, drawn: Drawn, readers: Mapping[int, int], versions: Mapping[int, str]
    ) -> bool:
        """Whether a layer may overwrite its bottom, and should.

        ``versions`` are the blobs' names without what makes a version of one.
        """
        bottom, top = drawn.bottoms[:1], drawn.tops[:1]
        if not (bottom and top) or len(drawn.tops) > 1 or readers[id(bottom[0])] > 1:
            return False
        maker = bottom[0].maker
        if maker is None or maker.type in ("Input", "Parameter", "Split"):
            return False
        if maker.layer(names(maker.bottoms), names(maker.tops, "t")).shares_memory:
            return False
        layer = drawn.layer(names(drawn.bottoms), names(drawn.tops, "t"))
        if not layer.may_work_in_place():
            return False
        if not self.ours:
            keeps = bool(versions[id(top[0])]) or not bottom[0].names
            return drawn.type in IN_PLACE and keeps
        before = version_of(bottom[0])
        return before == versions[id(top[0])] or (not before and drawn.type in IN_PLACE)


def fixed(layer: Layer, arrays: Sequence[Values]) -> Layer:
    """The layer with rate 0, where its weights only choose or spread what is there."""
    import numpy as np

    if layer.type not in ("Convolution", "Deconvolution") or len(arrays) != 1:
        return layer
    if len({*arrays[0].shape[2:]}) > 1:
        return layer  # no filler makes them
    for filler in ({"type": "constant", "value": 1.0}, {"type": "bilinear"}):
        param = {**layer.param, "weight_filler": filler}
        fields = {**layer.fields, layer.message: param, "param": ({"lr_mult": 0.0},)}
        other = replace(layer, fields=fields)
        if other.fixed and np.array_equal(other.fixed_blob(arrays[0].shape), arrays[0]):
            return other
    return layer


def cut(drawn: Drawn) -> tuple[Drawn, ...]:
    """A Slice of its parts; what nobody reads goes into a Silence."""
    ((blob,), axis) = drawn.bottoms, drawn.param["axis"]
    spans = sorted(drawn.spans, key=lambda span: span[0])
    starts, ends = [0, *(end for _, end, _ in spans)], [*(s for s, _, _ in spans), blob.shape[axis]]
    empty: list[Blob] = []
    for start, end in zip(starts, ends, strict=True):
        if start < end:
            shape = (*blob.shape[:axis], end - start, *blob.shape[axis + 1 :])
            empty.append(Blob(shape, maker=drawn))
            spans.append((start, end, empty[-1]))
    spans.sort(key=lambda span: span[0])
    drawn.tops = [top for _, _, top in spans]
    drawn.param["slice_point"] = tuple(start for start, _, _ in spans[1:])
    if not empty:
        return (drawn,)
    return drawn, Drawn("Silence", f"{drawn.label}/rest", empty, [], {}, [])


def precedence(blob: Blob) -> int:
    """Who gets a name first: what has to have it, then values of the graph."""
    return 0 if blob.output else 1 if blob.names else 2


def version_of(blob: Blob) -> str:
    """The name of the blob that a value is a version of: ``conv1`` of ``conv1@bn1``."""
    if not blob.names:
        return ""
    name, _, label = blob.names[0].rpartition("@")
    maker = blob.maker.label if blob.maker is not None else ""
    return name if name and label in (maker, maker.removesuffix("/scale")) else blob.names[0]


def needed(layers: Sequence[Drawn], ends: Iterable[Blob]) -> list[Drawn]:
    """The layers without which the blobs cannot be computed, and all inputs."""
    live = {id(blob) for blob in ends}
    kept = []
    for drawn in reversed(layers):
        if drawn.spans:
            drawn.spans = [span for span in drawn.spans if id(span[2]) in live]
        if drawn.type == "Input" or any(id(top) in live for top in drawn.tops):
            kept.append(drawn)
            live.update(id(blob) for blob in drawn.bottoms)
    return kept[::-1]


class Names:
    """Names, each of them once."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}

    def free(self, name: str) -> str:
        """The name, numbered where it is taken."""
        return free(name, self.last)


class Site:
    """One node, and what is drawn for it.

    Args:
        draft: gets the layers.
        op: the node's type. ``label`` is its name, ``version`` that of its operators.
        inputs: a value each; None where an optional one is left out.
        attributes: by name: numbers, strings, tuples, arrays.
        n_outputs: how many outputs it has, up to the last that somebody reads.
    """

    def __init__(
        self,
        draft: Draft,
        op: str,
        label: str,
        version: int,
        inputs: Sequence[Any],
        attributes: Mapping[str, Any],
        n_outputs: int = 1,
    ) -> None:
        self.draft, self.op, self.label, self.version = draft, op, label, version
        self.inputs, self.attributes, self.n_outputs = inputs, attributes, n_outputs

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, of the default's kind.

        Raises:
            NoWayError: it is of another kind.
        """
        value = self.attributes.get(name, default)
        if default is not None and value is not default:
            kinds = (int, float) if isinstance(default, float) else (type(default),)
            if not isinstance(value, kinds):
                raise NoWayError(f"its attribute '{name}' is {value!r:.60}")
        return value

    def has(self, i: int) -> bool:
        """Whether the node has an input number ``i``."""
        return i < len(self.inputs) and self.inputs[i] is not None

    def given(self, i: int, what: str) -> Any:
        """An input.

        Raises:
            NoWayError: it is missing.
        """
        if not self.has(i):
            raise NoWayError(f"its {what} is missing")
        return self.inputs[i]

    def is_constant(self, i: int) -> bool:
        """Whether input ``i`` is known beforehand."""
        return self.has(i) and not isinstance(self.inputs[i], Blob | Around | Turned | Lost)

    def constant(self, i: int, what: str) -> Values:
        """Input ``i``, which has to be known beforehand.

        Raises:
            NoWayError: it is computed, or no number.
        """
        value: Values = self.given(i, what)
        if not self.is_constant(i):
            raise NoWayError(f"its {what} is computed, and not a constant")
        if value.dtype.kind not in "fiub":
            raise NoWayError(f"its {what} is {value.dtype}, and not a number")
        return value

    def weight(self, i: int, what: str) -> Values:
        """Input ``i`` as float32."""
        import numpy as np

        return self.constant(i, what).astype(np.float32, copy=False)

    def whole(self, i: int, what: str) -> tuple[int, ...]:
        """Input ``i`` as whole numbers."""
        value = self.constant(i, what)
        if value.dtype.kind not in "iu" or value.ndim > 1 or value.size > 1 << 16:
            raise NoWayError(f"its {what} is no list of whole numbers")
        return tuple(int(n) for n in value.reshape(-1))

    def whole_or_attribute(self, i: int, name: str) -> tuple[int, ...] | None:
        """What was an attribute once, and is an input now; None where it is neither."""
        if self.has(i):
            return self.whole(i, name)
        value: tuple[int, ...] | None = self.attributes.get(name)
        return None if value is None else tuple(map(int, self.attribute(name, ())))

    def number(self, i: int, what: str) -> float:
        """Input ``i``, which has to be one number."""
        value = self.constant(i, what)
        if value.size != 1:
            raise NoWayError(f"its {what} has {value.size} values, where one is needed")
        return float(value.reshape(-1)[0])

    def around(self, i: int) -> Around:
        """Input ``i`` as a blob with zeros around it, mostly none."""
        value = self.given(i, "input")
        if isinstance(value, Around):
            return value
        blob = self.blob(i)
        none = (0,) * (len(blob.shape) - 2)
        return Around(blob, none, none)

    def blob(self, i: int) -> Blob:
        """Input ``i`` as a blob; of a constant a layer makes one.

        Raises:
            NoWayError: no layer can.
        """
        value = self.given(i, "input")
        if isinstance(value, Blob):
            return value
        if isinstance(value, Around):
            return self.padded(value)
        if isinstance(value, Turned):
            raise NoWayError(
                f"its axes in the order {', '.join(map(str, value.axes))} are what op {self.op} "
                "reads; only the layer Permute of forks moves axes",
                value.label,
            )
        if isinstance(value, Lost):
            raise NoWayError("")
        return self.parameter(self.constant(i, "input"))

    def parameter(self, value: Values) -> Blob:
        """A constant as the top of a layer."""
        import numpy as np

        array = np.asarray(value, np.float32)
        shape = {"dim": array.shape}
        return self.add("Parameter", [], "constant", [array], shape=shape)

    def add(
        self,
        type: str,
        bottoms: Sequence[Blob],
        suffix: str = "",
        arrays: Sequence[Values] = (),
        **param: Any,
    ) -> Blob:
        """Draw a layer of one top; its name is the node's, and the suffix behind it."""
        label = f"{self.label}/{suffix}" if suffix else self.label
        return self.draft.add(type, label, bottoms, arrays, **param).tops[0]

    def ending(self, blob: Blob, *types: str) -> Drawn | None:
        """The layer that makes a blob, if it is one of these types and nobody else reads it."""
        drawn = blob.maker
        if drawn is None or blob.uses != 1 or drawn.type not in types or len(drawn.tops) != 1:
            return None
        return drawn

    def joined(self, drawn: Drawn) -> Blob:
        """The top of a layer that does this node's work too, and has its name, as it is last."""
        if drawn.type in ("Scale", "Bias", "Power"):
            drawn.label = self.label
        (old,) = drawn.tops
        top = Blob(old.shape, maker=drawn)
        drawn.tops = [top]
        return top

    def padded(self, value: Around) -> Blob:
        """The zeros themselves: a 1x1 Convolution of each channel that copies it."""
        n = len(value.begin)
        return self.picked(value, (0,) * n, (1,) * n, suffix="pad")

    def picked(self, value: Around, offset: Shape, stride: Shape, suffix: str = "") -> Blob:
        """Every so many-th row and column from an offset on, as a Convolution that copies.

        With zeros around it a kernel may be larger by as many zeros as the pads differ.
        """
        import numpy as np

        blob = value.blob
        channels, spatial = blob.shape[1], blob.shape[2:]
        sides = zip(spatial, value.begin, value.end, offset, stride, strict=True)
        fits = [
            pad_for(size, o + 1, s, 1, b, e, (size + b + e - o - 1) // s + 1)
            for size, b, e, o, s in sides
        ]
        weight: Values = np.zeros((channels, 1, *(o + 1 for o in offset)), np.float32)
        index: tuple[Any, ...] = (..., *offset)
        weight[index] = 1
        weight = grown(weight, fits)
        windows = spelled(weight.shape[2:], stride, tuple(fit[0] for fit in fits))
        return self.add(
            "Convolution", [blob], suffix, [weight],
            num_output=channels, group=channels, bias_term=False, **windows,
        )  # fmt: skip

    def reshaped(self, blob: Blob, shape: Shape, suffix: str = "") -> Blob:
        """The same values in another shape; the blob itself where it has it already."""
        root = blob.root or blob
        if shape == blob.shape:
            return blob
        if shape == root.shape:
            return root
        if count(shape) != count(root.shape):
            raise NoWayError(f"{dims(root.shape)} does not become {dims(shape)}")
        if len(root.shape) > 1 and shape == (root.shape[0], count(root.shape[1:])):
            top = self.add("Flatten", [root], suffix)
        else:
            kept = [0 if root.shape[i : i + 1] == (n,) else n for i, n in enumerate(shape)]
            top = self.add("Reshape", [root], suffix, shape={"dim": tuple(kept)})
        top.root = root
        return top

    def spread(self, blob: Blob, shape: Shape) -> Blob:
        """A blob as large as ``shape``, which it broadcasts to."""
        blob = self.reshaped(blob, (1,) * (len(shape) - len(blob.shape)) + blob.shape, "axes")
        for axis, (old, new) in enumerate(zip(blob.shape, shape, strict=True)):
            if old != new:
                blob = self.add("Tile", [blob], f"tile{axis}", axis=axis, tiles=new)
        return blob

    def axis(self, axis: int, shape: Shape) -> int:
        """An axis counted from the front.

        Raises:
            NoWayError: there is none.
        """
        try:
            return axis_index(axis, shape)
        except NetError as error:
            raise NoWayError(str(error)) from None

    def axes(self, axes: Iterable[int], shape: Shape) -> tuple[int, ...]:
        """Axes counted from the front, in order."""
        return tuple(sorted({self.axis(axis, shape) for axis in axes}))


def pad_for(size: int, k: int, s: int, d: int, b: int, e: int, out: int) -> tuple[int, int, int]:
    """A Convolution's pad along an axis for zeros before and behind the bottom.

    Returns:
        The pad, the same on either side; and how far the kernel grows by zeros, before and behind,
        because of that.
    """
    from resnet_proto.layers.base_convolution import conv_size

    if conv_size(size, k, s, b, d) == out:
        return b, 0, 0  # what is behind, beyond the last window, nobody reads
    return max(b, e), max(0, e - b), max(0, b - e)


def grown(weight: Values, fits: Sequence[tuple[int, int, int]]) -> Values:
    """A weight (..., kernel ...) with zeros before and behind its kernel."""
    import numpy as np

    around = [(before, behind) for _, before, behind in fits]
    if not any(map(any, around)):
        return weight
    sizes = zip(weight.shape[-len(around) :], around, strict=True)
    affordable((*weight.shape[: -len(around)], *(n + a + b for n, (a, b) in sizes)))
    return np.pad(weight, [(0, 0)] * (weight.ndim - len(around)) + around)


def affordable(shape: Shape) -> None:
    """Refuse to make a weight that is larger than any that nets have.

    Raises:
        NoWayError: it is.
    """
    if count(shape) > MAX_MADE:
        raise NoWayError(f"its weight would become {dims(shape)}, with zeros in it")


def spelled(
    kernel: Shape, stride: Shape, pad: Shape, dilation: Shape | None = None
) -> dict[str, Any]:
    """Kernel, stride, pad and dilation as a prototxt has them, without what is the default."""
    result: dict[str, Any] = {}
    given = {"kernel": kernel, "stride": stride, "pad": pad}
    for (name, sides), idle in zip(given.items(), (None, 1, 0), strict=True):
        one = f"{name}_size" if name == "kernel" else name
        if len(set(sides)) == 1:
            if sides[0] != idle:
                result[one] = sides[0]
        elif len(sides) == 2:
            result |= {f"{name}_h": sides[0], f"{name}_w": sides[1]}
        else:
            result[one] = sides
    if dilation and any(d != 1 for d in dilation):
        result["dilation"] = dilation[:1] if len(set(dilation)) == 1 else dilation
    return result


def broadcast_shape(*shapes: Shape) -> Shape:
    """What shapes broadcast to.

    Raises:
        NoWayError: they do not.
    """
    n = max(map(len, shapes))
    columns = zip(*((1,) * (n - len(shape)) + shape for shape in shapes), strict=True)
    sizes = [{size for size in column if size != 1} for column in columns]
    if any(len(large) > 1 for large in sizes):
        raise NoWayError(f"{' and '.join(map(dims, shapes))} do not go together")
    return tuple(large.pop() if large else 1 for large in sizes)


def along_axis(axis: int) -> dict[str, Any]:
    """The field of a layer whose axis is 1 by default."""
    return {} if axis == 1 else {"axis": axis}


def span_of(shape: Shape) -> tuple[int, int]:
    """Where the axes begin and end that are larger than 1; both 0 if none is."""
    large = [axis for axis, size in enumerate(shape) if size != 1]
    return (large[0], large[-1] + 1) if large else (0, 0)


def runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Places as parts of consecutive ones: start and end of each."""
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(places)) if b != a + 1), len(places)]
    return [(places[i], places[j - 1] + 1) for i, j in pairwise(cuts)]
