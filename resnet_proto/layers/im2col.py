"""Im2col: what each place of a convolution sees, as channels. im2col_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Shape, axis_index, count, dims, register
from resnet_proto.layers.base_convolution import BaseConvolution, conv_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Im2col(BaseConvolution):
    """(..., C, size ...) -> (..., C * kernel ..., out ...); no weights."""

    n_bottoms = (1, 1)
    n_tops = (1, 1)

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ()

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        return {}

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,) = bottoms
        channel = axis_index(self.axis, shape)
        spatial = shape[channel + 1 :]
        if not spatial:
            raise ShapeError(f"needs an axis behind the channels, axis {channel} of {dims(shape)}")
        windows = self.windows(len(spatial))
        out = tuple(conv_size(*axis) for axis in zip(spatial, *windows, strict=True))
        if min(out) < 1:
            raise ShapeError(f"kernel {dims(windows[0])} is larger than the padded {dims(shape)}")
        return [(*shape[:channel], shape[channel] * count(windows[0]), *out)]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        (x,) = bottoms
        channel = axis_index(self.axis, x.shape)
        columns = self.columns(x.reshape(count(x.shape[:channel]), *x.shape[channel:]))
        return [columns.copy("C").reshape(self.top_shapes([x.shape])[0])]
