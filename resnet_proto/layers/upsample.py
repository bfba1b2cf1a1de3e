"""Upsample: values back to where a Pooling found them, between zeros. SegNet's fork

github alexgkendall/caffe-segnet, upsample_layer.cpp. What darknet's converters call so has one
bottom, and is another layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Upsample(Layer):
    """Bottoms: values (N, C, H, W), and the mask of a Pooling, of the same shape.

    Its size is ``upsample_h``, ``upsample_w``; or ``scale`` times the bottom's, or ``scale_h`` and
    ``scale_w`` times, less one where ``pad_out_h``, ``pad_out_w`` say so.
    """

    message = "upsample_param"
    n_bottoms = (2, 2)

    scale = Field(2)
    scale_h = Field(0)
    scale_w = Field(0)
    pad_out_h = Field(False)
    pad_out_w = Field(False)
    upsample_h = Field(0)
    upsample_w = Field(0)

    def size(self, bottom: Shape) -> Shape:
        """Rows and columns of the top.

        Raises:
            ShapeError: two ways of giving it, or a value that is too small.
        """
        if self.is_fixed:
            if min(self.upsample_h, self.upsample_w) < 2:
                raise ShapeError(
                    f"upsample_h {self.upsample_h}, upsample_w {self.upsample_w}; "
                    "2 is the least of both"
                )
            return self.upsample_h, self.upsample_w
        scales, less = self.factors()
        rows, columns = (n * s - p for n, s, p in zip(bottom[2:], scales, less, strict=True))
        return rows, columns

    @property
    def is_fixed(self) -> bool:
        """Whether ``upsample_h`` and ``upsample_w`` are the size."""
        return self.param.keys() >= {"upsample_h", "upsample_w"}

    def factors(self) -> tuple[Shape, Shape]:
        """By what rows and columns are multiplied, and what is taken off then.

        Raises:
            ShapeError: two ways of giving it, or a value that is too small.
        """
        given = self.param.keys()
        scales = (self.scale, self.scale)
        if given & {"scale_h", "scale_w"}:
            if "scale" in given or not given >= {"scale_h", "scale_w"}:
                raise ShapeError("scale_h and scale_w go together, and without scale")
            scales = (self.scale_h, self.scale_w)
        less = (int(self.pad_out_h), int(self.pad_out_w))
        if min(scales) < 2 or any(p and s != 2 for p, s in zip(less, scales, strict=True)):
            raise ShapeError(
                f"scale is {dims(scales)}; 2 is the least, and what pad_out_h and pad_out_w need"
            )
        return scales, less

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        values, mask = bottoms
        if values != mask or len(values) != 4:
            raise ShapeError(
                f"takes (N, C, H, W) and a mask of this shape, has {dims(values)} and {dims(mask)}"
            )
        return [(*values[:2], *self.size(values))]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Zeros, but a value at each place h * W + w of the mask; of several there the last.

        Raises:
            ShapeError: a place outside of the top, where Caffe ends or writes beside its memory.
        """
        import numpy as np

        values, mask = bottoms
        ((n, c, rows, columns),) = self.top_shapes([x.shape for x in bottoms])
        places = np.trunc(mask.reshape(n * c, -1))
        outside = ~((places >= 0) & (places < rows * columns))
        if outside.any():
            raise ShapeError(
                f"layer '{self.name}' (Upsample): the mask has {places[outside][0]:g}, and the top "
                f"{rows}x{columns} places; take the mask and the size of one Pooling"
            )
        top: Array = np.zeros((n * c, rows * columns), values.dtype)
        top[np.arange(n * c)[:, None], places.astype(np.intp)] = values.reshape(n * c, -1)
        return [top.reshape(n, c, rows, columns)]
