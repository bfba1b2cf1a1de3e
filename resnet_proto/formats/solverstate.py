"""``.solverstate``, ``.solverstate.h5``: where a training was -> iteration, history.

Source: sgd_solver.cpp, SnapshotSolverState and RestoreSolverState. The history is one blob for
each parameter that is learned, in the net's order; AdaDelta and Adam keep as many again behind
them (adadelta_solver.cpp, AdaDeltaPreSolve; adam_solver.cpp, AdamPreSolve).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import FormatError
from resnet_proto.fit import Need, targets
from resnet_proto.formats.caffemodel import BYTES, MAX_ITEMS, VARINT, Walk, mapped, signed
from resnet_proto.layers import Layer, count, dims
from resnet_proto.net import labels
from resnet_proto.sniff import HDF5_MARK, HEAD, SOLVERSTATE, refuse
from resnet_proto.weights import Blob

if TYPE_CHECKING:
    from resnet_proto.net import Net

HISTORIES = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}
"""Type of solver -> blobs of history for each parameter that is learned."""


@dataclass(frozen=True)
class SolverState:
    """Where a training was.

    Args:
        source: the file.
        iter: how many iterations are done.
        learned_net: the file of the weights; Caffe looks for it in the current directory.
        current_step: how many of the solver's ``stepvalue`` are behind.
        history: what the solver keeps of each parameter; no value is read.
        hdf5: whether the file is HDF5, where Caffe compares shapes.
        close: let go of the file.
    """

    source: str
    iter: int
    learned_net: str
    current_step: int
    history: tuple[Blob, ...]
    hdf5: bool
    close: Callable[[], None]


def read_solverstate(path: str | os.PathLike[str]) -> SolverState:
    """The state that a file holds, binary or HDF5.

    Raises:
        FormatError: the file is damaged, or no solver state.
    """
    buffer, close = mapped(Path(path))
    try:
        if bytes(buffer[: len(HDF5_MARK)]) == HDF5_MARK:
            close()
            return read_hdf5(path)
        source = os.fspath(path)
        refuse(source, bytes(buffer[:HEAD]), SOLVERSTATE.what)
        fields, history = walk(Walk(buffer, source))
    except BaseException:
        close()
        raise
    return SolverState(
        source,
        fields.get(1, 0),
        fields.get(2, ""),
        fields.get(4, 0),
        tuple(history),
        False,
        close,
    )


def walk(walk: Walk) -> tuple[dict[int, Any], list[Blob]]:
    """The fields of a binary SolverState by their numbers, and the history."""
    at, stop = 0, len(walk.buffer)
    fields: dict[int, Any] = {}
    history: list[Blob] = []
    while at < stop:
        number, wire, start, end = walk.field(at, stop)
        if number in (1, 4):  # iter, current_step
            walk.expect("a number", VARINT, wire, at)
            fields[number] = signed(start)
        elif number == 2:
            walk.expect("learned_net", BYTES, wire, at)
            fields[number] = walk.text(start, end)
        elif number == 3:
            walk.expect("a blob", BYTES, wire, at)
            if len(history) >= MAX_ITEMS:
                raise walk.error(at, f"more than {MAX_ITEMS:,} blobs")
            name = str(len(history))
            history.append(walk.blob(start, end, ("history", "history", "", name)))
        at = end
    return fields, history


def read_hdf5(path: str | os.PathLike[str]) -> SolverState:
    """The state of an HDF5 file: iter, learned_net, current_step and a group history."""
    from resnet_proto.formats.hdf5 import opened_file

    source = os.fspath(path)
    with opened_file(source) as opened:
        root = opened.file["/"].id
        if not root.links.exists(b"history"):
            raise FormatError(f"{source}: no group 'history', so this is not a solver state")
        numbers = {}
        for name in ("iter", "current_step"):
            if not root.links.exists(name.encode()):
                raise FormatError(f"{source}: '{name}' is missing, without which Caffe ends")
            blob = opened.blob(opened.child(root, name.encode()), "", name, {})
            if blob.nbytes > 8 or blob.shape not in ((), (1,)) or blob.dtype[:1] not in "iu":
                raise FormatError(f"{source}: '{name}' is no whole number")
            numbers[name] = int(blob.array().reshape(-1)[0])
        learned_net = opened.text(root, "learned_net")
        datasets, groups = opened.members(opened.group(root, b"history"), b"history")
        if groups or len(datasets) != 1 + max(map(int, datasets), default=-1):
            raise FormatError(f"{source}: the history is not numbered 0, 1, ...; get it again")
        history = opened.numbered(datasets, "history", {})
        return SolverState(
            source, numbers["iter"], learned_net, numbers["current_step"], tuple(history), True,
            opened.close,
        )  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """Whether a history is that of a net.

    Args:
        learned: name of each parameter that the net learns, in order.
        types: the solvers that take so many blobs.
        reason: why Caffe ends, or would compute nonsense; empty if the history fits.
        unknown: what is not known and would decide; then there are no types.
    """

    learned: tuple[str, ...]
    types: tuple[str, ...]
    reason: str = ""
    unknown: str = ""

    def of(self, i: int) -> str:
        """The parameter of a blob of the history; empty if they do not go together."""
        return self.learned[i % len(self.learned)] if self.types else ""


def fit_history(state: SolverState, net: Net, solver: str | None = None) -> Fit:
    """Whether Caffe goes on from a state with this net.

    It compares how many blobs there are, and with HDF5 also their shapes; a binary blob of another
    size is taken as it is, and the training reads and writes past its end.

    Args:
        state: of any file.
        net: as it is trained; its layers of phase TRAIN count.
        solver: its type; any if None.

    Raises:
        NetError: the net cannot be walked.
    """
    net = net.at(phase="TRAIN")
    wanted, _, unknown = targets(net)
    shared = net.sharing()
    learned = [
        (f"{label}.{name}", need)
        for label, needs in wanted.items()
        for name, need in needs.items()
        if shared.get(label, {}).get(name, (f"{label}.{name}",))[0] == f"{label}.{name}"
    ]
    layers = net.upgraded().filtered().layers
    for layer, label in zip(layers, labels(layer.name for layer in layers), strict=True):
        bare = type(layer) is not Layer and type(layer).blob_shapes is Layer.blob_shapes
        if label not in wanted and not bare:  # data and losses have no blobs
            return Fit((), (), unknown=f"how many blobs layer '{label}' has: {unknown[label]}")
    size = len(state.history)
    each = {name: n for name, n in HISTORIES.items() if solver in (None, name)}
    types = tuple(name for name, n in each.items() if size == n * len(learned) > 0)
    names = tuple(name for name, _ in learned)
    if not types:
        counts = sorted({n * len(learned) for n in each.values()})
        return Fit(
            names, (),
            f"{size} blobs of history, and {solver or 'a solver'} keeps "
            f"{' or '.join(map(str, counts))} for this net: Caffe ends",
        )  # fmt: skip
    return Fit(names, types, wrong_shape(state, learned))


def wrong_shape(state: SolverState, learned: Sequence[tuple[str, Need]]) -> str:
    """The first blob of another shape than its parameter, and what comes of it; or empty."""
    for i, blob in enumerate(state.history):
        name, need = learned[i % len(learned)]
        same = Need(need.shapes).met_by(blob._replace(legacy=False, shapeless=False))
        if not state.hdf5 and need.known:
            same = count(need.shapes[0]) == count(blob.shape)
        if not same:
            then = "Caffe ends" if state.hdf5 else "Caffe takes it, and computes past its end"
            return f"history {i} is {dims(blob.shape)}, {name} is {need.text()}: {then}"
    return ""
