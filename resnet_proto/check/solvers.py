"""Rules about solvers: the fields of a solver and its nets -> what would hurt.

Source: solver.cpp, sgd_solver.cpp, sgd_solvers.hpp and upgrade_proto.cpp.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

from resnet_proto.check.data import Databases, channels
from resnet_proto.check.finding import ERROR, NOTE, WARNING, Found
from resnet_proto.check.nets import View, has_loss, namesake, source
from resnet_proto.data.survey import Survey
from resnet_proto.layers import Layer
from resnet_proto.memory import layer_batch
from resnet_proto.solver import (
    POLICIES,
    TEST_NETS,
    TRAIN_NETS,
    TYPES,
    instances,
    learning_rate,
    type_of,
)

BOTH = ("net", "net_param")
"""Nets that are trained and tested."""
HARDLY = 0.5
"""A rate that ends above this part of its beginning has hardly decayed; the paper's ends at 1 %."""
SHORT = 5000
"""Iterations for which a fixed rate needs no word: a warm-up."""


@dataclass(frozen=True)
class Case:
    """A solver with its nets.

    Args:
        fields: those that were set.
        train: the net at phase TRAIN; None where it could not be read.
        tests: the nets at phase TEST.
        folders: where paths lead from: the current directory, the solver's.
        test_images: how many images the test data has, if the caller knows.
        said: how many images each phase has by the solver's own comments.
        databases: what the nets read, looked at.
    """

    fields: Mapping[str, Any]
    train: View | None = None
    tests: Sequence[View] = ()
    folders: Sequence[Path] = ()
    test_images: int | None = None
    said: Mapping[str, int] = default(default_factory=dict)
    databases: Databases = default(default_factory=Databases)

    def missing(self, *names: str) -> list[str]:
        """Which of these fields were not set."""
        return [name for name in names if name not in self.fields]

    def database(self, at: View) -> Survey | None:
        """What the net reads, as far as it could be looked at."""
        found = (self.databases.of(layer, self.folders) for layer in at.layers)
        return next((survey for survey in found if isinstance(survey, Survey)), None)

    def records(self, layer: Layer) -> int:
        """How many images a layer's database holds; 0 where it could not be looked at."""
        found = self.databases.of(layer, self.folders)
        return found.count if isinstance(found, Survey) else 0


Rule = Callable[[Case], Iterator[Found]]


def nets(case: Case) -> Iterator[Found]:
    """Exactly one net to train: InitTrainNet."""
    given = [name for name in TRAIN_NETS if name in case.fields]
    if not given:
        yield Found(ERROR, "no net to train", 'give net: "train_val.prototxt"', field="net")
    elif len(given) > 1:
        reason = f"{' and '.join(given)}: more than one net to train, which ends Caffe"
        yield Found(ERROR, reason, "give one", field=given[1])


def required(case: Case) -> Iterator[Found]:
    """Fields without which nothing is learned."""
    rate = case.fields.get("base_lr", 0.0)
    if not 0 < rate < math.inf:
        reason = f"the learning rate is {rate:g}, so nothing is learned"
        yield Found(ERROR, reason, "give base_lr: 0.1, as in the paper", field="base_lr")
    if case.fields.get("max_iter", 0) < 1:
        how = "below 1" if "max_iter" in case.fields else "not set"
        reason = f"max_iter is {how}, so Caffe stops at once"
        yield Found(ERROR, reason, "give the number of iterations", field="max_iter")


def policy(case: Case) -> Iterator[Found]:
    """A policy that Caffe knows, with the fields that it needs: GetLearningRate."""
    name = case.fields.get("lr_policy")
    if name not in POLICIES:
        what = "is not set" if name is None else f"is '{name}', which Caffe does not know"
        remedy = f"give one of {', '.join(POLICIES)}"
        yield Found(ERROR, f"lr_policy {what}: it ends at the first iteration", remedy,
                    field="lr_policy")  # fmt: skip
        return
    for field in case.missing(*POLICIES[name]):
        reason, level = {
            "gamma": (f"{name} without gamma: it is 0, and so is the rate after a step", ERROR),
            "stepsize": (f"{name} without stepsize ends Caffe", ERROR),
            "stepvalue": ("multistep without stepvalue: the rate never falls", WARNING),
            "power": (f"{name} without power: it is 0, and the rate stays", WARNING),
        }[field]
        yield Found(level, reason, f"give {field}", field=field)


