"""Reading and writing caffemodels: hand-made bytes, protobuf's own parser, and hostile files."""

import mmap
import os
import random
import struct
import tracemalloc

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import field, layer, layers, legacy, packed, shape, unpacked, varint

from resnet_proto import schema
from resnet_proto.errors import FormatError, WeightsError
from resnet_proto.formats import load, save
from resnet_proto.formats.caffemodel import MAX_PIECES, V1_TYPES, read
from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    InnerProduct,
    Input,
    ReLU,
    Scale,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.weights import Weights, random_weights
from resnet_proto.words import Word

NetParameter = GetMessageClass(schema.message("NetParameter"))
SIX = (1.5, -2.0, 3.25, 0.0, -0.5, 6.0)
DATA = packed(5, *SIX)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made.caffemodel"


@pytest.fixture
def made(path):
    """Bytes -> the weights of a file that holds them."""

    def make(*parts):
        path.write_bytes(b"".join(parts))
        return load(path)

    return make


@pytest.fixture
def one(made):
    """The parts of a blob -> that blob, read from a file."""

    def make(*parts):
        (blob,) = made(layer("fc", "InnerProduct", b"".join(parts))).blobs.values()
        return blob

    return make


# Values: where they are, in which order, and their bits.


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        unpacked(5, *SIX),
        packed(5, 1.5) + packed(5) + packed(5, -2, 3.25, 0) + packed(5, -0.5, 6),
        packed(5, 1.5, -2) + unpacked(5, 3.25, 0, -0.5) + packed(5, 6),
        unpacked(5, 1.5)
        + packed(5, -2)
        + unpacked(5, 3.25)
        + field(99, 1)
        + unpacked(5, 0, -0.5, 6),
        b"\xad\x00" + unpacked(5, 1.5)[1:] + packed(5, *SIX[1:]),  # a tag of two bytes
        DATA + packed(6, 9, 9) + packed(9, 8),  # diff and double_diff
        field(99, b"unknown") + b"\x95\x06abcd" + b"\x99\x06abcdefgh" + DATA + field(98, 2**63),
    ],
    ids=range(8),
)
def test_floats(one, data):
    """Packed or not, in any number of pieces; their order is kept, what else is there is not."""
    blob = one(shape(2, 3), data)

    assert blob.array().dtype == blob.dtype == "float32"
    assert blob.array().tolist() == [[1.5, -2, 3.25], [0, -0.5, 6]]
    assert b"".join(blob.data.parts()) == struct.pack("<6f", *SIX)
    assert not blob.array().flags.writeable


@pytest.mark.parametrize(
    "data", [packed(8, *SIX), unpacked(8, *SIX), DATA + packed(8, *SIX)], ids=range(3)
)
def test_doubles_go_before_floats(one, data):
    """blob.cpp, FromProto."""
    blob = one(shape(2, 3), data, packed(5, 7, 7))

    assert blob.array().dtype == blob.dtype == "float64"
    assert (blob.nbytes, blob.array().ravel().tolist()) == (48, list(SIX))


@pytest.mark.parametrize("way", ["packed", "unpacked"])
def test_bits(one, way):
    """Payloads of nan, denormals and the sign of zero."""
    words = (0x7FC01234, 0xFF800001, 0x7F800000, 0x00000001, 0x807FFFFF, 0x80000000)
    raw = struct.pack("<6I", *words)
    records = b"".join(b"\x2d" + raw[i : i + 4] for i in range(0, 24, 4))

    blob = one(shape(3, 2), field(5, raw) if way == "packed" else records)

    assert blob.array().view(np.uint32).ravel().tolist() == list(words)
    assert b"".join(blob.data.parts()) == raw


@pytest.mark.parametrize(("number", "dtype"), [(2, "float16"), (1, "float32"), (0, "float64")])
def test_raw_data_of_nvidia(one, number, dtype):
    values = np.arange(6, dtype=dtype)

    blob = one(shape(2, 3), field(10, number), field(12, values.tobytes()))

    assert (blob.dtype, blob.array().tolist()) == (dtype, [[0, 1, 2], [3, 4, 5]])


def test_long_runs_in_bounded_parts(one, monkeypatch):
    """Unpacked values of many blocks, in parts that are no whole number of records."""
    monkeypatch.setattr("resnet_proto.formats.caffemodel.PART", 64)
    monkeypatch.setattr("resnet_proto.weights.PART", 64)
    values = np.arange(5000, dtype=np.float32)

    blob = one(shape(50, 100), unpacked(5, *values[:4000]), packed(5, *values[4000:]))
    parts = list(blob.data.parts())

    assert b"".join(parts) == values.tobytes() == blob.array().tobytes()
    assert max(map(len, parts)) <= 64


