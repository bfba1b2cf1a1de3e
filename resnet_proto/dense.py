"""Net + weights -> the same net in its fully convolutional form, which takes larger images.

    Pooling (global), InnerProduct, Softmax
    -> Pooling (a window), Convolution, the mean over its map, Softmax

The form that arXiv 1512.03385, section 3.4, tests at several scales. A larger image has a map of
class scores, one for each place of the window that the net was trained on; their mean is what the
Softmax gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_proto.errors import NetError
from resnet_proto.fit import named, step_blobs
from resnet_proto.fold import Kept, is_affine
from resnet_proto.layers import (
    Flatten,
    InnerProduct,
    Layer,
    Pooling,
    PReLU,
    Reshape,
    Scale,
    axis_index,
    dims,
    make_layer,
)
from resnet_proto.layers.neuron import Neuron

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step


def fully_convolutional(net: Net, weights: Mapping[str, Array]) -> tuple[Net, Mapping[str, Array]]:
    """The net with a Convolution in the place of each InnerProduct: it takes any larger size.

    Its window is the map that the InnerProduct reads at the net's own size, and its weights are the
    same numbers in the same order. A global pooling right before it becomes one of that window. The
    top of the last InnerProduct is the mean over the map, of its old name and shape; the map is
    ``<top>_map``, as are the tops of those before it. So at the net's own size every blob that has
    its name is what it was, up to the order of sums.

    Args:
        net: in a state of phase TEST.
        weights: arrays by ``<layer>.<blob>``.

    Raises:
        NetError: there is no InnerProduct; one reads no map, or shares its weights; what lies
            between two of them looks at more than one place of a map; or another layer does not
            take larger images.
        WeightsError: weights of an InnerProduct are missing, or do not fit.
    """
    net = net.upgraded().filtered()
    weights = named(weights, net)
    steps = list(net.walk())
    with net.named():
        plan = Plan(steps)
        new = replace(net, layers=tuple(plan.layers()))
        check_larger(new)
        changed = {
            f"{step.label}.weight": window_weight(step, weights)
            for i, step in enumerate(steps)
            if i in plan.products
        }
    return new, Kept(changed, weights, set())


class Plan:
    """What becomes of each layer.

    Args:
        steps: of a net, in order.

    Raises:
        NetError: as in ``fully_convolutional``.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.sources: list[tuple[int, ...]] = []
        self.readers: list[list[int]] = [[] for _ in steps]
        writers: dict[str, int] = {}
        for i, step in enumerate(steps):
            self.sources.append(tuple(writers[name] for name in step.layer.bottoms))
            for source in self.sources[i]:
                self.readers[source].append(i)
            writers.update(dict.fromkeys(step.layer.tops, i))
        self.products = {i for i, step in enumerate(steps) if isinstance(step.layer, InnerProduct)}
        if not self.products:
            raise NetError("the net has no InnerProduct, so none can become a Convolution")
        leads = [False] * len(steps)
        for i in reversed(range(len(steps))):
            leads[i] = any(leads[k] or k in self.products for k in self.readers[i])
        self.last = {i for i in self.products if not leads[i]}
        alike = [i in self.products or is_alike(step) for i, step in enumerate(steps)]
        head: set[int] = set()  # what leads to a last one, alike at each place
        for i in reversed(range(len(steps))):
            if i in self.last or (alike[i] and not head.isdisjoint(self.readers[i])):
                head.add(i)
        gates: set[int] = set()  # what comes of global poolings alone: one place of any image
        for i, step in enumerate(steps):
            pools = isinstance(step.layer, Pooling) and step.layer.global_pooling
            if pools or (self.sources[i] and gates.issuperset(self.sources[i])):
                gates.add(i)
        self.products -= gates - head
        self.maps: set[int] = set()
        """The layers whose tops were vectors and become maps."""
        self.windows: dict[int, Shape] = {}
        """The global pooling that gets a window."""
        for i in range(len(steps)):
            if i in self.products:
                self.check_product(i)
            elif maps := self.maps.intersection(self.sources[i]):
                self.check_alike(i, min(maps))
            else:
                continue
            if i not in self.last:
                self.maps.add(i)

    def check_product(self, i: int) -> None:
        """An InnerProduct reads a map, or what another one has made."""
        step, (source,) = self.steps[i], self.sources[i]
        (bottom,), layer = step.bottoms, step.layer
        assert isinstance(layer, InnerProduct)
        if axis_index(layer.axis, bottom) != 1:
            raise NetError(
                f"layer '{step.label}' (InnerProduct) keeps the axes before axis {layer.axis}, so "
                "it is no Convolution; axis 1 would be one"
            )
        if step.shared:
            raise NetError(
                f"layer '{step.label}' (InnerProduct) shares its weights, and could not as a "
                "Convolution; give it its own"
            )
        if len(bottom) == 4:
            self.find_window(source)
        elif source not in self.maps:
            maker = self.steps[source]
            flattens = isinstance(maker.layer, Flatten | Reshape)
            raise NetError(
                f"layer '{step.label}' (InnerProduct) reads {dims(bottom)}, no map, from layer "
                f"'{maker.label}' ({maker.layer.type})"
                f"{'; take that away if it only flattens a map' if flattens else ''}"
            )

    def find_window(self, source: int) -> None:
        """A global pooling in front of an InnerProduct gets the window that it has now."""
        while is_alike(self.steps[source]):
            (source,) = self.sources[source]
        step = self.steps[source]
        if isinstance(step.layer, Pooling) and step.layer.global_pooling:
            self.windows[source] = step.bottoms[0][2:]
            reached = [source]
            for k in reached:
                for reader in self.readers[k]:
                    if reader not in self.products:
                        self.check_alike(reader, k)
                        reached.append(reader)

    def check_alike(self, i: int, source: int) -> None:
        """A layer does the same at each place of a map that has been a vector, or one place."""
        step = self.steps[i]
        if not is_alike(step):
            maker = self.steps[source]
            raise NetError(
                f"layer '{step.label}' ({step.layer.type}) reads what layer '{maker.label}' "
                f"({maker.layer.type}) makes, a map of many places in a larger image, and does not "
                "do the same at each of them"
            )

    def layers(self) -> Iterator[Layer]:
        """Those of the new net."""
        names = {step.layer.name for step in self.steps}
        blobs = {name for step in self.steps for name in step.layer.tops}
        places: dict[str, str] = {}

        def place(blob: str, source: int) -> str:
            if source not in self.maps and source not in self.last:
                return blob
            if blob not in places:
                places[blob] = free(f"{blob}_map", blobs)
            return places[blob]

        for i, (step, sources) in enumerate(zip(self.steps, self.sources, strict=True)):
            layer = step.layer
            bottoms = tuple(
                place(blob, source) if source in self.maps else blob
                for blob, source in zip(layer.bottoms, sources, strict=True)
            )
            layer = replace(layer, bottoms=bottoms, tops=tuple(place(t, i) for t in layer.tops))
            if i in self.products:
                layer = convolution(step, layer)
            elif i in self.windows:
                param = {k: v for k, v in layer.param.items() if k != "global_pooling"}
                message = {**param, **kernel(self.windows[i])}
                layer = replace(layer, fields={**layer.fields, layer.message: message})
            yield layer
            if i in self.last:
                (top,) = step.layer.tops
                mean, vector = free(f"{layer.name}_mean", names), free(f"{layer.name}_flat", names)
                between = free(f"{top}_mean", blobs)
                yield Pooling.of(mean, layer.tops[0], between, pool="AVE", global_pooling=True)
                yield Flatten.of(vector, between, top)


