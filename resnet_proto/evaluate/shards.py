"""Work on many items, by any number of workers: the same result, to the bit.

    items -> shards -> workers -> a file each -> results, in the order of the shards -> their sum

Nothing here knows what an item is. Shards are made before anybody knows how many workers there are,
each is computed with one thread, and results are put in order; so one worker, four of them, and
a run that was ended and gone on with compute the same. (Another kind of processor may round in
another way: BLAS has code for each.) ``workers.py`` knows where shards are run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.data.write import Progress, locked
from resnet_proto.errors import ResNetProtoError, check_kind, check_whole
from resnet_proto.evaluate.task import Result, Shard, Task
from resnet_proto.evaluate.workers import here, in_processes, on_dask
from resnet_proto.files import as_path, atomic
from resnet_proto.formats.npz import DAMAGED
from resnet_proto.layers import dims
from resnet_proto.memory import BLOBS, available, check_room, human
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.layers.base import Array

STATE, LOCK = "made-of.txt", "lock"
"""What a folder of results holds besides them."""
PART = re.compile(r"\.resnet-proto-\w+\.part$")
"""What ``atomic`` leaves when it is killed."""
MAX_STATE = 1 << 20
SEAL, STAMP = "seal", "stamp"
"""The arrays of a result's file by which damage is known, and that its items have changed since."""


def split(items: int, size: int) -> list[Shard]:
    """Shards of so many items each; the last may be smaller."""
    items = check_whole("items", items, "how many there are", 0)
    size = check_whole("size", size, "how many items a shard has")
    starts = range(0, items, size)
    return [Shard(i, start, min(start + size, items)) for i, start in enumerate(starts)]


def run_shards(
    task: Task,
    shards: Sequence[Shard],
    *,
    jobs: int = 1,
    dask: str | None = None,
    folder: Path | None = None,
    stamp: Callable[[Shard], str] = lambda shard: "",
    check: Callable[[int], object] = lambda processes: None,
    progress: Progress = lambda done, before, all_: None,
    warn: Callable[[str], object] = lambda text: None,
) -> list[Result]:
    """What a task says of each shard, in the order of the shards.

    Args:
        task: what is done; pickled, unless ``jobs`` is 1.
        shards: from ``split``.
        jobs: processes; 1 is this one. Each computes with one thread.
        dask: address of a Dask scheduler; its workers, with one shard a thread, take the place of
            ``jobs``.
        folder: keeps results, and those that an earlier run has kept there are not run again.
        stamp: shard -> what is another when its items have changed, as sizes and times of files. It
            is asked here, only if there is a folder; a shard that an earlier run has kept with
            another one is run again.
        check: is told of how many processes of this machine there will be, before they start, and
            may refuse.
        progress: is told of items done, of those that an earlier run had done, and of all.
        warn: is told of what was not as it should be, and mended.

    Raises:
        ResNetProtoError: the task raises it, a shard ends its workers, the cluster is lost, the
            folder is of another task, or another process is writing there. What was done is kept.
    """
    jobs, folder = check_whole("jobs", jobs, "how many processes"), as_path("folder", folder)
    check_kind("shards", shards, Sequence, "those of split()")
    for shard in shards:
        check_kind("a shard", shard, Shard, "those of split()")
    if dask is not None:
        check_kind("dask", dask, str, "the address of a scheduler")
    results: dict[int, Result] = {}
    with kept(folder, task, shards, stamp) as files:
        if files:
            results = files.read_all(shards, warn)
        todo = [shard for shard in shards if shard.index not in results]
        before = done = sum(shards[i].stop - shards[i].start for i in results)
        total = sum(shard.stop - shard.start for shard in shards)
        progress(done, before, total)
        jobs = min(jobs, len(todo))
        if dask is None and todo:
            check(jobs)
        if dask is not None:
            run = on_dask(task, todo, dask)
        elif jobs > 1:
            run = in_processes(task, todo, jobs, warn)
        else:
            run = here(task, todo)
        try:
            for shard, result in run:
                if files:
                    files.write(shard, result)
                results[shard.index] = result
                done += shard.stop - shard.start
                progress(done, before, total)
        except ResNetProtoError as error:
            if not files or not results:
                raise
            raise ResNetProtoError(
                f"{error}; {len(results)} of {len(shards)} shards are kept in {folder}: the same "
                "command resumes from there"
            ) from None
        finally:
            run.close()
    return [results[shard.index] for shard in shards]


def check_processes(processes: int, work: int, opened: int, smaller: str) -> None:
    """Refuse processes that would not fit into memory, for ``check`` of ``run_shards``.

    Args:
        processes: how many; 1 is this one.
        work: bytes that each takes at least for its shards.
        opened: bytes that each takes to open its nets, which this one has done.
        smaller: what to give for less of both.

    Raises:
        ResNetProtoError: they would not.
    """
    if processes == 1:
        check_room(work, BLOBS[0], f"give {smaller}")
        return
    each = work + opened
    free = available() or 0
    fewer = f"--jobs {max(1, free // each)}, or " if work and work <= free else ""
    what = f"{processes} processes of {human(each)} each"
    check_room(processes * each, what, f"give {fewer}{smaller}")


