"""A net: layers in order, and the walk that says what flows between them.

    Net -> walk -> for each layer: bottom shapes, top shapes, blob shapes, MACs

The only meeting point of all flows. Nothing here knows what a stage is,
and nothing here holds an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from resnet_proto.errors import NetError, ShapeError, UnknownLayerError, similar
from resnet_proto.layers import MAX_COUNT, REGISTRY, Layer, Shape, count, dims, make_layer, normal
from resnet_proto.upgrade import input_layer
from resnet_proto.words import counted


class Step(NamedTuple):
    """One layer with the shapes that reach it and leave it."""

    layer: Layer
    label: str
    """The layer's name; the second layer of one name is ``name#2``. Weights are found by it."""
    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    blobs: Mapping[str, Shape]
    macs: int

    @property
    def statistics(self) -> int:
        """Values that are measured and not learned: BatchNorm's blobs."""
        measured = self.layer.statistics
        return sum(count(shape) for name, shape in self.blobs.items() if name in measured)

    @property
    def parameters(self) -> int:
        """Learned values."""
        if self.layer.fixed:
            return 0
        measured = self.layer.statistics
        return sum(count(shape) for name, shape in self.blobs.items() if name not in measured)


@dataclass(frozen=True)
class Net:
    """A net as its prototxt says it.

    ``read_prototxt(to_prototxt(net)) == net``, unless a field holds nan, which equals nothing.

    Args:
        name: the net's own name.
        layers: in the order of the file, all phases.
        fields: every other field of Caffe's ``NetParameter`` that was set (``input``,
            ``input_dim``, ``input_shape``, ``state`` ...), by name.
        source: where it was read, for messages; no part of what the net is.
    """

    name: str = ""
    layers: tuple[Layer, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", normal(self.fields))
        if type(self.layers) is not tuple:
            object.__setattr__(self, "layers", tuple(self.layers))

    def __hash__(self) -> int:
        return hash((self.name, self.layers))

    def upgraded(self) -> Net:
        """The net with its old ``input`` fields as an Input layer.

        Source: upgrade_proto.cpp, UpgradeNetInput; see ``upgrade.input_layer``.

        Raises:
            NetError: the number of shapes does not fit the number of inputs.
        """
        data, rest = input_layer(self.fields)
        if rest is self.fields:
            return self
        param = {} if data is None else {"input_param": data["input_param"]}
        first = () if data is None else (make_layer("input", "Input", (), data["top"], param),)
        return replace(self, layers=(*first, *self.layers), fields=rest)

    def filtered(self, phase: str = "TEST", level: int = 0, stages: tuple[str, ...] = ()) -> Net:
        """Only the layers whose include and exclude rules admit this state.

        Stages that the net's own ``state`` names count too. Source: net.cpp, FilterNet and
        StateMeetsRule.

        Raises:
            NetError: no phase is called so, or a layer has both kinds of rules.
        """
        if phase not in ("TEST", "TRAIN"):
            raise NetError(f"phase is '{phase}'; known: TEST, TRAIN")
        stages = (*self.fields.get("state", {}).get("stage", ()), *stages)
        kept = []
        for layer in self.layers:
            include = layer.fields.get("include", ())
            exclude = layer.fields.get("exclude", ())
            if include and exclude:
                raise NetError(
                    f"layer '{layer.name}' has include and exclude rules; Caffe takes only one kind"
                )
            rules = include or exclude
            if not rules or bool(include) == any(
                meets(rule, phase, level, stages) for rule in rules
            ):
                kept.append(layer)
        return replace(self, layers=tuple(kept))

    def until(self, names: Iterable[str]) -> Net:
        """The net up to the last layer that writes one of these blobs.

        Raises:
            NetError: no layer writes a blob of that name.
        """
        last = {name: i for i, layer in enumerate(self.layers) for name in layer.tops}
        end = 0
        for name in names:
            if name not in last:
                tops = next((layer.tops for layer in self.layers if layer.name == name), ())
                hint = (
                    f"; that is a layer, its blob is '{tops[0]}'" if tops else nearest(name, last)
                )
                raise NetError(f"no blob '{name}' to compute{hint}")
            end = max(end, last[name] + 1)
        return replace(self, layers=self.layers[:end])

    def reaching(self, outputs: Iterable[str] | None, until: str | None) -> Net:
        """The layers of phase TEST that a run may need: up to ``until``, or to the last output.

        Raises:
            NetError: no blob has that name, or it is behind ``until``.
        """
        net = whole = self.upgraded().filtered()
        if until is not None:
            net = whole.until((until,))
        if outputs is not None:
            names = tuple(outputs)
            whole.until(names)
            made = {top for layer in net.layers for top in layer.tops}
            for name in names:
                if name not in made:
                    raise NetError(
                        f"blob '{name}' is behind '{until}', where the run stops; "
                        "ask for one before it, or stop later"
                    )
            net = net.until(names)
        return net

    def needed(self, wanted: Iterable[str]) -> Net:
        """Only the layers without which the last values of these blobs cannot be computed."""
        rows = zip(self.layers, needed(self.layers, wanted), strict=True)
        return replace(self, layers=tuple(layer for layer, is_needed in rows if is_needed))

    def walk(
        self,
        phase: str = "TEST",
        shapes: Mapping[str, Shape] | None = None,
        wanted: Iterable[str] | None = None,
    ) -> Iterator[Step]:
        """Each layer of ``phase`` in order, with its shapes.

        What needs no shapes is checked first, for all layers.

        Args:
            phase: TEST or TRAIN.
            shapes: blob name -> shape, for tops of data layers (``Data``, ``DummyData`` ...); they
                go before what the layer says. Labels that are not named have as many values as
                the data has images.
            wanted: only the layers that these blobs need; all if None.

        Raises:
            NetError: a bottom that no layer has made, or a top that two layers write; or no
                data layer makes a blob that ``shapes`` names.
            ShapeError: a layer that cannot take its bottoms.
            UnknownShapeError: a data layer whose shape is in its files, and not in ``shapes``.
            UnknownLayerError: a layer type whose shapes are not known; the layers before
                it have been handed out by then.
        """
        with self.named():
            yield from self._steps(phase, shapes or {}, wanted)

    @contextmanager
    def named(self) -> Iterator[None]:
        """What is refused within names the net's file, once."""
        try:
            yield
        except NetError as error:
            where = f"{self.source}: " if self.source else ""
            if str(error).startswith(where):
                raise
            raise type(error)(f"{where}{error}") from None

    def _steps(
        self, phase: str, given: Mapping[str, Shape], wanted: Iterable[str] | None
    ) -> Iterator[Step]:
        shapes: dict[str, Shape] = {}
        owners: dict[str, str] = {}
        layers = self.upgraded().filtered(phase).layers
        check_given(given, layers)
        names = list(labels(layer.name for layer in layers))
        check_structure(layers)
        kept = [True] * len(layers) if wanted is None else needed(layers, wanted)
        for layer, label, is_needed in zip(layers, names, kept, strict=True):
            if not is_needed:
                continue
            check_shared(layer, label, owners)
            bottoms = tuple(shapes[name] for name in layer.bottoms)
            try:
                check_counts(layer)
                tops = tuple(
                    layer.tops_with(given)
                    if given and layer.any_shape
                    else layer.top_shapes(bottoms)
                )
                for name, shape in zip(layer.tops, tops, strict=True):
                    check_size(name, shape)
                blobs = layer.blob_shapes(bottoms)
                for name, shape in blobs.items():
                    check_size(name, shape)
                check_lengths(layer, len(blobs))
            except ShapeError as error:
                raise type(error)(f"layer '{layer.name}' ({layer.type}): {error}") from None
            except UnknownLayerError as error:
                from resnet_proto.schema import MAINLINE_TYPES  # `gen` knows its types

                types = {*REGISTRY, *MAINLINE_TYPES}
                hint = "" if layer.type in types else similar(layer.type, sorted(types))
                raise UnknownLayerError(f"{error}{hint}") from None
            shapes.update(zip(layer.tops, tops, strict=True))
            yield Step(layer, label, bottoms, tops, blobs, layer.macs(bottoms, tops, blobs))

    def inputs(self) -> dict[str, Shape]:
        """Name and shape of each blob that the caller hands in."""
        inputs = tuple(layer for layer in self.upgraded().layers if layer.type == "Input")
        walk = replace(self, layers=inputs, fields={"state": self.fields.get("state", {})}).walk()
        return {k: v for step in walk for k, v in zip(step.layer.tops, step.tops, strict=True)}

    def data_tops(self) -> dict[str, Layer]:
        """The layer of each blob that a data layer makes, at phase TEST."""
        layers = (layer for layer in self.filtered().layers if layer.any_shape)
        return {name: layer for layer in layers for name in layer.tops}

    def canonical(self) -> list[dict[str, Any]]:
        """The layers as Caffe sees them: old inputs upgraded, defaults filled in.

        Two nets whose canonical layers are equal are one net, however they are spelled.
        """
        rows = []
        for layer in self.upgraded().layers:
            rest = {k: v for k, v in layer.fields.items() if k != layer.message}
            own = {**layer.param, **layer.resolved()}
            rows.append(
                {
                    "name": layer.name,
                    "type": layer.type,
                    "bottoms": layer.bottoms,
                    "tops": layer.tops,
                    "param": own,
                    "fields": rest | layer.resolved_others(),
                }
            )
        return rows


def needed(layers: Sequence[Layer], wanted: Iterable[str]) -> list[bool]:
    """For each layer, whether the last values of these blobs cannot be computed without it."""
    live, kept = set(wanted), []
    for layer in reversed(layers):
        kept.append(not live.isdisjoint(layer.tops))
        if kept[-1]:
            live = (live - set(layer.tops)) | set(layer.bottoms)
    return kept[::-1]


def check_runs(step: Step) -> None:
    """Refuse what can be part of a net, but not of a run.

    Raises:
        ShapeError: a blob without values: blob.cpp, cpu_data.
        NetError: a layer that overwrites what it still has to read, or draws at random.
    """
    layer = step.layer
    names = (*layer.bottoms, *layer.tops)
    for name, shape in zip(names, (*step.bottoms, *step.tops), strict=True):
        if 0 in shape:
            raise ShapeError(
                f"layer '{step.label}' ({layer.type}): blob '{name}' is {dims(shape)}; "
                "nothing can be computed with an empty blob"
            )
    if layer.in_place and not layer.may_work_in_place():
        raise NetError(
            f"layer '{step.label}' ({layer.type}) cannot work in place: Caffe loses "
            f"'{layer.bottoms[0]}' before it is read; give the top a name of its own"
        )
    if layer.is_random:
        remedy = "leave its phase out" if "phase" in layer.fields else "take MAX or AVE"
        raise NetError(
            f"layer '{step.label}' ({layer.type}) draws at random in Caffe, "
            f"in a net of phase TEST too; {remedy}"
        )


def overwritten(layers: Sequence[Layer]) -> dict[str, Layer]:
    """Blobs that lose their values in Caffe to a layer that works in place on another blob.

    Tops of Split, Flatten, Reshape, and of Concat and Slice with one blob on either side, are
    their bottom's memory: what is written there is in both. Here such a blob keeps its values.

    Returns:
        Name -> the layer that overwrites it.

    Raises:
        NetError: a layer reads such a blob, and would get what the author cannot have meant.
    """
    memory: dict[str, set[str]] = {}
    lost: dict[str, Layer] = {}
    for layer in layers:
        for name in layer.bottoms:
            if name in lost:
                writer = lost[name]
                raise NetError(
                    f"layer '{layer.name}' ({layer.type}) reads blob '{name}', which in Caffe "
                    f"shares its memory with '{writer.tops[0]}', and layer '{writer.name}' "
                    f"({writer.type}) overwrites that in place; give its top a name of its own"
                )
        for i, name in enumerate(layer.tops):
            if name in layer.bottoms[i : i + 1]:
                others = memory[name] - {name} if layer.rewrites else ()
                lost.update(dict.fromkeys(others, layer))
            elif layer.shares_memory:
                memory[name] = memory[layer.bottoms[0]]
                memory[name].add(name)
            else:
                memory[name] = {name}
    return lost


def nearest(name: str, known: Iterable[str]) -> str:
    """The names that may have been meant, as the end of a message."""
    known = list(known)
    if not known:
        return "; the net has none"
    return similar(name, known) or f"; the last is '{known[-1]}'"


def labels(names: Iterable[str]) -> Iterator[str]:
    """Each name once: the second layer of one name is ``name#2``. Weights are found by labels.

    Raises:
        NetError: a layer has such a name itself.
    """
    seen: dict[str, int] = {}
    given: set[str] = set()
    for name in names:
        seen[name] = nth = seen.get(name, 0) + 1
        label = name if nth == 1 else f"{name}#{nth}"
        if label in given:
            raise NetError(
                f"layers named '{name}' repeat, and '{label}' is also a layer's own name; rename it"
            )
        given.add(label)
        yield label


def meets(rule: Mapping[str, Any], phase: str, level: int, stages: tuple[str, ...]) -> bool:
    """Whether a state meets one rule: net.cpp, StateMeetsRule."""
    return (
        rule.get("phase", phase) == phase
        and rule.get("min_level", level) <= level <= rule.get("max_level", level)
        and all(stage in stages for stage in rule.get("stage", ()))
        and not any(stage in stages for stage in rule.get("not_stage", ()))
    )


def check_structure(layers: Sequence[Layer]) -> None:
    """What can be said of layers by their names and types alone.

    Raises:
        NetError: a layer without a type, or blobs that ``check_blobs`` or ``check_in_place``
            refuses.
    """
    made: dict[str, None] = {}
    for layer, n_readers in zip(layers, count_readers(layers), strict=True):
        if not layer.type:
            raise NetError(f"layer '{layer.name}' has no type; give it one: type: \"Convolution\"")
        check_blobs(layer, made)
        check_in_place(layer, n_readers)
        made.update(dict.fromkeys(layer.tops))


def check_blobs(layer: Layer, made: Mapping[str, object]) -> None:
    """Every bottom has been made, and no top is written twice: net.cpp, AppendBottom, AppendTop."""
    for name in layer.bottoms:
        if name not in made:
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) reads blob '{name}', which no layer before "
                "it writes"
                + (similar(name, made) or f"; known here: {', '.join(list(made)[-5:]) or 'none'}")
            )
    seen: set[str] = set()
    for i, name in enumerate(layer.tops):
        if name in made and layer.bottoms[i : i + 1] != (name,):
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) writes blob '{name}', which another layer "
                "has written; give it a name of its own, or make the layer in-place"
            )
        if name in seen:
            raise NetError(f"layer '{layer.name}' ({layer.type}) names its top '{name}' twice")
        seen.add(name)


