"""Nets and solvers in Caffe's older formats -> the current one; all as trees of fields.

    V0  layers { layer { type: "conv" pad: 1 } }     2013
    V1  layers { type: CONVOLUTION blobs_lr: 1 }     2014
    ->  layer { type: "Convolution" param { lr_mult: 1 } }

Old inputs become an Input layer, and BatchNorm's three ``param`` get rate 0. Source:
upgrade_proto.cpp of mainline Caffe. What it refuses is refused, and so is what it only logs as
a problem, after which it runs another net than was written. What it drops without a word is
warned of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from resnet_proto.errors import NetError
from resnet_proto.words import Word, counted

Tree = Mapping[str, Any]
"""A message: its fields by name, as ``text_format.parse`` and ``schema.decode`` give them."""

V1_NAMES = """
NONE - ACCURACY Accuracy BNLL BNLL CONCAT Concat CONVOLUTION Convolution DATA Data
DROPOUT Dropout EUCLIDEAN_LOSS EuclideanLoss FLATTEN Flatten HDF5_DATA HDF5Data
HDF5_OUTPUT HDF5Output IM2COL Im2col IMAGE_DATA ImageData INFOGAIN_LOSS InfogainLoss
INNER_PRODUCT InnerProduct LRN LRN MULTINOMIAL_LOGISTIC_LOSS MultinomialLogisticLoss
POOLING Pooling RELU ReLU SIGMOID Sigmoid SOFTMAX Softmax SOFTMAX_LOSS SoftmaxWithLoss
SPLIT Split TANH TanH WINDOW_DATA WindowData ELTWISE Eltwise POWER Power
SIGMOID_CROSS_ENTROPY_LOSS SigmoidCrossEntropyLoss HINGE_LOSS HingeLoss
MEMORY_DATA MemoryData ARGMAX ArgMax THRESHOLD Threshold DUMMY_DATA DummyData SLICE Slice
MVN MVN ABSVAL AbsVal SILENCE Silence CONTRASTIVE_LOSS ContrastiveLoss EXP Exp
DECONVOLUTION Deconvolution
""".split()
V1_TYPES = {**dict(zip(V1_NAMES[::2], V1_NAMES[1::2], strict=True)), "NONE": ""}
"""V1LayerParameter.LayerType -> type, in the order of its numbers."""
V0_NAMES = """
accuracy bnll concat dropout euclidean_loss flatten hdf5_data hdf5_output im2col infogain_loss
lrn multinomial_logistic_loss relu sigmoid softmax softmax_loss split tanh window_data data
"""
V0_TYPES = {
    **{name: name.upper() for name in V0_NAMES.split()},
    "conv": "CONVOLUTION",
    "images": "IMAGE_DATA",
    "innerproduct": "INNER_PRODUCT",
    "pool": "POOLING",
}
"""V0LayerParameter.type -> V1's; ``padding`` is none of them: it goes into what reads it."""
V0_MESSAGES = {
    "concat": "concat_param",
    "conv": "convolution_param",
    "data": "data_param",
    "dropout": "dropout_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    "infogain_loss": "infogain_loss_param",
    "innerproduct": "inner_product_param",
    "lrn": "lrn_param",
    "pool": "pooling_param",
    "window_data": "window_data_param",
}
"""V0 type -> the message that has its fields in V1."""
V0_FIELDS = {
    "num_output": ("num_output", "conv innerproduct"),
    "biasterm": ("bias_term", "conv innerproduct"),
    "weight_filler": ("weight_filler", "conv innerproduct"),
    "bias_filler": ("bias_filler", "conv innerproduct"),
    "pad": ("pad", "conv pool"),
    "kernelsize": ("kernel_size", "conv pool"),
    "group": ("group", "conv"),
    "stride": ("stride", "conv pool"),
    "pool": ("pool", "pool"),
    "dropout_ratio": ("dropout_ratio", "dropout"),
    "local_size": ("local_size", "lrn"),
    "alpha": ("alpha", "lrn"),
    "beta": ("beta", "lrn"),
    "k": ("k", "lrn"),
    "source": ("source", "data hdf5_data images window_data infogain_loss"),
    "batchsize": ("batch_size", "data hdf5_data images window_data"),
    "rand_skip": ("rand_skip", "data images"),
    "shuffle_images": ("shuffle", "images"),
    "new_height": ("new_height", "images"),
    "new_width": ("new_width", "images"),
    "concat_dim": ("concat_dim", "concat"),
    "det_fg_threshold": ("fg_threshold", "window_data"),
    "det_bg_threshold": ("bg_threshold", "window_data"),
    "det_fg_fraction": ("fg_fraction", "window_data"),
    "det_context_pad": ("context_pad", "window_data"),
    "det_crop_mode": ("crop_mode", "window_data"),
}
"""V0 field -> its name in V1, and the V0 types that may have it."""
V0_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
"""V0 field -> its name in ``transform_param``; any type may have it."""
V0_NET = ("name", "layers", "input", "input_dim", "force_backward")
"""What Caffe keeps of a V0 net."""
V0_DROPPED = ("new_num", "new_channels")
REPEATED = ("pad", "kernel_size", "stride")
"""Fields of a convolution with a value for each axis; those of a pooling have one."""
TRANSFORMED = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
"""V1 type -> its message, which held what ``transform_param`` holds now."""
V1_PARAM = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
"""Repeated field of V1 -> the field of each ``param`` that it became."""
SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}
"""SolverParameter.SolverType -> type."""


