"""Names that layers have -> patterns that give them.

    graph of a net, spec of the same graph -> the spec with names, and what it calls otherwise

A net of the spec is made whose names say which pattern gives them, and with what; so each name of
the found net is known to be a sum's in the third unit, say. A pattern is what all of these share.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import product
from typing import NamedTuple

from resnet_proto.build import deploy_net
from resnet_proto.errors import ResNetProtoError
from resnet_proto.graph import Graph, match
from resnet_proto.layers import Layer
from resnet_proto.presets import PYNETBUILDER, RELEASED
from resnet_proto.settings import changed
from resnet_proto.spec import LETTERS, Names, ResNetSpec

PROBE = Names(
    unit="{stage}.{block}",
    place="{unit}|{number}",
    projection="{unit}|p",
    convolution="convolution|{place}",
    batch_norm="batch_norm|{place}",
    scale="scale|{place}",
    relu="relu|{place}",
    sum="sum|{unit}",
    sum_relu="sum_relu|{unit}",
    other="other|{unit}|{role}",
    stem_convolution="stem_convolution||{part}",
    stem_batch_norm="stem_batch_norm||{part}",
    stem_scale="stem_scale||{part}",
    stem_relu="stem_relu||{part}",
    stem_pool="stem_pool",
    last="last||{role}",
    pool="pool||{stage}",
    classifier="classifier||{classes}",
    probabilities="probabilities",
)
"""Names that say what gives them: pattern, unit, and the rest."""
KNOWN = (Names(), RELEASED, PYNETBUILDER)
SAME = {
    **dict.fromkeys(("stage", "stage0"), "stage"),
    **dict.fromkeys(("letter", "block", "block0"), "block"),
    **dict.fromkeys(("part", "number"), "part"),
}
"""Placeholders that say one thing in several ways: a pattern has one of them."""
IN_PLACES = ("convolution", "batch_norm", "scale", "relu")
OF_UNITS = ("sum", "sum_relu", "other")
UNIT = re.compile(r"(\{(stage|letter|block)0?\})(.*\{(stage|letter|block)0?\})?")
PLACE = re.compile(r"\{(unit|part|number)\}(.*\{(unit|part|number)\})?")
LONGEST = 200
"""Names beyond it get no pattern."""


class Sighting(NamedTuple):
    """A name that was found, and where.

    Args:
        pattern: the field of ``Names`` that has to give it.
        unit: stage and block, as ``{stage}`` and ``{block}``; 0, 0 outside of units.
        rest: number of the place (``p``: the projection), part, role, stage or classes.
        name: of the layer.
    """

    pattern: str
    unit: tuple[int, int]
    rest: str
    name: str


def with_names(spec: ResNetSpec, graph: Graph) -> tuple[ResNetSpec, int]:
    """The spec with patterns for as many of a net's names as can be, and for how many.

    Args:
        spec: its net has this graph.
        graph: of the net whose names they are.
    """
    layers = counterparts(spec, graph)
    seen = list(sightings(spec, layers))

    def fitting(names: Names) -> int:
        own = named(spec, names) or [""] * len(layers)
        return sum(name == layer.name for name, layer in zip(own, layers, strict=True))

    best = max((*KNOWN, *in_units(seen)), key=fitting)
    for pattern in (about.name for about in fields(Names)):
        found = [s for s in seen if s.pattern == pattern and s.unit == (0, 0)]
        other = common([(values_of(s), s.name) for s in found])
        if found and other is not None:
            best = max(best, changed(best, {pattern: other}, "names"), key=fitting)
    return replace(spec, names=best), fitting(best)


def named(spec: ResNetSpec, names: Names) -> list[str]:
    """The names of the layers of a spec's net; none where two would be one."""
    try:
        return [layer.name for layer in deploy_net(replace(spec, names=names)).layers]
    except ResNetProtoError:
        return []


def unnamed(spec: ResNetSpec, graph: Graph) -> Iterator[str]:
    """What the spec's net calls otherwise than the net that was found, as warnings."""
    net = deploy_net(spec)
    pairs = list(zip(net.layers, counterparts(spec, graph), strict=True))
    layers = [(theirs.name, ours.name) for ours, theirs in pairs if ours.name != theirs.name]
    blobs = [
        (theirs, ours)
        for ours, theirs in ((o, t) for o, t in pairs if o.name == t.name)
        if (set(ours.bottoms), ours.tops) != (set(theirs.bottoms), theirs.tops)
    ]
    if layers:
        yield (
            f"{len(layers)} of {len(pairs)} layers have other names in the spec's net: "
            f"'{layers[0][0]}' is '{layers[0][1]}'"
        )
    elif blobs:
        theirs, ours = blobs[0]
        yield (
            f"{len(blobs)} of {len(pairs)} layers have other blobs in the spec's net: "
            f"'{theirs.name}' makes {', '.join(theirs.tops)} of {', '.join(theirs.bottoms)}, "
            f"there {', '.join(ours.tops)} of {', '.join(ours.bottoms)}"
        )


def counterparts(spec: ResNetSpec, graph: Graph) -> list[Layer]:
    """The layer of a graph that each layer of the spec's net is, in the order of the latter."""
    own = Graph.of(deploy_net(spec))
    pairs = match(own, graph)[0]
    return [graph.nodes[pairs[i]].layer for i, n in enumerate(own.nodes) if n.sources]


def sightings(spec: ResNetSpec, layers: Sequence[Layer]) -> Iterator[Sighting]:
    """Where each name was found."""
    for place, layer in zip(named(spec, PROBE), layers, strict=True):
        pattern, unit, rest, *_ = f"{place}||".split("|")
        stage, _, block = (unit or "0.0").partition(".")
        yield Sighting(pattern, (int(stage), int(block)), rest, layer.name)


