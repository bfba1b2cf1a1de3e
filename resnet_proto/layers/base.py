"""Fields as prototxt sets them -> a layer -> its shapes, blobs, MACs and tops.

A ``Layer`` is data first: name, type, bottoms, tops, and every other field of
Caffe's ``LayerParameter`` exactly as it was set. A subclass for each Caffe
type says what Caffe means by them. Defaults stand in the subclass, as
``Field``; a test holds them against the schema.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

from resnet_proto.errors import NetError, ShapeError, UnknownLayerError, similar
from resnet_proto.words import Word

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.floating[Any]]]

Shape = tuple[int, ...]
T = TypeVar("T")

MAX_COUNT = 2**31 - 1  # blob.cpp, Reshape: "blob size exceeds INT_MAX"
MAX_AXES = 32  # blob.hpp, kMaxBlobAxes

FLOAT = struct.Struct("<f")
PLAIN = frozenset({int, str, bool, Word})
ENUMS = {
    "interp_mode": ("LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4"),
    "normalization": ("FULL", "VALID", "BATCH_SIZE", "NONE"),
    "pad_mode": ("CONSTANT", "MIRRORED", "REPEAT_NEAREST"),
    "phase": ("TRAIN", "TEST"),
    "resize_mode": ("WARP", "FIT_SMALL_SIZE", "FIT_LARGE_SIZE_AND_PAD"),
    "share_mode": ("STRICT", "PERMISSIVE"),
    "variance_norm": ("FAN_IN", "FAN_OUT", "AVERAGE"),
}
"""Enums outside a type's own message, and their values; in it they are ``Field``s of a ``Word``."""
ENGINES = ("DEFAULT", "CAFFE", "CUDNN")
"""The values of every ``engine``."""
FIELDS = frozenset(
    """
accuracy_param argmax_param batch_norm_param bias_param blobs bn_param clip_param concat_param
contrastive_loss_param convolution_param crop_param data_param detection_output_param
dropout_param dummy_data_param eltwise_param elu_param embed_param exclude exp_param flatten_param
hdf5_data_param hdf5_output_param hinge_loss_param image_data_param include infogain_loss_param
inner_product_param input_param interp_param log_param loss_param loss_weight lrn_param
memory_data_param mvn_param norm_param param parameter_param permute_param phase pooling_param
power_param prelu_param prior_box_param propagate_down proposal_param psroi_pooling_param
python_param recurrent_param reduction_param relu6_param relu_param reshape_param
roi_pooling_param scale_param shuffle_channel_param sigmoid_param slice_param smooth_l1_loss_param
softmax_param spp_param swish_param tanh_param threshold_param tile_param transform_param
upsample_param window_data_param
""".split()
)
"""The fields of ``LayerParameter`` besides those that ``Layer`` itself names."""
MESSAGES = {
    name: tuple(fields.split())
    for names, fields in {
        "bias_filler data_filler filler scale_filler shift_filler slope_filler weight_filler": (
            "type value min max mean std sparse variance_norm"
        ),
        "blobs": "num channels height width data diff shape double_data double_diff",
        "include exclude": "phase min_level max_level stage not_stage",
        "loss_param": "ignore_label normalize normalization",
        "nms_param": "nms_threshold top_k eta",
        "param": "name share_mode lr_mult decay_mult",
        "python_param": "module layer param_str share_in_parallel",
        "resize_param": (
            "prob resize_mode height width height_scale width_scale pad_mode pad_value interp_mode"
        ),
        "save_output_param": (
            "output_directory output_name_prefix output_format label_map_file name_size_file "
            "num_test_image resize_param"
        ),
        "shape": "dim",
        "transform_param": "scale mirror crop_size mean_file mean_value force_color force_gray",
    }.items()
    for name in names.split()
}
"""Messages that are no type's own, by the fields that hold them, and their fields."""
REPEATED = frozenset(
    "dim exclude include interp_mode loss_weight mean_value not_stage pad_value param "
    "propagate_down stage".split()
)
"""The repeated fields of a layer and of those messages, but for a blob's values."""
HOLDERS = frozenset(
    "exclude include loss_param loss_weight param phase propagate_down transform_param".split()
)
"""The fields that any layer may have and whose values ``worded`` brings into their form."""


