"""An image -> its views, the arrays that a net is shown of it.

    decode -> upright -> resize -> crops | for each scale: the whole image -> minus mean -> mirror

1 crop: the centre, as ``preprocess.load_image`` gives it. 10 crops: four corners and centre of the
resized image, then their mirror images, in the order of pycaffe's caffe.io.oversample
(python/caffe/io.py). Source: Krizhevsky, Sutskever and Hinton, 2012, section 4.1.

Scales: the whole image with its shorter side so long, for a net that takes any size, and its mirror
image. Source: He et al., 2016, section 3.4, which follows Simonyan and Zisserman, 2015, section
3.2; the mirror images are theirs. A mean goes before the mirror, as in data_transformer.cpp.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from resnet_proto.errors import ResNetProtoError, whole
from resnet_proto.layers import Shape, dims
from resnet_proto.preprocess import (
    DAMAGE,
    ImageOptions,
    Place,
    Size,
    centre,
    check_channels,
    decode,
    finished,
    mean_array,
    mean_part,
    per_channel,
    pixels,
    read_npy,
    resize,
    upright,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from resnet_proto.layers.base import Array

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image.Image", "NDArray[Any]"]
"""A file (.npy is an array as the net takes it), the bytes of an image file, Pillow's image, pixels
((H, W) or (H, W, 3) in the order RGB, uint8), or the array that a net takes ((C, H, W) or
(1, C, H, W), of floats)."""
CROPS = (1, 10)
SCALES = (224, 256, 384, 480, 640)
"""The paper's, for nets of 224x224."""
MAX_VIEW = 1 << 22
"""Pixels of a view, which a net has in every channel of its first layers: 640x5120 are fewer."""
WHOLE: Place = (slice(None), slice(None))


@dataclass(frozen=True)
class Views:
    """Which views of an image a net is shown.

    Args:
        shape: of the net's input, (N, C, H, W); N is not looked at.
        options: how an image becomes an input.
        crops: 1 or 10.
        scales: lengths of the shorter side, in pixels; then there are no crops, and ``shape`` is
            the smallest that the net takes.

    Raises:
        ResNetProtoError: what does not go together.
    """

    shape: Shape
    options: ImageOptions
    crops: int = 1
    scales: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_channels(self.options, self.shape, "the net")
        per_channel(self.options.scale, self.options, "scale")
        if self.mean.ndim != 3 or len(self.mean) not in (1, self.shape[1]):
            raise ResNetProtoError(
                f"{self.options.mean}: the mean is {dims(self.mean.shape)}, the net's input is "
                f"{dims(self.shape[1:])}; use one value for each channel"
            )
        if whole(self.crops) not in CROPS:
            raise ResNetProtoError(f"crops is {self.crops}; it is one of 1, 10")
        if self.crops > 1 and self.scales:
            raise ResNetProtoError("crops and scales exclude each other; give one of them")
        if self.crops > 1 and self.options.crop is None:
            raise ResNetProtoError(
                f"{self.crops} crops of an image that is warped to the net's "
                f"{dims(self.size)} are one; give a crop that is larger (--crop 256 for 224x224)"
            )
        for scale in self.scales:
            if scale < max(self.size):
                raise ResNetProtoError(
                    f"scale {scale}: the net's input is {dims(self.size)}; give no smaller scale"
                )
            if scale * scale > MAX_VIEW:
                raise ResNetProtoError(
                    f"scale {scale}: any image has more than {MAX_VIEW:,} pixels then; give "
                    "smaller scales, or crops"
                )
        if self.scales and self.mean.shape[1:] != (1, 1):
            means = ",".join(f"{value:.4f}" for value in self.means())
            raise ResNetProtoError(
                f"{self.options.mean}: a mean map fits one size, and scales are many; "
                f"use its mean of each channel: --mean {means}"
            )

    @property
    def size(self) -> Size:
        """Rows and columns of the net's input."""
        return self.shape[2], self.shape[3]

    @cached_property
    def mean(self) -> Array:
        """What is subtracted: (C, 1, 1), or a map, (C, H, W)."""
        return mean_array(self.options)

    def means(self) -> list[float]:
        """The mean of each channel of the mean, as ImageOptions takes them: blue, green, red."""
        values: list[float] = self.mean.reshape(len(self.mean), -1).mean(1, float).tolist()
        return values[::-1] if self.options.channels == "RGB" else values

    def of(
        self, image: ImageLike, name: str, note: Callable[[str], None] = lambda _: None
    ) -> Iterator[Array]:
        """The views of one image.

        Args:
            image: of any kind.
            name: what messages call it.
            note: told when only a part of a file is looked at.

        Returns:
            (C, H, W) each, float32; of the net's size, or larger for scales.

        Raises:
            ResNetProtoError: no image, a damaged one, an array of another shape.
        """
        import numpy as np

        found = opened(image, self.options.channels, name, note)
        if isinstance(found, np.ndarray):
            yield from self._of_array(found, name)
        elif self.scales:
            yield from self._scaled(found, name)
        else:
            resized = self._resized(found, self.options.crop, name)
            x = pixels(resized, self.options.channels)
            outer = (resized.height, resized.width)
            for place, mirrored in places(outer, self.size, self.crops):
                mean = mean_part(self.mean, self.options, self.size, outer, place)
                crop = finished(x, place, mean, self.options)
                yield mirror(crop) if mirrored else crop

    def _scaled(self, image: Image.Image, name: str) -> Iterator[Array]:
        """The whole image and its mirror image at each scale."""
        short, long = sorted(image.size)
        for scale in self.scales:
            if scale * round(long * scale / short) > MAX_VIEW:
                raise ResNetProtoError(
                    f"{name}: {dims((image.height, image.width))} pixels, at scale {scale}, are "
                    f"more than {MAX_VIEW:,}; give smaller scales, or crops"
                )
            x = pixels(self._resized(image, scale, name), self.options.channels)
            whole = finished(x, WHOLE, self.mean, self.options)
            yield whole
            yield mirror(whole)

    def _resized(self, image: Image.Image, crop: int | Size | None, name: str) -> Image.Image:
        try:
            return resize(image, crop, self.size)
        except ResNetProtoError as error:
            raise ResNetProtoError(f"{name}: {error}") from None

    def _of_array(self, x: Array, name: str) -> Iterator[Array]:
        """Crops of an array as the net takes it: of exactly its size, if there is only one."""
        import numpy as np

        if self.scales:
            raise ResNetProtoError(f"{name}: an array cannot be resized to scales; give an image")
        if x.ndim == len(self.shape) and len(x) == 1:
            x = x[0]
        wanted = self.shape[1:]
        fits = x.shape == wanted
        if self.crops > 1 and x.ndim == len(wanted):
            fits = len(x) == wanted[0] and x.shape[1] >= wanted[1] and x.shape[2] >= wanted[2]
        if not fits:
            larger = " or larger" if self.crops > 1 else ""
            raise ResNetProtoError(
                f"{name}: the array is {dims(x.shape)}, the net's input is {dims(wanted)}{larger}; "
                "only pixels in memory, of type uint8, may be (rows, columns, 3) or (rows, columns)"
            )
        if x.dtype.kind not in "fiu":
            raise ResNetProtoError(f"{name}: the array is of {x.dtype}; give one of floats")
        x = x.astype(np.float32)
        for place, mirrored in places((x.shape[1], x.shape[2]), self.size, self.crops):
            crop = np.ascontiguousarray(x[:, *place])
            yield mirror(crop) if mirrored else crop


