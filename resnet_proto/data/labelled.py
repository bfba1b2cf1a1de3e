"""``Images``: labelled images in order, wherever they come from; and what they are called."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet_proto.words import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """Labelled images, in order.

    Args:
        source: what messages call them.
        labels: of each image.
        name: place -> what the image is called in keys, as in a list file.
        read: place -> the bytes of an image file; or pixels, (H, W) or (H, W, 3), uint8, RGB.
        digest: of names and labels, or of contents.
        classes: the names of labels 0, 1 ...; empty where they are not known.
        warnings: what to tell of them.
        stamp: place -> ``stamp_of`` an image's file; empty where ``digest`` is of contents.
    """

    source: str
    labels: array[int]
    name: Callable[[int], bytes]
    read: Callable[[int], bytes | NDArray[Any]]
    digest: str
    classes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stamp: Callable[[int], str] = lambda i: ""

    def __len__(self) -> int:
        return len(self.labels)


def of_arrays(
    source: str, prefix: str, pixels: NDArray[Any], labels: NDArray[Any], classes: tuple[str, ...]
) -> Images:
    """Images whose pixels are in memory.

    Args:
        source: what messages call them.
        prefix: of the names in keys; the number of the image follows.
        pixels: (N, H, W) or (N, 3, H, W), uint8, RGB.
        labels: (N,), integers.
        classes: as in ``Images``.
    """
    digest = hashlib.sha256(pixels.tobytes())
    numbers = array("i", [int(label) for label in labels])
    digest.update(numbers.tobytes())
    planes = pixels if pixels.ndim == 3 else pixels.transpose(0, 2, 3, 1)
    return Images(
        source,
        numbers,
        lambda i: f"{prefix}/{i}".encode(),
        lambda i: planes[i],
        digest.hexdigest(),
        classes,
    )


def shown(name: bytes) -> str:
    """A file's name in messages, whatever its bytes are."""
    return printable(os.fsdecode(name).encode("utf-8", "backslashreplace").decode())
