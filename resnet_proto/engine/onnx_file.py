"""Net + weights -> ONNX file and back, held against our own forward pass before it takes its name.

net -> deploy net -> BatchNorm folded, limits as Clip -> drawing -> file -> onnxruntime against
    float64 -> Proof
file -> net -> float64 against onnxruntime -> Proof
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.clips import clipped
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.others import onnxruntime
from resnet_proto.engine.plain import forward
from resnet_proto.errors import FormatError, NetError, ResNetProtoError
from resnet_proto.files import path_of, together
from resnet_proto.fold import folded
from resnet_proto.formats import onnx as formats_onnx
from resnet_proto.formats.onnx import LIMIT, Drawing, Pixels, draw, free, loosen, write_model
from resnet_proto.formats.onnx_graph import FLOAT, OPSET
from resnet_proto.formats.onnx_reader import (
    FROM_CAFFE,
    load_model,
    read,
    turned_inputs,
    without_rest,
)
from resnet_proto.layers.input import Input
from resnet_proto.net import Net

if TYPE_CHECKING:
    from typing import BinaryIO

    import onnx

    from resnet_proto.engine.compare import Row
    from resnet_proto.layers import Layer
    from resnet_proto.layers.base import Array

OTHER_FLOATS = (10, 11, 16)
"""Numbers of ``TensorProto.DataType``: float16, double, bfloat16."""
NOT_INSTALLED = "onnxruntime is not installed: pip install 'resnet-proto[onnx]'"
BESIDE = ".data"
"""What the file of the values is called, behind the model's own name."""


@dataclass(frozen=True)
class Proof:
    """How far a file is from our forward pass in float64, on a random input.

    Args:
        rows: one for each blob that both have; empty where nothing was compared.
        missing: why nothing was.
        by: what computed the file.
    """

    rows: tuple[Row, ...] = ()
    missing: str = ""
    by: str = "onnxruntime"

    @property
    def worst(self) -> Row:
        """The blob that is furthest away; a nan is further than anything."""
        return max(self.rows, key=lambda row: (not row.within(TOLERANCE), row.distance))


def save_onnx(
    path: str | os.PathLike[str],
    net: Net,
    weights: Mapping[str, Array],
    *,
    fold_bn: bool = True,
    opset: int = OPSET,
    dynamic: str = "batch",
    pixels: Pixels | None = None,
    metadata: Mapping[str, str] | None = None,
    verify: bool = True,
    force: bool = True,
    warnings: list[str] | None = None,
) -> Proof | None:
    """Write a net as ONNX; the file is there when it is complete and verified, and not before.

    Args:
        path: a model of more than 2 GB gets a file of its values beside it, ``<path>.data``.
        net: a deploy net; of a train_val net ``training.train_val.to_deploy`` makes one.
        weights: arrays by ``<layer>.<blob>``.
        fold_bn: write BatchNorm and Scale as part of the layers before them, and what is left of
            them as one BatchNormalization.
        opset: one of ``formats.onnx.OPSETS``.
        dynamic: what may vary, one of ``formats.onnx.DYNAMIC``. A batch that cannot is the net's
            own, with a warning.
        pixels: goes before the net; the model then takes an image.
        metadata: names and texts that the model carries.
        verify: compare the file with ``forward`` in float64.
        force: take the place of files that have other content.
        warnings: gets a sentence for what is not as it was meant.

    Returns:
        What was compared; None if nothing should be.

    Raises:
        FormatError: a blob is further than ``TOLERANCE`` from our own; there is no file then.
        NetError, UnknownLayerError, WeightsError: as ``to_onnx``.
    """
    formats_onnx.check_installed(opset)
    net = net.at(phase="TEST").upgraded().filtered()
    ends = results(net)
    shown, values = folded(net.until(ends).needed(ends), weights, merge=True) if fold_bn else (
        net, weights
    )  # fmt: skip
    shown = clipped(shown, ("Clip",))
    drawing = draw(shown, values, ends, None, opset, pixels, dynamic=dynamic)
    loosen(drawing, shown, ends)
    if dynamic != "none":
        try:
            drawing = free(drawing, shown, dynamic, ends, None, pixels, warnings=warnings)
        except NetError as error:
            if dynamic == "size":
                drawing = with_free_size(drawing, shown, ends, pixels, warnings)
            if warnings is not None:
                sizes = next(iter(drawing.inputs.values()), (1,))
                warnings.append(f"the batch is {sizes[0]} and cannot vary: {error}")
    target = Path(path)
    name = target.name + BESIDE
    more = [target.with_name(name)] if drawing.nbytes > LIMIT else []
    with together(path, *more, force=force) as (file, *others):
        if others:
            (data,) = others
            if warnings is not None:
                warnings.append(
                    f"a model holds 2 GB: its values are in {more[0]}; keep the two together"
                )
            write_model(file, drawing, metadata, (path_of(data).name if verify else name, data))
            data.flush()
        else:
            write_model(file, drawing, metadata)
        file.flush()
        if not verify:
            return None
        blobs = [name for name in drawing.values if name in net_blobs(shown)]
        proof = prove(file, target, net, weights, blobs, pixels)
        refuse_wrong(proof, target, net, weights)
        if others:  # until here it has no name of its own, and the model none of it
            moved(file, name)
    return proof


