"""What `caffe train` says -> the runs that it tells of, restarts and resumes stitched.

Read are the logs of mainline Caffe of all years, NVIDIA's and Intel's: what solver.cpp (Step,
Test, Solve) and sgd_solver.cpp (the rate) of each print. Lines of anything else pass by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby

from resnet_proto.errors import FormatError

TRAIN, TEST = "train", "test"
SMOOTHED = "smoothed loss"
"""Caffe's ``Iteration N, loss``: over the last ``average_loss`` iterations."""

COUNT = r"(\d{1,15})"
NUMBER = r"([-+]?(?:nan(?:\(ind\))?|inf|1\.#[A-Z]+0*|\d+(?:\.\d*)?(?:e[-+]?\d+)?))"
"""``1.#QNAN`` and ``-nan(ind)`` are of Windows."""
NO_YEAR = 2000
LONGEST = 10_000
"""Characters of a line; none of Caffe's is longer."""
GLOG = re.compile(
    r"(?P<level>[IWEF])(?P<day>\d{8}|\d{4}) (?P<time>\d\d:\d\d:\d\d\.\d+) +\d+ [^ \]]+\] "
    r"(?P<text>.*)"
)
"""The head of a line. Before glog 0.5 the year is not in it."""
RANK = re.compile(r"\[(\d+)(?:\.\d+)?\] ")
"""Of a process of several, in Intel's and NVIDIA's Caffe. All say the same; the first is heard."""
MESSAGES = {
    name: re.compile(pattern)
    for name, pattern in {
        "testing": rf"Iteration {COUNT}, Testing net \(#{COUNT}\)",
        "loss": rf"Iteration {COUNT}(?: \([^)]*\))?(?:, [0-9./]+ep)?, loss = {NUMBER}(?:, .*)?",
        "rate": rf"Iteration {COUNT}, lr = {NUMBER}(?:, .*)?",
        "output": rf" *(Train|Test) net output #\d+: (.*) = {NUMBER}( \(\* .* loss\))?",
        "solving": r"Solving ?(.*)",
        "restored": r"Restoring previous solver status from (.*)",
        "given": r"(?:Resuming|Finetuning) from (.*)",
        "stopped": r"Optimization stopped early\.",
        "done": r"Optimization Done\.",
        "step": rf"MultiStep Status: Iteration {COUNT}, step = \d+",
        "max_iter": rf"max_iter: {COUNT}",
        "stepsize": rf"stepsize: {COUNT}",
    }.items()
}
"""The last two are of the solver's text, which Caffe prints when it begins."""
BEGINNINGS = (
    "Iteration",
    "Train net",
    "Test net",
    "Solving",
    "Restoring",
    "Resuming",
    "Fine",
    "Opt",
    "max",
    "MultiStep",
    "stepsize",
)
SNAPSHOT = re.compile(rf"(?:_iter_{COUNT})?\.solverstate(?:\.h5)?$")