def steps(case: Case) -> Iterator[Found]:
    """Steps in order, and within the run."""
    given, end = case.fields.get("stepvalue", ()), case.fields.get("max_iter", 0)
    if list(given) != sorted(given):
        reason = (
            f"{', '.join(map(str, given))} are not sorted: Caffe takes them one after the other, "
            "and a smaller one that comes late at once"
        )
        remedy = f"sort them: {', '.join(map(str, sorted(given)))}"
        yield Found(ERROR, reason, remedy, field="stepvalue")
    late = [value for value in given if value >= end > 0]
    if late:
        reason = f"{', '.join(map(str, late))} not before max_iter {end}, so never reached"
        yield Found(NOTE, reason, "leave it out, or train longer", field="stepvalue")


def decay(case: Case) -> Iterator[Found]:
    """A rate that hardly falls over the run."""
    ends = rate_at_end(case.fields)
    base, run = case.fields.get("base_lr", 0.0), case.fields.get("max_iter", 0)
    if ends is None or not base:
        return
    if case.fields.get("lr_policy") == "fixed":
        if run >= SHORT:
            reason = f"the rate stays {base:g} for {run:,} iterations; the paper's falls to 1 %"
            remedy = "see multistep or poly, unless this is meant"
            yield Found(NOTE, reason, remedy, field="lr_policy")
    elif ends > HARDLY:
        reason = (
            f"the rate goes from {base:g} to {base * ends:.3g} in {run:,} iterations, "
            f"{100 * ends:.0f} % of its beginning; the paper's falls to 1 %"
        )
        remedy = "let it fall by more, or more often (multistep, poly)"
        yield Found(WARNING, reason, remedy, field="lr_policy")


def momentum(case: Case) -> Iterator[Found]:
    """A momentum under 1, and none where the type refuses it."""
    value, type = case.fields.get("momentum", 0.0), type_of(case.fields)
    if value >= 1 or value < 0:
        reason = f"momentum is {value:g}: the weights grow without end"
        yield Found(ERROR, reason, "give 0.9, as in the paper", field="momentum")
    elif value and type in ("AdaGrad", "RMSProp"):
        reason = f"{type} takes no momentum, and ends Caffe"
        yield Found(ERROR, reason, "leave it out", field="momentum")
    elif "momentum" not in case.fields and type in ("SGD", "Nesterov"):
        reason = "momentum is not set, so it is 0; the paper's is 0.9"
        yield Found(NOTE, reason, "give momentum: 0.9", field="momentum")


def solver_type(case: Case) -> Iterator[Found]:
    """A type that Caffe has, by its new name."""
    type, old = case.fields.get("type", "SGD"), case.fields.get("solver_type")
    if type not in TYPES:
        remedy = f"give one of {', '.join(TYPES)}"
        yield Found(ERROR, f"no solver is called '{type}'", remedy, field="type")
    if old is not None and "type" in case.fields:
        reason = "solver_type and type: Caffe takes one of them, and ends"
        yield Found(ERROR, reason, "leave solver_type out", field="solver_type")
    elif old is not None:
        reason = f"solver_type: {old} is the old way"
        remedy = f'write type: "{type_of(case.fields)}"'
        yield Found(NOTE, reason, remedy, field="solver_type")


def tests(case: Case) -> Iterator[Found]:
    """As many test_iter as nets to test, and an interval: InitTestNets."""
    iterations = case.fields.get("test_iter", ())
    named = sum(len(case.fields.get(name, ())) for name in TEST_NETS)
    generic = not case.missing("net") or not case.missing("net_param")
    if len(case.missing(*TRAIN_NETS)) == len(TRAIN_NETS):
        return  # said already
    if named > len(iterations) or (named < len(iterations) and not generic):
        reason = f"{len(iterations)} test_iter for {named} test nets, which ends Caffe"
        yield Found(ERROR, reason, "give one test_iter for each test net", field="test_iter")
    elif not iterations:
        judged = any(x.type == "Accuracy" for at in case.tests for x in at.layers)
        asked = judged or case.fields.get("test_interval", 0)
        reason = "test_iter is not set, so Caffe never tests"
        remedy = "give as many passes as cover the test data, and test_interval"
        yield Found(WARNING if asked else NOTE, reason, remedy, field="test_iter")
    elif case.fields.get("test_interval", 0) < 1:
        reason = "test_iter without test_interval ends Caffe"
        yield Found(ERROR, reason, "give test_interval: iterations between tests",
                    field="test_interval")  # fmt: skip
    tested = sum(x.phase == "TEST" for x in instances(case.fields))
    if (states := len(case.fields.get("test_state", ()))) not in (0, tested):
        reason = f"{states} test_state for {tested} nets to test, which ends Caffe"
        remedy = "give one for each test net (each test_iter), or none"
        yield Found(ERROR, reason, remedy, field="test_state")
    if any(value < 1 for value in iterations):
        yield Found(ERROR, "a test of no passes", "give at least 1", field="test_iter")