def with_free_size(
    drawing: Drawing,
    net: Net,
    outputs: tuple[str, ...],
    pixels: Pixels | None,
    warnings: list[str] | None,
) -> Drawing:
    """The drawing with rows and columns that vary, and the net's own batch.

    Raises:
        NetError: they cannot.
    """
    try:
        return free(drawing, net, "size", outputs, None, pixels, batch_too=False, warnings=warnings)
    except NetError as error:
        hint = "; --dense makes a Convolution of it" if "(InnerProduct)" in str(error) else ""
        raise NetError(f"rows and columns cannot vary: {error}{hint}") from None


def refuse_wrong(proof: Proof, target: Path, net: Net, weights: Mapping[str, Array]) -> None:
    """Refuse a file, which will be called ``target``, of which a blob is too far from our own.

    Raises:
        FormatError: one is; where the net itself loses digits, in any engine, that is said.
    """
    over = [row for row in proof.rows if not row.within(TOLERANCE)]
    if over:
        worst = proof.worst
        raise FormatError(
            f"{target}: {len(over)} of {len(proof.rows)} blobs are not what the net computes; "
            f"the worst is '{worst.blob}' with relative L2 {worst.distance:.2e}, over "
            f"{TOLERANCE:g}{lost_digits(net, weights, worst.blob)}. The file was not kept; "
            "--no-verify writes it"
        )


def lost_digits(net: Net, weights: Mapping[str, Array], blob: str) -> str:
    """What to say of a blob that our own forward pass in float32 misses too; else nothing.

    Values that grow from layer to layer lose them, and differences of large ones.
    """
    from resnet_proto.engine import random_inputs

    net = net.at(phase="TEST").upgraded().filtered()
    inputs = random_inputs(net)
    ours, exact = (
        forward(net, weights, inputs, dtype=dtype, outputs=[blob])
        for dtype in ("float32", "float64")
    )
    (row,) = compare(ours, exact)
    if not TOLERANCE < row.distance < float("inf"):
        return ""
    return (
        f"; our own forward pass in float32 is {row.distance:.2e} away too: the net loses the "
        "digits, in any engine"
    )


def moved(file: BinaryIO, name: str) -> None:
    """Write a model once more, whose values will be in another file beside it."""
    import onnx

    file.seek(0)
    model = onnx.load_model_from_string(file.read())
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    file.seek(0)
    file.truncate()
    file.write(model.SerializeToString(deterministic=True))


def results(net: Net) -> tuple[str, ...]:
    """The blobs that no layer reads any more, in the order of the net.

    Raises:
        NetError: there is none: the net has no layers.
    """
    unread: dict[str, None] = {}
    for layer in net.layers:
        if layer.type != "Silence":
            for name in layer.bottoms:
                unread.pop(name, None)
        if not layer.from_outside:
            unread.update(dict.fromkeys(layer.tops))
    if not unread:
        raise NetError("the net computes nothing: it has no layer behind its inputs")
    return tuple(unread)


def net_blobs(net: Net) -> set[str]:
    """The names of all blobs."""
    return {name for layer in net.layers for name in layer.tops}


def prove(
    file: BinaryIO,
    target: Path,
    net: Net,
    weights: Mapping[str, Array],
    blobs: list[str],
    pixels: Pixels | None,
) -> Proof:
    """Run a file on a random input, and compare the blobs with our own, in float64."""
    import numpy as np

    from resnet_proto.engine import random_inputs

    inputs: dict[str, Array] = dict(random_inputs(net))
    feeds = dict(inputs)
    if pixels is not None:
        shape = inputs[pixels.blob].shape
        image: Array = np.array(np.random.default_rng(0).integers(0, 256, shape), np.float32)
        inputs[pixels.blob] = pixels.apply(np.asarray(image, np.float64))
        del feeds[pixels.blob]
        feeds["image"] = image
    import onnx

    model = onnx.load(path_of(file), load_external_data=False)
    feeds = under_their_names(model, feeds)
    try:
        ours = forward(net, weights, inputs, dtype="float64", outputs=blobs)
    except ResNetProtoError as error:
        return Proof(missing=f"our own forward pass does not run on random inputs: {error}")
    try:
        package = onnxruntime()
    except ImportError:
        return proof_by_reading(path_of(file), feeds, ours)
    theirs = run_model(package, model, target, feeds, blobs)
    behind = behind_choices(net)
    if behind:  # from the model's own bottoms: rounding turns two scores that are nearly equal
        rest = (name for layer in behind for name in layer.bottoms)
        made = {name for layer in behind for name in layer.tops}
        own = {name: {**inputs, **ours, **theirs}[name] for name in rest if name not in made}
        given = [Input.of(name, (), name, shape=({"dim": x.shape},)) for name, x in own.items()]
        last = Net(net.name, (*given, *behind))
        ours |= forward(
            last, weights, own, dtype="float64", outputs=[n for n in blobs if n in made]
        )
    return Proof(tuple(compare(theirs, ours)))