@dataclass(frozen=True)
class Row:
    """What is said of one net at one iteration.

    Args:
        iteration: how many updates came before.
        phase: ``train`` or ``test``.
        net: the number of the test net; 0 for the net that is trained.
        seconds: since the first line of the run with a time; None if its lines have none.
        rate: the learning rate of the update that follows, of a train row.
        values: output -> value; ``SMOOTHED`` too. An output of several values is ``name[i]``.
        losses: outputs that are part of the loss.
    """

    iteration: int
    phase: str
    net: int = 0
    seconds: float | None = None
    rate: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    losses: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Run:
    """A training, whatever it was interrupted by.

    Args:
        source: the files of the log.
        name: the net's, empty where no line says it.
        rows: in the order of iterations, test before train as Caffe has them.
        parts: (first iteration, the file that the solver was restored or finetuned from, or
            empty) of each start of Caffe.
        max_iter: the last that was set; None where the log does not have the solver's text.
        end: how it ended: ``done``, ``stopped``, the message that it died with, or empty.
        steps: iterations at which Caffe says that the learning rate goes to its next step.
        stepsize: of a rate that does so by itself; 0 where the log does not have it.
    """

    source: str
    name: str
    rows: tuple[Row, ...]
    parts: tuple[tuple[int, str], ...]
    max_iter: int | None = None
    end: str = ""
    steps: tuple[int, ...] = ()
    stepsize: int = 0

    def outputs(self, phase: str, net: int = 0) -> dict[str, list[tuple[int, float]]]:
        """Output -> (iteration, value) of each row of a net that has it."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.rows:
            if (row.phase, row.net) == (phase, net):
                for name, value in row.values.items():
                    found.setdefault(name, []).append((row.iteration, value))
        return found

    @property
    def test_nets(self) -> list[int]:
        """The numbers of the nets that are tested."""
        return sorted({row.net for row in self.rows if row.phase == TEST})


def read_log(lines: Iterable[str], source: str = "log") -> Run:
    """The run that a log tells of.

    Where Caffe began again at an iteration, from a snapshot or from nothing, what an earlier part
    says of that iteration and later ones is left out: it was not gone on from.

    Raises:
        FormatError: no line is of Caffe's training.
    """
    reader = Reader()
    for line in lines:
        reader.read(line)
    return reader.run(source)


def read_logs(
    logs: Iterable[tuple[str, Iterable[str]]], warnings: list[str] | None = None
) -> list[Run]:
    """The runs of several logs. One that begins from a snapshot goes on with the run before it.

    Args:
        logs: (source, lines) of each.
        warnings: gets a sentence for each log without an iteration, which is passed by.

    Raises:
        FormatError: none has an iteration.
    """
    runs: list[Run] = []
    errors: list[FormatError] = []
    for source, lines in logs:
        try:
            run = read_log(lines, source)
        except FormatError as error:
            errors.append(error)
            continue
        before = runs[-1] if runs else None
        if before and run.parts[0][0] > 0 and run.name == before.name:
            runs[-1] = stitched([before, run])
        else:
            runs.append(run)
    if errors and not runs:
        raise errors[0]
    if warnings is not None:
        warnings += map(str, errors)
    return runs


def stitched(parts: list[Run]) -> Run:
    """Parts of a run as one: each later one takes the place of what it repeats."""
    whole = parts[0]
    for part in parts[1:]:
        start = part.parts[0][0]
        kept = [row for row in whole.rows if row.iteration < start]
        ran = max((row.seconds for row in whole.rows if row.seconds is not None), default=0.0)
        later = [
            row if row.seconds is None else replace(row, seconds=row.seconds + ran)
            for row in part.rows
        ]
        sources = dict.fromkeys([*whole.source.split(", "), *part.source.split(", ")])
        whole = Run(
            ", ".join(sources),
            part.name or whole.name,
            (*kept, *later),
            (*(p for p in whole.parts if p[0] < start), *part.parts),
            part.max_iter or whole.max_iter,
            part.end,
            (*(step for step in whole.steps if step < start), *part.steps),
            part.stepsize or whole.stepsize,
        )
    return whole


@dataclass
class Said:
    """What becomes a row."""

    iteration: int
    phase: str
    net: int = 0
    seconds: float | None = None
    rate: float | None = None
    smoothed: float | None = None
    outputs: list[tuple[str, float, bool]] = field(default_factory=list)
    """Name, value, whether it is part of the loss."""

    def row(self) -> Row:
        """The same, with an index for each of several values of one output."""
        values = {} if self.smoothed is None else {SMOOTHED: self.smoothed}
        losses = set()
        for name, group in groupby(self.outputs, key=lambda output: output[0]):
            several = list(group)
            for i, (_, value, is_loss) in enumerate(several):
                own = name if len(several) == 1 else f"{name}[{i}]"
                values[own] = value
                if is_loss:
                    losses.add(own)
        return Row(
            self.iteration, self.phase, self.net, self.seconds, self.rate, values, frozenset(losses)
        )


@dataclass
class Part:
    """What one start of Caffe says, while it is read."""

    name: str = ""
    origin: str = ""
    max_iter: int | None = None
    end: str = ""
    steps: list[int] = field(default_factory=list)
    stepsize: int = 0
    began: datetime | None = None
    solved: bool = False
    rows: list[Said] = field(default_factory=list)

    def run(self, source: str) -> Run:
        """The part as a run of its own, without tests whose values have not come."""
        rows = tuple(said.row() for said in self.rows)
        first = rows[0].iteration if rows else 0
        start = 0 if self.solved else first  # a log that is cut has no line of Solve
        if restored := SNAPSHOT.search(self.origin):
            start = first if restored[1] is None else int(restored[1])
        rows = tuple(row for row in rows if row.values)
        steps = tuple(self.steps)
        parts = ((start, self.origin),)
        return Run(source, self.name, rows, parts, self.max_iter, self.end, steps, self.stepsize)


class Reader:
    """Lines -> a run, line by line, so that a log can be followed while it grows."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.pending = Part()  # what is said before the line that a part begins with

    def read(self, line: str) -> None:
        """Take one line in."""
        line = line[:LONGEST].rstrip("\r\n")
        head = GLOG.fullmatch(line)
        text = head["text"] if head else line
        if found := RANK.match(text):
            if found[1] != "0":
                return
            text = text[found.end() :]
        if head and head["level"] == "F":
            (self.parts[-1] if self.parts else self.pending).end = text
            return
        if not text.lstrip().startswith(BEGINNINGS):
            return
        for name, pattern in MESSAGES.items():
            if found := pattern.fullmatch(text):
                getattr(self, name)(*found.groups(), when=moment(head) if head else None)
                return

    def run(self, source: str) -> Run:
        """The run so far.

        Raises:
            FormatError: no line was of Caffe's training.
        """
        if not self.parts and self.pending.end:
            raise FormatError(
                f"{source}: Caffe died before the first iteration: {self.pending.end}"
            )
        if not self.parts:
            raise FormatError(
                f"{source}: no line of `caffe train` is in it; Caffe logs to stderr: "
                "caffe train -solver solver.prototxt 2>&1 | tee train.log"
            )
        return stitched([part.run(source) for part in self.parts])

    @property
    def part(self) -> Part:
        """The part that is being read; a log that is cut at its beginning has no first line."""
        if not self.parts:
            self.parts.append(self.pending)
            self.pending = Part()
        return self.parts[-1]

    def max_iter(self, number: str, when: datetime | None) -> None:
        """A line of the solver's text, before Solve begins."""
        self.pending.max_iter = int(number)

    def stepsize(self, number: str, when: datetime | None) -> None:
        """Another line of it."""
        self.pending.stepsize = int(number)

    def step(self, iteration: str, when: datetime | None) -> None:
        """The rate of policy multistep goes to its next step."""
        self.part.steps.append(int(iteration))

    def given(self, file: str, when: datetime | None) -> None:
        """A snapshot or weights are given on the command line, before Solve begins."""
        self.pending.origin = file

    def solving(self, name: str, when: datetime | None) -> None:
        """Solve begins."""
        self.pending.name = name
        self.pending.began = when
        self.pending.solved = True
        self.parts.append(self.pending)
        self.pending = Part()

    def restored(self, file: str, when: datetime | None) -> None:
        """The solver goes on from a snapshot."""
        self.part.origin = file

    def stopped(self, when: datetime | None) -> None:
        """Ctrl-C, which snapshots."""
        self.part.end = "stopped"

    def done(self, when: datetime | None) -> None:
        """Both solver.cpp and caffe.cpp say so, after a stop too."""
        self.part.end = self.part.end or "done"

    def testing(self, iteration: str, net: str, when: datetime | None) -> None:
        """A test begins; its outputs come when it is over."""
        self.said(int(iteration), TEST, int(net), when)

    def loss(self, iteration: str, value: str, when: datetime | None) -> None:
        """The line that ``display`` asks for."""
        self.said(int(iteration), TRAIN, 0, when).smoothed = number(value)

    def rate(self, iteration: str, value: str, when: datetime | None) -> None:
        """The learning rate: behind the loss, in the oldest Caffes before it."""
        self.said(int(iteration), TRAIN, 0, when).rate = number(value)

    def output(
        self, phase: str, name: str, value: str, loss: str | None, when: datetime | None
    ) -> None:
        """A value of an output of the net that was named last."""
        for said in reversed(self.part.rows[-2:]):  # with several GPUs a rate may stand between
            if said.phase == phase.lower():
                said.outputs.append((name, number(value), loss is not None))
                return

    def said(self, iteration: int, phase: str, net: int, when: datetime | None) -> Said:
        """The row that a line belongs to, perhaps a new one."""
        part = self.part
        last = part.rows[-1] if part.rows else None
        if last and (last.iteration, last.phase, last.net) == (iteration, phase, net):
            return last
        part.began = part.began or when
        seconds = seconds_between(part.began, when) if part.began and when else None
        part.rows.append(Said(iteration, phase, net, seconds))
        return part.rows[-1]


def number(text: str) -> float:
    """A value as C++ prints it."""
    if "#" in text:
        return float(text.partition("1.#")[0] + ("inf" if "INF" in text else "nan"))
    return float(text.partition("(")[0])


def moment(head: re.Match[str]) -> datetime | None:
    """When a line was written; without a year, in a leap year, for the 29th of February."""
    day = head["day"] if len(head["day"]) == 8 else f"{NO_YEAR}{head['day']}"
    try:
        return datetime.strptime(f"{day} {head['time'][:15]}", "%Y%m%d %H:%M:%S.%f")
    except ValueError:
        return None


def seconds_between(one: datetime, other: datetime) -> float:
    """How long it took, over the end of a year too; a year that is not said has 366 days."""
    seconds = (other - one).total_seconds()
    turned = one.year == other.year == NO_YEAR and other.month < one.month
    return seconds + 366 * 86400 if turned else seconds
