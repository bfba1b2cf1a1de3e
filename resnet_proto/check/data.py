"""Rules about data: a net at a phase and the LMDBs that it reads -> what would hurt.

Source: data_layer.cpp; data_transformer.cpp, InferBlobShape and Transform.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from resnet_proto.check.finding import ERROR, NOTE, WARNING, Found
from resnet_proto.check.nets import View, source
from resnet_proto.data.lmdb import is_lmdb
from resnet_proto.data.survey import Survey, survey
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import Layer, Shape, dims
from resnet_proto.memory import layer_batch

LABELLED = ("SoftmaxWithLoss", "MultinomialLogisticLoss", "HingeLoss", "Accuracy")
"""Layers whose second bottom holds places among the channels of the first."""
CONVERT = "`resnet-proto data lmdb` writes one"


@dataclass(frozen=True)
class Reading:
    """A Data layer and what it reads.

    Args:
        at: the net.
        layer: the Data layer.
        survey: of the database.
        folders: where paths lead from.
    """

    at: View
    layer: Layer
    survey: Survey
    folders: Sequence[Path]

    @property
    def crop(self) -> int:
        """The side of the crop; 0 if there is none."""
        return crop_of(self.layer)

    @property
    def shapes(self) -> set[Shape]:
        """The sizes of the images, with the channels that the layer has them decoded to."""
        return shapes_of(self.layer, self.survey)


class Databases:
    """The databases of one run, each looked at once."""

    def __init__(self) -> None:
        self.found: dict[Path, Survey | ResNetProtoError] = {}

    def of(self, layer: Layer, folders: Sequence[Path]) -> Survey | ResNetProtoError | None:
        """What a Data layer reads, or why that is not known; None where it is not there (yet)."""
        if layer.type != "Data" or not source(layer) or "\0" in source(layer):
            return None
        paths = [folder / source(layer) for folder in folders]
        lmdb = str(layer.param.get("backend", "LEVELDB")) == "LMDB"
        path = next(filter(is_lmdb, paths), None)
        if path is None and lmdb:  # what stands in its place is none, and Caffe ends at it
            path = next(filter(taken, paths), None)
        if path is None:
            return None
        if path not in self.found:
            try:
                self.found[path] = survey(path)
            except ResNetProtoError as error:
                self.found[path] = error
        return self.found[path]

    def shape(self, layer: Layer, folders: Sequence[Path]) -> Shape | None:
        """The shape of a Data layer's first top, where its database says it."""
        found = self.of(layer, folders)
        if not isinstance(found, Survey) or layer_batch(layer) < 1:
            return None
        crop, shapes = crop_of(layer), shapes_of(layer, found)
        sizes = {(shape[0], *((crop, crop) if crop else shape[1:])) for shape in shapes}
        if len(sizes) != 1 or any(crop > min(shape[1:]) for shape in shapes):
            return None
        return (layer_batch(layer), *next(iter(sizes)))


def taken(path: Path) -> bool:
    """Whether something stands there; into an empty folder a database may be mounted yet."""
    try:
        return any(path.iterdir()) if path.is_dir() else os.path.lexists(path)
    except OSError:  # which whoever reads it will say
        return os.path.lexists(path)


def crop_of(layer: Layer) -> int:
    """The side of a Data layer's crop; 0 if there is none."""
    return int(layer.fields.get("transform_param", {}).get("crop_size", 0))


def shapes_of(layer: Layer, survey: Survey) -> set[Shape]:
    """The sizes of images, with the channels that a layer has encoded ones decoded to."""
    transform = layer.fields.get("transform_param", {})
    forced = 3 if transform.get("force_color") else 1 if transform.get("force_gray") else 0
    forced = forced if survey.encoded else 0
    return {(forced or shape[0], *shape[1:]) for shape in survey.shapes}


def channels(numbers: Iterable[int]) -> str:
    """``1 and 3 channels``."""
    few = sorted(set(numbers))
    return f"{' and '.join(map(str, few))} channel{'s' * (few != [1])}"


# ---- the rules

Rule = Callable[[Reading], Iterator[Found]]


def backend(at: Reading) -> Iterator[Found]:
    """A database of another kind than the layer says."""
    given = str(at.layer.param.get("backend", "LEVELDB"))
    if given != "LMDB":
        yield Found(
            ERROR,
            f"'{source(at.layer)}' is an LMDB, the layer's backend is {given}",
            "set backend: LMDB",
            at.layer.name,
        )


def size(at: Reading) -> Iterator[Found]:
    """Images that the crop does not fit into, or that differ where they may not."""
    name, shapes = source(at.layer), at.shapes
    if not at.survey.count:
        yield Found(ERROR, f"'{name}' has no images", CONVERT, at.layer.name)
    if not shapes:
        return
    if len({shape[0] for shape in shapes}) > 1:
        yield Found(
            ERROR,
            f"'{name}' has images of {channels(shape[0] for shape in shapes)}",
            "write it again: without --gray all have three",
            at.layer.name,
        )
    small = min(shapes, key=lambda shape: min(shape[1:]))
    if at.crop > min(small[1:]):
        yield Found(
            ERROR,
            f"crop_size {at.crop} is larger than images of '{name}', {dims(small[1:])}",
            f"write it with --resize shorter:{at.crop} or more, or set another crop_size",
            at.layer.name,
        )
    elif not at.crop and len({shape[1:] for shape in shapes}) > 1:
        yield Found(
            ERROR,
            f"'{name}' has images of {len({shape[1:] for shape in shapes}):,} sizes, as "
            f"{dims(min(shapes)[1:])} and {dims(max(shapes)[1:])}, and there is no crop_size",
            "write it with --resize warp:N, or set crop_size",
            at.layer.name,
        )
    elif at.at.training and at.crop and {shape[1:] for shape in shapes} == {(at.crop, at.crop)}:
        yield Found(
            NOTE,
            f"the images of '{name}' are no larger than crop_size {at.crop}: each crop is the same",
            "store larger ones: --resize shorter:N, or --pad N",
            at.layer.name,
        )


