"""What would hurt in a net or a solver, as error, warning or note.

file -> text -> net or solver, by its content -> rules -> Report
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.check.data import Databases, check_data
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
from resnet_proto.check.solvers import BOTH, Case, check_case
from resnet_proto.check.target import Aim, Target, check_target, load_target
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import Shape
from resnet_proto.net import Net
from resnet_proto.prototxt import net_of, parse_net, read_text
from resnet_proto.solver import Instance, find, instances, is_solver, other_beside
from resnet_proto.state import DEFAULT, State
from resnet_proto.upgrade import old_within

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array

__all__ = ["LEVELS", "Report", "as_json", "check_file", "check_text", "joined"]

SOLVER_NAME = re.compile(r"solver", re.I)
NET_NAME = re.compile(r"train_?val|deploy", re.I)
TEST_IMAGES = re.compile(r"^test_iter: \d+ +# x \d+ images = ([\d,]+)", re.M)
TRAINING_IMAGES = re.compile(r"^# ([\d,]+) training images", re.M)
"""How a solver of `gen` says how many images its data has."""


@dataclass
class Check:
    """One run: what was looked at, and what was found."""

    lenient: bool = False
    test_images: int | None = None
    state: State = DEFAULT
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    target: Target | None = None
    weights: Mapping[str, Array] | None = None
    checked: list[Checked] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    databases: Databases = field(default_factory=Databases)

    def net(
        self, file: str, nets: Callable[[], Sequence[Net]], folders: Sequence[Path], **how: Any
    ) -> list[View]:
        """Check a net in one state or several; the views that were checked."""
        try:
            written = [self.fed(net, folders) for net in nets()]
            views = [view(net, net.state.phase, shapes=self.shapes, **how) for net in written]
        except ResNetProtoError as error:
            self.refused(file, error)
            return []
        found = [*check_views(views), *check_data(views, self.databases, folders)]
        for net, at in zip(written, views, strict=True):
            if self.target and at.phase == "TEST":
                found += check_target(Aim(self.target, net, at, self.weights))
        self.findings += placed(file, found)
        return views

    def fed(self, net: Net, folders: Sequence[Path]) -> Net:
        """The net with the shapes of what it reads, where that is there."""
        shapes = {
            layer.tops[0]: shape
            for layer in net.upgraded().filtered().layers
            if layer.tops and (shape := self.databases.shape(layer, folders))
        }
        return replace(net, given={**shapes, **net.given}) if shapes else net

    def solver(
        self, fields: Mapping[str, Any], file: str, folder: Path | None, said: Mapping[str, int]
    ) -> None:
        """Check a solver and the nets that it names; ``said`` are the images of its comments."""
        every = instances(fields)
        files = [x.value for x in every if isinstance(x.value, str) and "\0" not in x.value]
        folders = folders_of(folder)
        if files and not any(Path(name).is_file() for name in files):
            folders.reverse()  # Caffe would end here: it is to be started beside the solver
        pretrained = bool(fields.get("weights"))
        before, self.findings = self.findings, []
        own: list[tuple[str, Found]] = []
        views: list[tuple[Instance, View]] = []
        asked = every
        if not any(x.phase == "TEST" for x in every):  # what could be tested is looked at too
            asked = [
                *every,
                *(x._replace(phase="TEST", state={}) for x in every if x.field in BOTH),
            ]
        for (name, _), group in grouped(asked).items():
            try:
                net, where = self.follow(name, group[0].value, file, folder)
            except ResNetProtoError as error:
                own.append(("nets", Found(ERROR, *parted(error, file), field=name)))
                continue
            nets = partial(self.states, net, group)
            within = isinstance(group[0].value, Mapping)
            found = self.net(
                where, nets, folders, trained=True, pretrained=pretrained, within=within
            )
            views += zip(group, found, strict=False)
        seen = [(x, at) for x in asked for y, at in views if x == y]
        train = next((at for x, at in seen if x.phase == "TRAIN"), None)
        tests = [at for x, at in seen if x.phase == "TEST"]
        case = Case(fields, train, tests, folders, self.test_images, said, self.databases)
        of_nets, self.findings = self.findings, before
        self.findings += placed(file, [*own, *check_case(case)]) + of_nets

    def states(self, net: Net, group: Sequence[Instance]) -> list[Net]:
        """A solver's net in each state that it is set up in.

        ``caffe train`` sets the level of the net that is trained in any case, to 0 by default.
        """
        nets = []
        for instance in group:
            at = instance.of(net)
            if instance.phase == "TRAIN":
                stages = (*at.state.stages, *self.state.stages)
                at = at.at(level=self.state.level, stages=stages)
            nets.append(at)
        return nets

    def follow(self, name: str, value: Any, file: str, folder: Path | None) -> tuple[Net, str]:
        """The net that a solver's field names, and what messages call it.

        Raises:
            ResNetProtoError: it is nowhere, cannot be read, is no net, or is one within the
                solver that Caffe would upgrade in a file only.
        """
        if isinstance(value, Mapping):
            if old := old_within(value):
                raise ResNetProtoError(f"{old}; write it to a file, or upgrade it")
            return net_of(dict(value), file), f"{file} ({name})"
        found = find(value, file, folder)
        if other := other_beside(value, folder):
            reason, _, remedy = other.rpartition("; ")
            self.findings += placed(
                file, [("other-net", Found(WARNING, reason, remedy, field=name))]
            )
        beside = found != Path(value)
        how = "of the solver, found beside it and not in the current directory"
        row = Checked(str(found), "net", how if beside else "of the solver")
        if row not in self.checked:
            self.checked.append(row)
        net = parse_net(read_text(found), source=str(found), lenient=self.lenient)
        return net, str(found)

    def text(self, text: str, file: str, folder: Path | None) -> None:
        """Check a text, whatever it is."""
        from resnet_proto.text_format import parse

        solver = is_solver(text)
        self.checked.append(Checked(file, "solver" if solver else "net"))
        try:
            if solver:
                fields = parse(text, "SolverParameter", source=file, lenient=self.lenient)
                self.misnamed(file, NET_NAME, "a solver, and its name is a net's")
                said = {
                    phase: int(found[1].replace(",", ""))
                    for phase, pattern in (("TEST", TEST_IMAGES), ("TRAIN", TRAINING_IMAGES))
                    if (found := pattern.search(text))
                }
                self.solver(fields, file, folder, said)
            else:
                net = parse_net(text, source=file, lenient=self.lenient)
                self.misnamed(file, SOLVER_NAME, "a net, and its name is a solver's")
                net = replace(net, state=self.state)
                phases = ("TEST",) if self.target else phases_of(net)
                self.net(
                    file, lambda: [net.at(phase=phase) for phase in phases], folders_of(folder)
                )
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
    target: str | None = None,
    weights: Mapping[str, Array] | None = None,
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
        target: one of ``check.target.NAMES``, which the net at TEST is for.
        weights: what the target is given with it, by ``<layer>.<blob>``.
    """
    aim = load_target(target) if target else None
    check = Check(lenient, test_images, state, shapes or {}, aim, weights)
    check.text(text, file, folder)
    return Report(tuple(check.checked), tuple(check.findings), aim.title if aim else "")


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
    target = next((report.target for report in reports if report.target), "")
    return Report(tuple(checked), tuple(findings), target)


def folders_of(folder: Path | None) -> list[Path]:
    """Where paths lead from: the current directory, then that of the file."""
    return [Path(), *([folder] if folder else [])]


def grouped(asked: Sequence[Instance]) -> dict[tuple[str, int], list[Instance]]:
    """The instances of each net; those that are alike once."""
    groups: dict[tuple[str, int], list[Instance]] = {}
    for instance in asked:
        group = groups.setdefault((instance.field, instance.place), [])
        if instance not in group:
            group.append(instance)
    return groups


def parted(error: ResNetProtoError, file: str) -> tuple[str, str]:
    """Reason and remedy of a message, on one line."""
    first = str(error).partition("\n")[0].removeprefix(f"{file}:").strip()
    reason, _, remedy = first.rpartition("; ")
    return (reason, remedy) if reason else (remedy, "it cannot be checked before that is mended")
