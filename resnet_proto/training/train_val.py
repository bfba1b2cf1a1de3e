"""Deploy net <-> train_val net.

    inputs -> data layers; fillers and rates where there are none; softmax -> loss and accuracy

A train_val net is the deploy net but for data, loss, fillers, rates and ``use_global_stats``, so
what works for a generated net works for one found in the wild.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from resnet_proto.errors import NetError, UnknownLayerError, UnknownShapeError
from resnet_proto.layers import BatchNorm, Layer, Shape, count, dims, make_layer
from resnet_proto.net import Net, check_structure, nearest
from resnet_proto.recipe import Training
from resnet_proto.shared import check_rates
from resnet_proto.words import Word

WEIGHTED = (
    "Convolution",
    "ConvolutionDepthwise",
    "Deconvolution",
    "DepthwiseConvolution",
    "InnerProduct",
)
CHANGED = frozenset({*WEIGHTED, "BatchNorm", "Scale", "Bias", "PReLU"})
"""Types whose layers training changes."""
DATA_TYPES = {
    "lmdb": "Data",
    "leveldb": "Data",
    "image-list": "ImageData",
    "hdf5": "HDF5Data",
    "memory": "MemoryData",
    "dummy": "DummyData",
}
DATA = frozenset({*DATA_TYPES.values(), "WindowData"})
LOSSES = {
    "SoftmaxWithLoss": "Softmax",
    "SigmoidCrossEntropyLoss": "Sigmoid",
}
"""What a loss layer computes inside, and a deploy net computes instead."""
FROZEN = {"lr_mult": 0.0, "decay_mult": 0.0}
LABEL = "label"

Finish = Callable[[Net, list[Layer], Training], Sequence[Layer]]
"""Deploy net, its layers made ready to learn, training -> those layers with data and losses."""


def classification(net: Net, layers: list[Layer], training: Training) -> Sequence[Layer]:
    """Images and labels, and how good the scores are."""
    name, shape = only_input(net)
    body, scores = without_softmax(layers)
    return (*data_layers(name, shape, training), *body, *judged(scores, n_outputs(body)))


def to_train_val(net: Net, training: Training, finish: Finish = classification) -> Net:
    """The net that ``caffe train`` takes, with data for both phases, loss and accuracy.

    Args:
        net: a deploy net with one input of images, or what its task takes.
        training: where the data is, what weights begin as, what decays and what is frozen.
        finish: what the task needs, one of ``FINISH`` in ``tasks.py``.

    Raises:
        NetError: the net has several inputs, no classifier, or no blob to freeze up to; or
            layers that share weights would have two rates.
    """
    if is_train_val(net) or not net.inputs():
        only_input(net)
    body = [layer for layer in net.upgraded().layers if layer.type != "Input"]
    heads = heads_of(body)
    frozen = up_to(body, training.freeze) if training.freeze else 0
    layers = []
    for i, layer in enumerate(body):
        rate = training.classifier_rate if training.finetune and layer in heads else 1.0
        layers.append(trained(layer, training, 0.0 if i < frozen else rate))
    fields = {k: v for k, v in net.fields.items() if not k.startswith("input")}
    result = tuple(finish(net, layers, training))
    check_added(layers, result)
    check_rates(result)
    return Net(net.name, result, fields)


def check_added(own: Sequence[Layer], result: Sequence[Layer]) -> None:
    """What training adds has names of its own.

    Args:
        own: the layers of the deploy net.
        result: those of them that are left, and what was added.

    Raises:
        NetError: a layer of the net has the name of one that was added, or of a blob of it.
    """
    kept = {id(layer) for layer in own}
    added = [layer for layer in result if id(layer) not in kept]
    names = {name for layer in added for name in (layer.name, *layer.tops)}
    for layer in result:
        taken = names.intersection((layer.name, *layer.tops))
        if taken and id(layer) in kept:
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) has the name '{min(taken)}', which training "
                "needs for data, loss or accuracy; give it another one"
            )


def is_train_val(net: Net) -> bool:
    """Whether a net has layers of data or loss."""
    return any(layer.type in DATA or layer.type in LOSSES for layer in net.layers)


def only_input(net: Net) -> tuple[str, Shape]:
    """Name and shape of the net's images.

    Raises:
        NetError: there is none, or several, or the net is a train_val.
    """
    if is_train_val(net):
        raise NetError(
            "the net has data or loss layers already; give a deploy net "
            "(`resnet-proto deploy` makes one of a train_val)"
        )
    inputs = net.inputs()
    if len(inputs) != 1:
        raise NetError(
            f"the net has the inputs {', '.join(inputs) or 'none'}; one of images is needed "
            "to train it"
        )
    return next(iter(inputs.items()))


def without_softmax(layers: Sequence[Layer]) -> tuple[list[Layer], str]:
    """The layers before the softmax at the end, and the blob of the scores.

    Raises:
        NetError: the net ends in several blobs.
    """
    read = {name for layer in layers for name in layer.bottoms if name not in layer.tops}
    ends = [layer for layer in layers if layer.tops and not any(top in read for top in layer.tops)]
    last = ends[-1] if ends else None
    if last is None or len({top for layer in ends for top in layer.tops}) != 1:
        names = ", ".join(top for layer in ends for top in layer.tops) or "none"
        raise NetError(f"the net ends in {names}; one blob of scores is needed to train it")
    if last.type == "Softmax":
        return [layer for layer in layers if layer is not last], last.bottoms[0]
    return list(layers), last.tops[0]


def check_one_answer(net: Net) -> None:
    """A label for each image fits the scores; where their shape is not known, they may.

    Raises:
        NetError: there is a score for each place of a map, as in segmentation.
    """
    _, scores = without_softmax(net.upgraded().layers)
    shape: Shape = ()
    try:
        for step in net.walk():
            shape = dict(zip(step.layer.tops, step.tops, strict=True)).get(scores, shape)
    except (UnknownLayerError, UnknownShapeError):
        return
    if count(shape[2:]) != 1:
        raise NetError(
            f"the scores '{scores}' are {dims(shape)}, one for each place of a map; "
            "a net to train has one for each image, or ends in a score, Deconvolution, Crop and "
            "Softmax (segmentation)"
        )


def classifier_of(layers: Sequence[Layer]) -> Layer:
    """The last layer with weights to learn.

    Raises:
        NetError: there is none.
    """
    for layer in reversed(layers):
        if layer.type in WEIGHTED and not layer.fixed:
            return layer
    raise NetError("the net has no layer with weights, so there is nothing to train")


def heads_of(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with weights to learn that no other of them reads: the classifier, and what stands
    beside it.

    Raises:
        NetError: there is none.
    """
    found, read = [], set[str]()
    for layer in reversed(layers):
        before = not read.isdisjoint(layer.tops)
        weighted = layer.type in WEIGHTED and not layer.fixed
        if weighted and not before:
            found.append(layer)
        if weighted or before:
            read |= {*layer.bottoms}
    return found or [classifier_of(layers)]


