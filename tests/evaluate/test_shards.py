"""One worker or four, here or in processes, killed or not: the same bits, nothing left behind."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from small_tasks import Sums, Threads, notes, same
from threadpoolctl import threadpool_info

from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate import shards as module
from resnet_proto.evaluate.shards import merge, run_shards, split
from resnet_proto.evaluate.task import Shard
from resnet_proto.evaluate.workers import THREADS

SHARDS = split(95, 10)
RUN = """
import sys
from pathlib import Path
from small_tasks import Sums
from resnet_proto.evaluate.shards import run_shards, split

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    task = Sums(folder, pause=0.1, at=int(sys.argv[3]), how="hang")
    run_shards(task, split(95, 10), jobs=int(sys.argv[2]), folder=folder / "kept")
"""


@pytest.fixture(autouse=True)
def limit():
    """A test that hangs fails, and leaves no process."""
    before = {child.pid for child in multiprocessing.active_children()}

    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    assert {child.pid for child in multiprocessing.active_children()} <= before


@pytest.fixture
def alone(tmp_path):
    """What an unbroken run in this process says."""
    (tmp_path / "alone").mkdir()
    return run_shards(Sums(tmp_path / "alone"), SHARDS)


def wait_for(condition, seconds=120):
    """Until it is so."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def items(kept):
    """How many items a folder has results of."""
    return sum(5 if path.stem == "shard-000009" else 10 for path in kept.glob("*.npz"))


