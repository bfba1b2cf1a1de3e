"""The whole net for inference: stem, units, and the head of its task. Paper, table 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from resnet_proto.build.drawing import Drawing
from resnet_proto.build.heads import HEADS
from resnet_proto.build.stems import draw_stem
from resnet_proto.build.units import draw_unit, units
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import Shape
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS, Preset
from resnet_proto.spec import ResNetSpec


def deploy_net(spec: ResNetSpec) -> Net:
    """The deploy net of a spec: one image in, probabilities out, and boxes where the task has some.

    Raises:
        ResNetProtoError: no spec, or its patterns give two layers one name.
    """
    check_spec(spec)
    return drawn(spec)


def check_spec(spec: object) -> None:
    """Refuse what is no spec.

    Raises:
        ResNetProtoError: it is a preset, the name of one, or something else.
    """
    if isinstance(spec, Preset):
        raise ResNetProtoError("spec is a preset; its spec is meant: PRESETS['...'].spec")
    if isinstance(spec, str) and spec in PRESETS:
        raise ResNetProtoError(f"spec is the name of a preset; give PRESETS['{spec}'].spec")
    if not isinstance(spec, ResNetSpec):
        raise ResNetProtoError(
            f"spec is {spec!r:.80}; expected a ResNetSpec, as PRESETS['...'].spec is"
        )


@lru_cache(maxsize=8)
def drawn(spec: ResNetSpec) -> Net:
    """``deploy_net`` of what is a spec; the last few are kept."""
    d = Drawing(spec)
    head = HEADS[spec.task]
    blob = draw_stem(d, "data")
    for i, unit in enumerate(units(spec)):
        if i == sum(spec.stages[:-1]):
            blob = head.neck(d, blob)
        blob = draw_unit(d, unit, blob)
    head.draw(d, blob)
    size = spec.input_size
    inputs = {"data": (1, spec.input_channels, size, size), **head.inputs}
    name, n = Counter([*inputs, *(layer.name for layer in d.layers)]).most_common(1)[0]
    if n > 1:
        raise ResNetProtoError(
            f"names: the patterns give {n} layers the name '{name}'; use {{unit}}, {{part}} ..."
            if name not in inputs
            else f"names: a pattern gives a layer the name '{name}', which the input has"
        )
    return Net(spec.title, tuple(d.layers), header(inputs))


def header(inputs: Mapping[str, Shape]) -> dict[str, Any]:
    """The inputs as the fields of a net; one of images as the released nets have it."""
    shapes = tuple(inputs.values())
    if len(inputs) == 1:
        return {"input": tuple(inputs), "input_dim": shapes[0]}
    return {"input": tuple(inputs), "input_shape": tuple({"dim": shape} for shape in shapes)}
