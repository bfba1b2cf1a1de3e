"""Weights: ``<layer>.<blob>`` -> array, read when asked for.

    file -> StoredLayer, Blob -> Weights -> array | bytes for another file
    Net -> Weights, drawn at random

A blob knows its shape, type and size without its values being read. numpy is imported
where the first value is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from resnet_proto.errors import ResNetProtoError, WeightsError, similar
from resnet_proto.layers import MAX_AXES, Layer, Shape, count, make_layer
from resnet_proto.net import check_net
from resnet_proto.shared import Keys
from resnet_proto.words import counted

if TYPE_CHECKING:
    import numpy as np

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

RANDOM = "random weights"
"""The source of weights that are in no file."""
PART = 1 << 20
"""Bytes that are handled at a time, so that a blob may be larger than the memory, and a part
stays in the cache: with 16 MB a conversion takes half as long again (bench/formats.py)."""
SCALE_FACTOR = 999.98
"""BatchNorm's third blob after some thousand iterations of training; 1 would hide its use."""
IMAGE_POWER = 128**2 / 3
"""Mean square of an image whose values are spread over -128..128."""


class BlobData(Protocol):
    """Where a blob's values are."""

    def array(self) -> Array:
        """All values, flat."""

    def parts(self) -> Iterator[memoryview]:
        """Their bytes, little-endian and in order, at most ``PART`` at a time."""


