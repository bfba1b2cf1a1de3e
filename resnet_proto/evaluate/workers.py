"""Where shards are run: here, in processes of this machine, on a Dask cluster.

    task, shards -> (shard, result), in whatever order they end

What goes between processes is pickled, by ``multiprocessing`` and by Dask; a Dask cluster is of
machines that trust one another. No file is.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from functools import cache
from importlib.metadata import version
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.task import Result, Shard, Task

Results = Generator[tuple[Shard, Result], None, None]
Warn = Callable[[str], object]

TRIES = 3
"""Workers that a shard may end."""
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM",
)  # fmt: skip
"""Variables for libraries, and for programs that a worker starts."""
GRACE = 2.0
"""Seconds that a worker has to close what it has open."""


def here(task: Task, shards: Sequence[Shard]) -> Results:
    """In this process, with one thread; the task itself, not a copy of it."""
    from threadpoolctl import threadpool_limits

    if shards:
        task.prepare()
    with threadpool_limits(1):
        for shard in shards:
            yield shard, run(task, shard)


def run(task: Task, shard: Shard) -> Result:
    """With one thread, from now on in this process: several may round sums in another way.

    Raises:
        TypeError: a result holds something else than numbers.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # no block: its end would be that of other threads of a Dask worker, too
    result = {name: np.asarray(array) for name, array in task.run(shard).items()}
    for name, array in result.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"'{name}' is of {array.dtype}, expected ints or floats")
    return result