def check_shared(layer: Layer, label: str, owners: dict[str, str]) -> None:
    """Weights that layers share by ``param { name }`` are not understood.

    Raises:
        UnknownLayerError: a second layer names a parameter.
    """
    for param in layer.fields.get("param", ()):
        name = param.get("name")
        if name and owners.setdefault(name, label) != label:
            raise UnknownLayerError(
                f"layer '{layer.name}' ({layer.type}) shares the weights '{name}' of layer "
                f"'{owners[name]}'; shared weights are not understood. Give each layer its own"
            )


def check_lengths(layer: Layer, n_blobs: int) -> None:
    """No repeated field is longer than what it is about: net.cpp, Init."""
    for key, what, most in (
        ("param", "blob", n_blobs),
        ("propagate_down", "bottom", len(layer.bottoms)),
        ("loss_weight", "top", max(len(layer.tops), layer.auto_tops)),
    ):
        n = len(layer.fields.get(key, ()))
        if n > most or (n and n != most and key != "param"):
            raise ShapeError(f"has {n} {key} for {counted(most, what)}; give one for each, or none")


def check_given(given: Mapping[str, Shape], layers: Sequence[Layer]) -> None:
    """Shapes are handed in for tops of data layers only.

    Raises:
        NetError: no data layer makes such a blob.
    """
    known = {name for layer in layers if layer.any_shape for name in layer.tops} if given else ()
    for name in given:
        if name not in known:
            raise NetError(f"no data layer makes a blob '{name}'{nearest(name, known)}")


