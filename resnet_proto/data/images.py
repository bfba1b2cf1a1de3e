"""One image + options -> its Datum, and back.

    bytes of a file | pixels -> upright, 8 bits, grey or colour -> resize -> pad -> Datum

Source: convert_imageset.cpp; io.cpp, ReadImageToDatum and CVMatToDatum. Without a resize the
bytes are what convert_imageset writes, for colours and for grey; EXIF is obeyed and alpha
dropped, as OpenCV's imread does; that, and Pillow's bilinear for resizing, are ``preprocess``'s.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import Shape, dims
from resnet_proto.preprocess import MAX_PIXELS, ORIENTATION, is_deep, loaded, upright
from resnet_proto.schema import encode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

NEEDED = "images need Pillow: pip install 'resnet-proto[data]'"
QUALITY = 95
"""Of a JPEG that is encoded again; OpenCV's."""


@dataclass(frozen=True)
class Options:
    """What becomes of an image.

    Args:
        resize: None keeps its size; a number is the new length of its shorter side, and
            (rows, columns) warps it.
        pad: zeros at each side, in pixels, after that.
        grey: one channel.
        encoded: a JPEG or PNG in the Datum, and not pixels.
    """

    resize: int | tuple[int, int] | None = None
    pad: int = 0
    grey: bool = False
    encoded: bool = False


def datum(
    content: bytes | NDArray[Any], label: int, options: Options, name: str
) -> tuple[bytes, Shape]:
    """The Datum of an image, and its shape (C, H, W).

    Args:
        content: the bytes of an image file; or pixels, (H, W) or (H, W, 3) in the order RGB, uint8.
        label: its class.
        options: what becomes of it.
        name: what messages call it.

    Raises:
        ResNetProtoError: no image, a damaged one, or one that is too large.
    """
    if not isinstance(content, bytes):
        from PIL import Image

        image = Image.fromarray(content)
        return finished(image.convert(mode_of(options)), label, options, name, "PNG")
    with loaded(io.BytesIO(content), name, NEEDED, "leave it out", grey=options.grey) as image:
        format = image.format or ""
        plain = as_it_is(image, content, options)
        image = upright(image, mode_of(options), name)
        before = image.size
    return finished(image, label, options, name, format, content if plain else b"", before)


def finished(
    image: Image.Image,
    label: int,
    options: Options,
    name: str,
    format: str,
    content: bytes = b"",
    before: tuple[int, int] = (0, 0),
) -> tuple[bytes, Shape]:
    """``datum`` of a decoded image; ``content`` is what may be kept if its size stays so."""
    import numpy as np
    from PIL import ImageOps

    image = resized(image, options.resize, name)
    if options.pad:
        image = ImageOps.expand(image, options.pad, 0)
    shape = (len(image.getbands()), image.height, image.width)
    if options.encoded:
        if not content or image.size != before:
            file = io.BytesIO()
            image.info.clear()  # a transparent colour or a profile would be written too
            if format == "JPEG":
                image.save(file, "JPEG", quality=QUALITY)
            else:
                image.save(file, "PNG")
            content = file.getvalue()
        return encode("Datum", {"data": content, "label": label, "encoded": True}), shape
    pixels = np.asarray(image)
    if shape[0] == 3:
        pixels = pixels[:, :, ::-1].transpose(2, 0, 1)
    tree = {
        "channels": shape[0],
        "height": shape[1],
        "width": shape[2],
        "data": pixels.tobytes(),
        "label": label,
        "encoded": False,  # said, as CVMatToDatum says it
    }
    return encode("Datum", tree), shape


def mode_of(options: Options) -> str:
    """Pillow's name of the pixels."""
    return "L" if options.grey else "RGB"


def as_it_is(image: Image.Image, content: bytes, options: Options) -> bool:
    """Whether Caffe, which decodes an encoded Datum as it is, gets these pixels from the file.

    It neither turns it nor drops alpha, and takes the channels that the file has: io.cpp,
    DecodeDatumToCVMatNative. convert_imageset keeps such files all the same.
    """
    png = image.format == "PNG" and content[24] == 8 and "transparency" not in image.info
    # a draft to grey has changed the mode of a JPEG in colours
    own = image.format == "JPEG" and getattr(image, "layers", 0) == (1 if options.grey else 3)
    return (
        (png or own) and image.mode == mode_of(options) and image.getexif().get(ORIENTATION, 1) == 1
    )


def resized(image: Image.Image, resize: int | tuple[int, int] | None, name: str) -> Image.Image:
    """The image at its new size.

    Raises:
        ResNetProtoError: that would have too many pixels.
    """
    from PIL import Image

    if resize is None:
        return image
    if isinstance(resize, int):
        short = min(image.size)
        rows, columns = (round(side * resize / short) for side in (image.height, image.width))
    else:
        rows, columns = resize
    if rows * columns > MAX_PIXELS:
        raise ResNetProtoError(
            f"{name}: {dims((image.height, image.width))} pixels, resized to {rows}x{columns}, are "
            f"more than {MAX_PIXELS:,}; leave it out"
        )
    if (columns, rows) == image.size:
        return image
    return image.resize((columns, rows), Image.Resampling.BILINEAR)


def native_mode(image: Image.Image, name: str) -> str:
    """Pillow's name of the pixels that Caffe gets of an encoded Datum: IMREAD_UNCHANGED's.

    Raises:
        ResNetProtoError: they have 16 bits a channel, which ends Caffe.
    """
    if is_deep(image):
        raise ResNetProtoError(f"{name}: an image of 16 bits a channel; Caffe needs 8: convert it")
    return {"1": "L", "L": "L", "LA": "RGBA", "RGBA": "RGBA"}.get(image.mode, "RGB")


def shape_of(tree: Mapping[str, Any], name: str) -> Shape | None:
    """(C, H, W) of a Datum; of an encoded one from its head, and None without Pillow.

    Raises:
        ResNetProtoError: it is no image.
    """
    if not tree.get("encoded"):
        return tree.get("channels", 0), tree.get("height", 0), tree.get("width", 0)
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(io.BytesIO(tree.get("data", b""))) as image:
            mode = native_mode(image, name)
            return Image.getmodebands(mode), image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise ResNetProtoError(f"{name}: a damaged image; write the database again") from None


def pixels_of(tree: Mapping[str, Any], name: str) -> NDArray[Any]:
    """(C, H, W) of a Datum: uint8, or float32; an encoded one as Caffe decodes it.

    Raises:
        ResNetProtoError: its values do not go with its shape, or it is no image.
    """
    import numpy as np

    if tree.get("encoded"):
        with loaded(io.BytesIO(tree.get("data", b"")), name, NEEDED, "write it again") as image:
            array = np.asarray(image.convert(native_mode(image, name)))
        if array.ndim == 2:
            return array[None]
        return array[:, :, [2, 1, 0, 3][: array.shape[2]]].transpose(2, 0, 1)
    shape = tuple(tree.get(side, 0) for side in ("channels", "height", "width"))
    data, floats = tree.get("data", b""), tree.get("float_data", ())
    values = np.frombuffer(data, np.uint8) if data else np.asarray(floats, np.float32)
    if min(shape) < 1 or values.size != shape[0] * shape[1] * shape[2]:
        raise ResNetProtoError(
            f"{name}: a Datum of {dims(shape)} has {values.size:,} values; write it again"
        )
    return values.reshape(shape)
