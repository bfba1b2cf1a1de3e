"""A real Dask cluster on loopback: the same bits as here, and what can go wrong with one."""

import json
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import module
from small_tasks import Sums, notes, same

from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate import workers
from resnet_proto.evaluate.shards import run_shards, split

SHARDS = split(95, 10)
SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"


@pytest.fixture(scope="module", autouse=True)
def distributed():
    return module("distributed", "pip install 'resnet-proto[dask]'")


@pytest.fixture(autouse=True)
def limit():
    """A test that hangs fails."""

    def late(*_):
        raise TimeoutError("the test hangs")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)


@contextmanager
def program(folder, code, *arguments):
    """A process of Dask, in a folder of its own."""
    env = {"PYTHONPATH": str(Path(__file__).parent), "DASK_TEMPORARY_DIRECTORY": str(folder)}
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments), "--no-dashboard"], stderr=log,
            stdout=log, cwd=folder, env={**os.environ, **env},
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for_threads(address, count):
    """Until so many threads of workers are there: one that comes late finds nothing to do."""
    from distributed import Client

    with Client(address, timeout=60, set_as_default=False) as client:
        while sum(client.nthreads().values()) < count:
            time.sleep(0.02)


@contextmanager
def scheduler(folder):
    """A scheduler without workers: its process and its address."""
    file = folder / "scheduler.json"
    arguments = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
    with program(folder, SCHEDULER, *arguments) as process:
        while True:
            try:
                address = json.loads(file.read_text())["address"]
                break
            except (OSError, ValueError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.02)
        yield process, address


def worker(folder, address, code=WORKER, threads=1):
    """A worker that ends when it is killed, and is not started again."""
    return program(folder, code, address, "--no-nanny", "--nthreads", threads)


@pytest.fixture
def cluster(tmp_path):
    """Scheduler, two workers of one thread, address."""
    with (
        scheduler(tmp_path) as (process, address),
        worker(tmp_path, address) as one,
        worker(tmp_path, address) as two,
    ):
        wait_for_threads(address, 2)
        yield process, (one, two), address


@pytest.fixture
def alone(tmp_path):
    """What an unbroken run in this process says."""
    (tmp_path / "alone").mkdir()
    return run_shards(Sums(tmp_path / "alone"), SHARDS)


def at_notes(folder, count, action):
    """Do something once so many shards were begun, beside what the test does."""

    def watch():
        while len(list((folder / "kept").glob("*.npz"))) < count:
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_cluster_gives_the_same_bits_also_when_a_worker_is_killed(tmp_path, cluster, alone):
    """And one of its workers has gone on before: a thread prepares once for each task."""
    _, (one, _), address = cluster
    first = run_shards(Sums(tmp_path, pause=0.2), SHARDS, dask=address)
    before = notes(tmp_path)
    (tmp_path / "notes").unlink()
    killer = at_notes(tmp_path, 3, one.kill)

    second = run_shards(
        Sums(tmp_path, pause=0.2, digest="sums: 2"), SHARDS, dask=address, folder=tmp_path / "kept"
    )

    killer.join()
    assert same(first, alone)
    assert same(second, alone)
    assert len([what for what, _ in before if what == "prepare"]) == 2
    assert len({pid for _, pid in before} - {str(os.getpid())}) == 2
    assert len({pid for _, pid in notes(tmp_path)}) == 2


def test_a_result_that_is_lost_with_its_worker_is_waited_for_again(
    tmp_path, cluster, alone, monkeypatch, distributed
):
    """It does not come in time, which is what a client sees of that; and then it does."""
    asked, result = [], distributed.Future.result

    def late(self, timeout=None):
        asked.append((self.key, timeout))
        if len(asked) % 3 == 1:
            raise TimeoutError
        return result(self, timeout)

    monkeypatch.setattr(distributed.Future, "result", late)

    assert same(run_shards(Sums(tmp_path), SHARDS, dask=cluster[-1]), alone)
    assert len(asked) > len({key for key, _ in asked}) == 10
    assert {timeout for _, timeout in asked} == {workers.CONNECT}


def test_threads_have_a_task_each(tmp_path, alone):
    with scheduler(tmp_path) as (_, address), worker(tmp_path, address, threads=3):
        wait_for_threads(address, 3)
        results = run_shards(Sums(tmp_path, pause=0.05), SHARDS, dask=address)

    assert same(results, alone)
    assert len(notes(tmp_path, "prepare")) == 3


