"""What holds for every format: load, save, convert."""

import io
import os
import shutil
import struct
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from wire import field, layer, legacy, packed, shape

from resnet_proto.errors import FormatError, ResNetProtoError, WeightsError
from resnet_proto.fit import fitted
from resnet_proto.formats import FORMATS as ALL
from resnet_proto.formats import convert, load, save
from resnet_proto.formats.metadata import pack
from resnet_proto.layers import BatchNorm, Convolution, InnerProduct, Input, Scale, make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt
from resnet_proto.weights import Weights, random_weights

NET = Net(
    "small",
    (
        Input.of("in", (), "data", shape=({"dim": (2, 3, 7, 5)},)),
        Convolution.of("conv/1.a", "data", "c", num_output=4, kernel_h=3, kernel_w=2),
        BatchNorm.of("bn", "c", "c"),
        Scale.of("scale", "c", "c", bias_term=True),
        InnerProduct.of("bn", "c", "fc", num_output=6, bias_term=False),
    ),
)
FORMATS = [name for name in ALL if name != "pt" or find_spec("torch")]
PAIRS = list(product(FORMATS, FORMATS))


def with_oddities():
    """Random weights, with every float type, old shapes, special values, and layers of its own."""
    weights = random_weights(NET)
    arrays = dict(weights)
    half = arrays["scale.weight"].astype(np.float16)
    double = arrays["scale.bias"].astype(np.float64) + 1e-12
    special = np.array([0x7FC01234, 1, 0x80000000, 0xFF800000], np.uint32)
    rows = {row.label: row for row in weights.layers}
    raw = field(10, 2) + field(12, half.tobytes())
    conv = arrays["conv/1.a.weight"]
    return b"".join(
        [
            field(1, b"other name"),
            layer("data", "Data"),
            layer(
                "conv/1.a", "Convolution",
                legacy(*conv.shape) + field(5, conv.tobytes()),
                legacy(1, 1, 1, 4) + field(5, special.tobytes()),
            ),
            layer("bn", "BatchNorm", *(
                shape(*b.shape) + field(5, b.array().tobytes()) for b in rows["bn"].blobs
            )),
            layer("scale", "Scale", shape(4) + raw, shape(4) + field(8, double.tobytes())),
            layer("bn", "InnerProduct", shape(6, 80) + field(5, arrays["bn#2.weight"].tobytes())),
            layer("extra", "Scale", shape(3) + packed(5, 1, 2, 3), bottoms="xy"),
            layer("gate", "LSTM", shape() + packed(5, 1), shape(0, 2), shape(2) + packed(8, 1, 2)),
            layer("shapeless", "LSTM", packed(5, 1), packed(8, 1, 2), b"", shape(1) + packed(5, 1)),
        ]
    )  # fmt: skip


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.caffemodel"
    path.write_bytes(with_oddities())
    return path


def facts(weights, *, widened=False):
    """All that a conversion keeps. A caffemodel has no half width."""
    rows = []
    for row in weights.layers:
        if row.blobs:
            for blob in row.blobs:
                array = blob.array()
                if widened and array.dtype == np.float16:
                    array = array.astype(np.float32)
                rows.append(
                    (blob.key, row.label, row.name, row.type, blob.legacy, blob.shapeless,
                     array.shape, array.dtype.name, array.tobytes())
                )  # fmt: skip
    return rows


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_way_round(tmp_path, source, first, second):
    """Names, their order, types, old shapes and all bits: from any format to any other."""
    a, b, back = tmp_path / f"a.{first}", tmp_path / f"b.{second}", tmp_path / "c.caffemodel"

    convert(source, a, NET)
    convert(a, b, None if first != "caffemodel" else NET)
    convert(b, back, None if second != "caffemodel" else NET)
    weights = load(back)

    original = load(source)
    assert facts(load(a)) == facts(original, widened=first == "caffemodel")
    assert facts(load(b)) == facts(original, widened="caffemodel" in (first, second))
    assert facts(weights) == facts(original, widened=True)
    direct = tmp_path / "direct.caffemodel"
    save(direct, original, NET)
    assert back.read_bytes() == direct.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_suffix_or_content(tmp_path, name):
    """Upper case is a suffix too; with another one the content decides."""
    arrays = random_weights(NET)
    path = tmp_path / f"net.{name}"
    save(path, arrays, NET)
    expected = facts(load(path))

    for other in (f"net.{name.upper()}", "net.bin", "net", f"net.{name}.1"):
        shutil.copy(path, tmp_path / other)
        assert facts(load(tmp_path / other)) == expected

    save(tmp_path / "net.weights", arrays, NET, to=name)
    assert (tmp_path / "net.weights").read_bytes() == path.read_bytes()


