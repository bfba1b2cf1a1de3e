"""The whole net for inference: stem, stages, head. Paper, table 1."""

from __future__ import annotations

from functools import lru_cache

from resnet_proto.build.parts import batch_norm, convolution, relu
from resnet_proto.build.units import UNITS, projection, residual_sum
from resnet_proto.layers import InnerProduct, Layer, Pooling, Softmax
from resnet_proto.net import Net
from resnet_proto.spec import EXPANSION, ResNetSpec

INPUT_SIZE = 224


@lru_cache(maxsize=8)
def deploy_net(spec: ResNetSpec) -> Net:
    """The deploy net of a spec: one image of 224x224 in, probabilities out."""
    layers = [*stem(spec), *stages(spec), *head(spec)]
    header = {"input": ("data",), "input_dim": (1, 3, INPUT_SIZE, INPUT_SIZE)}
    return Net(spec.name, tuple(layers), header)


def stem(spec: ResNetSpec) -> list[Layer]:
    """7x7 convolution and pooling, each of stride 2.

    The pooling has no padding: Caffe rounds up, so 112 becomes 56.
    """
    return [
        convolution("conv1", "data", spec.stem_width, 7, 2, bias=spec.conv1_bias),
        *batch_norm("conv1"),
        relu("conv1"),
        Pooling.of("pool1", "conv1", "pool1", pool="MAX", kernel_size=3, stride=2),
    ]


def stages(spec: ResNetSpec) -> list[Layer]:
    """The residual units; the first one of each stage but the first has stride 2."""
    layers: list[Layer] = []
    bottom, channels = "pool1", spec.stem_width
    for i, units in enumerate(spec.stages):
        width = spec.width * 2**i
        for index in range(units):
            blob = f"res{spec.unit_name(i + 2, index)}"
            stride = 2 if index == 0 and i > 0 else 1
            out = width * EXPANSION[spec.unit]
            shortcut = bottom
            if stride > 1 or channels != out or (spec.project_first_stage and (i, index) == (0, 0)):
                layers += projection(blob, bottom, out, stride)
                shortcut = f"{blob}_branch1"
            layers += UNITS[spec.unit](blob, bottom, width, stride)
            layers += residual_sum(blob, shortcut, next(reversed(layers)).tops[0])
            bottom, channels = blob, out
    return layers


def head(spec: ResNetSpec) -> list[Layer]:
    """Average the last map, classify, softmax."""
    last = f"res{spec.unit_name(len(spec.stages) + 1, spec.stages[-1] - 1)}"
    pool, classifier = f"pool{len(spec.stages) + 1}", f"fc{spec.classes}"
    size = -(-INPUT_SIZE // 2 ** (len(spec.stages) + 1))
    return [
        Pooling.of(pool, last, pool, pool="AVE", kernel_size=size, stride=1),
        InnerProduct.of(classifier, pool, classifier, num_output=spec.classes),
        Softmax.of("prob", classifier, "prob"),
    ]