def normal(value: Any) -> Any:
    """The one form of a field's value: floats as float32 holds them, tuples, dicts of such.

    Caffe's floats are 32 bits wide, so 1e-5 in text and in a binary file are one value. A
    repeated field without values is not set.
    """
    if type(value) in PLAIN:  # nearly all are
        return value
    if isinstance(value, float):
        try:
            return FLOAT.unpack(FLOAT.pack(value))[0]
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    if isinstance(value, (dict, Mapping)):  # dict by itself is seen at once
        return {key: normal(item) for key, item in value.items() if item not in ((), [])}
    if isinstance(value, list | tuple):
        return tuple(map(normal, value))
    return value


FORMS: dict[type, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    bool: (Integral, "true or false"),
    float: (Real, "a number"),
    str: (str, "a text"),
    Word: (str, "an enum's name"),
    dict: (Mapping, "fields"),
}
"""Type of a field's default -> what its values are, and how messages call it."""


def worded(value: Any, name: str = "") -> Any:
    """The value of a field that no class declares, in its form: enums as Words, lists as lists.

    Raises:
        NetError: a value that an enum does not have, or one that is no message where one belongs.
    """
    if isinstance(value, Mapping):
        return {
            key: worded([item] if key in REPEATED and not is_list(item) else item, key)
            for key, item in value.items()
        }
    if is_list(value):
        return [worded(item, name) for item in value]
    if name in MESSAGES:
        raise NetError(f"{name} is {value!r:.80}; expected fields: {', '.join(MESSAGES[name])}")
    # a Word has been read
    if name in ENUMS and isinstance(value, str) and not isinstance(value, Word):
        return enum_value(name, value, ENUMS[name])
    return value


def is_list(value: Any) -> bool:
    """Whether a value is one of a repeated field."""
    return isinstance(value, list | tuple)


