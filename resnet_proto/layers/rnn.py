"""RNN: h = tanh(W h + W x + b). rnn_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Shape, register
from resnet_proto.layers.recurrent import Recurrent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class RNN(Recurrent):
    """h_t = tanh(W_hh h_(t-1) + W_xh x_t + b_h), o_t = tanh(W_ho h_t + b_o)."""

    state = 1
    gates = 1

    def blob_names(self, count: int) -> tuple[str, ...]:
        static = ("W_xh_static",) if count > 5 else ()
        return ("W_xh", "b_h", *static, "W_hh", "W_ho", "b_o")[:count]

    def output_shapes(self) -> list[Shape]:
        return [(self.num_output, self.num_output), (self.num_output,)]

    def step(self, gate: Array, kept: Array, state: list[Array]) -> list[Array]:
        import numpy as np

        return [np.tanh(gate)]

    def output(self, h: Array, blobs: Sequence[Array]) -> Array:
        import numpy as np

        weight, bias = blobs
        return np.tanh(h @ weight.T + bias)
