"""PriorBox: boxes of several forms around each cell of a map. SSD's fork, prior_box_layer.cpp

arXiv 1512.02325, section 2.2: where an object may be, before the net says where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Layer, Shape, register
from resnet_proto.layers.loss import legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array

SAME = 1e-6
"""Aspect ratios that differ by less are one."""


@register
class PriorBox(Layer):
    """Bottoms: a map (N, C, H, W) and the image (N, C, rows, columns), of which only sizes count.

    Top: (1, 2, 4 H W K). First x1, y1, x2, y2 of K boxes for each cell, in parts of the image;
    then the four variances of each box, by which DetectionOutput multiplies.
    """

    message = "prior_box_param"
    n_bottoms = (1, MAX_COUNT)  # the fork asks for two by a name that nobody reads

    min_size: Field[tuple[float, ...]] = Field(())
    max_size: Field[tuple[float, ...]] = Field(())
    aspect_ratio: Field[tuple[float, ...]] = Field(())
    flip = Field(True)
    clip = Field(False)
    variance: Field[tuple[float, ...]] = Field(())
    img_size = Field(0)
    img_h = Field(0)
    img_w = Field(0)
    step = Field(0.0)
    step_h = Field(0.0)
    step_w = Field(0.0)
    offset = Field(0.5)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check_sizes()
        for name in ("img_size", "step"):
            self.pair(name)
        if not self.pair("img_size") and len(bottoms) < 2:
            raise ShapeError("has no img_size, and no second bottom to take it from; give either")
        _, _, rows, columns = legacy(bottoms[0])
        if not rows * columns:
            raise ShapeError("the map has no cells")
        n = len(self.min_size) * (1 + len(self.ratios())) + len(self.max_size)
        return [(1, 2, 4 * rows * columns * n)]

    def check_sizes(self) -> None:
        """Refuse what the fork refuses.

        Raises:
            ShapeError: sizes or variances that it does not take.
        """
        if not self.min_size or not all(size > 0 for size in self.min_size):
            raise ShapeError("takes one min_size or more, above 0")
        if self.max_size and len(self.max_size) != len(self.min_size):
            raise ShapeError(
                f"has {len(self.max_size)} max_size for {len(self.min_size)} min_size; give none, "
                "or one for each"
            )
        for low, high in zip(self.min_size, self.max_size, strict=False):
            if not high > low:
                raise ShapeError(f"max_size is {high:g}; it has to be above its min_size {low:g}")
        if len(self.variance) not in (0, 1, 4) or not all(v > 0 for v in self.variance):
            raise ShapeError("takes no variance, or one, or four, each above 0")

    def pair(self, name: str) -> tuple[float, float] | None:
        """Rows and columns of ``img_size`` or ``step``; None where the net does not say.

        Raises:
            ShapeError: both ways to say it, half of one, or a value that is not above 0.
        """
        short = name.removesuffix("_size")
        parts = (f"{short}_h", f"{short}_w")
        if not any(part in self.param for part in parts):
            parts = (name, name)
            if name not in self.param:
                return None
        elif name in self.param:
            raise ShapeError(f"has {name} and {' or '.join(parts)}; give one or the other")
        rows, columns = (getattr(self, part) for part in parts)
        if not (rows > 0 and columns > 0):
            raise ShapeError(f"{', '.join(dict.fromkeys(parts))} has to be given, above 0")
        return rows, columns

    def ratios(self) -> Array:
        """Width by height of each form but the square, (R,)."""
        import numpy as np

        found = [1.0]
        near = {1 // SAME: [1.0]}  # by steps of SAME, so that few are looked at
        with np.errstate(all="ignore"):
            for ratio in np.array(self.aspect_ratio, np.float64):
                step = ratio // SAME
                around = [near.get(at, []) for at in (step, step - 1, step + 1)]
                if any(abs(other - ratio) < SAME for others in around for other in others):
                    continue
                for new in (ratio, 1 / ratio)[: 1 + self.flip]:
                    found.append(float(np.float32(new)))
                    near.setdefault(found[-1] // SAME, []).append(found[-1])
        return np.array(found[1:])

    def sides(self) -> Array:
        """Width and height of each box in pixels, (K, 2); the fork cuts sizes to whole ones."""
        import numpy as np

        size, roots = np.trunc(self.min_size)[:, None], np.sqrt(self.ratios())
        square = [size]
        if self.max_size:
            square.append(np.sqrt(size * np.trunc(self.max_size)[:, None]))
        width, height = (np.hstack([*square, forms]) for forms in (size * roots, size / roots))
        return np.stack([width.ravel(), height.ravel()], axis=-1)

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        (shape,) = self.top_shapes([x.shape for x in bottoms])
        cells = np.array(legacy(bottoms[0].shape)[2:], np.float64)  # rows, columns
        image = np.array(self.pair("img_size") or legacy(bottoms[1].shape)[2:], np.float64)
        step = self.pair("step") or image / cells
        with np.errstate(all="ignore"):
            half = self.sides() / 2
            rows, columns = cells.astype(int)
            places = np.moveaxis(np.indices((rows, columns)), 0, -1) + self.offset
            middle = (places * step)[..., None, ::-1]  # (H, W, 1, 2): x, y
            corners = np.concatenate([middle - half, middle + half], axis=-1)  # (H, W, K, 4)
            corners /= np.tile(image[::-1], 2)
        if self.clip:
            corners = np.clip(corners, 0, 1)
        top: Array = np.empty((1, 2, shape[2] // 4, 4), bottoms[0].dtype)
        top[0, 0] = corners.reshape(-1, 4)
        top[0, 1] = self.variance or 0.1
        return [top.reshape(shape)]