# Shapes.


@pytest.mark.parametrize(
    ("parts", "expected", "is_legacy", "shapeless"),
    [
        (shape(2, 3), (2, 3), False, False),
        (field(7, field(1, 2) + field(1, 3)), (2, 3), False, False),
        (shape(2) + shape(3), (2, 3), False, False),
        (legacy(1, 1, 2, 3), (1, 1, 2, 3), True, False),
        (legacy(1, 1, 3, 2) + shape(2, 3), (1, 1, 3, 2), True, False),
        (shape(2, 3) + legacy(3, 1, 1, 2), (3, 1, 1, 2), True, False),
        (b"", (6,), False, True),
    ],
)
def test_shapes(one, parts, expected, is_legacy, shapeless):
    """The old sizes go before the shape: blob.cpp, FromProto."""
    for blob in (one(parts, DATA), one(DATA, parts)):
        assert blob.shape == blob.array().shape == expected
        assert (blob.legacy, blob.shapeless) == (is_legacy, shapeless)


def test_shapes_of_one_value_and_of_none(one):
    assert one(packed(5, 7)).shape == ()
    assert one(shape(), packed(5, 7)).array() == 7
    assert one(shape(0, 3)).array().shape == (0, 3)
    assert one().shape == (0,)


# Layers and names.


@pytest.mark.parametrize(
    ("type", "bottoms", "names"),
    [
        ("Convolution", "x", ["weight", "bias"]),
        ("InnerProduct", "x", ["weight", "bias"]),
        ("Scale", "x", ["weight", "bias"]),
        ("Scale", "xy", ["bias"]),
        ("Scale", "xyz", ["bias"]),
        ("Scale", "xy", ["bias", "1"]),
        ("BatchNorm", "x", ["mean", "variance", "scale_factor"]),
        ("Convolution", "x", ["weight"]),
        ("Convolution", "x", ["weight", "bias", "2", "3"]),
        ("LSTM", "x", ["W_xc", "b_c", "W_hc"]),
        ("Python", "x", ["0", "1", "2"]),
        ("", "x", ["0", "1"]),
    ],
)
def test_blobs_are_named_by_type(made, type, bottoms, names):
    weights = made(layer("a/b.c", type, *[b""] * len(names), bottoms=bottoms))

    assert list(weights) == [f"a/b.c.{name}" for name in names]
    assert {(b.layer, b.type) for b in weights.blobs.values()} == {("a/b.c", type)}


def test_repeated_names(made):
    weights = made(*(layer("a", "InnerProduct", packed(5, x)) for x in (1, 2, 3)))

    assert {key: value.item() for key, value in weights.items()} == {
        "a.weight": 1, "a#2.weight": 2, "a#3.weight": 3,
    }  # fmt: skip
    assert [row.name for row in weights.layers] == ["a", "a", "a"]


def test_a_layer_without_weights_and_a_name_that_has_some(tmp_path):
    """Behind the one with weights it is left out; before it, Caffe cannot load either."""
    text = """
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "b" type: "ReLU" bottom: "x" top: "x1" }
        layer { name: "a" type: "Scale" bottom: "x1" top: "y" }
        layer { name: "a" type: "ReLU" bottom: "y" top: "z" }
        layer { name: "b" type: "Scale" bottom: "z" top: "w" }
    """
    weights = {"a.weight": np.ones(3, "f4"), "b#2.weight": np.zeros(3, "f4")}

    save(tmp_path / "w.caffemodel", weights, read_prototxt(text))

    stored = load(tmp_path / "w.caffemodel")
    assert [row.name for row in stored.layers] == ["in", "b", "a", "b"]
    assert list(stored) == list(weights)


def test_names_that_are_no_utf_8(made, path, tmp_path):
    weights = made(layer(b"\xff\x00\xc3", "InnerProduct", DATA))

    assert list(weights) == ["\udcff\x00\udcc3.weight"]
    assert weights.layers[0].name.encode("utf-8", "surrogateescape") == b"\xff\x00\xc3"
    save(tmp_path / "copy.caffemodel", weights, Net())
    assert list(load(tmp_path / "copy.caffemodel")) == list(weights)


def test_layers_without_blobs_and_unknown_fields(made):
    weights = made(
        field(1, b"net"), field(6, b""), layer("data", "Data", bottoms=()), field(77, 7),
        layer("fc", "InnerProduct", shape(6, 1) + DATA, more=field(117, b"\xff") + field(200, b"")),
    )  # fmt: skip

    assert [(row.name, row.type, len(row.blobs)) for row in weights.layers] == [
        ("data", "Data", 0), ("fc", "InnerProduct", 1),
    ]  # fmt: skip
    assert weights["fc.weight"].shape == (6, 1)