def gone(pid):
    """Whether a process has ended."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_split():
    assert split(95, 40) == [Shard(0, 0, 40), Shard(1, 40, 80), Shard(2, 80, 95)]
    assert str(split(95, 40)[2]) == "shard 2 (items 80 to 94)"
    assert split(0, 40) == []


def test_merge_is_exact():
    """Ints as Python adds them; floats within what IEEE allows of math.fsum."""
    rng = np.random.default_rng(0)
    parts = [
        {"n": rng.integers(-(2**58), 2**58, (3, 2)), "b": rng.random(5) > 0.5,
         "x": rng.normal(size=7).astype("f4")}
        for _ in range(11)
    ]  # fmt: skip

    total = merge(parts)

    assert total["n"].tolist() == [
        [sum(int(part["n"][i, j]) for part in parts) for j in range(2)] for i in range(3)
    ]
    assert total["b"].tolist() == [sum(bool(part["b"][i]) for part in parts) for i in range(5)]
    assert (total["n"].dtype, total["x"].dtype) == (np.int64, np.float64)
    exact = [math.fsum(float(part["x"][i]) for part in parts) for i in range(7)]
    assert np.allclose(total["x"], exact, rtol=0, atol=1e-14)
    assert merge(parts[:1])["n"] is not parts[0]["n"]
    with pytest.raises(OverflowError, match="'n' does not fit"):
        merge([{"n": np.array([2**62, 1])}, {"n": np.array([2**62, 1])}])
    with pytest.raises(TypeError):
        merge([{"n": np.array([1], "u8")}])


@pytest.mark.parametrize("jobs", [2, 4])
def test_any_number_of_workers_gives_the_same_bits(tmp_path, alone, jobs):
    said = []

    results = run_shards(
        Sums(tmp_path, pause=0.02), SHARDS, jobs=jobs, progress=lambda *x: said.append(x)
    )

    assert same(results, alone)
    assert said[0] == (0, 0, 95)
    assert said[-1] == (95, 0, 95)
    prepared = notes(tmp_path, "prepare")
    assert len(prepared) == len(set(prepared)) <= jobs
    assert str(os.getpid()) not in {pid for _, pid in notes(tmp_path)}


def test_this_process_has_its_threads_again(tmp_path):
    """When the work is done, and when it has failed."""
    before = [library["num_threads"] for library in threadpool_info()]
    run_shards(Sums(tmp_path), SHARDS)
    with pytest.raises(ResNetProtoError):
        run_shards(Sums(tmp_path, at=1, how="refuse"), SHARDS)
    assert [library["num_threads"] for library in threadpool_info()] == before


@pytest.mark.parametrize(
    ("engine", "package"),
    [("numpy", "numpy"), ("onnxruntime", "onnxruntime"), ("opencv", "cv2")],
)
def test_a_worker_computes_with_one_thread(engine, package, monkeypatch):
    """Beside it there is one that watches the parent; and none by which onnxruntime sends data.

    Also where the environment says that programs have more, as on many clusters.
    """
    pytest.importorskip(package)
    for name in THREADS:
        monkeypatch.setenv(name, "3")

    results = run_shards(Threads(engine), split(2, 1), jobs=2)

    assert [int(result["threads"]) for result in results] == [2, 2]


def test_a_worker_that_is_killed_is_replaced(tmp_path, alone):
    warned = []

    results = run_shards(
        Sums(tmp_path, at=4, how="kill", once=True), SHARDS, jobs=2, warn=warned.append
    )

    assert same(results, alone)
    assert [what for what, _ in notes(tmp_path)].count("4") == 2
    (text,) = warned
    assert text.startswith("shard 4 (items 40 to 49): its worker ended (SIGKILL, as when memory")


def test_a_shard_that_ends_its_workers_is_named_and_the_rest_kept(tmp_path, alone):
    kept = tmp_path / "kept"

    with pytest.raises(ResNetProtoError) as caught:
        run_shards(Sums(tmp_path, at=4, how="kill"), SHARDS, jobs=2, folder=kept)

    assert "shard 4 (items 40 to 49): its worker ended (SIGKILL" in str(caught.value)
    assert ", 3 times; " in str(caught.value)
    assert "of 10 shards are kept in" in str(caught.value)
    assert [what for what, _ in notes(tmp_path)].count("4") == 3
    done, said = items(kept), []
    (tmp_path / "notes").unlink()
    results = run_shards(Sums(tmp_path), SHARDS, folder=kept, progress=lambda *x: said.append(x))
    assert same(results, alone)
    assert said[0] == (done, done, 95)
    assert len(notes(tmp_path)) == 1 + (95 - done + 9) // 10


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("how", "message"),
    [("refuse", "7.png: no image; "), ("missing", "/data/val.txt: cannot be read"),
     ("bug", r"shard 4 \(items 40 to 49\): LookupError: no such key \(.*small_tasks.py, line")],
)  # fmt: skip
def test_what_a_task_says_is_said(tmp_path, jobs, how, message):
    task = Sums(tmp_path, at=4, how=how)
    if (jobs, how) == (1, "bug"):
        with pytest.raises(LookupError, match="no such key"):
            run_shards(task, SHARDS, folder=tmp_path / "kept")
        return
    with pytest.raises(ResNetProtoError, match=message):
        run_shards(task, SHARDS, jobs=jobs, folder=tmp_path / "kept")


class Objects(Sums):
    def run(self, shard):
        return {"x": np.array([{}])}


def test_results_are_numbers(tmp_path):
    with pytest.raises(TypeError, match="'x' is of object, expected ints or floats"):
        run_shards(Objects(tmp_path), SHARDS)


def started(folder, jobs, hang=-1):
    """A run in a process group of its own, past its third shard."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    script = folder / "run.py"
    script.write_text(RUN)
    run = subprocess.Popen(
        [sys.executable, script, folder, str(jobs), str(hang)], env=env, start_new_session=True,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: len(list((folder / "kept").glob("shard-*.npz"))) >= 3)
    return run


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_a_kill_it_goes_on_and_no_worker_stays(tmp_path, alone, jobs):
    """The parent is killed while one of its workers is at a shard that takes ten minutes."""
    run = started(tmp_path, jobs, hang=5)
    wait_for(lambda: notes(tmp_path, "5"))
    run.kill()
    run.communicate()
    workers = {pid for _, pid in notes(tmp_path)}
    wait_for(lambda: all(gone(pid) for pid in workers))
    done, said = items(tmp_path / "kept"), []

    results = run_shards(
        Sums(tmp_path), SHARDS, jobs=3 - jobs, folder=tmp_path / "kept",
        progress=lambda *x: said.append(x),
    )  # fmt: skip

    assert same(results, alone)
    assert said[0] == (done, done, 95)
    assert 30 <= done < 95
    assert sorted(path.suffix for path in (tmp_path / "kept").iterdir()) == [
        "", *[".npz"] * 10, ".txt"
    ]  # fmt: skip


def test_ctrl_c_ends_all_at_once(tmp_path, alone):
    run = started(tmp_path, 2, hang=5)
    wait_for(lambda: notes(tmp_path, "5"))

    os.killpg(run.pid, signal.SIGINT)

    said = run.communicate(timeout=300)[1]
    assert run.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in said  # of the script, which does not catch it
    assert "Process" not in said  # with which a worker's would begin
    assert all(gone(pid) for _, pid in notes(tmp_path))
    assert same(run_shards(Sums(tmp_path), SHARDS, folder=tmp_path / "kept"), alone)