def mean(at: Reading) -> Iterator[Found]:
    """A mean that does not go with the images."""
    transform = at.layer.fields.get("transform_param", {})
    given = {shape[0] for shape in at.shapes}
    values = transform.get("mean_value", ())
    if len(values) > 1 and given and given != {len(values)}:
        yield Found(
            ERROR,
            f"{len(values)} mean_value for images of {channels(given)}",
            "give one, or one for each channel",
            at.layer.name,
        )
    file = str(transform.get("mean_file", ""))
    path = next((folder / file for folder in at.folders if os.path.isfile(folder / file)), None)  # noqa: PTH113
    if not file or path is None or not at.shapes:
        return
    from resnet_proto.formats.binaryproto import read_blob

    try:
        shape = read_blob(path).shape
    except ResNetProtoError as error:
        yield Found(ERROR, str(error).partition("; ")[0], "make it again", at.layer.name)
        return
    shape = (1,) * (4 - len(shape)) + shape
    if wrong := at.shapes - {shape[1:]}:
        yield Found(
            ERROR,
            f"mean_file '{file}' is {dims(shape[1:])}, images of '{source(at.layer)}' are "
            f"{dims(min(wrong))}; Caffe subtracts it before the crop",
            "make it of these: `resnet-proto data mean`, or give mean_value",
            at.layer.name,
        )


def labels(at: Reading) -> Iterator[Found]:
    """Labels that are no class of the net, and classes that have no image."""
    counts = Counter(at.survey.labels)
    tops = at.layer.tops
    if len(tops) < 2 or not counts:
        return
    tells = f"{at.survey.looked_at} of '{source(at.layer)}'"
    classes = 0
    known = {step.layer.name: step for step in at.at.steps}
    ignored = set()
    for layer in at.at.layers:
        if layer.type in LABELLED and len(layer.bottoms) > 1 and layer.bottoms[1] == tops[1]:
            for message in ("loss_param", "accuracy_param"):
                given = layer.fields.get(message, {})
                ignored |= {given["ignore_label"]} if "ignore_label" in given else set()
            step = known.get(layer.name)
            if step is not None and len(step.bottoms[0]) > 1:
                classes = step.bottoms[0][1]
    used = set(counts) - ignored
    wrong = {label for label in used if label < 0 or (classes and label >= classes)}
    if wrong:
        n = sum(counts[label] for label in wrong)
        low, high = min(wrong), max(wrong)
        which = f"label {low}" if low == high else f"labels from {low} to {high}"
        yield Found(
            ERROR,
            f"{n:,} of {tells}: {which}, and the net has "
            + (f"{classes:,} classes" if classes else "classes from 0 on"),
            f"labels count from 0: give the classifier {max(used) + 1:,} outputs, or write other "
            "labels",
            at.layer.name,
        )
    elif len(used) == 1 and at.at.training:
        yield Found(
            WARNING,
            f"{tells} all have label {min(used)}: there is nothing to learn",
            "write it again, with all classes",
            at.layer.name,
        )
    elif (
        classes
        and at.at.training
        and len(at.survey.labels) == at.survey.count
        and (missing := set(range(classes)) - used)
    ):
        yield Found(
            WARNING,
            f"{len(missing):,} of the net's {classes:,} classes have no image in "
            f"'{source(at.layer)}', as {min(missing)}",
            "add images of them, or number the classes without gaps"
            if min(missing) < max(used)
            else f"give the classifier {max(used) + 1:,} outputs, or add images",
            at.layer.name,
        )


def order(at: Reading) -> Iterator[Found]:
    """Training images one class after the other: Caffe does not mix what it reads from an LMDB."""
    found = at.survey.labels
    several = len(set(found)) > 1 and at.survey.count > layer_batch(at.layer)
    if at.at.training and several and all(a <= b for a, b in pairwise(found)):
        yield Found(
            WARNING,
            f"'{source(at.layer)}' has one class after the other, and a batch is read in order",
            "write it with --shuffle",
            at.layer.name,
        )


def few(at: Reading) -> Iterator[Found]:
    """A batch larger than the data."""
    if 0 < at.survey.count < layer_batch(at.layer):
        yield Found(
            WARNING,
            f"a batch is {layer_batch(at.layer):,} images, '{source(at.layer)}' has "
            f"{at.survey.count:,}: some are in it twice",
            "take a smaller batch_size",
            at.layer.name,
        )


RULES: dict[str, Rule] = {
    "data-backend": backend,
    "data-size": size,
    "data-mean": mean,
    "data-labels": labels,
    "data-order": order,
    "data-few": few,
}


def check_data(
    views: Sequence[View], databases: Databases, folders: Sequence[Path]
) -> Iterator[tuple[str, Found]]:
    """Rule and finding about the databases that a net reads, for each phase."""
    for at in views:
        for layer in at.layers:
            found = databases.of(layer, folders)
            if isinstance(found, ResNetProtoError):
                reason, _, remedy = str(found).rpartition("; ")
                yield "data-unreadable", Found(ERROR, reason, remedy, layer.name)
            elif found is not None:
                for name, rule in RULES.items():
                    for item in rule(Reading(at, layer, found, folders)):
                        yield name, item
