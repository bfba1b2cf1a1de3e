"""Folders, lists and digits -> images with labels; and what is refused, each with a good twin."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_images import class_folder, pixels, trees, written

from resnet_proto.data.lmdb import MAX_KEY
from resnet_proto.data.sources import find_images
from resnet_proto.errors import ResNetProtoError


def names(images):
    return [images.name(i) for i in range(len(images))]


def test_a_folder_of_class_folders(tmp_path):
    """Classes and files in the order of their names; an empty class has a label too."""
    class_folder(tmp_path / "x")
    (tmp_path / "x" / "aa").mkdir()
    (tmp_path / "x" / "c" / "within").mkdir()
    Image.fromarray(pixels()).save(tmp_path / "x" / "c" / "within" / "9.PNG", "PNG")
    (tmp_path / "x" / "c" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "x" / ".hidden").mkdir()
    (tmp_path / "x" / "readme.txt").write_bytes(b"x")

    images = find_images(str(tmp_path / "x"))

    assert images.classes == ("a", "aa", "b b", "c")
    assert list(images.labels) == [0] * 4 + [2] * 5 + [3] * 7
    assert names(images)[:5] == [b"a/0.png", b"a/1.png", b"a/2.png", b"a/3.png", b"b b/0.png"]
    assert names(images)[-1] == b"c/within/9.PNG"
    assert images.warnings == (
        "class 'aa' (1) has no images",
        "1 file left out: no image by its name",
        "1 file left out: in no class folder",
    )


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    class_folder(tmp_path / "x")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "first").symlink_to(tmp_path / "x" / "b b")
    (tmp_path / "y" / "second").symlink_to(tmp_path / "x" / "c")
    assert len(find_images(str(tmp_path / "y"))) == 11

    (tmp_path / "x" / "c" / "again").symlink_to(tmp_path / "x" / "c")
    with pytest.raises(ResNetProtoError, match=r"second/again: links lead in a circle"):
        find_images(str(tmp_path / "y"))


def test_a_link_that_leads_nowhere_is_left_out(tmp_path):
    class_folder(tmp_path / "x")
    (tmp_path / "x" / "a" / "z.png").symlink_to(tmp_path / "none")

    (at,) = written(tmp_path / "x", tmp_path / "db")

    assert at.images == 15
    reason = f"a/z.png: cannot be read: No such file or directory: {tmp_path}/x/a/z.png"
    assert at.skipped == {"a/z.png": reason}


def test_names_that_are_no_utf8(tmp_path):
    folder = os.fsencode(tmp_path / "x")
    for name in (b"caf\xe9", b"b\xff"):
        os.makedirs(folder + b"/" + name)  # noqa: PTH103 - bytes
        with open(folder + b"/" + name + b"/\xe9.png", "wb") as file:  # noqa: PTH123
            Image.fromarray(pixels()).save(file, "PNG")
    (tmp_path / "list").write_bytes(b"x/b\xff/\xe9.png 3\nx/caf\xe9/\xe9.png 4\n")

    (at,) = written(tmp_path / "x", tmp_path / "db")
    (other,) = written(tmp_path / "list", tmp_path / "db2")

    assert (at.images, other.images) == (2, 2)
    assert (tmp_path / "db" / "labels.txt").read_bytes() == b"b\xff\ncaf\xe9\n"


def test_a_list_is_parted_at_the_last_space(tmp_path):
    (tmp_path / "list").write_bytes(b"a b.png 3\n\n/c/d  e.jpg  +7\r\nf.png 2147483647")

    images = find_images(str(tmp_path / "list"))

    assert names(images) == [b"a b.png", b"/c/d  e.jpg ", b"f.png"]
    assert list(images.labels) == [3, 7, 2147483647]
    assert images.classes == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a.png", "'a.png': expected a path, a space and a number, as in 'cat/1.jpg 3'"),
        ("a.png\t3", "expected a path, a space"),
        ("a.png three", "expected a path, a space"),
        ("a.png 3 ", "expected a path, a space"),
        (" 3", "expected a path, a space"),
        ("a.png 1.5", "expected a path, a space"),
        ("a.png -1", "label -1; expected 0 to 2,147,483,647"),
        ("a.png 2147483648", "label 2147483648; expected 0 to"),
        ("a.png 99999999999999999999999", "expected a path, a space"),
        ("\x1b[31m x", r"'\x1b[31m x': expected a path"),
        ("x" * 70_000 + " 1", "a line of 70,002 bytes; no list?"),
    ],
)
def test_lines_that_are_refused(tmp_path, line, reason):
    (tmp_path / "list").write_text(f"good.png 1\n{line}\n")

    with pytest.raises(ResNetProtoError) as refused:
        find_images(str(tmp_path / "list"))

    assert f"{tmp_path}/list:2: " in str(refused.value)
    assert reason in str(refused.value)


def test_what_is_no_list(tmp_path):
    """An image, other bytes, an empty file; and a folder that is not there."""
    class_folder(tmp_path / "x")
    image = next((tmp_path / "x").rglob("*.png"))
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(b"\xa7\xba\0\x06\n\xb6\0 1\n")
    (tmp_path / "list").write_text(f"{image.name} 0\n")
    for path, root, reason in (
        (tmp_path / "bytes", None, "is a binary file; expected a list of lines 'path label'"),
        (image, None, "is an image (PNG); expected a list of lines 'path label'"),
        (tmp_path / "empty", None, "is an empty file; expected a list"),
        (tmp_path / "list", tmp_path / "no", f"--root {tmp_path / 'no'}: no such folder"),
    ):
        with pytest.raises(ResNetProtoError, match=re.escape(reason)):
            find_images(str(path), root=root)
    assert len(find_images(str(tmp_path / "list"), root=image.parent)) == 1


def test_a_million_lines_take_little_memory(tmp_path):
    """The file is mapped; a line costs its place, its length and its label."""
    with (tmp_path / "list").open("w") as file:
        file.writelines(f"n{i % 1000:08}/n{i:012}.JPEG {i % 1000}\n" for i in range(1_000_000))

    before = own_memory()
    images = find_images(str(tmp_path / "list"))

    assert len(images) == 1_000_000
    assert images.name(999_999) == b"n00000999/n000000999999.JPEG"
    assert own_memory() - before < 40_000


def own_memory():
    """Kilobytes that are no mapped file's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s*(\d+)", status)[1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file; give a folder of class folders"),
        (lambda path: path.mkdir(), "no folder in it; expected one for each class"),
        (lambda path: (path / "a").mkdir(parents=True), "there are no images in it"),
        (lambda path: path.write_bytes(b""), "is an empty file; expected a list of lines"),
        (lambda path: path.write_bytes(b"\n"), "there are no images in it"),
        (lambda path: os.mkfifo(path), "a list has to be a regular file"),
        (lambda path: (path / "a\nb").mkdir(parents=True), "has a line break; rename it"),
    ],
)
def test_what_holds_no_images(tmp_path, make, reason):
    make(tmp_path / "x")
    with pytest.raises(ResNetProtoError, match=reason):
        find_images(str(tmp_path / "x"))


