"""Weights on their way to other processes: a file by its name, and found to hold the same there.

arrays -> path, if a file holds just these, else the arrays -> arrays, or an error
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from resnet_proto.errors import ResNetProtoError
from resnet_proto.formats import load

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array

Sent: TypeAlias = Union[str, "dict[str, Array]"]
"""What weights are while they are pickled."""


def digest_of(weights: Mapping[str, Array]) -> str:
    """The sha256 of all arrays with their names, in whatever file they are."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        array = weights[key]
        digest.update(f"{key} {array.dtype.str} {array.shape} ".encode("utf-8", "surrogateescape"))
        digest.update(array.tobytes())
    return digest.hexdigest()


def sent(weights: Mapping[str, Array], digest: str) -> Sent:
    """Weights as they are sent; ``digest`` is theirs."""
    path = Path(getattr(weights, "source", ""))
    with suppress(ResNetProtoError, OSError):
        if path.is_file():
            with load(path) as held:
                if digest_of(held) == digest:
                    return str(path.absolute())
    return {key: weights[key] for key in weights}


def received(weights: Sent, digest: str) -> Mapping[str, Array]:
    """Weights as they were sent.

    Raises:
        ResNetProtoError: their file is not there, or holds other weights now.
    """
    if not isinstance(weights, str):
        return weights
    held = load(weights)
    if digest_of(held) != digest:
        raise ResNetProtoError(f"{weights}: other weights than those that the run began with")
    return held
