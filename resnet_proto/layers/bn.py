"""BN: BatchNorm with scale and bias inside, of the segmentation forks. bn_layer.cpp

Three forks call a layer so, and each has fields of its own:

* github hszhao/PSPNet, since 2017, and yjxiong/caffe: ``slope_filler``, ``bias_filler``,
  ``momentum``, ``eps``, ``frozen``. Blobs slope, bias, mean, variance.
* PSPNet's first: ``scale_filler``, ``shift_filler``, ``moving_average``, ``decay``,
  ``var_eps``. The same blobs; without ``moving_average`` the statistics are the batch's.
* github alexgkendall/caffe-segnet: ``scale_filler``, ``shift_filler``, ``bn_mode``. Blobs scale,
  shift. LEARN takes the batch's statistics; for INFERENCE they are folded into the blobs.

An older yjxiong/caffe, and PyPI brocolli-caffe after it, store 1 / sqrt(variance + eps) in the
place of the variance, under the names of the first form; nothing in a net tells the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.layers.base import ENGINES, Field, Layer, Shape, register
from resnet_proto.layers.batch_norm import BatchNorm
from resnet_proto.layers.loss import legacy
from resnet_proto.words import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_proto.layers.base import Array

SEGNET_EPS = 1e-9


@register
class BN(Layer):
    """slope * (x - mean) / sqrt(variance + eps) + bias, on (N, C, H, W) or fewer axes."""

    message = "bn_param"
    statistics = frozenset({"mean", "variance"})

    slope_filler: Field[dict[str, Any]] = Field({})
    bias_filler: Field[dict[str, Any]] = Field({})
    momentum = Field(0.9)
    eps = Field(1e-5)
    frozen = Field(False)
    engine = Field(Word("DEFAULT"), values=ENGINES)
    scale_filler: Field[dict[str, Any]] = Field({})
    shift_filler: Field[dict[str, Any]] = Field({})
    moving_average = Field(False)
    decay = Field(0.05)
    var_eps = Field(1e-10)
    bn_mode = Field(Word("LEARN"), values=("LEARN", "INFERENCE"))

    @property
    def fork(self) -> str:
        """Whose layer it is: ``PSPNet``, ``PSPNet's first`` or ``SegNet``."""
        if self.param.keys() & {"moving_average", "decay", "var_eps"}:
            return "PSPNet's first"
        segnet = self.param.keys() & {"bn_mode", "scale_filler", "shift_filler"}
        return "SegNet" if segnet else "PSPNet"

    def as_batch_norm(self) -> BatchNorm:
        """The BatchNorm that computes the same from ``batch_norm_blobs``."""
        stored, eps = {
            "PSPNet": (True, self.eps),
            "PSPNet's first": (self.moving_average, self.var_eps),
            "SegNet": (self.bn_mode == "INFERENCE", SEGNET_EPS),
        }[self.fork]
        if self.fork == "SegNet" and stored:
            eps = 0.0  # the statistics are 0 and 1
        fields = {"use_global_stats": stored, "eps": eps, "scale_bias": True}
        return BatchNorm.of(self.name, self.bottoms, self.tops, **fields)

    def batch_norm_blobs(self, blobs: Sequence[Array]) -> list[Array]:
        """Mean, variance, a scale_factor of 1, slope and bias, each flat."""
        import numpy as np

        slope, bias, *stored = (blob.reshape(-1) for blob in blobs)
        mean, variance = stored or (np.zeros_like(slope), np.ones_like(slope))
        return [mean, variance, np.ones(1, slope.dtype), slope, bias]

    def blob_names(self, count: int) -> tuple[str, ...]:
        return ("weight", "bias", "mean", "variance")[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        names = self.blob_names(2 if self.fork == "SegNet" else 4)
        return dict.fromkeys(names, (1, legacy(bottoms[0])[1], 1, 1))

    def may_work_in_place(self) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        whole = legacy(bottoms[0])
        return [whole if self.fork == "SegNet" else bottoms[0]]

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """The batch's own statistics where the fork takes them at phase TEST too."""
        (shape,) = self.top_shapes([bottoms[0].shape])
        whole = bottoms[0].reshape(legacy(bottoms[0].shape))
        (y,) = self.as_batch_norm().forward([whole], self.batch_norm_blobs(blobs))
        return [y.reshape(shape)]
