"""Contact sheets and means, and the databases that are refused."""

import lmdb
import numpy as np
import pytest
from oracles.training import make_lmdb
from PIL import Image
from small_images import class_folder, pixels, trees, written

from resnet_proto.data.images import Options, datum
from resnet_proto.data.lmdb import Writer
from resnet_proto.data.mean import channels_of, mean_of
from resnet_proto.data.show import GAP, SIDE, TEXT, class_names, drawable, known_fonts, sheet
from resnet_proto.data.survey import survey
from resnet_proto.errors import ResNetProtoError

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 120, 0)]


def colours(folder, **known):
    """One image of each colour, each a class of its own."""
    for i, colour in enumerate(COLOURS):
        (folder / "x" / f"class {i}").mkdir(parents=True)
        Image.new("RGB", (8, 4), colour).save(folder / "x" / f"class {i}" / "a.png")
    written(folder / "x", folder / "db", **known)
    return folder / "db"


@pytest.mark.parametrize("encoded", [False, True])
def test_each_image_is_in_its_place(tmp_path, encoded):
    """Red is red: BGR in the database, RGB on the sheet; as wide as a cell."""
    page, n = sheet(colours(tmp_path, encoded=encoded), 9, 0)

    assert n == 4
    assert page.size == (2 * SIDE + 3 * GAP, GAP + 2 * (SIDE + TEXT + GAP))
    for i, colour in enumerate(COLOURS):
        left, top = GAP + i % 2 * (SIDE + GAP), GAP + i // 2 * (SIDE + TEXT + GAP)
        assert page.getpixel((left + 1, top + SIDE // 2)) == colour
        assert page.getpixel((left + SIDE - 1, top + SIDE // 2)) == colour
        assert page.getpixel((left + SIDE // 2, top + 2)) == (255, 255, 255)
        text = page.crop((left, top + SIDE, left + SIDE, top + SIDE + TEXT))
        assert text.getextrema()[0][0] < 128  # something is written there


def test_the_seed_chooses_the_images(tmp_path):
    written("digits", tmp_path / "db")
    pages = [sheet(tmp_path / "db", 20, seed)[0].tobytes() for seed in (0, 0, 1)]
    assert pages[0] == pages[1] != pages[2]


def test_names_of_classes(tmp_path):
    """Of any language, escaped where a terminal would obey, and numbers where there are none."""
    db = colours(tmp_path)
    assert class_names(db) == ["class 0", "class 1", "class 2", "class 3"]
    (db / "labels.txt").write_bytes("猫\n\x1b[31m\n".encode() + b"\xff" * 400 + b"\n")
    assert class_names(db)[:2] == ["猫", r"\x1b[31m"]
    assert sheet(db, 4, 0)[1] == 4
    (db / "labels.txt").unlink()
    assert class_names(db) == []
    assert sheet(db, 4, 0)[1] == 4


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_any_channels_and_floats(tmp_path, channels):
    values = np.random.default_rng(0).normal(0, 9, (3, channels, 4, 6))
    make_lmdb(tmp_path / "db", values.astype(np.float32), [0, 1, 2])

    assert sheet(tmp_path / "db", 3, 0)[1] == 3
    mean = mean_of(tmp_path / "db")
    assert mean.shape == (channels, 4, 6)
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_a_mean_of_other_sizes_is_refused_by_name(tmp_path):
    class_folder(tmp_path / "x")
    written(tmp_path / "x", tmp_path / "db")
    with pytest.raises(ResNetProtoError) as refused:
        mean_of(tmp_path / "db")
    assert (
        "00000001_a/1.png is 3x8x7, those before it are 3x8x6; a mean image needs one size"
        in str(refused.value)
    )
    written(tmp_path / "x", tmp_path / "same", resize=(5, 6))
    assert mean_of(tmp_path / "same").shape == (3, 5, 6)


def test_the_means_of_channels_of_any_sizes(tmp_path):
    """Each image counts the same; where all have one size that is the mean of the whole."""
    class_folder(tmp_path / "x")
    written(tmp_path / "x", tmp_path / "db")
    values = [
        np.frombuffer(tree["data"], np.uint8).reshape(3, -1).mean(axis=1)
        for tree in trees(tmp_path / "db").values()
    ]
    assert len({tree["width"] for tree in trees(tmp_path / "db").values()}) > 1
    np.testing.assert_allclose(channels_of(tmp_path / "db"), np.mean(values, axis=0), rtol=1e-12)

    written(tmp_path / "x", tmp_path / "same", resize=(5, 6))
    whole = mean_of(tmp_path / "same").mean(axis=(1, 2))
    np.testing.assert_allclose(channels_of(tmp_path / "same"), whole, rtol=1e-6)


def test_channels_that_differ_have_no_mean(tmp_path):
    writer = Writer(tmp_path / "db")
    values = [datum(pixels(), 0, Options(grey=grey), "x")[0] for grey in (False, True)]
    writer.append([(b"%08d_a" % i, value) for i, value in enumerate(values)])
    writer.close()
    with pytest.raises(ResNetProtoError, match="00000001_a has 1 channel, those before it have 3"):
        channels_of(tmp_path / "db")


def test_a_datum_whose_values_do_not_fit(tmp_path):
    writer = Writer(tmp_path / "db")
    value, _ = datum(pixels(), 0, Options(), "x")
    writer.append([(b"00000000_a", value.replace(b"\x10\x07", b"\x10\x06", 1))])
    writer.close()
    for look in (mean_of, channels_of, lambda path: sheet(path, 4, 0)):
        with pytest.raises(ResNetProtoError, match="a Datum of 3x6x5 has 105 values"):
            look(tmp_path / "db")


def folder(path):
    path.mkdir()


def leveldb(path):
    path.mkdir()
    (path / "CURRENT").write_text("MANIFEST-1")


def noise(path):
    path.mkdir()
    (path / "data.mdb").write_bytes(bytes(range(256)) * 100)


def empty(path):
    lmdb.open(str(path)).close()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such folder; `resnet-proto data lmdb` writes one"),
        (lambda path: path.write_text("x"), "a file; an LMDB is the folder that data.mdb lies in"),
        (folder, "not the folder of an LMDB: there is no data.mdb"),
        (leveldb, "a LevelDB, not an LMDB"),
        (noise, "not an LMDB, or damaged"),
        (empty, "there are no images in it"),
    ],
)
def test_what_is_no_database(tmp_path, make, reason):
    make(tmp_path / "db")
    for look in (mean_of, channels_of, lambda path: sheet(path, 4, 0)):
        with pytest.raises(ResNetProtoError, match=reason):
            look(tmp_path / "db")


def test_a_survey_looks_at_some_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("resnet_proto.data.survey.MOST", 10)
    make_lmdb(tmp_path / "db", np.ones((95, 1, 2, 3), np.uint8), range(95))

    found = survey(tmp_path / "db")

    assert (found.count, len(found.labels)) == (95, 10)
    assert found.labels == [0, 9, 19, 28, 38, 47, 57, 66, 76, 85]
    assert found.shapes == {(1, 2, 3): 10}
    assert found.looked_at == "the 10 images of 95 that were looked at"
    monkeypatch.setattr("resnet_proto.data.survey.SECONDS", 0)
    assert len(survey(tmp_path / "db").labels) == 1


def test_letters_that_the_font_lacks(monkeypatch, tmp_path):
    """Another font that is there has them; without one they lose accents, or become escapes."""
    monkeypatch.setattr("resnet_proto.data.show.FONTS", ())
    monkeypatch.setattr("resnet_proto.data.show.find_spec", lambda name: None)
    (font,) = known_fonts()

    assert drawable("white wolf", [font]) == ("white wolf", font)
    assert drawable("café 猫", [font]) == (r"cafe \u732b", font)

    class Other:
        def getmask(self, text):
            return text.encode("utf-8", "surrogateescape")

    other = Other()
    assert drawable("café 猫", [font, other]) == ("café 猫", other)
    assert drawable("cat", [font, other]) == ("cat", font)


def test_a_white_image_is_seen(tmp_path):
    """An edge lies around it."""
    for name in "ab":
        (tmp_path / "x" / name).mkdir(parents=True)
        Image.new("RGB", (8, 4), "white").save(tmp_path / "x" / name / "a.png")
    written(tmp_path / "x", tmp_path / "db")

    page, _ = sheet(tmp_path / "db", 1, 0)

    x, y = GAP + SIDE // 2, GAP + SIDE // 4
    assert page.getpixel((x, y)) == page.getpixel((x, y - 2)) == (255, 255, 255)
    assert page.getpixel((x, y - 1)) == page.getpixel((GAP - 1, y + 9)) == (204, 204, 204)