def n_outputs(layers: Sequence[Layer]) -> int:
    """How many values the last layer with weights gives: the classes."""
    return int(getattr(classifier_of(layers), "num_output", 0))


def up_to(layers: Sequence[Layer], blob: str) -> int:
    """How many layers a blob needs at most: up to the last that writes it.

    Raises:
        NetError: no layer writes it.
    """
    written = {top: i + 1 for i, layer in enumerate(layers) for top in layer.tops}
    if blob not in written:
        raise NetError(f"freeze: no layer writes the blob '{blob}'{nearest(blob, written)}")
    return written[blob]


def trained(layer: Layer, training: Training, rate: float) -> Layer:
    """A layer with fillers and rates: none is left at a constant, statistics are not learned."""
    if layer.type not in CHANGED:
        return layer
    fields = dict(layer.fields)
    message = dict(layer.param)
    scale_rate = 0.0 if training.freeze_scale else rate
    if isinstance(layer, BatchNorm):
        message.pop("use_global_stats", None)
        if training.freeze_batch_norm or rate == 0:
            message["use_global_stats"] = True
        fields["param"] = (FROZEN,) * 3 + bn_scale_params(layer, training, scale_rate)
    elif layer.type in WEIGHTED and not layer.fixed:
        message.setdefault("weight_filler", filler(training))
        biased = message.get("bias_term", True)
        if biased:
            message.setdefault("bias_filler", {"type": "constant", "value": 0.0})
        fields["param"] = params(training, rate, (True, False)[: 1 + biased])
    elif layer.type in ("Scale", "Bias", "PReLU"):
        n = n_small_blobs(layer)
        own = scale_rate if layer.type == "Scale" else rate
        fields["param"] = params(training, own, (False,) * n)
    if layer.fields.get("param"):
        fields["param"] = with_names(
            layer, fields["param"], rates={"lr_mult": 1.0, "decay_mult": 1.0}
        )
    if not fields.get("param"):
        fields.pop("param", None)
    if message or layer.message in fields:
        fields[layer.message] = message
        if not message:
            del fields[layer.message]
    # As people write it: rates, then what the layer is.
    ordered = {k: fields.pop(k) for k in ("param",) if k in fields} | fields
    return replace(layer, fields=ordered)


