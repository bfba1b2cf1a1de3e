"""PSROIPooling: the means of a region, each bin of a map of its own. R-FCN's fork, arXiv 1605.06409

psroi_pooling_layer.cu: the fork computes it on the GPU only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register
from resnet_proto.layers.roi_pooling import away_from_zero, check_regions, place, regions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resnet_proto.layers.base import Array


@register
class PSROIPooling(Layer):
    """Bottoms: maps (N, output_dim k k, H, W) with k = group_size; regions (R, 5), as ROIPooling's.

    Top: (R, output_dim, k, k). Bin (i, j) of output c is a mean over map (c k + i) k + j.
    """

    message = "psroi_pooling_param"
    n_bottoms = (2, 2)

    spatial_scale = Field(0.0)
    output_dim = Field(0)
    group_size = Field(0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if min(self.output_dim, self.group_size) < 1 or self.spatial_scale <= 0:
            raise ShapeError(
                f"output_dim {self.output_dim}, group_size {self.group_size}, spatial_scale "
                f"{self.spatial_scale:g}; all three are needed, above 0"
            )
        n_regions = check_regions(bottoms)
        wanted = self.output_dim * self.group_size**2
        if bottoms[0][1] != wanted:
            raise ShapeError(
                f"output_dim {self.output_dim} in {self.group_size}x{self.group_size} bins takes "
                f"{wanted} channels, has {dims(bottoms[0])}"
            )
        return [(n_regions, self.output_dim, self.group_size, self.group_size)]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Means; 0 where a bin lies outside the map.

        Raises:
            ShapeError: a region of an image that is not there.
        """
        import numpy as np

        maps, regions = bottoms[0], regions_of(bottoms)
        (shape,) = self.top_shapes([x.shape for x in bottoms])
        top: Array = np.zeros(shape, maps.dtype)
        k, (rows, columns) = self.group_size, maps.shape[2:]
        by_bin = maps.reshape(len(maps), self.output_dim, k, k, rows, columns)
        for r, (image, *corners) in enumerate(regions):
            x1, y1, x2, y2 = away_from_zero(np.array(corners, np.float32))
            for i, (top_row, bottom_row) in enumerate(self.bins(y1, y2, rows)):
                for j, (left, right) in enumerate(self.bins(x1, x2, columns)):
                    seen = by_bin[int(image), :, i, j, top_row:bottom_row, left:right]
                    if seen.size:
                        top[r, :, i, j] = seen.mean(axis=(1, 2))
        return [top]

    def bins(self, first: float, last: float, size: int) -> Iterator[tuple[int, int]]:
        """Start and end of each bin on a map of this size, of a region of whole pixels."""
        import numpy as np

        start = np.float32(first) * np.float32(self.spatial_scale)
        end = np.float32(last + 1) * np.float32(self.spatial_scale)
        # A region without pixels is a tenth of one wide.
        step = np.float32(max(float(end - start), 0.1)) / np.float32(self.group_size)
        for i in range(self.group_size):
            low = np.floor(np.float32(i) * step + start)
            high = np.ceil(np.float32(i + 1) * step + start)
            yield place(low, size), place(high, size)
