"""What the classes are called, and in which order."""

import ast
import configparser
import hashlib
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate import labels
from resnet_proto.evaluate.labels import FILE, read_labels

ROOT = Path(__file__).resolve().parents[2]


def folder_of(package):
    return Path(find_spec(package).origin).parent


def test_imagenet_is_the_file_that_is_known():
    """The sha256 and the size that others publish for the file: onnx/models calls it synset.txt."""
    content = FILE.read_bytes()

    assert len(content) == 31675
    assert hashlib.sha256(content).hexdigest() == (
        "acf75ef0abe89694b19056e0796401068b459c457baa30335f240c7692857355"
    )
    # wkentaro/fcn, examples/apc2016: the md5 of its synset_words.txt
    assert hashlib.md5(content).hexdigest() == "4d234b5833aca44928065a180db3016a"


def test_imagenet_is_in_the_order_of_ids():
    found = read_labels("imagenet", 1000)

    ids = [label.split(" ")[0] for label in found]
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"n\d{8} \S.*", label) for label in found)
    # Places that Caffe's examples and the errors in other people's tables name.
    assert found[0] == "n01440764 tench, Tinca tinca"
    assert found[134] == "n02012849 crane"
    assert found[281] == "n02123045 tabby, tabby cat"
    assert found[517] == "n03126707 crane"
    assert found[999] == "n15075141 toilet tissue, toilet paper, bathroom tissue"


def test_imagenet_is_torchvisions_list(torch_models):
    """Their first word for each class, but for two classes, which they tell from others."""
    source = folder_of("torchvision") / "models" / "_meta.py"
    theirs = next(
        ast.literal_eval(node.value) for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_IMAGENET_CATEGORIES"
    )  # fmt: skip

    ours = [label[10:].split(", ")[0] for label in read_labels("imagenet")]
    differ = {i: theirs[i] for i in range(1000) if ours[i] != theirs[i]}
    assert differ == {134: "crane bird", 639: "maillot tank suit"}


def test_imagenet_is_timms_list(torch_models):
    """Ids and all words."""
    folder = folder_of("timm") / "data" / "_info"
    pairs = (folder / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    words = dict(line.split("\t", 1) for line in pairs)

    theirs = [f"{synset} {words[synset]}" for synset in
              (folder / "imagenet_synsets.txt").read_text().split()]  # fmt: skip
    assert list(read_labels("imagenet")) == theirs


def test_the_files_are_installed():
    """With the licence that has to go with every copy."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")

    data = setup["options.package_data"]["resnet_proto.evaluate"].split(", ")
    assert {"imagenet.txt", "imagenet.LICENSE"} <= set(data)
    assert "WordNet 3.0 Copyright 2006" in FILE.with_suffix(".LICENSE").read_text()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("cat\ndog\nbird of prey\n", ("cat", "dog", "bird of prey")),
        ("cat\ndog", ("cat", "dog")),
        ("\ufeffcat\r\ndog\r\n\r\n", ("cat", "dog")),
        ("n02012849 crane\nn03126707 crane\n", ("n02012849 crane", "n03126707 crane")),
        ("'cat'\n'lady''s slipper'\n", ("cat", "lady's slipper")),
        ("'cat'\n'dog\n", ("'cat'", "'dog")),
        ("猫\nhond\u2028ja\n", ("猫", "hond\u2028ja")),
    ],
    ids=["names", "no end", "of Windows", "synsets", "quoted", "half quoted", "not ASCII"],
)
def test_formats(content, expected, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(content.encode())

    assert read_labels(path) == expected
    assert read_labels(str(path), len(expected)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no label is in it; expected one per line"),
        (b"\n \n", "no label is in it; expected one per line"),
        (b"cat\n\ndog\n", ":2: a blank line between labels; each line is a class"),
        (b"cat\nd\xf6g\n", ":2: not UTF-8; save the labels as UTF-8"),
        (b"cat\n\0\n", "not text; expected one label per line"),
        (b"cat\n", "1 label, and the net has 2 classes; give the file of the classes the net was "
                   "trained for, 2 lines"),
        (b"-\ncat\ndog\n", "3 labels, and the net has 2 classes; give the file of the classes the "
                           "net was trained for, 2 lines; is the first line a head, or the "
                           "background of other frameworks?"),
    ],
)  # fmt: skip
def test_what_is_refused(content, message, tmp_path):
    """Its twin: the first of the formats above."""
    path = tmp_path / "labels.txt"
    path.write_bytes(content)

    with pytest.raises(ResNetProtoError) as error:
        read_labels(path, 2)

    assert str(error.value).startswith(str(path))
    assert str(error.value).removeprefix(str(path)).lstrip(": ") == message.lstrip(": ")


def test_files_that_are_none(tmp_path, monkeypatch):
    """A FIFO, a folder, nothing, and more than any labels take."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(ResNetProtoError, match="have to be in a regular file"):
            read_labels(path)
    with pytest.raises(ResNetProtoError, match=r"no such file.*'imagenet' stands for"):
        read_labels(tmp_path / "none.txt")
    large = tmp_path / "large.txt"
    large.write_text("cat\ndog\n")
    monkeypatch.setattr(labels, "MAX_BYTES", 8)
    assert read_labels(large) == ("cat", "dog")
    monkeypatch.setattr(labels, "MAX_BYTES", 7)
    with pytest.raises(ResNetProtoError, match="more than 7 bytes; is it a file"):
        read_labels(large)


def test_labels_of_a_database(tmp_path, monkeypatch):
    """What `data lmdb` writes beside its database."""
    pytest.importorskip("lmdb")
    image = pytest.importorskip("PIL.Image")
    from click.testing import CliRunner

    from resnet_proto.cli import main

    monkeypatch.chdir(tmp_path)
    for name in ("zebra", "a cat"):
        (tmp_path / "images" / name).mkdir(parents=True)
        image.new("RGB", (7, 5)).save(tmp_path / "images" / name / "1.png")
    done = CliRunner().invoke(main, ["data", "lmdb", "images", "out"])

    assert done.exit_code == 0, done.output
    assert read_labels(tmp_path / "out" / "labels.txt", 2) == ("a cat", "zebra")
