"""A net: layers in order, and the walk that says what flows between them.

    Net -> walk -> for each layer: bottom shapes, top shapes, blob shapes, MACs

The only meeting point of all flows. Nothing here knows what a stage is,
and nothing here holds an array.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from operator import index
from types import MappingProxyType
from typing import Any, NamedTuple

from resnet_proto.errors import NetError, ResNetProtoError, ShapeError, similar
from resnet_proto.layers import MAX_AXES, MAX_COUNT, Layer, Shape, count, dims, make_layer, normal
from resnet_proto.shared import Keys, check_rates, check_shared, sharing
from resnet_proto.state import DEFAULT, State
from resnet_proto.upgrade import input_layer
from resnet_proto.words import counted

NONE: Mapping[str, Keys] = MappingProxyType({})


class Step(NamedTuple):
    """One layer with the shapes that reach it and leave it."""

    layer: Layer
    label: str
    """The layer's name; the second layer of one name is ``name#2``. Weights are found by it."""
    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    blobs: Mapping[str, Shape]
    macs: int
    shared: Mapping[str, Keys] = NONE
    """Blob -> the keys of all blobs that are one with it, the owner's first."""

    @property
    def owned(self) -> dict[str, Shape]:
        """The blobs that are not another one's: those that count."""
        if not self.shared:
            return dict(self.blobs)
        owner = {name: keys[0] for name, keys in self.shared.items()}
        own = ((name, f"{self.label}.{name}", shape) for name, shape in self.blobs.items())
        return {name: shape for name, key, shape in own if owner.get(name, key) == key}

    @property
    def statistics(self) -> int:
        """Values that are measured and not learned: BatchNorm's blobs."""
        measured = self.layer.statistics
        return sum(count(shape) for name, shape in self.owned.items() if name in measured)

    @property
    def parameters(self) -> int:
        """Learned values."""
        if self.layer.fixed:
            return 0
        measured = self.layer.statistics
        return sum(count(shape) for name, shape in self.owned.items() if name not in measured)


