"""Proposal: where objects may be. arXiv 1506.01497, section 3; pva-faster-rcnn, proposal_layer"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, count, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Proposal(Layer):
    """Bottoms, with A anchors: probabilities (N, 2 A, H, W), first those of no object; moves
    (N, 4 A, H, W); rows, columns and scale of the image, (1, 3).

    Tops: regions (R, 5), each image, x1, y1, x2, y2; and their scores (R), if wanted. R is
    ``post_nms_topn`` for each image, or fewer: that is known only when the layer runs.
    """

    message = "proposal_param"
    n_bottoms = (3, 3)
    n_tops = (1, 2)
    shape_varies = True

    feat_stride = Field(16)
    base_size = Field(16)
    min_size = Field(16)
    ratio: Field[tuple[float, ...]] = Field(())
    scale: Field[tuple[float, ...]] = Field(())
    pre_nms_topn = Field(6000)
    post_nms_topn = Field(300)
    nms_thresh = Field(0.7)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The most that there can be."""
        scores, moves, image = bottoms
        n_anchors = len(self.ratio) * len(self.scale)
        if not n_anchors:
            raise ShapeError("has no anchors; give ratio and scale, each once or more")
        if not all(ratio > 0 for ratio in self.ratio):
            raise ShapeError("takes a ratio above 0: height by width")
        wanted = [(*scores[:1], k * n_anchors, *scores[2:]) for k in (2, 4)]
        if [scores, moves] != wanted or len(scores) != 4:
            raise ShapeError(
                f"{n_anchors} anchors take (N, {2 * n_anchors}, H, W) and (N, {4 * n_anchors}, H, "
                f"W), have {dims(scores)} and {dims(moves)}"
            )
        if count(image) < 3:
            raise ShapeError(f"takes rows, columns and scale of the image; has {dims(image)}")
        n = scores[0] * self.post_nms_topn
        return [(n, 5), (n,)][: len(self.tops)]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        import numpy as np

        scores, moves, image = bottoms
        rows, columns, scale = image.reshape(-1)[:3]
        regions, kept = [], []
        for n in range(len(scores)):
            n_anchors = scores.shape[1] // 2
            boxes = self.moved(moves[n].reshape(n_anchors, 4, *moves.shape[2:]))
            last = np.array([columns, rows, columns, rows]) - 1
            boxes = np.maximum(np.minimum(boxes, last), 0)  # also where the image has no pixel
            sides = boxes[:, 2:] - boxes[:, :2] + 1
            large = (sides >= self.min_size * scale).all(axis=1)
            score = np.moveaxis(scores[n, n_anchors:], 0, -1).reshape(-1) * large
            best = np.argsort(-score, kind="stable")[: self.pre_nms_topn]
            best = best[apart(boxes[best], self.nms_thresh, self.post_nms_topn)]
            regions.append(np.insert(boxes[best], 0, n, axis=1))
            kept.append(score[best])
        dtype = scores.dtype
        tops = [np.concatenate(regions).astype(dtype), np.concatenate(kept).astype(dtype)]
        return tops[: len(self.tops)]

    def anchors(self) -> Array:
        """(A, 4): x1, y1, x2, y2 of each ratio at each scale, around the first cell."""
        import numpy as np

        middle = (self.base_size - 1) / 2
        boxes = []
        for ratio in self.ratio:
            width = np.floor((self.base_size**2 / ratio) ** 0.5 + 0.5)
            height = np.floor(width * ratio + 0.5)
            for scale in self.scale:
                half = np.array([width, height]) * scale / 2 - 0.5
                boxes.append([*(middle - half), *(middle + half)])
        return np.array(boxes)

    def cells(self, rows: int, columns: int) -> Array:
        """(H, W, A, 4): the anchors of every cell."""
        import numpy as np

        y, x = np.mgrid[:rows, :columns] * self.feat_stride
        cells: Array = np.stack([x, y, x, y], axis=-1)[:, :, None] + self.anchors()
        return cells

    def moved(self, moves: Array) -> Array:
        """(H W A, 4): the anchors of every cell, moved.

        Args:
            moves: (A, 4, H, W); of the middle in widths and heights, of the size as logarithms.
        """
        import numpy as np

        cells = self.cells(*moves.shape[2:])
        size = cells[..., 2:] - cells[..., :2] + 1
        middle = cells[..., :2] + size / 2
        by, log_size = np.split(moves.transpose(2, 3, 0, 1).astype(np.float64), 2, axis=-1)
        middle, half = middle + by * size, size * np.exp(log_size) / 2
        boxes: Array = np.concatenate([middle - half, middle + half], axis=-1).reshape(-1, 4)
        return boxes


def apart(boxes: Array, most_overlap: float, n: int) -> list[int]:
    """The first boxes, ``n`` at most, that no earlier one of them overlaps by more than this.

    Overlap is what two share, divided by what they cover; the last pixel counts.
    """
    import numpy as np

    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for i in range(len(boxes)):
        if len(kept) == n:
            break
        if not alive[i]:
            continue
        kept.append(i)
        low = np.maximum(boxes[i, :2], boxes[:, :2])
        high = np.minimum(boxes[i, 2:], boxes[:, 2:])
        shared = np.clip(high - low + 1, 0, None).prod(axis=1) * (high >= low).all(axis=1)
        alive &= shared <= most_overlap * (areas[i] + areas - shared)
    return kept