def refuse_unknown_within(layer: str, name: str, value: Any) -> None:
    """Refuse fields that Caffe's messages do not have, however deep they lie.

    Args:
        layer: what messages call it.
        name: the field that holds the value.
        value: a message, a list of them, or anything else.

    Raises:
        NetError: there is one.
    """
    if is_list(value):
        for item in value:
            refuse_unknown_within(layer, name, item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if name in MESSAGES and key not in MESSAGES[name]:
                advice = similar(key, MESSAGES[name])
                raise NetError(f"{layer}: {name} has no field '{key!s:.80}'{advice}")
            refuse_unknown_within(layer, key, item)


def enum_value(name: str, value: str, values: Sequence[str]) -> Word:
    """The value of an enum's field.

    Raises:
        NetError: it is none of ``values``.
    """
    if value not in values:
        raise NetError(f"{name} cannot be {value!r:.80}; known: {', '.join(values)}")
    return Word(value)


class Field(Generic[T]):
    """One field of a layer's own message: the value that was set, else Caffe's default.

    Args:
        default: Caffe's.
        message: the message that holds it, if that is not the layer's own: ``loss_param``.
        values: of an enum, the values that it has.

    Attributes:
        item: of a repeated field, what each value is, as the annotation says.
    """

    def __init__(self, default: T, message: str = "", values: tuple[str, ...] = ()) -> None:
        self.default = default
        self.message = message
        self.values = values

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        kind = str(owner.__annotations__.get(name)).partition("tuple[")[2].partition(",")[0]
        self.item: type = {"int": int, "float": float}.get(kind, dict)

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: Layer, owner: type) -> T: ...
    def __get__(self, layer: Layer | None, owner: type) -> Self | T:
        if layer is None:
            return self
        param = layer.fields.get(self.message or layer.message, {})
        value: T = param.get(self.name, self.default)
        return value

    def in_form(self, value: Any) -> Any:
        """A value as the field holds it: a list where it is repeated, a Word where it is an enum.

        Raises:
            NetError: a value of another kind, or one that an enum does not have.
        """
        if self.default is None:
            return value
        if not isinstance(self.default, tuple):
            return self.one_in_form(value, type(self.default))
        items = value if isinstance(value, list | tuple) else (value,)
        return tuple(self.one_in_form(item, self.item) for item in items)

    def one_in_form(self, value: Any, made: Any) -> Any:
        """``in_form`` of one value, as the type ``made``."""
        kind, what = FORMS[made]
        if not isinstance(value, kind):
            raise NetError(f"{self.name} is {value!r:.80}; expected {what}")
        if made is Word:
            return enum_value(self.name, str(value), self.values)
        try:
            return worded(value) if kind is Mapping else made(value)
        except OverflowError:
            raise NetError(f"{self.name} is larger than any float") from None


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
    other_messages: ClassVar[tuple[str, ...]] = ()
    """Messages that several types read, and this one: ``loss_param``."""
    n_bottoms: ClassVar[tuple[int, int]] = (1, 1)
    """Fewest and most bottoms; ``n_tops`` likewise."""
    n_tops: ClassVar[tuple[int, int]] = (1, 1)
    statistics: ClassVar[frozenset[str]] = frozenset()
    """Names of the blobs that are measured, and that no gradient reaches."""
    shape_varies: ClassVar[bool] = False
    """True where the shape of the tops shows when the net runs, and is another one before."""
    auto_tops: ClassVar[int] = 0
    """So many tops it makes, even if the net names fewer: layer.hpp, AutoTopBlobs."""

    from_outside: ClassVar[bool] = False
    """True where its tops are what the caller hands in; it has no ``forward``."""
    any_shape: ClassVar[bool] = False
    """True where what the caller hands in may have any shape, and the net's is a default."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", normal(self.fields))
        if type(self.bottoms) is not tuple:
            object.__setattr__(self, "bottoms", names_of(self.bottoms))
        if type(self.tops) is not tuple:
            object.__setattr__(self, "tops", names_of(self.tops))

    def __hash__(self) -> int:
        return hash((self.name, self.type, self.bottoms, self.tops))

    @classmethod
    def of(
        cls, name: str, bottoms: str | Sequence[str], tops: str | Sequence[str], **values: Any
    ) -> Self:
        """A layer of this type; ``values`` are the fields of its messages.

        Raises:
            NetError: a value for a field that the type does not have.
        """
        fields: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            known = getattr(cls, key, None)
            if not isinstance(known, Field):
                raise NetError(f"layer '{name}': {cls.__name__} has no field '{key}'")
            refuse_unknown_within(cls.called(name), key, value)
            fields.setdefault(known.message or cls.message, {})[key] = value
        return cls(name, cls.__name__, names_of(bottoms), names_of(tops), cls.in_form(name, fields))

    @classmethod
    def in_form(cls, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a layer of this type, as ``fields`` has them.

        Raises:
            NetError: a value that its field cannot have; ``name`` says which layer's.
        """
        formed = dict(fields)
        try:
            for message in {cls.message, *cls.other_messages} & formed.keys():
                if not isinstance(formed[message], Mapping):
                    raise NetError(f"{message} is {formed[message]!r:.80}; expected its fields")
                formed[message] = {
                    key: known.in_form(value)
                    if isinstance(known := getattr(cls, key, None), Field)
                    else value
                    for key, value in formed[message].items()
                }
            for key in HOLDERS & formed.keys():
                formed[key] = worded({key: formed[key]})[key]
        except NetError as error:
            raise NetError(f"{cls.called(name)}: {error}") from None
        return formed

    @classmethod
    def called(cls, name: str) -> str:
        """A layer of this type, for messages."""
        return f"layer '{name}'" if cls is Layer else f"layer '{name}' ({cls.__name__})"

    @classmethod
    def refuse_unknown(cls, name: str, fields: Mapping[str, Any]) -> None:
        """Refuse fields that Caffe does not have; ``name`` says which layer's.

        Of a type that has no class, its own message may hold anything.

        Raises:
            NetError: there is one, in the layer or in a message within.
        """
        layer, messages = cls.called(name), (cls.message, *cls.other_messages)
        for key in fields:
            if cls is not Layer and key not in FIELDS and key not in messages:
                own = getattr(cls, str(key), None)
                advice = (
                    f"; it belongs in {own.message or cls.message}"
                    if isinstance(own, Field)
                    else similar(key, sorted(FIELDS))
                )
                raise NetError(f"{layer} has no field '{key!s:.80}'{advice}")
        for message in messages:
            known = cls.known_fields("" if message == cls.message else message)
            for key in fields.get(message, ()):
                if key not in known:
                    advice = similar(key, known)
                    raise NetError(f"{layer}: {message} has no field '{key!s:.80}'{advice}")
        for key, value in fields.items():
            if key in FIELDS or key in messages:
                refuse_unknown_within(layer, key, value)

    @property
    def param(self) -> Mapping[str, Any]:
        """The fields that were set in the layer's own message."""
        value: Mapping[str, Any] = self.fields.get(self.message, {})
        return value

    @property
    def code(self) -> str:
        """The class that a Python layer needs, for messages: `` (module.layer)``."""
        param = self.fields.get("python_param", {})
        return f" ({param['module']}.{param['layer']})" if {"module", "layer"} <= {*param} else ""

    @property
    def in_place(self) -> bool:
        """Whether the first top overwrites the first bottom."""
        return self.tops[:1] == self.bottoms[:1] != ()

    def may_work_in_place(self) -> bool:
        """Whether a top may overwrite its bottom; Caffe runs others too, and their results are
        wrong, or right by chance (a convolution's, if its kernel is not 1x1).
        """
        return False

    @property
    def is_random(self) -> bool:
        """Whether its tops are drawn at random, in a net of phase TEST too.

        A layer's own ``phase: TRAIN`` is no rule: the layer is there, and runs as in training.
        net.cpp, Init
        """
        return False

    @property
    def shares_memory(self) -> bool:
        """Whether its tops are its first bottom's own memory in Caffe: blob.hpp, ShareData."""
        return False

    @property
    def rewrites(self) -> bool:
        """Whether a top that is its bottom changes: all do, but for a Dropout at phase TEST."""
        return True

    def padded(self, bottom: Shape) -> Shape:
        """The first bottom with what ``forward`` puts around it."""
        return bottom

    def refuse_in_place(self) -> None:
        """Refuse what Caffe refuses itself.

        Raises:
            ShapeError: the top is the bottom.
        """
        if self.in_place:
            raise ShapeError(
                f"does not work in place; give the top a name other than '{self.tops[0]}'"
            )

    @classmethod
    def known_fields(cls, message: str = "") -> dict[str, Field[Any]]:
        """The fields of the type's own message, or of another one that it reads."""
        fields = {k: v for c in reversed(cls.__mro__) for k, v in vars(c).items()}
        return {k: v for k, v in fields.items() if isinstance(v, Field) and v.message == message}

    def resolved(self) -> dict[str, Any]:
        """The type's own message with Caffe's defaults filled in."""
        return {key: getattr(self, key) for key in self.known_fields()}

    def resolved_others(self) -> dict[str, dict[str, Any]]:
        """The other messages that the type reads, likewise."""
        return {
            message: self.fields.get(message, {})
            | {key: getattr(self, key) for key in self.known_fields(message)}
            for message in self.other_messages
        }

    def blob_names(self, count: int) -> tuple[str, ...]:
        """Names for the first ``count`` blobs, in the order in which Caffe stores them."""
        return tuple(str(i) for i in range(count))

    def param_blobs(self, count: int) -> tuple[str, ...]:
        """Names of the first ``count`` blobs of this very layer, for its ``param``."""
        return self.blob_names(count)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        """Name and shape of each weight blob, in Caffe's order."""
        return {}

    @property
    def fixed(self) -> bool:
        """Whether its weights are a constant of the net's, and no parameters."""
        return False

    def fixed_blob(self, shape: Shape) -> Array:
        """The weights of a layer that is ``fixed``."""
        raise NotImplementedError

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shape of each top.

        Raises:
            ShapeError: these bottoms cannot be taken.
        """
        raise UnknownLayerError(
            f"layer '{self.name}' has type '{self.type}'{self.code}, whose shapes are not known"
            f"{others(self.type)}"
        )

    def tops_with(self, given: Mapping[str, Shape]) -> list[Shape]:
        """``top_shapes`` of a layer from outside, where the caller has given shapes by name."""
        return self.top_shapes(())

    def fill(self, top: str) -> float | None:
        """The value that a top from outside is full of, where nothing is handed in; if any."""
        return None

    def check_limits(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> None:
        """Refuse what is too large for Caffe besides tops and blobs.

        Raises:
            ShapeError: it is.
        """

    def fan_in(self, weight: Shape) -> int:
        """How many products with a weight of this shape a value of the top adds up, about."""
        return count(weight[1:])

    def macs(
        self, bottoms: Sequence[Shape], tops: Sequence[Shape], blobs: Mapping[str, Shape]
    ) -> int:
        """Multiply-adds of one forward pass; only products with weights count."""
        return 0

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Each top, computed at phase TEST in the dtype of the bottoms.

        Args:
            bottoms: activations, left as they are. No top shares memory with them.
            blobs: the weight blobs in the order of ``blob_shapes``.
        """
        raise UnknownLayerError(
            f"layer '{self.name}' has type '{self.type}'{self.code}, which cannot be computed"
            f"{others(self.type)}"
        )