def with_names(
    layer: Layer,
    params: tuple[Mapping[str, Any], ...] = (),
    rates: Mapping[str, float] | None = None,
) -> tuple[Mapping[str, Any], ...]:
    """A layer's ``param`` with other rates, and the names by which it shares weights.

    Args:
        layer: has the names.
        params: rates of its blobs; none for none.
        rates: of a blob that has a name and none in ``params``.
    """
    kept = [{k: v for k, v in param.items() if k in ("name", "share_mode")}
            for param in layer.fields.get("param", ())]  # fmt: skip
    while kept and not kept[-1]:
        kept.pop()
    none: dict[str, Any] = {}
    both = zip_longest(kept, params, fillvalue=none)
    return tuple({**name, **(rate or (name and rates) or none)} for name, rate in both)


def n_small_blobs(layer: Layer) -> int:
    """How many blobs a Scale, Bias or PReLU has."""
    if layer.type == "Scale":
        return (len(layer.bottoms) == 1) + bool(layer.param.get("bias_term", False))
    return int(len(layer.bottoms) == 1)


def params(
    training: Training, rate: float, weights: Sequence[bool]
) -> tuple[Mapping[str, Any], ...]:
    """``param`` for each blob of a layer; none where Caffe's defaults say the same.

    Args:
        training: what decays.
        rate: the layer's, times base_lr; 0 freezes it.
        weights: for each blob, whether it is a weight, which always decays.
    """
    if rate == 0:
        return (FROZEN,) * len(weights)
    decays = [1.0 if weight or training.decay == "all" else 0.0 for weight in weights]
    if rate == 1 and all(decays):
        return ()
    return tuple({"lr_mult": rate, "decay_mult": decay} for decay in decays)


def bn_scale_params(
    layer: BatchNorm, training: Training, rate: float
) -> tuple[Mapping[str, Any], ...]:
    """``param`` for gamma and beta within a fork's BatchNorm."""
    if not layer.scales:
        return ()
    return params(training, rate, (False, False)[: 1 + layer.bias_term])


def filler(training: Training) -> dict[str, Any]:
    """What weights begin as. msra: arXiv 1502.01852; Caffe's is for the fan-in."""
    return {"type": training.filler} | ({"std": 0.01} if training.filler == "gaussian" else {})


# ---- data


def data_layers(name: str, shape: Shape, training: Training) -> tuple[Layer, ...]:
    """Images and labels for both phases.

    Raises:
        NetError: the input cannot come from that kind of data.
    """
    if training.data == "dummy":
        return (dummy(name, shape, training),)
    if training.data not in DATA_TYPES:
        raise NetError(
            f"data is {training.data}, which detection takes; for images with a label: "
            f"{', '.join(DATA_TYPES)}"
        )
    if len(shape) != 4:
        raise NetError(f"the input '{name}' is {dims(shape)}; data layers give (N, C, H, W)")
    return tuple(one_phase(name, shape, training, phase) for phase in ("TRAIN", "TEST"))


