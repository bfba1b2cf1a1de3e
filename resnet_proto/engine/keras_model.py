"""Net + weights -> Keras 3 model, and its file, held against our own forward pass.

net -> deploy net -> layers of Keras -> .keras -> loaded again, against float64 -> Proof

What each layer becomes is its function in ``keras_layers.py``. The model has no class and no
function of ours: who loads it needs Keras alone.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings as python_warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from resnet_proto.engine.compare import compare
from resnet_proto.engine.onnx_file import Proof, net_blobs, refuse_wrong, results
from resnet_proto.engine.plain import forward
from resnet_proto.errors import FormatError, NetError, ResNetProtoError, UnknownLayerError
from resnet_proto.files import atomic, room
from resnet_proto.fit import named, step_blobs
from resnet_proto.fold import folded
from resnet_proto.layers import Shape
from resnet_proto.net import check_net, check_runs, labels, overwritten
from resnet_proto.weights import random_weights

if TYPE_CHECKING:
    from resnet_proto.engine.keras_layers import Site
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net


PER_LAYER = 8
"""More layers and ops of Keras than any layer becomes, one behind the other."""
DEEP = 900
"""How many of them Keras can follow with Python's own limit of recursion, 1000."""


def to_keras(
    net: Net, weights: Mapping[str, Array] | None = None, *, outputs: Iterable[str] | None = None
) -> Any:
    """A net as a ``keras.Model``.

    Blobs of four axes are (N, H, W, C) there, inputs too; others have Caffe's order. Any number of
    images goes in. ``model.get_layer(name).output`` is the top of a Caffe layer: layers have
    Caffe's names, with ``_`` for a slash and whatever else Keras forbids, and a number where two
    would have one name; an input is called as its blob. A Scale is part of the BatchNorm before
    it. What layers share is a copy for each.

    Args:
        net: what it computes at TEST. What data layers read is an input.
        weights: arrays by ``<layer>.<blob>``; None for random ones.
        outputs: names of blobs; those that nothing reads, by default. One is the model's output,
            several are a dict by name. Layers that none of them needs are left out.

    Raises:
        NetError: no blob has that name, or the number of images cannot vary.
        ResNetProtoError: no net, or Keras 3 or a backend of it is not installed.
        UnknownLayerError: a layer that has no way into Keras.
        WeightsError: weights are missing, or do not fit the net.
    """
    check_net(net)
    return draw(net, weights, outputs).model


@dataclass(frozen=True)
class Drawing:
    """A model, and for each blob the name of the Keras layer that gives its last value.

    ``inputs`` are the names that blobs have as inputs of the model.
    """

    model: Any
    blobs: Mapping[str, str]
    inputs: Mapping[str, str]

    @property
    def depth(self) -> int:
        """How many layers and ops lie one behind the other."""
        return len(self.model._nodes_by_depth)


def backend_failed(error: Exception) -> ResNetProtoError:
    """What to say where Keras is there, and its backend is not or fails."""
    name = os.environ.get("KERAS_BACKEND", "its default")
    return ResNetProtoError(
        f"Keras cannot be imported, with backend {name}: {error}; "
        "pip install 'resnet-proto[keras]', or set KERAS_BACKEND to another"
    )


def import_keras() -> Any:
    """Keras 3, with a backend that is there.

    ``KERAS_BACKEND`` names it, else Keras' own configuration; that says TensorFlow unless somebody
    has changed it. So where there is torch, and neither TensorFlow nor JAX, the variable becomes
    ``torch`` if it is not set and Keras is not imported yet.

    Raises:
        ResNetProtoError: it cannot be imported.
    """
    others = ("tensorflow", "jax")
    free = "keras" not in sys.modules and not os.environ.get("KERAS_BACKEND")
    if free and find_spec("torch") and not any(map(find_spec, others)):
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise backend_failed(error) from None
        raise ResNetProtoError(
            "Keras is not installed: pip install 'resnet-proto[keras]'"
        ) from None
    except Exception as error:  # a backend may fail in any way
        raise backend_failed(error) from None
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 3):
        raise ResNetProtoError(
            f"Keras {keras.__version__} is installed; slices can be saved from 3.3 on"
        )
    return keras


