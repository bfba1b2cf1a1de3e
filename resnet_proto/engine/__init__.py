"""Net + weights + inputs -> every blob, by our own forward pass or by somebody else's.

``ENGINES`` is the one list of names that all commands share; ``start`` opens one for many runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.engine.job import TIMEOUT, Job
from resnet_proto.engine.others import Caffe, OnnxRuntime, OpenCV, Torch
from resnet_proto.engine.plain import check_test_net, cut, forward, name_list, random_inputs
from resnet_proto.engine.running import (
    Float64,
    Numpy,
    Running,
    check_weights,
    checked,
    chosen,
    needed_inputs,
)
from resnet_proto.errors import ResNetProtoError
from resnet_proto.fit import named

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

__all__ = [
    "ENGINES", "Job", "Running", "forward", "needed_inputs", "random_inputs", "run", "start",
]  # fmt: skip

KINDS: dict[str, type[Running]] = {
    kind.engine: kind for kind in (Numpy, Float64, Caffe, OpenCV, OnnxRuntime, Torch)
}


def once(kind: type[Running]) -> Callable[[Job], dict[str, Array]]:
    """Open an engine for one job, each layer as it is written."""

    def run_once(job: Job) -> dict[str, Array]:
        with kind(job, exact=True) as running:
            return running.run(job.inputs)

    return run_once


ENGINES: dict[str, Callable[[Job], dict[str, Array]]] = {
    name: once(kind) for name, kind in KINDS.items()
}


def check_engine(engine: str) -> None:
    """Refuse a name that no engine has."""
    if not isinstance(engine, str) or engine not in ENGINES:
        raise ResNetProtoError(f"unknown engine '{engine}'; known: {', '.join(ENGINES)}")


def start(
    engine: str,
    net: Net,
    weights: Mapping[str, Array],
    *,
    outputs: Sequence[str],
    net_file: Path | None = None,
    weights_file: Path | None = None,
    caffe_python: str | None = None,
    timeout: float = TIMEOUT,
) -> Running:
    """Open an engine for many runs of a net, as fast as it can.

    numpy, onnxruntime and torch run the net with BatchNorm and Scale folded, onnxruntime and OpenCV
    join what else they can. So blobs differ from those of ``run`` by rounding.

    Args:
        engine: one of ``ENGINES``.
        net: at phase TEST.
        weights: arrays by ``<layer>.<blob>``.
        outputs: names of the blobs that each run gives, at least one.
        net_file: the prototxt that the net was read from, if any; for caffe and opencv.
        weights_file: where the weights come from, likewise.
        caffe_python: a Python that can ``import caffe``; else CAFFE_PYTHON names it.
        timeout: seconds that a run may take in another process.

    Raises:
        ResNetProtoError: the engine is missing, or refuses the net.
        NetError: no blob has a name asked for.
        WeightsError: a layer that is needed has no weights, or others.
    """
    check_engine(engine)
    check_test_net(net)
    names = name_list(outputs)
    if not names:
        raise ResNetProtoError("outputs is empty; name the blobs that each run is to give")
    with net.named():
        cut(net, names, None)
        job = Job(
            net,
            named(weights, net),
            {},
            names,
            net_file=net_file,
            weights_file=weights_file,
            caffe_python=caffe_python,
            timeout=timeout,
        )
        check_weights(job)
        return KINDS[engine](job)


def run(
    engine: str, net: Net, weights: Mapping[str, Array], inputs: Mapping[str, Array], **options: Any
) -> dict[str, Array]:
    """The blobs that the engine of this name gives; everything else is as in ``Job``.

    Raises:
        ResNetProtoError: the engine is missing, refuses the net, or lacks a blob of ``outputs``.
        NetError: no blob has a name asked for, or an input does not fit.
        WeightsError: a layer that is needed has no weights, or others.
    """
    check_engine(engine)
    with net.named():
        job = checked(Job(net, named(weights, net), inputs, **options))
        if job.outputs == ():
            return {}
        blobs = ENGINES[engine](job)
    return blobs if job.outputs is None else chosen(engine, blobs, job.outputs)
