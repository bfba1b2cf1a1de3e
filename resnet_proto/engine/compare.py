"""Two engines' blobs -> one row for each blob that both have, with its relative L2 distance.

A blob is right when it lies within ``TOLERANCE`` of the reference. float32 rounding through
ResNet-152 makes about 3e-7; the mildest bug met in other converters makes 3.5e-5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import Shape, dims
from resnet_proto.words import counted

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Row:
    """How far our blob is from the reference."""

    blob: str
    shape: Shape
    reference: Shape
    distance: float
    """Relative L2; inf if the shapes differ, nan if either side has a nan."""

    def within(self, tolerance: float) -> bool:
        """Whether the blob is right; a nan never is."""
        return self.distance <= tolerance

    @property
    def text(self) -> str:
        """The shape, or both if they differ."""
        both = (self.shape, self.reference)
        return " | ".join(map(dims, both if self.shape != self.reference else both[:1]))


def compare(ours: Mapping[str, Array], reference: Mapping[str, Array]) -> list[Row]:
    """One row for each blob that both sides have, in the order of ``ours``.

    Raises:
        ResNetProtoError: no blob is on both sides.
    """
    rows = []
    for name, value in ours.items():
        if name in reference:
            other = reference[name]
            same = value.shape == other.shape
            distance = relative_l2(value, other) if same else float("inf")
            rows.append(Row(name, value.shape, other.shape, distance))
    if not rows:
        raise ResNetProtoError(
            f"nothing to compare: no blob is on both sides; ours: {some(ours)}; "
            f"theirs: {some(reference)}"
        )
    return rows


def relative_l2(value: Array, reference: Array) -> float:
    """|value - reference| / |reference|, in float64; 0 / 0 is 0.

    An infinity that both have is no error, and does not count for the size.
    """
    import numpy as np

    ours, exact = (array.astype(np.float64).ravel() for array in (value, reference))
    with np.errstate(invalid="ignore"):  # inf - inf
        error = float(np.linalg.norm(np.where(ours == exact, 0, ours - exact)))
    size = float(np.linalg.norm(np.where(np.isinf(exact), 0, exact)))
    if error == 0:
        return 0.0
    return error / size if size else float("inf")


def some(blobs: Mapping[str, Array]) -> str:
    """A few names, for a message."""
    names = list(blobs)
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names) or "none"


def summed_up(who: str, rows: Sequence[Row], tolerance: float = TOLERANCE) -> str:
    """That all blobs are right, and how far the worst is away."""
    worst = max(rows, key=lambda row: row.distance)
    far = (
        f"the worst is '{worst.blob}' with {worst.distance:.2e}" if worst.distance else "all equal"
    )
    return f"{who}: {counted(len(rows), 'blob')} within {tolerance:g}; {far}"
