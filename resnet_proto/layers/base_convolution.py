"""What Convolution and Deconvolution share. base_conv_layer.cpp, im2col.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import (
    ENGINES,
    MAX_COUNT,
    Field,
    Layer,
    Shape,
    axis_index,
    count,
    dims,
)
from resnet_proto.words import Word, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


class BaseConvolution(Layer):
    """The fields, and the windows that they describe."""

    message = "convolution_param"
    n_bottoms = (1, MAX_COUNT)
    n_tops = (1, MAX_COUNT)

    num_output = Field(0)
    bias_term = Field(True)
    pad: Field[tuple[int, ...]] = Field(())
    kernel_size: Field[tuple[int, ...]] = Field(())
    group = Field(1)
    stride: Field[tuple[int, ...]] = Field(())
    weight_filler: Field[dict[str, Any]] = Field({})
    bias_filler: Field[dict[str, Any]] = Field({})
    pad_h = Field(0)
    pad_w = Field(0)
    kernel_h = Field(0)
    kernel_w = Field(0)
    stride_h = Field(0)
    stride_w = Field(0)
    engine = Field(Word("DEFAULT"), values=ENGINES)
    axis = Field(1)
    force_nd_im2col = Field(False)
    dilation: Field[tuple[int, ...]] = Field(())

    def resolved(self) -> dict[str, Any]:
        """Defaults filled in; one value for all axes and the same value twice are one thing."""
        own = super().resolved()
        for key, default in (
            ("kernel_size", ()),
            ("stride", (1,)),
            ("pad", (0,)),
            ("dilation", (1,)),
        ):
            values = own[key] or default
            own[key] = values[:1] if len(set(values)) == 1 else values
        return own

    def windows(self, n_axes: int) -> tuple[Shape, Shape, Shape, Shape]:
        """Kernel, stride, pad and dilation, one value for each spatial axis (rows first).

        Raises:
            ShapeError: two ways of giving one value, or the wrong number of values.
        """
        return (
            self._spatial("kernel_size", "kernel", n_axes, None),
            self._spatial("stride", "stride", n_axes, 1),
            self._spatial("pad", "pad", n_axes, 0),
            self._spatial("dilation", "", n_axes, 1),
        )

    def _spatial(self, repeated: str, prefix: str, n_axes: int, default: int | None) -> Shape:
        param = self.param
        values: Shape = param.get(repeated, ())
        pair = param.get(f"{prefix}_h"), param.get(f"{prefix}_w")
        if prefix and pair != (None, None):
            if values or n_axes != 2 or (None in pair and prefix != "pad"):
                raise ShapeError(
                    f"{prefix}_h and {prefix}_w go together, in 2-D, and without {repeated}"
                )
            values = (pair[0] or 0, pair[1] or 0)
        if not values and default is not None:
            values = (default,)
        if len(values) == 1:
            values *= n_axes
        if len(values) != n_axes:
            raise ShapeError(
                f"{repeated} has {len(values)} values for {n_axes} spatial axes; "
                "give one, or one for each"
            )
        least = 1 if repeated in ("kernel_size", "stride") else 0  # dilation 0: all taps see one
        if min(values, default=least) < least:
            raise ShapeError(f"{repeated} is {dims(values)}; {least} is the least it can be")
        return values

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("weight", "bias")[:count]

    def weight_channels(self, channels: int) -> tuple[int, int]:
        """The first two sizes of the weight, for a bottom of so many channels."""
        raise NotImplementedError

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        channel = axis_index(self.axis, bottoms[0])
        kernel = self._spatial("kernel_size", "kernel", len(bottoms[0]) - channel - 1, None)
        shapes = {"weight": (*self.weight_channels(bottoms[0][channel]), *kernel)}
        if self.bias_term:
            shapes["bias"] = (self.num_output,)
        return shapes

    def size(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        """Output size along one axis."""
        raise NotImplementedError

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        channel = axis_index(self.axis, shape)
        if self.num_output < 1:
            raise ShapeError(f"num_output is {self.num_output}; at least 1 is needed")
        if self.group < 1 or shape[channel] % self.group or self.num_output % self.group:
            raise ShapeError(
                f"group {self.group} does not divide {shape[channel]} channels "
                f"and num_output {self.num_output}"
            )
        if any(other != shape for other in bottoms):
            raise ShapeError(f"bottoms differ: {', '.join(map(dims, bottoms))}")
        if len(self.tops) != len(bottoms):
            raise ShapeError(
                f"has {counted(len(bottoms), 'bottom')} and {counted(len(self.tops), 'top')}; "
                "give one for each"
            )
        kernel, stride, pad, dilation = self.windows(len(shape) - channel - 1)
        out = tuple(
            self.size(*axis)
            for axis in zip(shape[channel + 1 :], kernel, stride, pad, dilation, strict=True)
        )
        if min(out, default=1) < 1:
            raise ShapeError(self.empty(shape[channel + 1 :]))
        return [(*shape[:channel], self.num_output, *out)] * len(bottoms)

    def check_limits(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> None:
        channel = axis_index(self.axis, bottoms[0])
        columns = self.column_shape(bottoms[0][channel:], tops[0][channel:])
        if count(columns) > MAX_COUNT:
            raise ShapeError(
                f"the columns of an image would be {dims(columns)}; Caffe's limit is {MAX_COUNT} "
                "values; make the kernel or the maps smaller"
            )

    def column_shape(self, bottom: Shape, top: Shape) -> Shape:
        """What Caffe keeps of one image, (C kernel ..., out ...): base_conv_layer.cpp, Reshape.

        Args:
            bottom: (C, size ...).
            top: likewise.
        """
        return (bottom[0] * count(self.windows(len(bottom) - 1)[0]), *top[1:])

    def empty(self, bottom: Shape) -> str:
        """Why the output would be empty; ``bottom`` are the sizes of its spatial axes."""
        raise NotImplementedError

    def end_pad(self, spatial: Shape) -> Shape:
        """Zeros behind the bottom along each spatial axis: the pad, or as far as windows reach.

        Truncation gives a kernel that is larger than the padded bottom one window; it reaches on.
        """
        windows = self.windows(len(spatial))
        return tuple(
            max(p, (conv_size(size, k, s, p, d) - 1) * s + d * (k - 1) + 1 - size - p)
            for size, k, s, p, d in zip(spatial, *windows, strict=True)
        )

    def padded(self, bottom: Shape) -> Shape:
        channel = axis_index(self.axis, bottom)
        spatial = bottom[channel + 1 :]
        sides = zip(spatial, self.windows(len(spatial))[2], self.end_pad(spatial), strict=True)
        return (*bottom[: channel + 1], *map(sum, sides))

    def columns(self, x: Array) -> Array:
        """What each output position sees. im2col.cpp

        Args:
            x: (N, C, size ...), any number of spatial axes.

        Returns:
            (N, C, kernel ..., out ...)
        """
        import numpy as np

        kernel, stride, pad, dilation = self.windows(x.ndim - 2)
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        around = ((0, 0), (0, 0), *zip(pad, self.end_pad(x.shape[2:]), strict=True))
        padded = np.pad(x, around) if np.any(around) else x
        axes = tuple(range(2, x.ndim))
        seen = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
        starts = (slice(None, None, s) for s in stride)
        taps = (slice(None, None, d or 1) for d in dilation)
        seen = seen[:, :, *starts, *taps]
        if 0 in dilation:
            seen = np.broadcast_to(seen, (*seen.shape[: x.ndim], *kernel))
        return np.moveaxis(seen, axes, tuple(range(-len(axes), 0)))


def conv_size(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Output size along one axis; C++ division truncates towards zero. conv_layer.cpp"""
    span = size + 2 * pad - (dilation * (kernel - 1) + 1)
    return (span // stride if span >= 0 else -(-span // stride)) + 1
