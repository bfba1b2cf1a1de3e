"""The pages of an LMDB as we walk them, against the library; and pages that are damaged."""

import lmdb
import numpy as np
import pytest

from resnet_proto.data.lmdb import Writer, records
from resnet_proto.errors import ResNetProtoError


def random_records(count, most):
    rng = np.random.default_rng(count)
    names = sorted(
        {bytes(rng.integers(0, 256, rng.integers(1, 300), np.uint8)) for _ in range(count)}
    )
    return [(name, rng.bytes(rng.integers(0, most))) for name in names]


@pytest.mark.parametrize(
    ("count", "most"),
    [(0, 9), (1, 9), (7, 50), (500, 60), (300, 9000), (5, 300_000), (6000, 40)],
)
def test_records_are_those_of_the_library(tmp_path, count, most):
    """Values within a page and on pages of their own, from no page to three levels of them."""
    given = random_records(count, most)
    with lmdb.open(str(tmp_path), map_size=1 << 28) as database:
        with database.begin(write=True) as transaction:
            for i in np.random.default_rng(0).permutation(len(given)):
                transaction.put(*given[i])
        with database.begin(write=True) as transaction:  # free pages, a newer head
            for key, _ in given[::3]:
                transaction.delete(key)
        depth = database.stat()["depth"]
    given = [item for i, item in enumerate(given) if i % 3]
    assert depth == 3 or count < 6000

    with records(tmp_path) as found:
        assert found.count == len(given)
        assert list(found.items()) == given
        assert list(found.keys()) == [key for key, _ in given]
        places = [i for i in range(len(given)) if i % 5 == 2]
        assert list(found.at(places)) == [given[i] for i in places]
        assert list(found.at([])) == []


def test_what_the_writer_appends(tmp_path):
    given = [(b"%08d" % i, bytes([i % 256]) * (i % 3000)) for i in range(1, 900)]
    writer = Writer(tmp_path)
    for i in range(0, len(given), 50):
        writer.append(given[i : i + 50])
    assert list(writer.written()) == [key for key, _ in given]
    with pytest.raises(ResNetProtoError, match="is not behind the last one"):
        writer.append([(b"00000007", b"")])
    writer.close()
    with records(tmp_path) as found:
        assert list(found.items()) == given


def test_several_values_of_a_key_are_refused(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=1) as database:
        inner = database.open_db(b"inner")
        with database.begin(write=True) as transaction:
            transaction.put(b"a", b"b", db=inner)
    with records(tmp_path) as found, pytest.raises(ResNetProtoError, match="several databases"):
        list(found.items())


def test_damaged_pages_are_read_or_refused(tmp_path):
    """Bytes changed, mostly in the heads of pages: no other error, no end, and never too much."""
    given = random_records(400, 6000)
    writer = Writer(tmp_path)
    writer.append(given)
    writer.close()
    data = tmp_path / "data.mdb"
    good = data.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        changed = bytearray(good)
        for _ in range(rng.choice([1, 4, 30])):
            page = rng.integers(len(good) // 4096)
            changed[page * 4096 + rng.integers(rng.choice([16, 200, 4096]))] = rng.integers(256)
        if rng.integers(8) == 0:
            changed = changed[: rng.integers(len(good))]
        data.write_bytes(changed)
        try:
            with records(tmp_path) as found:
                assert sum(len(key) + len(value) for key, value in found.items()) < 400 * len(good)
        except ResNetProtoError:
            refused += 1
    assert 30 < refused < 300


def test_pages_in_the_places_of_others(tmp_path):
    """Where all of them are read without an error they would be other records, or fewer."""
    given = [(b"%03d" % i, bytes([i]) * (9000 if i % 2 else 90)) for i in range(200)]
    writer = Writer(tmp_path)
    writer.append(given)
    writer.append([(b"999", b"")])
    writer.close()
    data = tmp_path / "data.mdb"
    pages = [data.read_bytes()[at : at + 4096] for at in range(0, data.stat().st_size, 4096)]
    leaves = [i for i, page in enumerate(pages) if i > 1 and page[10] == 2]
    values = [i for i, page in enumerate(pages) if page[:8] == i.to_bytes(8, "little")]
    values = [i for i in values if pages[i][10] == 4]
    a, b, c = leaves[0], leaves[-1], values[0]
    blank = bytes(4096)

    def read():
        with records(tmp_path) as found:
            return list(found.items())

    for changes, reason in [
        ({a: pages[b], b: pages[a]}, "is another's"),
        ({c: pages[values[1]]}, "is another's"),
        ({c: pages[c][:10] + b"\0\0" + pages[c][12:]}, "leaves its page"),
        ({c: pages[c][:12] + b"\2\0" + pages[c][14:]}, "leaves its page"),
        ({a: pages[a][:12] + b"\x12" + pages[a][13:]}, "records, and says 201"),
        ({0: blank}, "it has no head of LMDB's"),
        ({1: blank}, "the second of its two heads is damaged"),
        ({}, None),
    ]:
        data.write_bytes(b"".join(changes.get(i, page) for i, page in enumerate(pages)))
        if reason:
            with pytest.raises(ResNetProtoError, match=reason):
                read()
        else:
            assert read() == [*given, (b"999", b"")]