class Made:
    """``BlobData`` that is made when it is asked for: ``array`` says of what."""

    __slots__ = ()

    def array(self) -> Array:
        """All values, flat."""
        raise NotImplementedError

    def parts(self) -> Iterator[memoryview]:
        """Views of them."""
        yield from Held(self.array()).parts()


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
        stored: the type in the file, where numpy lacks it; ``dtype`` is what it is widened to.
    """

    layer: str
    layer_name: str
    type: str
    name: str
    shape: Shape
    dtype: str
    nbytes: int
    data: BlobData
    legacy: bool = False
    shapeless: bool = False
    stored: str = ""

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


class StoredLayer(NamedTuple):
    """One layer of a weight file, with as many blobs as it has there (often none)."""

    label: str
    name: str
    type: str
    blobs: tuple[Blob, ...] = ()


class Weights(Mapping[str, "Array"]):
    """``<layer>.<blob>`` -> array, in the order of the file.

    Each access reads the blob anew, in its stored shape and type, and raises a ``NoBlobError``
    where there is none. A layer's name may hold dots: split a key at its last one.

    Attributes:
        source: the file, for messages.
        net_text: the net's prototxt, where the file carries it.
        layers: every layer of the file, also those without blobs.
        blobs: key -> ``Blob``; nothing is read.
        blobs_of: label -> the blobs of that layer.
        hdf5: whether it is an HDF5 file, where Caffe finds fewer layers (``match``).
        provenance: what a file that is written of them says of where they come from.
        options: those that the file was written with, where it says so.
    """

    hdf5 = False
    provenance: Mapping[str, str] = MappingProxyType({})
    options: Mapping[str, str] = MappingProxyType({})

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
        self._last: dict[str, tuple[Keys, str]] = {}

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
                raise WeightsError(f"{source}: '{key}' is not an array: {error}") from None
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

    def last(self, keys: Keys) -> str:
        """The last of some keys in the order of the file; empty if it has none of them.

        Of the copies of what layers share it is the one that counts.
        """
        known, found = self._last.get(keys[0], ((), ""))
        if known is not keys:  # many layers may share, and each asks
            places = self._places
            found = max(keys, key=lambda key: places.get(key, -1))
            found = found if found in places else ""
            self._last[keys[0]] = keys, found
        return found

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: i for i, key in enumerate(self.blobs)}

    def forget(self, label: str) -> None:
        """Give back the memory in which a mapped file holds a layer's values.

        Whoever copies all of a large file needs it once that way, and not twice.
        """
        for blob in self.blobs_of.get(label, ()):
            if give_back := getattr(blob.data, "forget", None):
                give_back()

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


class NoBlobError(WeightsError, KeyError):
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
        ResNetProtoError: no net, or the seed is no whole number from 0 on.
    """
    import numpy as np

    check_net(net)
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ResNetProtoError(f"seed is {seed}; a whole number from 0 on is needed") from None
    steps = list(net.walk(shapes=shapes, wanted=wanted))
    damped, n_sums = branch_ends(steps)
    power: dict[str, float] = {}  # mean square of each blob
    cut: dict[str, bool] = {}  # whether a ReLU has cut it, or a part of it, at 0
    layers = {step.label: StoredLayer(step.label, step.layer.name, step.layer.type)
              for step in steps}  # fmt: skip
    made: set[str] = set()
    for step in steps:
        layer = step.layer
        powers = [power[name] for name in layer.bottoms]
        bottom_cut = any(cut[name] for name in layer.bottoms)
        damp = n_sums**-0.5 if step.label in damped else 1.0
        for name, shape in step.blobs.items():
            key = step.shared.get(name, (f"{step.label}.{name}",))[0]
            if key in made:
                continue
            made.add(key)
            bottom = max(powers, default=IMAGE_POWER)
            value = (
                layer.fixed_blob(shape)
                if layer.fixed
                else random_blob(rng, layer, name, shape, bottom, damp)
            )
            label, own = split(key)  # of the owner, which may be a layer that nobody needs
            owner = layers.get(label) or StoredLayer(label, label, layer.type)
            blob = Blob(
                label, owner.name, owner.type, own, shape, value.dtype.name, value.nbytes,
                Held(value),
            )  # fmt: skip
            layers[label] = owner._replace(blobs=(*owner.blobs, blob))
        for name in layer.tops:
            power[name] = top_power(layer, powers, bottom_cut, damp)
            cut[name] = layer.type == "ReLU" or (bottom_cut and not step.blobs)
    return Weights(layers.values(), RANDOM)


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
        # a gate of SENet, the second bottom, lets a part through
        "Scale": damp**2 * math.prod(bottoms),
        "Axpy": math.prod(bottoms[:2]) + sum(bottoms[2:]),
        # A blob about 0 loses half; one that a ReLU has cut, plus a small branch, next to nothing.
        "ReLU": most if bottom_cut else most / 2,
        "Eltwise": sum(bottoms),
        "Sigmoid": 0.5,
        "TanH": min(1.0, most),
    }.get(layer.type, most)


def branch_ends(steps: Iterable[Step]) -> tuple[set[str], int]:
    """Labels of the layers that end a residual branch, and the number of sums.

    Of the branches of a sum that end in weights, the first is left alone if there is no
    other: it is the projection. SENet's gate, which only makes less of a branch, ends none.
    """
    ends: set[str] = set()
    n_sums = 0
    writer: dict[str, str | None] = {}
    gated: dict[str, str | None] = {}  # who wrote what a gate is for, a ReLU aside
    for step in steps:
        layer = step.layer
        own: str | None = None
        if layer.type in ("Eltwise", "Axpy"):
            n_sums += 1
            found = [writer.get(name) for name in layer.bottoms]
            if layer.type == "Axpy":  # bottoms a, x, y: y + a x
                found = [found[2], gated.get(layer.bottoms[1])]
            ends.update(label for label in found[all(found) :] if label)
        elif layer.type == "Scale" and len(layer.bottoms) == 2:
            own = gated.get(layer.bottoms[0])
        elif layer.type in ("Convolution", "Deconvolution", "InnerProduct", "Scale"):
            own = step.label
        passed = gated.get(layer.bottoms[0]) if layer.type == "ReLU" else own
        writer.update(dict.fromkeys(layer.tops, own))
        gated.update(dict.fromkeys(layer.tops, passed))
    return ends, n_sums