def coverage(case: Case) -> Iterator[Found]:
    """A test that sees all images."""
    for passes, at in zip(case.fields.get("test_iter", ()), case.tests, strict=False):
        layer = next((x for x in at.layers if not x.bottoms and layer_batch(x)), None)
        if layer is None:
            continue
        batch = layer_batch(layer)
        images, why = images_of_test(case, at, layer)
        if 0 < passes * batch < images:
            reason = (
                f"a test sees {passes} x {batch} = {passes * batch:,} images; "
                f"{why} {images:,}"
            )  # fmt: skip
            remedy = f"test_iter: {-(-images // batch)} covers them"
            if not case.test_images:
                remedy += " (--test-images N if there are others)"
            yield Found(WARNING, reason, remedy, field="test_iter")
        elif (case.test_images or case.records(layer)) and passes * batch >= images + batch:
            reason = (
                f"a test sees {passes * batch:,} images, {images:,} are there: some count twice"
            )
            remedy = f"test_iter: {-(-images // batch)} is enough"
            yield Found(NOTE, reason, remedy, field="test_iter")


def epochs(case: Case) -> Iterator[Found]:
    """A schedule for other training data than there is: data_layer.cpp, which begins again."""
    layer = case.train and next((x for x in case.train.layers if case.records(x)), None)
    if not layer:
        return
    there, said = case.records(layer), case.said.get("TRAIN", 0)
    name = source(layer)
    if said and abs(there - said) > said / 100:
        yield Found(
            WARNING,
            f"the schedule is for {said:,} training images, as the solver says, and '{name}' holds "
            f"{there:,}",
            f"write the solver with training.train_images={there}",
        )
    seen = case.fields.get("max_iter", 0) * layer_batch(layer) * case.fields.get("iter_size", 1)
    if not said and 0 < seen < there:
        yield Found(
            WARNING,
            f"the training sees {seen:,} images with one GPU, '{name}' holds {there:,}: no epoch",
            f"max_iter: {-(-there * case.fields['max_iter'] // seen)} is one",
            field="max_iter",
        )


def same_data(case: Case) -> Iterator[Found]:
    """TRAIN and TEST that read one database, or images of other channels."""
    ours = case.database(case.train) if case.train else None
    for at in case.tests:
        theirs = case.database(at)
        if ours is None or theirs is None:
            continue
        if ours.path.resolve() == theirs.path.resolve():
            reason = f"TEST reads '{theirs.path}' and TRAIN too: the accuracy is that of training"
            yield Found(WARNING, reason, "write a part of it apart: data lmdb --split val=0.1")
        both = [{shape[0] for shape in survey.shapes} for survey in (ours, theirs)]
        if all(len(some) == 1 for some in both) and both[0] != both[1]:
            reason = (
                f"TRAIN reads images of {channels(both[0])} and TEST of {channels(both[1])}: the "
                "weights would not fit"
            )
            yield Found(ERROR, reason, "write both with --gray, or none")


def snapshots(case: Case) -> Iterator[Found]:
    """A name for snapshots: CheckSnapshotWritePermissions."""
    if case.missing("snapshot_prefix"):
        kept = case.fields.get("snapshot", 0) > 0
        reason = "no snapshot_prefix" + (
            ": Caffe 1.0 ends, later ones take the solver's name" if kept else
            ": the weights at the end are called after the solver, or nothing"
        )  # fmt: skip
        remedy = 'give snapshot_prefix: "net"'
        yield Found(WARNING, reason, remedy, field="snapshot_prefix")


def swapped_nets(case: Case) -> Iterator[Found]:
    """A net to train that has nothing to minimise, or looks like the one to test."""
    if case.train is None:
        return
    named = str(case.fields.get("train_net", "")), *case.fields.get("test_net", ())
    field = next((name for name in TRAIN_NETS if name in case.fields), "net")
    learns = has_loss(case.train.layers)
    swapped = (
        "exchange train_net and test_net"
        if len(named) == 2
        else "exchange the include rules of TRAIN and TEST"
    )
    if not learns and any(has_loss(at.layers) for at in case.tests):
        reason = "the net to train has no loss at phase TRAIN, and the one to test has: swapped"
        yield Found(ERROR, reason, swapped, field=field)
    elif not learns:
        reason = "the net has no loss, so nothing is learned: is it a deploy net?"
        yield Found(ERROR, reason, "`resnet-proto gen` writes a train_val net", field=field)
    elif len(named) == 2 and all(named):
        judges = [any(x.type == "Accuracy" for x in at.layers) for at in (case.train, *case.tests)]
        words = [kind_of_name(name) for name in named]
        if judges == [True, False] or words == ["test", "train"]:
            reason = (
                f"train_net '{named[0]}' is what one tests, and test_net '{named[1]}' what one "
                "trains: swapped"
            )
            yield Found(WARNING, reason, swapped, field=field)


