"""ConvolutionDepthwise: a Convolution of each channel by itself. conv_dw_layer.cpp

github BVLC/caffe #5665; ShuffleNet's and MobileNet's forks took it from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, overload

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, dims, register
from resnet_proto.layers.convolution import Convolution

if TYPE_CHECKING:
    from collections.abc import Sequence


class Outputs(Field[int]):
    """A field that is not looked at: it has the value of ``num_output``, whatever is set."""

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: Layer, owner: type) -> int: ...
    def __get__(self, layer: Layer | None, owner: type) -> Self | int:
        if layer is None:
            return self
        assert isinstance(layer, Convolution)
        return layer.num_output


@register
class ConvolutionDepthwise(Convolution):
    """The weight is (C, 1, kernel_h, kernel_w). Nets give a group for each channel, or none."""

    n_bottoms = (1, 1)
    n_tops = (1, 1)

    group = Outputs(1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        if len(shape) != 4:
            raise ShapeError(f"takes (N, C, H, W), has {dims(shape)}")
        if self.num_output != shape[1]:  # the fork does not look at it
            raise ShapeError(
                f"num_output is {self.num_output}, and the bottom has {shape[1]} channels; "
                "each gives one, so they need to be equal"
            )
        return super().top_shapes(bottoms)
