"""Image files -> arrays, value by value."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_proto.errors import ResNetProtoError
from resnet_proto.preprocess import PRESETS, ImageOptions, load_image, read_mean_file, read_npy
from resnet_proto.schema import encode

SHAPE = (1, 3, 7, 5)  # rows and columns differ
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)  # rows, columns, RGB


@pytest.fixture
def photo(tmp_path):
    """The pixels as a file without loss."""
    path = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ({"channels": "gray"}, {"channels": "GRAY"}, "channels is 'gray'; expected one of BGR"),
        ({"mean": "78"}, {"mean": (78,)}, r"mean is '78'; expected \(78,\)"),
        ({"mean": 78}, {"mean": [78, 79, 80]}, r"mean is 78; expected \(78,\)"),
        ({"mean": "mean.npy"}, {"mean": Path("mean.npy")}, "or the Path of an .npy"),
        ({"mean": ("a",)}, {"mean": np.ones((3, 1, 1))}, "mean is .'a',.; expected"),
        ({"mean": np.array(78)}, {"mean": np.array([78])}, "mean is array"),
        ({"scale": (0,)}, {"scale": (-1,)}, "scale is .0,.; expected .* none of them 0"),
        ({"scale": (float("nan"),)}, {"scale": np.array([1, 2, 3])}, "scale is .nan,.; expected"),
        ({"crop": "9x9"}, {"crop": (9, 9)}, "crop is '9x9'; expected None, 256 or"),
        ({"crop": 0}, {"crop": 1}, "crop is 0; expected"),
        ({"crop": (9, 9, 9)}, {"crop": [9, 9]}, "crop is .9, 9, 9.; expected"),
    ],
)
def test_options_of_another_kind(wrong, right, message):
    ImageOptions(**right)

    with pytest.raises(ResNetProtoError, match=message):
        ImageOptions(**wrong)


def test_a_mean_may_be_an_array(photo):
    numbers, array = ImageOptions(mean=(1, 2, 3)), ImageOptions(mean=np.array([1, 2, 3]))

    assert (load_image(photo, SHAPE, array) == load_image(photo, SHAPE, numbers)).all()


def test_default_is_caffe(photo):
    """(1, 3, H, W), float32, blue first, 0..255."""
    x = load_image(photo, SHAPE)

    assert x.shape == SHAPE
    assert x.dtype == np.float32
    for row, column in [(0, 0), (6, 4), (2, 3)]:
        red, green, blue = PIXELS[row, column]
        assert x[0, :, row, column].tolist() == [blue, green, red]


def test_rgb(photo):
    x = load_image(photo, SHAPE, ImageOptions(channels="RGB"))

    np.testing.assert_array_equal(x[0], PIXELS.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_mean_and_scale_are_blue_green_red(photo, channels):
    """Whatever the order of the channels in the net; the mean goes before the scale."""
    options = ImageOptions(mean=(10, 20, 30), scale=(1, 2, 3), channels=channels)

    x = load_image(photo, SHAPE, options)

    red, green, blue = (float(v) for v in PIXELS[4, 1])
    wanted = [(blue - 10) * 1, (green - 20) * 2, (red - 30) * 3]
    assert x[0, :, 4, 1].tolist() == (wanted if channels == "BGR" else wanted[::-1])


def test_torchvision(photo):
    """The values that torchvision's ToTensor and Normalize are documented to give."""
    options = ImageOptions(
        PRESETS["torchvision"].mean, PRESETS["torchvision"].scale, channels="RGB"
    )

    x = load_image(photo, SHAPE, options)

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(x[0].transpose(1, 2, 0), (PIXELS / 255 - mean) / std, atol=1e-5)


