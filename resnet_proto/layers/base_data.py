"""What the layers share that read data from files or memory. base_data_layer.cpp

What they would read comes from the caller instead, by blob name, and so may their shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError, UnknownShapeError
from resnet_proto.layers.base import Layer, Shape, dims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class BaseData(Layer):
    """The first top is the data, a second one its labels, (batch_size,)."""

    n_bottoms = (0, 0)
    n_tops = (2, 2)
    from_outside = True
    any_shape = True

    @property
    def transform(self) -> Mapping[str, Any]:
        """The fields that were set in ``transform_param``."""
        value: Mapping[str, Any] = self.fields.get("transform_param", {})
        return value

    def data_shape(self) -> Shape:
        """Shape of the first top, without handing it in."""
        raise NotImplementedError

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return self.tops_with({})

    def tops_with(self, given: Mapping[str, Shape]) -> list[Shape]:
        name, *others = self.tops
        data = given[name] if name in given else self.data_shape()
        return [data, *(given.get(name, data[:1]) for name in others)]

    def cropped(self, batch_size: int, channels: int, image: Shape = ()) -> Shape:
        """(batch_size, channels, rows, columns): the crop, or the image where its size is known.

        Raises:
            UnknownShapeError: neither says how large.
        """
        if batch_size < 1:
            raise ShapeError(f"batch_size is {batch_size}; at least 1 is needed")
        crop = self.transform.get("crop_size", 0)
        if image and crop > min(image):
            raise ShapeError(f"crop_size {crop} is larger than the image, {dims(image)}")
        if not crop and not image:
            raise self.unknown(self.tops[0], "set crop_size in transform_param, or ")
        return (batch_size, channels, *(image if not crop else (crop, crop)))

    def unknown(self, top: str, advice: str = "") -> UnknownShapeError:
        """Why the shape of a top is not known, and what to do."""
        return UnknownShapeError(
            f"the shape of '{top}' is in its data only; {advice}hand it in, as in "
            f"--input-shape {top}=8,1,28,28 or walk(shapes={{'{top}': (8, 1, 28, 28)}})"
        )