@dataclass(frozen=True)
class Net:
    """A net as its prototxt says it.

    ``read_prototxt(to_prototxt(net)) == net``, unless a field holds nan, which equals nothing.

    Args:
        name: the net's own name.
        layers: in the order of the file, whatever their rules.
        fields: every other field of Caffe's ``NetParameter`` that was set (``input``,
            ``input_dim``, ``input_shape``, ``state`` ...), by name.
        source: where it was read, for messages; no part of what the net is.
        state: what it is looked at for (``at``); no part of what it is either.
        given: blob name -> shape of what data layers give, where they do not say it
            (``with_input_shapes``).
        whole: the layers of the net that it is the beginning of (``until``), with which it may
            share weights.
    """

    name: str = ""
    layers: tuple[Layer, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)
    state: State = field(default=DEFAULT, compare=False)
    given: Mapping[str, Shape] = field(default_factory=dict, compare=False, repr=False)
    whole: tuple[Layer, ...] = field(default=(), compare=False, repr=False)

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

    def at(self, **changes: Any) -> Net:
        """The same net in another state: ``net.at(phase="TRAIN", level=1, stages=("deploy",))``.

        Everything that is asked of a net is of the layers that its state admits.

        Raises:
            NetError: no phase is called so.
        """
        return replace(self, state=replace(self.state, **changes))

    def filtered(self, phase: str | None = None) -> Net:
        """Only the layers whose include and exclude rules admit the state.

        Stages that the net's own ``state`` names count too; its phase and level do not. Source:
        net.cpp, FilterNet and the constructor that takes a file.

        Args:
            phase: TEST or TRAIN, in the place of the state's.

        Raises:
            NetError: no phase is called so, or a layer has both kinds of rules.
        """
        own = self.fields.get("state", {}).get("stage", ())
        net = self if phase is None else self.at(phase=phase)
        state = replace(net.state, stages=(*own, *net.state.stages))
        kept = (layer for layer in self.layers if state.admits(layer.name, layer.fields))
        return replace(net, layers=tuple(kept))

    def settled(self) -> Net:
        """The layers of the state, without their rules: the same net in any state."""
        rules = ("include", "exclude")
        layers = (
            replace(layer, fields={k: v for k, v in layer.fields.items() if k not in rules})
            for layer in self.filtered().layers
        )
        return replace(self, layers=tuple(layers))

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
        return replace(self, layers=self.layers[:end], whole=self.whole or self.layers)

    def sharing(self, phase: str | None = None) -> dict[str, dict[str, Keys]]:
        """Label -> blob -> the keys of all blobs that are one with it, the owner's first."""
        whole = replace(self, layers=self.whole or self.layers, whole=())
        layers = whole.upgraded().filtered(phase).layers
        if not any("param" in layer.fields for layer in layers):
            return {}
        return sharing(layers, labels(layer.name for layer in layers))

    def reaching(self, outputs: Iterable[str] | None, until: str | None) -> Net:
        """The layers that a run may need: up to ``until``, or to the last output.

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
                        f"blob '{name}' comes after '{until}', where the run stops; "
                        "ask for one before it, or stop later"
                    )
            net = net.until(names)
        return net

    def needed(self, wanted: Iterable[str]) -> Net:
        """Only the layers without which the last values of these blobs cannot be computed.

        One that was the second of its name is called by its label, so that it keeps its weights.
        """
        own = labels(layer.name for layer in self.layers)
        rows = zip(self.layers, own, needed(self.layers, wanted), strict=True)
        kept = [(layer, label) for layer, label, is_needed in rows if is_needed]
        return replace(self, layers=with_labels(kept))

    def walk(
        self,
        phase: str | None = None,
        shapes: Mapping[str, Shape] | None = None,
        wanted: Iterable[str] | None = None,
    ) -> Iterator[Step]:
        """Each layer that the state admits in order, with its shapes.

        What needs no shapes is checked first, for all layers.

        Args:
            phase: TEST or TRAIN, in the place of the state's.
            shapes: blob name -> shape, for tops of data layers (``Data``, ``DummyData`` ...); they
                go before ``given`` and what the layer says. Labels that are not named have as
                many values as the data has images.
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
        self, phase: str | None, given: Mapping[str, Shape], wanted: Iterable[str] | None
    ) -> Iterator[Step]:
        shapes: dict[str, Shape] = {}
        owned: dict[str, Shape] = {}
        layers = self.upgraded().filtered(phase).layers
        check_given(given, layers)
        known = {top for layer in layers if layer.any_shape for top in layer.tops}
        given = {name: shape for name, shape in self.given.items() if name in known} | dict(given)
        names = list(labels(layer.name for layer in layers))
        check_structure(layers)
        check_rates(layers)
        shared = self.sharing(phase)
        kept = [True] * len(layers) if wanted is None else needed(layers, wanted)
        for layer, label, is_needed in zip(layers, names, kept, strict=True):
            if not is_needed:
                continue
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
                layer.check_limits(bottoms, tops)
                blobs = layer.blob_shapes(bottoms)
                for name, shape in blobs.items():
                    check_size(name, shape)
                check_lengths(layer, len(blobs))
                check_bilinear(layer, blobs)
                check_shared(layer, label, blobs, shared.get(label, {}), owned)
            except ShapeError as error:
                raise type(error)(f"layer '{layer.name}' ({layer.type}): {error}") from None
            shapes.update(zip(layer.tops, tops, strict=True))
            macs = layer.macs(bottoms, tops, blobs)
            yield Step(layer, label, bottoms, tops, blobs, macs, shared.get(label, NONE))

    def inputs(self) -> dict[str, Shape]:
        """Name and shape of each blob that the caller hands in."""
        inputs = tuple(layer for layer in self.upgraded().layers if layer.type == "Input")
        fields = {"state": self.fields.get("state", {})}
        walk = replace(self, layers=inputs, fields=fields).walk()
        return {k: v for step in walk for k, v in zip(step.layer.tops, step.tops, strict=True)}

    def outputs(self) -> list[str]:
        """The blobs that no layer reads, as Caffe's own outputs."""
        layers = self.upgraded().filtered().layers
        read = {name for layer in layers for name in layer.bottoms if name not in layer.tops}
        tops = dict.fromkeys(top for layer in layers for top in layer.tops)
        return [name for name in tops if name not in read]

    def data_tops(self) -> dict[str, Layer]:
        """The layer of each blob that a data layer makes."""
        layers = (layer for layer in self.filtered().layers if layer.any_shape)
        return {name: layer for layer in layers for name in layer.tops}

    def with_input_shapes(
        self, shapes: Mapping[str, Shape], wanted: Iterable[str] | None = None
    ) -> Net:
        """The same net and weights for inputs of other sizes, as ``net.reshape()`` of pycaffe.

        Args:
            shapes: blob name -> shape; ``""`` is the only input. Of a data layer, which has no
                shape of its own or another one, a batch size that the layer says stands.
            wanted: the blobs whose layers have to take them; all if None.

        Raises:
            NetError: the net has no such input, or ``shapes`` has no names.
            ShapeError: a layer would need other weights, as an InnerProduct behind more values; or
                a shape is not one of whole numbers.
        """
        if not isinstance(shapes, Mapping):
            raise NetError(
                f"shapes is {shapes!r:.80}; expected names and shapes, as "
                "{'data': (1, 3, 224, 224)}; '' names the only input"
            )
        with self.named():
            net = self.upgraded()
            layers = net.filtered().layers
            tops = {top: layer for layer in layers if layer.type == "Input" for top in layer.tops}
            data = self.data_tops()
            named = {}
            for name, shape in shapes.items():
                known = {**tops, **data}
                if not name:
                    main = {layer.tops[0]: layer for layer in known.values() if layer.any_shape}
                    name = only(main if main and not tops else tops)  # labels have no name
                elif name not in known:
                    raise NetError(f"the net has no input '{name}'{nearest(name, known)}")
                named[name] = checked_shape(name, shape)
            given = {
                name: (own_batch(layer) or named[name][0], *named[name][1:])
                for name, layer in data.items()
                if named.get(name)
            }
            for layer in data.values():  # with one shape, the other tops are labels
                if layer.type != "DummyData" and layer.tops[0] in given:
                    given |= {top: given.get(top, given[layer.tops[0]][:1]) for top in layer.tops}
            inputs = {id(layer) for layer in tops.values()}
            changed = (
                with_shapes(layer, named) if id(layer) in inputs else layer for layer in net.layers
            )
            result = replace(net, layers=tuple(changed), given={**self.given, **given})
            check_same_weights(self, result, named, wanted)
            return result

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


