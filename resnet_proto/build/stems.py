"""Stems: what goes before the first unit. Paper, table 1 and section 4.2."""

from __future__ import annotations

from resnet_proto.build.drawing import Drawing
from resnet_proto.layers import Pooling
from resnet_proto.spec import ResNetSpec
from resnet_proto.words import Word


def draw_stem(d: Drawing, bottom: str) -> str:
    """What goes before the first unit."""
    spec = d.spec
    bias = spec.conv1_bias or spec.conv_bias
    if spec.stem == "none":
        return bottom
    blob = bottom
    for part, channels, kernel, stride in stem_steps(spec):
        place = d.stem(part)
        blob = d.convolution(place.convolution, blob, channels, kernel, stride, bias=bias)
        # A CIFAR net of pre-activation units begins with a bare convolution.
        if spec.stem != "3x3" or spec.order == "original":
            blob = d.relu(place.relu, d.batch_norm(place, blob))
    return draw_stem_pool(d, blob)


def stem_steps(spec: ResNetSpec) -> list[tuple[str, int, int, int]]:
    """Part, channels, kernel and stride of each convolution of the stem.

    7x7: table 1. 3x3: section 4.2. Deep: arXiv 1812.01187, figure 2(b). Tiered: timm's 24, 32, 64.
    """
    width = spec.stem_width
    if spec.stem in ("deep", "tiered"):
        half = max(1, width // 2)
        first = max(1, half // 4 * 3) if spec.stem == "tiered" else half
        return [("1a", first, 3, 2), ("1b", half, 3, 1), ("1c", width, 3, 1)]
    return [("1", width, 7, 2) if spec.stem == "7x7" else ("1", width, 3, 1)]


def draw_stem_pool(d: Drawing, blob: str) -> str:
    """3x3 maxima of stride 2. Without padding Caffe rounds up: 112 becomes 56 either way."""
    if d.spec.pool == "none":
        return blob
    name = d.names.stem_pool
    values = {"pool": "MAX", "kernel_size": 3, "stride": 2}
    if d.spec.pool == "padded":
        values |= {"pad": 1, "round_mode": Word("FLOOR")}
    return d.put(Pooling.of(name, blob, name, **values))


def stem_stride(spec: ResNetSpec) -> int:
    """Pixels of the image from one column of the stem's map to the next, before the pooling."""
    stride = 1
    for _, _, _, step in stem_steps(spec):
        stride *= step
    return stride
