"""What ``forward`` and ``verify`` share: weights, engines, and where a run stops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.options import read_weights
from resnet_proto.engine import ENGINES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights

engine_choice = click.Choice(list(ENGINES))
weights_option = click.option(
    "--weights", required=True, metavar="FILE",
    help="Weights of any format (- is stdin), or 'random' (of sensible scale, see --seed).",
)  # fmt: skip
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="For whatever is random.",
)
caffe_python_option = click.option(
    "--caffe-python", metavar="PYTHON", envvar="CAFFE_PYTHON", show_envvar=True,
    help="A Python that can `import caffe`, for the engine caffe.",
)  # fmt: skip
until_option = click.option("--until", metavar="BLOB", help="Stop when this blob is complete.")


def weights_for(net: Net, weights: str, seed: int, inputs: Mapping[str, Array]) -> Weights:
    """The weights of a file, or random ones."""
    if weights == "random":
        from resnet_proto.engine.plain import given_shapes
        from resnet_proto.weights import random_weights

        return random_weights(net, seed, given_shapes(net, inputs))
    return read_weights(weights)


def number(value: float) -> float | None:
    """The value for JSON, which has no nan and no infinity."""
    return float(value) if math.isfinite(value) else None


def files(net: str, weights: str) -> dict[str, Any]:
    """The files themselves, for the engines that read files."""
    return {
        "net_file": None if net == "-" else Path(net),
        "weights_file": None if weights in ("random", "-") else Path(weights),
    }
