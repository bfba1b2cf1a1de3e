"""Images -> one LMDB or two, which can be gone on with after any end.

    Images -> order, parts -> Datum, several at a time -> records, in order -> OUT.part -> OUT

Until they are complete the databases lie in the folder ``OUT.part``, beside a file that says what
they are made of. Records are committed together with all before them, so the last key says how far
one has come; there is no other account that could differ from it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import warnings
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from resnet_proto.data.images import Options, datum
from resnet_proto.data.labelled import Images, shown
from resnet_proto.data.lmdb import FILE, MAX_KEY, Writer, needed
from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import atomic, why
from resnet_proto.layers import Shape, dims
from resnet_proto.words import counted

LABELS = "labels.txt"
"""Beside data.mdb: the name of each class, a line each, in the order of their labels."""
STATE = "made-of.json"
MOST_RECORDS, MOST_BYTES = 1000, 1 << 26
"""Of one commit."""
OWN = {FILE, "lock.mdb", LABELS}
"""What a database's folder may hold if it is to be replaced."""
Progress = Callable[[int, int, int], object]
"""Is told of images done, of those that an earlier run had done, and of all."""


@dataclass(frozen=True)
class Plan:
    """What is to be written where.

    Args:
        images: what there is.
        options: what becomes of each.
        out: the database.
        split: name of a second one, and its part of each class; it is called ``NAME_lmdb``.
        shuffle: whether the order is mixed.
        seed: of order and split.
    """

    images: Images
    options: Options
    out: Path
    split: tuple[str, float] | None = None
    shuffle: bool = True
    seed: int = 0

    @property
    def paths(self) -> list[Path]:
        """The databases."""
        return [self.out, *([self.out.with_name(f"{self.split[0]}_lmdb")] if self.split else [])]

    @property
    def part(self) -> Path:
        """Where they are until they are complete."""
        return self.out.with_name(f"{self.out.name}.part")

    def orders(self) -> list[array[int]]:
        """The places of the images of each database, in its order.

        Of each class the second gets its part, rounded, by lot.
        """
        labels = self.images.labels
        order = array("q", range(len(labels)))
        chance = random.Random(self.seed)  # the same numbers in every version of Python
        if self.shuffle:
            mix(order, chance)
        if self.split is None:
            return [order]
        of_class: dict[int, array[int]] = {}
        for i, label in enumerate(labels):
            of_class.setdefault(label, array("q")).append(i)
        second = bytearray(len(labels))
        for _, places in sorted(of_class.items()):
            mix(places, chance)
            for i in places[: round(len(places) * self.split[1])]:
                second[i] = 1
        orders = [array("q", (i for i in order if second[i] == which)) for which in (0, 1)]
        for path, kept in zip(self.paths, orders, strict=True):
            if not kept:
                raise ResNetProtoError(
                    f"--split {self.split[0]}={self.split[1]:g}: {path} would have no image of "
                    f"{len(labels):,}; give another part"
                )
        return orders

    def made_of(self) -> dict[str, object]:
        """What decides the content of the databases."""
        return {
            "images": self.images.source,
            "digest": hashlib.sha256(self.images.digest.encode()).hexdigest(),
            "options": asdict(self.options),
            "split": self.split,
            "shuffle": self.shuffle,
            "seed": self.seed,
        }


def mix(places: array[int], chance: random.Random) -> None:
    """Bring places into a random order: Fisher and Yates."""
    for i in range(len(places) - 1, 0, -1):
        j = int(chance.random() * (i + 1))
        places[i], places[j] = places[j], places[i]