def test_warp_by_default(tmp_path):
    """As pycaffe's Transformer: the whole image, out of shape."""
    path = tmp_path / "wide.png"
    Image.fromarray(np.repeat(np.repeat(PIXELS, 2, axis=0), 6, axis=1)).save(path)

    assert load_image(path, SHAPE).shape == SHAPE
    warped = Image.open(path).resize((5, 7), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(load_image(path, SHAPE, ImageOptions(channels="RGB"))[0],
                                  np.asarray(warped).transpose(2, 0, 1))  # fmt: skip


def test_crop_takes_the_centre(tmp_path):
    """Caffe's offsets: (12 - 7) // 2 = 2 rows, (10 - 5) // 2 = 2 columns."""
    pixels = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    path = tmp_path / "large.png"
    Image.fromarray(pixels).save(path)
    wanted = pixels[2:9, 2:7].transpose(2, 0, 1)

    for crop in (10, (12, 10)):  # the shorter side, or both: neither resizes here
        x = load_image(path, SHAPE, ImageOptions(crop=crop, channels="RGB"))
        np.testing.assert_array_equal(x[0], wanted)


def test_crop_keeps_the_proportions(tmp_path):
    """20 x 40 with the shorter side at 10 is 10 x 20: a stripe in the middle stays there."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 16:24] = 255
    path = tmp_path / "stripe.png"
    Image.fromarray(pixels).save(path)

    x = load_image(path, (1, 3, 10, 10), ImageOptions(crop=10))

    assert (x[0, 0, 5] > 128).tolist() == [False] * 3 + [True] * 4 + [False] * 3


def test_crop_too_small(photo):
    with pytest.raises(ResNetProtoError, match=r"4x4 is smaller than the net's input 7x5"):
        load_image(photo, SHAPE, ImageOptions(crop=(4, 4)))


@pytest.mark.parametrize("suffix", ["png", "gif", "tif"])
def test_grey_is_repeated(tmp_path, suffix):
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(PIXELS[:, :, 0]).save(path)

    x = load_image(path, SHAPE)

    np.testing.assert_array_equal(x[0], np.broadcast_to(PIXELS[:, :, 0], (3, 7, 5)))


def test_alpha_is_dropped(tmp_path):
    """As Caffe's reader does: the colour below a transparent pixel is what counts."""
    path = tmp_path / "alpha.png"
    alpha = np.zeros((7, 5, 1), np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(path)

    x = load_image(path, SHAPE, ImageOptions(channels="RGB"))

    np.testing.assert_array_equal(x[0], PIXELS.transpose(2, 0, 1))


def test_exif_orientation(tmp_path):
    """6 is 'turn right': a phone held upright."""
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(PIXELS)).save(path, exif=exif)

    x = load_image(path, SHAPE, ImageOptions(channels="RGB"))

    np.testing.assert_array_equal(x[0], PIXELS.transpose(2, 0, 1))


def test_one_channel(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(PIXELS[:, :, 0]).save(path)

    x = load_image(path, (1, 1, 7, 5), ImageOptions(mean=(3,), channels="GRAY"))

    np.testing.assert_array_equal(x[0, 0], PIXELS[:, :, 0] - np.float32(3))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 1, 7, 5), ImageOptions(), "use --channels GRAY"),
        ((1, 4, 7, 5), ImageOptions(), r"give an array \(.npy\) instead"),
        ((1, 3), ImageOptions(), "an image needs an input"),
        (SHAPE, ImageOptions(mean=(1, 2)), "mean has 2 values for BGR"),
        ((1, 1, 7, 5), ImageOptions(mean=(1, 2, 3), channels="GRAY"), "mean has 3 values for GRAY"),
        ((1, 1, 7, 5), replace(PRESETS["msra"], channels="GRAY", crop=None), "give --mean one"),
        ((1, 1, 7, 5), ImageOptions(scale=(1, 2, 3), channels="GRAY"), "give --scale one value"),
    ],
)
def test_options_that_do_not_fit(photo, shape, options, message):
    with pytest.raises(ResNetProtoError, match=message):
        load_image(photo, shape, options)


@pytest.mark.parametrize(
    ("name", "message"), [("none.png", "no such file"), ("x.npz", "not an image")]
)
def test_the_file_goes_before_the_channels(tmp_path, name, message):
    (tmp_path / "x.npz").write_bytes(b"PK")

    with pytest.raises(ResNetProtoError, match=f"{name}: .*{message}"):
        load_image(tmp_path / name, (1, 1, 7, 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"<html>", "not an image"),
        (None, "the image is damaged: "),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_damaged_images(tmp_path, suffix, content, message):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.kron(PIXELS, np.ones((40, 40, 1), np.uint8))).save(path)
    load_image(path, SHAPE)  # the twin that is accepted
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)

    with pytest.raises(ResNetProtoError, match=f"photo.{suffix}: {message}"):
        load_image(path, SHAPE)


def test_damaged_exif_is_left_out(tmp_path):
    """It is no part of the pixels; Pillow's warning is not shown."""
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    whole = path.read_bytes()
    entry = whole.index(b"Exif\0\0") + 6 + 8 + 2  # the first of its first directory
    path.write_bytes(whole[: entry + 4] + b"\0\xff\xff\xff" + whole[entry + 8 :])
    plain = tmp_path / "plain.jpg"
    Image.fromarray(PIXELS).save(plain)

    np.testing.assert_array_equal(load_image(path, SHAPE), load_image(plain, SHAPE))


def test_no_file(tmp_path):
    with pytest.raises(ResNetProtoError, match=r"none\.png: no such file"):
        load_image(tmp_path / "none.png", SHAPE)


def test_too_many_pixels(photo, monkeypatch, recwarn):
    """A limit of ours: Pillow's warnings are not shown, its refusal is ours too."""
    for pillow in (20, 10**6):  # it warns above this, and gives up above twice
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
        monkeypatch.setattr("resnet_proto.preprocess.MAX_PIXELS", 35)
        assert load_image(photo, SHAPE).shape == SHAPE
        monkeypatch.setattr("resnet_proto.preprocess.MAX_PIXELS", 34)
        with pytest.raises(ResNetProtoError, match="the image has more than 34 pixels; make it"):
            load_image(photo, SHAPE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 17)
    with pytest.raises(ResNetProtoError, match="the image has more than 34 pixels; make it"):
        load_image(photo, SHAPE)
    assert not recwarn.list


