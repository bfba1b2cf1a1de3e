"""What RNN and LSTM share: steps in time over streams. recurrent_layer.cpp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ShapeError
from resnet_proto.layers.base import Field, Layer, Shape, count, dims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import ClassVar

    from resnet_proto.layers.base import Array


class Recurrent(Layer):
    """x (T, N, ...) and cont (T, N), 0 where a sequence begins -> (T, N, num_output).

    Another bottom, (N, ...), is the same at every step. With ``expose_hidden`` the last bottoms are
    the state before the first step, (1, N, num_output) each, and the last tops the state after the
    last. Otherwise it begins with 0, as in Caffe's first pass; later ones go on where the last
    one ended, and ours do not.
    """

    message = "recurrent_param"
    n_bottoms = (2, 5)
    n_tops = (1, 3)
    state: ClassVar[int]
    """How many blobs pass from step to step."""
    gates: ClassVar[int]
    """How many values each output needs."""

    num_output = Field(0)
    weight_filler: Field[dict[str, Any]] = Field({})
    bias_filler: Field[dict[str, Any]] = Field({})
    debug_info = Field(False)
    expose_hidden = Field(False)

    @property
    def hidden(self) -> int:
        """How many bottoms and tops are the state."""
        return self.state if self.expose_hidden else 0

    @property
    def static(self) -> bool:
        """Whether a bottom is the same at every step."""
        return len(self.bottoms) > 2 + self.hidden

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.num_output < 1:
            raise ShapeError(f"num_output is {self.num_output}; at least 1 is needed")
        wanted = 2 + self.hidden
        if not wanted <= len(bottoms) <= wanted + 1 or len(self.tops) != 1 + self.hidden:
            raise ShapeError(
                f"takes {wanted} or {wanted + 1} bottom and {1 + self.hidden} top, "
                f"has {len(bottoms)} and {len(self.tops)}"
            )
        x, cont, *others = bottoms
        if len(x) < 3 or cont != x[:2]:
            raise ShapeError(f"takes (T, N, ...) and (T, N), has {dims(x)} and {dims(cont)}")
        if self.static and (len(others[0]) < 2 or others[0][0] != x[1]):
            raise ShapeError(f"the third bottom is {dims(others[0])}; it needs ({x[1]}, ...)")
        state = (1, x[1], self.num_output)
        for shape in others[self.static :]:
            if shape != state:
                raise ShapeError(f"a state is {dims(shape)}; it has to be {dims(state)}")
        return [(*x[:2], self.num_output), *[state] * self.hidden]

    def param_blobs(self, count: int) -> tuple[str, ...]:
        names = self.blob_names(6)
        return (names if self.static else names[:2] + names[3:])[:count]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> dict[str, Shape]:
        rows = self.gates * self.num_output
        shapes: list[Shape] = [(rows, count(bottoms[0][2:])), (rows,)]
        if self.static:
            shapes.append((rows, count(bottoms[2][1:])))
        shapes += [(rows, self.num_output), *self.output_shapes()]
        return dict(zip(self.blob_names(len(shapes)), shapes, strict=True))

    def output_shapes(self) -> list[Shape]:
        """Shapes of the blobs behind the state."""
        return []

    def macs(
        self, bottoms: Sequence[Shape], tops: Sequence[Shape], blobs: Mapping[str, Shape]
    ) -> int:
        steps, streams = bottoms[0][:2]
        weights = [count(shape) for shape in blobs.values() if len(shape) == 2]
        static = weights.pop(1) if self.static else 0
        return streams * (steps * sum(weights) + static)

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        """Step by step."""
        import numpy as np

        x, cont, *others = bottoms
        of_x, bias, *rest = blobs
        gates = x.reshape(*x.shape[:2], -1) @ of_x.T + bias
        if self.static:
            gates = gates + others[0].reshape(x.shape[1], -1) @ rest.pop(0).T
        of_h, *output = rest
        zero = np.zeros((x.shape[1], self.num_output), x.dtype)
        state = [h[0] for h in others[self.static :]] or [zero] * self.state
        tops = []
        for gate, kept in zip(gates, cont[:, :, None], strict=True):
            before = np.where(kept == 0, 0, kept * state[0])  # not 0 times an h that is nan
            state = self.step(gate + before @ of_h.T, kept, state)
            tops.append(self.output(state[0], output))
        return [np.stack(tops), *(h[None].copy() for h in state[: self.hidden])]

    def step(self, gate: Array, kept: Array, state: list[Array]) -> list[Array]:
        """The state after a step; (N, num_output) each.

        Args:
            gate: (N, gates * num_output), what weights and bias make of bottoms and state.
            kept: (N, 1), 0 where a sequence begins.
            state: before the step; its first is h, which ``gate`` has seen.
        """
        raise NotImplementedError

    def output(self, h: Array, blobs: Sequence[Array]) -> Array:
        """What a step gives, from its h."""
        return h
