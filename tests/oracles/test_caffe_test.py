"""`eval` of a train_val net against the real ``caffe test``: the same counts, to the last image."""

import re
from pathlib import Path

import numpy as np
import pytest
from oracles.training import make_lmdb, run_caffe

from resnet_proto.data.sources import digits
from resnet_proto.evaluate.classifier import Classifier
from resnet_proto.evaluate.evaluation import evaluate
from resnet_proto.evaluate.source import find_source
from resnet_proto.evaluate.subject import as_caffe_tests, subject_of
from resnet_proto.formats import load, save
from resnet_proto.formats.binaryproto import write as write_mean
from resnet_proto.prototxt import read_prototxt
from resnet_proto.weights import Weights

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
N, BATCH = 175, 25


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Digits in the corner of 11x14 noise, once as bytes and once as floats, and worse weights.

    With those of the example, top-5 would be right for every image.
    """
    folder = tmp_path_factory.mktemp("caffe-test")
    rng = np.random.default_rng(5)
    found = digits()
    images = rng.integers(0, 60, (N, 1, 11, 14)).astype(np.uint8)
    for i in range(N):
        images[i, 0, 1:9, 3:11] |= found.read(i)
    labels = np.asarray(found.labels[:N])
    make_lmdb(folder / "test_lmdb", images, labels)
    make_lmdb(folder / "float_lmdb", images.astype(np.float32) / 3, labels)
    write_mean(folder / "mean.binaryproto", images.mean(axis=0).astype(np.float32))
    net = read_prototxt(DIGITS / "train_val.prototxt")
    with load(DIGITS / "digits.caffemodel") as weights:
        worse = {key: np.array(weights[key]) for key in weights}
    worse["fc10.weight"] += 2 * rng.standard_normal(worse["fc10.weight"].shape)
    save(folder / "worse.caffemodel", Weights.of(worse), net)
    flat = {**worse, "fc10.weight": 0 * worse["fc10.weight"], "fc10.bias": 0 * worse["fc10.bias"]}
    save(folder / "flat.caffemodel", Weights.of(flat), net)
    return folder


def text_of(source, mean, batch=BATCH):
    """The example's net, for another database and mean."""
    text = (DIGITS / "train_val.prototxt").read_text()
    text = text.replace('"../test_lmdb"', f'"{source}"').replace("mean_value: 78", mean)
    return text.replace("batch_size: 50", f"batch_size: {batch}")


def ours(place, text, weights="worse", **options):
    """What `eval` makes of a net, its database found beside it."""
    (place / "net.prototxt").write_text(text)
    at = subject_of(read_prototxt(place / "net.prototxt"), [place])
    weights = load(place / f"{weights}.caffemodel")
    source = find_source(at.source, grey=True, forced=at.forced)
    return evaluate(Classifier(at.net, weights, image=at.image, **options), source)


def theirs(binary, place, iterations, weights="worse"):
    """The averages that ``caffe test`` prints at its end."""
    status, log = run_caffe(
        binary, place, "test", "-model", "net.prototxt", "-weights", f"{weights}.caffemodel",
        "-iterations", str(iterations),
    )  # fmt: skip
    assert status == 0, log[-2000:]
    found = re.findall(r"\] (accuracy_top[15]) = ([\d.e-]+)", log)
    return {name: float(value) for name, value in found}


@pytest.mark.parametrize(
    ("source", "mean"),
    [
        ("test_lmdb", "mean_value: 78"),
        ("test_lmdb", 'mean_file: "mean.binaryproto"'),
        ("float_lmdb", "mean_value: 26"),
    ],
)
def test_counts(caffe_binary, place, source, mean):
    """Seven batches of 25; nine go over the first 50 images twice; four leave 75 out."""
    found = ours(place, text_of(source, mean))
    assert len(found) == N
    assert 0 < found.wrong(5) < found.wrong(1) < N

    for iterations in (7, 9, 4) if mean == "mean_value: 78" else (7,):
        caffe = theirs(caffe_binary, place, iterations)
        seen = np.arange(iterations * BATCH) % N
        for k in (1, 5):
            right = int((found.rows.rank[seen] < k).sum())
            assert caffe[f"accuracy_top{k}"] * len(seen) == pytest.approx(right, abs=0.01)


@pytest.mark.parametrize("engine", ["onnxruntime", "opencv", "torch", "caffe"])
def test_every_engine(place, request, engine):
    """The same counts as ours, and as the real Caffe's above."""
    options = {}
    if engine == "torch":
        request.getfixturevalue("torch")
    elif engine == "caffe":
        options = {"caffe_python": request.getfixturevalue("caffe_python")}
    text = text_of("test_lmdb", "mean_value: 78")

    own = ours(place, text).rows
    found = ours(place, text, engine=engine, **options).rows

    np.testing.assert_array_equal(found.rank, own.rank)
    np.testing.assert_array_equal(found.predicted, own.predicted)
    np.testing.assert_allclose(found.confidence, own.confidence, rtol=1e-4)


def test_all_scores_are_equal(caffe_binary, place):
    """Here a tie counts against the label, as in mainline Caffe since 2017, and nothing is right.

    This Caffe is older: it sorts (score, class), so that of equal scores the later class is first.
    ``Accuracy`` is held against the newer rule in ``test_random.py``.
    """
    found = ours(place, text_of("test_lmdb", "mean_value: 78"), "flat")
    caffe = theirs(caffe_binary, place, 7, "flat")

    assert (found.wrong(1), found.wrong(5)) == (N, N)
    for k in (1, 5):
        assert caffe[f"accuracy_top{k}"] * N == pytest.approx(
            (found.rows.label >= 10 - k).sum(), abs=0.01
        )


def test_which_iterations_go_over_the_images_once():
    assert as_caffe_tests(175, 25) == "`caffe test -iterations 7` goes over the same images"
    assert "batches of 50 go over some of them twice" in as_caffe_tests(175, 50)
