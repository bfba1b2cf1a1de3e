"""The whole net for inference: stem, units, head. Paper, table 1."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from resnet_proto.build.drawing import Drawing
from resnet_proto.build.units import draw_unit, units
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import InnerProduct, Pooling, Softmax
from resnet_proto.net import Net
from resnet_proto.spec import ResNetSpec
from resnet_proto.words import Word


@lru_cache(maxsize=8)
def deploy_net(spec: ResNetSpec) -> Net:
    """The deploy net of a spec: one image in, probabilities out.

    Raises:
        ResNetProtoError: the spec's patterns give two layers one name.
    """
    d = Drawing(spec)
    blob = draw_stem(d, "data")
    for unit in units(spec):
        blob = draw_unit(d, unit, blob)
    draw_head(d, blob)
    name, n = Counter(layer.name for layer in d.layers).most_common(1)[0]
    if n > 1:
        raise ResNetProtoError(
            f"names: the patterns give {n} layers the name '{name}'; use {{unit}}, {{part}} ..."
        )
    size = spec.input_size
    header = {"input": ("data",), "input_dim": (1, spec.input_channels, size, size)}
    return Net(spec.title, tuple(d.layers), header)


# ---- stems


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

    7x7: table 1. 3x3: section 4.2. Deep: arXiv 1812.01187, figure 2(b).
    """
    width = spec.stem_width
    if spec.stem == "deep":
        half = max(1, width // 2)
        return [("1a", half, 3, 2), ("1b", half, 3, 1), ("1c", width, 3, 1)]
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


# ---- head


def draw_head(d: Drawing, blob: str) -> None:
    """Average the last map, classify, softmax."""
    spec, of = d.spec, d.names.of
    if spec.order == "pre-activation":
        last = d.last()
        blob = d.relu(last.relu, d.batch_norm(last, blob))
    if spec.unit != "fully-connected":
        pool = of("pool", stage=len(spec.stages) + 1)
        whole = {"global_pooling": True} if spec.head == "global" else {
            "kernel_size": map_size(spec), "stride": 1,
        }  # fmt: skip
        blob = d.put(Pooling.of(pool, blob, pool, pool="AVE", **whole))
    classifier = of("classifier", classes=spec.classes)
    d.put(InnerProduct.of(classifier, blob, classifier, num_output=spec.classes))
    d.put(Softmax.of(d.names.probabilities, classifier, d.names.probabilities))


def map_size(spec: ResNetSpec) -> int:
    """Rows and columns of the last map: every stride 2 halves them."""
    size = spec.input_size
    for _, _, _, stride in stem_steps(spec):
        size = -(-size // stride)
    if spec.pool != "none":
        size = size // 2 if spec.pool == "ceil" else -(-size // 2)
    for unit in units(spec):
        size = -(-size // unit.stride)
    return max(size, 1)
