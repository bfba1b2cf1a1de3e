"""npz: what numpy sees, what others made, and hostile archives."""

import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import layer, legacy, packed, shape

from resnet_proto.errors import FormatError, WeightsError
from resnet_proto.formats import load, save
from resnet_proto.layers import InnerProduct, Input
from resnet_proto.net import Net

ARRAYS = {
    "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.bias": np.array([0.5, -0.0], np.float64),
    "a/b.c.weight": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "n.scalar": np.full((), 7, np.float32),
    "n.none": np.empty((0, 3), np.float32),
    "n.whole": np.array([[-1, 2]], np.int64),
    "n.bool": np.array([True, False, True]),
    "plain": np.ones(3, np.float32),
    "dot.": np.zeros(2, np.float32),
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
    return tmp_path / "made.npz"


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    for key, array in theirs.items():
        assert (ours[key].shape, ours[key].dtype.name) == (array.shape, array.dtype.name), key
        assert ours[key].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes(), key


def test_numpy_sees_the_same(path):
    save(path, ARRAYS)

    with np.load(path, allow_pickle=False) as file:
        theirs = {key: file[key] for key in file.files if key != "metadata.json"}
    assert_same(theirs, ARRAYS)
    assert zipfile.ZipFile(path).testzip() is None
    assert_same(load(path), ARRAYS)


def test_same_bytes_twice(path, tmp_path, monkeypatch):
    """No date and no order of our own."""
    save(path, ARRAYS, None)
    monkeypatch.setattr("time.time", lambda: 1e9)
    save(tmp_path / "again.npz", dict(ARRAYS), None)

    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("how", [np.savez, np.savez_compressed])
def test_made_by_numpy(path, how):
    """Fortran order and big-endian too."""
    arrays = {
        "f.weight": np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
        "big.weight": np.arange(6, dtype=">f4").reshape(3, 2),
        "both.weight": np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
        **ARRAYS,
    }
    how(path, **arrays)

    weights = load(path)

    assert_same(weights, arrays)
    assert all(array.dtype.isnative for array in weights.values())
    for key, blob in weights.blobs.items():
        little = arrays[key].astype(arrays[key].dtype.newbyteorder("<"))
        assert b"".join(blob.data.parts()) == little.tobytes()
        assert blob.nbytes == little.nbytes


def test_large_arrays_come_in_parts(path, monkeypatch):
    monkeypatch.setattr("resnet_proto.formats.npz.PART", 64)
    array = np.arange(1001, dtype=">f4").reshape(7, 143)
    np.savez_compressed(path, x=array)

    parts = list(load(path).blobs["x"].data.parts())

    assert b"".join(parts) == array.astype("<f4").tobytes()
    assert max(map(len, parts)) <= 64


@pytest.mark.parametrize("data", [b"{}", b"[1]", b"\xff", b"{" * 9, b"[" * 100_000, b'{"net": 5}'])
def test_foreign_metadata_is_ignored(path, data):
    np.savez(path, **{"fc.weight": ARRAYS["fc.weight"]})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", data)

    weights = load(path)

    assert list(weights) == ["fc.weight"]
    assert weights.net_text is None


ROWS = ["", "5", '{"fc": 5}', '{"fc": {"name": 5}}', '{"fc": {"legacy": "weight"}}', "[" * 100_000]


@pytest.mark.parametrize("rows", ROWS, ids=range(len(ROWS)))
def test_metadata_that_is_not_ours(path, rows):
    np.savez(path, **{"fc.weight": ARRAYS["fc.weight"]})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", json.dumps({"layers": rows}))

    (row,) = load(path).layers

    assert (row.name, row.type, row.blobs[0].legacy) == ("fc", "", False)


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


def npy(array, **changes):
    """An npy file whose header says something else."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | changes
    text = repr(header).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + array.tobytes()


SIX = ARRAYS["fc.weight"]


@pytest.mark.parametrize(
    ("changes", "twin", "words"),
    [
        ({"shape": (2, 4)}, {"shape": (3, 2)}, "needs 32 bytes, it has 24"),
        ({"shape": (2, 2)}, {"shape": (1, 6)}, "needs 16 bytes, it has 24"),
        ({"shape": (2**40, 2**40)}, {"shape": (6,)}, "there is no array of shape (10995"),
        ({"shape": (-2, -3)}, {"shape": (2, 3)}, "(-2, -3)"),
        ({"shape": (1,) * 65 + (6,)}, {"shape": (1,) * 31 + (6,)}, "(1, 1, 1"),
        ({"descr": "<c16", "shape": ()}, {"descr": "<f8", "shape": (3,)}, "complex128"),
        ({"descr": "|S4", "shape": (6,)}, {"descr": "<i4", "shape": (6,)}, "expected numbers"),
        ({"descr": "<U1", "shape": (6,)}, {"descr": "<u4", "shape": (6,)}, "expected numbers"),
        ({"descr": "|V2", "shape": (12,)}, {"descr": "<f2", "shape": (12,)}, "expected numbers"),
        ({"descr": [("a", "<f4")]}, {"descr": "<f4"}, "expected numbers"),
        ({"descr": ("<f4", (3,)), "shape": (2,)}, {}, "expected numbers"),
        ({"descr": "nonsense"}, {}, "'x.npy' is damaged"),
        ({"descr": 5}, {}, "'x.npy' is damaged"),
        ({"shape": 6}, {"shape": (6,)}, "'x.npy' is damaged"),
        ({"shape": (6.0,)}, {}, "'x.npy' is damaged"),
        ({"fortran_order": 3}, {}, "'x.npy' is damaged"),
        ({"more": 3}, {}, "'x.npy' is damaged"),
    ],
)
def test_headers(path, changes, twin, words):
    for header, good in ((twin, True), (changes, False)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", npy(SIX, **header))
        if good:
            assert load(path)["x"].size
        else:
            with pytest.raises(FormatError, match=r"made\.npz: 'x\.npy'") as refused:
                load(path)
            assert words in str(refused.value)


def test_empty_arrays_of_impossible_shapes(path):
    for sizes, good in (((0, 2**40), True), ((0, 2**40, 2**40), False)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", npy(np.empty(0, np.float32), shape=sizes))
        if good:
            assert load(path)["x"].shape == sizes
        else:
            with pytest.raises(FormatError, match="1099511627776"):
                load(path)


class Bomb:
    """Tells on whoever unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_objects_are_not_unpickled(path):
    np.savez(path, x=np.array([Bomb()], object))

    with pytest.raises(
        FormatError, match=r"made\.npz: 'x\.npy' has values of type object.*Pickles"
    ):
        load(path)

    np.savez(path, x=np.array([1]))
    assert load(path)["x"].tolist() == [1]


@pytest.mark.parametrize("values", [["text"], [1j], [b"x"], np.array([(1, 2.0)], "i4,f4")])
def test_what_is_no_number_is_not_called_damaged(path, values):
    np.savez(path, **{"a.b": values})
    with pytest.raises(FormatError, match=r"'a\.b\.npy' has values of type .*save it as numbers"):
        load(path)

    np.savez(path, **{"a.b": [True]})
    assert load(path)["a.b"].tolist() == [True]


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_inflates(path, version):
    """A megabyte may hold a gigabyte of spaces: its length is looked at before it is read."""
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    width = 2 if version == 1 else 4

    def write(said, spaces):
        head = b"\x93NUMPY" + bytes([version, 0]) + said.to_bytes(width, "little")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", head + text + b" " * spaces + b"\n" + SIX.tobytes())

    write(9_000, 9_000 - 1 - len(text))
    assert load(path)["x"].tolist() == SIX.tolist()

    size = 65_535 if version == 1 else 30_000_000
    write(size, size - 1 - len(text))
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"'x\.npy' is damaged: (its h|H)eader"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


@pytest.mark.parametrize("entry", ["x.npy", "metadata.json"])
def test_an_entry_that_numpy_would_not_write(path, entry):
    """LZMA asks for as much memory as it likes, and has an error of its own."""
    content = {"x.npy": npy(SIX), "metadata.json": b"{}"}
    for method, good in ((zipfile.ZIP_DEFLATED, True), (zipfile.ZIP_LZMA, False)):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data, method if name == entry else zipfile.ZIP_STORED)
        if good:
            assert load(path)["x"].tolist() == SIX.tolist()
        else:
            with pytest.raises(FormatError, match=rf"made\.npz: '{entry}' is packed by method 14"):
                load(path)