def attempt(task: Task, shard: Shard, *, prepared: bool) -> Result | str:
    """The result; or why there is none, as text, which any process can read."""
    try:
        if not prepared:
            task.prepare()
        return run(task, shard)
    except ResNetProtoError as error:
        return str(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{shard}: {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


# ---- processes of this machine


def in_processes(task: Task, shards: Sequence[Shard], jobs: int, warn: Warn) -> Results:
    """In so many processes. One that is killed is replaced, and its shard run again.

    Raises:
        ResNetProtoError: the task raises one, or a shard has ended ``TRIES`` workers.
    """
    waiting, ended = deque(shards), Counter[Shard]()
    busy: dict[Connection, Shard] = {}
    workers: dict[Connection, BaseProcess] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                worker, line = start()
                workers[line], busy[line] = worker, waiting.popleft()
                with suppress(OSError):  # it has ended: the line says so below
                    line.send(task)
                    line.send(busy[line])
            for ready in wait(list(busy)):
                line = cast("Connection", ready)
                shard = busy.pop(line)
                try:
                    result = line.recv()
                except (EOFError, OSError):
                    worker = workers.pop(line)
                    end([worker])
                    line.close()
                    ended[shard] += 1
                    why = f"{shard}: its worker ended ({status(worker)})"
                    if ended[shard] == TRIES:
                        raise ResNetProtoError(f"{why}, {TRIES} times") from None
                    warn(f"{why}; it is run again")
                    waiting.appendleft(shard)
                    continue
                if isinstance(result, str):
                    raise ResNetProtoError(result)
                if waiting:
                    busy[line] = waiting.popleft()
                    with suppress(OSError):
                        line.send(busy[line])
                else:
                    line.close()  # which ends it
                yield shard, result
    finally:
        for line, worker in workers.items():
            line.close()
            if line in busy:
                worker.terminate()
        end(workers.values())


def start() -> tuple[BaseProcess, Connection]:
    """A new worker, and the line to it. Ctrl-C does not reach it: this process ends it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), daemon=True)
    resource_tracker.ensure_running()  # its start would undo what the next line does
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it inherits this
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return process, ours


def end(workers: Collection[BaseProcess]) -> None:
    """Wait for the end of workers that have been told, and end those that take too long."""
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(0, deadline - time.monotonic()))
        worker.kill()
        worker.join()


def status(worker: BaseProcess) -> str:
    """How it ended."""
    code = worker.exitcode or 0
    if code == -signal.SIGKILL:
        return "SIGKILL, as when memory is full: fewer jobs need less"
    if code < 0:
        return signal.Signals(-code).name
    return f"status {code}; a script that starts it needs `if __name__ == '__main__':`"


def work(line: Connection) -> None:
    """What a worker does: it gets the task, then shards, until the line or the parent ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it closes what it has open
    for name in THREADS:
        os.environ[name] = "1"  # whatever it was: the jobs share the processors
    threading.Thread(target=end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        task, prepared = line.recv(), False
        while True:
            shard = line.recv()
            line.send(attempt(task, shard, prepared=prepared))
            prepared = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending, and closes what it has open


def end_with_parent() -> None:
    """End this process when its parent has ended, whatever it is at."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


# ---- a Dask cluster

CONNECT, LOOK, NO_WORKERS = 10.0, 1.0, 60.0
"""Seconds: for the cluster to answer; between looks at a silent cluster; without any worker."""
AHEAD = 2
"""Shards for each thread of the cluster that are under way."""
held = threading.local()
"""The task of each thread of a worker, prepared."""


def on_dask(task: Task, shards: Sequence[Shard], address: str) -> Results:
    """On the workers of a cluster, a shard for each of their threads at a time.

    Dask itself runs a shard again whose worker was lost, until it has ended four of them
    (``distributed.scheduler.allowed-failures``).

    Raises:
        ResNetProtoError: the scheduler does not answer or is lost, there are no workers, or they
            do not have what the task needs.
    """
    if not shards:
        return
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ResNetProtoError("--dask needs Dask: pip install 'resnet-proto[dask]'") from None
    with quiet():
        yield from on_cluster(task, shards, address)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Dask's own log, which has a traceback for a lost scheduler; our error says it."""
    before = {handler: handler.level for handler in logging.getLogger("distributed").handlers}
    for handler in before:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in before.items():
            handler.setLevel(level)


def on_cluster(task: Task, shards: Sequence[Shard], address: str) -> Results:
    """``on_dask``, where Dask is installed."""
    from distributed import CancelledError, Client, Future, wait

    found = re.fullmatch(r"(?:\w+://)?\[?([^\[\]/]+)\]?:(\d{1,5})", address)
    try:  # before a Client does, which says more than a reader needs when it fails
        if not found:
            raise ValueError("expected HOST:PORT or tcp://HOST:PORT")
        socket.create_connection((found[1], int(found[2])), CONNECT).close()
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except Exception as error:  # Dask's have no class in common
        raise ResNetProtoError(f"--dask {address}: no scheduler can be reached: {error}") from None
    launch, sent = launcher(), pickle.dumps(task)
    waiting, under_way = deque(shards), dict[Future, Shard]()
    threads, seen = 0, time.monotonic()
    looked = seen - LOOK
    try:
        with client.as_current():
            while waiting or under_way:
                if (now := time.monotonic()) - looked >= LOOK:
                    looked, threads = now, sum(client.nthreads().values())
                    seen = now if threads else seen
                    if now - seen > NO_WORKERS:
                        raise ResNetProtoError(
                            f"--dask {address}: no worker for {NO_WORKERS:g} s; start some, as "
                            f"with `dask worker {address}`"
                        )
                while waiting and len(under_way) < AHEAD * max(1, threads):
                    shard = waiting.popleft()
                    future = client.submit(launch, code(), sent, astuple(shard), pure=False)
                    under_way[future] = shard
                try:
                    done = wait(list(under_way), LOOK, "FIRST_COMPLETED").done
                except TimeoutError:
                    continue
                for future in done:
                    result = result_of(future, under_way[future], address)
                    if result is not None:
                        yield under_way.pop(future), result
    except (CancelledError, OSError):  # TimeoutError is one
        raise ResNetProtoError(f"--dask {address}: the scheduler was lost") from None
    finally:
        with suppress(Exception):
            client.close(timeout=GRACE)


def result_of(future: Any, shard: Shard, address: str) -> Result | None:
    """The result of a shard that has ended; None if its worker is lost with it: it is run again.

    Raises:
        ResNetProtoError: there is none. CancelledError, CommClosedError: the scheduler was lost.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        result = future.result(CONNECT)
    except (CancelledError, CommClosedError):  # the second while it was asked for the result
        raise
    except TimeoutError:  # attempt() lets none of a task's through
        return None
    except KilledWorker as error:
        raise ResNetProtoError(
            f"{shard}: the workers that had it ended, as when memory is full; the last was "
            f"{error.last_worker.address}"
        ) from None
    except Exception as error:
        raise ResNetProtoError(
            f"--dask {address}: a worker cannot run the task: {type(error).__name__}: {error}; "
            f"workers need resnet-proto {code()}, and the Python and packages of this machine"
        ) from None
    if isinstance(result, str):
        raise ResNetProtoError(result)
    return cast("Result", result)


@cache
def code() -> str:
    """The version of this package, and the beginning of the sha256 of its code."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{version('resnet-proto')} ({digest.hexdigest()[:8]})"


def launcher() -> Callable[..., Any]:
    """What is run on a worker. It is local, so that Dask sends its code and not its name.

    A worker that cannot unpickle what it is sent ends without a word; so it can say what it lacks.
    """

    def launch(expected: str, sent: bytes, shard: tuple[int, int, int]) -> Any:
        from resnet_proto.evaluate.workers import work_on_dask

        return work_on_dask(expected, sent, shard)

    return launch


def work_on_dask(expected: str, sent: bytes, shard: tuple[int, int, int]) -> Result | str:
    """What a thread of a Dask worker does with a shard.

    Args:
        expected: what ``code`` has to say.
        sent: the task, pickled; from where Dask's own pickles come.
        shard: its fields.
    """
    from distributed import get_worker

    address = get_worker().address
    if code() != expected:
        return (
            f"worker {address} has resnet-proto {code()}, this machine {expected}; install the same"
        )
    prepared = getattr(held, "sent", None) == sent
    if not prepared:
        held.sent, held.task = None, pickle.loads(sent)
    result = attempt(held.task, Shard(*shard), prepared=prepared)
    if isinstance(result, str):
        held.sent = held.task = None
        return f"worker {address}: {result}"
    held.sent = sent
    return result
