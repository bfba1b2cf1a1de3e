"""Parameter: a blob of weights as a top. parameter_layer.hpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.layers.base import Field, Layer, Shape, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class Parameter(Layer):
    """No bottom; the top is the weight, of the ``shape`` given."""

    message = "parameter_param"
    n_bottoms = (0, 0)

    shape: Field[dict[str, Any]] = Field({})

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("weight",)[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        return {"weight": tuple(self.shape.get("dim", ()))}

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [tuple(self.shape.get("dim", ()))]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return [blobs[0].copy()]
