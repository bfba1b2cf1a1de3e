"""Residual units: paper, figure 2 and figure 5. Each is a list of layers in drawing order.

The last top of a unit is its blob, ``res2a``.
"""

from __future__ import annotations

from resnet_proto.build.parts import batch_norm, convolution, relu
from resnet_proto.layers import Eltwise, Layer


def basic(blob: str, bottom: str, width: int, stride: int) -> list[Layer]:
    """Two 3x3 convolutions: figure 5, left."""
    a, b = f"{blob}_branch2a", f"{blob}_branch2b"
    return [
        convolution(a, bottom, width, 3, stride), *batch_norm(a), relu(a),
        convolution(b, a, width, 3), *batch_norm(b),
    ]  # fmt: skip


def bottleneck(blob: str, bottom: str, width: int, stride: int) -> list[Layer]:
    """1x1 reduces, 3x3, 1x1 restores four times the width: figure 5, right."""
    a, b, c = f"{blob}_branch2a", f"{blob}_branch2b", f"{blob}_branch2c"
    return [
        convolution(a, bottom, width, 1, stride), *batch_norm(a), relu(a),
        convolution(b, a, width, 3), *batch_norm(b), relu(b),
        convolution(c, b, 4 * width, 1), *batch_norm(c),
    ]  # fmt: skip


def projection(blob: str, bottom: str, channels: int, stride: int) -> list[Layer]:
    """A 1x1 convolution for the shortcut where shapes change: section 3.2, equation 2."""
    shortcut = f"{blob}_branch1"
    return [convolution(shortcut, bottom, channels, 1, stride), *batch_norm(shortcut)]


def residual_sum(blob: str, shortcut: str, branch: str) -> list[Layer]:
    """Shortcut plus main path, then ReLU: section 3.2, equation 1."""
    return [Eltwise.of(blob, (shortcut, branch), blob, operation="SUM"), relu(blob)]


UNITS = {"basic": basic, "bottleneck": bottleneck}
