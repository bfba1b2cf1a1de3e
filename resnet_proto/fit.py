"""Weights and a net: what Caffe would do with them, and the blobs that each layer gets.

Weights + Net -> a verdict for each layer
Weights + Net -> the blobs of each layer, in Caffe's order
Weights + Step -> the arrays that a layer computes with
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from resnet_proto.errors import NetError, UnknownLayerError, UnknownShapeError, WeightsError
from resnet_proto.layers import Layer, Shape, count, dims
from resnet_proto.net import check_counts, labels
from resnet_proto.shared import Keys
from resnet_proto.weights import Blob, StoredLayer, Weights, blob_names
from resnet_proto.words import counted

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net, Step

NUMBER = re.compile("[0-9]{1,3}")
"""Of a blob; no layer has a thousand."""
GUESSES = tuple(
    (n, n * 2**12 * 3**2 * 5 * 7, *(1009 + 2 * n + 20 * i for i in range(axes - 2)))
    for axes in (2, 3, 4, 5)
    for n in (2 * axes + 1, 2 * axes + 2)
)
"""Shapes that a blob of unknown shape is taken for (``guessed``): two for each number of axes, all
sizes different, and channels that groups divide."""


class Need(NamedTuple):
    """The shape that a net needs of a blob, as far as it is known.

    Args:
        shapes: one for each number of axes that it may have; a size of -1 is not known.
        closed: whether it can have no other number of axes.
    """

    shapes: tuple[Shape, ...]
    closed: bool = True

    @property
    def known(self) -> bool:
        """Whether there is nothing left to know."""
        return self.closed and len(self.shapes) == 1 and -1 not in self.shapes[0]

    def met_by(self, blob: Blob) -> bool:
        """Whether Caffe copies this blob, or may."""
        if any(map(blob.fits, self.shapes)):
            return True
        tried = blob.legacy or len(blob.shape) in map(len, self.shapes)
        return not (self.closed or tried)

    def text(self, axes: int = 4) -> str:
        """The shape of so many axes, or the first, as people write it."""
        shape = next((s for s in self.shapes if len(s) == axes), self.shapes[0])
        return dims(shape).replace("-1", "?")


Needs = Mapping[str, Need]
"""By the names of a layer's blobs, in Caffe's order."""


@dataclass(frozen=True)
class Verdict:
    """What Caffe would do about one layer.

    Args:
        layer: its label, in the file or else in the net.
        verdict: ``copied``; ``ignored`` (only in the file); ``left at its filler`` (only in the
            net); ``refused`` (Caffe ends); ``unknown`` (the net's shapes are not known there).
        reason: why, where it is not plain.
    """

    layer: str
    verdict: str
    reason: str = ""


def match(weights: Weights, net: Net) -> list[Verdict]:
    """What Caffe would do with these weights and this net: net.cpp, CopyTrainedLayersFrom.

    It goes by name, and by the first layer of a name. Layers without blobs are left out. What
    layers share is copied over for each of them that the file has, so the last copy counts; one
    that the file lacks has it from another.

    In HDF5 a name is that of one group: one with a slash is never looked for, and what is within
    the group of another layer counts as its blobs; the last layer of a name gets them
    (CopyTrainedLayersFromHDF5).
    """
    weights = named(weights, net)
    wanted, chosen, unknown = targets(net)
    if weights.hdf5:
        layers = net.upgraded().filtered().layers
        chosen = dict(zip((x.name for x in layers), labels(x.name for x in layers), strict=True))
    shared = net.sharing()
    verdicts: list[Verdict] = []
    copied: set[str] = set()
    filled: set[str] = set()
    within = {layer.label.partition("/")[0] for layer in weights.layers if "/" in layer.label}
    for layer in weights.layers:
        if weights.hdf5 and "/" in layer.label:
            reason = "Caffe finds no layer with a slash in its name in an HDF5 file"
            verdicts.append(Verdict(layer.label, "ignored", reason))
            continue
        target = chosen.get(layer.label if weights.hdf5 else layer.name)
        if target is None:
            if layer.blobs:
                verdicts.append(Verdict(layer.label, "ignored", "the net has no such layer"))
            continue
        if weights.hdf5 and layer.label in within:
            reason = f"Caffe takes the groups within '{layer.label}' for blobs of it"
            verdicts.append(Verdict(layer.label, "refused", reason))
            continue
        if target not in wanted:
            verdicts.append(Verdict(layer.label, "unknown", unknown[target]))
            continue
        if not (layer.blobs or wanted[target]):
            continue
        own = shared.get(target, {})
        blobs = in_order(layer.blobs, wanted[target])
        other = own
        if weights.hdf5:  # what the layer owns has to be there
            other = {name: keys for name, keys in own.items() if keys[0] != f"{target}.{name}"}
        reason = misfit(blobs, without(wanted[target], other, blobs) if blobs else wanted[target])
        if reason:
            verdicts.append(Verdict(layer.label, "refused", reason))
        elif target in unknown:
            verdicts.append(Verdict(layer.label, "unknown", unknown[target]))
        else:
            again = f"over what came before: Caffe takes both for '{target}'"
            over = sorted({keys[0] for keys in own.values() if keys[0] in filled})
            if over and target not in copied:
                again = f"over '{over[0]}', which it shares: the last copy counts"
            verdicts.append(
                Verdict(layer.label, "copied", again if over or target in copied else "")
            )
            filled |= {own[blob.name][0] for blob in blobs if blob.name in own}
        copied.add(target)
    for label, shapes in wanted.items():
        if shapes and label not in copied:
            from_others = [name for name, keys in shared.get(label, {}).items()
                           if keys[0] in filled]  # fmt: skip
            if set(shapes) <= set(from_others):
                owners = sorted({shared[label][name][0] for name in from_others})
                verdicts.append(Verdict(label, "copied", f"with '{owners[0]}', which it shares"))
                continue
            one = "last" if weights.hdf5 else "first"
            taken = (
                "" if label in chosen.values() else f"Caffe copies to the {one} of its name only"
            )
            verdicts.append(Verdict(label, "left at its filler", taken))
    return verdicts


def targets(net: Net) -> tuple[dict[str, Needs], dict[str, str], dict[str, str]]:
    """What each layer needs, by label; the first label of each name; and labels -> why not known.

    A layer that is not known has no needs here, and one behind it has some: see ``guessed``.
    """
    wanted: dict[str, Needs] = {}
    unknown: dict[str, str] = {}
    made: dict[str, Shape] = {}
    layers = net.upgraded().filtered().layers
    names = tuple(labels(layer.name for layer in layers))
    first: dict[str, str] = {}
    for layer, label in zip(layers, names, strict=True):
        first.setdefault(layer.name, label)
    try:
        for step in net.walk():
            wanted[step.label] = exact(step.blobs)
            made.update(zip(step.layer.tops, step.tops, strict=True))
    except (UnknownLayerError, UnknownShapeError) as error:
        rest = layers[len(wanted) :]
        where = f"behind layer '{rest[0].name}' ({rest[0].type})"
        unknown = {names[len(wanted)]: str(error)}
        for label, needs in zip(names[len(wanted) :], guessed(rest, made), strict=True):
            if needs is not None:
                wanted[label] = needs
            if needs is None or not all(need.known for need in needs.values()):
                unknown.setdefault(label, where)
    return wanted, first, unknown


def guessed(layers: Sequence[Layer], made: Mapping[str, Shape]) -> list[Needs | None]:
    """What layers need, the first of which are not known; None where nothing can be said.

    Each blob of unknown shape is taken for one of ``GUESSES`` after the other. What a layer
    needs each time does not depend on it: ``num_output``, the kernel, channels that another
    layer has made.
    """
    runs = [list(guess_run(layers, made, guess)) for guess in GUESSES]
    return [agreed(tries) for tries in zip(*runs, strict=True)]


def guess_run(
    layers: Sequence[Layer], made: Mapping[str, Shape], guess: Shape
) -> Iterator[Mapping[str, Shape] | None]:
    """The blobs of each layer, if every unknown blob had one shape; None where it cannot be."""
    shapes = dict(made)
    for layer in layers:
        bottoms = [shapes.get(name, guess) for name in layer.bottoms]
        try:
            check_counts(layer)
            tops = layer.top_shapes(bottoms)
            yield layer.blob_shapes(bottoms)
        except NetError:
            tops = [guess] * len(layer.tops)
            yield None
        shapes.update(zip(layer.tops, tops, strict=True))


def agreed(tries: Sequence[Mapping[str, Shape] | None]) -> Needs | None:
    """What the blobs have in common, one for each of ``GUESSES``; None if nothing can be said.

    A number of axes that a layer cannot take is out. If it takes one of the two guesses, it is
    their sizes that matter, and any may come.
    """
    possible = [blobs for blobs in tries if blobs is not None]
    pairs = zip(tries[::2], tries[1::2], strict=True)
    if not possible or any((a is None) != (b is None) for a, b in pairs):
        return None
    if len({tuple(blobs) for blobs in possible}) > 1:
        return None
    needs = {}
    for name in possible[0]:
        by_axes: dict[int, Shape] = {}
        for blobs in possible:
            shape = blobs[name]
            before = by_axes.setdefault(len(shape), shape)
            both = zip(before, shape, strict=True)
            by_axes[len(shape)] = tuple(a if a == b else -1 for a, b in both)
        needs[name] = Need(tuple(by_axes.values()), len(by_axes) == 1)
    return needs


def exact(blobs: Mapping[str, Shape]) -> Needs:
    """The needs of a layer whose shapes are known."""
    return {name: Need((shape,)) for name, shape in blobs.items()}


def in_order(blobs: tuple[Blob, ...], wanted: Needs) -> tuple[Blob, ...]:
    """The blobs as Caffe numbers them; files of named arrays may have another order."""
    order = {name: i for i, name in enumerate(wanted)}
    return tuple(sorted(blobs, key=lambda blob: order.get(blob.name, len(order))))


@overload
def named(weights: Weights, net: Net) -> Weights: ...
@overload
def named(weights: Mapping[str, Array], net: Net) -> Mapping[str, Array]: ...


def named(weights: Mapping[str, Array], net: Net) -> Mapping[str, Array]:
    """The weights as a net calls them: types, names of blobs and Caffe's order of them.

    Files of named arrays do not say a layer's type, and HDF5 only the numbers of blobs. The same
    object comes back where there is nothing to say, and what is no ``Weights``.
    """
    if not isinstance(weights, Weights) or all(
        stored.type for stored in weights.layers if stored.blobs
    ):
        return weights
    layers = net.upgraded().filtered().layers
    by_label = dict(zip(labels(layer.name for layer in layers), layers, strict=True))
    rows = []
    for stored in weights.layers:
        layer = by_label.get(stored.label)
        if layer is None or stored.type or not stored.blobs:
            rows.append(stored)
            continue
        numbers = [int(blob.name) for blob in stored.blobs if NUMBER.fullmatch(blob.name)]
        size = max(len(stored.blobs), 1 + max(numbers, default=0))  # HDF5 leaves shared ones out
        names = blob_names(layer.type, min(len(layer.bottoms), 2), size)
        by_number = {str(i): name for i, name in enumerate(names)}
        order = {name: i for i, name in enumerate(names)}
        renamed = (
            blob._replace(
                layer_name=layer.name, type=layer.type, name=by_number.get(blob.name, blob.name)
            )
            for blob in stored.blobs
        )
        blobs = sorted(renamed, key=lambda blob: order.get(blob.name, len(order)))
        rows.append(StoredLayer(stored.label, layer.name, layer.type, tuple(blobs)))
    found = Weights(rows, weights.source, weights.net_text, weights.close)
    found.hdf5 = weights.hdf5
    return found


def misfit(blobs: tuple[Blob, ...], wanted: Needs) -> str:
    """Why Caffe does not copy these blobs into those; empty if it does, or may."""
    needed = ", ".join(need.text() for need in wanted.values()) or "none"
    if wanted and not blobs:
        return f"the weights have none for it, the net needs {needed}"
    if len(blobs) != len(wanted):
        stored = ", ".join(dims(blob.shape) for blob in blobs) or "none"
        has = f"{counted(len(blobs), 'blob')} ({stored}) in the weights"
        inside = len(wanted) == 3 < len(blobs) and "scale_factor" in wanted
        hint = "; for gamma and beta inside say use_weight_bias: true in batch_norm_param"
        return f"{has}, {len(wanted)} ({needed}) in the net{hint if inside else ''}"
    for blob, (name, need) in zip(blobs, wanted.items(), strict=True):
        if not need.met_by(blob):
            stored = "stored without a shape" if blob.shapeless else dims(blob.shape)
            axes = len(blob.shape)
            return f"{name} is {stored} in the weights, the net needs {need.text(axes)}"
    return ""


def without(wanted: Needs, shared: Mapping[str, Keys], stored: Iterable[Blob]) -> dict[str, Need]:
    """What a layer needs of its own: a blob that it shares may be stored elsewhere."""
    names = {blob.name for blob in stored}
    return {name: need for name, need in wanted.items() if name not in shared or name in names}


def fit(
    weights: Weights, label: str, wanted: Needs, shared: Mapping[str, Keys] = MappingProxyType({})
) -> tuple[Blob, ...]:
    """The blobs of one layer, in Caffe's order.

    ``shared`` are those of ``Step``: of the copies of such a blob the last is taken.

    Raises:
        WeightsError: they are not those that the net needs.
    """
    weights.check_open()
    stored = in_order(weights.blobs_of.get(label, ()), wanted)
    own = without(wanted, shared, stored)
    reason = misfit(stored, own)
    if not reason and [blob.name for blob in stored] != list(own):
        names = ", ".join(blob.name for blob in stored)
        reason = f"its blobs are {names} in the weights, {', '.join(own)} in the net"
    if not reason and shared:
        named = {blob.name: blob for blob in stored}
        layer = StoredLayer(label, label, "")
        if stored:
            layer = StoredLayer(label, stored[0].layer_name, stored[0].type)
        for name, keys in shared.items():
            if name in wanted and not reason:
                found = last_copy(weights, keys, f"{label}.{name}", wanted[name])
                if isinstance(found, str):
                    reason = f"{name} {found}"
                else:
                    named[name] = found._replace(
                        layer=label, layer_name=layer.name, type=layer.type, name=name
                    )
        stored = tuple(named[name] for name in wanted if name in named)
    if reason:
        raise WeightsError(
            f"{weights.source}: layer '{label}' does not fit the net: {reason}; "
            "`resnet-proto inspect` with --net lists every layer"
        )
    return stored


def last_copy(weights: Weights, keys: Keys, own: str, need: Need) -> Blob | str:
    """The last copy of a blob that is stored under several keys, as one of them needs it.

    Another may have other sizes (PERMISSIVE). What is wrong with it is said instead.
    """
    key = weights.last(keys)
    if not key:
        return f"is missing in the weights, as '{keys[0]}' too, which is the same"
    blob = weights.blobs[key]
    if key == own or need.met_by(blob):
        return blob
    if need.known and count(need.shapes[0]) == count(blob.shape):
        return blob._replace(shape=need.shapes[0], legacy=False, shapeless=False)
    return f"is '{key}' of {dims(blob.shape)} in the weights, the net needs {need.text()}"


def fitted(
    weights: Weights, net: Net, warnings: list[str] | None = None
) -> list[tuple[Layer, str, tuple[Blob, ...]]]:
    """Each layer of the net with its label and its blobs, in Caffe's order.

    Here the second layer of a name has blobs of its own, ``name#2``. What layers share stands at
    each of them: net.cpp, ToProto.

    Args:
        weights: of any source.
        net: its layers are those of the result.
        warnings: gets a sentence if there are layers that cannot be checked: how many, and why.

    Raises:
        WeightsError: blobs that are missing, are too many, or have another shape.
    """
    wanted, _, unknown = targets(net)
    if unknown and warnings is not None:
        partly = sum(label in wanted for label in unknown)
        why = next(iter(unknown.values())).partition("; docs/")[0]
        warnings.append(
            f"{len(unknown) - partly} of the net's layers cannot be checked with the weights, and "
            f"{partly} only in part: {why}"
        )
    stored, shared = weights.blobs_of, net.sharing()
    layers = net.upgraded().filtered().layers
    rows = []
    for layer, label in zip(layers, labels(layer.name for layer in layers), strict=True):
        blobs = stored.get(label, ())
        if label in wanted:
            blobs = fit(weights, label, wanted[label], shared.get(label, {}))
        rows.append((layer, label, blobs))
    return rows


def with_shared(
    weights: Weights, rows: Iterable[tuple[Layer, str, tuple[Blob, ...]]], net: Net, *, once: bool
) -> Weights:
    """Weights in which what layers share stands once, with its owner, or else at each of them.

    Args:
        weights: the same object comes back where the net shares nothing.
        rows: those of ``fitted``.
        net: which layers share.
        once: Caffe writes caffemodels with all copies, and HDF5 with one.
    """
    shared = net.sharing()
    if not shared:
        return weights
    layers = []
    for layer, label, blobs in rows:
        own = shared.get(label, {})
        kept = [b for b in blobs if not once or own.get(b.name, (b.key,))[0] == b.key]
        if kept:
            type = kept[0].type or layer.type
            blobs = tuple(b._replace(layer_name=layer.name, type=type) for b in kept)
            layers.append(StoredLayer(label, layer.name, type, blobs))
    done = {label for _, label, _ in rows}
    alone = (stored for stored in weights.layers if stored.label not in done)
    return Weights((*layers, *alone), weights.source, weights.net_text)


def step_blobs(step: Step, weights: Mapping[str, Array], dtype: DTypeLike) -> list[Array]:
    """The weight blobs of one layer, in ``dtype``, contiguous and aligned.

    ``Weights`` fit as Caffe has it (``fit``). Of a plain mapping only the blobs that are needed
    are looked at, and (1, 1, 1, N) is (N,). Of the copies of a shared blob the last counts.

    Raises:
        WeightsError: one is missing, or its shape is another.
    """
    import numpy as np

    if isinstance(weights, Weights):
        stored = fit(weights, step.label, exact(step.blobs), step.shared)
        return [
            np.require(blob.array(), dtype, ["C", "A"]).reshape(shape)
            for blob, shape in zip(stored, step.blobs.values(), strict=True)
        ]
    if not isinstance(weights, Mapping):
        raise WeightsError(f"expected a mapping of names to arrays, got {weights!r:.80}")
    arrays = []
    for name, shape in step.blobs.items():
        own = key = f"{step.label}.{name}"
        if name in step.shared:
            key = last_key(weights, step.shared[name]) or own
        if key not in weights:
            raise WeightsError(
                f"layer '{step.label}': {name} is missing in the weights, "
                f"the net needs {dims(shape)}"
            )
        try:
            given = np.asarray(weights[key])
        except ValueError:  # rows of several lengths
            given = np.array(None)
        if given.dtype.kind not in "fiub":
            raise WeightsError(
                f"layer '{step.label}': {name} is {given.dtype} in the weights; "
                "give an array of real numbers"
            )
        array = np.require(given, dtype, ["C", "A"])
        fits = without_ones(array.shape) == without_ones(shape)
        if not (fits or (key != own and array.size == count(shape))):
            raise WeightsError(
                f"layer '{step.label}': {name} is {dims(array.shape)} in the weights, "
                f"the net needs {dims(shape)}"
            )
        arrays.append(array.reshape(shape))
    return arrays


def last_key(weights: Mapping[str, Any], keys: Keys) -> str:
    """The last of the keys that the weights have; empty if they have none."""
    found = [key for key in keys if key in weights]
    if len(found) < 2:
        return found[0] if found else ""
    return next(key for key in reversed([*weights]) if key in found)


def without_ones(shape: Shape) -> Shape:
    """The shape without the ones in front."""
    return without_ones(shape[1:]) if shape[:1] == (1,) else shape