def test_options_that_do_not_go_with_the_source(tmp_path):
    class_folder(tmp_path / "x")
    with pytest.raises(ResNetProtoError, match="--root is for lists"):
        find_images(str(tmp_path / "x"), root=tmp_path)
    with pytest.raises(ResNetProtoError, match="--part is for CIFAR"):
        find_images("digits", part="test")


def test_one_class_is_a_warning(tmp_path):
    class_folder(tmp_path / "x", classes=["a"])
    assert find_images(str(tmp_path / "x")).warnings == (
        "all images are of one class, 0: there is nothing to learn",
    )


def bad_files(folder):
    """Files that are no images, or no files; some would never end."""
    Image.fromarray(pixels(0, 40, 30)).save(folder / "good.png")
    Image.fromarray(pixels(1, 40, 30)).save(folder / "good.jpg")
    for name, part in (("half.png", 2), ("half.jpg", 2)):
        content = (folder / f"good{name[-4:]}").read_bytes()
        (folder / name).write_bytes(content[: len(content) // part])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "device.png").symlink_to("/dev/zero")
    Image.fromarray(np.ones((3, 4), np.float32)).save(folder / "float.tiff")
    bomb = b"P6 60000 60000 255\n"
    (folder / "bomb.ppm").write_bytes(bomb + bytes(1000))
    return sorted(path.name for path in folder.iterdir())


def test_unreadable_images_are_named_and_counted(tmp_path):
    names = bad_files(tmp_path)
    (tmp_path / "list").write_text("".join(f"{x} {i % 3}\n" for i, x in enumerate(names)))

    (at,) = written(tmp_path / "list", tmp_path / "db", jobs=2)

    assert list(trees(tmp_path / "db")) == ["good.jpg", "good.png"]
    assert at.images == 2
    assert sorted(at.skipped) == [name for name in names if "good" not in name]
    for name, why in {
        "half.png": "half.png: the image is damaged: image file is truncated",
        "half.jpg": "half.jpg: the image is damaged: image file is truncated",
        "empty.png": "empty.png: not an image that Pillow knows; leave it out",
        "text.png": "text.png: not an image that Pillow knows",
        "folder.png": "folder.png: cannot be read: Is a directory",
        "fifo.png": "fifo.png: not a regular file",
        "device.png": "device.png: not a regular file",
        "float.tiff": "float.tiff: pixels are 'F', 8 or 16 bits a channel are needed",
        "bomb.ppm": "bomb.ppm: the image has more than 134,217,728 pixels",
    }.items():
        assert at.skipped[name].startswith(why)


def test_refusing_an_unreadable_image_keeps_what_came_before(tmp_path):
    bad_files(tmp_path)
    (tmp_path / "list").write_text("good.png 0\nhalf.png 1\ngood.jpg 2\n")
    with pytest.raises(ResNetProtoError, match=r"half\.png: the image is damaged: .* kept: mend"):
        written(tmp_path / "list", tmp_path / "db", refuse=True)

    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes())
    (at,) = written(tmp_path / "list", tmp_path / "db", refuse=True)

    assert (at.images, at.resumed) == (3, 1)
    assert list(trees(tmp_path / "db")) == ["good.png", "half.png", "good.jpg"]


def test_no_image_at_all_is_refused(tmp_path):
    (tmp_path / "list").write_text("a.png 0\nb.png 1\n")
    with pytest.raises(ResNetProtoError, match=r"no image can be read; the first: a\.png: cannot"):
        written(tmp_path / "list", tmp_path / "db")


def test_an_image_that_would_be_huge_is_left_out(tmp_path):
    Image.fromarray(pixels(0, 1, 20_000)).save(tmp_path / "thin.png")
    Image.fromarray(pixels(0, 10, 20)).save(tmp_path / "good.png")
    (tmp_path / "list").write_text("thin.png 0\ngood.png 1\n")

    (at,) = written(tmp_path / "list", tmp_path / "db", resize=300)

    assert at.shapes == {(3, 300, 600): 1}
    assert "1x20000 pixels, resized to 300x6000000, are more than" in at.skipped["thin.png"]


def test_a_long_path_is_cut_in_the_key(tmp_path):
    """LMDB's keys have at most 511 bytes, where convert_imageset ends."""
    long = "/".join(["x" * 200] * 4)
    (tmp_path / long).mkdir(parents=True)
    Image.fromarray(pixels()).save(tmp_path / long / "a.png")
    (tmp_path / "list").write_text(f"{long}/a.png 5\n")

    written(tmp_path / "list", tmp_path / "db")

    (name,) = trees(tmp_path / "db")
    assert name == long[: MAX_KEY - 9]


def test_digits_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn cannot be imported")
    theirs = datasets.load_digits()

    ours = find_images("digits")

    assert len(ours) == 1797
    assert list(ours.labels) == theirs.target.tolist()
    values = np.stack([ours.read(i) for i in range(len(ours))])
    assert (values == theirs.images * 255 // 16).all()


def test_digits_are_what_their_authors_counted():
    """The digits of each class, as UCI's page on the data has them for its test part."""
    labels = list(find_images("digits").labels)
    counts = [labels.count(i) for i in range(10)]
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_a_database_among_the_classes_is_none(tmp_path):
    """OUT within IMAGES, complete or begun; a class with a file of another name stays one."""
    class_folder(tmp_path / "x")
    expected = find_images(str(tmp_path / "x")).classes
    for name, file in (("aa_lmdb", "data.mdb"), ("ab_lmdb.part", "made-of.json")):
        (tmp_path / "x" / name).mkdir()
        (tmp_path / "x" / name / file).write_bytes(b"x")
    assert find_images(str(tmp_path / "x")).classes == expected
    (tmp_path / "x" / "ac").mkdir()
    (tmp_path / "x" / "ac" / "data.json").write_bytes(b"x")
    assert "ac" in find_images(str(tmp_path / "x")).classes