def check_net(net: object) -> None:
    """Refuse what is no net, before it is asked for its layers.

    Raises:
        ResNetProtoError: it is the file of one, or something else.
    """
    if isinstance(net, str | os.PathLike):
        raise ResNetProtoError(f"net is a file's name; read it: read_prototxt({str(net)[:80]!r})")
    if not isinstance(net, Net):
        raise ResNetProtoError(
            f"net is a {type(net).__name__}; expected a Net, as read_prototxt has"
        )


def needed(layers: Sequence[Layer], wanted: Iterable[str]) -> list[bool]:
    """For each layer, whether the last values of these blobs cannot be computed without it."""
    live, kept = set(wanted), []
    for layer in reversed(layers):
        kept.append(not live.isdisjoint(layer.tops))
        if kept[-1]:
            live.difference_update(layer.tops)
            live.update(layer.bottoms)
    return kept[::-1]


def only(inputs: Mapping[str, Layer]) -> str:
    """The name of the only input.

    Raises:
        NetError: there are several, or none.
    """
    if len(inputs) != 1:
        raise NetError(
            f"a shape without a name is for a net of one input, and this one has "
            f"{', '.join(inputs) or 'none'}; give NAME=N,C,H,W"
        )
    return next(iter(inputs))


def own_batch(layer: Layer) -> int:
    """Images that a data layer gives at a time; 0 where it does not say."""
    if layer.type == "DummyData":
        return next(iter(layer.top_shapes(())[0]), 0)
    size: int = getattr(layer, "batch_size", 0)
    return size


def with_shapes(layer: Layer, shapes: Mapping[str, Shape]) -> Layer:
    """An Input layer with other shapes for some of its tops."""
    own = zip(layer.tops, layer.top_shapes(()), strict=True)
    dims = tuple({"dim": shapes.get(name, shape)} for name, shape in own)
    return replace(layer, fields={**layer.fields, layer.message: {"shape": dims}})


def check_same_weights(
    before: Net, after: Net, shapes: Mapping[str, Shape], wanted: Iterable[str] | None = None
) -> None:
    """Weights fit both; a walk that ends is no matter here.

    Raises:
        ShapeError: a layer would need others.
    """
    wanted = None if wanted is None else tuple(wanted)
    known: dict[str, Mapping[str, Shape]] = {}
    with suppress(NetError):
        known.update((step.label, step.blobs) for step in before.walk(wanted=wanted))
    steps: list[Step] = []
    with suppress(NetError):
        steps.extend(after.walk(wanted=wanted))
    for step in steps:
        for name, shape in known.get(step.label, {}).items():
            if step.blobs[name] != shape:
                sizes = ", ".join(f"{blob} {dims(size)}" for blob, size in shapes.items())
                raise ShapeError(
                    f"layer '{step.label}' ({step.layer.type}): {name} is {dims(shape)}, and "
                    f"with {sizes} it would be {dims(step.blobs[name])}; "
                    "the weights allow no such size"
                )


