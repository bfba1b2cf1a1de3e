"""Input: names and shapes of what the caller hands in. input_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Layer, Shape, register
from resnet_proto.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence


@register
class Input(Layer):
    """Blobs from outside; one shape for each top, or one for all."""

    message = "input_param"
    n_bottoms = (0, 0)
    n_tops = (1, MAX_COUNT)
    from_outside = True

    shape: Field[tuple[dict[str, Any], ...]] = Field(())

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shapes = [tuple(shape.get("dim", ())) for shape in self.shape]
        if len(shapes) == 1:
            shapes *= len(self.tops)
        if len(shapes) != len(self.tops):
            raise ShapeError(
                f"has {counted(len(shapes), 'shape')} for {counted(len(self.tops), 'top')}; "
                "give one for each, or one"
            )
        return shapes