def test_a_header_that_is_nested(path):
    """Python's parser runs out of memory of its own."""
    for sizes, good in ((b"+6", True), (b"-" * 9000 + b"6", False)):
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + sizes + b",)}\n"
        head = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", head + SIX.tobytes())
        if good:
            assert load(path)["x"].size == 6
        else:
            with pytest.raises(FormatError, match=r"'x\.npy' is damaged: its header"):
                load(path)


def test_metadata_that_inflates(path):
    """Sixteen megabytes are read, spaces here; one byte more is refused."""
    for size, good in ((1 << 24, True), ((1 << 24) + 1, False), (1 << 25, False)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", npy(SIX))
            archive.writestr("metadata.json", b" " * size)
        if good:
            assert list(load(path)) == ["x"]
        else:
            with pytest.raises(FormatError, match=r"made\.npz: its metadata has more than 16,777"):
                load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(path):
    for second, good in (("y.npy", True), ("x.npy", False), ("x", False)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", npy(SIX))
            archive.writestr(second, npy(SIX))
        if good:
            assert list(load(path)) == ["x", "y"]
        else:
            with pytest.raises(FormatError, match="two arrays have one name"):
                load(path)


@pytest.mark.parametrize(
    ("key", "twin", "message"),
    [
        ("l\udcff.weight", "l\xff.weight", "not UTF-8"),
        ("a\0b.weight", "a\1b.weight", "an npz archive cannot hold"),
        ("x" * 65_532, "x" * 65_531, "an npz archive cannot hold"),
    ],
    ids=["utf-8", "nul", "long"],
)
def test_names_that_an_archive_cannot_hold(path, key, twin, message):
    save(path, {twin: SIX})
    assert list(load(path)) == [twin]

    with pytest.raises(WeightsError, match=message):
        save(path, {key: SIX})
    assert list(load(path)) == [twin]


@pytest.mark.parametrize("array", ["text", object(), 1j, np.array([(1, 2.0)], "i4,f4")])
def test_no_numbers(path, array):
    with pytest.raises(WeightsError, match=r"'x\.weight' is .*; expected an array of numbers"):
        save(path, {"x.weight": array})
    assert not path.exists()


def test_cut_at_every_byte(path):
    """The directory of a zip archive is at its end."""
    save(path, {"fc.weight": SIX})
    whole = path.read_bytes()

    assert list(load(path)) == ["fc.weight"]
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(FormatError, match=r"made\.npz"):
            load(path)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "an empty file"),
        (b"<html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "the HDF5 file is damaged"),  # whatever its suffix
        (b"\x93NUMPY\x01\x00", "a single numpy array"),
        (layer("fc", "InnerProduct", packed(5, 1)), "is a caffemodel, not an npz file"),
        (b"PK\x03\x04" + bytes(60), "not an npz file"),
    ],
)
def test_other_files(path, head, words):
    path.write_bytes(head)

    with pytest.raises(FormatError, match=words):
        load(path)


