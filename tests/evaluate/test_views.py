"""An image's views, value by value."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.views import Views
from resnet_proto.preprocess import ImageOptions, load_image

SHAPE = (1, 3, 7, 5)  # rows and columns differ
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)  # rows, columns, RGB
SAME = ImageOptions(crop=(12, 10))  # which resizes nothing here
MEANS = {
    "numbers": (1.0, 2.0, 3.0),
    "of the crop": RNG.normal(size=(3, 7, 5)).astype(np.float32),
    "of the image": RNG.normal(size=(3, 12, 10)).astype(np.float32),
}
CORNERS = [(0, 0), (0, 5), (5, 0), (5, 5), (2, 2)]  # of 7x5 in 12x10


def views(image, **options):
    return list(Views(options.pop("shape", SHAPE), **options).of(image, "x"))


def with_mean(kind, tmp_path):
    if kind == "numbers":
        return MEANS[kind], np.array(MEANS[kind], np.float32).reshape(3, 1, 1)
    np.save(tmp_path / "mean.npy", MEANS[kind])
    return tmp_path / "mean.npy", MEANS[kind]


@pytest.mark.parametrize("kind", MEANS)
def test_ten_crops(tmp_path, kind):
    """Corners and centre by their coordinates, minus the mean's own part, then mirrored."""
    mean, values = with_mean(kind, tmp_path)
    options = ImageOptions(mean=mean, scale=(0.5,), crop=(12, 10))

    found = views(PIXELS, options=options, crops=10)

    x = PIXELS[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)  # BGR
    wanted = []
    for top, left in CORNERS:
        part = np.s_[:, top : top + 7, left : left + 5]
        own = values[part] if kind == "of the image" else values
        wanted.append((x[part] - own) * np.float32(0.5))
    wanted += [crop[:, :, ::-1] for crop in wanted]
    assert len(found) == 10
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize("crop", [(12, 10), 10])
def test_one_crop_is_what_load_image_gives(tmp_path, kind, crop):
    """Of a file, its bytes, Pillow's image and pixels alike."""
    options = ImageOptions(mean=with_mean(kind, tmp_path)[0], crop=crop)
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    wanted = load_image(path, SHAPE, options)

    for image in (path, str(path), path.read_bytes(), Image.open(path), PIXELS):
        (x,) = views(image, options=options)
        np.testing.assert_array_equal(x, wanted[0])


def test_scales(tmp_path):
    """The whole image with its shorter side so long, and its mirror image; Pillow resizes."""
    options = ImageOptions(mean=(1.0, 2.0, 3.0))

    found = views(PIXELS, options=options, scales=(10, 15))

    assert [x.shape for x in found] == [(3, 12, 10)] * 2 + [(3, 18, 15)] * 2
    for scale, (rows, columns) in enumerate([(12, 10), (18, 15)]):
        image = Image.fromarray(PIXELS).resize((columns, rows), Image.Resampling.BILINEAR)
        x = np.asarray(image)[:, :, ::-1].transpose(2, 0, 1) - np.float32([[[1]], [[2]], [[3]]])
        np.testing.assert_array_equal(found[2 * scale], x)
        np.testing.assert_array_equal(found[2 * scale + 1], x[:, :, ::-1])


def test_an_array_is_taken_as_it_is(tmp_path):
    """Without the options; for ten crops it may be larger."""
    x = RNG.normal(size=(1, 3, 12, 10)).astype(np.float32)
    options = ImageOptions(mean=(9.0,), crop=(12, 10))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "small.npy", x[..., :7, :5])

    found = views(tmp_path / "x.npy", options=options, crops=10)

    np.testing.assert_array_equal(found[1], x[0, :, :7, 5:])
    np.testing.assert_array_equal(found[6], x[0, :, :7, :4:-1])
    for small in (tmp_path / "small.npy", x[0, :, :7, :5].astype(np.float64)):
        np.testing.assert_array_equal(views(small, options=options), x[:, :, :7, :5])
    for wrong, message in [
        (x, "x: the array is 1x3x12x10|x: the array is 3x12x10"),
        (x[:, :2, :7, :5], "3x7x5"),
        (np.zeros((2, 3, 7, 5)), "2x3x7x5"),
        (PIXELS.astype(np.int32), "only pixels in memory, of type uint8"),
        (None, "a NoneType is not an image; give a path"),
        ([[0.0]], "a list is not an image; give a path"),
    ]:
        with pytest.raises(ResNetProtoError, match=message):
            views(wrong, options=options)
    with pytest.raises(ResNetProtoError, match="3x7x5 or larger"):
        views(x[:, :, :6], options=options, crops=10)