def test_layers_of_2014(made):
    """The type is an enum there; the words are those of today."""
    enum = schema.message("V1LayerParameter").enum_types_by_name["LayerType"].values_by_name
    weights = made(
        layers("c", enum["CONVOLUTION"].number, legacy(1, 3, 2, 1) + DATA, packed(5, 2)),
        layers("loss", enum["SOFTMAX_LOSS"].number),
        layers("strange", 99, packed(5, 1)),
    )  # fmt: skip

    assert [(row.name, row.type) for row in weights.layers] == [
        ("c", "Convolution"), ("loss", "SoftmaxWithLoss"), ("strange", "99"),
    ]  # fmt: skip
    assert list(weights) == ["c.weight", "c.bias", "strange.0"]
    assert weights["c.weight"].shape == (1, 3, 2, 1)


def test_layers_of_2013(made):
    """Name, type and blobs stand in a message within; what is outside is dropped by Caffe."""

    def old(name, type, *blobs):
        inner = field(1, name.encode()) + field(2, type.encode())
        return field(1, inner + b"".join(field(50, blob) for blob in blobs))

    conv = old("c", "conv", legacy(1, 3, 2, 1) + DATA, packed(5, 2))
    weights = made(
        field(2, field(2, b"data") + conv + field(3, b"c") + field(6, packed(5, 1, 2))),
        field(2, old("loss", "softmax_loss") + field(4, b"other name")),
        field(2, old("pad", "padding")),
        field(2, old("strange", "nosuch", packed(5, 1))),
    )

    assert [(row.name, row.type) for row in weights.layers] == [
        ("c", "Convolution"), ("loss", "SoftmaxWithLoss"), ("pad", "padding"),
        ("strange", "nosuch"),
    ]  # fmt: skip
    assert list(weights) == ["c.weight", "c.bias", "strange.0"]
    assert weights["c.weight"].shape == (1, 3, 2, 1)


def test_every_type_of_2014():
    """The enum's names are the types' names, but for underscores and one shortened loss."""
    values = schema.message("V1LayerParameter").enum_types_by_name["LayerType"].values
    theirs = {value.number: value.name.replace("_", "").lower() for value in values}
    theirs[0], theirs[21] = "", "softmaxwithloss"

    assert {i: name.lower() for i, name in enumerate(V1_TYPES)} == theirs
    assert {*V1_TYPES[1:]} <= schema.MAINLINE_TYPES


# Protobuf's own parser.

FLOAT32 = st.floats(width=32, allow_nan=False)


@st.composite
def blobs(draw):
    sizes = draw(st.lists(st.integers(0, 4), max_size=4))
    n = int(np.prod(sizes))
    blob = {"shape": {"dim": sizes}}
    kind = draw(st.sampled_from(["data", "double_data"]))
    values = FLOAT32 if kind == "data" else st.floats(allow_nan=False)
    blob[kind] = draw(st.lists(values, min_size=n, max_size=n))
    blob["diff"] = draw(st.lists(FLOAT32, max_size=2))
    return blob


@st.composite
def messages(draw):
    """Any net of ``layer``, with unknown types and repeated names."""
    names = st.text(st.characters(codec="utf-8", exclude_characters="#"), max_size=6)
    rows = st.fixed_dictionaries(
        {
            "name": names,
            "type": st.sampled_from(["Convolution", "BatchNorm", "Scale", "Crop", ""]),
            "bottom": st.lists(names, max_size=3),
            "top": st.lists(names, max_size=2),
            "phase": st.sampled_from([0, 1]),
            "blobs": st.lists(blobs(), max_size=4),
            "convolution_param": st.fixed_dictionaries({"num_output": st.integers(0, 2**32 - 1)}),
        }
    )
    return NetParameter(name=draw(names), layer=draw(st.lists(rows, min_size=1, max_size=4)))


