"""HDF5: what h5py sees, what the real Caffe writes and reads, and hostile files."""

import os
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_proto.engine import forward, random_inputs
from resnet_proto.errors import FormatError, ResNetProtoError, WeightsError
from resnet_proto.fit import exact, fit, match, named
from resnet_proto.formats import FORMATS as ALL
from resnet_proto.formats import convert, load, save
from resnet_proto.layers import (
    BatchNorm,
    Bias,
    Convolution,
    Eltwise,
    InnerProduct,
    Input,
    PReLU,
    Scale,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.report.inspect import inspect
from resnet_proto.weights import Weights, random_weights

NET = Net(
    "small",
    (
        Input.of("in", (), "data", shape=({"dim": (2, 3, 7, 5)},)),
        Convolution.of("conv10", "data", "c", num_output=4, kernel_h=3, kernel_w=2),
        BatchNorm.of("bn", "c", "b"),
        Scale.of("conv2", "b", "s", bias_term=True),
        PReLU.of("relu", "s", "s"),
        Eltwise.of("sum", ("b", "s"), "e"),
        Scale.of("two", ("e", "s"), "t", axis=0, bias_term=True),
        Bias.of("more", "t", "t"),
        InnerProduct.of("fc", "t", "fc", num_output=6, bias_term=False),
    ),
)
"""Layers of one blob, two and three, whose names are in another order than their places."""
WRITE = """
import sys, caffe
net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
net.save_hdf5(sys.argv[3])
"""
READ = """
import sys, caffe, numpy as np
net = caffe.Net(sys.argv[1], caffe.TEST)
net.load_hdf5(sys.argv[2])
blobs = [blob.data for name in net.params for blob in net.params[name]]
net.blobs["data"].data[...] = np.load(sys.argv[3])
np.savez(sys.argv[4], *blobs, **net.forward())
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made.caffemodel.h5"


@pytest.fixture
def in_caffe(tmp_path, caffe_python):
    """Run a script with the real Caffe; the net's file is its first argument."""
    (tmp_path / "net.prototxt").write_text(to_prototxt(NET))

    def run(script, *arguments):
        command = [caffe_python, "-c", script, tmp_path / "net.prototxt", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    return run


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    for key in theirs:
        assert (ours[key].shape, ours[key].dtype) == (theirs[key].shape, theirs[key].dtype), key
        assert ours[key].tobytes() == theirs[key].tobytes(), key


def test_caffe_writes_what_we_read(tmp_path, in_caffe):
    """Numbers are the names, until there is a net; every command that takes both sees no other."""
    weights, x = random_weights(NET), random_inputs(NET)
    save(tmp_path / "x.caffemodel", weights, NET)
    in_caffe(WRITE, tmp_path / "x.caffemodel", tmp_path / "x.caffemodel.h5")

    theirs = load(tmp_path / "x.caffemodel.h5")

    assert theirs["two.0"].tobytes() == weights["two.bias"].tobytes()
    assert len(theirs) == len(weights)
    assert {"in", "sum", "s_relu_0_split"} < {layer.label for layer in theirs.layers}
    for name in (name for name in ALL if name != "pt" or find_spec("torch")):
        convert(tmp_path / "x.caffemodel.h5", tmp_path / f"y.{name}", NET)
        back = load(tmp_path / f"y.{name}")
        assert sorted(back) == sorted(weights)
        assert all(back[key].tobytes() == weights[key].tobytes() for key in back)
    ours = forward(NET, weights, x)
    assert all(np.array_equal(ours[k], v) for k, v in forward(NET, theirs, x).items())
    for step in NET.walk():
        assert [blob.name for blob in fit(named(theirs, NET), step.label, exact(step.blobs))] == [
            *step.blobs
        ]
    shown = inspect(theirs, NET)
    assert shown.fits
    assert [row.blob for row in shown.rows if row.layer == "bn"] == [
        "mean", "variance", "scale_factor",
    ]  # fmt: skip


def test_caffe_reads_what_we_write(tmp_path, path, in_caffe):
    """Also from old four-axis blobs, which HDF5 holds in the net's shape; with all metadata."""
    weights, x = random_weights(NET), random_inputs(NET)["data"]
    rows = [
        blob._replace(shape=(1,) * (4 - len(blob.shape)) + blob.shape, legacy=True)
        for blob in weights.blobs.values()
    ]
    old = Weights([layer._replace(blobs=tuple(b for b in rows if b.layer == layer.label))
                   for layer in weights.layers], str(tmp_path / "net.prototxt"))  # fmt: skip
    save(path, old, NET, options={"fold-bn": "yes"})
    np.save(tmp_path / "x.npy", x)
    with h5py.File(path) as file:
        assert {*file} == {
            "data", "layers", "net", "tool", "source", "source_sha256", "options"
        }  # fmt: skip

    in_caffe(READ, path, tmp_path / "x.npy", tmp_path / "y.npz")

    ours = forward(NET, weights, x)["fc"]
    with np.load(tmp_path / "y.npz") as theirs:
        values = [theirs[f"arr_{i}"] for i in range(len(weights))]
        assert [v.shape for v in values] == [v.shape for v in weights.values()]
        assert [v.tobytes() for v in values] == [v.tobytes() for v in weights.values()]
        assert np.linalg.norm(ours - theirs["fc"]) < 1e-5 * np.linalg.norm(ours)
    assert load(path).blobs["conv10.bias"].shape == (1, 1, 1, 4)


def test_h5py_sees_caffes_layout(path):
    weights = random_weights(NET)
    save(path, weights, NET)

    with h5py.File(path) as file:
        assert {*file} == {"data", "layers", "net", "tool"}
        assert file["net"][()].decode() == to_prototxt(NET)
        stored = {}
        file["data"].visititems(
            lambda name, item: stored.update({name: item[()]})
            if isinstance(item, h5py.Dataset) else None
        )  # fmt: skip
        assert file["data/two/0"].dtype == "<f4"
        info = h5py.h5o.get_info(file["data/two/0"].id)
        assert (info.mtime, info.ctime) == (0, 0)
    assert len(stored) == len(weights)
    assert stored["bn/2"].tobytes() == weights["bn.scale_factor"].tobytes()
    assert stored["more/0"].tobytes() == weights["more.bias"].tobytes()
    assert stored["conv10/0"].tobytes() == weights["conv10.weight"].tobytes()


def test_same_bytes_twice(path, tmp_path):
    save(path, random_weights(NET), NET)
    save(tmp_path / "again.h5", random_weights(NET), NET)

    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes()


ARRAYS = {
    "fc.0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.1": np.array([0.5, -0.0], np.float64),
    "a/b.c.0": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "a.0": np.full((), 7, np.float32),
    "a.1": np.empty((0, 3), np.float32),
    "é x.0": np.array([[-1, 2]], np.int64),
    "1.0": np.arange(5, dtype=np.uint8),
}


def test_any_numbers(path):
    """Every type that Caffe takes from HDF5, no axis and an empty one; the order is kept."""
    save(path, ARRAYS)

    assert_same(load(path), ARRAYS)


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (3, 2)},
        {"chunks": (3, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (300, 2), "maxshape": (None, 5)},
    ],
)
def test_files_of_h5py(path, libver, options):
    """As people make them: in chunks, packed, and of either byte order."""
    values = np.arange(1250, dtype=">f8").reshape(250, 5)
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["keras"] = "not looked at"
        group = file.create_group("data/fc")
        group.create_dataset("0", data=values, **options)
        group.create_dataset("1", data=np.arange(7, dtype=">f4"))
        group.create_dataset("2", data=np.arange(3, dtype="<i2"))

    weights = load(path)

    assert weights["fc.0"].tolist() == values.tolist()
    assert (
        b"".join(map(bytes, weights.blobs["fc.0"].data.parts())) == values.astype("<f8").tobytes()
    )
    assert [weights[k].tolist() for k in ("fc.1", "fc.2")] == [[*range(7)], [*range(3)]]
    assert weights.blobs["fc.2"].dtype == "int16"


