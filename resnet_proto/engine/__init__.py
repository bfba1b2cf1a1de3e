"""Net + weights + inputs -> every blob, by our own forward pass or by somebody else's.

``ENGINES`` is the one list of names that all commands share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resnet_proto.engine.others import Job, caffe, onnxruntime, opencv, torch
from resnet_proto.engine.plain import forward
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.layers import dims

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

__all__ = ["ENGINES", "Job", "forward", "random_inputs", "run"]


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
    """
    if engine not in ENGINES:
        raise ResNetProtoError(f"unknown engine '{engine}'; known: {', '.join(ENGINES)}")
    job = Job(net, weights, inputs, **options)
    for name, shape in net.inputs().items():
        if name not in inputs:
            raise NetError(f"input '{name}' is missing; the net needs {dims(shape)}")
    net.reaching(job.outputs, job.until)  # refuses a blob that is not there
    blobs = ENGINES[engine](job)
    if job.outputs is None:
        return blobs
    for name in job.outputs:
        if name not in blobs:
            raise ResNetProtoError(f"engine '{engine}' gives no blob '{name}'")
    return {name: blobs[name] for name in job.outputs}


def random_inputs(net: Net, seed: int = 0) -> dict[str, Array]:
    """An array for each input of the net: evenly spread over an image's range, mean removed."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(-128, 128, shape).astype(np.float32)
        for name, shape in net.inputs().items()
    }
