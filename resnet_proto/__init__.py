"""Residual networks in Caffe: generate nets, convert their weights, verify both.

    spec -> Net -> prototxt                  PRESETS, ResNetSpec; deploy_net, to_prototxt
    prototxt -> Net                          read_prototxt; read_solver, of those of a solver
    type and fields -> Layer                 make_layer
    weight file <-> Weights                  load, save, convert
    Net -> Weights, drawn at random          random_weights
    Net -> rows and totals                   summarize
    Net + Weights + inputs -> blobs          forward; Plan, to run a net many times
    Net + Weights + images -> classes        Classifier
    Net + Weights -> torch.nn.Module         to_torch
    Net + Weights -> keras.Model             to_keras
    Net + Weights -> onnx.ModelProto         to_onnx
    torchvision's or timm's weights
        -> Net + Weights                     net_of_state_dict

Everything is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be imported before the command line minds Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from resnet_proto.build import deploy_net
    from resnet_proto.engine import forward
    from resnet_proto.engine.keras_model import to_keras
    from resnet_proto.engine.planned import Plan
    from resnet_proto.engine.torch_module import to_torch
    from resnet_proto.errors import ResNetProtoError
    from resnet_proto.evaluate.classifier import Classifier
    from resnet_proto.formats import convert, load, save
    from resnet_proto.formats.onnx import to_onnx
    from resnet_proto.layers import Layer, make_layer
    from resnet_proto.net import Net
    from resnet_proto.presets import PRESETS
    from resnet_proto.prototxt import read_prototxt, to_prototxt
    from resnet_proto.report.summary import Summary, summarize
    from resnet_proto.solver import Solver, read_solver
    from resnet_proto.spec import ResNetSpec
    from resnet_proto.state_dict import net_of_state_dict
    from resnet_proto.weights import Weights, random_weights

    __version__: str

__all__ = [
    "PRESETS",
    "Classifier",
    "Layer",
    "Net",
    "Plan",
    "ResNetProtoError",
    "ResNetSpec",
    "Solver",
    "Summary",
    "Weights",
    "__version__",
    "convert",
    "deploy_net",
    "forward",
    "load",
    "make_layer",
    "net_of_state_dict",
    "random_weights",
    "read_prototxt",
    "read_solver",
    "save",
    "summarize",
    "to_keras",
    "to_onnx",
    "to_prototxt",
    "to_torch",
]

HOMES = {
    "PRESETS": "presets",
    "Classifier": "evaluate.classifier",
    "Layer": "layers",
    "Net": "net",
    "Plan": "engine.planned",
    "ResNetProtoError": "errors",
    "ResNetSpec": "spec",
    "Solver": "solver",
    "Summary": "report.summary",
    "Weights": "weights",
    "convert": "formats",
    "deploy_net": "build",
    "forward": "engine",
    "load": "formats",
    "make_layer": "layers",
    "net_of_state_dict": "state_dict",
    "random_weights": "weights",
    "read_prototxt": "prototxt",
    "read_solver": "solver",
    "save": "formats",
    "summarize": "report.summary",
    "to_keras": "engine.keras_model",
    "to_onnx": "formats.onnx",
    "to_prototxt": "prototxt",
    "to_torch": "engine.torch_module",
}


def __getattr__(name: str) -> Any:
    """The public name, from the module that holds it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("resnet-proto")
    if name not in HOMES:
        raise AttributeError(f"module 'resnet_proto' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"resnet_proto.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