def is_alike(step: Step) -> bool:
    """Whether a layer does the same at each place of a map, (N, C, H, W) or (N, C)."""
    layer = step.layer
    if isinstance(layer, Scale) and layer.axis != 1:
        return False
    return len(step.bottoms) == 1 and (isinstance(layer, Neuron | PReLU) or is_affine(step))


def convolution(step: Step, layer: Layer) -> Layer:
    """The Convolution that an InnerProduct is; ``layer`` has its new bottoms and tops."""
    known = ("num_output", "bias_term", "weight_filler", "bias_filler")
    param = {name: layer.param[name] for name in known if name in layer.param}
    fields = {name: value for name, value in layer.fields.items() if name != layer.message}
    sides: dict[str, Any] = kernel(window(step))
    if "kernel_size" in sides:
        sides["kernel_size"] = (sides["kernel_size"],)  # there it is repeated
    fields["convolution_param"] = {**param, **sides}
    return make_layer(layer.name, "Convolution", layer.bottoms, layer.tops, fields, lenient=True)


def window(step: Step) -> Shape:
    """Rows and columns of the map that an InnerProduct reads; what is no map is one place."""
    return (*step.bottoms[0], 1, 1)[2:4]


def kernel(size: Shape) -> dict[str, int]:
    """The fields of a window, whose sides are spelled as one where they are one."""
    rows, columns = size
    return {"kernel_size": rows} if rows == columns else {"kernel_h": rows, "kernel_w": columns}


def window_weight(step: Step, weights: Mapping[str, Array]) -> Array:
    """The weight of an InnerProduct as a Convolution has it: (num_output, C, h, w)."""
    stored = step_blobs(step, weights, "float32")[0]
    if np.asarray(weights[f"{step.label}.weight"]).dtype == np.float64:
        stored = step_blobs(step, weights, "float64")[0]
    layer = step.layer
    assert isinstance(layer, InnerProduct)
    matrix = np.ascontiguousarray(stored.T) if layer.transpose else stored
    return matrix.reshape(layer.num_output, step.bottoms[0][1], *window(step))


def free(name: str, taken: set[str]) -> str:
    """The name, or with a number if it is taken; it is then."""
    chosen, n = name, 1
    while chosen in taken:
        n += 1
        chosen = f"{name}{n}"
    taken.add(chosen)
    return chosen


def check_larger(net: Net) -> None:
    """Try the net on images of twice the size.

    Raises:
        NetError: a layer does not take them.
    """
    sizes = {
        name: (*shape[:2], 2 * shape[2], 2 * shape[3])
        for name, shape in net.inputs().items()
        if len(shape) == 4
    }
    try:
        list(net.with_input_shapes(sizes).walk())
    except NetError as error:
        raise NetError(f"the net takes no images of twice its size: {error}") from None
