"""LMDB -> the mean of its images, as compute_image_mean computes it: compute_image_mean.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.data.images import pixels_of
from resnet_proto.data.lmdb import records
from resnet_proto.data.sources import shown
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import dims
from resnet_proto.schema import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mean_of(
    path: Path, progress: Callable[[int, int, int], object] = lambda done, before, all_: None
) -> NDArray[Any]:
    """The mean of an LMDB's images, (C, H, W), float32.

    Sums are exact here; Caffe's are float32, which are exact too up to 65,793 images of bytes.

    Args:
        path: the database.
        progress: is told of the images done, 0, and all.

    Raises:
        ResNetProtoError: no image, a damaged one, or one of another size.
    """
    import numpy as np

    with records(path) as database:
        total: NDArray[Any] | None = None
        done = 0
        for key, value in database.items():
            name = f"{path}: {shown(key)}"
            image = pixels_of(decode("Datum", value), name)
            if total is None:
                total = np.zeros(image.shape)
            if image.shape != total.shape:
                raise ResNetProtoError(
                    f"{name} is {dims(image.shape)}, those before it are {dims(total.shape)}; a "
                    "mean needs one size: `data lmdb --resize warp:N`, or mean values"
                )
            total += image
            done += 1
            if done % 100 == 0:
                progress(done, 0, database.count)
        if total is None:
            raise ResNetProtoError(f"{path}: there are no images in it")
        progress(done, 0, done)
        # the division is Caffe's: of one float by another
        return total.astype(np.float32) / np.float32(done)