def test_grey_pixels():
    grey = np.repeat(PIXELS[:, :, :1], 3, axis=2)

    np.testing.assert_array_equal(views(grey[:, :, 0], options=SAME), views(grey, options=SAME))
    for wrong in (grey[:, :, :2], grey[None], grey[:0]):
        with pytest.raises(ResNetProtoError, match=r"\(rows, columns, 3\) in the order RGB"):
            views(wrong, options=SAME)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_three_channels(mode):
    deep = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) << 8)
    image = deep if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)

    (x,) = views(image, options=SAME)

    wanted = Image.fromarray(PIXELS[:, :, 0]) if mode == "I;16" else image
    np.testing.assert_array_equal(x, views(wanted.convert("RGB"), options=SAME)[0])


def test_of_an_animation_the_first_frame(tmp_path):
    """And it is said; a GIF of one frame says nothing."""
    frames = [Image.fromarray(PIXELS[:, :, i]) for i in range(2)]
    notes = []
    for name, more in (("one.gif", []), ("two.gif", frames[1:])):
        frames[0].save(tmp_path / name, save_all=True, append_images=more)

        (x,) = Views(SHAPE, SAME).of(tmp_path / name, name, notes.append)

        np.testing.assert_array_equal(x, views(frames[0], options=SAME)[0])
    assert notes == ["two.gif has several frames; the first one counts"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": 5}, "crops is 5; it is one of 1, 10"),
        ({"crops": 10, "scales": (7,)}, "give one of them"),
        ({"crops": 10, "options": ImageOptions()}, "give a crop that is larger"),
        ({"scales": (6,)}, "scale 6: the net's input is 7x5"),
        ({"shape": (1, 1, 7, 5)}, "use --channels GRAY"),
    ],
)
def test_what_does_not_go_together(options, message):
    Views(SHAPE, SAME, 10), Views(SHAPE, SAME, 1, (7,))  # the twins

    with pytest.raises(ResNetProtoError, match=message):
        Views(**{"shape": SHAPE, "options": SAME, **options})


def test_a_mean_map_and_scales(tmp_path):
    """Refused, with the numbers that do the same at any size."""
    np.save(tmp_path / "mean.npy", np.float32([[[1, 2]], [[3, 5]], [[6, 8]]]))
    options = ImageOptions(mean=tmp_path / "mean.npy", channels="RGB")

    with pytest.raises(ResNetProtoError, match=r"--mean 7\.0000,4\.0000,1\.5000"):
        Views((1, 3, 1, 2), options, scales=(7,))


def test_images_that_would_fill_memory(monkeypatch):
    """A ribbon whose shorter side is made as long as the scale says."""
    monkeypatch.setattr("resnet_proto.evaluate.views.MAX_VIEW", 7 * 56)
    ribbon = np.zeros((1, 9, 3), np.uint8)

    with pytest.raises(ResNetProtoError, match="x: 1x9 pixels, at scale 7, are more than 392"):
        views(ribbon, options=SAME, scales=(7,))
    assert [x.shape for x in views(ribbon[:, :8], options=SAME, scales=(7,))] == [(3, 7, 56)] * 2
    with pytest.raises(ResNetProtoError, match="scale 20: any image has more than 392 pixels"):
        Views(SHAPE, SAME, scales=(20,))


def test_damaged_images(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.kron(PIXELS, np.ones((40, 40, 1), np.uint8))).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    assert views(whole, options=SAME)
    for image in (path, path.read_bytes(), Image.open(io.BytesIO(path.read_bytes()))):
        with pytest.raises(ResNetProtoError, match="the image is damaged"):
            views(image, options=SAME)
