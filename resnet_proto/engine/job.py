"""A net, its weights and what goes in, as engines are given them; as files for some of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_proto.errors import (
    ResNetProtoError,
    UnknownLayerError,
    UnknownShapeError,
    WeightsError,
)
from resnet_proto.fit import step_blobs, targets
from resnet_proto.net import labels
from resnet_proto.state import DEFAULT
from resnet_proto.weights import Weights, split

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

TIMEOUT = 600.0
"""Seconds that an engine in another process may take."""


@dataclass(frozen=True)
class Job:
    """One forward pass: what goes in, and how far it goes.

    Args:
        net: in a state of phase TEST. ``net_file`` is the prototxt it was read from, if any.
        weights: ``<layer>.<blob>`` -> array. ``weights_file`` is where they come from.
        inputs: blob name -> array.
        outputs: the blobs that are wanted; all if None.
        until: stop after the last layer that writes this blob.
        caffe_python: a Python that can ``import caffe``; else CAFFE_PYTHON names it.
        timeout: seconds.
    """

    net: Net
    weights: Mapping[str, Array]
    inputs: Mapping[str, Array]
    outputs: Sequence[str] | None = None
    until: str | None = None
    net_file: Path | None = None
    weights_file: Path | None = None
    caffe_python: str | None = None
    timeout: float = TIMEOUT

    def files(
        self, folder: Path, dtypes: Sequence[str] = ("float32", "float64"), *, plain: bool = False
    ) -> tuple[Path, Path]:
        """Prototxt and caffemodel: the user's own, else written into ``folder``.

        ``dtypes`` are those that the engine reads. ``plain`` is for one that has no states and
        shares no weights: its net has the layers of the state only, and each its own weights.

        Raises:
            ResNetProtoError: two layers with weights have one name.
        """
        check_names(self.net)
        net, weights = self.net_file, self.weights_file
        if plain and self.net.sharing():
            weights = None
        if net is None or (plain and self.net.state != DEFAULT):
            from resnet_proto.prototxt import to_prototxt

            net = folder / "net.prototxt"
            text = to_prototxt(self.net.settled() if plain else self.net)
            net.write_text(text, encoding="utf-8")
        stored = Weights.of(self.weights)
        readable = all(blob.dtype in dtypes for blob in stored.blobs.values())
        if weights is None or weights.suffix != ".caffemodel" or stored.hdf5 or not readable:
            from resnet_proto.formats import save

            weights = folder / "net.caffemodel"
            save(weights, whole(self.weights, self.net), self.net)
        return net.absolute(), weights.absolute()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for files on their way to another program.

    Raises:
        ResNetProtoError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="resnet-proto-") as name, written(Path(name)):
        yield Path(name)


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """What goes wrong while files are written into a folder.

    Raises:
        ResNetProtoError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        problem = error.strerror or error
        raise ResNetProtoError(f"{folder}: cannot be written: {problem}") from None


def check_names(net: Net) -> None:
    """Refuse what others than we would mix up without a word.

    Raises:
        ResNetProtoError: two layers with weights have one name.
    """
    wanted, first, _ = targets(net)
    firsts, shared = set(first.values()), net.sharing()
    for label, shapes in wanted.items():
        if set(shapes) - set(shared.get(label, ())) and label not in firsts:
            raise ResNetProtoError(
                f"layer '{label}' is the second of its name: Caffe and OpenCV give the weights "
                "of both to the first; give each layer a name of its own"
            )


def whole(weights: Mapping[str, Array], net: Net) -> dict[str, Array]:
    """Float32 weights for every layer of a net, and for no other.

    Others want all of them; where there are none that fit, in layers that nobody needs, they
    get zeros. Layers of types that are not known here, and those behind them, have what is
    stored for them.
    """
    import numpy as np

    arrays: dict[str, Array] = {}
    rest = set(labels(layer.name for layer in net.upgraded().filtered().layers))
    with suppress(UnknownLayerError, UnknownShapeError):
        for step in net.walk():
            rest.remove(step.label)
            try:
                values = step_blobs(step, weights, "float32")
            except WeightsError:
                values = [np.zeros(shape, np.float32) for shape in step.blobs.values()]
            names = (f"{step.label}.{name}" for name in step.blobs)
            arrays.update(zip(names, values, strict=True))
    return arrays | {key: value for key, value in weights.items() if split(key)[0] in rest}
