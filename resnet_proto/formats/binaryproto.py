"""``.binaryproto``: one BlobProto, in which Caffe keeps the mean of images <-> an array.

    .binaryproto | .npy -> Blob -> .binaryproto | .npy

Source: data_transformer.cpp, compute_image_mean.cpp, and blobproto_to_array of pycaffe's io.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_proto.errors import FormatError
from resnet_proto.files import FOUND, atomic, unreadable
from resnet_proto.formats import MEANS
from resnet_proto.formats.caffemodel import Walk, blob_head, mapped
from resnet_proto.layers import Shape, dims
from resnet_proto.sniff import HEAD, MEAN, refuse
from resnet_proto.weights import Blob, Held

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


def read_blob(path: str | os.PathLike[str]) -> Blob:
    """The one blob of a ``.binaryproto`` file, as it is stored.

    Raises:
        FormatError: the file is damaged, or no BlobProto.
    """
    buffer, _ = mapped(Path(path))
    source = os.fspath(path)
    refuse(source, bytes(buffer[:HEAD]), MEAN.what)
    return Walk(buffer, source).blob(0, len(buffer), ("", "", "", "the blob"))


def read(path: str | os.PathLike[str]) -> Array:
    """The array of an .npy or .binaryproto file, with the shape and the type of the file.

    A binaryproto has four axes as a rule, (1, C, H, W): that is ``blobproto_to_array``'s.

    Raises:
        FormatError: the file is damaged, or something else.
    """
    if Path(path).suffix.lower() == ".npy":
        return load_npy(Path(path))
    return read_blob(path).array()


def load_npy(path: Path) -> Array:
    """The array of an .npy file.

    Raises:
        FormatError: the file is damaged, or holds something else than numbers.
    """
    import numpy as np

    from resnet_proto.formats.npz import DAMAGED

    try:
        with path.open("rb") as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
    except FOUND as error:
        raise FormatError(unreadable(path, error)) from None
    except (*DAMAGED, MemoryError) as error:
        raise FormatError(f"{path}: not an .npy file of numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise FormatError(f"{path}: its values are {array.dtype}, expected numbers")
    return array


def write(path: str | os.PathLike[str], array: Array, *, force: bool = True) -> Array:
    """Write a mean, float32 or float64.

    A binaryproto gets ``num``, ``channels``, ``height`` and ``width``, as compute_image_mean writes
    them; an .npy file gets the array as it is.

    Args:
        path: its suffix is one of ``MEANS``.
        array: (C, H, W) or (1, C, H, W); other numbers become float32.
        force: take the place of a file that has other content.

    Returns:
        The array as ``read`` will give it.

    Raises:
        FormatError: another shape or suffix.
    """
    import numpy as np

    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    suffix = Path(path).suffix.lower()
    if suffix not in MEANS:
        raise FormatError(f"{path}: a mean is written as {' or '.join(MEANS)}; change the suffix")
    shape: Shape = (1, *array.shape) if array.ndim == 3 else array.shape
    if suffix != ".npy" and (len(shape) != 4 or shape[0] != 1):
        raise FormatError(
            f"{path}: a mean is CxHxW or 1xCxHxW, this one is {dims(array.shape) or 'one value'}; "
            "reshape it"
        )
    with atomic(path, force=force) as file:
        if suffix == ".npy":
            np.lib.format.write_array(file, array, allow_pickle=False)
        else:
            held = Held(array)
            blob = Blob("", "", "", "", shape, array.dtype.name, array.nbytes, held, legacy=True)
            file.write(blob_head(blob))
            for part in held.parts():
                file.write(part)
    return array if suffix == ".npy" else array.reshape(shape)