def test_large_chunks_part_by_part(path, monkeypatch):
    monkeypatch.setattr("resnet_proto.formats.hdf5.PART", 1000)
    values = np.arange(1250, dtype="<f4").reshape(250, 5)
    with h5py.File(path, "w") as file:
        file.create_dataset("data/fc/0", data=values, chunks=(7, 5), compression="gzip")

    parts = [bytes(part) for part in load(path).blobs["fc.0"].data.parts()]

    assert len(parts) > 4
    assert b"".join(parts) == values.tobytes()


def test_content_goes_before_the_suffix(path, tmp_path):
    """As mainline Caffe has it: H5Fis_hdf5."""
    save(path, ARRAYS)
    for name in ("x.caffemodel", "x.npz", "x.hdf5", "x"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert_same(load(tmp_path / name), ARRAYS)
    save(tmp_path / "y.npz", ARRAYS)
    (tmp_path / "y.h5").write_bytes((tmp_path / "y.npz").read_bytes())
    with pytest.raises(FormatError, match=r"y\.h5 is a zip archive .*, not an HDF5 file"):
        load(tmp_path / "y.h5")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"fc.weight": [1.0], "fc.bias": [2.0]}, r"not known of 'fc.weight', 'fc.bias'.*--net"),
        ({"fc.1": [1.0], "fc.x": [1.0]}, "not known of 'fc.1', 'fc.x'"),
        ({"fc.0": [True]}, r"'fc.0' is bool, which Caffe does not read"),
        ({"a//b.0": [1.0]}, "no HDF5 group can be called 'a//b'; rename"),
        ({"./b.0": [1.0]}, "no HDF5 group can be called"),
        ({"a\0.0": [1.0]}, "no HDF5 group can be called"),
        ({"a.0": [1.0], "a/0.0": [1.0]}, "layer 'a/0' and blob 0 of layer 'a' would have one name"),
        ({"\udcff.0": [1.0]}, "is not UTF-8"),
    ],
)
def test_what_the_layout_cannot_hold(path, arrays, words):
    with pytest.raises(WeightsError, match=words):
        save(path, arrays)
    assert not path.exists()

    save(path, {"fc.0": [1.0], "a/b.0": [2.0], ".a.0": [1.0], "a/1.0": [1.0]})
    assert load(path)["a/b.0"].tolist() == [2]


