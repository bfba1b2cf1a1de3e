"""Convolution over any number of spatial axes. conv_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.layers.base import Shape, axis_index, count, dims, register
from resnet_proto.layers.base_convolution import BaseConvolution, conv_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet_proto.layers.base import Array


@register
class Convolution(BaseConvolution):
    """Cross-correlation with zero padding; the weight is (out, in / group, kernel ...)."""

    def weight_channels(self, channels: int) -> tuple[int, int]:
        return self.num_output, channels // self.group

    def size(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        return conv_size(size, kernel, stride, pad, dilation)

    def empty(self, bottom: Shape) -> str:
        kernel, _, pad, dilation = self.windows(len(bottom))
        spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        padded = tuple(n + 2 * p for n, p in zip(bottom, pad, strict=True))
        has = f"the bottom with its pad has {dims(padded)}"
        if spans == kernel:
            return f"kernel {dims(kernel)} is too large, {has}; make it smaller, or pad more"
        return (
            f"kernel {dims(kernel)} with dilation {dims(dilation)} spans {dims(spans)}, {has}; "
            "make the kernel or the dilation smaller, or pad more"
        )

    @classmethod
    def subsample(
        cls, name: str, bottom: str, top: str, channels: int, stride: tuple[int, int]
    ) -> Convolution:
        """One that is ``fixed``: every ``stride``-th row and column, as they are."""
        one = {"stride": (stride[0],)}
        sides = {"stride_h": stride[0], "stride_w": stride[1]}
        return cls(
            name,
            cls.__name__,
            (bottom,),
            (top,),
            {
                "param": ({"lr_mult": 0.0, "decay_mult": 0.0},),
                "convolution_param": {
                    "num_output": channels,
                    "bias_term": False,
                    "kernel_size": (1,),
                    **(one if stride[0] == stride[1] else sides),
                    "group": channels,
                    "weight_filler": {"type": "constant", "value": 1.0},
                },
            },
        )

    @property
    def fixed(self) -> bool:
        """Whether it only chooses pixels: one constant weight for each channel, with rate 0.

        Zero padding (option A) and floor pooling subsample so, because pooling would round up.
        """
        rates = [param.get("lr_mult", 1.0) for param in self.fields.get("param", ())]
        filler = self.weight_filler
        return (
            rates == [0.0]
            and not self.bias_term
            and self.group == self.num_output
            and set(self.kernel_size) == {1}
            and filler.get("type", "constant") == "constant"
            and filler.get("value") == 1.0
        )

    def fixed_blob(self, shape: Shape) -> Array:
        import numpy as np

        return np.ones(shape, np.float32)

    def macs(
        self, bottoms: Sequence[Shape], tops: Sequence[Shape], blobs: Mapping[str, Shape]
    ) -> int:
        if self.fixed:
            return 0
        return sum(map(count, tops)) * count(blobs["weight"][1:])

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Each bottom by itself, as one matrix product for each image and group."""
        weight, *bias = blobs
        tops: list[Array] = []
        for x, shape in zip(bottoms, self.top_shapes([x.shape for x in bottoms]), strict=True):
            channel = axis_index(self.axis, x.shape)
            images = count(shape[:channel])
            columns = self.columns(x.reshape(images, *x.shape[channel:]))
            columns = columns.reshape(images, self.group, -1, count(shape[channel + 1 :]))
            rows = weight.reshape(self.group, self.num_output // self.group, -1)
            y = (rows @ columns).reshape(images, self.num_output, -1)
            if bias:
                y += bias[0][:, None]
            tops.append(y.reshape(shape))
        return tops
