"""A net that was made of a state dict, against the package's own model with that state dict.

net -> spec -> model.py -> the package's module -> its logits; ours from the net, in float64
"""

from __future__ import annotations

import runpy
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.engine import forward, random_inputs
from resnet_proto.engine.compare import Row, compare
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.foreign import PACKAGES, model_of, model_text
from resnet_proto.recognize import recognize
from resnet_proto.state_dict import stripped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights

SIDE = 97
"""Rows and columns of the image where the net takes any; odd ones, at which sizes round."""


DECLARED: list[Any] = []
"""Libraries of ops; they last as long as the objects."""


class NotRunError(ResNetProtoError):
    """The package's own model cannot be had; the message says why."""


def prove(
    net: Net, weights: Mapping[str, Array], state: Weights, packages: Sequence[str] = PACKAGES
) -> tuple[str, Row]:
    """How far a net's logits are from those of the model that has its weights as a state dict.

    Args:
        net: as ``net_of_state_dict`` gives it, or the one that ``foreign.save_for`` was given.
        weights: they fit the net.
        state: the state dict.
        packages: whose model; the last that has one.

    Returns:
        the package, and the row of the logits: the net against the model, both in float64, on a
        random image.

    Raises:
        NotRunError: no package has the model, or none that has it can be imported.
    """
    net = small(net)
    package, text = their_text(net, packages)
    inputs = random_inputs(net)
    logits = next(layer.tops[0] for layer in net.layers[::-1] if layer.type == "InnerProduct")
    try:
        theirs = their_logits(text, state, next(iter(inputs.values())))
    except Exception as error:  # of torch, which has no class for its own
        raise NotRunError(f"{package}'s model fails: {str(error)[:200]}") from None
    ours = forward(net, weights, inputs, dtype="float64", outputs=[logits])
    (row,) = compare(ours, {logits: theirs})
    return package, row


def small(net: Net) -> Net:
    """The net for an image of ``SIDE``, if it is for a larger one and its pooling takes any map."""
    ((name, (n, channels, side, _)),) = net.inputs().items()
    pools = [layer for layer in net.layers if layer.type == "Pooling"]
    if side <= SIDE or not pools[-1].param.get("global_pooling"):
        return net
    return net.with_input_shapes({name: (n, channels, SIDE, SIDE)})


def their_text(net: Net, packages: Sequence[str]) -> tuple[str, str]:
    """The last package that has the net and can be imported, and the lines that build it."""
    spec = replace(recognize(net), name="")
    reasons = []
    for package in reversed(packages):  # timm has more
        try:
            model = model_of(package, spec)
            imported(model.module)
            return package, model_text(package, model, spec, "the weights")
        except NetError as error:
            reasons.append(str(error))
        except Exception as error:  # whatever a broken package raises
            reasons.append(f"{package} cannot be imported: {str(error)[:200]}")
    raise NotRunError("; ".join(reasons))


def imported(module: str) -> None:
    """Import a module of a package.

    Torchvision's ops are compiled for one torch. Beside another they are missing, and it cannot be
    imported, though its classifiers need none of them; so those that it looks for are declared.
    """
    try:
        import_module(module)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import torch

        DECLARED.append(torch.library.Library("torchvision", "DEF"))
        for op in ("nms", "qnms"):
            DECLARED[-1].define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_module(module)


def their_logits(text: str, state: Weights, image: Array) -> Array:
    """What the model of these lines makes of an image, in float64."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.py"
        path.write_text(text)
        model = runpy.run_path(str(path))["make_model"]()
    arrays = {key: blob.array().copy() for key, blob in stripped(state.blobs).items()}
    model.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    with torch.inference_mode():
        found: Array = model.double()(torch.tensor(image, dtype=torch.float64)).numpy()
    return found
