"""Net -> the same net for other classes, whose classifier no released weights are copied into."""

from __future__ import annotations

import re
from dataclasses import replace

from resnet_proto.errors import NetError
from resnet_proto.layers import InnerProduct, Layer
from resnet_proto.net import Net
from resnet_proto.training.train_val import classifier_of


def with_classes(net: Net, classes: int | None = None) -> Net:
    """The net with a new classifier: Caffe copies weights by name, and the name is another one.

    A number of classes within the name becomes the new one: fc1000 is fc37. A top of the same
    name is renamed with it, and so are the bottoms that read it.

    Args:
        net: a net whose last layer with weights is an InnerProduct.
        classes: its outputs; by default as many as it has.

    Raises:
        NetError: the last layer with weights is another one, or shares them.
    """
    old = classifier_of(net.layers)
    if not isinstance(old, InnerProduct):
        raise NetError(
            f"layer '{old.name}' ({old.type}) is the last with weights; expected an InnerProduct, "
            "whose outputs are classes"
        )
    if old.name in net.sharing():
        raise NetError(
            f"layer '{old.name}' (InnerProduct) shares its weights with another layer; a "
            "classifier for other classes needs its own: take the names out of its param"
        )
    classes = old.num_output if classes is None else classes
    taken = {name for layer in net.layers for name in (layer.name, *layer.bottoms, *layer.tops)}
    name = re.sub(rf"(?<!\d){old.num_output}(?!\d)", str(classes), old.name)
    while name in taken:
        name += "_finetune"
    blobs = {old.name: name} if old.tops == (old.name,) else {}
    at = net.layers.index(old)
    new = replace(
        old,
        name=name,
        tops=renamed(old.tops, blobs),
        fields={**old.fields, old.message: {**old.param, "num_output": classes}},
    )
    behind = (renamed_in(layer, blobs) for layer in net.layers[at + 1 :])
    return replace(net, layers=(*net.layers[:at], new, *behind))


def renamed_in(layer: Layer, blobs: dict[str, str]) -> Layer:
    """A layer that reads and writes the renamed blobs."""
    return replace(layer, bottoms=renamed(layer.bottoms, blobs), tops=renamed(layer.tops, blobs))


def renamed(names: tuple[str, ...], blobs: dict[str, str]) -> tuple[str, ...]:
    """The names, some of them others."""
    return tuple(blobs.get(name, name) for name in names)
