"""Net + weights + inputs -> every blob, by our own forward pass or by somebody else's.

``ENGINES`` is the one list of names that all commands share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resnet_proto.engine.others import Job, caffe, onnxruntime, opencv, torch
from resnet_proto.engine.plain import Schedule, check_inputs, cut, forward, given_shapes, name_list
from resnet_proto.errors import ResNetProtoError, UnknownLayerError, UnknownShapeError
from resnet_proto.weights import Weights, exact, fit, named, step_blobs

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

__all__ = ["ENGINES", "Job", "forward", "needed_inputs", "random_inputs", "run"]


def planned(job: Job) -> dict[str, Array]:
    """Ours, fast: float32, BatchNorm and Scale folded into the convolution before them."""
    from resnet_proto.engine.planned import Plan

    return Plan(job.net, job.weights).run(job.inputs, outputs=job.outputs, until=job.until)


def float64(job: Job) -> dict[str, Array]:
    """Ours, plain: each layer's definition in float64."""
    return forward(
        job.net, job.weights, job.inputs, dtype="float64", outputs=job.outputs, until=job.until
    )


ENGINES: dict[str, Callable[[Job], dict[str, Array]]] = {
    "numpy": planned,
    "float64": float64,
    "caffe": caffe,
    "opencv": opencv,
    "onnxruntime": onnxruntime,
    "torch": torch,
}


def run(
    engine: str, net: Net, weights: Mapping[str, Array], inputs: Mapping[str, Array], **options: Any
) -> dict[str, Array]:
    """The blobs that the engine of this name gives; everything else is as in ``Job``.

    Raises:
        ResNetProtoError: the engine is missing, refuses the net, or lacks a blob of ``outputs``.
        NetError: no blob has a name asked for, or an input does not fit.
        WeightsError: a layer that is needed has no weights, or others.
    """
    if engine not in ENGINES:
        raise ResNetProtoError(f"unknown engine '{engine}'; known: {', '.join(ENGINES)}")
    with net.named():
        job = checked(Job(net, named(weights, net), inputs, **options))
        if job.outputs == ():
            return {}
        blobs = ENGINES[engine](job)
    if job.outputs is None:
        return blobs
    for name in job.outputs:
        if name not in blobs:
            raise ResNetProtoError(f"engine '{engine}' gives no blob '{name}'")
    return {name: blobs[name] for name in job.outputs}


def checked(job: Job) -> Job:
    """A job whose names, inputs and weights fit the net, with the inputs that it needs.

    Others than we leave a layer without weights at its filler, and say nothing. Layers of types
    that are not known here, and those behind them, are left to the engine; so is what data
    layers read.
    """
    job = replace(job, outputs=name_list(job.outputs))
    net, wanted = cut(job.net, job.outputs, job.until)
    given = replace(net, layers=tuple(la for la in net.needed(wanted).layers if la.type == "Input"))
    names = needed_inputs(job.net, job.outputs, job.until)
    inputs = check_inputs(job.net, Schedule.of(given, names, None), job.inputs, "float64")
    data = {name: job.inputs[name] for name in net.data_tops() if name in job.inputs}
    with suppress(UnknownLayerError, UnknownShapeError):
        for step in net.walk(shapes=given_shapes(net, job.inputs), wanted=wanted):
            if isinstance(job.weights, Weights):
                fit(job.weights, step.label, exact(step.blobs), step.shared)
            else:
                step_blobs(step, job.weights, "float32")
    return replace(job, inputs=data | inputs)


def needed_inputs(net: Net, outputs: Iterable[str] | None, until: str | None) -> dict[str, Shape]:
    """Name and shape of each input that a request needs.

    Raises:
        NetError: no blob has a name asked for.
    """
    shown, wanted = cut(net, outputs, until)
    part = shown.needed(wanted)
    read = {name for layer in part.layers for name in layer.bottoms} | {*wanted}
    return {name: shape for name, shape in part.inputs().items() if name in read}


def random_inputs(net: Net, seed: int = 0) -> dict[str, Array]:
    """An array for each input of the net: evenly spread over an image's range, mean removed."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(-128, 128, shape).astype(np.float32)
        for name, shape in net.inputs().items()
    }
