"""What a program may hand to the functions by mistake: each is refused, by its name."""

from pathlib import Path

import numpy as np
import pytest

from resnet_proto import Classifier, load, read_prototxt
from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.bn_stats import average, feed_of, training_net
from resnet_proto.evaluate.evaluation import evaluate
from resnet_proto.evaluate.labels import read_labels
from resnet_proto.evaluate.released import known_release
from resnet_proto.evaluate.shards import Shard, merge, run_shards, split
from resnet_proto.evaluate.source import find_source
from resnet_proto.preprocess import ImageOptions

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
NET, WEIGHTS = read_prototxt(DIGITS / "deploy.prototxt"), load(DIGITS / "digits.caffemodel")
IMAGE = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY")
IMAGES = DIGITS / "labels.txt"
PIXELS = np.zeros((9, 11), np.uint8)
TRAINED = training_net(NET)
NO_NUMBER = [0, -1, 1.5, float("nan"), "3", True, [1], np.zeros(3)]
NO_PATH = [3, "", b"x", ["x"], PIXELS]


def classifier(**options):
    return Classifier(NET, WEIGHTS, **{"image": IMAGE, **options})


@pytest.fixture(scope="module")
def one():
    with classifier() as one:
        yield one


@pytest.fixture(scope="module")
def found(one):
    return evaluate(one, IMAGES)


@pytest.fixture(scope="module")
def feed():
    return feed_of(TRAINED, "digits", batch=20, image=IMAGE)


class Starts:
    digest = "starts: 1"

    def prepare(self):
        pass

    def run(self, shard):
        return {"x": np.array([shard.start])}


def refused(do, values, message):
    for value in values:
        with pytest.raises(ResNetProtoError, match=message):
            do(value)


def test_what_a_classifier_is_made_of():
    for name, values in {
        "batch": [*NO_NUMBER, None],
        "crops": [0, 2, -1, "10", True, [1], np.zeros(2)],
        "scales": [0, "16", 16, None, [0], [-8], ["a"], [8.5], [[8]], [float("nan")]],
        "engine": ["x", None, 3, ["numpy"]],
        "label": [3, "0123456789", [], ["a"], [1] * 10, [None] * 10, Path("x")],
        "net_file": NO_PATH,
        "weights_file": NO_PATH,
    }.items():
        refused(lambda value, name=name: classifier(**{name.replace("label", "labels"): value}),
                values, rf"\b{name}")  # fmt: skip
    refused(lambda value: Classifier(value, WEIGHTS), [None, 3, str(IMAGES), WEIGHTS], r"\bnet\b")
    no_weights = [None, 3, "x", {}, {"a": 1}]
    message = "weight is missing|a mapping of names to arrays"
    refused(lambda value: Classifier(NET, value, image=IMAGE), no_weights, message)
    twin = {"batch": np.int64(3), "scales": np.array([16, 20]), "labels": list("abcdefghij")}
    with classifier(crops=np.int64(1), **twin) as one:
        assert one.predict([PIXELS], top=np.int8(2))[0].top[0].label in twin["labels"]


def test_best(one):
    (scores,) = one.scores([PIXELS])
    refused(lambda top: one.best(scores, top), [*NO_NUMBER, None], "^top is .*at least 1")
    refused(lambda top: one.predict([PIXELS], top), [*NO_NUMBER, None], "^top is .*at least 1")
    wrong = [
        None, "x", [], scores[:3], scores[:, None], scores[None], scores + 1j, scores * np.nan,
        np.array(["a"] * 10), np.array(5.0), ResNetProtoError("no image"),
    ]  # fmt: skip
    refused(one.best, wrong, r"^scores is .*\(classes,\) numbers")
    assert [guess.index for guess in one.best(scores.tolist(), 99)] == [
        guess.index for guess in one.predict([PIXELS], top=10)[0].top
    ]


def test_images(one):
    wrong = [None, 3, "x.png", b"x", PIXELS]
    refused(lambda images: list(one.scores(images)), wrong, "^images is one image; give a list")
    refused(lambda images: list(one.results(images)), wrong, "^images is one image; give a list")
    refused(lambda images: list(one.results(images)), [[PIXELS], ["a.png"]], "^images .*give pairs")
    for dtype in (complex, "U1", bool, object):
        refused(one.predict, [[np.zeros((1, 8, 8), dtype)]], "image 0: the array is of .*floats$")
    refused(one.predict, [[np.zeros((3, 3))], [np.zeros((0, 5), np.uint8)], [None]], "^image 0: ")
    assert len(one.predict([np.zeros((1, 8, 8), np.int32)])) == len([*one.results([("a", PIXELS)])])