def merge(results: Sequence[Mapping[str, Array]]) -> Result:
    """The sum of results, by name: int64, exact; float64, added in their order.

    Raises:
        ResNetProtoError: they are not those of one task.
        OverflowError: an integer does not fit.
    """
    import numpy as np

    sums: dict[str, Any] = {}
    check_kind("results", results, Iterable, "those of run_shards()")
    for result in results:
        check_kind("a result", result, Mapping, "those of run_shards()")
        for name, array in result.items():
            array = np.asarray(array)
            dtype = "float64" if array.dtype.kind == "f" else "int64"
            value: Any = array.astype(dtype, casting="safe")
            if name not in sums:
                sums[name] = value.copy()
                continue
            if sums[name].shape != value.shape:
                raise ResNetProtoError(
                    f"'{name}' is {dims(value.shape)} in one result, {dims(sums[name].shape)} in "
                    "another; a sum is of one shape"
                )
            added = sums[name] + value
            if dtype == "int64" and np.any((added ^ value) & (added ^ sums[name]) < 0):
                raise OverflowError(f"the sum of '{name}' does not fit 64 bits")
            sums[name] = added
    return sums


@contextmanager
def kept(
    folder: Path | None,
    task: Task,
    shards: Sequence[Shard],
    stamp: Callable[[Shard], str] = lambda shard: "",
) -> Iterator[Kept | None]:
    """The folder of results, made or found, while no other process writes there.

    Raises:
        ResNetProtoError: it cannot be written, holds something else, or is another task's.
    """
    if folder is None:
        yield None
        return
    made_of = described(task, shards)
    try:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
        if STATE not in names and any(name != LOCK and not PART.match(name) for name in names):
            raise ResNetProtoError(f"{folder}: holds other files, no results; give a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    except OSError as error:
        raise ResNetProtoError(f"{folder}: cannot be used: {error.strerror}") from None
    with locked(folder / LOCK):
        for path in folder.iterdir():
            if PART.match(path.name):  # of a run that was killed
                path.unlink(missing_ok=True)
        if not (folder / STATE).exists():
            with atomic(folder / STATE) as file:
                file.write(made_of)
        if differing := differences(folder / STATE, made_of):
            raise ResNetProtoError(
                f"{folder}: its results are of another task: {differing}; give another folder, or "
                "remove this one to begin again"
            )
        # before an item is read: what changes later is seen by the next run
        stamps = {shard: hashlib.sha256(stamp(shard).encode()).digest() for shard in shards}
        yield Kept(folder, made_of, stamps)


def described(task: Task, shards: Sequence[Shard]) -> bytes:
    """All that results depend on, a line each."""
    places = [astuple(shard) for shard in shards]
    digest = hashlib.sha256(str(places).encode()).hexdigest()
    items = sum(shard.stop - shard.start for shard in shards)
    own = f"shards: {len(shards)}, of {items} items (sha256 {digest[:16]})"
    by = f"resnet-proto: {version('resnet-proto')}"  # another may compute otherwise
    return "\n".join([*task.digest.splitlines(), own, by, ""]).encode()


def differences(state: Path, made_of: bytes) -> str:
    """In what an earlier run differs, in words; empty if in nothing."""
    before = state.read_bytes() if state.is_file() and state.stat().st_size < MAX_STATE else b""
    if before == made_of:
        return ""
    now, then = (text.decode(errors="replace").splitlines() for text in (made_of, before))
    found = [f"now '{line[:200]}'" for line in now if line not in then]
    found += [f"then '{line[:200]}'" for line in then if line not in now]
    return printable(", ".join(found[:10])) or "its lines have another order"


@dataclass(frozen=True)
class Kept:
    """Results on disk: ``shard-000007.npz``, complete or not there.

    Args:
        made_of: what they are made of; a file that is of something else is not read.
        stamps: of each shard, 32 bytes; a file with another one is not read.
    """

    folder: Path
    made_of: bytes
    stamps: Mapping[Shard, bytes]

    def path(self, shard: Shard) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{shard.index:06}.npz"

    def write(self, shard: Shard, result: Result) -> None:
        """Keep a result.

        Raises:
            ResNetProtoError: the disk is full.
        """
        import numpy as np

        result = {STAMP: np.frombuffer(self.stamps[shard], np.uint8), **result}
        with atomic(self.path(shard)) as file:
            np.savez(file, allow_pickle=False, **{SEAL: self.seal(shard, result)}, **result)

    def read_all(self, shards: Sequence[Shard], warn: Callable[[str], object]) -> dict[int, Result]:
        """The results that are there and whole; the others are run again."""
        found, changed = {}, 0
        for shard in shards:
            if self.path(shard).exists():
                try:
                    result = self.read(shard)
                    if result.pop(STAMP).tobytes() == self.stamps[shard]:
                        found[shard.index] = result
                    else:
                        changed += 1
                except (*DAMAGED, LookupError, MemoryError) as error:
                    warn(f"{self.path(shard)}: damaged ({error}); {shard} is run again")
        if changed:
            warn(
                f"{self.folder}: {changed} of {len(shards)} shards are run again: what they read "
                "has changed since, by the sizes and times of files"
            )
        return found

    def read(self, shard: Shard) -> Result:
        """A result. Whatever a damaged file raises, it is in ``DAMAGED`` or one of its kin."""
        import zipfile

        import numpy as np

        path = self.path(shard)
        if not path.is_file():
            raise ResNetProtoError(f"{path}: not a file; move it away")
        with zipfile.ZipFile(path) as archive:
            # Ours are stored, so that no more is read than is on disk.
            if any(entry.compress_type for entry in archive.infolist()):
                raise ValueError("compressed")
        with np.load(path, allow_pickle=False) as arrays:
            result = {name: arrays[name] for name in arrays.files}
        if result.pop(SEAL).tobytes() != self.seal(shard, result).tobytes():
            raise ValueError("its content is not what was written")
        return result

    def seal(self, shard: Shard, result: Result) -> Array:
        """The sha256 of a result and of all that it depends on, as 32 bytes."""
        import numpy as np

        digest = hashlib.sha256(self.made_of + str(astuple(shard)).encode())
        for name, array in sorted(result.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            digest.update(array.tobytes())
        return np.frombuffer(digest.digest(), np.uint8)