def test_known_suffix_decides_alone(tmp_path):
    save(tmp_path / "x.npz", {"x": np.ones(2)})
    shutil.copy(tmp_path / "x.npz", tmp_path / "x.safetensors")

    with pytest.raises(FormatError, match=r"x\.safetensors is a zip archive"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["x", *(f"x.{name}" for name in FORMATS)])
def test_pipes_and_devices(tmp_path, name):
    """They cannot be read here and there; opening a pipe could wait for ever."""
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(FormatError, match=rf"{name} is a pipe, not a weight file; save what"):
        load(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(FormatError, match=rf"{name} is a device, not a weight file; save what"):
        load(path)
    path.unlink()

    save(path, {"x.0": np.ones(2)}, Net(), to=None if path.suffix else "npz")
    assert list(load(path)) == ["x.0"]


@pytest.mark.parametrize("name", ["\0.npz", "x" * 300, "x.npz/y.npz"])
def test_paths_that_no_file_has(tmp_path, name):
    (tmp_path / "x.npz").touch()
    with pytest.raises(
        FormatError, match=r"no such file|cannot be read: (File name|embedded null)"
    ):
        load(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_to_an_open_file(tmp_path, name):
    """What goes there is what a file of that name would hold; and nothing if it fails."""
    stream, weights = io.BytesIO(), random_weights(NET)
    with pytest.raises(FormatError, match="the stream has no suffix"):
        save(stream, weights, NET)
    with pytest.raises(WeightsError, match="does not fit"):
        save(stream, {"conv/1.a.weight": np.ones(2)}, NET, to=name)
    assert stream.getvalue() == b""

    save(stream, weights, NET, to=name)
    save(tmp_path / f"x.{name}", weights, NET)

    assert stream.getvalue() == (tmp_path / f"x.{name}").read_bytes()


@pytest.mark.parametrize("name", ["npz", "safetensors"])
def test_no_array_at_all(tmp_path, name):
    """As a caffemodel without a layer: it is refused when written and when read."""
    path = tmp_path / f"x.{name}"
    with pytest.raises(WeightsError, match=r"^the weights: there is no array to write"):
        save(path, {})
    if name == "npz":
        np.savez(path)
    else:
        path.write_bytes(struct.pack("<Q", 2) + b"{}")
    with pytest.raises(
        FormatError, match=rf"x\.{name} has no array; a weight file has at least one"
    ):
        load(path)

    save(path, {"x": np.empty(0)})
    assert list(load(path)) == ["x"]


@pytest.mark.parametrize("name", ["npz", "safetensors"])
def test_metadata_has_a_limit(tmp_path, monkeypatch, name):
    """Reading and writing: nobody's text is cut."""
    path, arrays = tmp_path / f"x.{name}", random_weights(NET)
    save(path, arrays, NET)
    size = max(map(len, pack(arrays, NET).values()))
    for module in ("metadata", "npz"):
        monkeypatch.setattr(f"resnet_proto.formats.{module}.MAX_METADATA", size - 1)

    with pytest.raises(FormatError, match=rf"x\.{name}: its metadata has more than"):
        load(path)
    with pytest.raises(WeightsError, match="random weights: the net and the names have"):
        save(path, arrays, NET)

    for module in ("metadata", "npz"):
        monkeypatch.setattr(f"resnet_proto.formats.{module}.MAX_METADATA", 2 * size)
    save(path, arrays, NET)
    assert load(path).net_text


@pytest.mark.parametrize(("name", "to"), [("x.bin", None), ("x", None), ("x.npz", "onyx")])
def test_unknown_target(tmp_path, name, to):
    with pytest.raises(
        FormatError,
        match=r"no format is called .(bin|onyx).; known: caff|has no suffix; give it one of .caff",
    ):
        save(tmp_path / name, {"x": np.ones(2)}, to=to)
    assert not list(tmp_path.iterdir())

    save(tmp_path / name, {"x": np.ones(2)}, to="npz")
    assert list(load(tmp_path / name)) == ["x"]


def test_the_path_comes_first(tmp_path):
    """Of ``torch.save`` it is the other way round."""
    weights = {"fc.weight": np.ones((3, 2), np.float32)}

    with pytest.raises(FormatError, match="save takes the path first, then the weights"):
        save(weights, tmp_path / "w.npz")
    save(tmp_path / "w.npz", weights)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("x.onnx", "; `resnet-proto convert` writes it"),
        ("x.keras", "; `resnet-proto convert` writes it"),
        ("x.prototxt", "its prototxt comes to stand beside the caffemodel"),
        ("x.bin", "pt, by the suffix"),
    ],
)
def test_what_is_written_elsewhere(tmp_path, name, end):
    save(tmp_path / "x.npz", {"x": np.ones(2)})

    with pytest.raises(FormatError, match=f"{end}$"):
        convert(tmp_path / "x.npz", tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_dict_is_enough(tmp_path, name):
    """Arrays in any order of axes and bytes; a caffemodel needs a net."""
    arrays = {"fc.weight": np.arange(6, dtype=">f4").reshape(3, 2).T, "fc.bias": [0.5, 1.0]}
    layers = (
        Input.of("in", (), "data", shape=({"dim": (1, 3)},)),
        InnerProduct.of("fc", "data", "fc", num_output=2),
    )

    save(tmp_path / f"x.{name}", arrays, Net("n", layers))

    weights = load(tmp_path / f"x.{name}")
    assert weights["fc.weight"].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert (weights["fc.bias"].tolist(), weights["fc.bias"].dtype) == ([0.5, 1], np.float64)


@pytest.mark.parametrize("name", FORMATS)
def test_progress_is_exact(tmp_path, name):
    weights, sizes = random_weights(NET), []

    save(tmp_path / f"x.{name}", weights, NET, progress=sizes.append)

    assert sum(sizes) == weights.nbytes == sum(v.nbytes for v in weights.values())


@pytest.fixture(params=FORMATS)
def old(request, tmp_path):
    """A file that is there, and the module of its format."""
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / f"net.{request.param}"
    save(path, random_weights(NET, seed=1), NET)
    return path, f"resnet_proto.formats.{request.param}"


def assert_unchanged(path, before):
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file(old, error):
    path, _ = old
    before = path.read_bytes()

    def fail(size):
        raise error

    expected = ResNetProtoError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"cannot be written: No space|^$"):
        save(path, random_weights(NET), NET, progress=fail)

    assert_unchanged(path, before)


