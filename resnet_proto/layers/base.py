"""Fields as prototxt sets them -> a layer -> its shapes, blobs, MACs and tops.

A ``Layer`` is data first: name, type, bottoms, tops, and every other field of
Caffe's ``LayerParameter`` exactly as it was set. A subclass for each Caffe
type says what Caffe means by them. Defaults stand in the subclass, as
``Field``; a test holds them against the schema.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

from resnet_proto.errors import NetError, ShapeError, UnknownLayerError
from resnet_proto.words import Word

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.floating[Any]]]

Shape = tuple[int, ...]
T = TypeVar("T")

MAX_COUNT = 2**31 - 1  # blob.cpp, Reshape: "blob size exceeds INT_MAX"


def normal(value: Any) -> Any:
    """The one form of a field's value: floats as float32 holds them, tuples, dicts of such.

    Caffe's floats are 32 bits wide, so 1e-5 in text and in a binary file are one value. A
    repeated field without values is not set.
    """
    if isinstance(value, float):
        try:
            return float(struct.unpack("<f", struct.pack("<f", value))[0])
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    if isinstance(value, Mapping):
        return {key: normal(item) for key, item in value.items() if item not in ((), [])}
    if isinstance(value, list | tuple):
        return tuple(normal(item) for item in value)
    return value


class Field(Generic[T]):
    """One field of a layer's own message: the value that was set, else Caffe's default."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: Layer, owner: type) -> T: ...
    def __get__(self, layer: Layer | None, owner: type) -> Self | T:
        if layer is None:
            return self
        value: T = layer.param.get(self.name, self.default)
        return value


@dataclass(frozen=True)
class Layer:
    """One layer of a net, as its prototxt says it.

    ``make_layer`` gives it the class of its type, as reading a prototxt does. Made by itself it
    is a layer of a type that nobody knows, whatever ``type`` says.

    Args:
        name: as Caffe matches weights by it.
        type: Caffe's type string, ``Convolution``.
        bottoms: names of the blobs it reads. ``tops`` likewise, that it writes.
        fields: every other field that was set, by Caffe's name: scalars, strings
            (an enum by its name), mappings for messages, tuples for repeated fields.
    """

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    message: ClassVar[str] = ""
    """The layer's own message, ``convolution_param``."""
    n_bottoms: ClassVar[tuple[int, int]] = (1, 1)
    """Fewest and most bottoms; ``n_tops`` likewise."""
    n_tops: ClassVar[tuple[int, int]] = (1, 1)
    learned: ClassVar[bool] = True
    """False where the blobs are statistics and no gradient reaches them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", normal(self.fields))
        if type(self.bottoms) is not tuple:
            object.__setattr__(self, "bottoms", names_of(self.bottoms))
        if type(self.tops) is not tuple:
            object.__setattr__(self, "tops", names_of(self.tops))

    def __hash__(self) -> int:
        return hash((self.name, self.type, self.bottoms, self.tops))

    @classmethod
    def of(cls, name: str, bottoms: str | Sequence[str], top: str, **values: Any) -> Self:
        """A layer of this type with one top; ``values`` are the fields of its own message.

        Raises:
            NetError: a value for a field that the type does not have.
        """
        for key, value in values.items():
            known = getattr(cls, key, None)
            if not isinstance(known, Field):
                raise NetError(f"layer '{name}': {cls.__name__} has no field '{key}'")
            if isinstance(known.default, tuple) and not isinstance(value, list | tuple):
                values[key] = (value,)
            elif isinstance(known.default, Word):
                values[key] = Word(value)
        bottoms = (bottoms,) if isinstance(bottoms, str) else tuple(bottoms)
        return cls(name, cls.__name__, bottoms, (top,), {cls.message: values} if values else {})

    @property
    def param(self) -> Mapping[str, Any]:
        """The fields that were set in the layer's own message."""
        value: Mapping[str, Any] = self.fields.get(self.message, {})
        return value

    @property
    def in_place(self) -> bool:
        """Whether the first top overwrites the first bottom."""
        return self.tops[:1] == self.bottoms[:1] != ()

    def may_work_in_place(self) -> bool:
        """Whether a top may overwrite its bottom; Caffe runs others too, and their results are
        wrong, or right by chance (a convolution's, if its kernel is not 1x1).
        """
        return False

    @classmethod
    def known_fields(cls) -> dict[str, Field[Any]]:
        """The fields of the type's own message, in Caffe's order."""
        return {k: v for k, v in vars(cls).items() if isinstance(v, Field)}

    def resolved(self) -> dict[str, Any]:
        """The type's own message with Caffe's defaults filled in."""
        return {key: getattr(self, key) for key in self.known_fields()}

    def blob_names(self, count: int) -> tuple[str, ...]:
        """Names for the first ``count`` blobs, in the order in which Caffe stores them."""
        return tuple(str(i) for i in range(count))

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        """Name and shape of each weight blob, in Caffe's order."""
        return {}

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shape of each top.

        Raises:
            ShapeError: these bottoms cannot be taken.
        """
        raise UnknownLayerError(
            f"layer '{self.name}' has type '{self.type}', whose shapes are not known; "
            f"known: {', '.join(sorted(REGISTRY))}"
        )

    def macs(
        self, bottoms: Sequence[Shape], tops: Sequence[Shape], blobs: Mapping[str, Shape]
    ) -> int:
        """Multiply-adds of one forward pass; only products with weights count."""
        return 0

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Each top, computed at phase TEST in the dtype of the bottoms.

        Args:
            bottoms: activations, left as they are.
            blobs: the weight blobs in the order of ``blob_shapes``.
        """
        raise UnknownLayerError(
            f"layer '{self.name}' has type '{self.type}', which cannot be computed; "
            f"known: {', '.join(sorted(REGISTRY))}"
        )


def names_of(value: str | Iterable[str]) -> tuple[str, ...]:
    """The names of blobs; one name by itself is a list of one, and not of its letters."""
    return (value,) if isinstance(value, str) else tuple(value)


REGISTRY: dict[str, type[Layer]] = {}


def register(cls: type[Layer]) -> type[Layer]:
    """Class decorator: this class is Caffe's type of the same name."""
    if cls.__name__ in REGISTRY:
        raise ValueError(f"layer type '{cls.__name__}' is registered twice")
    REGISTRY[cls.__name__] = cls
    return cls


def make_layer(
    name: str,
    type: str,
    bottoms: Iterable[str] = (),
    tops: Iterable[str] = (),
    fields: Mapping[str, Any] | None = None,
) -> Layer:
    """The layer as the class of its type; a plain ``Layer`` where no class knows the type."""
    return REGISTRY.get(type, Layer)(name, type, names_of(bottoms), names_of(tops), fields or {})


def axis_index(axis: int, shape: Shape) -> int:
    """``axis`` counted from the front, as blob.hpp's CanonicalAxisIndex."""
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"axis {axis} is outside a bottom of shape {dims(shape)}")
    return axis % len(shape)


def dims(shape: Shape) -> str:
    """A shape as people write it: ``1x3x224x224``."""
    return "x".join(map(str, shape)) or "scalar"


def count(shape: Shape) -> int:
    """How many values a blob of this shape holds."""
    total = 1
    for size in shape:
        total *= size
    return total
