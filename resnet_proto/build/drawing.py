"""The layers of a net as they are drawn, one after the other, in the words of its spec.

What all units share lies here: how layers are named, whether they work in place, and how a
dialect spells BatchNorm. What is drawn, and in which order, is known elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Eltwise,
    Layer,
    ReLU,
    Scale,
)
from resnet_proto.spec import ResNetSpec


class Place(NamedTuple):
    """The names of a convolution and of what follows it."""

    convolution: str
    batch_norm: str
    scale: str
    relu: str


class Drawing:
    """Layers, and how this spec spells them. Each method draws, and returns the top's name."""

    def __init__(self, spec: ResNetSpec) -> None:
        self.spec = spec
        self.names = spec.names
        self.layers: list[Layer] = []

    def put(self, layer: Layer) -> str:
        """Draw a layer."""
        self.layers.append(layer)
        return layer.tops[0]

    def stem(self, part: str) -> Place:
        """The names of a convolution of the stem."""
        of = self.names.of
        return Place(
            of("stem_convolution", part=part),
            of("stem_batch_norm", part=part),
            of("stem_scale", part=part),
            of("stem_relu", part=part),
        )

    def place(self, unit: str, number: int) -> Place:
        """The names of a convolution on the main path of a unit; 1 is the first."""
        part = "abc"[number - 1]
        return self._within(unit, self.names.of("place", unit=unit, part=part, number=number))

    def projection(self, unit: str) -> Place:
        """The names of the projection of a unit."""
        return self._within(unit, self.names.of("projection", unit=unit))

    def _within(self, unit: str, place: str) -> Place:
        names = (
            self.names.of(pattern, place=place, unit=unit)
            for pattern in ("convolution", "batch_norm", "scale", "relu")
        )
        return Place(*names)

    def last(self) -> Place:
        """The names of what ends a pre-activation net."""
        bn, scale, relu = (self.names.of("last", role=role) for role in ("bn", "scale", "relu"))
        return Place("", bn, scale, relu)

    def other(self, unit: str, role: str) -> str:
        """The name of a layer of a unit that is no convolution of its path."""
        return self.names.of("other", unit=unit, role=role)

    def convolution(
        self,
        name: str,
        bottom: str,
        num_output: int,
        kernel: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        group: int = 1,
        bias: bool | None = None,
        top: str = "",
        **more: Any,
    ) -> str:
        """A convolution padded so that stride 1 keeps the size; ``top`` is ``name`` by default."""
        if dilation > 1 and kernel > 1:
            more["dilation"] = dilation
        if group > 1:
            more["group"] = group
        return self.put(
            Convolution.of(
                name,
                bottom,
                top or name,
                num_output=num_output,
                bias_term=self.spec.conv_bias if bias is None else bias,
                pad=kernel // 2 * dilation,
                kernel_size=kernel,
                stride=stride,
                **more,
            )
        )

    def batch_norm(self, place: Place, blob: str, *, in_place: bool = True) -> str:
        """Normalise a blob, then multiply and add: Caffe's two layers for one, NVIDIA's one."""
        values: dict[str, Any] = {"use_global_stats": True}
        for field in ("eps", "moving_average_fraction"):
            value = getattr(self.spec, field)
            if value != getattr(BatchNorm, field).default:
                values[field] = value
        if self.spec.dialect == "nvidia":
            values["scale_bias"] = True
        in_place = in_place and self.spec.in_place
        top = blob if in_place else place.batch_norm
        top = self.put(BatchNorm.of(place.batch_norm, blob, top, **values))
        if self.spec.dialect == "nvidia":
            return top
        scaled = top if self.spec.in_place else place.scale
        return self.put(Scale.of(place.scale, top, scaled, bias_term=True))

    def relu(self, name: str, blob: str) -> str:
        """The ReLU of a blob."""
        return self.put(ReLU.of(name, blob, blob if self.spec.in_place else name))

    def eltwise(self, name: str, bottoms: tuple[str, ...], operation: str = "SUM") -> str:
        """Blobs joined value by value."""
        return self.put(Eltwise.of(name, bottoms, name, operation=operation))