def count_readers(layers: Sequence[Layer]) -> list[list[int]]:
    """For each bottom of each layer: how many bottoms read the same version of that blob.

    A ``loss_weight`` that is set reads too: insert_splits.cpp. The 1 that a loss layer has
    without setting it comes only after that.
    """
    counts: list[int] = []  # of each version
    current: dict[str, int] = {}
    read = []
    for layer in layers:
        read.append([current.get(name, -1) for name in layer.bottoms])
        for version in read[-1]:
            if version >= 0:
                counts[version] += 1
        for name in layer.tops:
            current[name] = len(counts)
            counts.append(0)
        for name, weight in zip(layer.tops, layer.fields.get("loss_weight", ()), strict=False):
            counts[current[name]] += weight != 0
    return [[counts[version] if version >= 0 else 0 for version in row] for row in read]


def check_in_place(layer: Layer, readers: Sequence[int]) -> None:
    """Nobody else reads what a layer overwrites: insert_splits.cpp would copy it away.

    Caffe ends with "produced by multiple sources": the layer then reads the copy.
    """
    for bottom, top, n in zip(layer.bottoms, layer.tops, readers, strict=False):
        if bottom == top and n > 1:
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) overwrites blob '{bottom}' in place, which "
                f"{n - 1} other bottom or loss reads as it was before; Caffe takes this for two "
                "sources. "
                "Give the top a name of its own"
            )


def check_counts(layer: Layer) -> None:
    """As many bottoms and tops as the type takes: layer.hpp, CheckBlobCounts."""
    if type(layer) is Layer:
        return
    for kind, n, (least, most) in (
        ("bottom", len(layer.bottoms), layer.n_bottoms),
        ("top", max(len(layer.tops), layer.auto_tops), layer.n_tops),
    ):
        if not least <= n <= most:
            wanted = counted(least, kind)
            if least < most:
                wanted = f"{least} to {most} {kind}s" if most < MAX_COUNT else f"at least {wanted}"
            raise ShapeError(f"takes {wanted}, has {n}")


def check_size(name: str, shape: Shape) -> None:
    """No size is negative and the blob can be addressed: blob.cpp, Reshape."""
    if shape and min(shape) < 0:
        raise ShapeError(
            f"blob '{name}' would be {dims(shape)}; no size may be negative; give the real one"
        )
    if count(shape) > MAX_COUNT:
        raise ShapeError(
            f"blob '{name}' would be {dims(shape)}; Caffe's limit is {MAX_COUNT} values; "
            "make the batch or the maps smaller"
        )
