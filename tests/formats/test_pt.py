"""PyTorch's files: what torch reads of ours, what we read of torch's, and what nobody runs."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from resnet_proto import load, save
from resnet_proto.errors import FormatError, WeightsError
from resnet_proto.formats.pt import RESERVED, STORAGES, label_of, module_name
from resnet_proto.layers import BatchNorm, Convolution, InnerProduct, Input, Scale
from resnet_proto.net import Net
from resnet_proto.weights import random_weights

torch = pytest.importorskip("torch", reason="torch is not here: make oracles says how to get it")
from resnet_proto import to_torch  # noqa: E402, it imports torch

NET = Net(
    "small",
    (
        Input.of("in", (), "data", shape=({"dim": (2, 3, 7, 5)},)),
        Convolution.of("conv/1.a", "data", "c", num_output=4, kernel_h=3, kernel_w=2),
        BatchNorm.of("bn", "c", "c"),
        Scale.of("forward", "c", "c", bias_term=True),
        InnerProduct.of("bn", "c", "fc", num_output=6, bias_term=False),
    ),
)
EVERY_TYPE = {f"layer.{dtype}": np.arange(6).reshape(2, 3).astype(dtype) for dtype in STORAGES} | {
    "scalar.0": np.float32(3.5).reshape(()),
    "empty.0": np.empty((0, 2), np.float32),
}


def test_torch_reads_what_we_write(tmp_path):
    """Every type and shape, safely, mapped or not; and values are aligned as torch has them."""
    path = tmp_path / "x.pt"
    save(path, EVERY_TYPE)

    for mapped in (False, True):
        found = torch.load(path, weights_only=True, mmap=mapped)
        assert type(found) is dict
        assert list(found) == list(EVERY_TYPE)
        for key, value in EVERY_TYPE.items():
            theirs = found[key].numpy()
            assert (theirs.dtype, theirs.shape) == (value.dtype, value.shape)
            assert theirs.tobytes() == value.tobytes()
    assert {value.data_ptr() % 64 for value in found.values() if value.numel()} == {0}


def test_we_read_what_torch_writes(tmp_path):
    """Also values that are not in order, parameters, and views of one storage."""
    grid = torch.arange(24.0).reshape(2, 3, 4)
    state = OrderedDict(
        (
            ("layer1.0.conv.weight", grid.permute(2, 0, 1)),
            ("layer1.0.conv.bias", torch.nn.Parameter(grid[1, 2])),
            ("layer1.0.bn.num_batches_tracked", torch.tensor(7)),
            ("half", grid.half()),
        )
    )
    torch.save(state, tmp_path / "x.pt")
    (tmp_path / "x.pt").rename(tmp_path / "unknown.bin")

    weights = load(tmp_path / "unknown.bin")

    assert list(weights) == list(state)
    for key, value in state.items():
        ours = weights[key]
        assert ours.shape == tuple(value.shape)
        np.testing.assert_array_equal(ours, value.detach().numpy())


def test_the_same_weights_make_the_same_file(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"{name}.pt", random_weights(NET), NET)

    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_trained_module_comes_back(tmp_path):
    """Its state dict needs no net to be found by Caffe's names."""
    module = to_torch(NET, random_weights(NET))
    torch.save(module.state_dict(), tmp_path / "x.pt")

    weights = load(tmp_path / "x.pt")

    assert {k: v.tobytes() for k, v in weights.items()} == {
        k: v.tobytes() for k, v in random_weights(NET).items()
    }


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("res2a_branch2a", "res2a_branch2a"),
        ("inception_3a/1x1", "inception_3a/1x1"),
        ("conv1.a", "conv1%2Ea"),
        ("50%.%2E", "50%25%2E%252E"),
        ("bn#2", "bn#2"),
        ("train", "%74rain"),
        ("_calls", "%5Fcalls"),
        ("", "%"),
        ("%", "%25"),
        ("ü.ß", "ü%2Eß"),
        ("raw\udcff.", "raw\udcff%2E"),
    ],
)
def test_names(label, name):
    assert module_name(label) == name
    assert label_of(name) == label


def test_names_that_torch_has_taken():
    taken = {name for name in dir(torch.nn.Module()) if not name.startswith("_")}

    assert taken <= RESERVED