def upgraded(
    tree: Tree, done: list[str] | None = None, warnings: list[str] | None = None
) -> dict[str, Any]:
    """A tree of ``NetParameter`` in the current format: UpgradeNetAsNeeded.

    Args:
        tree: of any age.
        done: gets a phrase for each thing that was old.
        warnings: gets a sentence for each thing that Caffe drops and does not tell.

    Raises:
        NetError: Caffe refuses to upgrade it, or logs a problem with it.
    """
    done = [] if done is None else done
    tree = current_layers(tree, done, warnings)
    data, rest = input_layer(tree)
    layers = tree.get("layer", ())
    if rest is not tree:
        done.append("old inputs" if data else "inputs without sizes, left out")
        layers = (data, *layers) if data else layers
    rated = [with_rates(layer) for layer in layers]
    changed = sum(new is not old for new, old in zip(rated, layers, strict=True))
    if changed:
        done.append(f"rates of {counted(changed, 'BatchNorm layer')}")
    return {**rest, "layer": tuple(rated)} if rated else dict(rest)


def current_layers(
    tree: Tree, done: list[str] | None = None, warnings: list[str] | None = None
) -> Tree:
    """``upgraded`` as far as ``layers`` go; a tree that has none is handed back."""
    old = tree.get("layers", ())
    if not old:
        return tree
    if "layer" in tree:
        raise NetError(
            "the net has both 'layer' and 'layers', and Caffe refuses to upgrade that; "
            "write its 'layers' as 'layer', or put them into a file of their own"
        )
    found = "V1 layers"
    if any("layer" in connection for connection in old):
        found = "V0 layers"
        tree = v1_net(tree, [] if warnings is None else warnings)
    layers, moved = transformed(tree.get("layers", ()))
    if done is not None:
        done.append(found)
        done += ["transformation fields of data layers"] * moved
    rest = {key: value for key, value in tree.items() if key != "layers"}
    return {**rest, "layer": tuple(map(v2_layer, layers))} if layers else rest


# ---- V0 -> V1


def v1_net(tree: Tree, warnings: list[str]) -> dict[str, Any]:
    """A V0 net as V1: UpgradeV0Net."""
    lost = [key for key in tree if key not in V0_NET]
    if lost:
        warnings.append(f"Caffe drops what a net with V0 layers has besides: {', '.join(lost)}")
    folded = without_padding(tree)
    layers = tuple(v1_layer(connection, i, warnings) for i, connection in folded)
    kept = {key: tree[key] for key in tree if key in V0_NET and key != "layers"}
    return {**kept, "layers": layers} if layers else kept


