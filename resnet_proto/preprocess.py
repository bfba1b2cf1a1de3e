"""An image file + options -> the array that a net takes.

    decode -> turn upright (EXIF) -> resize -> centre crop -> channels -> minus mean -> times scale

The order of Caffe's own DataTransformer: (pixel - mean) * scale, pixels 0..255. Resizing is
Pillow's bilinear, which averages when it shrinks; OpenCV's and skimage's differ by a few grey
levels, so an exact comparison starts from an array.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.files import FOUND, unreadable
from resnet_proto.layers import Shape, dims
from resnet_proto.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from resnet_proto.formats.onnx import Pixels
    from resnet_proto.layers.base import Array

CHANNELS = ("BGR", "RGB", "GRAY")
Size = tuple[int, int]
Place = tuple[slice, slice]
"""Rows and columns of a crop."""
ORIENTATION = 0x0112
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
DAMAGE = (
    OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError, RuntimeError,
    struct.error,
)  # fmt: skip
"""What Pillow raises of a damaged image."""
MAX_PIXELS = 1 << 27
"""Of an image, as it is stored and as it is resized."""


@dataclass(frozen=True)
class ImageOptions:
    """How an image becomes an input.

    Args:
        mean: grey levels to subtract, as blue, green, red (whatever ``channels`` says) or
            one for all; or a file, .npy or .binaryproto, in the net's own channel order.
        scale: factors after that, likewise; one for all, or blue, green, red.
        crop: None warps the image to the net's size, as pycaffe's Transformer does.
            A number makes the shorter side that long and keeps the shape, (rows, columns)
            warps to that size; both then take the centre.
        channels: the order in which the net takes them.

    Raises:
        ResNetProtoError: a value of another kind, or a scale of 0.
    """

    mean: tuple[float, ...] | Path = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    crop: int | Size | None = None
    channels: str = "BGR"

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ResNetProtoError(
                f"channels is {self.channels!r:.80}; expected one of {', '.join(CHANNELS)}"
            )
        if not (isinstance(self.mean, Path) or is_numbers(self.mean)):
            raise ResNetProtoError(
                f"mean is {self.mean!r:.80}; expected (78,), or (blue, green, red), or the Path of "
                "an .npy or .binaryproto file"
            )
        if not is_numbers(self.scale) or 0 in self.scale:
            raise ResNetProtoError(
                f"scale is {self.scale!r:.80}; expected (0.017,), or (blue, green, red), none of "
                "them 0"
            )
        if not (self.crop is None or is_crop(self.crop)):
            raise ResNetProtoError(
                f"crop is {self.crop!r:.80}; expected None, 256 or (256, 320): rows, columns"
            )


def is_numbers(values: Any) -> bool:
    """Whether it is a sequence, or an array, of finite numbers."""
    if isinstance(values, str | bytes) or not (
        isinstance(values, Sequence) or hasattr(values, "flat")
    ):
        return False
    try:
        return len(values) > 0 and all(map(math.isfinite, getattr(values, "flat", values)))
    except (TypeError, ValueError, OverflowError):
        return False


def is_crop(crop: Any) -> bool:
    """Whether it is a side, or rows and columns."""
    try:
        rows, columns = (crop, crop) if isinstance(crop, int) else crop
        return min(index(rows), index(columns)) > 0
    except (TypeError, ValueError):
        return False


def check_options(options: object) -> None:
    """Refuse what are no options for images: the name of a preset, or a dict.

    Raises:
        ResNetProtoError: it is something else.
    """
    if isinstance(options, ImageOptions):
        return
    known = (
        f"; give preprocess.PRESETS['{options}']"
        if isinstance(options, str) and options in PRESETS
        else ""
    )
    raise ResNetProtoError(f"image is {options!r:.80}; expected ImageOptions{known}")


PRESETS = {
    # as Caffe reads an image: BGR, 0..255
    "caffe": ImageOptions(),
    # channel means of the authors' ResNet_mean.binaryproto (ResNet-50, 101, 152)
    "msra": ImageOptions(mean=(103.0626, 115.9029, 123.1516), crop=256),
    # VGG's; Keras calls it mode 'caffe'
    "vgg": ImageOptions(mean=(103.939, 116.779, 123.68), crop=256),
    # channel means of Caffe's ilsvrc12 mean file
    "ilsvrc12": ImageOptions(mean=(104.007, 116.669, 122.679), crop=256),
    # py-faster-rcnn and Detectron
    "faster-rcnn": ImageOptions(mean=(102.9801, 115.9465, 122.7717)),
    # detectron2 and mmdetection: 255 times torchvision's mean
    "detectron2": ImageOptions(mean=(103.53, 116.28, 123.675)),
    # RGB, 0..1, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)
    "torchvision": ImageOptions(
        mean=(0.406 * 255, 0.456 * 255, 0.485 * 255),
        scale=(1 / (0.225 * 255), 1 / (0.224 * 255), 1 / (0.229 * 255)),
        crop=256,
        channels="RGB",
    ),
    # open_nsfw's classify_nsfw.py, without the JPEG round trip that it makes after resizing
    "open-nsfw": ImageOptions(mean=(104.0, 117.0, 123.0), crop=(256, 256)),
}


def load_image(
    path: str | os.PathLike[str], shape: Shape, options: ImageOptions | None = None
) -> Array:
    """An image file as a net takes it.

    Args:
        path: anything Pillow decodes to 8 or 16 bits a channel; see ``upright``.
        shape: of the net's input, (N, C, H, W); N is not looked at.
        options: a preset or your own.

    Returns:
        (1, C, H, W), float32.

    Raises:
        ResNetProtoError: no image, a damaged one, or options that do not fit the shape.
    """
    options = ImageOptions() if options is None else options
    check_options(options)
    decoded = decode(Path(path), options.channels, str(path))  # first: it may be no image at all
    check_channels(options, shape, str(path))
    size = (shape[2], shape[3])
    image = resize(decoded, options.crop, size)
    resized = (image.height, image.width)
    place = centre(resized, size)
    mean = mean_part(mean_array(options), options, size, resized, place)
    return finished(pixels(image, options.channels), place, mean, options)[None]


def check_channels(options: ImageOptions, shape: Shape, name: str) -> None:
    """Refuse an input that takes no such images.

    Raises:
        ResNetProtoError: it is not (N, C, H, W), or of another number of channels.
    """
    check_options(options)
    if len(shape) != 4:
        raise ResNetProtoError(f"{name}: an image needs an input (N, C, H, W), not {dims(shape)}")
    wanted = 1 if options.channels == "GRAY" else 3
    if shape[1] != wanted:
        raise ResNetProtoError(
            f"{name}: the net's input is {dims(shape)}, {options.channels} has {wanted} channels; "
            + ("use --channels GRAY" if shape[1] == 1 else "give an array (.npy) instead")
        )


def pixels(image: Image.Image, channels: str) -> Array:
    """(C, H, W), uint8, in the net's order, of an image as ``upright`` gives it."""
    import numpy as np

    array = np.asarray(image)
    if array.ndim == 2:
        return array[None]
    return (array[:, :, ::-1] if channels == "BGR" else array).transpose(2, 0, 1)


