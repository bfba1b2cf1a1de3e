"""DetectionOutput: the objects that a net has found. SSD's fork, detection_output_layer.cpp

arXiv 1512.02325, section 2.2; how boxes are coded and kept apart is in bbox_util.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, count, dims, register
from resnet_proto.layers.loss import legacy
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet_proto.layers.base import Array

FLOAT_MAX = 3.4028234663852886e38
BLOCK = 64
"""So many boxes at a time are held against all that follow."""


@register
class DetectionOutput(Layer):
    """Bottoms, with P boxes before the net: where they move (N, 4 P), or (N, 4 P num_classes)
    without ``share_location``; scores (N, P num_classes); PriorBox's top (1, 2, 4 P). A fourth one,
    the image, is only drawn upon.

    Top: (1, 1, R, 7), each image, class, score, x1, y1, x2, y2, by image and class, the best
    first; of equal scores the first box, where Caffe's ``keep_top_k`` leaves it to chance. How many
    there are shows when the net runs. Without any, R is N: each row has its image and six times -1.

    What the fork does besides, files (``save_output_param``, ``save_file``) and pictures
    (``visualize``), changes no top and is not done here.
    """

    message = "detection_output_param"
    n_bottoms = (3, 4)
    shape_varies = True

    num_classes = Field(0)
    share_location = Field(True)
    background_label_id = Field(0)
    nms_param: Field[Mapping[str, Any]] = Field({})
    save_output_param: Field[Mapping[str, Any]] = Field({})
    code_type = Field(Word("CORNER"), values=("CORNER", "CENTER_SIZE", "CORNER_SIZE"))
    variance_encoded_in_target = Field(False)
    keep_top_k = Field(-1)
    confidence_threshold: Field[float | None] = Field(None)
    visualize = Field(False)
    visualize_threshold: Field[float | None] = Field(None)
    save_file = Field("")

    @property
    def n_places(self) -> int:
        """How many boxes there are for each box before the net."""
        return 1 if self.share_location else self.num_classes

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One row, as Caffe has it before the layer runs."""
        if "num_classes" not in self.param:
            raise ShapeError("has no num_classes; give it, with the background counted")
        threshold, eta = self.nms_param.get("nms_threshold", 0.3), self.nms_param.get("eta", 1.0)
        if not (threshold >= 0 and 0 < eta <= 1):
            raise ShapeError(
                f"nms_threshold is {threshold:g} and eta {eta:g}; the one is at least 0, the other "
                "above 0 and at most 1"
            )
        moves, scores, priors = map(legacy, bottoms[:3])
        n = priors[2] // 4
        if not n:
            raise ShapeError(f"takes one box before the net or more, has {dims(bottoms[2])}")
        wanted = (4 * n * self.n_places, n * self.num_classes)
        if (moves[1], scores[1]) != wanted or moves[0] != scores[0]:
            raise ShapeError(
                f"{n} boxes in {dims(bottoms[2])} take (N, {wanted[0]}) and (N, {wanted[1]}), have "
                f"{dims(bottoms[0])} and {dims(bottoms[1])}"
            )
        if count(priors) < 4 * n * (1 if self.variance_encoded_in_target else 2):
            raise ShapeError(
                f"takes boxes and their variances, (1, 2, {4 * n}), has {dims(bottoms[2])}"
            )
        return [(1, 1, 1, 7)]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """What is found.

        Raises:
            ShapeError: a box without an area, or no place for a class: CHECK and LOG(FATAL).
        """
        import numpy as np

        self.check_background()
        self.top_shapes([x.shape for x in bottoms])
        images = legacy(bottoms[0].shape)[0]
        n = legacy(bottoms[2].shape)[2] // 4
        moves = bottoms[0].reshape(-1)[: images * n * self.n_places * 4]
        scores = bottoms[1].reshape(-1)[: images * n * self.num_classes]
        scores = scores.reshape(images, n, self.num_classes)
        with np.errstate(all="ignore"):
            boxes = self.decoded(moves.reshape(images, n, self.n_places, 4), bottoms[2], n)
            rows = [self.detections(i, boxes[i], scores[i]) for i in range(images)]
        top = np.concatenate(rows).astype(scores.dtype)
        if not len(top):
            top = np.full((images, 7), -1, scores.dtype)
            top[:, 0] = range(images)
        return [top[None, None]]

    def check_background(self) -> None:
        """Refuse a background that Caffe takes for something else.

        Raises:
            ShapeError: it is the place that all classes share.
        """
        if self.share_location and self.background_label_id == -1:
            raise ShapeError(
                "Caffe takes class -1 for the place that all classes share, so it cannot be the "
                f"background; where there is none, set background_label_id: {self.num_classes}"
            )

    def decoded(self, moves: Array, priors: Array, n: int) -> Array:
        """The boxes: x1, y1, x2, y2. (N, P, places, 4), as ``moves``.

        Raises:
            ShapeError: a box before the net has no area, and sizes count.
        """
        import numpy as np

        boxes = priors.reshape(-1)[: 4 * n].reshape(n, 1, 4)
        if not self.variance_encoded_in_target:
            moves = priors.reshape(-1)[4 * n : 8 * n].reshape(n, 1, 4) * moves
        corners: Array
        if self.code_type == "CORNER":
            corners = boxes + moves
            return corners
        low, high = boxes[..., :2], boxes[..., 2:]
        size = high - low
        if not (size > 0).all():
            raise ShapeError(
                f"code_type {self.code_type} takes boxes whose x2 is above x1, y2 above y1; "
                f"some in '{self.bottoms[2]}' are not"
            )
        if self.code_type == "CORNER_SIZE":
            corners = boxes + moves * np.concatenate([size, size], axis=-1)
            return corners
        middle = moves[..., :2] * size + (low + high) / 2
        half = np.exp(moves[..., 2:]) * size / 2
        return np.concatenate([middle - half, middle + half], axis=-1)

    def detections(self, image: int, boxes: Array, scores: Array) -> Array:
        """The rows of one image, (R, 7).

        Args:
            image: its number.
            boxes: (P, places, 4).
            scores: (P, classes).
        """
        import numpy as np

        found = [np.empty((0, 7))]
        for label in range(self.num_classes):
            if label != self.background_label_id:
                place = boxes[:, 0 if self.share_location else label]
                kept = self.chosen(place, scores[:, label])
                rows = np.empty((len(kept), 7))
                rows[:, 0], rows[:, 1], rows[:, 2] = image, label, scores[kept, label]
                rows[:, 3:] = place[kept]
                found.append(rows)
        rows = np.concatenate(found)
        if self.keep_top_k > -1:
            best = np.argsort(-rows[:, 2], kind="stable")[: self.keep_top_k]
            rows = rows[np.sort(best)]
        return rows

    def chosen(self, boxes: Array, scores: Array) -> list[int]:
        """Which boxes of one class are kept, the best first: bbox_util.cpp, ApplyNMSFast.

        With an ``eta`` below 1 the overlap that is allowed shrinks with each, down to a half.
        """
        import numpy as np

        least = self.confidence_threshold
        (order,) = np.nonzero(scores > (-FLOAT_MAX if least is None else least))
        order = order[np.argsort(-scores[order], kind="stable")]
        top_k = self.nms_param.get("top_k", -1)
        order = order[: top_k if top_k > -1 else None]
        allowed = np.float32(self.nms_param.get("nms_threshold", 0.3))
        eta = np.float32(self.nms_param.get("eta", 1.0))
        boxes = np.ascontiguousarray(boxes[order].T)
        worst = np.zeros(len(order), boxes.dtype)
        kept: list[int] = []
        while len(order):
            block, rest = boxes[:, :BLOCK], boxes[:, BLOCK:]
            near = overlaps(block, block[:, :, None])
            better = []
            for i in range(len(near)):
                if worst[i] <= allowed:  # so nan is too much
                    better.append(i)
                    np.maximum(worst[:BLOCK], near[i], out=worst[:BLOCK])
                    if eta < 1 and allowed > 0.5:
                        allowed *= eta
            kept += order[better].tolist()
            share = overlaps(rest, block[:, better, None]).max(axis=0)
            worst = np.maximum(worst[BLOCK:], share)
            (apart,) = np.nonzero(worst <= allowed)  # for good, as what is allowed only shrinks
            order, boxes, worst = order[BLOCK:][apart], rest[:, apart], worst[apart]
        return kept


def overlaps(boxes: Array, others: Array) -> Array:
    """What boxes share with others, divided by what the two cover; both (4, ...), broadcast."""
    import numpy as np

    def area(box: Array) -> Array:  # Caffe's is 0 where it is none; such a box shares nothing
        value: Array = (box[2] - box[0]) * (box[3] - box[1])
        return value

    # As C++ takes the larger and the smaller: of a nan and a number, the first.
    left, top = (np.where(boxes[i] < others[i], others[i], boxes[i]) for i in (0, 1))
    right, bottom = (np.where(others[i] < boxes[i], others[i], boxes[i]) for i in (2, 3))
    width, height = right - left, bottom - top
    shared = width * height
    with np.errstate(all="ignore"):
        share = shared / (area(boxes) + area(others) - shared)
    return np.where((width > 0) & (height > 0), share, 0)