def text(value):
    """Protobuf gives bytes where they are no UTF-8."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def assert_same(weights, message):
    """What we read is what protobuf reads."""
    assert len(weights.layers) == len(message.layer)
    for ours, theirs in zip(weights.layers, message.layer, strict=True):
        assert (ours.name, ours.type) == (text(theirs.name), text(theirs.type))
        assert len(ours.blobs) == len(theirs.blobs)
        for blob, proto in zip(ours.blobs, theirs.blobs, strict=True):
            if blob.legacy:
                sizes = [proto.num, proto.channels, proto.height, proto.width]
            else:
                sizes = list(proto.shape.dim)
            if not blob.shapeless:
                assert list(blob.shape) == sizes
            values = np.array(proto.double_data or proto.data, blob.dtype)
            assert blob.array().tobytes() == values.tobytes()


@settings(max_examples=80)
@given(messages())
def test_equal_to_protobuf(tmp_path_factory, message):
    path = tmp_path_factory.getbasetemp() / "random.caffemodel"
    path.write_bytes(message.SerializePartialToString())

    assert_same(load(path), message)


# Files that are refused, each with a twin.

GOOD = layer("fc", "InnerProduct", shape(2, 3) + DATA, shape(2) + packed(5, 7, 8))


def by_words(value):
    """Tests are called by the first of the words that are expected."""
    return value[0] if isinstance(value, list) else ""


def assert_refused(path, data, *words):
    path.write_bytes(data)
    with pytest.raises(FormatError) as refused:
        load(path)
    for word in (str(path), *words):
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", ["an empty file", "download"]),
        (b"\x1f\x8b\x08\x00", ["a gzip file", "gunzip"]),
        (b"\n <!DOCTYPE html><html>", ["web page", "download the file itself"]),
        (b"version https://git-lfs.github.com/spec/v1\noid", ["Git LFS pointer", "git lfs pull"]),
        (b"\x89HDF\r\n\x1a\n\x00", ["HDF5"]),
        (b"PK\x03\x04\x14\x00", ["zip archive", "unpack"]),
        (b"\x00\x05\x16\x07\x00\x02", ["AppleDouble", "'._'"]),
        (b'name: "ResNet-50"\ninput: "data"\n', ["a prototxt", "the weights are in another file"]),
        (b'# a net\nlayer {\n  name: "x"\n', ["a prototxt"]),
        (struct.pack("<Q", 16) + b'{"a":{"dtype":', ["a safetensors file", ".safetensors"]),
        (b"\x93NUMPY\x01\x00", ["numpy array", "savez"]),
        (b"Sorry, this file has moved.\n", ["a text file"]),
    ],
    ids=by_words,
)
def test_other_files_are_recognised(path, head, words):
    assert_refused(path, head, *words)

    path.write_bytes(field(77, head) + GOOD)  # the twin: the same bytes, within a caffemodel
    assert len(load(path)) == 2


@pytest.mark.parametrize(
    "name", [b"input", b"layer {", b"state {", b"name: ", b'layer{ name:"x" }', b"<html><html>"]
)
def test_a_net_may_be_called_anything(made, name):
    """The name's tag is a line feed, and its length may be a space."""
    for size in (9, 10, 13, 32):
        assert len(made(field(1, name.ljust(size)), GOOD)) == 2


SHAPED = "is 2x4 and has 6 values"


