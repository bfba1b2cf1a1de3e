"""The nets of the papers: name -> how its spec is made, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from resnet_proto.errors import ResNetProtoError
from resnet_proto.recipe import RECIPES
from resnet_proto.spec import Names, ResNetSpec

RESNET = "arXiv 1512.03385"
PRE_ACTIVATION = "arXiv 1603.05027"
WIDE = "arXiv 1605.07146"
RESNEXT = "arXiv 1611.05431"
SQUEEZE = "arXiv 1709.01507"
TRICKS = "arXiv 1812.01187"


class Preset(NamedTuple):
    """A net with a name: how its spec is made when it is asked for, and where it comes from."""

    make: Callable[[], ResNetSpec]
    source: str

    @property
    def spec(self) -> ResNetSpec:
        """The spec."""
        return self.make()


BASIC: dict[int, tuple[int, ...]] = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK: dict[int, tuple[int, ...]] = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Units of each stage by depth: table 1; 10 and 26 are others' names for shorter ones."""
CIFAR = (20, 32, 44, 56, 110, 1202)

RELEASED = Names(numbered_stages=(3, 4))
"""The released 101 and 152 name the units of stages 3 and 4 a, b1, b2 ..."""
PYNETBUILDER = Names(
    unit="stage{stage0}_block{block0}",
    projection="{unit}_proj_shortcut",
    convolution="conv_{place}",
    batch_norm="bn_{place}",
    scale="scale_{place}",
    relu="relu_{place}",
    sum="eltwise_{unit}",
    sum_relu="relu_{unit}",
    other="{role}_{unit}",
    stem_convolution="conv_{part}",
    stem_batch_norm="bn_{part}",
    stem_scale="scale_{part}",
    stem_relu="relu_{part}",
    pool="pool",
)
"""The names of the released half-width ResNet-50 (github yahoo/open_nsfw)."""


def imagenet(depth: int, name: str, **values: Any) -> ResNetSpec:
    """A net of table 1, with the irregularities of the released 50, 101 and 152."""
    unit = "basic" if depth in BASIC else "bottleneck"
    released = {"conv1_bias": depth == 50, "names": RELEASED if depth > 100 else Names()}
    return ResNetSpec(name, {**BASIC, **BOTTLENECK}[depth], unit, **{**released, **values})


def resnext(depth: int, name: str, groups: int, **values: Any) -> ResNetSpec:
    """A net of groups of four channels: arXiv 1611.05431, table 1."""
    grouped = {"cardinality": groups, "base_width": 4, "stride_in": "3x3", "conv1_bias": False}
    return imagenet(depth, name, names=Names(), **grouped, **values)


def cifar(name: str, units: int, recipe: str = "cifar", **values: Any) -> ResNetSpec:
    """A net for 32x32 images: section 4.2."""
    cifar_values: dict[str, Any] = {
        "training": RECIPES[recipe].training,
        "stem": "3x3",
        "stem_width": 16,
        "pool": "none",
        "head": "global",
        "input_size": 32,
        "classes": 10,
        "width": (16,),
    }
    return ResNetSpec(name, (units,) * 3, **{**cifar_values, **values})


def presets() -> dict[str, Preset]:
    """Every preset, family by family."""
    table: dict[str, Preset] = {}

    def put(
        name: str, source: str, make: Callable[..., ResNetSpec], *args: Any, **values: Any
    ) -> None:
        table[name] = Preset(partial(make, *args, **values), source)

    smaller = "smaller than table 1"
    sources = {10: smaller, 26: smaller, 200: PRE_ACTIVATION}
    for depth in sorted({*BASIC, *BOTTLENECK}):
        source = sources.get(depth, f"{RESNET}, table 1")
        put(f"resnet-{depth}", source, imagenet, depth, f"ResNet-{depth}")
    put(
        "resnet-50-1by2",
        "github yahoo/open_nsfw, jay-mahadeokar/pynetbuilder",
        imagenet,
        50,
        "ResNet-50-1by2",
        width_multiplier=0.5,
        conv1_bias=False,
        conv_bias=True,
        names=PYNETBUILDER,
    )
    put(
        "resnet-50-d",
        f"{TRICKS}, figure 2",
        imagenet,
        50,
        "ResNet-50-D",
        conv1_bias=False,
        stem="deep",
        shortcut="D",
        stride_in="3x3",
    )
    for depth in (18, 34, 50, 101, 152, 200):
        put(
            f"preact-resnet-{depth}",
            PRE_ACTIVATION,
            imagenet,
            depth,
            f"PreAct-ResNet-{depth}",
            conv1_bias=False,
            names=Names(),
            order="pre-activation",
        )
    for depth in (18, 34):
        put(
            f"plain-{depth}",
            f"{RESNET}, table 2",
            imagenet,
            depth,
            f"Plain-{depth}",
            shortcut="none",
        )
    put(
        "wide-resnet-50-2",
        f"{WIDE}, table 8",
        imagenet,
        50,
        "Wide-ResNet-50-2",
        conv1_bias=False,
        base_width=128,
    )
    for depth, groups in ((50, 32), (101, 32), (101, 64)):
        name = f"ResNeXt-{depth}-{groups}x4d"
        put(name.lower(), f"{RESNEXT}, tables 1 and 4", resnext, depth, name, groups)
    for depth in (50, 101, 152):
        put(
            f"se-resnet-{depth}",
            SQUEEZE,
            imagenet,
            depth,
            f"SE-ResNet-{depth}",
            conv1_bias=False,
            names=Names(),
            squeeze=16,
        )
    put("se-resnext-50-32x4d", SQUEEZE, resnext, 50, "SE-ResNeXt-50-32x4d", 32, squeeze=16)
    for depth in CIFAR:
        recipe = "cifar-warm-up" if depth >= 110 else "cifar"
        put(
            f"cifar-resnet-{depth}",
            f"{RESNET}, section 4.2",
            cifar,
            f"ResNet-{depth}",
            (depth - 2) // 6,
            recipe,
            shortcut="A",
        )
    for depth in (164, 1001):
        put(
            f"cifar-preact-resnet-{depth}",
            f"{PRE_ACTIVATION}, table 3",
            cifar,
            f"PreAct-ResNet-{depth}",
            (depth - 2) // 9,
            "cifar-pre-activation",
            unit="bottleneck",
            order="pre-activation",
        )
    for depth in CIFAR[:-1]:
        put(
            f"cifar-plain-{depth}",
            f"{RESNET}, figure 6",
            cifar,
            f"Plain-{depth}",
            (depth - 2) // 6,
            shortcut="none",
        )
    for depth, wider in ((16, 8), (28, 10)):  # depth counts the three projections here
        put(
            f"cifar-wide-resnet-{depth}-{wider}",
            f"{WIDE}, table 5",
            cifar,
            f"Wide-ResNet-{depth}-{wider}",
            (depth - 4) // 6,
            "cifar-wide",
            order="pre-activation",
            width_multiplier=float(wider),
            dropout=0.3 if depth == 28 else 0.0,
        )
    return table  # fmt: skip


PRESETS = presets()


def preset(name: str) -> ResNetSpec:
    """The spec of a preset.

    Raises:
        ResNetProtoError: no preset is called so.
    """
    if name not in PRESETS:
        from difflib import get_close_matches

        near = get_close_matches(name.lower(), PRESETS, n=4) or list(PRESETS)[:4]
        raise ResNetProtoError(
            f"no preset is called '{name}'; near: {', '.join(near)}. `resnet-proto list` has all"
        )
    return PRESETS[name].spec
