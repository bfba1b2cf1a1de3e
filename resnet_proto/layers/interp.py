"""Interp: bilinear resizing that keeps the corners. DeepLab's fork, interp_layer.cpp, interp.cpp

Two bottoms are of github hszhao/PSPNet and of soeaver/caffe-model (``use_blob_size``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register
from resnet_proto.layers.loss import legacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from resnet_proto.layers.base import Array


@register
class Interp(Layer):
    """(N, C, H, W), cut by pads that are not positive, to another size.

    The size is that of a second bottom; or ``height`` and ``width``; or what is left when
    ``shrink_factor`` takes each so many pixels, then ``zoom_factor`` puts so many less one between.
    """

    message = "interp_param"
    n_bottoms = (1, 2)

    height = Field(0)
    width = Field(0)
    zoom_factor = Field(1)
    shrink_factor = Field(1)
    pad_beg = Field(0)
    pad_end = Field(0)
    use_blob_size = Field(False)

    def seen(self, bottom: Shape) -> Shape:
        """Rows and columns that the pads leave.

        Raises:
            ShapeError: none, or a pad that adds some.
        """
        rows, columns = (size + self.pad_beg + self.pad_end for size in legacy(bottom)[2:])
        if self.pad_beg > 0 or self.pad_end > 0 or rows < 1 or columns < 1:
            raise ShapeError(
                f"pad_beg {self.pad_beg}, pad_end {self.pad_end} leave {rows}x{columns} of "
                f"{dims(bottom)}; they cut, so give 0 or less, and leave a pixel"
            )
        return rows, columns

    @property
    def is_fixed(self) -> bool:
        """Whether ``height`` and ``width`` are the size, if no second bottom is."""
        factors = self.param.keys() & {"zoom_factor", "shrink_factor"}
        return len(factors) != 1 and self.param.keys() >= {"height", "width"}

    def size(self, bottoms: Sequence[Shape]) -> Shape:
        """Rows and columns of the top.

        Raises:
            ShapeError: it is not given, or in two ways.
        """
        own = self.param.keys() & {"height", "width", "zoom_factor", "shrink_factor"}
        if len(bottoms) == 2 and not own:
            return legacy(bottoms[1])[2:]
        factors = own & {"zoom_factor", "shrink_factor"}
        if len(bottoms) == 2 or self.use_blob_size or not (factors or own >= {"height", "width"}):
            raise ShapeError(
                "needs one size: a second bottom of it; height and width; or zoom_factor, "
                "shrink_factor"
            )
        if self.is_fixed:
            return self.height, self.width
        if min(self.zoom_factor, self.shrink_factor) < 1:
            raise ShapeError(
                f"zoom_factor {self.zoom_factor}, shrink_factor {self.shrink_factor}; "
                "1 is the least of both"
            )
        rows, columns = (
            (size - 1) // self.shrink_factor * self.zoom_factor + 1
            for size in self.seen(bottoms[0])
        )
        return rows, columns

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.seen(bottoms[0])
        size = self.size(bottoms)
        if min(size) < 1:
            raise ShapeError(f"height and width are {dims(size)}; 1 is the least of both")
        return [(*legacy(bottoms[0])[:2], *size)]

    def cut(self, x: Array) -> Array:
        """(N, C, rows, columns): what the pads leave of the bottom, a view."""
        rows, columns = self.seen(x.shape)
        inside = x.reshape(legacy(x.shape))[:, :, -self.pad_beg :, -self.pad_beg :]
        return inside[:, :, :rows, :columns]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        x = self.cut(bottoms[0])
        rows, columns = self.size([bottom.shape for bottom in bottoms])
        if x.shape[2:] == (rows, columns):
            return [x.copy()]
        left, right, across = between(x.shape[3], columns, x.dtype)
        x = (1 - across) * x[:, :, :, left] + across * x[:, :, :, right]
        above, below, down = between(x.shape[2], rows, x.dtype)
        down = down[:, None]
        return [(1 - down) * x[:, :, above] + down * x[:, :, below]]


def between(
    size: int, out: int, dtype: np.dtype[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """For each of ``out`` places the pixel before it, the one behind it, and how far it is between.

    Places are float32, as the fork has them for float64 too.
    """
    import numpy as np

    step = np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
    place = step * np.arange(out, dtype=np.float32)
    low = place.astype(np.intp)
    part = (place - low.astype(np.float32)).astype(dtype)
    return low, np.minimum(low + 1, size - 1), part
