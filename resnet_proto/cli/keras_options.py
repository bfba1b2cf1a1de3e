"""What ``convert`` has for Keras: the command's part."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.engine_options import warn_ignored
from resnet_proto.cli.onnx_options import echo_model
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights


def convert_keras(
    weights: Weights, net: Net, target: str, *, verify: bool, force: bool, as_json: bool
) -> None:
    """Write a net as a Keras model, and say how far it is from our own forward pass."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow talks when it is imported
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from resnet_proto.engine.keras_model import import_keras, save_keras

    warn_ignored(weights, net)
    keras = import_keras()
    warnings: list[str] = []
    proof = save_keras(target, net, weights, verify=verify, force=force, warnings=warnings)
    for warning in warnings:
        click.echo(printable(f"Warning: {warning}"), err=True)
    backend = keras.config.backend()
    echo_model(target, proof, f"Keras on {backend}", as_json=as_json)