def under_their_names(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs by the names that they have in a model: one that a layer overwrites ``x@<layer>``."""
    renamed = dict(feeds)
    for value in model.graph.input:
        if value.name not in feeds:
            first = max((n for n in feeds if value.name.startswith(f"{n}@")), key=len)
            renamed[value.name] = renamed.pop(first)
    return renamed


def behind_choices(net: Net) -> list[Layer]:
    """The layers that choose rows by comparing values, and all that read what comes of them."""
    made: set[str] = set()
    found = []
    for layer in net.layers:
        if layer.shape_varies or made.intersection(layer.bottoms):
            found.append(layer)
            made.update(layer.tops)
    return found


def proof_by_reading(path: Path, feeds: Mapping[str, Array], ours: Mapping[str, Array]) -> Proof:
    """The net that is read back from a file, in float64, beside the one that was written."""
    try:
        net, weights = read(path, {name: value.shape for name, value in feeds.items()})
        blobs = [name for name in ours if name in net_blobs(net)]
        theirs = forward(net, weights, feeds, dtype="float64", outputs=blobs)
    except ResNetProtoError as error:
        return Proof(missing=f"{NOT_INSTALLED}; and our own reader does not take it: {error}")
    rows = compare(theirs, {name: ours[name] for name in blobs})
    return Proof(tuple(rows), by="our own reading of the file")


def prove_read(
    path: str | os.PathLike[str], net: Net, weights: Mapping[str, Array], seed: int = 0
) -> Proof:
    """Run a model on random input, and compare it with the net that was read from it.

    The net runs in float64, on values of mean 0 and variance 1. A model of other floats is given to
    onnxruntime in float32.

    Raises:
        ResNetProtoError: they have no blob in common.
    """
    import numpy as np

    try:
        package = onnxruntime()
    except ImportError:
        return Proof(missing=NOT_INSTALLED)
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {
        name: rng.standard_normal(shape, np.float32) for name, shape in net.inputs().items()
    }
    model = load_model(Path(path))
    without_rest(model, Path(path))
    to_float32(model, Path(path))
    feeds = dict(inputs)
    for name in turned_inputs(model.graph):
        feeds[name] = inputs[name].transpose(FROM_CAFFE)
    made = {name for node in model.graph.node for name in node.output}
    blobs = [name for layer in net.layers for name in layer.tops if name in made]
    blobs = list(dict.fromkeys(blobs))
    if not blobs:
        return Proof(missing="the new net has no blob that is a value of the model")
    ours = forward(net, weights, inputs, dtype="float64", outputs=blobs)
    try:
        theirs = run_model(package, model, Path(path), feeds, blobs)
    except FormatError as error:
        return Proof(missing=str(error))
    return Proof(tuple(compare(theirs, ours)))


def to_float32(model: onnx.ModelProto, path: Path) -> None:
    """Make float32 of other floats: onnxruntime has few ops for them, and they round otherwise."""
    from onnx import numpy_helper

    graph = model.graph
    tensors = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *tensors):
        if tensor.data_type in OTHER_FLOATS:
            value = numpy_helper.to_array(tensor, str(path.absolute().parent))
            tensor.CopyFrom(numpy_helper.from_array(value.astype("float32"), tensor.name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in OTHER_FLOATS:
            value.type.tensor_type.elem_type = FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in OTHER_FLOATS:
                attribute.i = FLOAT


def run_model(
    package: Any,
    model: onnx.ModelProto,
    target: Path,
    feeds: Mapping[str, Array],
    blobs: list[str],
) -> dict[str, Array]:
    """The blobs that onnxruntime computes of a model, each node as it is written.

    Values outside it lie beside ``target``.

    Raises:
        FormatError: onnxruntime refuses it.
    """
    import onnx

    given = {value.name for value in model.graph.input}
    known = {value.name for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in blobs if name in made - known
    )
    options = package.SessionOptions()
    options.graph_optimization_level = package.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(target.absolute().parent)
    )
    names = [name for name in blobs if name in made]
    try:
        session = package.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        del model
        values = session.run(names, {k: v for k, v in feeds.items() if k in given})
    except Exception as error:  # its errors have no class in common
        raise FormatError(f"{target}: onnxruntime refuses it: {error}") from None
    return dict(zip(names, values, strict=True))