def test_evaluate(one, found, tmp_path):
    refused(lambda nets: evaluate(nets, IMAGES), [None, 3, "x", [None], [one, 3], []], "[Cc]lassif")
    refused(lambda images: evaluate(one, images), [None, *NO_PATH], "images|source")
    for name, values in {
        "jobs": [*NO_NUMBER, None], "on_error": ["x", None, 3, ""], "dask": [3, [1]],
        "folder": NO_PATH, "root": NO_PATH,
    }.items():  # fmt: skip
        refused(lambda value, name=name: evaluate(one, IMAGES, **{name: value}), values, rf"{name}")
    for method in (found.wrong, found.error, found.interval):
        refused(method, [*NO_NUMBER, None], "^k is .*how many of the best")
    refused(found.mistakes, [*NO_NUMBER[1:], None], "^count is")
    refused(found.name, [*NO_NUMBER[1:], None], "^label is")
    again = evaluate([one], find_source(str(IMAGES)), folder=str(tmp_path / "kept"))
    assert len(again) == found.wrong(99) + len(found) == 64


def test_files():
    refused(find_source, [None, *NO_PATH], "^source is")
    refused(read_labels, [None, 3, [], b"x", ""], "source|labels|file")
    refused(lambda n: read_labels("imagenet", n), [*NO_NUMBER], "^n_classes is|1,000 labels")
    refused(lambda net: known_release(net, WEIGHTS), [3, "x", WEIGHTS], "^net is")
    refused(lambda w: known_release(NET, w), [None, 3, "x", {}], "^weights is")
    assert known_release(None, WEIGHTS) is None


def test_bn_stats(feed):
    for function in (training_net, lambda net: feed_of(net, "digits"),
                     lambda net: average(net, WEIGHTS, feed)):  # fmt: skip
        refused(function, [None, "x", 3], "^net is")
    refused(lambda data: feed_of(TRAINED, data, image=IMAGE), NO_PATH, "data|source")
    refused(lambda batch: feed_of(TRAINED, "digits", batch), NO_NUMBER, "^batch is")
    refused(lambda image: feed_of(TRAINED, "digits", image=image), ["x", 3], "^image is")
    refused(lambda weights: average(TRAINED, weights, feed), [None, "x", 3], "^weights is")
    refused(lambda value: average(TRAINED, WEIGHTS, value), [None, "x", 3], "^feed is")
    for name, values in {
        "batches": NO_NUMBER, "seed": [*NO_NUMBER[1:], None], "jobs": [*NO_NUMBER, None],
        "dtype": ["x", "int8", "float16", None, 3],
    }.items():  # fmt: skip
        refused(
            lambda value, name=name: average(TRAINED, WEIGHTS, feed, **{"batches": 1, name: value}),
            values, f"^{name} is",
        )  # fmt: skip
    with pytest.raises(ResNetProtoError, match="give what training_net makes"):
        average(NET, WEIGHTS, feed)
    averages = average(TRAINED, WEIGHTS, feed, batches=1, dtype="float64")
    refused(averages.written, [None, "x", 3, {}], "^weights is")


def test_shards():
    refused(lambda items: split(items, 3), [*NO_NUMBER[1:], None], "^items is .*at least 0")
    refused(lambda size: split(9, size), [*NO_NUMBER, None], "^size is .*at least 1")
    refused(lambda jobs: run_shards(Starts(), split(9, 3), jobs=jobs), NO_NUMBER, "^jobs is")
    refused(lambda shards: run_shards(Starts(), shards), [None, 3, "x", [3]], "shards? is")
    refused(merge, [None, 3, [3]], "results? is")
    with pytest.raises(ResNetProtoError, match=r"^'x' is 3 in one result, 2 in another"):
        merge([{"x": np.zeros(2)}, {"x": np.zeros(3)}])
    assert run_shards(Starts(), (Shard(0, 4, 5),)) == [{"x": np.array([4])}]
