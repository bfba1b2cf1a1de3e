"""Solver state (and a net) -> iteration, history, whether they go together -> text or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resnet_proto.formats.solverstate import Fit, SolverState, fit_history
from resnet_proto.layers import Shape, dims
from resnet_proto.net import Net
from resnet_proto.report.inspect import Stats, fitted, measure, stats_cells
from resnet_proto.words import counted, printable


@dataclass(frozen=True)
class Row:
    """One blob of the history, and the parameter that it is of."""

    history: int
    shape: Shape
    dtype: str
    bytes: int
    parameter: str = ""
    stats: Stats | None = None


@dataclass(frozen=True)
class StateInspection:
    """What a solver state holds.

    Args:
        source: the file.
        iter: how many iterations are done.
        learned_net: the file of the weights.
        current_step: how many of the solver's ``stepvalue`` are behind.
        rows: the history.
        solvers: types of solver that can go on from it; None without a net.
        misfit: why Caffe does not go on with the net; empty if it does, or without one.
        unknown: what is not known of the net and would decide.
    """

    source: str
    iter: int
    learned_net: str
    current_step: int
    rows: list[Row]
    solvers: list[str] | None = None
    misfit: str = ""
    unknown: str = ""


def inspect(
    state: SolverState, net: Net | None = None, type: str | None = None, *, stats: bool = False
) -> StateInspection:
    """List what a state holds; values are read for ``stats`` only. ``type`` is the solver's."""
    fit = Fit((), ()) if net is None else fit_history(state, net, type)
    return StateInspection(
        state.source,
        state.iter,
        state.learned_net,
        state.current_step,
        [
            Row(i, b.shape, b.dtype, b.nbytes, fit.of(i), measure(b) if stats else None)
            for i, b in enumerate(state.history)
        ],
        None if net is None else list(fit.types),
        fit.reason,
        fit.unknown,
    )


def table(found: StateInspection, *, width: int | None = None) -> Iterator[str]:
    """The same as lines of text, for a terminal of this width."""
    with_stats = any(row.stats for row in found.rows)
    with_names = any(row.parameter for row in found.rows)
    head = ["history", *["parameter"] * with_names, "shape", "dtype", "bytes"]
    cells = [(*head, *(("min", "max", "mean", "not finite") if with_stats else ()))]
    for row in found.rows:
        name = [row.parameter] * with_names
        line = (str(row.history), *name, dims(row.shape), row.dtype, f"{row.bytes:,}")
        cells.append((*line, *(stats_cells(row.stats) if row.stats else ())))
    yield from fitted(cells, width=width)
    size = counted(sum(row.bytes for row in found.rows), "byte")
    yield printable(
        f"{found.source}: iter {found.iter:,}, current_step {found.current_step}, "
        f"{counted(len(found.rows), 'blob')} of history, {size}"
    )
    yield printable(f"learned_net: {found.learned_net or 'none'}")
    if found.solvers:
        yield f"solvers that keep such a history for this net: {', '.join(found.solvers)}"
    if found.unknown:
        yield printable(f"not known whether it fits: {found.unknown}")
    if found.misfit:
        yield printable(f"does not fit: {found.misfit}")