# ---- files that are no state dict, each with a twin


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_run(tmp_path):
    """A pickle that would write a file; its twin is a tensor."""
    torch.save({"x.weight": torch.ones(2)}, tmp_path / "good.pt")
    assert load(tmp_path / "good.pt")["x.weight"].tolist() == [1, 1]

    torch.save({"x.weight": Evil(tmp_path / "made")}, tmp_path / "evil.pt")
    with pytest.raises(FormatError, match=r"evil\.pt: its pickle asks for '.*open', expected tens"):
        load(tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"x": Evil(tmp_path / "made")}, 2))
    with pytest.raises(FormatError, match=r"bare\.pt is a bare pickle, .* is not read here"):
        load(tmp_path / "bare.pt")
    for evil in (
        {"x.weight": torch.ones(2), "y": Evil(tmp_path / "made")},
        Evil(tmp_path / "made"),
    ):
        torch.save(evil, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
        with pytest.raises(
            FormatError, match=r"old\.pt: its pickle asks for '.*open', expected te"
        ):
            load(tmp_path / "old.pt")

    assert not (tmp_path / "made").exists()


class OldTensor:
    """A tensor as torch 0.3 wrote it."""

    def __reduce__(self):
        storage = torch.arange(7.0).storage()
        return torch._utils._rebuild_tensor, (storage, 1, (2, 3), (3, 1))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_tensors_of_2017(tmp_path):
    torch.save({"x": OldTensor()}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)

    assert load(tmp_path / "x.pth")["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_old_files(tmp_path):
    """As torch wrote them before 1.6, and others do still: parameters, views, and cut off."""
    grid = torch.arange(24.0).reshape(2, 3, 4)
    state = {"a.weight": grid.permute(2, 0, 1), "b.0": torch.nn.Parameter(grid[1, 2]).half()}
    torch.save({"state_dict": state}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)

    weights = load(tmp_path / "x.pth")

    assert weights["a.weight"].tolist() == state["a.weight"].tolist()
    assert weights["b.0"].dtype == np.float16
    content = (tmp_path / "x.pth").read_bytes()
    for size in (20, 150, 400, len(content) - 4):
        (tmp_path / "cut.pth").write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"cut\.pth: (its pickle is dam|torch cannot)"):
            load(tmp_path / "cut.pth")
    (tmp_path / "more.pth").write_bytes(content[:15] + pickle.dumps(Evil(tmp_path / "made"), 2))
    with pytest.raises(FormatError, match=r"its pickle asks for"):
        load(tmp_path / "more.pth")
    assert not (tmp_path / "made").exists()


def test_old_files_that_declare_too_much(tmp_path):
    """A storage of a terabyte, in a file of some bytes."""
    torch.save({"x": torch.ones(513)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.pth").read_bytes()
    small, large = (
        pickle.BININT2 + struct.pack("<H", 513),
        pickle.LONG1 + b"\x06" + b"\0" * 5 + b"\1",
    )
    assert content.count(small) >= 2
    (tmp_path / "x.pth").write_bytes(content.replace(small, large))

    with pytest.raises(FormatError, match=r"x\.pth: torch cannot load it with weights_only=True"):
        load(tmp_path / "x.pth")


def archive(path, code, values=b"\0" * 8, method=zipfile.ZIP_STORED, folder="archive"):
    """A file like torch's, with this pickle."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(f"{folder}/data.pkl", code)
        file.writestr("archive/byteorder", b"little")
        file.writestr("archive/data/0", values)
        file.writestr("archive/version", b"3\n")


def tensor(size=b"K\x02", shape=b"K\x02\x85", strides=b"K\x01\x85", extra=b""):
    """The pickle of one tensor of two float32."""
    return (
        b"\x80\x02}X\x03\0\0\0a.bctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"
        b"FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + size + b"tQK\0" + shape + strides
        + b"\x89ccollections\nOrderedDict\n)RtRs" + extra + b"."
    )  # fmt: skip


def nested(depth):
    """A tuple of a tuple twice, and so on, as a key, which has to be hashed."""
    twice = (b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))
    return b"\x80\x02}(K\x01tq\0" + b"".join(twice) + b"K\x01s."


HUGE = b"\x8a\x05\0\0\0\0\x40"  # 2 ** 38


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (tensor(), {}, ""),
        (tensor(), {"method": zipfile.ZIP_DEFLATED, "values": bytes(1 << 24)}, "is compressed"),
        (tensor(shape=HUGE + b"\x85", strides=b"K\0\x85"), {}, "it repeats its values"),
        (tensor(size=HUGE, shape=HUGE + b"\x85"), {}, "torch cannot load it"),
        (tensor(extra=b"0c__builtin__\nbytearray\n" + HUGE + b"\x85R"), {}, "asks for '.*bytearr"),
        (tensor(extra=b"0\x8c\x02os\x8c\x06system\x93"), {}, "asks for STACK_GLOBAL"),
        (tensor()[:-9], {}, "its pickle is damaged|torch cannot load it"),
        (b"", {}, "its pickle is damaged"),
        (b"\x80\x02].", {}, "holds list, expected a state dict"),
        (b"\x80\x02}.", {}, "has no array"),
        (b"\x80\x02}K\x01K\x02s.", {}, "1 is int, expected a tensor"),
        (b"\x80\x02}X\x01\0\0\0a}s.", {}, r"'a' is dict, expected a tensor; save what is in it"),
        (nested(10), {}, r"is int, expected a tensor"),
        (nested(60), {}, "its pickle is damaged: it repeats objects"),
        (b"\x80\x02]q\0h\0a.", {}, "its pickle is damaged: it changes"),
        (b"\x80\x02(a.", {}, "its pickle is damaged"),
        (b"\x80\x02h\0.", {}, "its pickle is damaged"),
        (tensor(), {"folder": "other"}, "is not in its folder 'other/'"),
    ],
)  # fmt: skip
def test_hostile_archives(tmp_path, code, options, message):
    """The first one is read."""
    path = tmp_path / "x.pt"
    archive(path, code, **options)

    if not message:
        assert load(path)["a.b"].tolist() == [0, 0]
        return
    with pytest.raises(FormatError, match=message):
        load(path)


def test_a_pickle_that_is_too_long(tmp_path, monkeypatch):
    archive(tmp_path / "x.pt", tensor())
    monkeypatch.setattr("resnet_proto.formats.pt.MAX_METADATA", len(tensor()))
    load(tmp_path / "x.pt")

    monkeypatch.setattr("resnet_proto.formats.pt.MAX_METADATA", len(tensor()) - 1)
    with pytest.raises(FormatError, match=r"x\.pt: its metadata has more than"):
        load(tmp_path / "x.pt")


def test_bfloat16_becomes_float32(tmp_path):
    values = torch.randn(3, 5, 2).bfloat16()
    torch.save({"x": values.permute(2, 0, 1), "y": values.half()}, tmp_path / "x.pt")

    weights = load(tmp_path / "x.pt")

    assert weights["x"].dtype == np.float32
    assert weights["x"].tolist() == values.permute(2, 0, 1).tolist()
    assert (weights.blobs["x"].stored, weights.blobs["x"].nbytes) == ("bfloat16", 120)
    assert weights.blobs["y"].stored == ""


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_checkpoints(tmp_path, key):
    """The state dict within, whatever else of the training is there, so long as no code is."""
    module = torch.nn.Linear(2, 3)
    step = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.ones(1, 2)).sum().backward()
    step.step()
    state = {
        "epoch": 3,
        "arch": "resnet50",
        "best": torch.tensor(0.5),
        "optimizer": step.state_dict(),
    }
    torch.save({**state, key: module.state_dict()}, tmp_path / "x.pt")

    weights = load(tmp_path / "x.pt")

    assert list(weights) == ["weight", "bias"]
    assert weights["weight"].tolist() == module.weight.tolist()

    torch.save({**state, key: module.state_dict(), "model_ema": {}}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match=rf"holds {key} and model_ema; save the one that is me"):
        load(tmp_path / "x.pt")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(FormatError, match="'epoch' is int, expected a tensor"):
        load(tmp_path / "x.pt")


def test_types_that_the_other_side_lacks(tmp_path):
    torch.save({"x": torch.ones(2, dtype=torch.complex64)}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match=r"asks for 'torch.ComplexFloatStorage', expected ten"):
        load(tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"'x' is uint32; known: float64, float32"):
        save(tmp_path / "y.pt", {"x": np.ones(2, np.uint32)})


@pytest.mark.parametrize("step", range(0, 200, 7))
def test_damaged_files(tmp_path, step):
    """Cut off or changed anywhere: an error of ours, or a file that is read."""
    buffer = io.BytesIO()
    torch.save({"a.weight": torch.arange(6.0), "b.0": torch.ones(2, 3)}, buffer)
    data = buffer.getvalue()
    at = len(data) * step // 200
    cut, changed = tmp_path / "cut.pt", tmp_path / "changed.pt"
    cut.write_bytes(data[:at])
    changed.write_bytes(data[:at] + struct.pack("B", data[at] ^ 0x55) + data[at + 1 :])

    with pytest.raises(FormatError):
        load(cut)
    try:
        weights = load(changed)
        assert all(array.size <= 6 for array in weights.values())
    except FormatError:
        pass