@dataclass
class Written:
    """One database.

    Args:
        path: the folder.
        images: how many records it has.
        resumed: how many of them were there before.
        skipped: name -> why, of images that are not in it.
        labels: label -> how many images.
        shapes: (C, H, W) -> how many of those that were written now.
    """

    path: Path
    images: int = 0
    resumed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    labels: Counter[int] = field(default_factory=Counter)
    shapes: Counter[Shape] = field(default_factory=Counter)

    def facts(self) -> dict[str, object]:
        """The same as plain data."""
        return {
            "path": str(self.path),
            "images": self.images,
            "resumed": self.resumed,
            "skipped": self.skipped,
            "labels": {str(label): count for label, count in sorted(self.labels.items())},
            "shapes": {dims(shape): count for shape, count in sorted(self.shapes.items())},
        }

    @property
    def line(self) -> str:
        """``train_lmdb: 160 images of 4 classes, 3x40x40``."""
        classes = f"{len(self.labels):,} class{'es' * (len(self.labels) != 1)}"
        sizes = [shape[1:] for shape in self.shapes]
        size = ""
        if len(self.shapes) == 1:
            size = f", {dims(next(iter(self.shapes)))}"
        elif sizes:
            low, high = (tuple(f(side) for side in zip(*sizes, strict=True)) for f in (min, max))
            size = f", {dims(low)} to {dims(high)}"
        return f"{self.path}: {counted(self.images, 'image')} of {classes}{size}"