def dummy(
    name: str, shape: Shape, training: Training, answers: Mapping[str, Shape] | None = None
) -> Layer:
    """Random images, all of class 0: to measure with, not to learn from.

    Args:
        name: of the images.
        shape: theirs.
        training: how many there are.
        answers: name and shape, for one image, of what each should give.
    """
    answers = {LABEL: ()} if answers is None else answers
    shapes = [{"dim": (training.batch, *size)} for size in (shape[1:], *answers.values())]
    zeros = ({"type": "constant", "value": 0.0},) * len(answers)
    fillers = ({"type": "gaussian", "std": 1.0}, *zeros)
    fields = {"shape": tuple(shapes), "data_filler": fillers}
    return make_layer(name, "DummyData", (), (name, *answers), {"dummy_data_param": fields})


def one_phase(name: str, shape: Shape, training: Training, phase: str) -> Layer:
    """The data layer of one phase."""
    train = phase == "TRAIN"
    source = training.train_source if train else training.test_source
    batch = training.batch if train else training.even_test_batch
    type = DATA_TYPES[training.data]
    _, channels, rows, columns = shape
    fields: dict[str, Any] = {"include": ({"phase": Word(phase)},)}
    if type == "MemoryData":
        sizes = {"batch_size": batch, "channels": channels, "height": rows, "width": columns}
        return make_layer(name, type, (), (name, LABEL), fields | {"memory_data_param": sizes})
    if type == "HDF5Data":
        return hdf5(name, training, phase)
    if rows != columns:
        raise NetError(
            f"the input '{name}' is {dims(shape)}; Caffe crops squares, so rows and columns "
            "must be equal; training.data memory or hdf5 takes any"
        )
    fields["transform_param"] = transform(training, channels, rows, mirror=train)
    if type == "Data":
        database = {"source": source, "batch_size": batch, "backend": Word(training.data.upper())}
        return make_layer(name, type, (), (name, LABEL), fields | {"data_param": database})
    listed: dict[str, Any] = {"source": source, "batch_size": batch}
    if training.root_folder:
        listed["root_folder"] = training.root_folder
    if train:
        listed["shuffle"] = True
    if training.resize:
        listed |= {"new_height": training.resize, "new_width": training.resize}
    if channels == 1:
        listed["is_color"] = False
    return make_layer(name, type, (), (name, LABEL), fields | {"image_data_param": listed})


def hdf5(name: str, training: Training, phase: str, answers: Sequence[str] = (LABEL,)) -> Layer:
    """Images and answers as HDF5 holds them: it takes no transform_param. hdf5_data_layer.cpp"""
    train = phase == "TRAIN"
    values: dict[str, Any] = {
        "source": training.train_source if train else training.test_source,
        "batch_size": training.batch if train else training.even_test_batch,
    }
    if train:
        values["shuffle"] = True
    fields = {"include": ({"phase": Word(phase)},), "hdf5_data_param": values}
    return make_layer(name, "HDF5Data", (), (name, *answers), fields)


def transform(training: Training, channels: int, size: int, *, mirror: bool) -> dict[str, Any]:
    """Crop, mean, scale and mirror: data_transformer.cpp."""
    values: dict[str, Any] = {"crop_size": size}
    if mirror and training.mirror:
        values["mirror"] = True
    if training.mean_file:
        values["mean_file"] = training.mean_file
    elif any(training.mean):
        if len(training.mean) not in (1, channels):
            raise NetError(
                f"mean has {len(training.mean)} values, the net's input {channels} channels; "
                "give one for each, or one"
            )
        values["mean_value"] = training.mean
    if training.scale != 1:
        values["scale"] = training.scale
    if channels == 1 and training.data in ("lmdb", "leveldb"):
        values["force_gray"] = True  # of encoded images; of others it says that they are grey
    return values


def judged(scores: str, classes: int) -> tuple[Layer, ...]:
    """The loss, and top-1 and top-5 accuracy in TEST; fewer than five classes have no top-5.

    Source: accuracy_layer.cpp, Reshape, ends Caffe there.
    """
    test = {"include": ({"phase": Word("TEST")},)}
    five = {"accuracy_param": {"top_k": 5}}
    layers = (
        make_layer("loss", "SoftmaxWithLoss", (scores, LABEL), ("loss",)),
        make_layer("accuracy_top1", "Accuracy", (scores, LABEL), ("accuracy_top1",), test),
        make_layer("accuracy_top5", "Accuracy", (scores, LABEL), ("accuracy_top5",), test | five),
    )
    return layers if classes >= 5 else layers[:2]


