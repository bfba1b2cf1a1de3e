"""Recipe -> the solvers that ``caffe train`` takes, line by line, and how to start them.

Iterations come from epochs, images and batch, so that they agree with each other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from resnet_proto.recipe import RECIPES, Training
from resnet_proto.words import Word

NET = "train_val.prototxt"


class Line(NamedTuple):
    """One field of a solver, and why it has this value."""

    field: str
    value: Any
    comment: str = ""


class SolverFile(NamedTuple):
    """One solver file: its lines, and what is to be said above them."""

    lines: tuple[Line, ...]
    comments: tuple[str, ...]


def solvers(training: Training, prefix: str) -> dict[str, SolverFile]:
    """Each solver by its file's name; with a warm-up there are two.

    Stock Caffe has no warm-up, so the second goes on from the first one's snapshot: that is how
    the paper's authors did it (section 4.2).

    Args:
        training: the recipe.
        prefix: what snapshots are called.
    """
    files = {"solver.prototxt": main_solver(training, prefix)}
    if training.warm_up_iterations:
        files["solver_warmup.prototxt"] = warm_up_solver(training, prefix)
    return files


def main_solver(t: Training, prefix: str) -> SolverFile:
    """The solver of the whole training."""
    lines = [
        *nets(t),
        Line("base_lr", t.base_lr, source(t, "base_lr")),
        *policy(t),
        Line("max_iter", t.max_iter, f"{epochs(t.epochs)}{and_source(t, 'epochs')}"),
        *common(t, t.max_iter),
        snapshots(t),
        Line("snapshot_prefix", prefix),
        *mode(t),
    ]
    return SolverFile(tuple(lines), tuple(about(t)))


def warm_up_solver(t: Training, prefix: str) -> SolverFile:
    """The first iterations with a lower rate; its last snapshot is where the other begins."""
    lines = [
        *nets(t),
        Line("base_lr", t.warm_up_lr, source(t, "warm_up_lr")),
        Line("lr_policy", "fixed"),
        Line("max_iter", t.warm_up_iterations, source(t, "warm_up_iterations")),
        *common(t, t.warm_up_iterations),
        Line("snapshot", t.warm_up_iterations),
        Line("snapshot_prefix", prefix),
        *mode(t),
    ]
    after = "then: caffe train --solver solver.prototxt --snapshot"
    comment = f"{after} {prefix}_iter_{t.warm_up_iterations}.solverstate"
    return SolverFile(tuple(lines), (*about(t), comment))


def nets(t: Training) -> list[Line]:
    """What is trained, and tested where the same file says how."""
    if t.launcher == "py-faster-rcnn":
        return [Line("train_net", NET, "tools/test_net.py tests, with deploy.prototxt")]
    return [Line("net", NET), *testing(t)]


def snapshots(t: Training) -> Line:
    """How often the weights are kept."""
    if t.launcher == "py-faster-rcnn":
        return Line("snapshot", 0, "tools/train_net.py makes its own")
    return Line("snapshot", t.iterations(t.snapshot_epochs) if t.snapshot_epochs else 0)


def testing(t: Training) -> list[Line]:
    """How long a test is, and how often there is one."""
    covered = t.test_iter * t.even_test_batch
    again = f", {covered - t.test_images} of them twice" if covered > t.test_images else ""
    return [
        Line(
            "test_iter",
            t.test_iter,
            f"x {t.even_test_batch} images = {t.test_images:,}{again}",
        ),
        Line("test_interval", t.iterations(t.test_epochs), epochs(t.test_epochs)),
        Line("test_initialization", False),
    ]


def policy(t: Training) -> list[Line]:
    """How the learning rate falls: sgd_solver.cpp, GetLearningRate."""
    lines = [Line("lr_policy", t.policy)]
    if t.policy in ("multistep", "step"):
        lines.append(Line("gamma", t.gamma, source(t, "gamma")))
    if t.policy == "multistep":
        for i, drop in enumerate(t.drops):
            why = f"{epochs(drop)}{and_source(t, 'drops') if i == 0 else ''}"
            lines.append(Line("stepvalue", t.iterations(drop), why))
    if t.policy == "step":
        lines.append(Line("stepsize", t.iterations(t.drops[0]), epochs(t.drops[0])))
    if t.policy == "poly":
        lines.append(Line("power", t.power, source(t, "power")))
    return lines


def common(t: Training, length: int) -> list[Line]:
    """What both solvers have; length is the iterations of this one."""
    short = max(1, length // 4)  # a short training has a curve too
    lines = [
        Line("momentum", t.momentum, source(t, "momentum")),
        Line("weight_decay", t.weight_decay, source(t, "weight_decay")),
        Line("display", min(20, short) if t.display < 0 else t.display),
    ]
    if t.nesterov:
        lines.insert(0, Line("type", "Nesterov", source(t, "nesterov")))
    if t.iter_size > 1:
        lines.insert(0, Line("iter_size", t.iter_size, "batches of one iteration"))
    return lines


def mode(t: Training) -> list[Line]:
    """What computes."""
    return [Line("solver_mode", Word(t.solver_mode))]


def about(t: Training) -> list[str]:
    """What the numbers below are for."""
    each = "process" if t.launcher == "mpirun" else t.solver_mode
    many = ("es" if each == "process" else "s") * (t.gpus > 1)
    parts = [f"{t.batch} images x {t.gpus} {each}{many}"]
    parts += [f"{t.nodes} nodes"] * (t.nodes > 1) + [f"iter_size {t.iter_size}"] * (t.iter_size > 1)
    batch = f"effective batch {t.effective_batch} = {' x '.join(parts)}"
    lines = [batch, f"{t.train_images:,} training images, {t.iterations(1):,} iterations an epoch"]
    recipe = RECIPES.get(t.recipe)
    if recipe:
        lines.insert(0, f"recipe {t.recipe}; {recipe.sources['effective_batch']}")
        theirs = recipe.training.effective_batch
        proportional = recipe.value("base_lr") * t.effective_batch / theirs
        if not math.isclose(proportional, t.base_lr, rel_tol=1e-3):
            lines.append(
                f"the recipe's base_lr is {recipe.value('base_lr'):g} for a batch of {theirs}: "
                f"{proportional:g} would be in proportion"
            )
    return lines


def epochs(n: float) -> str:
    """A length of time in words."""
    return f"{n:g} epoch{'' if n == 1 else 's'}"


def source(t: Training, field: str) -> str:
    """Where a value comes from; nothing if it is not the recipe's."""
    recipe = RECIPES.get(t.recipe)
    if recipe is None or recipe.value(field) != getattr(t, field):
        return ""
    return recipe.sources.get(field, "")


def and_source(t: Training, field: str) -> str:
    """The same, as the end of a comment."""
    text = source(t, field)
    return f"; {text}" if text else ""
