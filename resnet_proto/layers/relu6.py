"""ReLU6: no less than 0, no more than 6. MobileNet's forks, relu6_layer.cpp

github chinakook/relu6.caffe, eric612/MobileNet-YOLO; ``threshold`` in PyPI brocolli-caffe only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Field, register
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array


@register
class ReLU6(Neuron):
    """min(max(x, 0) + negative_slope * min(x, 0), threshold)."""

    message = "relu6_param"

    negative_slope = Field(0.0)
    threshold = Field(6.0)

    def activation(self, x: Array) -> Array:
        import numpy as np

        y: Array = np.maximum(x, 0) + self.negative_slope * np.minimum(x, 0)
        return np.minimum(y, self.threshold)
