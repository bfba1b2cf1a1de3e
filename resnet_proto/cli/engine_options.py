"""What ``forward`` and ``verify`` share: weights, engines, and where a run stops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.engine import ENGINES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

engine_choice = click.Choice(list(ENGINES))
weights_option = click.option(
    "--weights", required=True, metavar="FILE",
    help="Weights of any format, or 'random' (of sensible scale, see --seed).",
)  # fmt: skip
seed_option = click.option(
    "--seed", default=0, show_default=True, help="For random weights and inputs."
)
caffe_python_option = click.option(
    "--caffe-python", metavar="PYTHON", envvar="CAFFE_PYTHON", show_envvar=True,
    help="A Python that can `import caffe`, for the engine caffe.",
)  # fmt: skip
until_option = click.option("--until", metavar="BLOB", help="Stop when this blob is complete.")


def read_weights(net: Net, weights: str, seed: int) -> Mapping[str, Array]:
    """The weights of a file, or random ones."""
    if weights == "random":
        from resnet_proto.weights import random_weights

        return random_weights(net, seed)
    from resnet_proto.formats import load

    return load(Path(weights))


def files(net: str, weights: str) -> dict[str, Any]:
    """The files themselves, for the engines that read files."""
    return {
        "net_file": None if net == "-" else Path(net),
        "weights_file": None if weights == "random" else Path(weights),
    }
