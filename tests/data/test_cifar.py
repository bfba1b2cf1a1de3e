"""CIFAR in its four forms -> the same images; and archives and pickles that are refused."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from contextlib import suppress

import numpy as np
import pytest
from small_images import trees, written

from resnet_proto.data.cifar import KINDS, MAX_BYTES, names_of, plain
from resnet_proto.data.sources import find_images
from resnet_proto.errors import ResNetProtoError

CLASSES = ["bee", "cat", "dog"]
PER_BATCH = 4


def batch(seed):
    """Values as CIFAR has them, red, green, blue by rows, and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (PER_BATCH, 3072), np.uint8), rng.integers(0, 3, PER_BATCH)


def string(value):
    """Push a string, as the cPickle of Python 2 does."""
    if len(value) < 256:
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value
    return pickle.BINSTRING + struct.pack("<i", len(value)) + value


def number(value):
    return pickle.BININT1 + bytes([value])


def python2(values, labels, key):
    """A batch as Python 2 and numpy 1 wrote the authors': protocol 2, texts that are bytes."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02"
        + pickle.BININT1 + b"\0" + pickle.TUPLE1 + string(b"b") + b"tRq\x03("
        + number(1) + number(len(values)) + pickle.BININT2 + struct.pack("<H", 3072)
        + pickle.TUPLE2 + b"cnumpy\ndtype\nq\x04(" + string(b"u1") + number(0) + number(1) + b"tR("
        + number(3) + string(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + number(0) + b"tb"
        + pickle.NEWFALSE + string(values.tobytes()) + b"tb"
    )  # fmt: skip
    lists = pickle.EMPTY_LIST + b"q\x05(" + b"".join(number(int(x)) for x in labels) + b"e"
    names = pickle.EMPTY_LIST + b"(" + b"".join(string(b"x_%d.png" % x) for x in labels) + b"e"
    return (
        b"\x80\x02}q\x00(" + string(b"batch_label") + string(b"training batch 1 of 5")
        + string(key) + lists + string(b"data") + array + string(b"filenames") + names + b"u."
    )  # fmt: skip


def meta(key):
    names = pickle.EMPTY_LIST + b"(" + b"".join(string(x.encode()) for x in CLASSES) + b"e"
    return b"\x80\x02}(" + string(key) + names + b"u."


def put(memo):
    """The next place of the memo; the first is 1 in the cPickle of Python 2."""
    memo[0] += 1
    return pickle.BINPUT + bytes([memo[0]])


def test_the_authors_own_metas():
    """To the bit: drawn here, and known by the MD5 that torchvision publishes of each."""
    memo = [0]
    code = b"\x80\x02}" + put(memo) + b"(" + string(b"num_cases_per_batch") + put(memo)
    code += pickle.BININT2 + struct.pack("<H", 10000) + string(b"label_names") + put(memo)
    ten = "airplane automobile bird cat deer dog frog horse ship truck".split()
    code += b"]" + put(memo) + b"(" + b"".join(string(x.encode()) + put(memo) for x in ten) + b"e"
    code += string(b"num_vis") + put(memo) + pickle.BININT2 + struct.pack("<H", 3072) + b"u."
    assert hashlib.md5(code).hexdigest() == "5ff9c542aee3614f3951f8cda6e48888"
    assert names_of(code, KINDS[0], "x") == tuple(ten)

    memo = [0]
    code = b"\x80\x02}" + put(memo) + b"("
    for key, names in ("fine_label_names", FINE), ("coarse_label_names", COARSE):
        code += string(key.encode()) + put(memo) + b"]" + put(memo) + b"("
        code += b"".join(string(x.encode()) + put(memo) for x in names) + b"e"
    code += b"u."
    assert hashlib.md5(code).hexdigest() == "7973b15100ade9c7d40fb424638fde48"
    assert names_of(code, KINDS[2], "x") == tuple(FINE)


FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm""".split()
COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables
household_electrical_devices household_furniture insects large_carnivores
large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1
vehicles_2""".split()


def files(kind):
    """The files of a CIFAR of three classes: name -> bytes."""
    made = {}
    for i, name in enumerate((*kind.train, *kind.test)):
        values, labels = batch(i)
        if isinstance(kind.labels, int):
            coarse = [np.full((PER_BATCH, 1), 9, np.uint8)] * (kind.labels - 1)
            rows = [*coarse, labels[:, None].astype(np.uint8), values]
            made[name] = np.concatenate(rows, axis=1).tobytes()
        else:
            made[name] = python2(values, labels, kind.labels.encode())
    binary = isinstance(kind.labels, int)
    made[kind.names] = "\n".join(CLASSES).encode() + b"\n\n" if binary else meta(kind.key.encode())
    return made


def archive(path, folder, made):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in made.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_images_of_each_form(tmp_path, kind, unpacked):
    if unpacked:
        source = tmp_path / kind.folder
        source.mkdir()
        for name, content in files(kind).items():
            (source / name).write_bytes(content)
    else:
        source = archive(tmp_path / "cifar.tar.gz", kind.folder, files(kind))

    images, test = find_images(str(source)), find_images(str(source), part="test")

    batches = [batch(i) for i in range(len(kind.train))]
    assert list(images.labels) == [x for _, labels in batches for x in labels]
    assert images.classes == tuple(CLASSES)
    values = np.stack([images.read(i) for i in range(len(images))])
    expected = np.concatenate([values for values, _ in batches]).reshape(-1, 3, 32, 32)
    assert (values.transpose(0, 3, 1, 2) == expected).all()
    assert list(test.labels) == batch(len(kind.train))[1].tolist()


def test_a_folder_with_several_of_them(tmp_path):
    """Where torchvision puts them; each by itself is taken, and so is a folder with one."""
    for kind in KINDS[0], KINDS[2]:
        inner = tmp_path / "data" / kind.folder
        inner.mkdir(parents=True)
        for name, content in files(kind).items():
            (inner / name).write_bytes(content)
        if kind is KINDS[0]:
            assert len(find_images(str(tmp_path / "data"))) == 20
    with pytest.raises(ResNetProtoError, match="has cifar-10-batches-py and cifar-100-python in"):
        find_images(str(tmp_path / "data"))
    assert len(find_images(str(inner))) == 4


def test_padding_for_the_papers_crop(tmp_path):
    """Four zeros at each side of 32x32, BGR."""
    source = archive(tmp_path / "c.tar.gz", KINDS[1].folder, files(KINDS[1]))

    (at,) = written(source, tmp_path / "db", pad=4, part="test")

    values, labels = batch(5)
    assert at.shapes == {(3, 40, 40): PER_BATCH}
    found = trees(tmp_path / "db")
    assert list(found) == [f"test/{i}" for i in range(PER_BATCH)]
    for i, tree in enumerate(found.values()):
        data = np.frombuffer(tree["data"], np.uint8).reshape(3, 40, 40)
        assert (data[:, 4:36, 4:36] == values[i].reshape(3, 32, 32)[::-1]).all()
        assert data.sum() == values[i].astype(int).sum()
        assert tree.get("label", 0) == labels[i]


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_pickle_of_python_3_is_read_too(tmp_path, protocol, order):
    """Written by CPython and numpy themselves."""
    made = files(KINDS[2])
    values, labels = batch(7)
    tree = {
        "data": np.asarray(values, order=order),
        "fine_labels": labels.tolist(),
        "filenames": ["é.png"] * PER_BATCH,
    }
    made["train"] = pickle.dumps(tree, protocol)
    source = archive(tmp_path / "c.tar.gz", KINDS[2].folder, made)

    images = find_images(str(source))

    assert list(images.labels) == labels.tolist()
    assert (images.read(3).transpose(2, 0, 1).reshape(-1) == values[3]).all()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def python(train):
    """A CIFAR-100 whose training file is this."""
    return KINDS[2], {**files(KINDS[2]), "train": train}


def pickled(**changes):
    values, labels = batch(7)
    return pickle.dumps({"data": values, "fine_labels": labels.tolist(), **changes}, 2)


BAD = {
    "asks for more": (*python(pickle.dumps({"data": Evil()}, 2)), "asks for 'posix.mkdir'"),
    "asks by a stack": (*python(pickle.dumps({"data": Evil()}, 4)), "asks for 'posix.mkdir'"),
    "cut off": (*python(pickled()[:-100]), "its pickle is damaged"),
    "no pickle": (*python(b"hello"), "its pickle is damaged"),
    "empty": (*python(b""), "its pickle is damaged"),
    "a list": (*python(pickle.dumps([1], 2)), "it has a list where a dict belongs"),
    "marks": (*python(b"\x80\x02(((u."), "its pickle is damaged"),
    "a call of nothing": (*python(b"\x80\x02}}R."), "its pickle is damaged"),
    "a memo that is empty": (*python(b"\x80\x02h\x07."), "its pickle is damaged"),
    "too few labels": (*python(pickled(fine_labels=[1])), "are not 4 labels"),
    "labels that are texts": (*python(pickled(fine_labels=["1"] * 4)), "are not 4 labels"),
    "a label too high": (*python(pickled(fine_labels=[3] * 4)), "labels 3 to 3 for 3 classes"),
    "floats": (*python(pickled(data=np.ones((4, 3072)))), "'data' is not an array of Nx3072"),
    "another shape": (*python(pickled(data=np.ones((4, 3000), np.uint8))), "'data' is not an"),
    "no data": (*python(pickled(data=None)), "'data' is not an array"),
    "a name with a line break": (
        KINDS[2],
        {**files(KINDS[2]), "meta": pickle.dumps({"fine_label_names": ["bee\n", "cat", "dog"]}, 2)},
        "expected the names of classes",
    ),
    "a name that is no text": (
        KINDS[2],
        {**files(KINDS[2]), "meta": pickle.dumps({"fine_label_names": ["\ud800"] * 3}, 2)},
        "expected the names of classes",
    ),
    "a missing file": (
        KINDS[0],
        {k: v for k, v in files(KINDS[0]).items() if k != "data_batch_3"},
        "without its file data_batch_3",
    ),
    "a record cut off": (
        KINDS[3],
        {**files(KINDS[3]), "train.bin": files(KINDS[3])["train.bin"][:-1]},
        "12,295 bytes, expected a multiple of 3,074: it is cut off",
    ),
    "no names": (KINDS[1], {**files(KINDS[1]), "batches.meta.txt": b"\n"}, "names of classes"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive(tmp_path, case, monkeypatch):
    """Its twin is ``test_the_images_of_each_form``."""
    monkeypatch.chdir(tmp_path)
    kind, made, reason = BAD[case]
    source = archive(tmp_path / "c.tar.gz", kind.folder, made)

    with pytest.raises(ResNetProtoError) as refused:
        find_images(str(source))

    assert reason in str(refused.value)
    assert not (tmp_path / "evil").exists()


def test_a_value_that_was_changed_on_the_way(tmp_path):
    """Where gzip had only stored it, nothing but the checksum at the end of the file says so."""
    path = archive(tmp_path / "a.tar.gz", KINDS[0].folder, files(KINDS[0]))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 0))
    assert len(find_images(str(path))) == 20
    changed = bytearray(path.read_bytes())
    changed[changed.index(batch(0)[0].tobytes()[:100])] ^= 1
    path.write_bytes(changed)

    with pytest.raises(ResNetProtoError, match=r"cannot be read: CRC check failed .*get it again"):
        find_images(str(path))


def test_no_archive(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ResNetProtoError, match="not an archive, or damaged"):
        find_images(str(tmp_path / "a.tar.gz"))
    good = archive(tmp_path / "b.tar.gz", KINDS[1].folder, files(KINDS[1])).read_bytes()
    (tmp_path / "c.tar.gz").write_bytes(good[: len(good) * 3 // 4])
    with pytest.raises(ResNetProtoError, match=r"not an archive, or damaged|cannot be read"):
        find_images(str(tmp_path / "c.tar.gz"))
    archive(tmp_path / "d.tar.gz", "imagenet", {"x": b"y"})
    with pytest.raises(ResNetProtoError, match="not a CIFAR archive: expected a folder cifar-10-b"):
        find_images(str(tmp_path / "d.tar.gz"))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE], ids=["a file", "a header"])
def test_an_archive_that_is_a_bomb(tmp_path, kind):
    """Zeros by the gigabyte; refused after as many bytes as a real one may have."""
    info = tarfile.TarInfo("cifar-10-batches-bin/x")
    info.size, info.type = 40 * MAX_BYTES, kind
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(MAX_BYTES // (1 << 24) + 1):
            file.write(bytes(1 << 24))

    with pytest.raises(ResNetProtoError, match=r"more than 268,435,456 bytes|no archive"):
        find_images(str(tmp_path / "a.tar.gz"))


def test_random_pickles_are_read_or_refused():
    """Single bytes changed: no other error, and nothing is made but plain values."""
    code = python2(*batch(0), b"labels")[:400] + b"u."
    rng = np.random.default_rng(0)
    for _ in range(2000):
        changed = bytearray(code)
        changed[rng.integers(len(code))] = rng.integers(256)
        with suppress(ResNetProtoError):
            assert type(plain(bytes(changed), "x")) is dict
