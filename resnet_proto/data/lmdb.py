"""Records <-> an LMDB as Caffe has it: a folder with data.mdb, one nameless database in it.

    records -> the library lmdb -> data.mdb -> pages, walked here -> records

Source: db_lmdb.cpp; lmdb.h, mdb.c.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import unreadable

FILE = "data.mdb"
FIRST_SIZE = 1 << 26
"""Of the map, in bytes; doubled when it is full. It is address space, and no file grows by it."""
MAX_KEY = 511
"""Bytes: MDB_MAXKEYSIZE."""
HEADER = struct.Struct("<Q2xHH2x")
"""Of a page: its number; flags; where its free bytes begin, and so how many nodes it has."""
PAGES = struct.Struct("<I")
"""Of a value that has pages of its own, in place of the last two: how many they are."""
META = struct.Struct("<II16xI76xQQQQ")
"""Of a database: magic, version, size of a page; records, first page, last page, transaction."""
NODE = struct.Struct("<HHHH")
"""Two numbers, flags, size of the key; the key follows."""
SHORT, LONG = struct.Struct("<H"), struct.Struct("<Q")
MAGIC, VERSION, NONE = 0xBEEFC0DE, 1, (1 << 64) - 1
BRANCH, LEAF, OVERFLOW, HEAD, BIG = 1, 2, 4, 8, 1
MAX_ABOVE = 1 << 20
"""Pages to come that are kept in mind: more than a tree of 64 KB pages has at a time."""


class Meta(NamedTuple):
    """What a head says."""

    psize: int
    entries: int
    root: int
    last: int
    transaction: int


def needed() -> Any:
    """The package lmdb.

    Raises:
        ResNetProtoError: it is not installed.
    """
    try:
        import lmdb
    except ImportError:
        raise ResNetProtoError(
            "an LMDB needs the package lmdb: pip install 'resnet-proto[data]'"
        ) from None
    return lmdb


def is_lmdb(path: Path) -> bool:
    """Whether this is the folder of an LMDB."""
    return os.path.isfile(path / FILE)  # noqa: PTH113 - no error for a name that is too long


class Writer:
    """An LMDB to which records are appended, in the order of their keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lmdb = needed()
        with self.blamed():
            size = max(FIRST_SIZE, 2 * size_of(path))
            self.database = self.lmdb.open(str(path), map_size=size)

    def append(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Write keys and values, all of them or none.

        Raises:
            ResNetProtoError: the disk is full, or a key is not behind the last.
        """
        while True:
            with self.blamed():
                try:
                    with self.database.begin(write=True) as transaction:
                        for key, value in records:
                            if not transaction.put(key, value, append=True):
                                raise ResNetProtoError(
                                    f"{self.path}: key {key!r} is not behind the last one; another "
                                    "process writes there"
                                )
                    return
                except self.lmdb.MapFullError:
                    self.database.set_mapsize(2 * self.database.info()["map_size"])

    def written(self) -> Iterator[bytes]:
        """The keys that are there."""
        with self.database.begin() as transaction:
            yield from transaction.cursor().iternext(values=False)

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Blame errors of LMDB on the database."""
        try:
            yield
        except self.lmdb.MapFullError:
            raise
        except (self.lmdb.Error, OSError) as error:
            reason = str(error).rpartition(": ")[2] or error
            raise ResNetProtoError(
                f"{self.path}: cannot be written: {reason}: is the disk full, or failing? What was "
                "committed is kept; make room, and give the same command again"
            ) from None


def size_of(path: Path) -> int:
    """Bytes of the file of an LMDB; 0 if there is none."""
    return (path / FILE).stat().st_size if is_lmdb(path) else 0


class Records:
    """An LMDB to read: keys and the bytes of each Datum, in Caffe's order.

    Its pages are walked here, because the library trusts them: a damaged one ends the process. The
    form is that of LMDB 0.9 where numbers have eight bytes, least first: mdb.c, MDB_page, MDB_node,
    MDB_meta.
    """

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path, self.content = path, content
        first = self.meta(0)
        if first is None:
            raise self.damaged("it has no head of LMDB's")
        second = self.meta(first.psize)
        if second is None:  # LMDB refuses that too; the first may be older by many records
            raise self.damaged("the second of its two heads is damaged")
        newest = max(first, second, key=lambda meta: meta.transaction)
        self.psize, self.root, self.count = newest.psize, newest.root, newest.entries
        whole = (newest.last + 1) * self.psize
        if len(content) < whole:
            raise ResNetProtoError(
                f"{path}: {FILE} has {len(content):,} bytes, {whole:,} are in use: it is cut off; "
                "copy or write it again"
            )
        if self.count > len(content):  # each record takes more than a byte
            raise self.damaged(f"it would have {self.count:,} records")

    def damaged(self, why: str) -> ResNetProtoError:
        """What to say of a page that cannot be."""
        return ResNetProtoError(f"{self.path}: not an LMDB, or damaged: {why}; write it again")

    def meta(self, at: int) -> Meta | None:
        """The head at this place, if it is one."""
        if len(self.content) < at + HEADER.size + META.size:
            return None
        _, flags, _ = HEADER.unpack_from(self.content, at)
        magic, version, psize, entries, root, last, transaction = META.unpack_from(
            self.content, at + HEADER.size
        )
        good = (magic, version) == (MAGIC, VERSION) and flags & HEAD and 512 <= psize <= 1 << 16
        return Meta(psize, entries, root, last, transaction) if good else None

    def page(self, number: int) -> tuple[int, int, int]:
        """Where a page begins, its flags, and its nodes if it has such."""
        start = number * self.psize
        if number < 2 or start + self.psize > len(self.content):
            raise self.damaged(f"it has no page {number}")
        own, flags, lower = HEADER.unpack_from(self.content, start)
        if own != number:
            raise self.damaged(f"page {number} is another's")
        return start, flags, (lower - HEADER.size) // 2

    def node(self, start: int, i: int) -> tuple[int, int, int, int]:
        """Of a node of a page: what its first three numbers are in one, and key's begin and end."""
        (offset,) = SHORT.unpack_from(self.content, start + HEADER.size + 2 * i)
        low, high, flags, size = NODE.unpack_from(self.content, start + min(offset, self.psize - 8))
        key = start + offset + NODE.size
        if key + size > start + self.psize:
            raise self.damaged(f"a key in page {start // self.psize} leaves it")
        return low | high << 16, flags, key, key + size

    def leaves(self) -> Iterator[tuple[int, int]]:
        """Begin and number of nodes of each page with records, in order."""
        left = len(self.content) // self.psize  # no page is there twice
        seen, above = 0, [] if self.root == NONE else [self.root]
        while above:
            number = above.pop()
            start, flags, nodes = self.page(number)
            left -= 1
            if left < 0 or not 0 <= nodes <= (self.psize - HEADER.size) // 2:
                raise self.damaged("its pages lead in a circle")
            if flags & LEAF:
                seen += nodes
                yield start, nodes
            elif flags & BRANCH:
                children = (self.node(start, i)[:2] for i in range(nodes))
                above += [low | high << 32 for low, high in children][::-1]
                if len(above) > MAX_ABOVE:
                    raise self.damaged("its pages lead in a circle")
            else:
                raise self.damaged(f"page {number} is none of records")
        if seen != self.count:
            raise self.damaged(f"it has {seen:,} records, and says {self.count:,}")

    def keys(self) -> Iterator[bytes]:
        """All keys; no value is read."""
        for start, nodes in self.leaves():
            for i in range(nodes):
                _, _, begin, end = self.node(start, i)
                yield self.content[begin:end]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values."""
        for start, nodes in self.leaves():
            for i in range(nodes):
                yield self.record(start, i)

    def at(self, places: Sequence[int]) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values at these places, which ascend."""
        wanted, before = deque(places), 0
        for start, nodes in self.leaves():
            while wanted and wanted[0] < before + nodes:
                yield self.record(start, wanted.popleft() - before)
            if not wanted:
                return
            before += nodes

    def record(self, start: int, i: int) -> tuple[bytes, bytes]:
        """Key and value of a node; a long value has pages of its own."""
        size, flags, begin, end = self.node(start, i)
        if flags & ~BIG:
            raise self.damaged("it has several values of one key, or several databases")
        place, limit = end, start + self.psize
        if flags & BIG:
            (number,) = LONG.unpack_from(self.content, min(end, len(self.content) - LONG.size))
            start, kind, _ = self.page(number)
            (pages,) = PAGES.unpack_from(self.content, start + HEADER.size - PAGES.size)
            place = start + HEADER.size
            limit = min(start + pages * self.psize, len(self.content)) if kind & OVERFLOW else place
        if place + size > limit:
            key = self.content[begin : min(end, begin + 80)]
            raise self.damaged(f"the value of {key!r} leaves its page")
        return self.content[begin:end], self.content[place : place + size]


@contextmanager
def records(path: Path) -> Iterator[Records]:
    """An LMDB, opened to be read; nothing is written, not even a lock.

    Raises:
        ResNetProtoError: there is none, or it is damaged.
    """
    try:
        if not is_lmdb(path):
            what = "no such folder"
            if (path / "CURRENT").is_file():
                what = "a LevelDB, not an LMDB"
            elif path.is_dir():
                what = f"not the folder of an LMDB: there is no {FILE} in it"
            elif path.exists():
                what = f"a file; an LMDB is the folder that {FILE} lies in"
            raise ResNetProtoError(f"{path}: {what}; `resnet-proto data lmdb` writes one")
        with (path / FILE).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ResNetProtoError(f"{path}: {FILE} is empty; write it again")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ResNetProtoError(unreadable(path, error)) from None
    with content:
        yield Records(path, content)
