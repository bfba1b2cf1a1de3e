"""BatchNorm: normalise each channel. batch_norm_layer.cpp, NVIDIA's and Intel's forks included"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array

IMPLYING = frozenset({"scale_filler", "bias_filler", "filler", "bias_term"})
"""Fields that a net has only where gamma is within."""


@register
class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + eps); no gamma and beta, those are Scale's.

    Three blobs, statistics all: mean and variance, both multiplied by
    ``scale_factor``, and that factor. A factor of 0 gives mean 0, variance 0.
    Forks add gamma and beta as two blobs more: NVIDIA's where ``scale_bias`` or a filler is
    set; Intel's (github intel/caffe, mkldnn_batch_norm_layer.cpp) unless ``use_weight_bias`` is
    false, and without beta where ``bias_term`` is. Intel's net without any of these fields looks
    like mainline's, and is taken for one; so is none that was stored before 2017, with gamma first.
    """

    message = "batch_norm_param"
    statistics = frozenset({"mean", "variance", "scale_factor"})

    use_global_stats: Field[bool | None] = Field(None)
    moving_average_fraction = Field(0.999)
    eps = Field(1e-5)
    scale_bias = Field(False)
    scale_filler: Field[dict[str, Any]] = Field({})
    bias_filler: Field[dict[str, Any]] = Field({})
    use_weight_bias = Field(True)
    bias_term = Field(True)
    filler: Field[dict[str, Any]] = Field({})

    @property
    def scales(self) -> bool:
        """Whether gamma is within, and beta unless ``bias_term`` is false."""
        if "use_weight_bias" in self.param:
            return self.use_weight_bias
        return self.scale_bias or not IMPLYING.isdisjoint(self.param)

    @property
    def is_global(self) -> bool:
        """Whether its blobs normalise, and not the batch; in a net of phase TEST.

        A layer's own ``phase: TRAIN`` is no rule: the layer is there, and runs as in training.
        """
        if self.use_global_stats is None:
            return self.fields.get("phase") != "TRAIN"
        return self.use_global_stats

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("mean", "variance", "scale_factor", "weight", "bias")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        channels = (bottoms[0][1] if len(bottoms[0]) > 1 else 1,)
        shapes: dict[str, Shape] = {"mean": channels, "variance": channels, "scale_factor": (1,)}
        if self.scales:
            shapes["weight"] = channels
            if self.bias_term:
                shapes["bias"] = channels
        return shapes

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise ShapeError("needs a bottom with a channel axis; a 1-D one aborts Caffe when run")
        params = self.fields.get("param", ())
        # Three are set to rate 0 by upgrade_proto.cpp, UpgradeNetBatchNorm; NVIDIA's sets its own.
        if len(params) < 3 and not self.scales and any(param.get("lr_mult", 1) for param in params):
            raise ShapeError(
                "its statistics are measured, not learned: give three param with lr_mult: 0, "
                "or none"
            )
        return [bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """One (N, C, ...) array; batch statistics where it is not ``is_global``."""
        import numpy as np

        x = bottoms[0]
        per_channel = (-1, *(1 for _ in x.shape[2:]))
        if not self.is_global:
            others = (0, *range(2, x.ndim))
            mean = x.mean(axis=others, keepdims=True)
            variance = np.square(x - mean).mean(axis=others, keepdims=True)
        else:
            mean, variance = (value.reshape(per_channel) for value in statistics(blobs))
        y = x - mean
        y /= np.sqrt(variance + self.eps)
        if self.scales:
            gamma, *beta = (blob.reshape(per_channel) for blob in blobs[3:])
            y = y * gamma + beta[0] if beta else y * gamma
        return [y]


def statistics(blobs: Sequence[Array]) -> tuple[Array, Array]:
    """Mean and variance, each (C,), from the first three blobs."""
    import numpy as np

    mean, variance, factor = blobs[:3]
    if not factor[0]:  # not 0 times them: they may not be finite
        return np.zeros_like(mean), np.zeros_like(variance)
    with np.errstate(all="ignore"):  # a tiny factor gives infinities, in Caffe too
        scale = 1 / factor[0]
        return mean * scale, variance * scale


def affine(blobs: Sequence[Array], eps: float) -> tuple[Array, Array, list[Array]]:
    """What the layer does to each channel: minus the mean, times a factor, plus an offset.

    Each is (C,); the offset is beta, where it is within.
    """
    import numpy as np

    mean, variance = statistics(blobs)
    gamma, *beta = blobs[3:] or (1.0,)
    return mean, gamma / np.sqrt(variance + eps), beta