@pytest.mark.parametrize("where", ["values", "name", "missing"])
def test_what_is_written_is_read_back(old, monkeypatch, where):
    """One wrong bit on the disk, a wrong name, or a layer that got lost."""
    path, module = old
    before = path.read_bytes()
    weights = random_weights(NET)
    needle = weights["bn#2.weight"].tobytes()[:64]
    right = import_module(module).write

    def wrong(file, given, net, progress):
        right(file, weights if where == "missing" else given, net, progress)
        file.flush()
        content = Path(file.name).read_bytes()
        if where == "values":
            content = content.replace(needle, needle[:-1] + bytes([needle[-1] ^ 1]))
        elif where == "name":
            content = content.replace(b"scale", b"skale")
        file.seek(0)
        file.write(content)

    monkeypatch.setattr(f"{module}.write", wrong)
    more = Weights.of({"more.0": np.ones(3)}).layers

    with pytest.raises(FormatError, match=r"net\..*(read back|damaged|cut off)"):
        save(path, Weights([*weights.layers, *more]), NET)
    assert_unchanged(path, before)


def test_not_verified_is_not_read(old, monkeypatch):
    path, module = old
    monkeypatch.setattr(f"{module}.read", lambda path: pytest.fail("it was read"))

    save(path, random_weights(NET), NET, verify=False)


@pytest.mark.parametrize("limit", [100, 1 << 31])
def test_a_caffemodel_that_caffe_cannot_read(tmp_path, monkeypatch, limit):
    """Its limit is 2 GB; other formats are none of its business."""
    monkeypatch.setattr("resnet_proto.formats.INT_MAX", limit)
    weights = random_weights(NET)
    for name in FORMATS:
        warnings = []
        save(tmp_path / f"x.{name}", weights, NET, warnings=warnings)
        expected = name == "caffemodel" and limit == 100
        assert any("Caffe itself reads at most 100" in text for text in warnings) is expected
        assert bool(warnings) is expected or name == "hdf5"  # which warns of names with slashes