@pytest.mark.parametrize(
    ("bad", "good", "words"),
    [
        (shape(2, 4) + DATA, shape(3, 2) + DATA, ["layer 'fc'", "offset", f"weight {SHAPED}"]),
        (legacy(2, 4, 1, 1) + DATA, legacy(2, 3, 1, 1) + DATA, ["weight is 2x4x1x1", "6 values"]),
        (shape(-2, -3) + DATA, shape(2, 3) + DATA, ["weight is -2x-3"]),
        (legacy(-1, -6, 1, 1) + DATA, legacy(1, 6, 1, 1) + DATA, ["-1x-6x1x1"]),
        (shape(2**40, 2**40), shape(2**40, 0), ["1099511627776x1099511627776"]),
        (shape(0, 2**40, 2**40), shape(0, 2**40), ["0x1099511627776x1099511627776"]),
        (shape(2**31, 2**31, 2**2) + DATA, shape(6) + DATA, ["2147483648x2147483648x4"]),
        (shape(*[1] * 32, 6) + DATA, shape(*[1] * 31, 6) + DATA, ["more than 32 sizes"]),
        (field(7, field(1, 1) * 33), field(7, field(1, 6) + field(1, 1) * 31) + DATA, ["than 32"]),
        (shape(1) * 33, shape(1) * 31 + shape(6) + DATA, ["more than 32 sizes"]),
        (shape(*[2**63 - 1] * 20_000), shape(*[1] * 9, 6) + DATA, ["more than 32 sizes"]),
        (field(1, 6) + DATA, legacy(6, 1, 1, 1) + DATA, ["6x0x0x0"]),
        (field(5, DATA[2:-1]), field(5, DATA[2:-4]), ["not a whole number"]),
        (field(5, 3), packed(5, 3), ["a value: expected 4 bytes, found a varint"]),
        (b"\x29" + bytes(8), b"\x41" + bytes(8), ["expected 4 bytes, found 8 bytes"]),
        (field(8, 3), packed(8, 3), ["expected 8 bytes, found a varint"]),
        (field(7, 6) + DATA, shape(6) + DATA, ["a shape: expected a length, found a varint"]),
        (field(7, b"\x0d\x06\0\0\0") + DATA, field(7, b"\x08\x06") + DATA, ["a shape's sizes"]),
        (field(1, b"6") + DATA, field(10, 6) + DATA, ["a dimension: expected a varint"]),
        (field(7, field(1, b"\x80")), field(7, field(1, b"\x00")), ["expected a varint, the data"]),
        (field(10, 3) + field(12, b"ab"), field(10, 2) + field(12, b"ab"), ["raw_data of type 3"]),
        (field(10, 2) + field(12, b"a"), field(10, 2) + field(12, b"ab"), ["raw_data of type 2"]),
        (field(10, b"") + DATA, field(10, 1) + DATA, ["raw_data_type: expected a varint"]),
        (b"\x98\x06" + b"\x80" * 10 + b"\x01", b"\x98\x06" + b"\x80" * 9 + b"\x01", ["at most 10"]),
        (b"\x9b\x06\x9c\x06", b"\x98\x06\x06", ["field 99 has wire type 3"]),
        (b"\x9e\x06", b"\x9a\x06\x00", ["field 99 has wire type 6"]),
        (b"\x00\x01", b"\x98\x06\x01", ["expected a field, found the number 0"]),
        (varint(8 << 29) + b"\x01", varint(8 * (2**29 - 1)) + b"\x01", ["found the number 5368"]),
        (b"\x2a\x09abcd", b"\x2a\x04abcd", ["field 5 needs 9 bytes, 4 are left"]),
        (b"\x2dabc", b"\x2dabcd", ["field 5 needs 4 bytes, 3 are left"]),
        (b"\x9a\x06" + varint(2**64 - 1), b"\x9a\x06\x00", ["needs 18,446,744,073,709,551,615"]),
    ],
    ids=by_words,
)  # fmt: skip
def test_refused_blob_and_its_twin(path, bad, good, words):
    path.write_bytes(layer("fc", "InnerProduct", good))
    assert "fc.weight" in load(path)

    tracemalloc.start()
    assert_refused(
        path, layer("fc", "InnerProduct", bad), "layer 'fc', offset", "get it again", *words
    )
    assert tracemalloc.get_traced_memory()[1] < 2e6  # whatever sizes it says
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("bad", "good", "words"),
    [
        (GOOD + layers("fc", 14), GOOD + layer("x", "ReLU"), ["either `layer` or `layers`"]),
        (layers("fc", 14) + GOOD, layers("fc", 14) * 2, ["either `layer` or `layers`"]),
        (
            field(2, field(1, field(1, b"c"))) + layers("x", 4),
            field(2, field(1, field(1, b"c"))) * 2,
            ["layers of V0 or of V1, this one has both"],
        ),
        (field(2, field(1, field(1, 5))), field(2, field(1, b"")), ["the layer's name: expected"]),
        (field(1, b"net"), field(1, b"net") + GOOD, ["has no layer"]),
        (field(1, 5) + GOOD, field(1, b"5") + GOOD, ["the net's name: expected a length"]),
        (field(100, 5), field(100, b""), ["a layer: expected a length, found a varint"]),
        (field(100, field(1, 5)), field(100, field(1, b"5")), ["layer 1, off", "the layer's name"]),
        (field(100, field(2, 5)), field(100, field(2, b"5")), ["the layer's type"]),
        (field(2, field(5, b"5")), field(2, field(5, 5)), ["the layer's type: expected a varint"]),
        (field(100, field(7, 5)), field(100, field(7, b"")), ["a blob: expected a length"]),
        (
            layer("a", "X") * 2 + layer("a#2", "X"),
            layer("a", "X") * 2 + layer("a#3", "X"),
            ["two layers come out as one name"],
        ),
        (b"\x80\x02}q\x00(X\x05", GOOD, ["a pickle", "never read"]),
        (bytes(range(1, 256)), GOOD, ["not a caffemodel"]),
    ],
    ids=by_words,
)  # fmt: skip
def test_refused_net_and_its_twin(path, bad, good, words):
    path.write_bytes(good)
    assert load(path).layers

    assert_refused(path, bad, *words)


