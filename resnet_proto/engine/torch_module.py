"""Net + weights -> ``torch.nn.Module``.

One submodule for each layer, under its Caffe name; what it computes is its function in
``torch_layers.py``. Weights are float32, on the CPU until they are moved.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own short name

from resnet_proto.engine import plain, torch_layers
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.plain import Schedule, cut
from resnet_proto.engine.torch_layers import batch_statistics, normalised
from resnet_proto.errors import FormatError, NetError, UnknownLayerError
from resnet_proto.fit import named, step_blobs
from resnet_proto.formats.pt import module_name
from resnet_proto.layers import Shape, dims
from resnet_proto.shared import rates
from resnet_proto.weights import random_weights

if TYPE_CHECKING:
    from resnet_proto.engine.compare import Row
    from resnet_proto.layers import BatchNorm, Layer
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step


def to_torch(
    net: Net, weights: Mapping[str, Array] | None = None, *, outputs: Iterable[str] | None = None
) -> CaffeNet:
    """A net as a PyTorch module, in ``eval()`` mode.

    ``module(x)`` takes the inputs in the net's order, or by blob name, of any size that the
    layers take, and returns the outputs by name. ``state_dict`` has the keys of the weights,
    ``<layer>.<blob>``, with the layer's name as ``formats.pt.module_name`` writes it; so it loads
    what ``torch.load(file, weights_only=True)`` finds in a ``.pt`` that ``save`` wrote.

    In ``train()`` mode layers do what Caffe's do at TRAIN: BatchNorm takes the batch's statistics
    and adds them to its buffers, unless the net says ``use_global_stats: true``; Dropout drops.
    What layers share is one parameter, found at the first of them; what has ``lr_mult: 0`` needs
    no gradient.

    Args:
        net: at phase TEST. What data layers read is an input.
        weights: arrays by ``<layer>.<blob>``; None for random ones.
        outputs: names of blobs; those that nothing reads, by default. Layers that none of them
            needs are left out.

    Raises:
        UnknownLayerError: a layer type without a way to torch.
        WeightsError: weights are missing, or do not fit the net.
        NetError: no blob has that name, or the net is at phase TRAIN.
    """
    if outputs is None:
        outputs = unread(cut(net, None, None)[0])
    schedule = Schedule.of(net, outputs, None)
    if weights is None:
        weights = random_weights(net, wanted=schedule.wanted)
    module = CaffeNet(schedule, named(weights, net))
    module.eval()
    return module


def unread(net: Net) -> tuple[str, ...]:
    """The blobs that no layer reads after they are written."""
    found: dict[str, None] = {}
    for layer in net.layers:
        for name in layer.bottoms:
            found.pop(name, None)
        found |= dict.fromkeys(layer.tops)
    return tuple(found)


def prove(path: str | os.PathLike[str], net: Net, weights: Mapping[str, Array]) -> Row:
    """Run the module that has loaded a ``.pt`` on a random input, against float64.

    Returns:
        The blob that is furthest from our own forward pass.

    Raises:
        FormatError: torch cannot load the file into the module.
        NetError: the net cannot be run; UnknownLayerError, UnknownShapeError likewise.
    """
    inputs = plain.random_inputs(net)
    module = CaffeNet(Schedule.of(net, None, None), named(weights, net)).eval()
    try:
        module.load_state_dict(torch.load(path, weights_only=True, mmap=True))
    except Exception as error:  # its errors have no class in common
        raise FormatError(f"{path}: the net's module cannot load it: {error}") from None
    with torch.inference_mode():
        blobs = module(**{name: torch.tensor(value) for name, value in inputs.items()})
    exact = plain.forward(net, weights, inputs, dtype="float64")
    rows = compare({name: value.detach().numpy() for name, value in blobs.items()}, exact)
    return max(rows, key=lambda row: (not row.within(TOLERANCE), row.distance))


class CaffeLayer(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """One layer: its parameters, its statistics as buffers, and its function.

    Args:
        step: the layer with its shapes.
        weights: those of the net; only those that are not ``shared`` are taken.
        shared: blob -> module and name of the parameter that it is one with.
    """

    def __init__(
        self,
        step: Step,
        weights: Mapping[str, Array],
        shared: Mapping[str, tuple[nn.Module, str]],
    ) -> None:
        super().__init__()
        self._layer = step.layer
        self._shapes = dict(step.blobs)
        self._shared = dict(shared)  # in a dict, so that they are not registered twice
        values = step_blobs(step, weights, "float32")
        for (name, _), value in zip(step.blobs.items(), values, strict=True):
            if name not in shared:
                tensor = torch.tensor(value)
                if name in step.layer.statistics:
                    self.register_buffer(name, tensor)
                else:
                    self.register_parameter(name, nn.Parameter(tensor))
        for name in step.blobs:
            if name in frozen(step.layer):
                home, own = self._shared.get(name, (self, name))
                getattr(home, own).requires_grad_(False)

    def weights(self) -> list[Tensor]:
        """The blobs in Caffe's order."""
        found = []
        for name, shape in self._shapes.items():
            home, own = self._shared.get(name, (self, name))
            found.append(getattr(home, own).reshape(shape))
        return found

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        """The tops."""
        return torch_layers.FUNCTIONS[self._layer.type](self._layer, [*bottoms], self.weights())

    def _get_name(self) -> str:
        return self._layer.type

    def extra_repr(self) -> str:
        """Fields, weights, and what flows."""
        layer = self._layer
        fields = [f"{key}={value}" for key, value in layer.param.items() if "filler" not in key]
        blobs = [f"{name}: {dims(shape)}" for name, shape in self._shapes.items()]
        flow = f"{', '.join(layer.bottoms)} -> {', '.join(layer.tops)}"
        return "; ".join(filter(None, (", ".join(fields), ", ".join(blobs), flow)))


