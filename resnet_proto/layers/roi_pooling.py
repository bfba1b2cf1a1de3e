"""ROIPooling: the maxima of a region, in bins. Fast R-CNN's fork, roi_pooling_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, count, dims, register

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from resnet_proto.layers.base import Array


@register
class ROIPooling(Layer):
    """Bottoms: maps (N, C, H, W); regions (R, 5): image, then x1, y1, x2, y2 in pixels of it.

    Top: (R, C, pooled_h, pooled_w). A bin is 0 where it lies outside the map.
    """

    message = "roi_pooling_param"
    n_bottoms = (2, 2)

    pooled_h = Field(0)
    pooled_w = Field(0)
    spatial_scale = Field(1.0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if min(self.pooled_h, self.pooled_w) < 1:
            raise ShapeError(
                f"pooled_h {self.pooled_h}, pooled_w {self.pooled_w}; 1 is the least of both"
            )
        n_regions = check_regions(bottoms)
        return [(n_regions, bottoms[0][1], self.pooled_h, self.pooled_w)]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Maxima.

        Raises:
            ShapeError: a region of an image that is not there.
        """
        import numpy as np

        maps, regions = bottoms[0], regions_of(bottoms)
        (shape,) = self.top_shapes([x.shape for x in bottoms])
        top: Array = np.zeros(shape, maps.dtype)
        for r, (image, *corners) in enumerate(regions):
            ends = away_from_zero(np.array(corners, np.float32) * np.float32(self.spatial_scale))
            rows = bins(ends[1], ends[3], self.pooled_h, maps.shape[2])
            columns = list(bins(ends[0], ends[2], self.pooled_w, maps.shape[3]))
            for i, (top_row, bottom_row) in enumerate(rows):
                for j, (left, right) in enumerate(columns):
                    seen = maps[int(image), :, top_row:bottom_row, left:right]
                    if seen.size:
                        top[r, :, i, j] = seen.max(axis=(1, 2))
        return [top]


def bins(first: float, last: float, n: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each bin on a map of this size; the ends count to a region."""
    import numpy as np

    step = np.float32(max(last - first + 1, 1)) / np.float32(n)  # Caffe's floats: bins overlap
    for i in range(n):
        start = np.floor(np.float32(i) * step) + first
        end = np.ceil(np.float32(i + 1) * step) + first
        yield place(start, size), place(end, size)


def place(at: float, size: int) -> int:
    """A place on a map of this size; 0 for a nan, which C++ makes the lowest integer of."""
    return int(min(max(at, 0), size)) if at == at else 0


def away_from_zero(x: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """C's ``round``: a half goes away from zero."""
    import numpy as np

    wide = np.asarray(x, np.float64)
    return np.trunc(wide + np.copysign(0.5, wide))


def check_regions(bottoms: Sequence[Shape]) -> int:
    """How many regions there are.

    Raises:
        ShapeError: no maps, or no regions of five values.
    """
    maps, regions = bottoms
    if len(maps) != 4:
        raise ShapeError(f"takes maps (N, C, H, W), has {dims(maps)}")
    if not regions or len(regions) > 4 or count(regions[1:]) != 5:
        raise ShapeError(
            f"takes regions (R, 5), each image, x1, y1, x2, y2; bottom[1] is {dims(regions)}"
        )
    return regions[0]


def regions_of(bottoms: Sequence[Array]) -> Array:
    """The regions, (R, 5), as the float32 that Caffe has.

    Raises:
        ShapeError: a region of an image that is not there: CHECK_LT(roi_batch_ind, batch_size).
    """
    import numpy as np

    maps, regions = bottoms
    rows = regions.reshape(-1, 5).astype(np.float32)
    for r, image in enumerate(rows[:, 0]):
        if not -1 < image < len(maps):  # C++ cuts the rest off
            raise ShapeError(f"region {r} is of image {image:g}; there are {len(maps)}")
    return rows
