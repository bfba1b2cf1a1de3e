"""Solver text -> its fields, and the nets that it trains and tests.

Source: solver.cpp, InitTrainNet and InitTestNets; upgrade_proto.cpp, UpgradeSolverType.
"""

from __future__ import annotations

import filecmp
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from resnet_proto.errors import PrototxtError
from resnet_proto.net import Net
from resnet_proto.prototxt import net_of, parse_net, read_text
from resnet_proto.upgrade import old_within

TRAIN_NETS = ("net", "net_param", "train_net", "train_net_param")
TEST_NETS = ("test_net", "test_net_param")
POLICIES = {
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}
"""Policy of the learning rate -> fields without which it does nothing, or ends Caffe."""
TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


class Instance(NamedTuple):
    """One net that Caffe sets up.

    Args:
        field: of the solver.
        place: in that field; 0 where it is there once.
        value: a path, or the net itself as a tree of fields.
        phase: TRAIN or TEST.
        state: the solver's ``train_state``, or the ``test_state`` of this net.
    """

    field: str
    place: int
    value: Any
    phase: str
    state: Mapping[str, Any]

    def of(self, net: Net) -> Net:
        """The net in the state that Caffe sets it up in.

        The net's own state goes before the phase, and the solver's before that; stages add up.
        """
        own = net.fields.get("state", {})
        merged = {"phase": self.phase, "level": 0} | dict(own) | dict(self.state)
        stages = tuple(self.state.get("stage", ()))  # the net's own count anyway
        return net.at(phase=str(merged["phase"]), level=merged["level"], stages=stages)


@dataclass(frozen=True)
class Solver:
    """A solver with its nets, each in the state that Caffe sets it up in.

    Args:
        fields: those that were set, by name; ``type`` is the new name of an old ``solver_type``.
        train: the net to train.
        tests: the nets to test, one for each ``test_iter``.
        source: where it was read, for messages.
    """

    fields: Mapping[str, Any]
    train: Net
    tests: tuple[Net, ...] = ()
    source: str = ""

    @property
    def type(self) -> str:
        """``SGD``, ``Adam`` ..."""
        return type_of(self.fields)

    def net(self, phase: str) -> Net:
        """The net of a phase, TRAIN or TEST: the one to train, or the first to test.

        If none is tested, it is the one to train at phase TEST.
        """
        if phase == "TRAIN":
            return self.train
        return self.tests[0] if self.tests else self.train.at(phase="TEST")


def read_solver(
    source: str | os.PathLike[str], *, lenient: bool = False, warnings: list[str] | None = None
) -> Solver:
    """The solver of a file, with its nets.

    Caffe looks for them in the current directory; the solver's own folder is looked in second.

    Args:
        source: the path.
        lenient: as for ``read_prototxt``; ``warnings`` likewise.
        warnings: where to say what was kept.

    Raises:
        PrototxtError: no solver, or one without exactly one net to train; or a net that is not
            there or cannot be read.
        NetError: a state that no net can have.
    """
    path = Path(source)
    return parse_solver(
        read_text(path), str(path), folder=path.parent, lenient=lenient, warnings=warnings
    )


def parse_solver(
    text: str,
    source: str,
    *,
    folder: Path | None = None,
    lenient: bool = False,
    warnings: list[str] | None = None,
) -> Solver:
    """``read_solver`` of a text that errors call ``source`` and that lies in ``folder``."""
    from resnet_proto.text_format import parse

    if not is_solver(text):
        raise PrototxtError(f"{source}: this is not a solver; give the file that names the net")
    kept = {"lenient": lenient, "warnings": warnings}
    fields = parse(text, "SolverParameter", source=source, **kept)  # type: ignore[arg-type]
    if len(given := [name for name in TRAIN_NETS if name in fields]) != 1:
        what = " and ".join(given) or "none"
        raise PrototxtError(
            f"{source}: a solver has one net to train, this one has {what}; "
            f"give one of {', '.join(TRAIN_NETS)}"
        )
    read: dict[tuple[str, int], Net] = {}
    nets = []
    for instance in instances(fields):
        key = (instance.field, instance.place)
        if key in read:
            net = read[key]
        elif isinstance(instance.value, Mapping):
            if old := old_within(instance.value):
                raise PrototxtError(
                    f"{source} ({instance.field}): {old}; write it to a file, or upgrade it"
                )
            net = net_of(dict(instance.value), f"{source} ({instance.field})")
        else:
            file = find(instance.value, source, folder)
            if (other := other_beside(instance.value, folder)) and warnings is not None:
                warnings.append(f"{source}: {other}")
            net = parse_net(read_text(file), source=str(file), lenient=lenient, warnings=warnings)
        read[key] = net
        nets.append(instance.of(net))
    return Solver({**fields, "type": type_of(fields)}, nets[0], tuple(nets[1:]), source)


