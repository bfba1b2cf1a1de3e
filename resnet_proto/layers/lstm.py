"""LSTM: long short-term memory. lstm_layer.cpp, lstm_unit_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import register
from resnet_proto.layers.lstm_unit import unit
from resnet_proto.layers.recurrent import Recurrent

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class LSTM(Recurrent):
    """c_t = f c_(t-1) + i g, h_t = o tanh(c_t), with i, f, o, g = W_hc h_(t-1) + W_xc x_t + b_c.

    Of those four i, f and o go through a sigmoid, g through tanh. The state is h and c.
    """

    state = 2
    gates = 4

    def blob_names(self, count: int) -> tuple[str, ...]:
        static = ("W_xc_static",) if count > 3 else ()
        return ("W_xc", "b_c", *static, "W_hc")[:count]

    def step(self, gate: Array, kept: Array, state: list[Array]) -> list[Array]:
        c, h = unit(state[1], gate, kept)
        return [h, c]
