"""safetensors: what the package sees, what others made, and hostile files."""

import json
import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as package
from wire import layer, legacy, packed, shape

from resnet_proto.errors import FormatError, ResNetProtoError, WeightsError
from resnet_proto.formats import load, save
from resnet_proto.layers import InnerProduct, Input
from resnet_proto.net import Net

ARRAYS = {
    "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.bias": np.array([0.5, -0.0], np.float64),
    "a/b.c.weight": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "é.scalar": np.full((), 7, np.float32),
    "n.none": np.empty((0, 3), np.float32),
    "n.whole": np.array([[-1, 2]], np.int64),
    "n.bool": np.array([True, False, True]),
    "plain": np.ones(3, np.float32),
    'q"\\\n.x': np.ones(1, np.uint8),
}
NET = Net(
    "n",
    (
        Input.of("in", (), "data", shape=({"dim": (1, 3)},)),
        InnerProduct.of("fc", "data", "fc", num_output=2),
    ),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made.safetensors"


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for key, array in theirs.items():
        assert (ours[key].shape, ours[key].dtype) == (array.shape, array.dtype), key
        assert ours[key].tobytes() == array.tobytes(), key


def test_the_package_sees_the_same(path):
    save(path, ARRAYS)

    assert_same(package.load_file(path), ARRAYS)
    assert_same(load(path), ARRAYS)
    assert list(load(path)) == list(ARRAYS)


def test_values_are_aligned(path):
    """The header ends at a multiple of eight, whatever the names are."""
    for name in ("a", "ab", "abc", "abcdefgh"):
        save(path, {name: np.ones(2)})
        (size,) = struct.unpack("<Q", path.read_bytes()[:8])
        assert size % 8 == 0


def test_same_bytes_twice(path, tmp_path):
    save(path, ARRAYS)
    save(tmp_path / "again.safetensors", dict(ARRAYS))

    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_made_by_the_package(path):
    package.save_file(ARRAYS, path, {"format": "pt", "layers": "of an onion", "net": "fishing"})

    weights = load(path)

    assert_same(weights, ARRAYS)
    for key, blob in weights.blobs.items():
        assert b"".join(blob.data.parts()) == ARRAYS[key].tobytes()
        assert (blob.nbytes, blob.dtype) == (ARRAYS[key].nbytes, ARRAYS[key].dtype.name)


@pytest.mark.parametrize("sizes", [(1001,), (7, 143), (143, 7), (1, 1001), (1001, 1)])
def test_large_arrays_come_in_parts(path, monkeypatch, sizes):
    monkeypatch.setattr("resnet_proto.formats.safetensors.PART", 64)
    monkeypatch.setattr("resnet_proto.weights.PART", 64)
    array = np.arange(1001, dtype=np.float32).reshape(sizes)
    save(path, {"x": array})

    parts = list(load(path).blobs["x"].data.parts())

    assert b"".join(parts) == array.tobytes()
    assert max(map(len, parts)) <= 64


def test_big_endian_and_strided_arrays_are_written_plainly(path):
    arrays = {
        "big": np.arange(6, dtype=">f4"),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }

    save(path, arrays)

    theirs = package.load_file(path)
    assert theirs["big"].tolist() == [0, 1, 2, 3, 4, 5]
    assert theirs["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_the_net_comes_along(path, tmp_path):
    """Back to a caffemodel without a prototxt; the bytes are those of the direct way."""
    source = tmp_path / "source.caffemodel"
    source.write_bytes(
        layer(
            "fc", "InnerProduct",
            legacy(1, 1, 2, 3) + packed(5, *range(6)), shape(2) + packed(8, 1, 2),
        )
        + layer("loss", "Crop") + layer("x", "Crop", shape(1) + packed(5, 4))
        + layer("x", "Scale", shape(1) + packed(5, 5), bottoms="ab")
    )  # fmt: skip
    direct, back = tmp_path / "direct.caffemodel", tmp_path / "back.caffemodel"
    save(direct, load(source), NET)

    save(path, load(source), NET)
    save(back, load(path))

    assert back.read_bytes() == direct.read_bytes()
    assert list(load(path)) == ["fc.weight", "fc.bias", "x.0", "x#2.bias"]


def made(header, data=b"", size=None):
    """A file by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(dtype="F32", sizes=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(sizes), "data_offsets": list(offsets)}


SIX = np.arange(6, dtype=np.float32).tobytes()
GOOD = made({"x": tensor()}, SIX)
TWICE = b'{"x":%s,"x":%s}' % ((json.dumps(tensor()).encode(),) * 2)


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:-1],
        GOOD + b"x",
        made({"x": tensor()}, SIX, size=2**40),
        made({"x": tensor()}, SIX, size=20),
        made({"x": tensor(sizes=(2, 4))}, SIX),
        made({"x": tensor(sizes=(2, 4), offsets=(0, 32))}, SIX),
        made({"x": tensor(sizes=(2**40, 2**40))}, SIX),
        made({"x": tensor(sizes=(-2, -3))}, SIX),
        made({"x": tensor(offsets=(24, 0))}, SIX),
        made({"x": tensor(offsets=(1, 25))}, SIX + b"x"),
        made({"x": tensor(), "y": tensor()}, SIX),
        made({"x": tensor("F31")}, SIX),
        made({"x": 5}, SIX),
        made({"x": tensor(), "__metadata__": {"a": 5}}, SIX),
        made(b"{" * 99, SIX),
        made(b'{"x":\xff}', SIX),
        made({"x": tensor(sizes=(0, 2**40, 2**40), offsets=(0, 0))}),
        made({"x": tensor(sizes=[1] * 64 + [6])}, SIX),
    ],
    ids=range(18),
)
def test_damaged(path, data):
    path.write_bytes(GOOD)
    assert load(path)["x"].tolist() == [[0, 1, 2], [3, 4, 5]]

    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"made\.safetensors"):
        load(path)


def test_one_name_twice(path):
    """The package takes one of them; what comes is an array of that shape."""
    path.write_bytes(made(TWICE, SIX))

    assert list(load(path)) == ["x"]


def test_names_that_look_alike(path):
    arrays = {"x": np.ones(2, np.float32), "x.": np.zeros(3, np.float32)}
    package.save_file(arrays, path)

    assert_same(load(path), arrays)


def test_bfloat16_becomes_float32(path, tmp_path):
    """Each value exactly, as numbers that float32 and not float16 has; also written again."""
    values = np.array([[1.5, -3e38, 2**-133], [np.inf, 0, -(2.0**40)]], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = {"x": tensor("F32", (1,), (0, 4)), "a.b": tensor("BF16", (2, 3), (4, 16))}
    path.write_bytes(made(header, b"...." + halves))

    weights = load(path)
    save(tmp_path / "y.npz", weights)

    expected = (values.view(np.uint32) >> 16 << 16).view(np.float32)
    blob = weights.blobs["a.b"]
    assert (blob.dtype, blob.nbytes, blob.stored) == ("float32", 24, "bfloat16")
    assert weights.blobs["x"].stored == ""
    for found in (weights["a.b"], load(tmp_path / "y.npz")["a.b"]):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_types_that_numpy_lacks(path, dtype):
    path.write_bytes(made({"a.b": tensor(dtype, (2, 3), (0, 6))}, bytes(6)))
    with pytest.raises(FormatError, match=rf"'a\.b' is {dtype}, which numpy lacks; save it as"):
        load(path)

    path.write_bytes(made({"a.b": tensor("F16", (2, 3), (0, 12))}, bytes(12)))
    assert load(path)["a.b"].shape == (2, 3)


@pytest.mark.parametrize(
    ("key", "twin", "message"),
    [
        ("l\udcff.weight", "l\xff.weight", "not UTF-8"),
        ("__metadata__", "__metadata__.x", "'__metadata__' is what safetensors calls"),
    ],
)
def test_names_that_it_cannot_hold(path, key, twin, message):
    save(path, {twin: np.ones(2)})
    assert list(load(path)) == [twin]

    with pytest.raises(WeightsError, match=message):
        save(path, {key: np.ones(2)})
    assert list(load(path)) == [twin]


def test_types_that_it_cannot_hold(path):
    save(path, {"x": np.float64(1)})

    with pytest.raises(WeightsError, match=r"'x' is (longdouble|float128); known: float64"):
        save(path, {"x": np.longdouble(1)})


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "an empty file"),
        (b"<html>", "a web page"),
        (b"PK\x03\x04", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (layer("fc", "InnerProduct", packed(5, 1)), "is a caffemodel, not a safetensors file"),
    ],
)
def test_other_files(path, head, words):
    path.write_bytes(head)

    with pytest.raises(FormatError, match=words):
        load(path)


def test_cut_at_every_byte(path):
    save(path, {"fc.weight": np.ones((2, 3), np.float32)})
    whole = path.read_bytes()

    assert list(load(path)) == ["fc.weight"]
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(FormatError, match=r"made\.safetensors"):
            load(path)


@settings(max_examples=400)
@given(st.data())
def test_damage(tmp_path_factory, data):
    """Refused, or read to arrays of the shapes that it says."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    header = {
        "__metadata__": {"layers": '{"x":{"type":"T"}}'},
        "x": tensor(),
        "é": tensor(sizes=(1,), offsets=(24, 28)),
    }
    content = bytearray(made(header, SIX + bytes(4)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    path.write_bytes(content)
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
        assert sum(map(len, blob.data.parts())) == blob.nbytes == weights[key].nbytes


@pytest.mark.parametrize("action", ["load", "save"])
def test_without_the_package(path, monkeypatch, action):
    save(path, {"x": np.ones(2)})
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors", None)

    with pytest.raises(ResNetProtoError, match=r"pip install 'resnet-proto\[safetensors\]'"):
        load(path) if action == "load" else save(path, {"y": np.ones(2)})
    assert path.read_bytes() == before