def test_encrypted_and_odd_archives(path):
    """An encrypted entry, an unknown compression."""
    save(path, {"x": SIX})
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\x01\x02")
    for offset, value, words in ((8, 1, "damaged"), (10, 77, "packed")):  # its flags, its method
        changed = whole.copy()
        for start in (0, at):
            changed[start + offset - (2 if start == 0 else 0)] = value
        path.write_bytes(changed)
        with pytest.raises(FormatError, match=rf"'x\.npy' is {words}"):
            load(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "damaged.npz"
    np.savez_compressed(path, **{"fc.weight": SIX, "b": np.asfortranarray(SIX)})
    packed_bytes = path.read_bytes()
    save(path, {"fc.weight": SIX, "b": SIX[:1]}, None)
    return path, (path.read_bytes(), packed_bytes)


@settings(max_examples=400)
@given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_damage(small, data):
    """Refused, or read to arrays of the shapes that it says."""
    path, files = small
    content = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    path.write_bytes(content)
    try:
        with load(path) as weights:
            for key, blob in weights.blobs.items():
                array = weights[key]
                assert array.shape == blob.shape
                assert sum(map(len, blob.data.parts())) == blob.nbytes == array.nbytes
        why = path.name
    except FormatError as error:
        why = str(error)
    assert path.name in why


def test_header_text_damage(path):
    """Bytes of the header's text, one at a time; its checksum is right."""
    whole = npy(SIX)
    for at in range(len(whole) - SIX.nbytes):
        for byte in b"\0'({,-9LeN \\\xff":
            changed = bytearray(whole)
            changed[at] = byte
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("x.npy", changed)
            why = "'x.npy'"
            try:
                load(path)["x"]
            except FormatError as error:
                why = str(error)
            assert "'x.npy'" in why


def test_values_that_end_early(path):
    """The size in the directory may lie; the values do not come."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(SIX, shape=(2, 4)))
    whole = path.read_bytes()
    size = len(npy(SIX))
    path.write_bytes(
        whole.replace(struct.pack("<2I", size, size), struct.pack("<2I", size, size + 8))
    )

    with load(path) as weights, pytest.raises(FormatError, match=r"'x\.npy' is damaged"):
        weights["x"]
