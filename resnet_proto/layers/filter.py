"""Filter: the images that a selector names. filter_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Layer, Shape, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Filter(Layer):
    """Of each bottom but the last, the images for which the last one, (N,), is not 0.

    How many those are shows when the net runs. Before that their shape is the bottoms', in Caffe
    too.
    """

    n_bottoms = (2, MAX_COUNT)
    n_tops = (1, MAX_COUNT)
    shape_varies = True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        *shapes, selector = bottoms
        if len(self.tops) != len(shapes):
            raise ShapeError(
                f"has {len(self.tops)} top for {len(shapes)} bottom and a selector; one for each"
            )
        if not selector or any(size != 1 for size in selector[1:]):
            raise ShapeError(f"the selector is {dims(selector)}; it has to be (N,)")
        for name, shape in zip(self.bottoms, shapes, strict=False):
            if shape[:1] != selector[:1]:
                raise ShapeError(f"bottom '{name}' is {dims(shape)}, the selector {dims(selector)}")
        return shapes

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Each bottom, with fewer images or none."""
        *others, selector = bottoms
        chosen = selector.ravel() != 0
        return [x[chosen] for x in others]
