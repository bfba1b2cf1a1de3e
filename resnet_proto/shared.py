"""Weights that layers share by ``param { name }``: which blobs are one. net.cpp, AppendParam

The first blob of a name is the owner; every other blob of that name, of any layer, is the same
memory. Which those are, the net's text says; whether they fit is seen where shapes are known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import Layer, Shape, count, dims

Keys = tuple[str, ...]
"""``<layer>.<blob>`` of blobs that are one, the owner's first."""


def named_params(layer: Layer) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """Blob, name and fields of each ``param`` that has a name."""
    params = layer.fields.get("param", ())
    for blob, param in zip(layer.param_blobs(len(params)), params, strict=False):
        if name := param.get("name"):
            yield blob, name, param


def sharing(layers: Sequence[Layer], labels: Iterable[str]) -> dict[str, dict[str, Keys]]:
    """Label -> blob -> the keys of the blobs that are one with it; what is alone has none."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for layer, label in zip(layers, labels, strict=True):
        for blob, name, _ in named_params(layer):
            groups[name].append((label, blob))
    found: dict[str, dict[str, Keys]] = {}
    for group in groups.values():
        if len(group) > 1:
            keys = tuple(f"{label}.{blob}" for label, blob in group)
            for label, blob in group:
                found.setdefault(label, {})[blob] = keys
    return found


def check_rates(layers: Iterable[Layer]) -> None:
    """Blobs that are one are learned at one rate, where several say it.

    Raises:
        NetError: they differ.
    """
    known: dict[tuple[str, str], tuple[float, str]] = {}
    for layer in layers:
        for blob, name, param in named_params(layer):
            for field, value in rates(layer, param).items():
                before, owner = known.setdefault((name, field), (value, layer.name))
                if before != value:
                    raise NetError(
                        f"layer '{layer.name}' ({layer.type}): {field} of its {blob} is {value:g}, "
                        f"and layer '{owner}' has {before:g} for the same '{name}'; "
                        "what is shared has one rate: give it once, or the same"
                    )


def rates(layer: Layer, param: Mapping[str, Any]) -> dict[str, float]:
    """The rates that a ``param`` sets. Three of a BatchNorm become 0: UpgradeNetBatchNorm."""
    fields = ("lr_mult", "decay_mult")
    if layer.type == "BatchNorm" and len(layer.fields["param"]) == 3:
        return dict.fromkeys(fields, 0.0)
    return {field: param[field] for field in fields if field in param}


def check_shared(
    layer: Layer,
    label: str,
    blobs: Mapping[str, Shape],
    shared: Mapping[str, Keys],
    owned: dict[str, Shape],
) -> None:
    """A layer's blobs have the shape of those that own them; with PERMISSIVE, as many values.

    Args:
        layer: with its label.
        label: likewise.
        blobs: of the layer.
        shared: those of its blobs that are in ``sharing``.
        owned: shapes of blobs that others share, by key; those of the layer are added.

    Raises:
        ShapeError: another shape.
    """
    for blob, name, param in named_params(layer):
        if blob not in shared or blob not in blobs:
            continue
        owner, shape = shared[blob][0], blobs[blob]
        if owner == f"{label}.{blob}":
            owned[owner] = shape
        expected = owned.get(owner, shape)
        permissive = param.get("share_mode") == "PERMISSIVE"
        if shape != expected and not (permissive and count(shape) == count(expected)):
            wanted = f"{dims(expected)}" + (" or as many values" if permissive else "")
            raise ShapeError(
                f"{blob} is {dims(shape)}; it shares '{name}' with '{owner}', so {wanted} is "
                "needed; give each a name of its own, or the same sizes"
            )
