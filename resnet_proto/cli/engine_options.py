"""What commands that run a net share: weights and inputs, engines, and where a run stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.image_options import is_array, of_release, read_inputs
from resnet_proto.cli.options import carries_net, file_to_read, read_weights, say_once, whole
from resnet_proto.engine import ENGINES
from resnet_proto.errors import (
    NetError,
    ShapeError,
    UnknownLayerError,
    UnknownShapeError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.weights import Weights

engine_choice = click.Choice(list(ENGINES))
weights_option = click.option(
    "--weights", required=True, metavar="FILE", callback=file_to_read,
    help="Weights in any format (- is stdin), or 'random' (well scaled).",
)  # fmt: skip
seed_option = click.option(
    "--seed",
    type=whole(0),
    default=0,
    show_default=True,
    help="Seed for random weights and inputs.",
)
caffe_python_option = click.option(
    "--caffe-python", metavar="PYTHON", envvar="CAFFE_PYTHON", show_envvar=True,
    help="Python that can `import caffe`, for the engine caffe.",
)  # fmt: skip
until_option = click.option("--until", metavar="BLOB", help="Stop when this blob is complete.")


def weights_for(
    net: Net,
    weights: str,
    seed: int,
    inputs: Mapping[str, Array],
    outputs: Sequence[str] | None = None,
    until: str | None = None,
) -> Weights:
    """The weights of a file, or random ones; the blobs asked for need layers that are known."""
    if weights.lower() == "random" != weights and not Path(weights).exists():
        raise click.UsageError(f"--weights {weights}: no such file; did you mean random?")
    if weights != "random":
        given = read_weights(weights)
        warn_ignored(given, net)
        return given
    from resnet_proto.engine.plain import cut, given_shapes
    from resnet_proto.weights import random_weights

    shapes = given_shapes(net, inputs)
    try:
        return random_weights(net, seed, shapes)
    except (UnknownLayerError, ShapeError):  # maybe behind what is wanted
        shown, wanted = cut(net, outputs, until)
        return random_weights(shown, seed, shapes, wanted)


def inputs_and_weights(
    net: Net,
    weights: str,
    seed: int,
    inputs: Sequence[str],
    image: ImageOptions,
    outputs: Sequence[str] | None = None,
    until: str | None = None,
    arrays: Mapping[str, Array] | None = None,
) -> tuple[dict[str, Array], Weights, ImageOptions]:
    """What goes into a net, those of ``arrays`` where no input is given; weights, image options.

    Weights of a model that others have released bring its image options with them.

    Raises:
        click.UsageError: an input that ``outputs`` need is missing.
    """
    from resnet_proto.engine import needed_inputs
    from resnet_proto.evaluate.released import known_release
    from resnet_proto.layers import dims

    stored = None if weights == "random" else weights_for(net, weights, seed, {})
    if stored is not None and not all(map(is_array, inputs)):
        image = of_release(image, known_release(net, stored), weights)
    found = {**(arrays or {}), **read_inputs(net, inputs, image)}
    for name, shape in needed_inputs(net, outputs, until).items() if outputs else ():
        if name not in found:
            raise click.UsageError(f"input '{name}' ({dims(shape)}) is missing; give --input FILE")
    if stored is None:
        stored = weights_for(net, weights, seed, found, outputs, until)
    return found, stored, image


def check_room(
    net: Net, engines: Sequence[str], outputs: Sequence[str] | None = None, until: str | None = None
) -> None:
    """Refuse a run whose blobs would not fit into memory, before any of them is made.

    Args:
        net: as it is run. Of one that reads data the shapes are not known yet.
        engines: whose blobs are there together.
        outputs: the blobs wanted; with None all are kept, else what one layer reads or writes is
            what is there at least.
        until: as for ``engine.run``.

    Raises:
        ResNetProtoError: they would not.
        NetError: the net cannot be run.
    """
    from resnet_proto import memory
    from resnet_proto.engine.plain import Schedule

    if net.data_tops():
        return
    with suppress(UnknownLayerError, UnknownShapeError):  # another engine may know the layer
        values = Schedule.of(net, outputs, until).together(kept=outputs is None)
        size = values * sum(8 if engine == "float64" else 4 for engine in engines)
        what = f"{net.source}: its blobs in {' and '.join(engines)}"
        memory.check_room(size, what, "give a smaller --input-shape, or --until")


def warn_ignored(weights: Weights, net: Net) -> None:
    """Say on stderr that weights have layers which the net lacks: they may be another net's.

    What only Caffe ignores, layers in HDF5 with a slash in their names, is read here.
    """
    from resnet_proto.fit import match

    with suppress(NetError):  # the run says it, if it needs that layer
        own = {layer.name for layer in net.upgraded().filtered().layers}
        ignored = [row.layer for row in match(weights, net) if row.verdict == "ignored"]
        ignored = [name for name in ignored if name not in own]
        if ignored:
            more = f" and {len(ignored) - 1} more" if len(ignored) > 1 else ""
            say_once(
                f"Warning: {weights.source} has weights for layer '{ignored[0]}'{more}, which "
                "the net lacks; are they of another net? `resnet-proto inspect` with --net "
                "lists every layer"
            )


def number(value: float) -> float | None:
    """The value for JSON, which has no nan and no infinity."""
    return float(value) if math.isfinite(value) else None


def files(net: str, weights: str) -> dict[str, Any]:
    """The files themselves, for the engines that read files."""
    from resnet_proto.prototxt import read_text
    from resnet_proto.solver import is_solver

    own = net != "-" and not carries_net(net) and not is_solver(read_text(net))
    return {
        "net_file": Path(net) if own else None,
        "weights_file": None if weights in ("random", "-") else Path(weights),
    }