def others(type: str) -> str:
    """What may be meant by a type that has no class here, as the end of a message."""
    near = similar(type, sorted(REGISTRY))
    return f"; docs/engines.md lists the types that are known{near}"


def names_of(value: str | Iterable[str]) -> tuple[str, ...]:
    """The names of blobs; one name by itself is a list of one, and not of its letters."""
    return (value,) if isinstance(value, str) else tuple(value)


class Registry(Mapping[str, type[Layer]]):
    """Caffe's type -> its class; the module of a type is imported when it is first needed.

    Attributes:
        modules: type -> module in this package.
    """

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self.classes: dict[str, type[Layer]] = {}

    def __getitem__(self, type: str) -> type[Layer]:
        if type not in self.classes:
            import_module(f"{__package__}.{self.modules[type]}")
        return self.classes[type]

    def __contains__(self, type: object) -> bool:
        return type in self.modules

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)


REGISTRY = Registry()


def register(cls: type[Layer]) -> type[Layer]:
    """Class decorator: this class is Caffe's type of the same name."""
    if cls.__name__ in REGISTRY.classes:
        raise ValueError(f"layer type '{cls.__name__}' is registered twice")
    REGISTRY.classes[cls.__name__] = cls
    REGISTRY.modules.setdefault(cls.__name__, cls.__module__)
    return cls


def make_layer(
    name: str,
    type: str,
    bottoms: Iterable[str] = (),
    tops: Iterable[str] = (),
    fields: Mapping[str, Any] | None = None,
    *,
    lenient: bool = False,
) -> Layer:
    """The layer as the class of its type; a plain ``Layer`` where no class knows the type.

    Args:
        name: of the layer.
        type: Caffe's type string, ``Convolution``.
        bottoms: names of blobs, or one name by itself.
        tops: likewise.
        fields: those of ``Layer``; an enum is a string, and a repeated field may be one value:
            ``{"pooling_param": {"pool": "AVE", "kernel_size": 3}, "param": {"lr_mult": 0}}``.
        lenient: keep fields that Caffe does not have, as reading a prototxt can.

    Raises:
        NetError: a value that its field cannot have, or a field that the type, or a message
            within, does not have.
    """
    cls = REGISTRY.get(type, Layer)
    formed = cls.in_form(name, fields or {})
    if not lenient:
        cls.refuse_unknown(name, formed)
    return cls(name, type, names_of(bottoms), names_of(tops), formed)


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
    return math.prod(shape)