def test_a_lost_scheduler_and_lost_workers_are_said_and_gone_on_from(
    tmp_path, cluster, alone, monkeypatch
):
    """First both workers end, then the scheduler; what was done is not done again.

    However slow the machine is, no run has come to its end before that.
    """
    process, (one, two), address = cluster
    kept = tmp_path / "kept"

    def end_workers():
        one.kill()
        two.kill()
        monkeypatch.setattr(workers, "NO_WORKERS", 1.0)

    killer = at_notes(tmp_path, 2, end_workers)
    with pytest.raises(ResNetProtoError, match=r"no worker for 1 s; .* of 10 shards are kept in"):
        run_shards(Sums(tmp_path, stop=4), SHARDS, dask=address, folder=kept)
    killer.join()
    done = len(list(kept.glob("*.npz")))
    assert 2 <= done <= 4

    monkeypatch.undo()
    log = logging.handlers.BufferingHandler(1000)  # in the place of stderr
    monkeypatch.setattr(logging.getLogger("distributed"), "handlers", [log])
    with worker(tmp_path, address):
        killer = at_notes(tmp_path, done + 2, process.kill)
        with pytest.raises(ResNetProtoError, match=r"the scheduler was lost; .* are kept in"):
            run_shards(Sums(tmp_path, stop=8), SHARDS, dask=address, folder=kept)
        killer.join()
    assert log.buffer == []
    assert log.level == logging.NOTSET

    before = len(list(kept.glob("*.npz")))
    assert done + 2 <= before <= 8
    (tmp_path / "notes").unlink()
    task = Sums(tmp_path)
    assert same(run_shards(task, SHARDS, folder=kept), alone)
    assert len(notes(tmp_path)) == 1 + 10 - before
    with pytest.raises(ResNetProtoError, match="no scheduler can be reached"):
        run_shards(task, SHARDS, dask=address)


def test_a_scheduler_that_is_lost_while_it_is_asked_for_a_result(tmp_path, cluster, monkeypatch):
    """No fault of a worker."""
    from distributed import Future
    from distributed.comm import CommClosedError

    def lost(self, timeout=None):
        raise CommClosedError("in <TCP (closed)>: ConnectionResetError")

    monkeypatch.setattr(Future, "result", lost)
    with pytest.raises(ResNetProtoError, match=r"^--dask tcp://.*: the scheduler was lost$"):
        run_shards(Sums(tmp_path), SHARDS, dask=cluster[-1])


LACKING = """
import sys
class Finder:
    def find_spec(name, *_):
        if name.split(".")[0] == "{0}":
            raise ModuleNotFoundError("No module named '{0}'")
sys.meta_path.insert(0, Finder)
"""
STRANGERS = {
    LACKING.replace("{0}", "resnet_proto"):
        r"a worker cannot run the task: ModuleNotFoundError: .*workers need resnet-proto 0",
    "from resnet_proto.evaluate import workers; workers.code = lambda: '0.0.1 (12345678)'; ":
        r"worker tcp://127.0.0.1:\d+ has resnet-proto 0\.0\.1 \(12345678\), this machine 0\.",
    LACKING.replace("{0}", "small_tasks"):
        r"a worker cannot run the task: ModuleNotFoundError: ",
}  # fmt: skip


def test_workers_that_lack_something_are_said(tmp_path):
    """The package, its version, the task's module, its files; and what a shard says."""
    with scheduler(tmp_path) as (_, address):
        for code, message in STRANGERS.items():
            with (
                worker(tmp_path, address, code + WORKER),
                pytest.raises(ResNetProtoError, match=message),
            ):
                run_shards(Sums(tmp_path), SHARDS, dask=address)
        with worker(tmp_path, address):
            for how, message in {
                "missing": r"worker tcp://127.0.0.1:\d+: /data/val.txt: cannot be read: No such",
                "bug": r"worker tcp://127.0.0.1:\d+: shard 4 \(items 40 to 49\): LookupError: no",
            }.items():
                with pytest.raises(ResNetProtoError, match=message):
                    run_shards(Sums(tmp_path, at=4, how=how), SHARDS, dask=address)


def test_a_shard_that_ends_its_workers_is_named(tmp_path, monkeypatch):
    """After the first, here."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with (
        scheduler(tmp_path) as (_, address),
        worker(tmp_path, address),
        pytest.raises(ResNetProtoError, match=r"^shard 0 \(items 0 to 9\): the workers that had"),
    ):
        run_shards(Sums(tmp_path, at=0, how="kill"), SHARDS[:1], dask=address)


@pytest.mark.parametrize("address", ["", "8786", "localhost", "x y:1", "127.0.0.1:1", "a:99999"])
def test_no_scheduler(tmp_path, address):
    with pytest.raises(ResNetProtoError, match=r"^--dask .*: no scheduler can be reached: "):
        run_shards(Sums(tmp_path), SHARDS, dask=address)


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ResNetProtoError, match=r"pip install 'resnet-proto\[dask\]'"):
        run_shards(Sums(tmp_path), SHARDS, dask="127.0.0.1:8786")