def not_there(case: Case) -> Iterator[Found]:
    """What the nets read and is not there (yet), by the command that makes it, or is in the other
    folder than the net: db_lmdb.cpp and data_transformer.cpp, which end Caffe.
    """
    missing: dict[str, dict[str, str]] = {}
    elsewhere: dict[str, str] = {}
    for at in (*([case.train] if case.train else []), *case.tests):
        for layer in at.layers:
            for path, remedy in reads(layer):
                there = ["\0" in path or os.path.exists(f / path) for f in case.folders]  # noqa: PTH110
                if not any(there):
                    missing.setdefault(remedy, {}).setdefault(path, at.phase)
                elif not there[0] and case.fields.keys() & {"net", "train_net"}:
                    elsewhere.setdefault(path, at.phase)
    if elsewhere:
        them = "it" if len(elsewhere) == 1 else "them"
        start, other = (
            "the current directory" if folder == Path() else f"'{folder}'"
            for folder in case.folders
        )  # fmt: skip
        yield Found(
            NOTE,
            f"{those(elsewhere)} in {other} and not in {start}, where the net is, so Caffe is "
            f"started there, and does not find {them}",
            f"move {them}, or name {them} as seen from there",
            field="net",
        )
    for remedy, paths in missing.items():
        yield Found(
            NOTE,
            f"{those(paths)} not there, neither in the current "
            "directory nor beside the solver; Caffe takes paths from the folder it is started in",
            remedy.replace("OUT", next(iter(paths))),
            field="net",
        )


RULES: dict[str, Rule] = {
    "nets": nets,
    "required": required,
    "policy": policy,
    "steps": steps,
    "decay": decay,
    "momentum": momentum,
    "solver-type": solver_type,
    "tests": tests,
    "coverage": coverage,
    "epochs": epochs,
    "same-data": same_data,
    "snapshots": snapshots,
    "swapped-nets": swapped_nets,
    "not-there": not_there,
}


def check_case(case: Case) -> Iterator[tuple[str, Found]]:
    """Rule and finding of a solver's own fields."""
    for name, rule in RULES.items():
        for found in rule(case):
            yield name, found


# ---- what the rules ask


def rate_at_end(fields: Mapping[str, Any]) -> float | None:
    """The rate of the last iteration, as a part of base_lr; None where that is not known, or where
    there is one iteration only, and for sigmoid, which does not begin at base_lr.
    """
    last = fields.get("max_iter", 0) - 1
    if last < 1 or fields.get("lr_policy") == "sigmoid":
        return None
    return learning_rate({**fields, "base_lr": 1.0}, last)


def reads(layer: Layer) -> Iterator[tuple[str, str]]:
    """Each path that a data layer reads, and how it comes to be; OUT is its place."""
    if layer.type == "Data" and source(layer):
        yield source(layer), "`resnet-proto data lmdb IMAGES OUT` makes such a database"
    elif layer.type in ("ImageData", "HDF5Data") and source(layer):
        yield source(layer), "write this list, one file a line"
    if mean := str(layer.fields.get("transform_param", {}).get("mean_file", "")):
        yield mean, "`resnet-proto data mean LMDB OUT` makes it of the training data"


def images_of_test(case: Case, at: View, layer: Layer) -> tuple[int, str]:
    """How many images the test data has, and how that is known; 0 where it is not."""
    if case.test_images:
        return case.test_images, "the test data has"
    if layer.type == "ImageData":
        for folder in case.folders:
            path = folder / source(layer)
            if path.is_file():
                with path.open("rb") as file:
                    return sum(1 for line in file if line.strip()), f"{source(layer)} lists"
    if records := case.records(layer):
        return records, f"'{source(layer)}' holds"
    if "TEST" in case.said:
        return case.said["TEST"], "the test data has, as the solver says,"
    spec = namesake(at.net.name) if source(layer) else None
    weighted = [x for x in at.layers if x.type == "InnerProduct"]
    classes = weighted[-1].param.get("num_output") if weighted else None
    if spec is not None and classes == spec.classes and "train" not in source(layer).lower():
        return spec.training.test_images, f"the data of {spec.name}'s recipe has"
    return 0, ""


def those(paths: Mapping[str, str]) -> str:
    """Paths with the phase that reads each, and the verb."""
    names = " and ".join(f"'{path}' ({phase})" for path, phase in paths.items())
    return f"{names} {'is' if len(paths) == 1 else 'are'}"


def kind_of_name(path: str) -> str:
    """``train`` or ``test``, where a file's name says one of them only."""
    name = Path(path).name.lower()
    found = {word for word in ("train", "test", "val") if re.search(word, name)}
    kinds = {"test" if word == "val" else word for word in found}
    return kinds.pop() if len(kinds) == 1 else ""
