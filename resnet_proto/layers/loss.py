"""What the losses share. loss_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers.base import ENUMS, Field, Layer, Shape, count, dims
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from resnet_proto.layers.base import Array


LOG_THRESHOLD = 1e-20
"""A smaller probability counts as this: infogain_loss_layer.cpp and others."""


class Loss(Layer):
    """Predictions and what they should be -> a scalar; the net need not name it."""

    n_bottoms = (2, 2)
    auto_tops = 1

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if not bottoms[0] or not bottoms[1] or bottoms[0][0] != bottoms[1][0]:
            raise ShapeError(
                f"bottoms {', '.join(map(dims, bottoms))} need the same first size: "
                "one label or target for each image"
            )
        tops: list[Shape] = [(), *self.more_shapes(bottoms)]
        return tops[: len(self.tops)]

    def more_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Check what this loss wants; shapes of the tops after the first."""
        return []

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The loss, (), and what else the net names."""
        import numpy as np

        loss, *more = self.losses(bottoms)
        return [np.asarray(loss, bottoms[0].dtype), *more][: len(self.tops)]

    def losses(self, bottoms: Sequence[Array]) -> tuple[Any, ...]:
        """The loss, and the tops after it."""
        raise NotImplementedError


class NormalizedLoss(Loss):
    """Losses that ``loss_param`` says more about: what to leave out, what to divide by."""

    other_messages = ("loss_param",)

    ignore_label: Field[int | None] = Field(None, "loss_param")
    normalize: Field[bool | None] = Field(None, "loss_param")
    normalization = Field(Word("VALID"), "loss_param", ENUMS["normalization"])

    def mode(self, default: str = "VALID") -> str:
        """The normalization; ``normalize`` is its old form."""
        param = self.fields.get("loss_param", {})
        if "normalization" in param or "normalize" not in param:
            return str(param.get("normalization", default))
        return "VALID" if self.normalize else "BATCH_SIZE"

    def divisor(self, mode: str, outer: int, inner: int, valid: int) -> int:
        """What the sum is divided by: at least 1, so that a batch without labels gives 0."""
        sizes = {"FULL": outer * inner, "VALID": valid, "BATCH_SIZE": outer, "NONE": 1}
        return max(1, sizes[mode])


def legacy(shape: Shape) -> Shape:
    """A shape as num, channels, height, width, with ones behind it: blob.hpp, LegacyShape.

    Raises:
        ShapeError: more than four axes, which Caffe refuses when it runs the layer.
    """
    if len(shape) > 4:
        raise ShapeError(f"takes at most 4 axes, not {dims(shape)}")
    return shape + (1,) * (4 - len(shape))


def classes(layer: Layer, labels: Array, n: int, ignored: int | None = None) -> NDArray[np.intp]:
    """Labels, or other numbers below n, as C++ cuts them; flat.

    Raises:
        NetError: there is no such class; Caffe would read what lies beside the blob.
    """
    import numpy as np

    values = np.trunc(labels.ravel())
    wrong = ~((values >= 0) & (values < n)) & (values != ignored)
    if wrong.any():
        raise NetError(
            f"layer '{layer.name}' ({layer.type}) is given {labels.ravel()[wrong][0]:g} where "
            f"a number from 0 to {n - 1} is needed"
        )
    return values.astype(np.intp)


def by_label(
    layer: Layer, scores: Array, axis: int, labels: Array, ignored: int | None
) -> tuple[Array, NDArray[np.intp]]:
    """Scores (M, C) and the label, (M,), of each place whose label counts."""
    import numpy as np

    outer, n, inner = places(scores.shape, axis)
    label = classes(layer, labels, n, ignored)
    rows = np.moveaxis(scores.reshape(outer, n, inner), 1, 2).reshape(-1, n)
    kept = slice(None) if ignored is None else label != ignored
    return rows[kept], label[kept]


def places(shape: Shape, axis: int) -> tuple[int, int, int]:
    """What lies before the axis, on it and behind it."""
    return count(shape[:axis]), shape[axis], count(shape[axis + 1 :])


def check_labels(shape: Shape, axis: int, labels: Shape) -> None:
    """One label for each place along the other axes.

    Raises:
        ShapeError: there are more or fewer.
    """
    outer, _, inner = places(shape, axis)
    if outer * inner != count(labels):
        raise ShapeError(
            f"labels are {dims(labels)}; for {dims(shape)} and axis {axis} "
            f"{outer * inner} are needed"
        )