def places(outer: Size, inner: Size, crops: int) -> list[tuple[Place, bool]]:
    """Where the crops are in an image, and whether they are mirrored.

    Args:
        outer: rows and columns of the image.
        inner: of a crop.
        crops: 1 is the centre; 10 are top left, top right, bottom left, bottom right, centre, and
            the mirror images of these.
    """
    middle = centre(outer, inner)
    if crops == 1:
        return [(middle, False)]
    rows, columns = ((slice(0, b), slice(a - b, a)) for a, b in zip(outer, inner, strict=True))
    five = [*product(rows, columns), middle]
    return [(place, mirrored) for mirrored in (False, True) for place in five]


def mirror(x: Array) -> Array:
    """(C, H, W) with left and right exchanged."""
    import numpy as np

    return np.ascontiguousarray(x[:, :, ::-1])


def opened(
    image: ImageLike, channels: str, name: str, note: Callable[[str], None]
) -> Image.Image | Array:
    """An upright image with as many channels, or an array as the net takes it.

    Raises:
        ResNetProtoError: a file or pixels that cannot be read.
    """
    import numpy as np

    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        if path.suffix.lower() == ".npy":
            return read_npy(path)
        return decode(path, channels, name, note)
    if isinstance(image, bytes):
        return decode(io.BytesIO(image), channels, name, note)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            return image
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
            raise ResNetProtoError(
                f"{name}: pixels are {dims(image.shape)}, (rows, columns, 3) in the order RGB or "
                "(rows, columns) are needed; an array as the net takes it is of floats"
            )
        from PIL import Image

        image = Image.fromarray(image)
    if not hasattr(image, "mode"):
        raise ResNetProtoError(
            f"{name}: a {type(image).__name__} is not an image; give a path, bytes, an image of "
            "Pillow's, or an array"
        )
    try:
        return upright(image, "L" if channels == "GRAY" else "RGB", name)
    except DAMAGE as error:  # of an image that was opened only
        raise ResNetProtoError(f"{name}: the image is damaged: {error}") from None
