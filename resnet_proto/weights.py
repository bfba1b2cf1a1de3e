"""Weights: ``<layer>.<blob>`` -> array, read when asked for; and what Caffe would do with them.

    file -> StoredLayer, Blob -> Weights -> array | bytes for another file
    Weights + Net -> one verdict for each layer

A blob knows its shape, type and size without its values being read. numpy is imported
where the first value is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from resnet_proto.errors import UnknownLayerError, UnknownShapeError, WeightsError
from resnet_proto.layers import Layer, Shape, count, dims, make_layer
from resnet_proto.net import labels
from resnet_proto.words import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

PART = 1 << 20
"""Bytes that are handled at a time, so that a blob may be larger than the memory, and a part
stays in the cache: with 16 MB a conversion takes half as long again (bench/formats.py)."""
MAX_AXES = 32  # blob.hpp, kMaxBlobAxes
SCALE_FACTOR = 999.98
"""BatchNorm's third blob after some thousand iterations of training; 1 would hide its use."""
IMAGE_POWER = 128**2 / 3
"""Mean square of an image whose values are spread over -128..128."""


class Data(Protocol):
    """Where a blob's values are."""

    def array(self) -> Array:
        """All values, flat."""

    def parts(self) -> Iterator[memoryview]:
        """Their bytes, little-endian and in order, at most ``PART`` at a time."""


@dataclass(frozen=True, slots=True)
class Held:
    """Values in memory."""

    values: Array

    def array(self) -> Array:
        """The values themselves, flat."""
        return self.values.reshape(-1)

    def parts(self) -> Iterator[memoryview]:
        """Views of the values; a copy where they are not contiguous or big-endian."""
        import numpy as np

        flat = np.ascontiguousarray(self.values.reshape(-1))
        flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
        return slices(memoryview(flat.view(np.uint8).data))


def slices(data: memoryview) -> Iterator[memoryview]:
    """The same bytes, at most ``PART`` at a time."""
    return (data[i : i + PART] for i in range(0, len(data), PART))


class Blob(NamedTuple):
    """One blob as it is stored.

    Args:
        layer: the layer's label: its name, and ``name#2`` for the second layer of one name.
        layer_name: as the file has it. ``type`` likewise; empty where the file has none.
        name: ``weight``, ``mean`` ...; the blob's number where the layer's type is not known.
        shape: as stored. Caffe's old files give every blob four axes.
        dtype: numpy's name of it. ``nbytes`` is the size of the values.
        data: where the values are.
        legacy: stored as num, channels, height, width: Caffe compares from the right.
        shapeless: stored without a shape, which Caffe takes for a single value.
    """

    layer: str
    layer_name: str
    type: str
    name: str
    shape: Shape
    dtype: str
    nbytes: int
    data: Data
    legacy: bool = False
    shapeless: bool = False

    @property
    def key(self) -> str:
        """``<layer>.<blob>``."""
        return f"{self.layer}.{self.name}" if self.name else self.layer

    def array(self) -> Array:
        """The values: where possible a read-only view, which may be unaligned."""
        return self.data.array().reshape(self.shape)

    def fits(self, shape: Shape) -> bool:
        """Whether Caffe copies it into a blob of ``shape``: blob.cpp, ShapeEquals."""
        if self.legacy:
            return (1,) * (4 - len(shape)) + shape == self.shape
        return shape == (() if self.shapeless else self.shape)


class StoredLayer(NamedTuple):
    """One layer of a weight file, with as many blobs as it has there (often none)."""

    label: str
    name: str
    type: str
    blobs: tuple[Blob, ...] = ()