def test_names_that_caffe_does_not_find(path):
    """Said when it is written."""
    warnings = []
    net = Net("n", (NET.layers[0], Convolution.of("a/b", "data", "c", num_output=2, kernel_size=2)))
    save(path, random_weights(net), net, warnings=warnings)
    (warning,) = warnings
    assert "slash or repeats: 1 layer, the first is 'a/b'; a caffemodel" in warning

    save(path, random_weights(NET), NET, warnings=warnings)
    save(path.with_name("x.npz"), random_weights(net), net, warnings=warnings)
    assert len(warnings) == 1


def test_without_the_package(path, monkeypatch):
    save(path, ARRAYS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    for use in (lambda: load(path), lambda: save(path, ARRAYS)):
        with pytest.raises(
            ResNetProtoError, match=r"h5py package: pip install 'resnet-proto\[hdf5"
        ):
            use()


def test_a_layer_of_unknown_type(path):
    layers = (NET.layers[0], make_layer("g", "Guess", ("data",), ("g",)))
    weights = {"g.0": np.ones((2, 3)), "g.1": np.ones(4)}
    save(path, weights, Net("n", layers))

    assert_same(load(path), weights)


# ---- files that were made to do harm


def good(file):
    file.create_dataset("data/fc/0", data=np.arange(6.0).reshape(2, 3))


def link(target):
    def make(file):
        good(file)
        file["data/fc/1"] = target

    return make


def dataset(**options):
    def make(file):
        good(file)
        file.create_dataset("data/fc/1", **options)

    return make


def low_level(change, shape=(1 << 20,)):
    """A dataset of a plan that h5py's upper half does not make."""

    def make(file):
        good(file)
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        change(plan)
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file["data/fc"].id, b"1", h5py.h5t.IEEE_F32LE, space, plan)

    return make


def virtual(file, **limits):
    good(file)
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4", **limits)
    source = h5py.VirtualSource("fifo", "x", shape=(4,), **limits)
    layout[: h5py.h5s.UNLIMITED if limits else 4] = source[: h5py.h5s.UNLIMITED if limits else 4]
    file.create_virtual_dataset("data/fc/1", layout)


def loop(file):
    good(file)
    file["data/fc/again"] = file["data"]


def twice(file):
    good(file)
    file["data/fc/1"] = file["data/fc/0"]


def deep(file):
    good(file)
    file.create_dataset(f"data/{'a/' * 40}0", data=[1.0])


def bomb(file):
    """A chunk of a gigabyte, all but empty, of which four values are used."""
    good(file)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1 << 28,))
    plan.set_deflate(9)
    space = h5py.h5s.create_simple((4,), (h5py.h5s.UNLIMITED,))
    made = h5py.h5d.create(file["data/fc"].id, b"1", h5py.h5t.IEEE_F32LE, space, plan)
    made.write_direct_chunk((0,), b"x" * 1000)