def draw(
    net: Net, weights: Mapping[str, Array] | None = None, outputs: Iterable[str] | None = None
) -> Drawing:
    """The model of a net; arguments and errors as in ``to_keras``."""
    keras = import_keras()
    from resnet_proto.engine.keras_layers import Site

    net = net.at(phase="TEST").upgraded().filtered()
    with net.named():
        wanted = results(net) if outputs is None else tuple(outputs)
        net = net.until(wanted).needed(wanted)
        check_types(net)
        check_images(net)
    if weights is None:
        weights = random_weights(net, wanted=wanted)
    shown, values = folded(net, weights, merge=True, products=False)
    if not {*wanted} <= net_blobs(shown):  # one lies between a BatchNorm and its Scale
        shown, values = net, named(weights, net)
    steps = list(shown.walk(wanted=wanted))
    read = {*wanted, *(name for step in steps for name in step.layer.bottoms)}
    tops, names = name_tops(shown, read)
    inputs: dict[str, Any] = {}
    made: dict[str, Any] = {}
    with net.named():
        overwritten(shown.layers)
        for step, own in zip(steps, tops, strict=True):
            check_runs(step)
            if step.layer.from_outside:
                for blob, shape in zip(step.layer.tops, step.tops, strict=True):
                    if blob in read:
                        made[blob] = inputs[blob] = input_of(keras, own[blob], shape)
                continue
            blobs = dict(zip(step.blobs, step_blobs(step, values, "float32"), strict=True))
            bottoms = [made[blob] for blob in step.layer.bottoms]
            site = Site(step, bottoms, blobs, [own[blob] for blob in step.layer.tops], names)
            made.update(zip(step.layer.tops, written(keras, site), strict=True))
    ends = {blob: made[blob] for blob in made if blob in wanted}
    with recursion(len(steps) * PER_LAYER):
        model = keras.Model(
            [*inputs.values()] if len(inputs) != 1 else inputs[next(iter(inputs))],
            ends if len(ends) != 1 else ends[next(iter(ends))],
            name=type(names)().free(net.name or "net"),
        )
    given, last = (
        {blob: x._keras_history.operation.name for blob, x in some.items()}
        for some in (inputs, made)
    )
    own_names = {blob: name for blob, name in last.items() if name not in given.values()}
    return Drawing(model, own_names, given)


def check_types(net: Net) -> None:
    """Refuse a net with layers that have no way into Keras, and name them all.

    Raises:
        UnknownLayerError: there are some.
    """
    from resnet_proto.engine.keras_layers import FUNCTIONS

    unknown: dict[str, list[str]] = {}
    for layer in net.layers:
        if not layer.from_outside and layer.type not in FUNCTIONS:
            unknown.setdefault(layer.type, []).append(f"'{layer.name}'")
    if unknown:
        found = "; ".join(
            f"{type} ({', '.join([*names[:3], '...'] if len(names) > 3 else names)})"
            for type, names in unknown.items()
        )
        raise UnknownLayerError(
            f"these layer types cannot be written as Keras: {found}; known: "
            f"{', '.join(sorted(FUNCTIONS))}"
        )


def check_images(net: Net) -> None:
    """Refuse a net that does not take any number of images: a Keras model does.

    Raises:
        NetError: a shape does not follow that number, but for its first axis.
    """
    own = {**net.given, **net.inputs()}
    # fewer, where it can be: more might be more than a blob may hold
    others = {
        name: (shape[0] - 1 if shape[0] > 1 else 2, *shape[1:])
        for name, shape in own.items()
        if shape
    }
    inputs = net.inputs()
    try:
        other = net.with_input_shapes(
            {name: size for name, size in others.items() if name in inputs}
        )
        data = {name: size for name, size in others.items() if name not in inputs}
        pairs = list(zip(net.walk(), other.walk(shapes=data), strict=True))
    except NetError as error:
        raise NetError(f"the number of images cannot vary, as Keras wants it: {error}") from None
    for step, there in pairs:
        for old, new in zip(step.tops, there.tops, strict=True):
            if not old or old[1:] != new[1:] or old[0] == new[0] or step.blobs != there.blobs:
                raise NetError(
                    f"layer '{step.label}' ({step.layer.type}): the first axis of its top is not "
                    "the images', whose number cannot vary so, as Keras wants it"
                )


def name_tops(net: Net, read: set[str]) -> tuple[list[dict[str, str]], Any]:
    """For each layer the Keras names of its tops, and all names in use.

    A layer of several tops has a Keras layer for each, ``<layer>_<top>``. Names that Keras takes
    as they are have the first choice.
    """
    from resnet_proto.engine.keras_layers import Names

    wishes: dict[tuple[int, str], str] = {}
    for i, (layer, label) in enumerate(
        zip(net.layers, labels(layer.name for layer in net.layers), strict=True)
    ):
        for top in layer.tops:
            if layer.from_outside:
                if top in read:
                    wishes[i, top] = top
            else:
                wishes[i, top] = label if len(layer.tops) == 1 else f"{label}_{top}"
    names = Names()
    tops: list[dict[str, str]] = [{} for _ in net.layers]
    for (i, top), wish in sorted(wishes.items(), key=lambda item: item[1] != Names().free(item[1])):
        tops[i][top] = names.free(wish)
    return tops, names


def input_of(keras: Any, name: str, shape: Shape) -> Any:
    """The model's input for a blob."""
    from resnet_proto.engine.keras_layers import keras_shape

    return keras.Input(keras_shape(shape)[1:], name=name, dtype="float32")


