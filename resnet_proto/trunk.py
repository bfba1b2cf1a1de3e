"""A net of any task -> what it is for, and the net that classifies with the same stem and units.

    layers before the head -> mean, matrix, softmax

The head is told by its types; whether it is the one that a spec draws, the spec's net proves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from resnet_proto.errors import NetError
from resnet_proto.layers import Layer, make_layer
from resnet_proto.net import Net, needed

CLASSIFICATION = "classification"
SEGMENTATION = ["Convolution", "Deconvolution", "Crop", "Softmax"]


class Trunk(NamedTuple):
    """A net that classifies, and what of another task's spec it cannot tell."""

    net: Net
    fields: Mapping[str, Any]


def trunk_of(net: Net) -> Trunk:
    """The same net as a classifier; a net that is for nothing else comes back as it is.

    Raises:
        NetError: a head of these types is put together in another way.
    """
    layers = net.upgraded().layers
    types = [layer.type for layer in layers]
    try:
        if "PSROIPooling" in types:
            return r_fcn(net, layers)
        if "ROIPooling" in types:
            return faster_r_cnn(net, layers)
        if types[-4:] == SEGMENTATION:
            return segmentation(net, layers)
        boxes = [layer for layer in ends(layers) if layer.type == "InnerProduct"]
        if len(boxes) == 1 and len(ends(layers)) == 2 and per_class(layers, boxes[0]):
            return localization(net, layers, boxes[0])
    except (StopIteration, IndexError):
        raise NetError("the net ends like a detector, but is put together otherwise") from None
    return Trunk(net, {"task": CLASSIFICATION})


def segmentation(net: Net, layers: Sequence[Layer]) -> Trunk:
    """Scores at each place: what they read is the last map."""
    score = layers[-4]
    fields = {"task": "segmentation", "head": "fixed"}
    return Trunk(classifier(net, layers[:-4], score.bottoms[0], outputs(score)), fields)


def localization(net: Net, layers: Sequence[Layer], boxes: Layer) -> Trunk:
    """A matrix for the boxes, beside the classifier."""
    kept = tuple(layer for layer in layers if layer is not boxes)
    return Trunk(replace(net, layers=kept, fields=rest(net)), {"task": "localization"})


def per_class(layers: Sequence[Layer], boxes: Layer) -> bool:
    """Whether a matrix gives the four numbers of a box for each class."""
    scores = [x for x in layers if x.type == "InnerProduct" and x is not boxes]
    return bool(scores) and outputs(boxes) == 4 * outputs(scores[-1])


def faster_r_cnn(net: Net, layers: Sequence[Layer]) -> Trunk:
    """The last stage sees regions; as a classifier it sees the whole map."""
    softmax = next(layer for layer in reversed(layers) if layer.type == "Softmax")
    score = maker(layers, softmax.bottoms[0])
    pool = maker(layers, score.bottoms[0])
    regions = next(layer for layer in layers if layer.type == "ROIPooling")
    names = {regions.tops[0]: regions.bottoms[0]}
    whole = [
        replace(layer, bottoms=tuple(names.get(name, name) for name in layer.bottoms))
        for layer in layers[: layers.index(pool)]
        if layer is not regions
    ]
    end = names.get(pool.bottoms[0], pool.bottoms[0])
    head = "global" if pool.param.get("global_pooling") else "fixed"
    fields = {"task": "faster-r-cnn", "head": head}
    return Trunk(classifier(net, whole, end, outputs(score)), fields)


def r_fcn(net: Net, layers: Sequence[Layer]) -> Trunk:
    """Maps for the bins of a region, from a convolution that reads the last map."""
    vote = next(layer for layer in layers if layer.type == "PSROIPooling")
    new = maker(layers, maker(layers, vote.bottoms[0]).bottoms[0])
    before = layers[: layers.index(new)]
    classes = vote.param.get("output_dim", 0)
    fields = {"task": "r-fcn", "head": "fixed"}
    return Trunk(classifier(net, before, new.bottoms[0], classes), fields)


def classifier(net: Net, layers: Sequence[Layer], end: str, classes: int) -> Net:
    """What a blob needs, and the end of a classifier.

    Args:
        net: whose layers these are.
        layers: those that may be needed, and perhaps others.
        end: the last map.
        classes: how many the net tells apart.
    """
    images = next(iter(net.inputs()))
    before = [only(layer, images) if layer.type == "Input" else layer for layer in layers]
    kept = [x for x, wanted in zip(before, needed(before, [end]), strict=True) if wanted]
    mean = {"pooling_param": {"pool": "AVE", "global_pooling": True}}
    matrix = {"inner_product_param": {"num_output": classes}}
    behind = (
        make_layer("mean", "Pooling", (end,), ("mean",), mean),
        make_layer("scores", "InnerProduct", ("mean",), ("scores",), matrix),
        make_layer("prob", "Softmax", ("scores",), ("prob",)),
    )
    return replace(net, layers=(*kept, *behind), fields=rest(net))


def only(layer: Layer, images: str) -> Layer:
    """An Input layer with the images, and no other top."""
    if images not in layer.tops:
        return layer
    shapes = layer.param.get("shape", ())
    at = layer.tops.index(images) if len(shapes) > 1 else 0
    param = {"input_param": {"shape": tuple(shapes[at : at + 1])}}
    return replace(layer, tops=(images,), fields=param)


def outputs(layer: Layer) -> int:
    """How many classes a layer scores."""
    return int(layer.param.get("num_output", 0))


def rest(net: Net) -> dict[str, Any]:
    """What a net holds besides layers and inputs."""
    return {key: value for key, value in net.fields.items() if not key.startswith("input")}


def maker(layers: Sequence[Layer], blob: str) -> Layer:
    """The layer that makes a blob, in place or not read by it."""
    return next(x for x in layers if blob in x.tops and blob not in x.bottoms)


def ends(layers: Sequence[Layer]) -> list[Layer]:
    """The layers whose tops nobody reads."""
    read = {name for layer in layers for name in layer.bottoms}
    return [layer for layer in layers if read.isdisjoint(layer.tops)]