def without_padding(tree: Tree) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each layer with its number, padding within the layer that reads it: UpgradeV0PaddingLayers.

    Raises:
        NetError: a blob that no layer before has made, or padding for anything but one
            convolution or pooling of one blob.
    """
    layers = tree["layers"]
    writers: dict[str, int | None] = dict.fromkeys(tree.get("input", ()))
    for i, connection in enumerate(layers):
        own = dict(connection.get("layer", {}))
        bottoms = list(connection.get("bottom", ()))
        where = called(own, i)
        for j, name in enumerate(bottoms):
            if name not in writers:
                raise NetError(f"{where} reads blob '{name}', which no layer before it writes")
            writer = writers[name]
            source = layers[writer] if writer is not None else {}
            if source.get("layer", {}).get("type") != "padding":
                continue
            sources, n_tops = source.get("bottom", ()), len(source.get("top", ()))
            padding = called(source["layer"], writer or 0)
            if own.get("type") not in ("conv", "pool"):
                raise NetError(f"{where} reads {padding}; only a conv or a pool may read padding")
            if (len(bottoms), len(sources), n_tops) != (1, 1, 1):
                raise NetError(
                    f"{where} has {counted(len(bottoms), 'bottom')}, and {padding}, which it "
                    f"reads, {counted(len(sources), 'bottom')} and {counted(n_tops, 'top')}; "
                    "one each is needed"
                )
            own["pad"] = source["layer"].get("pad", 0)
            bottoms[j] = sources[0]
        writers.update(dict.fromkeys(connection.get("top", ()), i))
        if own.get("type") != "padding":
            folded = dict(connection)
            if "layer" in connection:
                folded["layer"] = own
            if bottoms:
                folded["bottom"] = tuple(bottoms)
            yield i, folded


def called(own: Tree, i: int) -> str:
    """What messages call a V0 layer: by its name, else by its number."""
    name = f"'{own['name']}'" if own.get("name") else f"number {i + 1}"
    return f"layer {name} (V0 type '{own.get('type', '')}')"


def v1_layer(connection: Tree, i: int, warnings: list[str]) -> dict[str, Any]:
    """One V0 layer as V1: UpgradeV0LayerParameter.

    Raises:
        NetError: it is none, its type is unknown, or a field is not one of its type.
    """
    if "layer" not in connection:
        raise NetError(
            f"number {i + 1} of the net's 'layers' has no 'layer' within, and others have: Caffe "
            "would drop all but its bottoms and tops; write all of them in one way"
        )
    own = connection["layer"]
    where, type = called(own, i), own.get("type", "")
    lost = [key for key in connection if key not in ("layer", "bottom", "top")]
    lost += [key for key in V0_DROPPED if key in own]
    if lost:
        warnings.append(f"{where}: Caffe drops {', '.join(lost)}")
    layer = {key: connection[key] for key in ("bottom", "top") if key in connection}
    params: dict[str, dict[str, Any]] = {}
    for key, value in own.items():
        if key in V0_DROPPED:
            continue
        if key in ("name", "blobs", "blobs_lr", "weight_decay"):
            layer[key] = value
        elif key == "type":
            if type not in V0_TYPES:
                raise NetError(
                    f"{where}: Caffe knows no such type; known: {', '.join(sorted(V0_TYPES))}, "
                    "padding"
                )
            layer["type"] = Word(V0_TYPES[type])
        elif key == "hdf5_output_param" and type == "hdf5_output":
            params[key] = value
        elif key in V0_TRANSFORM:
            params.setdefault("transform_param", {})[V0_TRANSFORM[key]] = value
        else:
            name, types = V0_FIELDS.get(key, (key, ""))
            if type not in types.split():
                raise NetError(
                    f"{where} has {key}, which is no field of its type; Caffe would drop it: "
                    "remove it"
                )
            if name in ("new_height", "new_width"):
                value %= 1 << 32  # int32 became uint32
            many = type == "conv" and name in REPEATED
            params.setdefault(V0_MESSAGES[type], {})[name] = (value,) if many else value
    return {**layer, **params}


# ---- V1 -> V2


def transformed(layers: Iterable[Tree]) -> tuple[tuple[Tree, ...], bool]:
    """V1 layers with what became ``transform_param`` in it, and whether there was any.

    UpgradeNetDataTransformation: if one layer has any, each layer of such a type gets both
    messages, be they empty.
    """
    layers = tuple(layers)
    messages = [TRANSFORMED.get(layer.get("type", ""), "") for layer in layers]
    old = V0_TRANSFORM.values()
    if not any(
        name in layer.get(message, {})
        for layer, message in zip(layers, messages, strict=True)
        for name in old
    ):
        return layers, False
    found = []
    for layer, message in zip(layers, messages, strict=True):
        if message:
            own = layer.get(message, {})
            moved = {name: own[name] for name in old if name in own}
            rest = {name: value for name, value in own.items() if name not in old}
            transform = {**layer.get("transform_param", {}), **moved}
            layer = {**layer, message: rest, "transform_param": transform}
        found.append(layer)
    return tuple(found), True


def v2_layer(old: Tree) -> dict[str, Any]:
    """One V1 layer as it is now: UpgradeV1LayerParameter."""
    n = max(len(old.get(key, ())) for key in V1_PARAM)
    params = tuple(
        {new: old[key][i] for key, new in V1_PARAM.items() if i < len(old.get(key, ()))}
        for i in range(n)
    )
    layer: dict[str, Any] = {}
    for key, value in old.items():
        if key in V1_PARAM:
            layer["param"] = params
        else:
            layer[key] = V1_TYPES[value] if key == "type" else value
    return layer


# ---- what current layers may have that is old


def input_layer(tree: Tree) -> tuple[dict[str, Any] | None, Tree]:
    """The Input layer of a net's ``input`` fields, and what it has besides: UpgradeNetInput.

    Inputs without sizes, as caffemodels have them, are left out; a net without ``input`` is
    handed back as it is, as ``input_dim`` alone means nothing to Caffe.

    Raises:
        NetError: fewer sizes than inputs. Caffe reads behind its array.
    """
    names = tree.get("input", ())
    if not names:
        return None, tree
    rest = {key: tree[key] for key in tree if key not in ("input", "input_shape", "input_dim")}
    shapes = [tuple(shape.get("dim", ())) for shape in tree.get("input_shape", ())]
    flat = tree.get("input_dim", ())
    if not shapes:
        shapes = [flat[i : i + 4] for i in range(0, len(flat), 4)]
        if len(flat) < 4 * len(names) and flat:
            raise NetError(
                f"the net has {len(flat)} input_dim for {len(names)} input: "
                "four for each are needed"
            )
    if not shapes:
        return None, rest
    if len(shapes) < len(names):
        raise NetError(
            f"the net has {len(shapes)} input_shape for {len(names)} input: one for each is needed"
        )
    own = tuple({"dim": shape} if shape else {} for shape in shapes[: len(names)])
    layer = {"name": "input", "type": "Input", "top": names, "input_param": {"shape": own}}
    return layer, rest


def with_rates(layer: Tree) -> Tree:
    """A BatchNorm of three ``param`` with all rates 0: UpgradeNetBatchNorm. Others as they are."""
    params = layer.get("param", ())
    if layer.get("type") != "BatchNorm" or len(params) != 3:
        return layer
    fixed = tuple({**param, "lr_mult": 0.0, "decay_mult": 0.0} for param in params)
    return layer if fixed == params else {**layer, "param": fixed}


# ---- solvers


def upgraded_solver(tree: Tree, done: list[str] | None = None) -> Tree:
    """A tree of ``SolverParameter`` with ``type`` in the place of ``solver_type``.

    UpgradeSolverType. Nets within a solver stay as they are: Caffe upgrades none of them.

    Raises:
        NetError: it has both.
    """
    if "solver_type" not in tree:
        return tree
    if "type" in tree:
        raise NetError("the solver has solver_type and type, and Caffe refuses that; keep type")
    if done is not None:
        done.append("solver_type")
    return {
        "type" if key == "solver_type" else key: (
            SOLVER_TYPES[value] if key == "solver_type" else value
        )
        for key, value in tree.items()
    }


def old_within(net: Tree) -> str:
    """What a net within a solver has that Caffe upgrades in files only, as the start of a message.

    There ``layers`` are no layers and ``input`` is no input: solver.cpp, InitTrainNet.
    """
    names = [name for name in ("layers", "input") if name in net]
    if not names:
        return ""
    return f"Caffe upgrades nets in files only, and passes over {' and '.join(names)} of this one"