def test_pieces_have_a_limit(made, path):
    """Each costs time and memory, and protobuf writes one."""

    def pieces(n):
        return layer("fc", "InnerProduct", shape(n) + (unpacked(5, 1) + packed(5, 2)) * (n // 2))

    assert made(pieces(MAX_PIECES))["fc.weight"].sum() == 1.5 * MAX_PIECES
    assert_refused(path, pieces(MAX_PIECES + 2), "layer 'fc'", "more than 4,096 pieces")


def test_items_have_a_limit(made, path, monkeypatch):
    """Layers and blobs together; each blob costs a hundred times its two bytes."""
    monkeypatch.setattr("resnet_proto.formats.caffemodel.MAX_ITEMS", 9)
    assert len(made(layer("a", "X", *[b""] * 5), layer("b", "X", b"", b"")).layers) == 2

    message = "more than 9 layers and blobs"
    assert_refused(path, layer("a", "X", *[b""] * 5) + layer("b", "X", b"", b"", b""), message)
    assert_refused(path, layer("a", "X") * 10, message)


def test_the_limit_holds_while_a_layer_is_read(path):
    """And not only behind it, when all of it is in memory."""
    path.write_bytes(layer("a", "X", *[b""] * 1_000_000))
    tracemalloc.start()
    with pytest.raises(FormatError, match="more than 131,072 layers and blobs"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 40e6  # the file itself is 2 MB
    tracemalloc.stop()


def test_many_of_everything(made):
    """Far below the limits."""
    weights = made(
        layer("a", "X", *[b""] * 20_000), layer("b", "X", bottoms="x" * 20_000),
        layer("c", "X", packed(5) * 20_000 + packed(6, 1) * 20_000), layer("d", "X") * 5_000,
    )  # fmt: skip

    assert len(weights) == 20_001
    assert weights.layers[-1].label == "d#5000"


def test_cut_at_every_byte(path):
    """Each prefix is refused by name, or is a shorter caffemodel."""
    first, second = layer("conv", "Convolution", shape(3, 2) + DATA), field(99, b"x")
    whole = first + second + GOOD
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        if end in (len(first), len(first + second), len(whole)):
            assert load(path)["conv.weight"].tolist() == [[1.5, -2], [3.25, 0], [-0.5, 6]]
        else:
            with pytest.raises(FormatError, match=r"made\.caffemodel"):
                load(path)


def test_file_that_is_not_there(path):
    with pytest.raises(FormatError, match=r"made\.caffemodel: no such file"):
        load(path)
    path.mkdir()
    with pytest.raises(FormatError, match=r"made\.caffemodel: cannot be read: Is a directory"):
        load(path)


MIXED = (
    field(1, b"net") + layer("c", "Convolution", shape(1, 3, 2, 1) + DATA, more=field(10, 1))
    + layer("s", "Scale", legacy(1, 1, 1, 6) + unpacked(5, *SIX), packed(8, 1, 2), bottoms="xy")
    + layer("s", "LSTM", packed(5, 1) + unpacked(5, 2, 3) + packed(5, 4))
)  # fmt: skip


@st.composite
def mutations(draw):
    """A good file with a few bytes changed, put in, or taken away."""
    data = bytearray(MIXED)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["change", "insert", "delete", "double"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(max_size=3))
            case "delete":
                del data[at : at + draw(st.integers(1, 9))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 60))]
    return bytes(data)


@settings(max_examples=700)
@given(st.one_of(mutations(), st.binary(max_size=60)))
def test_damage(tmp_path_factory, data):
    """Refused, or read; and if protobuf reads it too, then to the same values."""
    path = tmp_path_factory.getbasetemp() / "damaged.caffemodel"
    path.write_bytes(data)
    why = ""
    try:
        weights = load(path)
    except FormatError as error:
        why = str(error)
    if why:
        assert path.name in why
        return
    for key, blob in weights.blobs.items():
        assert weights[key].shape == blob.shape
        assert weights[key].tobytes() == b"".join(blob.data.parts())
        assert len(weights[key].tobytes()) == blob.nbytes
    try:
        message = NetParameter.FromString(data)
    except DecodeError:
        return
    if not message.layers and not any(
        field(12, b"")[:1] in data and not (b.data or b.double_data)  # raw_data is NVIDIA's only
        for row in message.layer for b in row.blobs
    ):  # fmt: skip
        assert_same(weights, message)


# Large files.


def test_beyond_two_gigabytes(path):
    """Protobuf ends at 2 GiB. The first blob here is a hole in the file."""
    n = 2**29 + 3
    head = field(1, b"big") + field(2, b"InnerProduct")
    blob = shape(n) + b"\x2a" + varint(4 * n)
    start = b"\x3a" + varint(len(blob) + 4 * n) + blob
    start = b"\xa2\x06" + varint(len(head) + len(start) + 4 * n) + head + start
    with path.open("wb") as file:
        file.write(start)
        file.seek(len(start) + 4 * n - 4)
        file.write(struct.pack("<f", 2.5))
        if os.fstat(file.fileno()).st_blocks * 512 > 2**30:
            pytest.skip("this file system has no sparse files")
        file.write(GOOD)

    with load(path) as weights:
        assert [(key, blob.shape) for key, blob in weights.blobs.items()] == [
            ("big.weight", (n,)), ("fc.weight", (2, 3)), ("fc.bias", (2,)),
        ]  # fmt: skip
        assert weights["big.weight"][[0, 2**29 + 1, -1]].tolist() == [0, 0, 2.5]
        assert weights["fc.bias"].tolist() == [7, 8]


def test_a_large_file_is_mapped_and_not_read(path, tmp_path):
    """So its conversion takes little memory of its own; a small one, the twin, is read."""
    for n, kind in ((1 << 18, mmap.mmap), (1000, bytes)):
        path.write_bytes(layer("fc", "InnerProduct", shape(n) + field(5, bytes(4 * n))))
        with load(path) as weights:
            assert type(weights.blobs["fc.weight"].data.buffer.obj) is kind

    n = 1 << 23
    path.write_bytes(layer("fc", "InnerProduct", shape(n) + field(5, bytes(4 * n))))
    with load(path) as weights:
        tracemalloc.start()
        save(tmp_path / "x.npz", weights)
        assert tracemalloc.get_traced_memory()[1] < 8e6  # of 34 MB
        tracemalloc.stop()


def test_a_mapped_file_can_be_let_go(path):
    """Arrays outlive the weights they come from."""
    n = 300_000
    path.write_bytes(layer("fc", "InnerProduct", shape(n) + packed(5, *range(n))))
    with load(path) as weights:
        array = weights["fc.weight"]

    assert array[-1] == n - 1


# Writing.


def a_net():
    """Every kind of blob, sizes that differ, a repeated name, and a phase that is left out."""
    return Net(
        "written",
        (
            Input.of("in", (), "data", shape=({"dim": (2, 3, 7, 5)},)),
            Convolution.of(
                "conv/1.a", "data", "c", num_output=4, kernel_h=3, kernel_w=2,
                weight_filler={"type": "msra", "std": 0.1},
            ),
            BatchNorm.of("bn", "c", "c", eps=1e-3),
            Scale.of("scale", "c", "c", bias_term=True),
            make_layer("drop", "Dropout", ("c",), ("c",), {"include": ({"phase": Word("TRAIN")},)}),
            ReLU.of("relu", "c", "c"),
            InnerProduct.of("relu", "c", "fc", num_output=6),
        ),
    )  # fmt: skip


@pytest.fixture
def written(path):
    """Weights (and a net) -> the file as protobuf reads it."""

    def write(weights, net=None):
        save(path, weights, net)
        return NetParameter.FromString(path.read_bytes())

    return write


def test_protobuf_reads_what_is_written(written):
    net = a_net()
    weights = random_weights(net)

    message = written(weights, net)

    assert_same(weights, message)
    assert len(list(weights)) == 9


def test_structure_is_the_nets(written):
    """Protobuf's own parser of our prototxt gives the same layers; Caffe adds the phase."""
    net = a_net()
    message = written(random_weights(net), net)
    for row in message.layer:
        assert row.phase == 1
        row.ClearField("phase")
        row.ClearField("blobs")

    expected = text_format.Parse(to_prototxt(net), NetParameter())
    del expected.layer[4]  # Dropout, which is for TRAIN only

    assert list(message.layer) == list(expected.layer)
    assert message.name == "written"


def test_layers_of_the_weights_alone_come_last(made, written):
    net = a_net()
    more = made(layer("extra", "Crop", shape(2, 3) + DATA), layer("empty", "Crop"))
    weights = random_weights(net)

    message = written(Weights([*more.layers, *weights.layers]), net)

    assert [(row.name, row.type) for row in message.layer][-2:] == [
        ("relu", "InnerProduct"), ("extra", "Crop"),
    ]  # fmt: skip
    assert list(message.layer[-1].blobs[0].data) == list(SIX)


def test_blobs_of_the_prototxt_are_not_written_twice(written):
    """A prototxt may hold values; those of the weights are what counts."""
    ip = InnerProduct.of("fc", "data", "fc", num_output=2, bias_term=False)
    stale = {**ip.fields, "blobs": ({"shape": {"dim": (9,)}, "data": (1.0,) * 9},)}
    data = Input.of("in", (), "data", shape=({"dim": (1, 3)},))
    net = Net("n", (data, make_layer("fc", "InnerProduct", ("data",), ("fc",), stale)))
    weights = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}

    (blob,) = written(weights, net).layer[1].blobs

    assert list(blob.data) == [0, 1, 2, 3, 4, 5]


