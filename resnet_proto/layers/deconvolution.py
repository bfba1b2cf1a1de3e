"""Deconvolution, the transpose of Convolution. deconv_layer.cpp"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from resnet_proto.layers.base import Shape, axis_index, count, dims, register
from resnet_proto.layers.base_convolution import BaseConvolution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet_proto.layers.base import Array


@register
class Deconvolution(BaseConvolution):
    """Each value spreads a kernel, and kernels add up; ``pad`` is cut off the result.

    The weight is (in, out / group, kernel ...), the other way round than a Convolution's.
    """

    def weight_channels(self, channels: int) -> tuple[int, int]:
        return channels, self.num_output // self.group

    def size(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        return stride * (size - 1) + dilation * (kernel - 1) + 1 - 2 * pad

    def empty(self, bottom: Shape) -> str:
        kernel, _, pad, _ = self.windows(len(bottom))
        return (
            f"pad {dims(pad)} leaves nothing of what kernel {dims(kernel)} makes of "
            f"{dims(bottom)}; pad less"
        )

    def fan_in(self, weight: Shape) -> int:
        return (
            weight[0] * count(weight[2:]) // self.group // count(self.windows(len(weight) - 2)[1])
        )

    @property
    def fixed(self) -> bool:
        """Whether it only makes maps larger: a bilinear kernel for each channel, with rate 0."""
        rates = [param.get("lr_mult", 1.0) for param in self.fields.get("param", ())]
        return (
            rates == [0.0]
            and not self.bias_term
            and self.group == self.num_output
            and self.weight_filler.get("type") == "bilinear"
        )

    def fixed_blob(self, shape: Shape) -> Array:
        """Weights that fall from the middle to the sides. filler.hpp, BilinearFiller

        Older Caffes have another middle, with which kernels of sizes other than
        2 * stride - stride % 2 are not symmetric.
        """
        import numpy as np

        side = shape[-1]
        stride = (side + 1) // 2
        middle = (side - 1) / (2 * stride)
        falling = 1 - abs(np.arange(side) / stride - middle)
        return np.broadcast_to(np.outer(falling, falling), shape).astype(np.float32)

    def macs(
        self, bottoms: Sequence[Shape], tops: Sequence[Shape], blobs: Mapping[str, Shape]
    ) -> int:
        if self.fixed:
            return 0
        return sum(map(count, bottoms)) * count(blobs["weight"][1:])

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Each bottom by itself, as one matrix product for each image and group."""
        weight, *bias = blobs
        tops: list[Array] = []
        for x, shape in zip(bottoms, self.top_shapes([x.shape for x in bottoms]), strict=True):
            channel = axis_index(self.axis, x.shape)
            spatial = x.shape[channel + 1 :]
            images, channels = count(shape[:channel]), x.shape[channel]
            rows = weight.reshape(self.group, channels // self.group, -1)
            columns = rows.swapaxes(1, 2) @ x.reshape(images, self.group, -1, count(spatial))
            y = self.joined(columns.reshape(images, self.num_output, *weight.shape[2:], *spatial))
            if bias:
                y = y + bias[0].reshape(-1, *(1 for _ in spatial))
            tops.append(y.reshape(shape))
        return tops

    def column_shape(self, bottom: Shape, top: Shape) -> Shape:
        return super().column_shape(top, bottom)

    def padded(self, bottom: Shape) -> Shape:
        """The top, before ``pad`` is cut off it."""
        top = self.top_shapes([bottom] * len(self.tops))[0]
        first = axis_index(self.axis, bottom) + 1
        pad = self.windows(len(bottom) - first)[2]
        return (*top[:first], *(n + 2 * p for n, p in zip(top[first:], pad, strict=True)))

    def joined(self, columns: Array) -> Array:
        """What lies in one place, added up: the transpose of ``columns``. im2col.cpp, col2im

        Args:
            columns: (N, C, kernel ..., size ...), any number of spatial axes.

        Returns:
            (N, C, out ...)
        """
        import numpy as np

        n_axes = (columns.ndim - 2) // 2
        sizes = columns.shape[2 + n_axes :]
        kernel, stride, pad, dilation = self.windows(n_axes)
        full = [
            self.size(size, k, s, 0, d)
            for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
        ]
        y: Array = np.zeros((*columns.shape[:2], *full), columns.dtype)
        for tap in product(*map(range, kernel)):
            place = [
                slice(i * d, i * d + s * (size - 1) + 1, s)
                for i, d, s, size in zip(tap, dilation, stride, sizes, strict=True)
            ]
            index: tuple[Any, ...] = (..., *tap, *(slice(None) for _ in sizes))
            seen = y[:, :, *place]
            seen += columns[index]
        kept = (slice(p, size - p) for p, size in zip(pad, full, strict=True))
        return y[:, :, *kept]
