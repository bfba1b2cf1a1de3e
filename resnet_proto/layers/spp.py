"""SPP: pooling into 1, 2 x 2, 4 x 4 ... bins. spp_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import ENGINES, Field, Layer, Shape, count, dims, register
from resnet_proto.layers.pooling import Pooling
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resnet_proto.layers.base import Array


@register
class SPP(Layer):
    """Each level's pooled bins, flattened, one after the other; a single level is not flattened."""

    message = "spp_param"

    pyramid_height = Field(0)
    pool = Field(Word("MAX"), values=("MAX", "AVE", "STOCHASTIC"))
    engine = Field(Word("DEFAULT"), values=ENGINES)

    @property
    def is_random(self) -> bool:
        return self.pool == "STOCHASTIC"  # its poolings are of phase TRAIN in any net

    def levels(self, bottom: Shape) -> Iterator[Pooling]:
        """The pooling of each level, one after the other: there may be more than fit.

        Raises:
            ShapeError: not four axes, or no level.
        """
        if len(bottom) != 4:
            raise ShapeError(f"takes (N, C, H, W), has {dims(bottom)}")
        if self.pyramid_height < 1:
            raise ShapeError(f"pyramid_height is {self.pyramid_height}; at least 1 is needed")
        for level in range(self.pyramid_height):
            sizes = {}
            for side, size in zip("hw", bottom[2:], strict=True):
                kernel = -(-size >> level)
                sizes[f"kernel_{side}"] = sizes[f"stride_{side}"] = kernel
                sizes[f"pad_{side}"] = ((kernel << level) - size + 1) // 2
            yield Pooling.of(self.name, "", "", pool=self.pool, **sizes)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shapes = [level.top_shapes(bottoms)[0] for level in self.levels(bottoms[0])]
        if len(shapes) == 1:
            return shapes
        return [(bottoms[0][0], sum(count(shape[1:]) for shape in shapes))]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """(N, C * bins)."""
        import numpy as np

        (x,) = bottoms
        pooled = [level.forward(bottoms, [])[0] for level in self.levels(x.shape)]
        if len(pooled) == 1:
            return pooled
        return [np.concatenate([y.reshape(len(x), -1) for y in pooled], axis=1)]