class Weights(Mapping[str, "Array"]):
    """``<layer>.<blob>`` -> array, in the order of the file.

    Each access reads the blob anew. A layer's name may hold dots: split a key at its last one.

    Attributes:
        source: the file, for messages.
        net_text: the net's prototxt, where the file carries it.
        layers: every layer of the file, also those without blobs.
        blobs: key -> ``Blob``; nothing is read.
        blobs_of: label -> the blobs of that layer.
    """

    def __init__(
        self,
        layers: Iterable[StoredLayer],
        source: str = "the weights",
        net_text: str | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        if isinstance(layers, Mapping):
            raise TypeError("arrays by name become weights with Weights.of(arrays)")
        self.layers = tuple(layers)
        self.source = source
        self.net_text = net_text
        self.blobs: Mapping[str, Blob] = {b.key: b for layer in self.layers for b in layer.blobs}
        self.blobs_of = {layer.label: layer.blobs for layer in self.layers}
        self._close = close

    @classmethod
    def of(cls, arrays: Mapping[str, Any], source: str = "the weights") -> Weights:
        """Weights that are in memory; ``Weights`` are handed back as they are.

        Raises:
            WeightsError: an array of something else than numbers.
        """
        if isinstance(arrays, Weights):
            return arrays
        import numpy as np

        layers: dict[str, list[Blob]] = {}
        for key, value in arrays.items():
            layer, name = split(key)
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise WeightsError(f"'{key}' is {array.dtype}; expected an array of numbers")
            blob = Blob(
                layer, layer, "", name, array.shape, array.dtype.name, array.nbytes, Held(array)
            )
            layers.setdefault(layer, []).append(blob)
        return cls((StoredLayer(k, k, "", tuple(v)) for k, v in layers.items()), source)

    def __getitem__(self, key: str) -> Array:
        return self.blobs[key].array()

    def __iter__(self) -> Iterator[str]:
        return iter(self.blobs)

    def __len__(self) -> int:
        return len(self.blobs)

    def __contains__(self, key: object) -> bool:
        return key in self.blobs

    def __repr__(self) -> str:
        return f"<Weights {self.source}: {counted(len(self), 'blob')}, {self.nbytes:,} bytes>"

    @property
    def nbytes(self) -> int:
        """Size of all values."""
        return sum(blob.nbytes for blob in self.blobs.values())

    def close(self) -> None:
        """Let go of the file, as soon as no array of it is in use."""
        if self._close:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def split(key: str) -> tuple[str, str]:
    """Layer and blob of a key; a key without a dot, or with nothing behind it, is a layer."""
    layer, dot, name = key.rpartition(".")
    return (layer, name) if dot and name else (key, "")


@lru_cache(maxsize=1024)
def possible(shape: Shape) -> bool:
    """Whether there can be an array of this shape; numpy counts sizes of 0 as 1 for that."""
    return (
        len(shape) <= MAX_AXES
        and all(size >= 0 for size in shape)
        and count(tuple(size or 1 for size in shape)) < 1 << 60
    )


@lru_cache(maxsize=1024)
def blob_names(type: str, n_bottoms: int, count: int) -> tuple[str, ...]:
    """Names of a layer's blobs; those that the type does not name are numbered."""
    names = make_layer("", type, ("",) * n_bottoms).blob_names(count)
    return (*names, *(str(i) for i in range(len(names), count)))


@dataclass(frozen=True)
class Verdict:
    """What Caffe would do about one layer.

    Args:
        layer: its label, in the file or else in the net.
        verdict: ``copied``; ``ignored`` (only in the file); ``left at its filler`` (only in the
            net); ``refused`` (Caffe ends); ``unknown`` (the net's shapes are not known there).
        reason: why, where it is not plain.
    """

    layer: str
    verdict: str
    reason: str = ""


def match(weights: Weights, net: Net) -> list[Verdict]:
    """What Caffe would do with these weights and this net: net.cpp, CopyTrainedLayersFrom.

    It goes by name, and by the first layer of a name. Layers without blobs are left out.
    """
    wanted, first, unknown = targets(net)
    verdicts = []
    copied: set[str] = set()
    for layer in weights.layers:
        target = first.get(layer.name)
        if target is None:
            if layer.name in unknown:
                verdicts.append(Verdict(layer.label, "unknown", unknown[layer.name]))
            elif layer.blobs:
                verdicts.append(Verdict(layer.label, "ignored", "the net has no such layer"))
            continue
        if not (layer.blobs or wanted[target]):
            continue
        reason = misfit(in_order(layer.blobs, wanted[target]), wanted[target])
        if reason:
            verdicts.append(Verdict(layer.label, "refused", reason))
        else:
            again = f"over what came before: Caffe takes both for '{target}'"
            verdicts.append(Verdict(layer.label, "copied", again if target in copied else ""))
        copied.add(target)
    for label, shapes in wanted.items():
        if shapes and label not in copied:
            taken = "" if label in first.values() else "Caffe copies to the first of its name only"
            verdicts.append(Verdict(label, "left at its filler", taken))
    return verdicts


def targets(net: Net) -> tuple[dict[str, Mapping[str, Shape]], dict[str, str], dict[str, str]]:
    """Blob shapes by label, the first label of each name, and for unknown layers why."""
    wanted: dict[str, Mapping[str, Shape]] = {}
    first: dict[str, str] = {}
    unknown: dict[str, str] = {}
    try:
        for step in net.walk():
            wanted[step.label] = step.blobs
            first.setdefault(step.layer.name, step.label)
    except (UnknownLayerError, UnknownShapeError) as error:
        first_unknown, *behind = net.upgraded().filtered().layers[len(wanted) :]
        where = f"behind layer '{first_unknown.name}' ({first_unknown.type})"
        unknown = dict.fromkeys((layer.name for layer in behind), where)
        unknown[first_unknown.name] = str(error)
    return wanted, first, unknown


def in_order(blobs: tuple[Blob, ...], wanted: Mapping[str, Shape]) -> tuple[Blob, ...]:
    """The blobs as Caffe numbers them; files of named arrays may have another order."""
    order = {name: i for i, name in enumerate(wanted)}
    return tuple(sorted(blobs, key=lambda blob: order.get(blob.name, len(order))))


def misfit(blobs: tuple[Blob, ...], wanted: Mapping[str, Shape]) -> str:
    """Why Caffe does not copy these blobs into those; empty if it does."""
    if wanted and not blobs:
        return f"the weights have none for it, the net needs {shapes_text(wanted.values())}"
    if len(blobs) != len(wanted):
        stored = f"{counted(len(blobs), 'blob')} ({shapes_text(blob.shape for blob in blobs)})"
        return f"{stored} in the weights, {len(wanted)} ({shapes_text(wanted.values())}) in the net"
    for blob, (name, shape) in zip(blobs, wanted.items(), strict=True):
        if not blob.fits(shape):
            stored = "stored without a shape" if blob.shapeless else dims(blob.shape)
            return f"{name} is {stored} in the weights, the net needs {dims(shape)}"
    return ""


def shapes_text(shapes: Iterable[Shape]) -> str:
    """Shapes in one line."""
    return ", ".join(map(dims, shapes)) or "none"


def fit(weights: Weights, label: str, wanted: Mapping[str, Shape]) -> tuple[Blob, ...]:
    """The blobs of one layer, in Caffe's order.

    Raises:
        WeightsError: they are not those that the net needs.
    """
    blobs = in_order(weights.blobs_of.get(label, ()), wanted)
    reason = misfit(blobs, wanted)
    if not reason and [blob.name for blob in blobs] != list(wanted):
        names = ", ".join(blob.name for blob in blobs)
        reason = f"its blobs are {names} in the weights, {', '.join(wanted)} in the net"
    if reason:
        raise WeightsError(
            f"{weights.source} does not fit the net: layer '{label}': {reason}; "
            "`resnet-proto inspect` with --net lists every layer"
        )
    return blobs


def fitted(weights: Weights, net: Net) -> list[tuple[Layer, str, tuple[Blob, ...]]]:
    """Each layer of the net at phase TEST with its label and its blobs, in Caffe's order.

    Here the second layer of a name has blobs of its own, ``name#2``.

    Raises:
        WeightsError: blobs that are missing, are too many, or have another shape.
    """
    wanted, _, _ = targets(net)
    stored = weights.blobs_of
    layers = net.upgraded().filtered().layers
    rows = []
    for layer, label in zip(layers, labels(layer.name for layer in layers), strict=True):
        blobs = stored.get(label, ())
        if label in wanted:
            blobs = fit(weights, label, wanted[label])
        rows.append((layer, label, blobs))
    return rows


def step_blobs(step: Step, weights: Mapping[str, Array], dtype: DTypeLike) -> list[Array]:
    """The weight blobs of one layer, in ``dtype``, contiguous and aligned.

    ``Weights`` fit as Caffe has it (``fit``). Of a plain mapping only the blobs that are needed
    are looked at, and (1, 1, 1, N) is (N,).

    Raises:
        WeightsError: one is missing, or its shape is another.
    """
    import numpy as np

    if isinstance(weights, Weights):
        stored = fit(weights, step.label, step.blobs)
        return [
            np.require(blob.array(), dtype, ["C", "A"]).reshape(shape)
            for blob, shape in zip(stored, step.blobs.values(), strict=True)
        ]
    arrays = []
    for name, shape in step.blobs.items():
        key = f"{step.label}.{name}"
        if key not in weights:
            raise WeightsError(
                f"layer '{step.label}': {name} is missing in the weights, "
                f"the net needs {dims(shape)}"
            )
        array = np.require(weights[key], dtype, ["C", "A"])
        if without_ones(array.shape) != without_ones(shape):
            raise WeightsError(
                f"layer '{step.label}': {name} is {dims(array.shape)} in the weights, "
                f"the net needs {dims(shape)}"
            )
        arrays.append(array.reshape(shape))
    return arrays


def without_ones(shape: Shape) -> Shape:
    """The shape without the ones in front."""
    return without_ones(shape[1:]) if shape[:1] == (1,) else shape


def same_values(a: Blob, b: Blob) -> bool:
    """Whether two blobs hold the same values, to the bit, in bounded memory."""
    if a.dtype != b.dtype:
        import numpy as np

        wider = np.promote_types(a.dtype, b.dtype)
        return a.array().astype(wider).tobytes() == b.array().astype(wider).tobytes()
    ours, theirs = a.data.parts(), b.data.parts()
    x = y = memoryview(b"")
    while True:
        x, y = x or next(ours, x), y or next(theirs, y)
        size = min(len(x), len(y))
        if not size:
            return len(x) == len(y)
        # Slices of 64 kB stay in the cache; memoryviews themselves compare item by item.
        if any(x[i : min(i + 65536, size)].tobytes() != y[i : min(i + 65536, size)].tobytes()
               for i in range(0, size, 65536)):  # fmt: skip
            return False
        x, y = x[size:], y[size:]


def random_weights(net: Net, seed: int = 0, shapes: Mapping[str, Shape] | None = None) -> Weights:
    """Float32 weights for every layer of a net, so that values neither vanish nor explode.

    Convolutions are He-scaled; BatchNorm's statistics are about those that the blob would have;
    a branch that ends in a sum is damped by the number of sums. The same seed gives the same.
    ``shapes`` are those of ``Net.walk``.

    Raises:
        UnknownLayerError: a layer type whose blobs are not known.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    steps = list(net.walk(shapes=shapes))
    damped, n_sums = branch_ends(steps)
    power: dict[str, float] = {}  # mean square of each blob
    cut: dict[str, bool] = {}  # whether a ReLU has cut it, or a part of it, at 0
    layers = []
    for step in steps:
        layer = step.layer
        arrays: dict[str, Array] = {}
        powers = [power[name] for name in layer.bottoms]
        bottom_cut = any(cut[name] for name in layer.bottoms)
        damp = n_sums**-0.5 if step.label in damped else 1.0
        for name, shape in step.blobs.items():
            bottom = max(powers, default=IMAGE_POWER)
            if layer.fixed:
                arrays[name] = layer.fixed_blob(shape)
                continue
            arrays[name] = random_blob(rng, layer, name, shape, bottom, damp)
        for name in layer.tops:
            power[name] = top_power(layer, powers, bottom_cut, damp)
            cut[name] = layer.type == "ReLU" or (bottom_cut and not step.blobs)
        blobs = (
            Blob(step.label, layer.name, layer.type, name, v.shape, v.dtype.name, v.nbytes, Held(v))
            for name, v in arrays.items()
        )
        layers.append(StoredLayer(step.label, layer.name, layer.type, tuple(blobs)))
    return Weights(layers, "random weights")


def random_blob(
    rng: np.random.Generator, layer: Layer, name: str, shape: Shape, power: float, damp: float
) -> Array:
    """One blob of a layer whose bottom has this mean square."""
    import numpy as np

    def spread(low: float, high: float) -> Array:
        return rng.uniform(low, high, shape).astype(np.float32)

    if name == "scale_factor":
        return np.full(shape, SCALE_FACTOR, np.float32)
    if name == "mean":
        return spread(-0.1, 0.1) * np.float32(SCALE_FACTOR * power**0.5)
    if name == "variance":
        return spread(0.5, 1.5) * np.float32(SCALE_FACTOR * power)
    if name == "bias":
        return spread(-0.1, 0.1)
    if layer.type == "Scale":
        return spread(0.5, 1.5) * np.float32(damp)
    fan_in = max(1, layer.fan_in(shape))
    return rng.standard_normal(shape, np.float32) * np.float32(damp * (2 / fan_in) ** 0.5)


def top_power(layer: Layer, bottoms: list[float], bottom_cut: bool, damp: float) -> float:
    """Mean square of a layer's top, roughly."""
    if layer.from_outside:
        return IMAGE_POWER
    most = max(bottoms, default=0.0)
    return {
        "Convolution": 2 * damp**2 * most,
        "Deconvolution": 2 * damp**2 * most,
        "InnerProduct": 2 * damp**2 * most,
        "BatchNorm": 1.0,
        "Scale": damp**2 * most,
        # A blob about 0 loses half; one that a ReLU has cut, plus a small branch, next to nothing.
        "ReLU": most if bottom_cut else most / 2,
        "Eltwise": sum(bottoms),
        "Sigmoid": 0.5,
        "TanH": min(1.0, most),
    }.get(layer.type, most)


def branch_ends(steps: Iterable[Step]) -> tuple[set[str], int]:
    """Labels of the layers that end a residual branch, and the number of sums.

    Of the branches of a sum that end in weights, the first is left alone if there is no
    other: it is the projection.
    """
    ends: set[str] = set()
    n_sums = 0
    writer: dict[str, str | None] = {}
    for step in steps:
        layer = step.layer
        if layer.type == "Eltwise":
            n_sums += 1
            found = [writer.get(name) for name in layer.bottoms]
            ends.update(label for label in found[all(found) :] if label)
        weighted = layer.type in ("Convolution", "Deconvolution", "InnerProduct", "Scale")
        writer.update(dict.fromkeys(layer.tops, step.label if weighted else None))
    return ends, n_sums
