"""Runs of a training log -> a table, JSON, CSV, and curves as the paper draws them."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import atomic
from resnet_proto.solver import learning_rate
from resnet_proto.training_log import SMOOTHED, TEST, TRAIN, Row, Run
from resnet_proto.words import columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = list[tuple[int, float]]
"""(iteration, value)."""
PICTURES = (".svg", ".png", ".pdf")
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")
EPOCH = re.compile(r"^#.* ([1-9][\d,]{0,12}) iterations an epoch", re.M)
"""How a solver of `gen` says how long an epoch is."""
INSIDE = 4
"""Curves of a panel whose legend has room within it."""
COLUMNS = ("run", "iteration", "phase", "net", "seconds", "lr")


def is_accuracy(name: str) -> bool:
    """Whether an output is an accuracy, so that 1 minus it is an error: by its name."""
    return "acc" in name.lower() or name.lower().startswith(("top1", "top5", "top-1", "top-5"))


def best(name: str, curve: Curve) -> tuple[int, float] | None:
    """The highest accuracy, or the lowest of anything else; None if no value is finite."""
    finite = [point for point in curve if math.isfinite(point[1])]
    choose = max if is_accuracy(name) else min
    return choose(finite, key=lambda point: point[1], default=None)


def diverged(run: Run) -> int | None:
    """The first iteration with a loss that is not finite."""
    bad = (r for r in run.rows if any(not math.isfinite(v) for v in r.values.values()))
    return next((row.iteration for row in bad), None)


def iteration_rate(run: Run) -> float | None:
    """Iterations per second, tests and snapshots included."""
    timed = [row for row in run.rows if row.seconds is not None]
    if not timed or timed[-1].seconds == timed[0].seconds:
        return None
    span = (timed[-1].seconds or 0) - (timed[0].seconds or 0)
    return (timed[-1].iteration - timed[0].iteration) / span


def nets(run: Run) -> list[tuple[str, int]]:
    """(phase, number) of each net that has rows, the trained one first."""
    trained = [(TRAIN, 0)] if any(row.phase == TRAIN for row in run.rows) else []
    return [*trained, *((TEST, net) for net in run.test_nets)]


def label(phase: str, net: int, run: Run) -> str:
    """``train``, ``test``, or ``test #1`` where several nets are tested."""
    return phase if phase == TRAIN or len(run.test_nets) == 1 else f"{phase} #{net}"


def table(run: Run) -> Iterator[str]:
    """What a run came to: the last and the best value of each output."""
    cells: list[tuple[str, ...]] = [("net", "output", "last", "best", "at iteration")]
    for phase, net in nets(run):
        for name, curve in run.outputs(phase, net).items():
            top = best(name, curve)
            found = ("-", "-") if top is None else (f"{top[1]:g}", f"{top[0]:,}")
            cells.append((label(phase, net, run), name, f"{curve[-1][1]:g}", *found))
    yield from columns(cells, left=2)
    yield f"{run.source}: {sentence(run)}"


def sentence(run: Run) -> str:
    """How far a run is, how long it took, and how it ended."""
    last = run.rows[-1].iteration if run.rows else run.parts[-1][0]
    words = [run.name or "a net without a name", f"iteration {last:,}"]
    if run.max_iter:
        words[-1] += f" of {run.max_iter:,}"
    if seconds := max((row.seconds or 0.0 for row in run.rows), default=0.0):
        words.append(f"{duration(seconds)} in all")
    if rate := iteration_rate(run):
        words.append(f"{rate:.3g} iterations/s")
        if run.max_iter and not run.end and last < run.max_iter:
            words.append(f"{duration((run.max_iter - last) / rate)} left if it still runs")
    words += [f"resumed at {start:,} from {origin}" for start, origin in run.parts if start]
    words += [f"finetuned from {origin}" for start, origin in run.parts if origin and not start]
    if (bad := diverged(run)) is not None:
        words.append(f"not finite from iteration {bad:,}: the learning rate may be too high")
    if run.end:
        words.append({"done": "done", "stopped": "stopped early"}.get(run.end, f"died: {run.end}"))
    return "; ".join(words)