def finished(x: Array, place: Place, mean: Array, options: ImageOptions) -> Array:
    """One crop of (C, H, W) pixels, minus its own part of the mean, times the scale; float32."""
    import numpy as np

    crop = x[:, *place].astype(np.float32)
    return np.ascontiguousarray((crop - mean) * per_channel(options.scale, options, "scale"))


def decode(
    source: Path | BinaryIO,
    channels: str,
    name: str,
    note: Callable[[str], None] = lambda _: None,
) -> Image.Image:
    """The image of a file as ``upright`` gives it; of an animated one the first frame.

    Args:
        source: a file.
        channels: GRAY is one channel, all others are three, RGB.
        name: what messages call it.
        note: told when only a part of the file is looked at.
    """
    from_pillow = "images need Pillow: pip install 'resnet-proto[images]'; an array (.npy) does not"
    advice, grey = "give an image or an array (.npy)", channels == "GRAY"
    with loaded(source, name, from_pillow, advice, grey=grey) as image:
        # an MPO is a JPEG with previews behind it
        if getattr(image, "is_animated", False) and image.format != "MPO":
            note(f"{name} has several frames; the first one counts")
        return upright(image, "L" if grey else "RGB", name)


def upright(image: Image.Image, mode: str, name: str) -> Image.Image:
    """An image turned as its EXIF says, with 8 bits a channel, as OpenCV's imread reads it.

    That is what Caffe reads images with: of 16 bits the upper 8 count, grey is repeated, alpha
    is dropped. A palette and CMYK become colours.

    Args:
        image: with its pixels, whatever its mode; of an animated one, the first frame.
        mode: Pillow's name of the pixels wanted, L or RGB.
        name: what messages call it.

    Raises:
        ResNetProtoError: its pixels are floats, or have 32 bits.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if is_deep(image):
        image = with_exif(image, Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)))
    if image.mode[0] in "IF":
        raise ResNetProtoError(
            f"{name}: pixels are '{image.mode}', 8 or 16 bits a channel are needed; convert it"
        )
    if mode == "L" and image.format == "PNG" and image.mode not in ("1", "L", "LA"):
        # libpng's own grey, which OpenCV asks for: pngrtran.c, png_do_rgb_to_gray
        red, green, blue = np.asarray(image.convert("RGB")).astype(np.int32).transpose(2, 0, 1)
        grey = (9798 * red + 19235 * green + 3735 * blue) >> 15
        image = with_exif(image, Image.fromarray(grey.astype(np.uint8)))
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return image if image.mode == mode else image.convert(mode)


def is_deep(image: Image.Image) -> bool:
    """Whether it is grey with 16 bits; Pillow before 11 has room for more."""
    return image.mode in DEEP or (image.mode == "I" and image.format == "PNG")


def with_exif(old: Image.Image, new: Image.Image) -> Image.Image:
    """The new image, with the orientation of the old."""
    new.getexif()[ORIENTATION] = old.getexif().get(ORIENTATION, 1)
    return new


@contextmanager
def loaded(
    source: Path | BinaryIO, name: str, needed: str, advice: str, *, grey: bool = False
) -> Iterator[Image.Image]:
    """An image with its pixels, as it is stored; what the block raises is blamed on it too.

    Args:
        source: a file.
        name: what messages call it.
        needed: the message where Pillow is not installed.
        advice: what to give in the place of what is no image.
        grey: have a JPEG decoded to its luma alone, as OpenCV does for one channel.

    Raises:
        ResNetProtoError: no image, a damaged one, one of too many pixels, or no Pillow.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ResNetProtoError(needed) from None
    many = f"{name}: the image has more than {MAX_PIXELS:,} pixels; make it smaller"
    try:
        with warnings.catch_warnings():
            # Pillow warns of fewer pixels, and gives up at more: the limit is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # It warns of damaged EXIF, and goes on without.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            with Image.open(source) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ResNetProtoError(many)
                if grey and image.mode == "RGB":
                    image.draft("L", None)
                image.load()
                yield image
    except FOUND as error:
        raise ResNetProtoError(unreadable(name, error)) from None
    except UnidentifiedImageError:
        raise ResNetProtoError(f"{name}: not an image that Pillow knows; {advice}") from None
    except Image.DecompressionBombError:
        raise ResNetProtoError(many) from None
    except DAMAGE as error:
        raise ResNetProtoError(f"{name}: the image is damaged: {error}") from None


