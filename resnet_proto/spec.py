"""What a residual net is, as data: the presets, and any net of their kind.

depth or stages -> ResNetSpec -> (build) -> Net
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet_proto.errors import ResNetProtoError

UnitType = Literal["basic", "bottleneck"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONVOLUTIONS = {"basic": 2, "bottleneck": 3}
"""Layers with weights on the main path of a unit, as the paper counts depth."""
EXPANSION = {"basic": 1, "bottleneck": 4}
"""Channels that leave a unit, as a multiple of the width within it."""


MAX_UNITS = 10_000
"""Ten times the deepest net that was trained; a net's text then has some 10 MB."""


@dataclass(frozen=True)
class ResNetSpec:
    """A residual net for ImageNet: paper, table 1 and figure 5.

    Args:
        name: the net's name in its prototxt.
        stages: how many units each stage has; the first one is Caffe's ``res2``.
        unit: two 3x3 convolutions, or 1x1, 3x3 and 1x1.
        width: channels of the first stage's 3x3 convolutions; each stage doubles them.
        classes: how many the classifier tells apart.
        stem_width: channels of the first convolution.
        conv1_bias: the released ResNet-50 has a bias in conv1, the others do not.
        numbered_stages: stages (2 is the first) whose units are named a, b1, b2 ... and not
            a, b, c ...; the released 101 and 152 name stages 3 and 4 so. A stage of more
            than 26 units always does.
        project_first_stage: a projection in the first stage even where the shape stays.
    """

    name: str
    stages: tuple[int, ...]
    unit: UnitType
    width: int = 64
    classes: int = 1000
    stem_width: int = 64
    conv1_bias: bool = False
    numbered_stages: tuple[int, ...] = ()
    project_first_stage: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages or min(self.stages) < 1:
            raise ResNetProtoError(
                f"stages are {self.stages}; each needs at least one unit, as in 3,4,6,3"
            )
        if sum(self.stages) > MAX_UNITS:
            raise ResNetProtoError(
                f"the stages have {sum(self.stages):,} units; {MAX_UNITS:,} are the most"
            )
        if self.unit not in CONVOLUTIONS:
            raise ResNetProtoError(f"unit is '{self.unit}'; known: {', '.join(CONVOLUTIONS)}")
        for field in ("width", "classes", "stem_width"):
            if getattr(self, field) < 1:
                raise ResNetProtoError(f"{field} is {getattr(self, field)}; at least 1 is needed")

    @property
    def depth(self) -> int:
        """Layers with weights as the paper counts them: no projections."""
        return depth(self.stages, self.unit)

    def unit_name(self, stage: int, index: int) -> str:
        """What the released nets call a unit: ``2a``, ``4b22``.

        Args:
            stage: 2 is the first.
            index: 0 is the first unit of the stage.
        """
        numbered = stage in self.numbered_stages or self.stages[stage - 2] > len(LETTERS)
        if numbered and index > 0:
            return f"{stage}b{index}"
        return f"{stage}{LETTERS[index]}"


def depth(stages: tuple[int, ...], unit: UnitType) -> int:
    """conv1, the convolutions of the units, and the classifier."""
    return CONVOLUTIONS[unit] * sum(stages) + 2


PRESETS = {
    "resnet-18": ResNetSpec("ResNet-18", (2, 2, 2, 2), "basic"),
    "resnet-34": ResNetSpec("ResNet-34", (3, 4, 6, 3), "basic"),
    "resnet-50": ResNetSpec("ResNet-50", (3, 4, 6, 3), "bottleneck", conv1_bias=True),
    "resnet-101": ResNetSpec("ResNet-101", (3, 4, 23, 3), "bottleneck", numbered_stages=(3, 4)),
    "resnet-152": ResNetSpec("ResNet-152", (3, 8, 36, 3), "bottleneck", numbered_stages=(3, 4)),
}
"""The nets of the paper's table 1; 50, 101, 152 with the released files' irregularities."""