def duration(seconds: float) -> str:
    """``41 s``, ``12 min 5 s``, ``3 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def as_json(run: Run) -> dict[str, Any]:
    """A run with all its rows; values that are not finite are null."""
    return {
        "source": run.source,
        "net": run.name,
        "max_iter": run.max_iter,
        "end": run.end,
        "parts": [{"iteration": start, "from": origin} for start, origin in run.parts],
        "rows": [
            {
                "iteration": row.iteration,
                "phase": row.phase,
                "net": row.net,
                "seconds": row.seconds,
                "lr": row.rate,
                "values": {k: v if math.isfinite(v) else None for k, v in row.values.items()},
            }
            for row in run.rows
        ],
    }


def to_csv(runs: Sequence[Run]) -> str:
    """A line for each row: ``COLUMNS``, then a column for each output of any run.

    A cell is empty where a row has no such value.
    """
    names = list(dict.fromkeys(name for run in runs for row in run.rows for name in row.values))
    text = io.StringIO()
    # an output's name may be that of a column of ours: the columns are told apart by their place
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for run in runs:
        for row in run.rows:
            writer.writerow([run.source, *cells(row), *(row.values.get(name) for name in names)])
    return text.getvalue()


def cells(row: Row) -> list[Any]:
    """A row's own columns."""
    seconds = row.seconds if row.seconds is None else round(row.seconds, 6)
    return [row.iteration, row.phase, row.net, seconds, row.rate]


def plot(path: str | os.PathLike[str], runs: Sequence[Run]) -> None:
    """Draw the curves of runs: errors in percent where there are accuracies, and losses.

    Train is thin and test is bold, as in the paper's figures; one colour for each run. Where
    the learning rate drops there is a dotted line, in the run's colour if the others' does not
    drop there too. One panel for each kind of output.

    Args:
        path: ``.svg``, ``.png`` or ``.pdf``.
        runs: those of ``read_logs``.

    Raises:
        ResNetProtoError: matplotlib is not installed, nothing is there to draw, or ``path`` cannot
            be written.
    """
    panels: dict[str, list[tuple[int, str, int, str, Curve]]] = {}
    for i, run in enumerate(runs):
        for phase, net in nets(run):
            outputs = run.outputs(phase, net)
            own = {name for row in run.rows for name in row.losses}
            for name, curve in outputs.items():
                if name == SMOOTHED and len(own & set(outputs)) == 1:
                    continue  # the output itself says the same, less smoothly
                kind = panel(name, own)
                if is_accuracy(name):
                    curve = [(at, 100 * (1 - value)) for at, value in curve]
                panels.setdefault(kind, []).append((i, phase, net, name, curve))
    if not panels:
        raise ResNetProtoError(f"{path}: nothing to draw: {runs[0].source} has no values yet")
    figure = new_figure(len(panels), wider=max(map(len, panels.values())) > INSIDE)
    order = sorted(panels, key=lambda kind: (not kind.startswith("error"), kind != "loss"))
    for axes, kind in zip(figure.axes, order, strict=True):
        draw(axes, kind, panels[kind], runs)
    save(path, figure)


