"""DummyData: blobs that a filler fills. dummy_data_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import MAX_COUNT, Field, Shape, register
from resnet_proto.layers.base_data import BaseData

if TYPE_CHECKING:
    from collections.abc import Mapping

SIDES = ("num", "channels", "height", "width")
FILLERS = ("constant", "gaussian", "positive_unitball", "uniform", "xavier", "msra", "bilinear")


@register
class DummyData(BaseData):
    """Shapes are in the fields: one for each top, or one for all; fillers likewise.

    It runs by itself where the filler is ``constant``, as it is by default, with 0.
    """

    message = "dummy_data_param"
    n_tops = (1, MAX_COUNT)

    data_filler: Field[tuple[dict[str, Any], ...]] = Field(())
    num: Field[tuple[int, ...]] = Field(())
    channels: Field[tuple[int, ...]] = Field(())
    height: Field[tuple[int, ...]] = Field(())
    width: Field[tuple[int, ...]] = Field(())
    shape: Field[tuple[dict[str, Any], ...]] = Field(())

    def tops_with(self, given: Mapping[str, Shape]) -> list[Shape]:
        own = zip(self.tops, self.own_shapes(), strict=True)
        return [given.get(name, shape) for name, shape in own]

    def own_shapes(self) -> list[Shape]:
        """What the fields say, for each top.

        Raises:
            ShapeError: a field has another number of values than one, or one for each top.
        """
        for filler in self.each("data_filler", self.data_filler or ({},)):
            if filler.get("type", "constant") not in FILLERS:
                raise ShapeError(f"no filler is called '{filler['type']}'")
        if not any(getattr(self, side) for side in SIDES):
            return [tuple(shape.get("dim", ())) for shape in self.each("shape", self.shape)]
        if self.shape:
            raise ShapeError("has shape and num, channels, height or width; give only shape")
        sides = (self.each(side, getattr(self, side)) for side in SIDES)
        return list(zip(*sides, strict=True))

    def each(self, name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """A value for each top."""
        if len(values) not in (1, len(self.tops)):
            raise ShapeError(
                f"has {len(values)} {name} for {len(self.tops)} top; give one for each, or one"
            )
        return values if len(values) > 1 else values * len(self.tops)

    def fill(self, top: str) -> float | None:
        filler = self.each("data_filler", self.data_filler or ({},))[self.tops.index(top)]
        constant = filler.get("type", "constant") == "constant"
        return float(filler.get("value", 0)) if constant else None
