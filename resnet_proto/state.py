"""What a net is read for, and whether a layer's rules admit it: Caffe's NetState."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet_proto.errors import NetError
from resnet_proto.layers.base import names_of

PHASES = ("TEST", "TRAIN")


@dataclass(frozen=True)
class State:
    """Phase, level and stages, as ``caffe test --level 1 --stage deploy`` has them.

    Args:
        phase: TEST or TRAIN.
        level: rules ask for a least and a most.
        stages: names; rules ask whether one is among them.

    Raises:
        NetError: no phase is called so, the level is no number of 32 bits, or the stages are no
            names.
    """

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise NetError(f"phase is '{self.phase}'; known: {', '.join(PHASES)}")
        if not isinstance(self.level, int) or not -(2**31) <= self.level < 2**31:
            raise NetError(f"level is {self.level}; a number of 32 bits is needed")
        stages = names_of(self.stages)
        if not all(isinstance(stage, str) for stage in stages):
            raise NetError(f"stages is {stages}; names are needed")
        object.__setattr__(self, "stages", stages)

    def meets(self, rule: Mapping[str, Any]) -> bool:
        """Whether it has all that one rule asks for: net.cpp, StateMeetsRule."""
        return (
            rule.get("phase", self.phase) == self.phase
            and rule.get("min_level", self.level) <= self.level <= rule.get("max_level", self.level)
            and all(stage in self.stages for stage in rule.get("stage", ()))
            and not any(stage in self.stages for stage in rule.get("not_stage", ()))
        )

    def admits(self, name: str, fields: Mapping[str, Any]) -> bool:
        """Whether a layer of this name is kept, by its rules: net.cpp, FilterNet.

        Raises:
            NetError: it has both kinds of rules.
        """
        include, exclude = fields.get("include", ()), fields.get("exclude", ())
        if include and exclude:
            raise NetError(
                f"layer '{name}' has include and exclude rules; Caffe takes only one kind"
            )
        if include:
            return any(map(self.meets, include))
        return not any(map(self.meets, exclude))


DEFAULT = State()
"""What pycaffe reads a net for, if it is told nothing but the phase TEST."""
