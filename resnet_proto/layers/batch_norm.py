"""BatchNorm: normalise each channel. batch_norm_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array


@register
class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + eps); no gamma and beta, those are Scale's.

    Three blobs, statistics all: mean and variance, both multiplied by
    ``scale_factor``, and that factor. A factor of 0 gives mean 0, variance 0.
    """

    message = "batch_norm_param"
    learned = False

    use_global_stats: Field[bool | None] = Field(None)
    moving_average_fraction = Field(0.999)
    eps = Field(1e-5)

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("mean", "variance", "scale_factor")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        return {"mean": (channels,), "variance": (channels,), "scale_factor": (1,)}

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise ShapeError("needs a bottom with a channel axis; a 1-D one aborts Caffe when run")
        params = self.fields.get("param", ())
        # Three are set to rate 0 by upgrade_proto.cpp, UpgradeNetBatchNorm.
        if len(params) < 3 and any(param.get("lr_mult", 1) for param in params):
            raise ShapeError(
                "its statistics are measured, not learned: give three param with lr_mult: 0, "
                "or none"
            )
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """One (N, C, ...) array; batch statistics where ``use_global_stats`` is set to false."""
        import numpy as np

        x = bottoms[0]
        others = (0, *range(2, x.ndim))
        if self.use_global_stats is False:
            mean = x.mean(axis=others, keepdims=True)
            variance = np.square(x - mean).mean(axis=others, keepdims=True)
        else:
            per_channel = (-1, *(1 for _ in x.shape[2:]))
            mean, variance = (value.reshape(per_channel) for value in statistics(blobs))
        y = x - mean
        y /= np.sqrt(variance + self.eps)
        return [y]


def statistics(blobs: Sequence[Array]) -> tuple[Array, Array]:
    """Mean and variance, each (C,), from the three blobs."""
    import numpy as np

    mean, variance, factor = blobs
    with np.errstate(all="ignore"):  # a tiny factor gives infinities, in Caffe too
        scale = 1 / factor[0] if factor[0] else 0
        return mean * scale, variance * scale