def values_of(seen: Sighting, numbered: Sequence[int] = ()) -> dict[str, str]:
    """What each placeholder stands for in a name."""
    stage, block = seen.unit
    values = {}
    if stage:
        many = stage in numbered or block > len(LETTERS)
        letter = f"b{block - 1}" if many and block > 1 else LETTERS[block - 1]
        values = {"stage": stage, "stage0": stage - 2, "letter": letter, "block": block,
                  "block0": block - 1}  # fmt: skip
    if seen.pattern in IN_PLACES:
        number = int(seen.rest) if seen.rest != "p" else 0
        return {k: str(v) for k, v in values.items()} | (
            {"part": "abc"[number - 1], "number": str(number)} if number else {}
        )
    rest = Names.KNOWN.get(seen.pattern, "").split()[-1:]
    return {k: str(v) for k, v in values.items()} | dict.fromkeys(
        (name for name in rest if seen.rest), seen.rest
    )


def common(seen: Sequence[tuple[Mapping[str, str], str]]) -> str | None:
    """The pattern that gives each name from its values; None where none does.

    A placeholder goes before the text that it stands for, and stands for whole words and numbers.
    """
    names = [name for _, name in seen]
    if not names or any(len(name) > LONGEST or {*name} & {*"{}"} for name in names):
        return None

    @cache
    def grown(at: tuple[int, ...], used: frozenset[str]) -> str | None:
        if all(i == len(name) for i, name in zip(at, names, strict=True)):
            return ""
        for key in seen[0][0]:
            kind = SAME.get(key, key)
            if kind not in used and all(
                stands(name, i, values[key]) for i, (values, name) in zip(at, seen, strict=True)
            ):
                then = tuple(i + len(values[key]) for i, (values, _) in zip(at, seen, strict=True))
                rest = grown(then, used | {kind})
                if rest is not None:
                    return f"{{{key}}}{rest}"
        letters = {name[i : i + 1] for i, name in zip(at, names, strict=True)}
        if len(letters) > 1 or "" in letters:
            return None
        rest = grown(tuple(i + 1 for i in at), used)
        return None if rest is None else letters.pop() + rest

    return grown((0,) * len(names), frozenset())


def stands(name: str, at: int, value: str) -> bool:
    """Whether a value stands there, as no part of a longer word or number."""
    end = at + len(value)
    before, after = name[max(0, at - 1) : at], name[end : end + 1]
    return (
        name.startswith(value, at)
        and not (value[0].isalpha() and before.isalpha())
        and not (value[0].isdigit() and before.isdigit())
        and not (value[-1].isalpha() and after.isalpha())
        and not (value[-1].isdigit() and after.isdigit())
    )


# ---- patterns within units


def in_units(seen: Sequence[Sighting]) -> Iterator[Names]:
    """The patterns of units, with letters only, and with numbers where there seem to be some."""
    of_units = [s for s in seen if s.unit != (0, 0)]
    last = dict(sorted(s.unit for s in of_units))
    numbered = tuple(
        stage
        for stage, block in last.items()
        if block > 1
        and all(f"b{block - 1}" in s.name for s in of_units if s.unit == (stage, block))
    )
    for stages in dict.fromkeys(((), numbered)):
        groups: dict[tuple[str, bool], list[tuple[Mapping[str, str], str]]] = defaultdict(list)
        for s in of_units:
            groups[s.pattern, s.rest == "p"].append((values_of(s, stages), s.name))
        texts = {key: text for key, group in groups.items() if (text := common(group)) is not None}
        yield replace(factored(texts), numbered_stages=stages)


def factored(texts: Mapping[tuple[str, bool], str]) -> Names:
    """Patterns as ``Names`` has them: a unit's name within a place's within a layer's.

    Args:
        texts: field of ``Names``, and whether it is the projection's -> pattern in terms of
            stage, block and part.
    """
    found = {match[0] for text in texts.values() if (match := UNIT.search(text))}
    values: dict[str, str] = {}
    if len(found) == 1:
        unit = found.pop()
        unit = word_before(unit, texts.values()) + unit
        texts = {key: text.replace(unit, "{unit}") for key, text in texts.items()}
        values["unit"] = unit
    for key in OF_UNITS:
        if (key, False) in texts:
            values[key] = texts[key, False]
    values |= places(texts)
    try:
        return changed(Names(), values, "names")
    except ResNetProtoError:
        return Names()


def word_before(unit: str, texts: Iterable[str]) -> str:
    """The letters that stand before a unit's name wherever it stands: they belong to it."""
    words = {
        match[1] for text in texts for match in re.finditer(rf"([A-Za-z]*){re.escape(unit)}", text)
    }
    return words.pop() if len(words) == 1 else ""


def places(texts: Mapping[tuple[str, bool], str]) -> dict[str, str]:
    """The patterns of what belongs to a convolution, around the name of its place.

    Tried as short as can be, ``{unit}_branch2{part}``, then as all of the convolution's name.
    """
    main = {key: texts[key, False] for key in IN_PLACES if (key, False) in texts}
    projected = {key: texts[key, True] for key in IN_PLACES if (key, True) in texts}
    whole = main.get("convolution", "")
    core = PLACE.search(whole)
    for place, others in product((core[0], whole) if core else (), (projected, {})):
        around = {key: text.replace(place, "{place}", 1) for key, text in main.items()}
        before, _, after = around["convolution"].partition("{place}")
        text = others.get("convolution", before + Names.projection + after)
        projection = text.removeprefix(before).removesuffix(after)
        if all(place in text for text in main.values()) and all(
            around[key].replace("{place}", projection) == text for key, text in others.items()
        ):
            return {"place": place, "projection": projection, **around}
    return {}