def resize(image: Image.Image, crop: int | Size | None, size: Size) -> Image.Image:
    """The image at the size that the crop is taken from."""
    from PIL import Image

    if crop is None:
        rows, columns = size
    elif isinstance(crop, int):
        short = min(image.height, image.width)
        rows, columns = (round(side * crop / short) for side in (image.height, image.width))
    else:
        rows, columns = crop
    if rows < size[0] or columns < size[1]:
        raise ResNetProtoError(
            f"crop: an image of {rows}x{columns} is smaller than the net's input "
            f"{dims(size)}; give a larger --crop"
        )
    if rows * columns > MAX_PIXELS:
        raise ResNetProtoError(
            f"crop: an image of {rows}x{columns} has more than {MAX_PIXELS:,} pixels; "
            "give a smaller --crop"
        )
    return image.resize((columns, rows), Image.Resampling.BILINEAR)


def centre(outer: Size, inner: Size) -> Place:
    """Rows and columns of the middle; an odd rest goes below and right, as in Caffe."""
    top, left = ((a - b) // 2 for a, b in zip(outer, inner, strict=True))
    return slice(top, top + inner[0]), slice(left, left + inner[1])


def image_input(options: ImageOptions, inputs: Mapping[str, Shape]) -> tuple[str, Shape]:
    """Name and shape of the one input of a net that takes such images.

    Raises:
        NetError: there is none, or several.
        ResNetProtoError: ``options`` are none.
    """
    check_options(options)
    channels = 1 if options.channels == "GRAY" else 3
    fit = {name: s for name, s in inputs.items() if len(s) == 4 and s[1] == channels}
    if len(fit) != 1:
        shown = ", ".join(f"{name} {dims(shape)}" for name, shape in inputs.items()) or "none"
        grey = any(len(s) == 4 and s[1] == 1 for s in inputs.values())
        raise NetError(
            f"images of {counted(channels, 'channel')} need one such input; the net's inputs: "
            f"{shown}" + ("; use --channels GRAY" if grey and channels == 3 else "")
        )
    return next(iter(fit.items()))


def pixels_of(options: ImageOptions, inputs: Mapping[str, Shape]) -> Pixels:
    """What becomes of an image's pixels, in the order RGB, on their way to the net's input.

    Raises:
        ResNetProtoError: no input takes such images, or a mean that does not fit it.
    """
    from resnet_proto.formats.onnx import Pixels

    name, shape = image_input(options, inputs)
    order = (2, 1, 0) if options.channels == "BGR" else tuple(range(shape[1]))
    mean = read_mean(options, (shape[1], shape[2], shape[3]), (shape[2], shape[3]))
    scale = per_channel(options.scale, options, "scale")
    return Pixels(name, order, mean, scale)


def described(options: ImageOptions, pixels: Pixels, *, inside: bool) -> dict[str, str]:
    """The preprocessing as names and texts, for a model's metadata.

    Numbers are in the order of the net's channels; a mean map is named and not written out.
    """

    def numbers(values: Array) -> str:
        flat = values.reshape(-1)
        shown = flat[:1] if (flat == flat[0]).all() else flat
        return ",".join(str(value) for value in shown)  # as short as float32 needs

    crop = options.crop
    map_ = isinstance(options.mean, Path) and pixels.mean[0].size > 1
    return {
        "input": pixels.blob,
        "channels": options.channels,
        "mean": f"the map {Path(str(options.mean)).name}" if map_ else numbers(pixels.mean),
        "scale": numbers(pixels.scale),
        "crop": "warped" if crop is None else dims(crop) if isinstance(crop, tuple) else str(crop),
        "preprocessing": "in the model, which takes RGB 0..255" if inside else "before the model",
    }


def per_channel(values: tuple[float, ...], options: ImageOptions, what: str) -> Array:
    """Blue, green, red (or one for all) as (C, 1, 1) in the net's order."""
    import numpy as np

    if len(values) not in (1, 3) or (options.channels == "GRAY" and len(values) != 1):
        grey = f"give --{what} one value"
        raise ResNetProtoError(
            f"{what} has {len(values)} values for {options.channels}; "
            + (grey if options.channels == "GRAY" else "one for all channels, or blue, green, red")
        )
    ordered = values[::-1] if options.channels == "RGB" else values
    return np.asarray(ordered, np.float32).reshape(-1, 1, 1)


def read_mean(options: ImageOptions, shape: Shape, resized: Size) -> Array:
    """The mean, to be subtracted from a (C, H, W) array: the centre of the resized image."""
    size = (shape[1], shape[2])
    return mean_part(mean_array(options), options, size, resized, centre(resized, size))


def mean_array(options: ImageOptions) -> Array:
    """The mean in the net's order: (C, 1, 1), or the map of a file, (C, H, W).

    Raises:
        ResNetProtoError: a file that cannot be read, or numbers that do not fit the channels.
    """
    if not isinstance(options.mean, Path):
        return per_channel(options.mean, options, "mean")
    mean = read_mean_file(options.mean)
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    one_each = mean.size == (1 if options.channels == "GRAY" else 3)
    return mean.reshape(-1, 1, 1) if one_each else mean


def mean_part(mean: Array, options: ImageOptions, size: Size, resized: Size, place: Place) -> Array:
    """What is to be subtracted from the crop at this place of the resized image.

    A map has the size of the net's input, as ResNet_mean.binaryproto, and goes whole from every
    crop; or it has that of the resized image, and each crop has its own part of it.

    Raises:
        ResNetProtoError: a map of another size.
    """
    wanted = (1 if options.channels == "GRAY" else 3, *size)
    if mean.shape in ((wanted[0], 1, 1), (1, 1, 1), wanted):
        return mean
    if mean.shape != (wanted[0], *resized):
        larger = mean.ndim == len(wanted) and mean.shape[1] >= size[0] and mean.shape[2] >= size[1]
        warp = f", or --crop {dims(mean.shape[1:])}, which warps the image to the mean's size"
        raise ResNetProtoError(
            f"{options.mean}: the mean is {dims(mean.shape)}, the net's input is {dims(wanted)} "
            f"and the resized image {dims(resized)}; use one value for each channel"
            + (warp if larger and len(mean) == wanted[0] else "")
        )
    return mean[:, *place]


def read_mean_file(path: Path) -> Array:
    """The array of an .npy or .binaryproto file."""
    if not path.exists():
        raise ResNetProtoError(f"{path}: no such file; it was given as the mean")
    if path.suffix.lower() != ".binaryproto":
        return read_npy(path)
    from resnet_proto.formats.binaryproto import read_blob

    return read_blob(path).array().astype("float32")


def read_npy(path: Path) -> Array:
    """The array of an .npy file, as float32.

    Raises:
        ResNetProtoError: the file is damaged, or holds something else than numbers.
    """
    import numpy as np

    from resnet_proto.formats.binaryproto import load_npy

    with np.errstate(over="ignore"):
        return load_npy(path).astype(np.float32)