HOSTILE = {
    "soft link": (link(h5py.SoftLink("/data/fc/0")), "a link to another place or file"),
    "external link": (link(h5py.ExternalLink("fifo", "/x")), "a link to another place or file"),
    "group in its own": (loop, "'again' has two names"),
    "one blob twice": (twice, "'1' has two names"),
    "too deep": (deep, "more than 32 groups within each other"),
    "external storage": (
        low_level(lambda plan: plan.set_external(b"fifo", 0, 1 << 22)), "values in another file"
    ),
    "virtual": (virtual, "values in another file"),
    "virtual, any size": (lambda file: virtual(file, maxshape=(None,)), "values in another file"),
    "fill value": (
        low_level(lambda plan: plan.set_fill_value(np.ones(1, "f4"))), "4,194,304 bytes, and has 0"
    ),
    "fill value, chunks": (low_level(lambda plan: plan.set_chunk((64,))), "and has 0 in the file"),
    "huge": (low_level(lambda plan: None, (1 << 33, 1 << 33)), "is 8589934592x8589934592; there"),
    "large chunk": (bomb, "16 bytes, and has 1,000 in"),
    "strings": (dataset(data="text"), "'fc.1' holds no numbers"),
    "compound": (dataset(data=np.zeros(2, "i4,f4")), "'fc.1' holds no numbers"),
    "bool": (dataset(data=[True, False]), "'fc.1' holds no numbers"),
    "complex": (dataset(data=[1j]), "'fc.1' holds no numbers"),
    "references": (dataset(shape=(2,), dtype=h5py.ref_dtype), "'fc.1' holds no numbers"),
    "lists": (dataset(shape=(2,), dtype=h5py.vlen_dtype("f4")), "'fc.1' holds no numbers"),
    "nothing": (dataset(data=h5py.Empty("f4")), "'fc.1' holds no numbers"),
    "long double": (dataset(data=np.zeros(2, np.longdouble)), "save it as float32 or float64"),
    "a type": (link(np.dtype("f4")), "'1' is not a blob"),
    "another filter": (dataset(data=np.zeros(9), compression="lzf"), "packed by filter 32000"),
    "a named blob": (
        lambda file: file.create_dataset("data/fc/weight", data=[1.0]), "'weight' is not a blob"
    ),
    "no layer": (lambda file: file.create_dataset("data/0", data=[1.0]), "a blob outside of any"),
    "data is a blob": (lambda file: file.create_dataset("data", data=[1.0]), "is not a group"),
    "data elsewhere": (
        lambda file: file.__setitem__("data", h5py.ExternalLink("fifo", "/x")), "a link to another"
    ),
    "no data": (lambda file: file.create_group("other"), "no group 'data'"),
    "keras": (lambda file: file.create_group("model_weights"), "a file of Keras"),
    "no array": (lambda file: file.create_group("data/in"), "has no array"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(path, name):
    """Nothing is followed, made or unpacked; ``fifo`` would block for ever."""
    make, words = HOSTILE[name]
    os.mkfifo(path.with_name("fifo"))
    with h5py.File(path, "w", libver="latest") as file:
        make(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(FormatError, match=words) as caught:
        load(path)

    assert str(caught.value).startswith(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    with h5py.File(path, "w", libver="latest") as file:
        good(file)
        file.create_dataset("data/fc/1", data=np.ones(1 << 18), chunks=(64,), compression="gzip")
    assert load(path)["fc.1"].sum() == 1 << 18


def test_metadata_of_others(path):
    """Texts of these names that are not ours: the blobs keep their numbers."""
    for texts in (
        {"net": [1.0], "layers": "a text of any length"},
        {"layers": np.bytes_(b'{"fc": {"blobs": 3}}')},
        {"layers": np.bytes_(b"\xff\xfe"), "net": np.bytes_(b"\0")},
    ):
        with h5py.File(path, "w") as file:
            good(file)
            for name, text in texts.items():
                file[name] = text
        assert list(load(path)) == ["fc.0"]

    with h5py.File(path, "w") as file:
        good(file)
        file.create_dataset("data/fc/1", data=[1.0])
        file["layers"] = np.bytes_(b'{"fc": {"blobs": ["x", "x"]}}')
    with pytest.raises(FormatError, match="two blobs have one name"):
        load(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder, and the bytes of a file."""
    folder = tmp_path_factory.mktemp("damaged")
    save(folder / "x.h5", {"fc.0": np.ones(3), "b.0": np.ones((2, 5))})
    return folder, (folder / "x.h5").read_bytes()


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_anywhere(small, data):
    """Changed bytes, or a file that is cut: an error of ours or some values, nothing else."""
    folder, whole = small
    path, content = folder / f"{len([*folder.iterdir()])}.h5", bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content) - 8))
        new = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8)))
        content[at : at + len(new)] = new
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])

    with suppress(FormatError), load(path) as weights:
        for key in weights:
            assert weights[key].nbytes < 1 << 20


def test_the_command_ends_in_good_order_after_a_file_that_is_cut_off(path):
    """HDF5 frees what h5py has left when the process ends, and by then Python is gone."""
    save(path, {"fc.0": np.ones(3000)})
    path.write_bytes(path.read_bytes()[:9000])

    done = subprocess.run(
        [sys.executable, "-m", "resnet_proto", "inspect", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "the HDF5 file is damaged: Unable to synchronously open file" in done.stderr


@pytest.mark.parametrize("limit", [2000, 9000])
def test_no_room(path, limit):
    """While h5py writes the structure, and while the values are written."""
    code = (
        "import resource, sys, numpy as np\n"
        "from resnet_proto import save, ResNetProtoError\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try: save(sys.argv[1], {'fc.0': np.ones(20000)})\n"
        "except ResNetProtoError as error: print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"{path}: cannot be written: File too large\n"
    assert not list(path.parent.iterdir())


# ---- weights that layers share

SHARED = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "z" type: "InnerProduct" bottom: "data" top: "z" param { name: "w" }
        inner_product_param { num_output: 3 weight_filler { type: "constant" value: 1 } } }
layer { name: "b" type: "InnerProduct" bottom: "z" top: "b" param { name: "w" }
        inner_product_param { num_output: 3 bias_filler { type: "constant" value: 5 } } }
"""
GROUPS = {
    "as Caffe writes it": ({"z/0": 1, "z/1": 2, "b/1": 3}, True),
    "with a copy": ({"z/0": 1, "z/1": 2, "b/0": 4, "b/1": 3}, True),
    "the owner has none": ({"z/1": 2, "b/0": 4, "b/1": 3}, False),
    "the other is not there": ({"z/0": 1, "z/1": 2}, True),
    "the owner is not there": ({"b/1": 3}, True),
    "only a copy": ({"b/0": 4, "b/1": 3}, True),
}
COPY = """
import sys, caffe, numpy as np
net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
net.blobs["data"].data[...] = [[1, 2, 3], [4, 5, 6]]
np.save(sys.argv[3], net.forward()["b"])
net.save_hdf5(sys.argv[4])
"""


@pytest.mark.parametrize("name", GROUPS)
def test_shared_weights_in_caffe(tmp_path, caffe_python, name):
    """What Caffe copies and refuses, as we say it; and what it writes again, the shared one once.

    Groups come in the order of their names, so the copy of `b` comes before that of its owner.
    """
    groups, accepted = GROUPS[name]
    path, net_file = tmp_path / "x.h5", tmp_path / "net.prototxt"
    net_file.write_text(SHARED)
    net = read_prototxt(net_file)
    with h5py.File(path, "w") as file:
        for key, value in groups.items():
            values = np.full((3, 3) if key.endswith("0") else 3, value, "f4")
            file.create_dataset(f"data/{key}", data=values)
    command = [caffe_python, "-c", COPY, net_file, path, tmp_path / "y.npy", tmp_path / "y.h5"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    with load(path) as weights:
        verdicts = {v.layer: v.verdict for v in match(weights, net)}

    assert (done.returncode == 0) is accepted, done.stderr[-2000:]
    assert ("refused" not in verdicts.values()) is accepted, verdicts
    if not accepted:
        return
    theirs = load(tmp_path / "y.h5")
    assert set(theirs) == {"z.0", "z.1", "b.1"}
    x = {"data": np.array([[1, 2, 3], [4, 5, 6]], np.float32)}
    assert forward(net, theirs, x)["b"].tolist() == np.load(tmp_path / "y.npy").tolist()
    if "left at its filler" not in verdicts.values():
        assert forward(net, weights, x)["b"].tolist() == np.load(tmp_path / "y.npy").tolist()
    convert(tmp_path / "y.h5", tmp_path / "z.caffemodel", net)
    assert set(load(tmp_path / "z.caffemodel")) == {"z.weight", "z.bias", "b.weight", "b.bias"}
    convert(tmp_path / "z.caffemodel", tmp_path / "z.h5", net)
    with h5py.File(tmp_path / "z.h5") as file:
        assert {name: [*group] for name, group in file["data"].items()} == {
            "z": ["0", "1"], "b": ["1"],
        }  # fmt: skip
    before = {key: value.tolist() for key, value in theirs.items()}
    subprocess.run([*command[:4], tmp_path / "z.h5", *command[5:]], check=True)
    assert {key: value.tolist() for key, value in load(tmp_path / "y.h5").items()} == before