class CaffeBatchNorm(CaffeLayer):
    """BatchNorm, which adds the batch's statistics to its own. batch_norm_layer.cpp, Forward_cpu

    Its three buffers are what Caffe stores: sums, and the factor that they are divided by.
    """

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        """The top; in ``train()`` mode the buffers change."""
        layer: BatchNorm = self._layer  # type: ignore[assignment]
        if not self.training or layer.use_global_stats:
            return super().forward(*bottoms)
        (x,) = bottoms
        mean, variance = batch_statistics(x)
        stored_mean, stored_variance, factor, *affine = self.weights()
        with torch.no_grad():
            kept, n = layer.moving_average_fraction, x.numel() // mean.numel()
            stored_mean.mul_(kept).add_(mean)
            stored_variance.mul_(kept).add_(variance, alpha=n / (n - 1) if n > 1 else 1.0)
            factor.mul_(kept).add_(1.0)
        return [normalised(layer, x, mean, variance, affine)]


class CaffeDropout(CaffeLayer):
    """Dropout, which drops in ``train()``. dropout_layer.cpp"""

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        """The top; in ``train()`` mode values at random."""
        if not self.training:
            return super().forward(*bottoms)
        layer: Any = self._layer
        return [F.dropout(bottoms[0], layer.dropout_ratio)]


MODULES: dict[str, type[CaffeLayer]] = {"BatchNorm": CaffeBatchNorm, "Dropout": CaffeDropout}
"""The types that do something else in ``train()`` mode."""


def frozen(layer: Layer) -> set[str]:
    """The blobs of a layer that are not learned: their rate is 0."""
    params = layer.fields.get("param", ())
    blobs = zip(layer.param_blobs(len(params)), params, strict=False)
    return {blob for blob, param in blobs if rates(layer, param).get("lr_mult") == 0}


class CaffeNet(nn.Module):  # type: ignore[misc]
    """Layers in order. Everything of its own has a name that begins with ``_``: layers' do not.

    Args:
        schedule: what is computed.
        weights: arrays by ``<layer>.<blob>``.
    """

    def __init__(self, schedule: Schedule, weights: Mapping[str, Array]) -> None:
        super().__init__()
        self._inputs: dict[str, Shape] = schedule.inputs
        self._outputs = schedule.wanted
        self._fills: dict[str, float] = {}
        calls = []
        homes: dict[str, tuple[nn.Module, str]] = {}
        for step, freed in zip(schedule.steps, schedule.freed, strict=True):
            layer = step.layer
            if layer.from_outside:
                values = {name: layer.fill(name) for name in layer.tops if layer.any_shape}
                self._fills |= {k: v for k, v in values.items() if v is not None}
                continue
            if layer.type not in torch_layers.FUNCTIONS:
                raise UnknownLayerError(
                    f"layer '{layer.name}' has type '{layer.type}', which engine 'torch' "
                    f"cannot compute; known: {', '.join(sorted(torch_layers.FUNCTIONS))}"
                )
            shared = {blob: homes[k[0]] for blob, k in step.shared.items() if k[0] in homes}
            module = MODULES.get(layer.type, CaffeLayer)(step, weights, shared)
            homes |= {
                keys[0]: (module, blob)
                for blob, keys in step.shared.items()
                if keys[0] not in homes and blob in step.blobs
            }
            name = module_name(step.label)
            self.add_module(name, module)
            calls.append((name, layer.bottoms, layer.tops, freed))
        self._calls = tuple(calls)

    def forward(self, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """The outputs by name.

        Raises:
            NetError: an input is missing, given twice, or not the net's.
        """
        blobs = self._given(inputs, named)
        for name, bottoms, tops, freed in self._calls:
            values = getattr(self, name)(*(blobs[bottom] for bottom in bottoms))
            for top, value in zip(tops, values, strict=True):
                blobs[top] = value
            for blob in freed:
                blobs.pop(blob, None)
        return {name: blobs[name] for name in self._outputs}

    def _given(self, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> dict[str, Tensor]:
        known = ", ".join(f"{name} {dims(shape)}" for name, shape in self._inputs.items()) or "none"
        if len(inputs) > len(self._inputs):
            raise NetError(f"{len(inputs)} inputs were given; the net has {known}")
        blobs = dict(zip(self._inputs, inputs, strict=False))
        for name, value in named.items():
            if name not in self._inputs or name in blobs:
                raise NetError(
                    f"input '{name}' is given twice, or not the net's; the net has {known}"
                )
            blobs[name] = value
        for name, shape in self._inputs.items():
            if name not in blobs:
                if name not in self._fills:
                    raise NetError(f"input '{name}' is missing; the net has {known}")
                blobs[name] = torch.full(shape, self._fills[name])
        return blobs