def test_a_script_without_its_guard_is_told(tmp_path):
    (tmp_path / "run.py").write_text(RUN.replace('if __name__ == "__main__"', "if True"))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}

    run = subprocess.run(
        [sys.executable, "run.py", tmp_path, "2", "-1"], cwd=tmp_path, env=env, text=True,
        capture_output=True, check=False, timeout=300,
    )  # fmt: skip

    assert run.returncode == 1
    assert "a script that starts it needs `if __name__ == '__main__':`), 3 times" in run.stderr


def test_two_runs_do_not_share_a_folder(tmp_path):
    def second(*_):
        with pytest.raises(ResNetProtoError, match="kept: another process is writing there"):
            run_shards(Sums(tmp_path), SHARDS, folder=tmp_path / "kept")

    run_shards(Sums(tmp_path), SHARDS, folder=tmp_path / "kept", progress=second)


def test_results_of_another_task_are_refused(tmp_path, alone):
    """What differs is named; the same task with other workers goes on."""
    kept = tmp_path / "kept"
    task = Sums(tmp_path, digest="weights: 11\ncrops: 1")
    first = run_shards(task, SHARDS, folder=kept)
    for other, message in (
        (Sums(tmp_path, digest="weights: 11\ncrops: 10"), "now 'crops: 10', then 'crops: 1'; give"),
        (Sums(tmp_path, digest="weights: 11"), "of another task: then 'crops: 1'; give another"),
    ):
        with pytest.raises(ResNetProtoError, match=message):
            run_shards(other, SHARDS, folder=kept)
    message = r": now 'shards: 11, of 95 items \(sha256 \w+\)', then 'shards: 10, of 95 items \("
    with pytest.raises(ResNetProtoError, match=message):
        run_shards(task, split(95, 9), folder=kept)
    with pytest.raises(ResNetProtoError, match="another task: its lines have another order; give"):
        run_shards(Sums(tmp_path, digest="crops: 1\nweights: 11"), SHARDS, folder=kept)
    (tmp_path / "notes").unlink()
    assert same(run_shards(task, SHARDS, folder=kept, jobs=2), first)
    assert not (tmp_path / "notes").exists()


@pytest.mark.parametrize(
    "name", ["empty", "escape", "large", "fifo", "folder", "is a file", "others", "not writable"],
)  # fmt: skip
def test_what_is_no_folder_of_results_is_left_alone(tmp_path, name):
    kept = tmp_path / "kept"
    if name == "is a file":
        kept.write_text("x")
    elif name == "not writable":
        kept = Path("/proc/kept")
    else:
        kept.mkdir()
        if name == "others":
            (kept / "thesis.tex").write_text("x")
        elif name in ("fifo", "folder"):
            {"fifo": os.mkfifo, "folder": os.mkdir}[name](kept / module.STATE)
        else:
            text = {"empty": b"", "escape": b"\x1b[2J\xff", "large": b"x" * (1 << 21)}[name]
            (kept / module.STATE).write_bytes(text)
    message = r"/kept: (its results|holds other|cannot be used)"
    with pytest.raises(ResNetProtoError, match=message) as caught:
        run_shards(Sums(tmp_path), SHARDS, folder=kept)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "notes").exists()


def other_result(path):
    """A whole file, of another shard."""
    path.write_bytes((path.parent / "shard-000002.npz").read_bytes())


def changed(path):
    """A result that somebody has mended, with its old seal."""
    with np.load(path) as arrays:
        known = dict(arrays)
    known["positive"] = known["positive"] + 1
    np.savez(path, **known)


def pickled(path):
    np.savez(path, x=np.array([os.getcwd], object))


def bomb(path):
    """A gigabyte of zeros in a megabyte."""
    import zipfile

    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("seal.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 30,)}
        )
        for _ in range(1 << 4):
            file.write(bytes(1 << 20))


def huge(path):
    """A header that says more than there is."""
    with path.open("wb") as raw:
        import zipfile

        with zipfile.ZipFile(raw, "w") as archive, archive.open("seal.npy", "w") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)}
            )