def test_old_shapes_are_kept(made, written, tmp_path):
    net = Net(
        "n",
        (
            Input.of("in", (), "data", shape=({"dim": (1, 6)},)),
            InnerProduct.of("fc", "data", "fc", num_output=1),
        ),
    )
    weights = made(
        layer("fc", "InnerProduct", legacy(1, 1, 1, 6) + DATA, legacy(1, 1, 1, 1) + packed(5, 3))
    )
    save(tmp_path / "copy.caffemodel", weights, net)

    message = NetParameter.FromString((tmp_path / "copy.caffemodel").read_bytes())

    blob = message.layer[1].blobs[0]
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 1, 1, 6)
    assert not blob.HasField("shape")


FC = Net(
    "n",
    (
        Input.of("in", (), "data", shape=({"dim": (1, 3)},)),
        InnerProduct.of("fc", "data", "fc", num_output=2),
    ),
)


def fc(weight="float32", bias="float32"):
    return {
        "fc.weight": np.arange(6).reshape(2, 3).astype(weight),
        "fc.bias": np.arange(2).astype(bias),
    }


def test_types(written):
    """Half width is widened, double stays, whole numbers are refused by name."""
    half, double = written(fc("float16", "float64"), FC).layer[1].blobs

    assert (list(half.data), list(double.double_data)) == ([0, 1, 2, 3, 4, 5], [0, 1])
    assert not half.double_data
    assert not double.data

    with pytest.raises(WeightsError, match=r"'fc\.bias' is int64; a caffemodel holds float32"):
        written(fc(bias="int64"), FC)


