"""LMDB -> what can be said of it in seconds: how many images, of which sizes and labels."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_proto.data.images import shape_of
from resnet_proto.data.labelled import shown
from resnet_proto.data.lmdb import records
from resnet_proto.layers import Shape
from resnet_proto.schema import decode

MOST = 10_000
"""Images that are looked at, evenly over the database; fewer where they take longer than this."""
SECONDS = 5.0


@dataclass(frozen=True)
class Survey:
    """What an LMDB holds.

    Args:
        path: the folder.
        count: how many records there are.
        labels: of the images that were looked at, in their order.
        shapes: (C, H, W) -> how many of those have it; of encoded images whose size is not known
            without Pillow, none.
        encoded: how many of those are.
    """

    path: Path
    count: int
    labels: Sequence[int]
    shapes: Counter[Shape]
    encoded: int

    @property
    def looked_at(self) -> str:
        """``the 10,000 images that were looked at``, where those are not all."""
        if len(self.labels) == self.count:
            return f"the {self.count:,} images"
        return f"the {len(self.labels):,} images of {self.count:,} that were looked at"


def survey(path: Path) -> Survey:
    """Look at an LMDB.

    Raises:
        ResNetProtoError: there is none, or it is damaged.
    """
    labels: list[int] = []
    shapes: Counter[Shape] = Counter()
    encoded = 0
    end = time.monotonic() + SECONDS
    with records(path) as database:
        count = database.count
        n = min(count, MOST)
        for key, value in database.at([i * count // n for i in range(n)]):
            tree = decode("Datum", value)
            labels.append(tree.get("label", 0))
            encoded += bool(tree.get("encoded"))
            if shape := shape_of(tree, f"{path}: {shown(key)}"):
                shapes[shape] += 1
            if time.monotonic() > end:
                break
    return Survey(path, count, labels, shapes, encoded)