def plot_rate(path: str | os.PathLike[str], text: str) -> None:
    """Draw the learning rate of a solver over its iterations, and epochs where it says them.

    Args:
        path: as for ``plot``.
        text: the solver. Of `gen`'s the comment says how many iterations an epoch has.

    Raises:
        PrototxtError: the text is no solver.
        ResNetProtoError: as for ``plot``; or the policy is unknown, or a field is missing.
    """
    from resnet_proto.text_format import parse

    fields = parse(text, "SolverParameter", source="the solver", lenient=True)
    end = fields.get("max_iter", 0)
    if end < 1 or learning_rate(fields, 0) is None:
        raise ResNetProtoError(
            f"{path}: no learning rate to draw; max_iter, base_lr, lr_policy and its fields set it"
        )
    # both sides of each step, and enough of the rest for a smooth curve
    sides = (at for step in fields.get("stepvalue", ()) for at in (step - 1, step))
    spread = range(0, end, max(1, end // 2000))
    at = sorted({*(x for x in sides if 0 <= x < end), *spread, end - 1})
    rates = [learning_rate(fields, x) or 0.0 for x in at]
    figure = new_figure(1)
    axes = figure.axes[0]
    axes.plot(at, rates, color=COLORS[0], linewidth=1.6, drawstyle="steps-post")
    if min(rates) > 0 and max(rates) > 20 * min(rates):
        axes.set_yscale("log")
    axes.set_xlim(0, end)
    axes.set_xlabel("iteration")
    axes.set_ylabel("learning rate")
    axes.grid(color="#e5e5e5", linewidth=0.6)
    if found := EPOCH.search(text):
        size = int(found[1].replace(",", ""))
        epochs = axes.twiny()
        epochs.set_xlim(0, end / size)
        epochs.set_xlabel("epoch")
    save(path, figure)


def panel(name: str, losses: set[str]) -> str:
    """The axis that an output is drawn on."""
    if is_accuracy(name):
        five = "5" in name
        return "error, top-5 (%)" if five else "error (%)"
    return "loss" if name in losses or name == SMOOTHED or "loss" in name.lower() else name


def draw(
    axes: Axes, kind: str, curves: list[tuple[int, str, int, str, Curve]], runs: Sequence[Run]
) -> None:
    """One panel."""
    names = {(phase, name) for _, phase, _, name, _ in curves if name != SMOOTHED}
    for i, phase, net, name, curve in curves:
        run = runs[i]
        words = [label(phase, net, run)]
        if len(runs) > 1:
            words.insert(0, titles(runs)[i])
        if len([n for p, n in names if p == phase]) > 1 or name == SMOOTHED:
            words.append(name)
        x, y = zip(*curve, strict=True)
        bold = phase == TEST
        axes.plot(
            x, y, color=COLORS[i % len(COLORS)], linewidth=2.2 if bold else 0.8,
            alpha=1 if bold else 0.75, label=plain(" ".join(words)),
            marker="o" if len(x) == 1 else None,
        )  # fmt: skip
    fallen: dict[int, list[int]] = {}
    for i, run in enumerate(runs):
        for at in drops(run):
            fallen.setdefault(at, []).append(i)
    for at, of in sorted(fallen.items()):  # of one run among several, in its colour
        color = COLORS[of[0] % len(COLORS)] if 1 == len(of) < len(runs) else "#999999"
        axes.axvline(at, color=color, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel(plain(kind))
    last = max((row.iteration for run in runs for row in run.rows), default=0)
    axes.set_xlim(0, last or None)  # the same for all panels
    if not any(math.isfinite(value) for *_, curve in curves for _, value in curve):
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])
    later = [value for *_, curve in curves for _, value in curve[1:] if math.isfinite(value)]
    if later and axes.get_ylim()[1] > 4 * max(later) > 0:
        axes.set_ylim(top=1.5 * max(later))  # a net that has learned nothing would hide the rest
    if kind.startswith("error"):
        axes.set_ylim(bottom=0)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    if len(curves) > INSIDE:
        axes.legend(
            frameon=False,
            fontsize="small",
            loc="upper left",
            bbox_to_anchor=(1, 1),
            borderaxespad=0,
        )
    else:
        axes.legend(edgecolor="none", framealpha=0.8, fontsize="small")


def plain(text: str) -> str:
    """A text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def titles(runs: Sequence[Run]) -> list[str]:
    """What the runs are called in a picture: by their nets, else their files, else their paths."""
    paths = [run.source.split(", ")[0] for run in runs]
    for names in ([run.name for run in runs], [Path(path).stem for path in paths]):
        if len(set(names)) == len(names) and all(names):
            return names
    return paths


def drops(run: Run) -> Iterator[int]:
    """Iterations at which the learning rate falls below half of what it was.

    A log has the rate at each ``display``. Where the log says what step lies between two of them,
    it is that, and else the later one.
    """
    rates = [(row.iteration, row.rate) for row in run.rows if row.rate is not None]
    steps = sorted(run.steps)
    for (before, high), (at, low) in pairwise(rates):
        if 0 < low < 0.5 * high:
            place = bisect(steps, before)
            own = at // run.stepsize * run.stepsize if run.stepsize else at
            yield next(step for step in (*steps[place : place + 1], own, at) if before < step <= at)


def new_figure(panels: int, *, wider: bool = False) -> Figure:
    """A figure with panels side by side.

    Raises:
        ResNetProtoError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ResNetProtoError("plots need matplotlib: pip install 'resnet-proto[plot]'") from None
    figure = Figure(figsize=((8.0 if wider else 6.4) * panels, 4.4), layout="constrained")
    for axes in figure.subplots(1, panels, squeeze=False).flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def save(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure, the same bytes for the same curves.

    Raises:
        ResNetProtoError: the suffix is of no picture, or the file cannot be written.
    """
    import matplotlib

    suffix = Path(path).suffix.lower()
    if suffix not in PICTURES:
        raise ResNetProtoError(f"{path}: a picture has the suffix {', '.join(PICTURES)}")
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with (
        matplotlib.rc_context({"svg.hashsalt": "resnet-proto", "svg.fonttype": "none"}),
        atomic(path) as file,
    ):
        figure.savefig(file, format=suffix[1:], dpi=150, metadata=dated.get(suffix))