def without(weights, key):
    return {k: v for k, v in weights.items() if k != key}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (without(fc(), "fc.bias"), r"layer 'fc' .*: 1 blob \(2x3\) in the weights, 2 \(2x3, 2\)"),
        (
            fc() | {"fc.bias": np.zeros(3)},
            "layer 'fc' .*: bias is 3 in the weights, the net",
        ),
        (fc() | {"fc.weight": np.zeros((3, 2))}, "weight is 3x2 in the weights, the net needs 2x3"),
        (fc() | {"fc.2": np.zeros(2)}, "layer 'fc' .*: 3 blobs"),
        (
            {"other.weight": np.zeros(2)},
            "layer 'fc' .*: the weights have none for it, the net needs 2x3, 2",
        ),
        (without(fc(), "fc.bias") | {"fc.gamma": np.zeros(2)}, "its blobs are weight, gamma in"),
    ],
)
def test_weights_that_do_not_fit_the_net(tmp_path, path, weights, message):
    save(path, fc(), FC)
    before = path.read_bytes()

    with pytest.raises(WeightsError, match=message):
        save(path, weights, FC)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_net(path):
    with pytest.raises(WeightsError, match=r"contains no prototxt.*--net"):
        save(path, fc())
    assert not path.exists()


@pytest.mark.parametrize("seed", range(3))
def test_random_sizes_of_pieces(one, seed):
    """Any mix of packed and unpacked gives the values in the order of the file."""
    rng = random.Random(seed)
    values = [float(i) for i in range(600)]
    parts, at = [], 0
    while at < len(values):
        size = rng.choice([1, 2, 31, 32, 33, 65])
        parts.append(rng.choice([packed, unpacked])(5, *values[at : at + size]))
        at += size

    assert one(shape(20, 30), *parts).array().ravel().tolist() == values


@pytest.mark.parametrize("content", [field(100, b""), field(100, field(7, b"") * 2)])
def test_more_layers_and_blobs_than_any_net_has(path, content, monkeypatch):
    """A few bytes each in the file, hundreds in memory."""
    monkeypatch.setattr("resnet_proto.formats.caffemodel.MAX_ITEMS", 300)
    many, items = content * 100, 100 if content == field(100, b"") else 300
    path.write_bytes(many)
    assert len(load(path).layers) + len(load(path).blobs) <= items

    path.write_bytes(many * 4)
    with pytest.raises(FormatError, match="more than 300 layers and blobs"):
        load(path)


@pytest.mark.parametrize(
    "blob",
    [
        shape(2, 3) + DATA,
        DATA + shape(2, 3),
        shape(6) + DATA,
        shape(1, 1, 1, 1) + packed(5, 7),
        shape(2, 0) + packed(5),
        shape(7) + DATA,
        DATA[:-1] + shape(6),
    ],
)
def test_the_usual_blob_is_read_as_any_other(path, monkeypatch, blob):
    """``usual`` is a shorter way to what ``blob`` says, never to something else."""

    def said():
        try:
            found = read(path).blobs["fc.weight"]
        except FormatError as error:
            return str(error)
        return found._replace(data=None), found.array().tobytes()

    path.write_bytes(layer("fc", "InnerProduct", blob))
    short = said()
    monkeypatch.setattr("resnet_proto.formats.caffemodel.Walk.usual", lambda *_: None)

    assert said() == short