def met(step: Step, bottoms: tuple[Shape, ...]) -> list[Shape]:
    """Shapes of the tops for bottoms that show only when the net runs: layer.hpp, Forward.

    Raises:
        ShapeError: the layer cannot take them, would need other weights, or has nothing to
            compute a top from.
    """
    layer = step.layer
    try:
        tops = layer.top_shapes(bottoms)
        for name, shape in layer.blob_shapes(bottoms).items():
            if shape != step.blobs[name]:
                raise ShapeError(f"{name} is {dims(step.blobs[name])}, and would be {dims(shape)}")
        for name, shape in zip(layer.tops, tops, strict=True):
            check_size(name, shape)
            if 0 not in shape and any(0 in bottom for bottom in bottoms):
                raise ShapeError(f"there is nothing to compute '{name}' from")
    except ShapeError as error:
        shapes = ", ".join(map(dims, bottoms))
        raise ShapeError(
            f"layer '{step.label}' ({layer.type}), whose bottoms are {shapes} in this run: {error}"
        ) from None
    return tops


def check_runs(step: Step) -> None:
    """Refuse what can be part of a net, but not of a run.

    Raises:
        ShapeError: a blob without values: blob.cpp, cpu_data; or pads beyond what a blob may hold.
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
    padded = layer.padded(step.bottoms[0]) if step.bottoms else ()
    if count(padded) > MAX_COUNT:
        raise ShapeError(
            f"layer '{step.label}' ({layer.type}): with its pad blob '{layer.bottoms[0]}' would be "
            f"{dims(padded)}; {MAX_COUNT} values are the most; make pad and kernel smaller"
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
                if layer.rewrites:
                    lost.update(dict.fromkeys(memory[name] - {name}, layer))
                    memory[name] = {name}  # nobody reads the others any more
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
    which = "the only one" if len(known) == 1 else "the last"
    return similar(name, known) or f"; {which} is '{known[-1]}'"


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


def with_labels(kept: Sequence[tuple[Layer, str]]) -> tuple[Layer, ...]:
    """The layers that are left of a net, whose labels were these: they find their weights still.

    One that was the second of its name, and is the only one now, is called by its label.
    """
    now = labels(layer.name for layer, _ in kept)
    return tuple(
        layer if label == new else replace(layer, name=label)
        for (layer, label), new in zip(kept, now, strict=True)
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


def check_bilinear(layer: Layer, blobs: Mapping[str, Shape]) -> None:
    """A bilinear filler fills square kernels of maps: filler.hpp, BilinearFiller."""
    shape = blobs.get("weight", ())
    if layer.param.get("weight_filler", {}).get("type") == "bilinear" and (
        len(shape) != 4 or shape[2] != shape[3]
    ):
        raise ShapeError(
            f"its weight is {dims(shape)}, and Caffe's bilinear filler takes a square kernel of "
            "rows and columns only; give another filler"
        )


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


def checked_shape(name: str, shape: Iterable[int]) -> Shape:
    """A shape that a caller gives, as a tuple.

    Raises:
        ShapeError: it is no list of whole numbers.
    """
    try:
        return tuple(map(index, shape))
    except TypeError:
        raise ShapeError(
            f"the shape of '{name}' is {shape!r}; give whole numbers: (1, 3, 224, 224)"
        ) from None


def check_size(name: str, shape: Shape) -> None:
    """No size is negative and the blob can be addressed: blob.cpp, Reshape."""
    if len(shape) > MAX_AXES:
        raise ShapeError(f"blob '{name}' would have {len(shape)} axes; Caffe's limit is {MAX_AXES}")
    if shape and min(shape) < 0:
        raise ShapeError(
            f"blob '{name}' would be {dims(shape)}; no size may be negative; give the real one"
        )
    if count(shape) > MAX_COUNT:
        raise ShapeError(
            f"blob '{name}' would be {dims(shape)}; Caffe's limit is {MAX_COUNT} values; "
            "make the batch or the maps smaller"
        )