def replace_by(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


@pytest.mark.parametrize(
    "damage",
    [other_result, changed, pickled, bomb, huge, lambda path: path.write_bytes(b""),
     lambda path: path.write_bytes(path.read_bytes()[:-30]),
     replace_by(Path.mkdir), replace_by(os.mkfifo)],
    ids=["other", "changed", "pickled", "bomb", "huge", "empty", "cut", "folder", "fifo"],
)  # fmt: skip
def test_a_damaged_result_is_made_again(tmp_path, alone, damage):
    kept, warned = tmp_path / "kept", []
    run_shards(Sums(tmp_path), SHARDS, folder=kept)
    path = kept / "shard-000004.npz"
    before = path.read_bytes()
    (tmp_path / "notes").unlink()
    damage(path)
    if path.is_dir() or path.is_fifo():
        with pytest.raises(ResNetProtoError, match=r"shard-000004\.npz: not a file; move it away"):
            run_shards(Sums(tmp_path), SHARDS, folder=kept)
        return

    results = run_shards(Sums(tmp_path), SHARDS, folder=kept, warn=warned.append)

    assert same(results, alone)
    assert [what for what, _ in notes(tmp_path)] == ["prepare", "4"]
    (text,) = warned
    assert text.startswith(f"{path}: damaged (")
    assert text.endswith("); shard 4 (items 40 to 49) is run again")
    assert dict(np.load(path)).keys() == {"seal", "stamp", "positive", "sum", "product"}
    assert len(path.read_bytes()) == len(before)


def test_a_disk_that_is_full(tmp_path, alone, monkeypatch):
    """What is said to be kept is there, and gone on with."""
    kept, write = tmp_path / "kept", module.Kept.write

    def full(self, shard, result):
        if shard.index == 3:
            raise ResNetProtoError("no space left")
        write(self, shard, result)

    monkeypatch.setattr(module.Kept, "write", full)
    with pytest.raises(ResNetProtoError, match=r"^no space left; 3 of 10 shards are kept in "):
        run_shards(Sums(tmp_path), SHARDS, folder=kept)
    monkeypatch.undo()
    assert len(list(kept.glob("*.npz"))) == 3
    assert same(run_shards(Sums(tmp_path), SHARDS, folder=kept), alone)


def test_a_shard_whose_items_have_changed_is_run_again(tmp_path, alone):
    """And no other; a result that comes while they change is of what was there before."""
    about = dict.fromkeys(range(len(SHARDS)), "old")

    def run(warned):
        return run_shards(
            Sums(tmp_path), SHARDS, folder=tmp_path / "kept", warn=warned.append,
            stamp=lambda shard: about[shard.index],
            progress=lambda *_: about.update({7: "changed under the run"}),
        )  # fmt: skip

    assert same(run([]), alone)
    (tmp_path / "notes").unlink()
    about[2], warned = "new", []
    assert same(run(warned), alone)

    assert [what for what, _ in notes(tmp_path)] == ["prepare", "2", "7"]
    (text,) = warned
    assert text.startswith(f"{tmp_path / 'kept'}: 2 of {len(SHARDS)} shards are run again: what ")
    (tmp_path / "notes").unlink()
    assert same(run(warned), alone)
    assert not (tmp_path / "notes").exists()
    assert len(warned) == 1


def test_no_flipped_bit_is_trusted(tmp_path, alone):
    """Any byte of a file changed: the result is made again, or is the same."""
    kept = tmp_path / "kept"
    small = SHARDS[:1]
    run_shards(Sums(tmp_path), small, folder=kept)
    path = kept / "shard-000000.npz"
    whole = path.read_bytes()
    task = Sums(tmp_path)
    with module.kept(kept, task, small) as files:
        found = 0
        for at in range(0, len(whole), 13):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
            got = files.read_all(small, lambda text: None)
            assert not got or same([got[0]], alone[:1])
            found += not got
    assert found > len(whole) / 13 * 0.7


def test_the_state_is_for_people_too(tmp_path):
    """And what a killed run has left of a file is no hindrance, before its state is written too."""
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in (".resnet-proto-0123456789abcdef.part", "lock"):
        (kept / name).write_text("")

    run_shards(Sums(tmp_path, digest="a: 1\nb: 2"), split(5, 3), folder=kept)

    state = (kept / "made-of.txt").read_text().splitlines()
    assert [line.partition(" (")[0] for line in state] == [
        "a: 1", "b: 2", "shards: 2, of 5 items", f"resnet-proto: {version('resnet-proto')}"
    ]  # fmt: skip
    assert sorted(path.name for path in kept.iterdir()) == [
        "lock", "made-of.txt", "shard-000000.npz", "shard-000001.npz"
    ]  # fmt: skip