@pytest.mark.parametrize("name", FORMATS)
def test_layers_that_could_not_be_checked(tmp_path, name):
    """With a layer in front whose shapes are not known, another net's weights are refused still."""
    data = make_layer("in", "Guess", (), ("data",))
    net, warnings = Net("n", (data, *NET.layers[1:])), []
    save(tmp_path / "x.caffemodel", random_weights(NET), NET)

    convert(tmp_path / "x.caffemodel", tmp_path / f"y.{name}", net, warnings=warnings)
    assert len(warnings) == 1 + (name == "hdf5")  # which warns of names with slashes
    assert "1 of the net's layers cannot be checked" in warnings[0]
    assert "layer 'in' has type 'Guess'" in warnings[0]

    conv = Convolution.of("conv/1.a", "data", "c", num_output=5, kernel_h=3, kernel_w=2)
    other = Net("n", (data, conv, *NET.layers[2:]))
    with pytest.raises(WeightsError, match=r"'conv/1\.a' .*: weight is 4x3x3x2 .* needs 5x\?x3x2"):
        convert(tmp_path / "x.caffemodel", tmp_path / f"z.{name}", other)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_closed_is_not_read(tmp_path, monkeypatch, name, large):
    """Said in words, and the same for a file that is mapped and one that is not."""
    monkeypatch.setattr("resnet_proto.formats.caffemodel.SMALL", 0 if large else 1 << 20)
    save(tmp_path / f"x.{name}", random_weights(NET), NET)
    weights = load(tmp_path / f"x.{name}")
    before = weights["bn.mean"]
    assert len(fitted(weights, NET)) == 5
    weights.close()
    if name in ("safetensors", "pt"):  # the package lets go by itself
        assert weights["bn.mean"].tobytes() == before.tobytes()
        return

    assert len(before) == 4
    for read in (
        lambda: weights["bn.mean"],
        lambda: save(tmp_path / "y.npz", weights),
        lambda: fitted(weights, NET),
    ):
        with pytest.raises(WeightsError, match=rf"x\.{name} is closed; read its arrays before"):
            read()


def test_onto_itself(old):
    """The new file is complete before it takes the place of the one that is read."""
    path, _ = old
    before = facts(load(path))

    convert(path, path, NET)

    assert facts(load(path)) == before


@pytest.mark.parametrize("name", FORMATS)
def test_weights_of_another_net(tmp_path, name):
    """Refused in every format as soon as a net is given."""
    conv = Convolution.of("conv/1.a", "data", "c", num_output=5, kernel_size=2)
    other = random_weights(Net("n", (*NET.layers[:1], conv)))
    with pytest.raises(
        WeightsError, match=r"layer 'conv/1\.a' .*: weight is 5x3x2x2 .* needs 4x3x3x2"
    ):
        save(tmp_path / f"x.{name}", other, NET)
    assert not list(tmp_path.iterdir())


def test_layers_whose_names_a_caffemodel_would_lose(tmp_path):
    """It names blobs by their layer's type, which arrays alone do not have."""
    arrays = dict(random_weights(NET))
    save(tmp_path / "x.caffemodel", arrays | {"more.0": np.ones(2), "more.1": np.ones(3)}, NET)
    assert load(tmp_path / "x.caffemodel")["more.1"].tolist() == [1, 1, 1]

    with pytest.raises(
        WeightsError, match=r"layer 'more' is not in the net.*\('more\.weight'\); leave it out"
    ):
        save(tmp_path / "y.caffemodel", arrays | {"more.weight": np.ones(2)}, NET)


def test_two_layers_of_one_label(tmp_path):
    path = tmp_path / "x.npz"
    layers = (Input.of("in", (), "data", shape=({"dim": (1, 3)},)),
              InnerProduct.of("fc", "data", "fc", num_output=2))  # fmt: skip
    arrays = {"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(2), "fc#3.0": np.ones(1)}

    save(path, arrays, Net("n", layers))

    assert list(load(path)) == list(arrays)


@pytest.mark.parametrize("name", ["npz", "safetensors"])
def test_released_net_through_every_format(half_width, tmp_path, name):
    """Values that others trained, in a file that others wrote."""
    prototxt, model = half_width
    net = read_prototxt(prototxt)
    direct, there, back = (tmp_path / x for x in ("direct.caffemodel", f"x.{name}", "b.caffemodel"))
    save(direct, load(model), net)

    convert(model, there, net)
    convert(there, back)
    weights = load(back)

    assert back.read_bytes() == direct.read_bytes()
    assert facts(weights) == facts(load(model)) == facts(load(there))
    if name == "npz":
        with np.load(there) as theirs:
            assert all(theirs[k].tobytes() == array.tobytes() for k, array in weights.items())


def test_header_sizes_of_large_files(tmp_path):
    """The lengths in a caffemodel are those of layers with several parts."""
    net = Net("n", (Input.of("in", (), "data", shape=({"dim": (1, 300)},)),
                    InnerProduct.of("fc", "data", "fc", num_output=70)))  # fmt: skip
    save(tmp_path / "x.caffemodel", random_weights(net), net)
    data = (tmp_path / "x.caffemodel").read_bytes()

    at = data.index(b"\x2a" + b"\xa0\x90\x05")  # data: 84,000 bytes
    assert (
        struct.unpack("<f", data[at + 4 : at + 8])[0]
        == load(tmp_path / "x.caffemodel")["fc.weight"][0, 0]
    )
