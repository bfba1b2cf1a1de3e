"""What does not fit into memory is refused before it is taken; what fits is not."""

import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import Classifier, load, read_prototxt
from resnet_proto.cli import main
from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate import bn_stats
from resnet_proto.evaluate.evaluation import evaluate
from resnet_proto.evaluate.shards import check_processes
from resnet_proto.memory import human
from resnet_proto.preprocess import ImageOptions

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
NET, WEIGHTS = DIGITS / "deploy.prototxt", DIGITS / "digits.caffemodel"
GREY = ["--channels", "GRAY", "--mean", 78, "--scale", 0.0125]
IMAGE = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY")


def run(*args):
    return CliRunner().invoke(main, [*map(str, args)])


def classifier(**options):
    return Classifier(read_prototxt(NET), load(WEIGHTS), image=IMAGE, **options)


def free(monkeypatch, size):
    monkeypatch.setattr("resnet_proto.memory.available", lambda: size)
    monkeypatch.setattr("resnet_proto.evaluate.shards.available", lambda: size)


MEASURED = """
import sys
import numpy as np
import resnet_proto as rp
from resnet_proto.evaluate import bn_stats
from resnet_proto.evaluate.classifier import Classifier
from resnet_proto.preprocess import ImageOptions

def size(what):
    return 1024 * int(open("/proc/self/status").read().split(what)[1].split()[0])

def grown(work):
    before = size("VmRSS:")
    work()
    return size("VmHWM:") - before  # ru_maxrss begins with the size of the parent

command, preset, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
net = rp.deploy_net(rp.PRESETS[preset].spec)
weights = rp.random_weights(net, seed=1)
if command == "bn-stats":
    net = bn_stats.training_net(net)
    feed = bn_stats.feed_of(net, sys.argv[4], batch, ImageOptions())
    said = []
    bn_stats.check_processes = lambda processes, work, *_: said.append(work)
    taken = grown(lambda: bn_stats.average(net, weights, feed, batches=1))
    print(*said, taken)
else:
    classifier = Classifier(net, weights, batch=batch, engine=sys.argv[4])
    needs, _ = classifier.needs(batch)
    images = [np.zeros((40, 50, 3), np.uint8)] * batch
    print(needs, grown(lambda: list(classifier.scores(images))))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="not this system")
@pytest.mark.parametrize(
    ("command", "preset", "batch", "how"),
    [("eval", "cifar-resnet-20", 300, "numpy"), ("eval", "resnet-10", 12, "numpy"),
     ("eval", "cifar-preact-resnet-164", 100, "numpy"), ("eval", "cifar-resnet-20", 60, "float64"),
     ("bn-stats", "cifar-resnet-20", 200, "digits")],
)  # fmt: skip
def test_no_more_is_asked_for_than_is_taken(command, preset, batch, how):
    """Of a process's largest size; what the numpy engine says is most of it."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, command, preset, str(batch), how],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    needs, taken = map(int, done.stdout.split())
    assert 0 < needs <= taken
    if how != "float64":
        assert needs > taken / 3


def test_classify(monkeypatch):
    images = [np.zeros((20, 30), np.uint8)] * 10
    with classifier() as one:
        needs, _ = one.needs(10)
        free(monkeypatch, needs - 1)
        message = f"the net's blobs take {human(needs)}, and .* of memory are free; give it fewer"
        with pytest.raises(ResNetProtoError, match=message):
            list(one.scores(images))
        free(monkeypatch, needs)
        assert len(list(one.scores(images))) == 10
        free(monkeypatch, 0)  # it has what it needs
        assert one.needs(10)[0] < 10000
        assert len(list(one.scores(images))) == 10
    refused = run("classify", NET, "--weights", WEIGHTS, *GREY, DIGITS / "images" / "00.png")
    assert refused.exit_code == 1
    assert "Error: the net's blobs take " in refused.stderr
    assert "(--scales, " in refused.stderr


@pytest.mark.parametrize("engine", ["numpy", "float64"])
def test_eval(monkeypatch, engine):
    """One process needs less than two, which have weights of their own each."""
    with classifier(engine=engine) as one:
        work, opened = one.needs(1797)
        assert (opened > 0) == (engine == "numpy")
        free(monkeypatch, work - 1)
        with pytest.raises(ResNetProtoError, match=r"are free; give a smaller batch$"):
            evaluate(one, "digits")
        free(monkeypatch, 2 * (work + opened) - 1)
        message = f"^2 processes of {human(work + opened)} each take .*; give --jobs 1, or a small"
        with pytest.raises(ResNetProtoError, match=message):
            evaluate(one, "digits", jobs=2)
        if engine == "numpy":
            free(monkeypatch, work)
            assert len(evaluate(one, "digits")) == 1797
    free(monkeypatch, 0)
    line = [NET, DIGITS / "labels.txt", "--weights", WEIGHTS, *GREY, "--scales", "8,32"]
    refused = run("eval", *line, "--jobs", 1)
    assert refused.exit_code == 1
    assert refused.stderr.endswith("and 0 bytes of memory are free; give smaller --scales\n")


def test_bn_stats(monkeypatch, tmp_path):
    out = tmp_path / "out.npz"
    line = ["bn-stats", NET, "--weights", WEIGHTS, "--data", "digits", *GREY, "--out", out]
    read = []
    monkeypatch.setattr(
        "resnet_proto.evaluate.bn_stats.Batches.run", lambda self, shard: read.append(shard)
    )
    free(monkeypatch, 1 << 20)
    refused = run(*line, "--batch", 1000, "--jobs", 1)
    assert refused.exit_code == 1
    assert re.search(
        r"blobs take .*, and 1.00 MiB of memory are free; give a smaller batch \(--batch\)\n$",
        refused.stderr,
    )
    assert not read
    assert not out.exists()
    monkeypatch.undo()

    said, check = [], bn_stats.check_processes
    monkeypatch.setattr(bn_stats, "check_processes", lambda *x: said.append(x) or check(*x))
    net = bn_stats.training_net(read_prototxt(NET))
    feed = bn_stats.feed_of(net, "digits", 30, IMAGE)
    bn_stats.average(net, load(WEIGHTS), feed, batches=1)
    ((_, work, _, _),) = said
    for size in (work, work - 1):
        free(monkeypatch, size)
        with nullcontext() if size == work else pytest.raises(ResNetProtoError, match="--batch"):
            bn_stats.average(net, load(WEIGHTS), feed, batches=1)


def test_how_many_processes_would_fit(monkeypatch):
    free(monkeypatch, 10_000)
    check_processes(5, 1500, 500, "less")
    check_processes(1, 10_000, 1 << 40, "less")
    for processes, work, opened, told in (
        (6, 1500, 500, "give --jobs 5, or less"), (2, 9000, 9000, "give --jobs 1, or less"),
        (2, 10_001, 0, "give less"), (1, 10_001, 0, "give less"),
    ):  # fmt: skip
        with pytest.raises(ResNetProtoError, match=f"{told}$"):
            check_processes(processes, work, opened, "less")
    free(monkeypatch, None)  # no system says it
    check_processes(99, 1 << 40, 0, "less")
