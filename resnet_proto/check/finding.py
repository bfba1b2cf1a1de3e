"""What a check finds: rule -> Found -> Finding -> lines of text or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

from resnet_proto.words import counted, printable

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
"""Caffe ends or nothing is learned; it hurts; it is worth knowing."""
MOST = 6
"""Files that the last line names; of more it gives the number."""


class Found(NamedTuple):
    """What a rule finds, at one layer or one field.

    Findings that differ in ``layer`` only are shown as one.
    """

    level: str
    reason: str
    remedy: str
    layer: str = ""
    field: str = ""


@dataclass(frozen=True)
class Finding:
    """A finding with its place.

    Args:
        file: the net or solver.
        level: one of ``LEVELS``.
        rule: the rule's name.
        layers: those that it is about; none for a solver's, or for the whole net's.
        field: a solver's.
        reason: what is wrong.
        remedy: what to do.
    """

    file: str
    level: str
    rule: str
    layers: tuple[str, ...]
    field: str
    reason: str
    remedy: str

    @property
    def line(self) -> str:
        """``file: error: layer 'x': reason; remedy``."""
        place = ""
        if self.layers:
            more = len(self.layers) - 1
            place = f"layer '{self.layers[0]}'{f' and {more} more' if more else ''}: "
        elif self.field:
            place = f"field '{self.field}': "
        return printable(f"{self.file}: {self.level}: {place}{self.reason}; {self.remedy}")


class Checked(NamedTuple):
    """A file that was looked at, and how it was found."""

    file: str
    kind: str
    how: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, the worst first in each file."""

    checked: tuple[Checked, ...]
    findings: tuple[Finding, ...]
    target: str = ""
    """What the nets are for, if they were held against it."""

    def count(self, level: str) -> int:
        """How many findings are of this level."""
        return sum(finding.level == level for finding in self.findings)

    def lines(self) -> Iterator[str]:
        """A line for each finding, and one that sums up."""
        yield from (finding.line for finding in self.findings)
        files = counted(len(self.checked), "file")
        if len(self.checked) <= MOST:
            files = ", ".join(
                f"{file} ({kind}{f' {how}' if how else ''})" for file, kind, how in self.checked
            )
        whose = f", for {self.target}" if self.target else ""
        yield printable(f"{summed_up(self)} in {files}{whose}")


def summed_up(report: Report) -> str:
    """``1 error, 2 notes``, or that nothing was found."""
    counts = ((report.count(level), level) for level in LEVELS)
    texts = [f"{n} {level}{'s' if n > 1 else ''}" for n, level in counts if n]
    return ", ".join(texts) or "nothing found"


def placed(file: str, found: Iterable[tuple[str, Found]]) -> list[Finding]:
    """Rule and finding -> findings of a file, those of several layers joined, the worst first."""
    layers: dict[tuple[str, Found], dict[str, None]] = {}
    for rule, item in found:
        names = layers.setdefault((rule, item._replace(layer="")), {})
        if item.layer:
            names[item.layer] = None
    findings = [
        Finding(file, item.level, rule, tuple(names), item.field, item.reason, item.remedy)
        for (rule, item), names in layers.items()
    ]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def as_json(report: Report) -> dict[str, object]:
    """The same as plain data."""
    return {
        "files": [item._asdict() for item in report.checked],
        "findings": [asdict(finding) for finding in report.findings],
        "counts": {level: report.count(level) for level in LEVELS},
    }
