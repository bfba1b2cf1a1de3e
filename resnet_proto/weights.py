"""Weights: ``<layer>.<blob>`` -> array, read when asked for; and what Caffe would do with them.

    file -> StoredLayer, Blob -> Weights -> array | bytes for another file
    Weights + Net -> one verdict for each layer

A blob knows its shape, type and size without its values being read. numpy is imported
where the first value is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from resnet_proto.errors import (
    NetError,
    UnknownLayerError,
    UnknownShapeError,
    WeightsError,
    similar,
)
from resnet_proto.layers import Layer, Shape, count, dims, make_layer
from resnet_proto.net import check_counts, labels
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
GUESSES = tuple(
    (n, n * 2**12 * 3**2 * 5 * 7, *(1009 + 2 * n + 20 * i for i in range(axes - 2)))
    for axes in (2, 3, 4, 5)
    for n in (2 * axes + 1, 2 * axes + 2)
)
"""Shapes that a blob of unknown shape is taken for (``guessed``): two for each number of axes, all
sizes different, and channels that groups divide."""
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
        """Whether Caffe copies it into a blob of ``shape``: blob.cpp, ShapeEquals.

        A size of -1 may be any.
        """
        own = () if self.shapeless and not self.legacy else self.shape
        if self.legacy:
            shape = (1,) * (4 - len(shape)) + shape
        return len(own) == len(shape) and all(
            size in (-1, stored) for size, stored in zip(shape, own, strict=True)
        )


class Need(NamedTuple):
    """The shape that a net needs of a blob, as far as it is known.

    Args:
        shapes: one for each number of axes that it may have; a size of -1 is not known.
        closed: whether it can have no other number of axes.
    """

    shapes: tuple[Shape, ...]
    closed: bool = True

    @property
    def known(self) -> bool:
        """Whether there is nothing left to know."""
        return self.closed and len(self.shapes) == 1 and -1 not in self.shapes[0]

    def met_by(self, blob: Blob) -> bool:
        """Whether Caffe copies this blob, or may."""
        if any(map(blob.fits, self.shapes)):
            return True
        tried = blob.legacy or len(blob.shape) in map(len, self.shapes)
        return not (self.closed or tried)

    def text(self, axes: int = 4) -> str:
        """The shape of so many axes, or the first, as people write it."""
        shape = next((s for s in self.shapes if len(s) == axes), self.shapes[0])
        return dims(shape).replace("-1", "?")


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
        self._closed = False

    @classmethod
    def of(cls, arrays: Mapping[str, Any], source: str = "the weights") -> Weights:
        """Weights that are in memory; ``Weights`` are handed back as they are.

        Raises:
            WeightsError: no mapping, a key that is no name, something else than an array of
                numbers, masked values, or ``Weights`` that are closed.
        """
        if isinstance(arrays, Weights):
            arrays.check_open()
            return arrays
        import numpy as np

        if not isinstance(arrays, Mapping):
            raise WeightsError(
                f"{source}: expected a mapping of names to arrays, got {arrays!r:.80}"
            )
        layers: dict[str, list[Blob]] = {}
        for key, value in arrays.items():
            if not isinstance(key, str):
                raise WeightsError(f"{source}: a name is {key!r:.80}; expected '<layer>.<blob>'")
            layer, name = split(key)
            try:
                array = np.asarray(value)
            except (ValueError, TypeError) as error:
                raise WeightsError(f"{source}: '{key}' is no array: {error}") from None
            if array.dtype.kind not in "fiub":
                raise WeightsError(
                    f"{source}: '{key}' is {array.dtype}; expected an array of numbers"
                )
            if np.ma.is_masked(value):
                raise WeightsError(
                    f"{source}: '{key}' has masked values, which no format holds; "
                    "give them a value: filled()"
                )
            blob = Blob(
                layer, layer, "", name, array.shape, array.dtype.name, array.nbytes, Held(array)
            )
            layers.setdefault(layer, []).append(blob)
        return cls((StoredLayer(k, k, "", tuple(v)) for k, v in layers.items()), source)

    def __getitem__(self, key: str) -> Array:
        self.check_open()
        blob = self.blobs.get(key)
        if blob is None:
            raise NoBlobError(key, self)
        return blob.array()

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
        """Let go of the file, as soon as no array of it is in use; no other can be read then."""
        if self._close:
            self._closed = True
            self._close()

    def check_open(self) -> None:
        """Refuse to read what is closed.

        Raises:
            WeightsError: it is.
        """
        if self._closed:
            raise WeightsError(f"{self.source} is closed; read its arrays before, or load it again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NoBlobError(KeyError):
    """Weights have no blob of that name. Names like it are looked for when it is shown."""

    def __init__(self, key: str, weights: Weights) -> None:
        super().__init__(key)
        self.weights = weights

    def __str__(self) -> str:
        key = str(self.args[0])
        hint = similar(key, self.weights) or "; names are <layer>.<blob>, as list(weights) has them"
        return f"no blob '{key}' in {self.weights.source}{hint}"


def split(key: str) -> tuple[str, str]:
    """Layer and blob of a key; a key without a dot, or with nothing behind it, is a layer."""
    layer, dot, name = key.rpartition(".")
    return (layer, name) if dot and name else (key, "")


Needs = Mapping[str, Need]
"""By the names of a layer's blobs, in Caffe's order."""


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
    verdicts: list[Verdict] = []
    copied: set[str] = set()
    for layer in weights.layers:
        target = first.get(layer.name)
        if target is None:
            if layer.blobs:
                verdicts.append(Verdict(layer.label, "ignored", "the net has no such layer"))
            continue
        if target not in wanted:
            verdicts.append(Verdict(layer.label, "unknown", unknown[target]))
            continue
        if not (layer.blobs or wanted[target]):
            continue
        reason = misfit(in_order(layer.blobs, wanted[target]), wanted[target])
        if reason:
            verdicts.append(Verdict(layer.label, "refused", reason))
        elif target in unknown:
            verdicts.append(Verdict(layer.label, "unknown", unknown[target]))
        else:
            again = f"over what came before: Caffe takes both for '{target}'"
            verdicts.append(Verdict(layer.label, "copied", again if target in copied else ""))
        copied.add(target)
    for label, shapes in wanted.items():
        if shapes and label not in copied:
            taken = "" if label in first.values() else "Caffe copies to the first of its name only"
            verdicts.append(Verdict(label, "left at its filler", taken))
    return verdicts


def targets(net: Net) -> tuple[dict[str, Needs], dict[str, str], dict[str, str]]:
    """What each layer needs, by label; the first label of each name; and labels -> why not known.

    A layer that is not known has no needs here, and one behind it has some: see ``guessed``.
    """
    wanted: dict[str, Needs] = {}
    unknown: dict[str, str] = {}
    made: dict[str, Shape] = {}
    layers = net.upgraded().filtered().layers
    names = tuple(labels(layer.name for layer in layers))
    first: dict[str, str] = {}
    for layer, label in zip(layers, names, strict=True):
        first.setdefault(layer.name, label)
    try:
        for step in net.walk():
            wanted[step.label] = exact(step.blobs)
            made.update(zip(step.layer.tops, step.tops, strict=True))
    except (UnknownLayerError, UnknownShapeError) as error:
        rest = layers[len(wanted) :]
        where = f"behind layer '{rest[0].name}' ({rest[0].type})"
        unknown = {names[len(wanted)]: str(error)}
        for label, needs in zip(names[len(wanted) :], guessed(rest, made), strict=True):
            if needs is not None:
                wanted[label] = needs
            if needs is None or not all(need.known for need in needs.values()):
                unknown.setdefault(label, where)
    return wanted, first, unknown


def guessed(layers: Sequence[Layer], made: Mapping[str, Shape]) -> list[Needs | None]:
    """What layers need, the first of which are not known; None where nothing can be said.

    Each blob of unknown shape is taken for one of ``GUESSES`` after the other. What a layer
    needs each time does not depend on it: ``num_output``, the kernel, channels that another
    layer has made.
    """
    runs = [list(guess_run(layers, made, guess)) for guess in GUESSES]
    return [agreed(tries) for tries in zip(*runs, strict=True)]


def guess_run(
    layers: Sequence[Layer], made: Mapping[str, Shape], guess: Shape
) -> Iterator[Mapping[str, Shape] | None]:
    """The blobs of each layer, if every unknown blob had one shape; None where it cannot be."""
    shapes = dict(made)
    for layer in layers:
        bottoms = [shapes.get(name, guess) for name in layer.bottoms]
        try:
            check_counts(layer)
            tops = layer.top_shapes(bottoms)
            yield layer.blob_shapes(bottoms)
        except NetError:
            tops = [guess] * len(layer.tops)
            yield None
        shapes.update(zip(layer.tops, tops, strict=True))


def agreed(tries: Sequence[Mapping[str, Shape] | None]) -> Needs | None:
    """What the blobs have in common, one for each of ``GUESSES``; None if nothing can be said.

    A number of axes that a layer cannot take is out. If it takes one of the two guesses, it is
    their sizes that matter, and any may come.
    """
    possible = [blobs for blobs in tries if blobs is not None]
    pairs = zip(tries[::2], tries[1::2], strict=True)
    if not possible or any((a is None) != (b is None) for a, b in pairs):
        return None
    if len({tuple(blobs) for blobs in possible}) > 1:
        return None
    needs = {}
    for name in possible[0]:
        by_axes: dict[int, Shape] = {}
        for blobs in possible:
            shape = blobs[name]
            before = by_axes.setdefault(len(shape), shape)
            both = zip(before, shape, strict=True)
            by_axes[len(shape)] = tuple(a if a == b else -1 for a, b in both)
        needs[name] = Need(tuple(by_axes.values()), len(by_axes) == 1)
    return needs


def exact(blobs: Mapping[str, Shape]) -> Needs:
    """The needs of a layer whose shapes are known."""
    return {name: Need((shape,)) for name, shape in blobs.items()}


def in_order(blobs: tuple[Blob, ...], wanted: Needs) -> tuple[Blob, ...]:
    """The blobs as Caffe numbers them; files of named arrays may have another order."""
    order = {name: i for i, name in enumerate(wanted)}
    return tuple(sorted(blobs, key=lambda blob: order.get(blob.name, len(order))))


def misfit(blobs: tuple[Blob, ...], wanted: Needs) -> str:
    """Why Caffe does not copy these blobs into those; empty if it does, or may."""
    needed = ", ".join(need.text() for need in wanted.values()) or "none"
    if wanted and not blobs:
        return f"the weights have none for it, the net needs {needed}"
    if len(blobs) != len(wanted):
        stored = ", ".join(dims(blob.shape) for blob in blobs) or "none"
        has = f"{counted(len(blobs), 'blob')} ({stored}) in the weights"
        inside = len(wanted) == 3 < len(blobs) and "scale_factor" in wanted
        hint = "; for gamma and beta inside say use_weight_bias: true in batch_norm_param"
        return f"{has}, {len(wanted)} ({needed}) in the net{hint if inside else ''}"
    for blob, (name, need) in zip(blobs, wanted.items(), strict=True):
        if not need.met_by(blob):
            stored = "stored without a shape" if blob.shapeless else dims(blob.shape)
            axes = len(blob.shape)
            return f"{name} is {stored} in the weights, the net needs {need.text(axes)}"
    return ""


def fit(weights: Weights, label: str, wanted: Needs) -> tuple[Blob, ...]:
    """The blobs of one layer, in Caffe's order.

    Raises:
        WeightsError: they are not those that the net needs.
    """
    weights.check_open()
    blobs = in_order(weights.blobs_of.get(label, ()), wanted)
    reason = misfit(blobs, wanted)
    if not reason and [blob.name for blob in blobs] != list(wanted):
        names = ", ".join(blob.name for blob in blobs)
        reason = f"its blobs are {names} in the weights, {', '.join(wanted)} in the net"
    if reason:
        raise WeightsError(
            f"{weights.source}: layer '{label}' does not fit the net: {reason}; "
            "`resnet-proto inspect` with --net lists every layer"
        )
    return blobs


def fitted(
    weights: Weights, net: Net, warnings: list[str] | None = None
) -> list[tuple[Layer, str, tuple[Blob, ...]]]:
    """Each layer of the net at phase TEST with its label and its blobs, in Caffe's order.

    Here the second layer of a name has blobs of its own, ``name#2``.

    Args:
        weights: of any source.
        net: its layers are those of the result.
        warnings: gets a sentence if there are layers that cannot be checked: how many, and why.

    Raises:
        WeightsError: blobs that are missing, are too many, or have another shape.
    """
    wanted, _, unknown = targets(net)
    if unknown and warnings is not None:
        partly = sum(label in wanted for label in unknown)
        why = next(iter(unknown.values())).partition("; known:")[0]
        warnings.append(
            f"{len(unknown) - partly} of the net's layers cannot be checked with the weights, and "
            f"{partly} only in part: {why}"
        )
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
        stored = fit(weights, step.label, exact(step.blobs))
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
        given = np.asarray(weights[key])
        if given.dtype.kind not in "fiub":
            raise WeightsError(
                f"layer '{step.label}': {name} is {given.dtype} in the weights; "
                "give an array of real numbers"
            )
        array = np.require(given, dtype, ["C", "A"])
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
    ours, theirs = a.data.parts(), b.data.parts()
    if a.dtype != b.dtype:
        import numpy as np

        wider = np.promote_types(a.dtype, b.dtype)
        ours, theirs = widened(a, wider), widened(b, wider)
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


def widened(blob: Blob, dtype: np.dtype[Any]) -> Iterator[memoryview]:
    """The bytes of a blob in another type, part by part."""
    import numpy as np

    stored = np.dtype(blob.dtype).newbyteorder("<")
    for part in blob.data.parts():
        with np.errstate(invalid="ignore"):  # signalling nan
            yield from Held(np.frombuffer(part, stored).astype(dtype)).parts()


def random_weights(
    net: Net,
    seed: int = 0,
    shapes: Mapping[str, Shape] | None = None,
    wanted: Iterable[str] | None = None,
) -> Weights:
    """Float32 weights for every layer of a net, so that values neither vanish nor explode.

    Convolutions are He-scaled; BatchNorm's statistics are about those that the blob would have;
    a branch that ends in a sum is damped by the number of sums. The same seed gives the same.
    ``shapes`` and ``wanted`` are those of ``Net.walk``.

    Raises:
        UnknownLayerError: a layer type whose blobs are not known.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    steps = list(net.walk(shapes=shapes, wanted=wanted))
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

    factor = SCALE_FACTOR if layer.type == "BatchNorm" else 1.0
    if name == "scale_factor":
        return np.full(shape, SCALE_FACTOR, np.float32)
    if name == "mean":
        return spread(-0.1, 0.1) * np.float32(factor * power**0.5)
    if name == "variance":
        return spread(0.5, 1.5) * np.float32(factor * power)
    if name == "bias" or name.startswith("b_"):
        return spread(-0.1, 0.1)
    if layer.type in ("Scale", "BN", "Normalize"):
        return spread(0.5, 1.5) * np.float32(damp)
    if layer.type == "PReLU":
        return spread(0.1, 0.4)
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
        "BN": 1.0,
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
