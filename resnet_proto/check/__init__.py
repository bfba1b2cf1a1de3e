"""What would hurt in a net or a solver, as error, warning or note.

file -> text -> net or solver, by its content -> rules -> Report
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from resnet_proto.check.finding import (
    ERROR,
    LEVELS,
    WARNING,
    Checked,
    Finding,
    Found,
    Report,
    as_json,
    placed,
)
from resnet_proto.check.nets import View, check_views, phases_of, view
from resnet_proto.check.solvers import TEST_NETS, TRAIN_NETS, Case, check_case
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import Shape
from resnet_proto.net import Net
from resnet_proto.prototxt import net_of, parse_net, read_text
from resnet_proto.state import DEFAULT, State
from resnet_proto.upgrade import old_within

__all__ = ["LEVELS", "Report", "as_json", "check_file", "check_text", "joined"]

SOLVER_NAME = re.compile(r"solver", re.I)
NET_NAME = re.compile(r"train_?val|deploy", re.I)
TEST_IMAGES = re.compile(r"^test_iter: \d+ +# x \d+ images = ([\d,]+)", re.M)
"""How a solver of `gen` says how many images its test data has."""


@dataclass
class Check:
    """One run: what was looked at, and what was found."""

    lenient: bool = False
    test_images: int | None = None
    state: State = DEFAULT
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    checked: list[Checked] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def net(self, file: str, nets: Callable[[], Sequence[Net]], **how: Any) -> list[View]:
        """Check a net in one state or several; the views that were checked."""
        try:
            views = [view(net, net.state.phase, shapes=self.shapes, **how) for net in nets()]
        except ResNetProtoError as error:
            self.refused(file, error)
            return []
        self.findings += placed(file, check_views(views))
        return views

    def solver(self, fields: Mapping[str, Any], file: str, folder: Path | None, said: int) -> None:
        """Check a solver and the nets that it names; ``said`` are the test images of a comment."""
        folders = [Path(), *([folder] if folder else [])]
        pretrained = bool(fields.get("weights"))
        before, self.findings = self.findings, []
        train: View | None = None
        tests: list[View] = []
        own: list[tuple[str, Found]] = []
        states = [*fields.get("test_state", ())]
        for name, phases, value in nets_of(fields):
            asked = {"TRAIN": fields.get("train_state", {})} if "TRAIN" in phases else {}
            if "TEST" in phases:
                asked["TEST"] = states.pop(0) if states else {}
            try:
                net, where = self.follow(name, value, file, folders)
            except ResNetProtoError as error:
                own.append(("nets", Found(ERROR, *parted(error, file), field=name)))
                continue
            nets = partial(self.states, net, asked)
            for at in self.net(where, nets, trained=True, pretrained=pretrained):
                if at.phase == "TRAIN":
                    train = at
                else:
                    tests.append(at)
        case = Case(fields, train, tests, folders, self.test_images, said)
        of_nets, self.findings = self.findings, before
        self.findings += placed(file, [*own, *check_case(case)]) + of_nets

    def states(self, net: Net, asked: Mapping[str, Mapping[str, Any]]) -> list[Net]:
        """A solver's net as Caffe reads it, phase by phase: solver.cpp, InitTrainNet, InitTestNets.

        ``asked`` are ``train_state`` and ``test_state``. Here the net's own level counts, but
        ``caffe train`` sets that of the net that is trained in any case, to 0 by default.
        """
        own = net.fields.get("state", {}).get("level", 0)
        nets = []
        for phase, fields in asked.items():
            level, stages = fields.get("level", own), tuple(fields.get("stage", ()))
            if phase == "TRAIN":
                level, stages = self.state.level, (*stages, *self.state.stages)
            nets.append(net.at(phase=phase, level=level, stages=stages))
        return nets

    def follow(self, name: str, value: Any, file: str, folders: Sequence[Path]) -> tuple[Net, str]:
        """The net that a solver's field names, and what messages call it.

        Caffe looks in the current directory; the solver's own folder is looked in second.

        Raises:
            ResNetProtoError: it is nowhere, cannot be read, is no net, or is one within the
                solver that Caffe would upgrade in a file only.
        """
        if isinstance(value, Mapping):
            if old := old_within(value):
                raise ResNetProtoError(f"{old}; write it to a file, or upgrade it")
            return net_of(dict(value), file), f"{file} ({name})"
        found = next((x for x in (folder / value for folder in folders) if x.is_file()), None)
        if found is None:
            raise ResNetProtoError(
                f"'{value}' is not there, neither in the current directory nor beside the solver; "
                "Caffe looks in the current directory"
            )
        text = read_text(found)
        if is_solver(text):
            raise ResNetProtoError(f"'{value}' is a solver; name the net that is to be trained")
        beside = found != Path(value)
        how = "of the solver, found beside it and not in the current directory"
        row = Checked(str(found), "net", how if beside else "of the solver")
        if row not in self.checked:
            self.checked.append(row)
        return parse_net(text, source=str(found), lenient=self.lenient), str(found)

    def text(self, text: str, file: str, folder: Path | None) -> None:
        """Check a text, whatever it is."""
        from resnet_proto.text_format import parse

        solver = is_solver(text)
        self.checked.append(Checked(file, "solver" if solver else "net"))
        try:
            if solver:
                fields = parse(text, "SolverParameter", source=file, lenient=self.lenient)
                self.misnamed(file, NET_NAME, "a solver, and its name is a net's")
                said = TEST_IMAGES.search(text)
                images = int(said[1].replace(",", "")) if said else 0
                self.solver(fields, file, folder, images)
            else:
                net = parse_net(text, source=file, lenient=self.lenient)
                self.misnamed(file, SOLVER_NAME, "a net, and its name is a solver's")
                net = replace(net, state=self.state)
                self.net(file, lambda: [net.at(phase=phase) for phase in phases_of(net)])
        except ResNetProtoError as error:
            self.refused(file, error)

    def misnamed(self, file: str, pattern: re.Pattern[str], what: str) -> None:
        """A solver where a net is expected, or the other way round."""
        if pattern.search(Path(file).name):
            remedy = "`caffe train --solver` takes the solver, and the solver names the net"
            self.findings += placed(file, [("misnamed", Found(WARNING, f"this is {what}", remedy))])

    def refused(self, file: str, error: ResNetProtoError) -> None:
        """What cannot be read is an error too."""
        self.findings += placed(file, [("unreadable", Found(ERROR, *parted(error, file)))])


def check_text(
    text: str,
    file: str,
    *,
    folder: Path | None = None,
    lenient: bool = False,
    test_images: int | None = None,
    state: State = DEFAULT,
    shapes: Mapping[str, Shape] | None = None,
) -> Report:
    """What would hurt in a net or a solver; which of them it is, its fields say.

    Args:
        text: the prototxt.
        file: what messages call it.
        folder: where it lies, for the nets of a solver that are not in the current directory.
        lenient: pass over fields that Caffe's schema lacks.
        test_images: how many images the test data has.
        state: level and stages of a net, or of the net that a solver trains.
        shapes: of inputs, as for ``Net.with_input_shapes``.
    """
    check = Check(lenient, test_images, state, shapes or {})
    check.text(text, file, folder)
    return Report(tuple(check.checked), tuple(check.findings))


def check_file(path: str, **known: Any) -> Report:
    """``check_text`` of a file, with the same options; one that cannot be read is a finding."""
    try:
        text = read_text(path)
    except ResNetProtoError as error:
        check = Check()
        check.refused(path, error)
        return Report((Checked(path, "unreadable"),), tuple(check.findings))
    return check_text(text, path, folder=Path(path).parent, **known)


def joined(reports: Sequence[Report]) -> Report:
    """Several reports as one; what two of them say is said once."""
    checked = dict.fromkeys(row for report in reports for row in report.checked)
    findings = dict.fromkeys(row for report in reports for row in report.findings)
    return Report(tuple(checked), tuple(findings))


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


def nets_of(fields: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """The nets of a solver: field, phases, path or message."""
    named = sum(len(fields.get(name, ())) for name in TEST_NETS)
    generic = len(fields.get("test_iter", ())) > named or not named
    for name in TEST_NETS[::-1]:  # in the order of their test_iter: solver.cpp, InitTestNets
        for value in fields.get(name, ()):
            yield name, ("TEST",), value
    for name in TRAIN_NETS:
        if name in fields:
            both = generic and name in ("net", "net_param")
            yield name, ("TRAIN", "TEST") if both else ("TRAIN",), fields[name]


def parted(error: ResNetProtoError, file: str) -> tuple[str, str]:
    """Reason and remedy of a message, on one line."""
    first = str(error).partition("\n")[0].removeprefix(f"{file}:").strip()
    reason, _, remedy = first.rpartition("; ")
    return (reason, remedy) if reason else (remedy, "it cannot be checked before that is mended")