@pytest.mark.parametrize("read", [read_npy, lambda path: load_image(path, SHAPE)])
def test_a_folder(tmp_path, read):
    with pytest.raises(ResNetProtoError, match=f"{tmp_path.name}: cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_sixteen_bits_the_upper_eight(tmp_path, suffix):
    """As OpenCV's imread, with which Caffe reads images; of colours too."""
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / f"deep.{suffix}")
    deep = RNG.integers(0, 1 << 16, (7, 5), dtype=np.uint16)
    cv2.imwrite(path, deep)

    x = load_image(path, SHAPE)

    np.testing.assert_array_equal(x[0].transpose(1, 2, 0), cv2.imread(path))
    np.testing.assert_array_equal(x[0, 0], deep >> 8)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("png", "1"), ("png", "LA"), ("png", "P"), ("png", "RGBA"), ("gif", "P"), ("bmp", "P"),
     ("tif", "CMYK"), ("jpg", "L"), ("jpg", "RGB")],
)  # fmt: skip
def test_colours_are_opencvs(tmp_path, suffix, mode):
    """As Caffe has them, of each kind of pixels."""
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / f"x.{suffix}")
    image = Image.fromarray(PIXELS)
    (image.convert("L") if mode == "LA" else image).convert(mode).save(path)

    x = load_image(path, SHAPE)

    np.testing.assert_array_equal(x[0].transpose(1, 2, 0), cv2.imread(path))


def test_deep_colours(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "deep.png")
    cv2.imwrite(path, RNG.integers(0, 1 << 16, (7, 5, 3), dtype=np.uint16))

    np.testing.assert_array_equal(load_image(path, SHAPE)[0].transpose(1, 2, 0), cv2.imread(path))


def test_floats_are_refused(tmp_path):
    path = tmp_path / "floats.tif"
    Image.fromarray(np.ones((7, 5), np.float32)).save(path)

    with pytest.raises(ResNetProtoError, match="pixels are 'F', 8 or 16 bits a channel are needed"):
        load_image(path, SHAPE)


@pytest.mark.parametrize("suffix", ["npy", "NPY"])
@pytest.mark.parametrize("mean_shape", [(3,), (3, 7, 5), (1, 3, 7, 5), (3, 12, 10)])
def test_mean_file(photo, tmp_path, mean_shape, suffix):
    """In the net's own order; a map of the resized image's size is cropped with it."""
    mean = RNG.normal(size=mean_shape).astype(np.float32)
    with (tmp_path / f"mean.{suffix}").open("wb") as file:
        np.save(file, mean)
    crop = (12, 10)

    plain = load_image(photo, SHAPE, ImageOptions(crop=crop))
    x = load_image(photo, SHAPE, ImageOptions(mean=tmp_path / f"mean.{suffix}", crop=crop))

    wanted = {
        1: mean.reshape(-1, 1, 1),
        3: mean[..., 2:9, 2:7] if mean.shape[-1] == 10 else mean,
        4: mean,
    }[mean.ndim]
    np.testing.assert_array_equal(x, plain - wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((3, 6, 5)), r"the mean is 3x6x5, .* 3x7x5 .* one value for each channel$"),
        (np.zeros((3, 9, 8)), "for each channel, or --crop 9x8, which warps the image to the mean"),
        (np.array([{}], dtype=object), "not an .npy file"),
        (None, "no such file"),
    ],
)
def test_mean_file_that_does_not_fit(photo, tmp_path, content, message):
    if content is not None:
        np.save(tmp_path / "mean.npy", content)

    with pytest.raises(ResNetProtoError, match=message):
        load_image(photo, SHAPE, ImageOptions(mean=tmp_path / "mean.npy"))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_take_a_photograph(tmp_path, name):
    """Every preset fits a 224 x 224 net; the colours' means end up near zero, or as they are."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(path)

    x = load_image(path, (10, 3, 224, 224), PRESETS[name])

    assert x.shape == (1, 3, 224, 224)
    assert abs(x.mean()) < 20 or name == "caffe"


def test_mean_of_a_binaryproto(tmp_path):
    """Caffe's mean images: a BlobProto with the old four sizes."""
    mean = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    message = {"num": 1, "channels": 3, "height": 4, "width": 5, "data": mean.ravel().tolist()}
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(encode("BlobProto", message))

    np.testing.assert_array_equal(read_mean_file(path), mean[None])

    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ResNetProtoError, match=r"mean\.binaryproto: offset"):
        read_mean_file(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((( \n", b"PK\x03\x04", b"\x93NUMPY\x09\x00"],
    ids=["empty", "header", "zip", "version"],
)
def test_no_npy(tmp_path, content):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((2, 3)))
    assert read_npy(path).shape == (2, 3)

    path.write_bytes(content)
    with pytest.raises(ResNetProtoError, match=r"not an \.npy file of numbers"):
        read_npy(path)