# ---- the way back


def to_deploy(net: Net, shape: Shape | None = None) -> Net:
    """The net for inference: one input, no data, loss, fillers and rates.

    Args:
        net: a train_val net. A deploy net comes back cleaned.
        shape: of the input; by default one image of the size that the data layer crops to.

    Raises:
        NetError: what the data layer gives is not known, the net has no data layer, or what is
            left of it is no net: it has several inputs.
    """
    test = net.upgraded().filtered("TEST")
    name, given = images_of(test)
    shape = shape or given
    if shape is None:
        raise NetError(
            f"the size of '{name}' is not known: its data layer has no crop_size; "
            "give the shape (--input-shape 1,3,224,224)"
        )
    labels = {
        top for layer in test.layers if layer.type in DATA for top in layer.tops if top != name
    }
    layers: list[Layer] = []
    for layer in test.layers:
        if layer.type in (*DATA, "Input"):
            continue
        if layer.type in LOSSES:
            layers += probabilities(layer, layers)
        elif not labels & set(layer.bottoms):
            layers.append(cleaned(layer))
        labels |= set(layer.tops) if labels & set(layer.bottoms) else set()
    fields = {k: v for k, v in net.fields.items() if not k.startswith("input")}
    if len(shape) == 4:
        header: dict[str, Any] = {"input": (name,), "input_dim": shape}
    else:
        header = {"input": (name,), "input_shape": ({"dim": shape},)}
    fields.pop("state", None)
    deploy = Net(net.name, tuple(layers), header | fields)
    check_structure(deploy.upgraded().layers)
    return deploy


def images_of(net: Net) -> tuple[str, Shape | None]:
    """Name of the images' blob, and the shape of one where it is known."""
    for layer in net.layers:
        if layer.type == "Input":
            name, shape = next(iter(net.inputs().items()))
            return name, shape
        if layer.type in DATA and layer.tops:
            try:
                shapes = layer.top_shapes(())
            except NetError:
                return layer.tops[0], None
            return layer.tops[0], (1, *shapes[0][1:])
    raise NetError("the net has no data layer in phase TEST, so its input is not known")


def probabilities(loss: Layer, layers: Sequence[Layer]) -> list[Layer]:
    """What a loss computes inside, as a layer; nothing if that layer is there."""
    if not loss.bottoms:
        raise NetError(f"layer '{loss.name}' ({loss.type}) has no bottom; give it the scores")
    type, scores = LOSSES[loss.type], loss.bottoms[0]
    if any(layer.type == type and layer.bottoms == (scores,) for layer in layers):
        return []
    name = loss.tops[1] if len(loss.tops) > 1 else "prob"
    if any(name in (layer.name, *layer.tops) for layer in layers):  # of an auxiliary loss
        name = f"{scores}_prob"
    fields = {k: v for k, v in loss.fields.items() if k == "softmax_param"}
    return [make_layer(name, type, (scores,), (name,), fields)]


def cleaned(layer: Layer) -> Layer:
    """A layer without fillers and rates; statistics of BatchNorm are the stored ones.

    A negative bias stays: a gate that is trained again has to begin with it.
    """
    dropped = {"include", "exclude", "loss_weight", "propagate_down", "phase"}
    fields = {k: v for k, v in layer.fields.items() if k not in dropped}
    if "param" in fields and not layer.fixed:
        names = with_names(layer)
        if not names:
            del fields["param"]
        elif not isinstance(layer, BatchNorm):  # whose rates have to be 0
            fields["param"] = names
    message = dict(layer.param)
    if layer.type in WEIGHTED and not layer.fixed:
        message.pop("weight_filler", None)
        if message.get("bias_filler", {}).get("value", 0.0) >= 0:
            message.pop("bias_filler", None)
    if isinstance(layer, BatchNorm):
        message["use_global_stats"] = True
    if layer.message:
        fields.pop(layer.message, None)
        if message:
            fields[layer.message] = message
    return replace(layer, fields=fields)