def written(keras: Any, site: Site) -> list[Any]:
    """The tops of a layer, each the output of a Keras layer of its name.

    Ops have names that Keras numbers through the whole process; they get the layer's here.
    """
    from resnet_proto.engine.keras_layers import FUNCTIONS

    layer = site.step.layer
    try:
        made = FUNCTIONS[layer.type](site, layer)
    except ResNetProtoError:
        raise
    except Exception as error:  # its errors have no class in common
        raise UnknownLayerError(
            f"layer '{site.step.label}' ({layer.type}): Keras refuses it: {one_line(error)}"
        ) from None
    tops = []
    ends = {id(x._keras_history.operation) for x in site.bottoms}
    for x, name in zip(made if isinstance(made, list) else [made], site.tops, strict=True):
        operation = x._keras_history.operation
        own = isinstance(operation, keras.Layer) and operation.name == name
        tops.append(x if own else keras.layers.Identity(name=name)(x))
        left = [x]
        while left:
            operation = left.pop()._keras_history.operation
            if id(operation) not in ends:
                ends.add(id(operation))
                if not isinstance(operation, keras.Layer):
                    operation.name = site.names.free(f"{name}_{type(operation).__name__.lower()}")
                left += keras.tree.flatten(operation.input)
    return tops


@contextmanager
def recursion(depth: int) -> Iterator[None]:
    """Let Python recurse so much deeper: Keras follows a graph from its end, a call a layer."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def save_keras(
    path: str | os.PathLike[str],
    net: Net,
    weights: Mapping[str, Array],
    *,
    verify: bool = True,
    force: bool = True,
    warnings: list[str] | None = None,
) -> Proof | None:
    """Write a net as ``.keras``; the file is there when it is complete and verified, not before.

    Args:
        path: any name.
        net: a deploy net; of a train_val net ``training.train_val.to_deploy`` makes one.
        weights: arrays by ``<layer>.<blob>``.
        verify: load the file and compare what it computes with ``forward`` in float64.
        force: take the place of a file that has other content.
        warnings: gets a sentence for what its reader has to know.

    Returns:
        What was compared; None if nothing should be.

    Raises:
        FormatError: a blob is further than ``TOLERANCE`` from our own; there is no new file then.
        Others as ``to_keras``.
    """
    with quiet():
        drawing = draw(net, weights)
    with room(()):
        folder = TemporaryDirectory()
    with folder as name:
        part = Path(name) / "model.keras"  # Keras wants the suffix
        with room(), quiet():
            drawing.model.save(part)
        with recursion(drawing.depth):
            proof = prove(part, path, net, weights, drawing) if verify else None
        if proof is not None:
            refuse_wrong(proof, Path(path), net, weights)
        with atomic(path, force=force) as file, part.open("rb") as done:
            shutil.copyfileobj(done, file)
    if drawing.depth > DEEP and warnings is not None:
        warnings.append(
            f"{drawing.depth} layers lie one behind the other, more than Keras follows by itself; "
            f"who loads the file first calls sys.setrecursionlimit({drawing.depth + 1000})"
        )
    return proof


def prove(
    file: Path,
    target: str | os.PathLike[str],
    net: Net,
    weights: Mapping[str, Array],
    drawing: Drawing,
) -> Proof:
    """Run a file on a random input, and compare blobs with our own, in float64.

    ``target`` is what it will be called, ``drawing`` what it was made of.

    Raises:
        FormatError: Keras cannot load and run it.
    """
    from resnet_proto.engine import random_inputs

    net = net.at(phase="TEST").upgraded().filtered()
    inputs = random_inputs(net)
    try:
        ours = forward(net, weights, inputs, dtype="float64", outputs=list(drawing.blobs))
    except ResNetProtoError as error:
        return Proof(missing=f"our own forward pass does not run on random inputs: {error}")
    try:
        with quiet():
            model = import_keras().saving.load_model(file, safe_mode=True, compile=False)
            feeds = {name: inputs[blob] for blob, name in drawing.inputs.items()}
            theirs = run_model(model, feeds, drawing.blobs)
    except Exception as error:  # its errors have no class in common
        raise FormatError(f"{target}: Keras cannot load and run it: {one_line(error)}") from None
    return Proof(tuple(compare(theirs, ours)))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that Keras and its backends have for each other."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        yield


def one_line(error: Exception) -> str:
    """What an error says, its lines joined."""
    return " ".join(str(error).split())


def run_model(
    model: Any, inputs: Mapping[str, Array], blobs: Mapping[str, str]
) -> dict[str, Array]:
    """Blobs of a model, in Caffe's order of axes.

    Args:
        model: any of this module's, also when it has been loaded.
        inputs: arrays by the names of the model's inputs, in Caffe's order.
        blobs: name -> name of the Keras layer.
    """
    import numpy as np

    keras = import_keras()
    known = [x._keras_history.operation.name for x in model.inputs]
    every = keras.Model(model.inputs, [model.get_layer(name).output for name in blobs.values()])
    feeds = [np.moveaxis(x, 1, -1) if x.ndim == 4 else x for x in (inputs[name] for name in known)]
    values = every.predict_on_batch(feeds)
    return {
        name: np.moveaxis(value, -1, 1) if value.ndim == 4 else value
        for name, value in zip(blobs, values if isinstance(values, list) else [values], strict=True)
    }