def instances(fields: Mapping[str, Any]) -> list[Instance]:
    """The nets that Caffe sets up, in its order: those to train (one), then those to test.

    What ``net`` or ``net_param`` names is tested as often as there are ``test_iter`` left.
    """
    trained = [
        Instance(name, 0, fields[name], "TRAIN", fields.get("train_state", {}))
        for name in TRAIN_NETS
        if name in fields
    ]
    tested = [
        Instance(name, i, value, "TEST", {})
        for name in TEST_NETS[::-1]
        for i, value in enumerate(fields.get(name, ()))
    ]
    left = len(fields.get("test_iter", ())) - len(tested)
    for name in ("net_param", "net"):
        if name in fields:
            tested += [Instance(name, 0, fields[name], "TEST", {})] * left
    states = fields.get("test_state", ())
    tested = [
        instance._replace(state=states[i] if i < len(states) else {})
        for i, instance in enumerate(tested)
    ]
    return trained + tested


def type_of(fields: Mapping[str, Any]) -> str:
    """The type of a solver, whichever way it is said."""
    old = str(fields.get("solver_type", "SGD")).lower()
    return str(fields.get("type", next((name for name in TYPES if name.lower() == old), "SGD")))


def learning_rate(fields: Mapping[str, Any], iteration: int) -> float | None:
    """The rate of an iteration; None where the policy is unknown, or lacks a field.

    Source: sgd_solver.cpp, GetLearningRate.
    """
    name = fields.get("lr_policy")
    if any(field not in fields for field in POLICIES.get(str(name), ("lr_policy known",))):
        return None
    base, gamma = float(fields.get("base_lr", 0)), float(fields.get("gamma", 0))
    power, size = float(fields.get("power", 0)), fields.get("stepsize", 0)
    try:
        if name == "step":
            return base * gamma ** (iteration // size) if size > 0 else None
        if name == "multistep":
            done = sum(value <= iteration for value in fields["stepvalue"])
            return base * float(gamma**done)
        if name == "exp":
            return base * gamma**iteration
        if name == "inv":
            return base * real((1 + gamma * iteration) ** -power)
        if name == "poly":
            return base * real((1 - iteration / fields["max_iter"]) ** power)
        if name == "sigmoid":
            return base / (1 + math.exp(-gamma * (iteration - size)))
    except (OverflowError, ZeroDivisionError):
        return math.inf if base else 0.0
    return base


def real(value: complex) -> float:
    """A power as C's pow has it: nan where it is no real number."""
    return math.nan if isinstance(value, complex) else value


def find(name: str, source: str, folder: Path | None) -> Path:
    """The file of a net that a solver names.

    Raises:
        PrototxtError: it is nowhere, or a solver too.
    """
    places = [Path(name), *([folder / name] if folder else [])]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise PrototxtError(
            f"{source}: '{name}' is not there, neither in the current directory nor beside the "
            "solver; Caffe looks in the current directory"
        )
    if is_solver(read_text(found)):
        raise PrototxtError(f"{source}: '{name}' is a solver; name the net that is to be trained")
    return found


def other_beside(name: str, folder: Path | None) -> str:
    """That a net of the current directory is not the one beside the solver; else empty."""
    with suppress(OSError, ValueError):  # one of them is not there
        if folder and not filecmp.cmp(name, folder / name, shallow=False):
            return (
                f"'{name}' is that of the current directory; another {folder / name} lies beside "
                "the solver, and train.sh takes that one; remove one, or work in that folder"
            )
    return ""


def is_solver(text: str) -> bool:
    """Whether most of the fields at the top of a text are a solver's, and not a net's."""
    from resnet_proto.schema import fields

    solver, net = fields("SolverParameter").keys(), fields("NetParameter").keys()
    names = list(top_fields(text))
    return sum(name in solver - net for name in names) > sum(name in net - solver for name in names)


def top_fields(text: str) -> Iterator[str]:
    """The names of the fields that stand outside of any braces."""
    from resnet_proto.text_format import NAME, TOKEN

    depth, before = 0, ""
    for token in TOKEN.findall(text):
        if token in ("{", "<"):
            depth += 1
        elif token in ("}", ">"):
            depth -= 1
        elif depth == 0 and before != ":" and NAME.fullmatch(token):
            yield token
        before = token