def write(
    plan: Plan,
    *,
    refuse: bool = False,
    jobs: int = 1,
    force: bool = False,
    progress: Progress = lambda done, before, all_: None,
) -> list[Written]:
    """Write the databases, or go on where an earlier run of the same plan ended.

    Args:
        plan: what and where.
        refuse: end at an image that cannot be read; else leave it out.
        jobs: images decoded at a time.
        force: replace databases that are there, and what an earlier run left.
        progress: see ``Progress``.

    Raises:
        ResNetProtoError: they are there, another plan was begun there, an image is refused, or the
            disk is full.
    """
    needed()
    orders = plan.orders()
    paths, part = plan.paths, plan.part
    if len(set(paths)) < len(paths):
        raise ResNetProtoError(
            f"--split {plan.split[0] if plan.split else ''}=...: both databases would be "
            f"{paths[0]}; give OUT another name"
        )
    resuming = prepare(plan, force)
    written = [Written(path) for path in paths]
    total = len(plan.images)
    before = done = 0
    with locked(part / STATE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what it reads all the same
        for order, at in zip(orders, written, strict=True):
            at.labels.update(plan.images.labels[i] for i in order)
            folder = part / at.path.name
            if resuming and not folder.is_dir():  # was moved to its place before
                at.images = at.resumed = len(order)
                done += len(order)
                before += len(order)
                continue
            writer = Writer(folder)
            try:
                first = begun(writer, plan, order, at)
                done += first
                before += first
                for count in fill(writer, plan, order, first, at, refuse=refuse, jobs=jobs):
                    done += count
                    progress(done, before, total)
            finally:
                writer.close()
            if not at.images:
                if not any(other.images for other in written):
                    shutil.rmtree(part)
                raise ResNetProtoError(
                    f"{plan.images.source}: no image can be read; the first: "
                    f"{next(iter(at.skipped.values()))}"
                )
            if plan.images.classes:
                names = b"".join(os.fsencode(name) + b"\n" for name in plan.images.classes)
                with atomic(folder / LABELS) as file:
                    file.write(names)
        for at in reversed(written):  # OUT itself is the last
            folder = part / at.path.name
            if folder.is_dir():
                remove(at.path)
                folder.rename(at.path)
    shutil.rmtree(part)
    return written


def prepare(plan: Plan, force: bool) -> bool:
    """Make the folder of what is not complete; whether it was there, from the same plan.

    Raises:
        ResNetProtoError: it is of another plan, or a database is there that may not go.
    """
    part, state = plan.part, plan.part / STATE
    resuming = False
    if state.is_file():
        with locked(state):  # nobody else is writing there
            pass
        try:
            resuming = json.loads(state.read_bytes()) == json.loads(json.dumps(plan.made_of()))
        except (ValueError, RecursionError, OSError):
            resuming = False
        if not resuming and not force:
            raise ResNetProtoError(
                f"{part}: begun with other images or options; give the same to resume, or --force "
                "to begin again"
            )
        resuming = resuming and not force
    elif part.exists() and any(part.iterdir() if part.is_dir() else "x") and not unbegun(plan):
        raise ResNetProtoError(f"{part}: not a folder of this command's; move it away")
    for path in plan.paths:
        moved = resuming and not (part / path.name).is_dir()
        if not moved and (path.exists() or path.is_symlink()):
            if not force:
                raise ResNetProtoError(f"{path} exists already; --force replaces it")
            replaceable(path)
    if resuming:
        return True
    try:
        if part.exists():
            shutil.rmtree(part)
        for path in plan.paths:
            (part / path.name).mkdir(parents=True)
    except OSError as error:
        raise ResNetProtoError(f"{part}: cannot be made: {why(part, error)}") from None
    with atomic(state) as file:  # the last: where it is, the folders are or were
        file.write(json.dumps(plan.made_of(), indent=1).encode())
    return False


def unbegun(plan: Plan) -> bool:
    """Whether the folder was made, and its state not yet written."""
    names = {path.name for path in plan.paths}
    return all(
        entry.is_dir() and not any(entry.iterdir()) and entry.name in names
        for entry in plan.part.iterdir()
        if not entry.name.endswith(".part")
    )


def replaceable(path: Path) -> None:
    """Refuse to take away what is more than a database.

    Raises:
        ResNetProtoError: it is.
    """
    held = {entry.name for entry in path.iterdir()} if path.is_dir() else {"itself"}
    if path.is_symlink() or held - OWN:
        raise ResNetProtoError(f"{path}: more than a database, so --force keeps it; move it away")


def remove(path: Path) -> None:
    """Take a database away, if it is there."""
    if path.exists():
        replaceable(path)
        shutil.rmtree(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing here.

    Raises:
        ResNetProtoError: one does.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ResNetProtoError(
                f"{path.parent}: another process is writing there; wait for its end"
            ) from None
        yield


def begun(writer: Writer, plan: Plan, order: Sequence[int], at: Written) -> int:
    """What an earlier run has done: places of the order up to the last key, with those skipped."""
    place = 0
    for key in writer.written():
        number = int(key[:8])
        for i in order[place:number]:
            skip(at, plan, i, f"{shown(plan.images.name(i))}: an earlier run could not read it")
        at.resumed += 1
        place = number + 1
    at.images = at.resumed
    return place


def skip(at: Written, plan: Plan, i: int, reason: str) -> None:
    """Note that an image is left out."""
    at.skipped[shown(plan.images.name(i))] = reason
    at.labels[plan.images.labels[i]] -= 1
    at.labels += Counter()  # without those that are zero


def fill(
    writer: Writer,
    plan: Plan,
    order: Sequence[int],
    first: int,
    at: Written,
    *,
    refuse: bool,
    jobs: int,
) -> Iterator[int]:
    """Write the records from a place on; how many places are done is yielded, bit by bit."""
    images, options = plan.images, plan.options

    def made(i: int) -> tuple[bytes, Shape]:
        return datum(images.read(i), images.labels[i], options, shown(images.name(i)))

    pending: list[tuple[bytes, bytes]] = []
    size = places = 0
    for place, i, future in in_order(made, order, first, jobs):
        places += 1
        try:
            value, shape = future.result()
        except ResNetProtoError as error:
            if refuse:
                writer.append(pending)
                raise ResNetProtoError(
                    f"{error}; what comes before it is kept: mend it and give the same command "
                    "again, or --on-error skip"
                ) from None
            skip(at, plan, i, str(error))
        else:
            pending.append(((b"%08d_" % place + images.name(i))[:MAX_KEY], value))
            at.images += 1
            at.shapes[shape] += 1
            size += len(value)
        if len(pending) == MOST_RECORDS or size >= MOST_BYTES:
            writer.append(pending)
            pending, size = [], 0
        if places == 32:
            yield places
            places = 0
    writer.append(pending)
    yield places


def in_order(
    made: Callable[[int], tuple[bytes, Shape]], order: Sequence[int], first: int, jobs: int
) -> Iterator[tuple[int, int, Future[tuple[bytes, Shape]]]]:
    """Place, image and its Datum to come, ``jobs`` at a time and few of them ahead.

    Threads: Pillow lets others run while it decodes and resizes.
    """
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting: deque[tuple[int, int, Future[tuple[bytes, Shape]]]] = deque()
        for place in range(first, len(order)):
            waiting.append((place, order[place], pool.submit(made, order[place])))
            if len(waiting) > 2 * jobs + 2:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)
