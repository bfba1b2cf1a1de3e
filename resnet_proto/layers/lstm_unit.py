"""LSTMUnit: one step of an LSTM. lstm_unit_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Layer, Shape, dims, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class LSTMUnit(Layer):
    """c (1, N, D), gates (1, N, 4 * D) and cont (1, N) -> the new c and h, (1, N, D) both."""

    n_bottoms = (3, 3)
    n_tops = (2, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        c, gates, cont = bottoms
        if len(c) != 3 or c[0] != 1 or (gates, cont) != ((*c[:2], 4 * c[2]), c[:2]):
            raise ShapeError(
                f"takes (1, N, D), (1, N, 4 * D) and (1, N), has {', '.join(map(dims, bottoms))}"
            )
        return [c, c]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        c, gates, cont = bottoms
        return list(unit(c, gates, cont[..., None]))


def unit(c: Array, gates: Array, cont: Array) -> tuple[Array, Array]:
    """The new c and h, (..., D) both.

    Args:
        c: (..., D).
        gates: (..., 4 * D): input, forget, output, and what is taken in.
        cont: (..., 1), 0 where a sequence begins.
    """
    import numpy as np

    i, f, o, g = np.split(gates, 4, axis=-1)
    kept = np.where(cont == 0, 0, cont * gate(f))  # not 0 times a gate that is nan
    new: Array = kept * c + gate(i) * np.tanh(g)
    return new, gate(o) * np.tanh(new)


def gate(x: Array) -> Array:
    """1 / (1 + exp(-x)) as it stands: Sigmoid's tanh has few digits left where it is near 0."""
    import numpy as np

    with np.errstate(over="ignore"):
        y: Array = 1 / (1 + np.exp(-x))
    return y
