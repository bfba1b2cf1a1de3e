"""caffe.proto -> what each field is, and a tree of fields <-> its binary form.

A tree is what ``Layer.fields`` holds: scalars, enum values as ``Word``, mappings for
messages, tuples for repeated fields. The descriptors lie in a pool of their own, so that
an installed pycaffe is no clash; protobuf is imported when the first of them is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import FormatError, NetError
from resnet_proto.layers import normal
from resnet_proto.words import Word

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.message import Message

COMPILED = Path(__file__).with_name("caffe.binpb")
TYPES = """
AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution
Crop Data Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten
HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit
Log MVN MemoryData MultinomialLogisticLoss PReLU Parameter Pooling Power Python RNN ReLU
Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax
SoftmaxWithLoss Split Swish TanH Threshold Tile WindowData
"""
MAINLINE_TYPES = frozenset(TYPES.split())
"""Caffe's layer types, whose fields are all known here."""

FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "enum": Word,
    "string": str,
    "bool": "true".__eq__,
    "float": float,
}
"""How a default is spelled in the descriptor set; other kinds are integers."""


@dataclass(frozen=True, slots=True)
class FieldType:
    """What the schema says of one field.

    Args:
        number: in the binary form.
        kind: ``message``, ``enum``, or protobuf's name of the scalar: ``uint32``, ``string`` ...
        repeated: whether it holds a tuple.
        required: whether Caffe refuses the message without it.
        message: name of the message type, of a message only.
        values: name and number of each value, of an enum only.
        default: the value of a field that is not set; ``None`` where Caffe names none.
    """

    number: int
    kind: str
    repeated: bool
    required: bool
    message: str
    values: Mapping[str, int]
    default: Any


def message(name: str) -> Descriptor:
    """Protobuf's own descriptor of a message, ``LayerParameter``."""
    return _pool(wire=False).FindMessageTypeByName(f"caffe.{name}")  # type: ignore[no-any-return]


@cache
def fields(name: str) -> Mapping[str, FieldType]:
    """The fields of a message by name, in the order of their numbers."""
    return _messages()[name]


@cache
def required(name: str) -> tuple[str, ...]:
    """The fields without which Caffe refuses a message."""
    return tuple(key for key, field in fields(name).items() if field.required)


def encode(name: str, tree: Mapping[str, Any]) -> bytes:
    """The binary form of a message; fields that the schema lacks are left out.

    Raises:
        NetError: a value that its field cannot hold.
    """
    wire = _new(name)
    _fill(wire, name, tree)
    return wire.SerializePartialToString()


def decode(name: str, data: bytes) -> dict[str, Any]:
    """The tree of a binary message; fields that the schema lacks are left out.

    Raises:
        FormatError: the bytes are no such message.
    """
    from google.protobuf.message import DecodeError

    wire = _new(name)
    try:
        wire.MergeFromString(data)
    except DecodeError as error:
        raise FormatError(f"these {len(data)} bytes are not a {name}: {error}") from None
    return _tree(wire, name)


@cache
def _file() -> FileDescriptorProto:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    return FileDescriptorSet.FromString(COMPILED.read_bytes()).file[0]


@cache
def _pool(*, wire: bool) -> Any:
    """A pool of our own. On the wire strings are bytes: Caffe takes names that are no UTF-8."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    file = FileDescriptorProto.FromString(_file().SerializeToString())
    if wire:
        for descriptor in file.message_type:
            for field in descriptor.field:
                if field.type == FieldDescriptorProto.TYPE_STRING:
                    field.type = FieldDescriptorProto.TYPE_BYTES
    pool = DescriptorPool()
    pool.Add(file)
    return pool


def _new(name: str) -> Message:
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(_pool(wire=True).FindMessageTypeByName(f"caffe.{name}"))()


@cache
def _messages() -> dict[str, dict[str, FieldType]]:
    file = _file()
    enums = {f".caffe.{enum.name}": enum for enum in file.enum_type}
    for descriptor in file.message_type:
        enums.update({f".caffe.{descriptor.name}.{e.name}": e for e in descriptor.enum_type})
    values = {name: {v.name: v.number for v in enum.value} for name, enum in enums.items()}
    return {
        descriptor.name: {
            field.name: _field_type(field, values.get(field.type_name, {}))
            for field in descriptor.field
        }
        for descriptor in file.message_type
    }


def _field_type(field: FieldDescriptorProto, values: Mapping[str, int]) -> FieldType:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    default: Any = None
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        default = ()
    elif kind == "message":
        default = {}
    elif field.HasField("default_value"):
        text = field.default_value
        default = normal(FROM_TEXT.get(kind, int)(text))
    return FieldType(
        number=field.number,
        kind=kind,
        repeated=field.label == FieldDescriptorProto.LABEL_REPEATED,
        required=field.label == FieldDescriptorProto.LABEL_REQUIRED,
        message=field.type_name.removeprefix(".caffe.") if kind == "message" else "",
        values=values,
        default=default,
    )


def _fill(wire: Message, name: str, tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        field = fields(name).get(key)
        if field is None:
            continue
        try:
            if field.kind == "message":
                for item in value if field.repeated else (value,):
                    part = getattr(wire, key)
                    part = part.add() if field.repeated else part
                    part.SetInParent()
                    _fill(part, field.message, item)
            elif field.repeated:
                getattr(wire, key).extend([_to_wire(field, item) for item in value])
            else:
                setattr(wire, key, _to_wire(field, value))
        except (TypeError, ValueError) as error:
            raise NetError(f"{name}: {key} cannot be {value!r}: {error}") from None


def _to_wire(field: FieldType, value: Any) -> Any:
    if field.kind == "enum":
        if value not in field.values:
            raise ValueError(f"known: {', '.join(field.values)}")
        return field.values[value]
    if field.kind == "string":
        return value.encode("utf-8", "surrogateescape")
    return value


def _tree(wire: Message, name: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for descriptor, value in wire.ListFields():
        field = fields(name)[descriptor.name]
        if field.repeated:
            tree[descriptor.name] = tuple(_from_wire(field, item) for item in value)
        else:
            tree[descriptor.name] = _from_wire(field, value)
    return tree


def _from_wire(field: FieldType, value: Any) -> Any:
    if field.kind == "message":
        return _tree(value, field.message)
    if field.kind == "enum":
        return Word(next(name for name, number in field.values.items() if number == value))
    if field.kind == "string":
        return value.decode("utf-8", "surrogateescape")
    return value
