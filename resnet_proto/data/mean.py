"""LMDB -> the mean of its images, as compute_image_mean computes it: compute_image_mean.cpp.

And the means of its channels alone, where the images differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.data.images import pixels_of
from resnet_proto.data.labelled import shown
from resnet_proto.data.lmdb import records
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import dims
from resnet_proto.schema import decode
from resnet_proto.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray


Progress = Callable[[int, int, int], object]
"""Is told of the images done, 0, and all."""


def mean_of(path: Path, progress: Progress = lambda done, before, all_: None) -> NDArray[Any]:
    """The mean of an LMDB's images, (C, H, W), float32.

    Sums are exact here; Caffe's are float32, which are exact too up to 65,793 images of bytes.

    Raises:
        ResNetProtoError: no image, a damaged one, or one of another size.
    """
    import numpy as np

    total: NDArray[Any] | None = None
    done = 0
    for name, image in images(path, progress):
        if total is None:
            total = np.zeros(image.shape)
        if image.shape != total.shape:
            raise ResNetProtoError(
                f"{name} is {dims(image.shape)}, those before it are {dims(total.shape)}; a mean "
                "image needs one size: `data lmdb --resize warp:N`; without OUT the means of the "
                "channels are printed"
            )
        total += image
        done += 1
    assert total is not None  # else ``images`` had refused
    # the division is Caffe's: of one float by another
    return total.astype(np.float32) / np.float32(done)


def channels_of(path: Path, progress: Progress = lambda done, before, all_: None) -> list[float]:
    """The mean of each channel, of images of any sizes; each image counts the same.

    Raises:
        ResNetProtoError: no image, a damaged one, or one of other channels.
    """
    total: list[float] = []
    done = 0
    for name, image in images(path, progress):
        means = [float(channel.mean(dtype="float64")) for channel in image]
        if done and len(means) != len(total):
            raise ResNetProtoError(
                f"{name} has {counted(len(means), 'channel')}, those before it have {len(total)}; "
                "write it again without --encoded"
            )
        total = [a + b for a, b in zip(total or [0.0] * len(means), means, strict=True)]
        done += 1
    return [value / done for value in total]


def images(path: Path, progress: Progress) -> Iterator[tuple[str, NDArray[Any]]]:
    """What messages call each image of an LMDB, and its pixels, (C, H, W)."""
    with records(path) as database:
        done = 0
        for done, (key, value) in enumerate(database.items(), 1):
            name = f"{path}: {shown(key)}"
            yield name, pixels_of(decode("Datum", value), name)
            if done % 100 == 0:
                progress(done, 0, database.count)
        if not done:
            raise ResNetProtoError(f"{path}: there are no images in it")
        progress(done, 0, done)
