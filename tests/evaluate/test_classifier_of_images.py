"""Images -> scores: which views are averaged, in which batches, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnet_proto
from resnet_proto import Classifier, forward, load, random_weights, read_prototxt
from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate import classifier
from resnet_proto.evaluate.views import Views
from resnet_proto.layers import Dropout, Eltwise, InnerProduct, Pooling, ReLU, Softmax, make_layer
from resnet_proto.layers.convolution import Convolution
from resnet_proto.net import Net
from resnet_proto.preprocess import ImageOptions

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
GREY = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY")
RNG = np.random.default_rng(1)
SMALL = ImageOptions(mean=(100.0, 110.0, 120.0), scale=(0.02,), crop=(12, 10))


def small(*end, shape=(2, 3, 7, 5)):
    """A convolution and six classes; its weights decide between classes."""
    data = make_layer("in", "Input", (), ("data",), {"input_param": {"shape": ({"dim": shape},)}})
    layers = (
        Convolution.of("conv", "data", "conv", num_output=4, kernel_size=3),
        ReLU.of("relu", "conv", "conv"),
        InnerProduct.of("fc", "conv", "fc", num_output=6),
    )
    return Net("small", (data, *layers, *(end or (Softmax.of("prob", "fc", "prob"),))))


def without_inner_products():
    layers = (
        small().layers[0],
        Convolution.of("c", "data", "c", num_output=6, kernel_size=3),
        Pooling.of("pool", "c", "pool", pool="AVE", global_pooling=True),
        Softmax.of("prob", "pool", "prob"),
    )
    return Net("t", layers)


@pytest.fixture(scope="module")
def digits():
    return read_prototxt(DIGITS / "deploy.prototxt"), load(DIGITS / "digits.caffemodel")


def images(n):
    return [RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8) for _ in range(n)]


def test_digits(digits):
    """All 64 labelled images, as the example's README says; a path names its prediction."""
    lines = [line.split() for line in (DIGITS / "labels.txt").read_text().splitlines()]
    paths = [str(DIGITS / name) for name, _ in lines]
    names = [f"digit {i}" for i in range(10)]

    with Classifier(*digits, image=GREY, labels=names) as net:
        found = net.predict(paths, top=3)

    assert [one.top[0].index for one in found] == [int(label) for _, label in lines]
    assert [one.image for one in found] == paths
    assert all(len(one.top) == 3 for one in found)
    assert all(guess.label == f"digit {guess.index}" for one in found for guess in one.top)
    assert all(one.top[0].score >= one.top[1].score for one in found)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_scores_are_the_mean_over_ten_crops(batch):
    """Of the softmax of each, float64; whatever the batches, which images share."""
    net = small()
    weights, some = random_weights(net, 3), images(5)
    views = Views((1, 3, 7, 5), SMALL, 10)

    found = list(Classifier(net, weights, image=SMALL, crops=10, batch=batch).scores(some))

    for image, scores in zip(some, found, strict=True):
        x = np.stack(list(views.of(image, "x")))
        probs = forward(net.with_input_shapes({"": x.shape}), weights, {"data": x},
                        dtype="float64", outputs=["prob"])["prob"]  # fmt: skip
        assert scores.dtype == np.float64
        assert scores.shape == (6,)
        np.testing.assert_allclose(scores, probs.mean(0), rtol=1e-5)
        assert np.ptp(probs, axis=0).max() > 1e-3  # the views differ


def test_scales_are_the_net_at_every_place():
    """What it gives at each place of each image that it could be cut from, by hand.

    Without padding and strides that is the net made fully convolutional: the mean of what the
    Softmax gets over the places, then the mean of probabilities over mirror images and scales.
    """
    net = small()
    weights, (one,) = random_weights(net, 3), images(1)

    (found,) = Classifier(net, weights, image=SMALL, scales=(8, 10)).scores([one])

    probs = []
    for rows, columns in ((10, 8), (12, 10)):
        image = Image.fromarray(one).resize((columns, rows), Image.Resampling.BILINEAR)
        x = np.asarray(image)[:, :, ::-1].transpose(2, 0, 1).astype(np.float64)
        x = (x - np.reshape(SMALL.mean, (3, 1, 1))) * SMALL.scale[0]
        for view in (x, x[:, :, ::-1]):
            places = np.lib.stride_tricks.sliding_window_view(view, (7, 5), axis=(1, 2))
            places = places.transpose(1, 2, 0, 3, 4).reshape(-1, 3, 7, 5)
            fc = forward(net.with_input_shapes({"": places.shape}), weights, {"data": places},
                         dtype="float64", outputs=["fc"])["fc"].mean(0)  # fmt: skip
            probs.append(np.exp(fc) / np.exp(fc).sum())
    assert np.ptp(probs, axis=0).max() > 1e-3
    np.testing.assert_allclose(found, np.mean(probs, 0), rtol=1e-5)


def test_a_net_without_inner_products_takes_any_size():
    """It is fully convolutional as it is."""
    net = without_inner_products()

    (found,) = Classifier(net, random_weights(net, 1), image=SMALL, scales=(9,)).scores(images(1))

    assert found.shape == (6,)
    assert found.sum() == pytest.approx(1)


class Counted:
    """A net in an engine that writes down the shapes it is given."""

    def __init__(self, running):
        self.running, self.shapes = running, []

    def run(self, inputs):
        self.shapes.append(inputs["data"].shape)
        return self.running.run(inputs)


def test_batches_are_full_and_memory_is_bounded(monkeypatch):
    """Views of several images share a batch; images are taken as they are needed."""
    net = small()
    taken = []
    one = Classifier(net, random_weights(net, 3), image=SMALL, crops=10, batch=8)
    counted = one._running = Counted(one._running)

    for place, _ in enumerate(one.scores(taken.append(i) or x for i, x in enumerate(images(6)))):
        assert len(taken) <= place + 2  # 8 views are less than one image's
    assert counted.shapes == [(8, 3, 7, 5)] * 7 + [(4, 3, 7, 5)]


@pytest.mark.parametrize(("limit", "value"), [("IMAGES", 3), ("WAITING", 7 * 5 * 3 * 4)])
def test_no_image_waits_for_long(monkeypatch, limit, value):
    """One of a size that no other has, before many: it does not wait for the end."""
    monkeypatch.setattr(classifier, limit, value)
    net = without_inner_products()
    weights = random_weights(net, 0)
    one = Classifier(net, weights, image=ImageOptions(), batch=2)
    one.views = Sized()  # as a net made fully convolutional is shown
    taken = []

    rows = [(row, len(taken)) for row in one.scores(taken.append(i) or i for i in range(9))]

    assert len(rows) == 9
    assert rows[0][1] <= 5
    for i, (scores, _) in enumerate(rows):
        x = Sized.view(i)[None]
        wanted = forward(net.with_input_shapes({"": x.shape}), weights, {"data": x})
        np.testing.assert_allclose(scores, wanted["prob"].reshape(-1), rtol=1e-5)


class Sized:
    """Views of two sizes: the first image's, and all others'."""

    shape = (1, 3, 7, 5)

    @staticmethod
    def view(i):
        size = (3, 9, 8) if i == 0 else (3, 7, 5)
        return np.full(size, i, np.float32) + np.arange(size[2], dtype=np.float32)

    def of(self, i, name, note):
        yield self.view(i)


def test_one_image_that_cannot_be_read(tmp_path):
    """Has its error in its place; the others have their scores."""
    net, some = small(), images(3)
    (tmp_path / "none.png").write_bytes(b"<html>")
    one = Classifier(net, random_weights(net, 3), image=SMALL)

    whole = list(one.scores(some))
    found = list(one.results([("a", some[0]), ("bad", tmp_path / "none.png"), ("c", some[2])]))

    np.testing.assert_allclose(found[0], whole[0], rtol=1e-6)
    assert str(found[1]).startswith("bad: not an image that Pillow knows")
    np.testing.assert_allclose(found[2], whole[2], rtol=1e-6)
    with pytest.raises(ResNetProtoError, match=r"none\.png: not an image"):
        list(one.scores([some[0], tmp_path / "none.png"]))


def test_one_image_in_the_place_of_many():
    """The rows of its array are no images; an array of four axes is a list of them."""
    net, (pixels,) = small(), images(1)
    one = Classifier(net, random_weights(net, 3), image=SMALL)

    assert len(one.predict(pixels[None])) == len(one.predict([pixels])) == 1
    for wrong in ("x.png", b"...", Path("x.png"), pixels, Image.fromarray(pixels)):
        for ask in (one.predict, lambda given: list(one.scores(given))):
            with pytest.raises(ResNetProtoError, match="images is one image; give a list of them"):
                ask(wrong)


def test_scores_that_are_no_numbers():
    net = small()
    weights = {**random_weights(net, 3)}
    weights["fc.weight"] = weights["fc.weight"] * np.float32("nan")

    (found,) = Classifier(net, weights, image=SMALL).results([("a", images(1)[0])])

    assert str(found).startswith("a: the net's scores are not finite")


def test_a_softmax_in_the_midst_of_what_changes_no_values():
    """Flatten and an in-place Dropout behind it do not hide it."""
    flat = make_layer("flat", "Flatten", ("prob",), ("flat",), {})
    net = small(
        Softmax.of("prob", "fc", "prob"), flat, Dropout.of("drop", "flat", "flat")
    )  # fmt: skip

    assert Classifier(net, random_weights(net, 1), image=SMALL).output == "flat"


TRAIN_VAL = (DIGITS / "train_val.prototxt").read_text()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (small(ReLU.of("relu2", "fc", "fc")), r"the net ends in 'relu2' \(ReLU\), and a class"),
        (small(Dropout.of("drop", "fc", "fc")), 'bottom: "fc" top: "prob"'),
        (small(Softmax.of("prob", "fc", "prob"), InnerProduct.of("b", "conv", "b", num_output=4)),
         "the net's outputs are prob, b; a classifier has one"),
        (read_prototxt(TRAIN_VAL), "`resnet-proto deploy` makes the deploy net of it"),
        (Net("map", (*small().layers[:3], Softmax.of("prob", "conv", "prob"))),
         r"the net's output 'prob' is 2x4x5x3; a classifier has \(N, classes\)"),
        (Net(), "the net's outputs are none"),
    ],
)  # fmt: skip
def test_nets_that_are_no_classifiers(net, message):
    with pytest.raises(ResNetProtoError, match=message):
        Classifier(net, {}, image=SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["cat"] * 5}, "5 labels for 6 classes of the net"),
        ({"labels": "cat.txt"}, r"labels is 'cat.txt'; read the file: read_labels\(path\) of"),
        ({"labels": Path("cat.txt")}, "labels is 'cat.txt'; read the file"),
        ({"image": "open-nsfw"}, r"expected ImageOptions; give preprocess.PRESETS\['open-nsfw'\]"),
        ({"image": {"crop": 12}}, "image is {'crop': 12}; expected ImageOptions$"),
        ({"batch": 0}, "batch is 0"),
        ({"image": GREY}, "images of 1 channel need one such input; the net's inputs: data"),
        ({"engine": "cafe"}, "unknown engine 'cafe'"),
        ({"crops": 2}, "crops is 2"),
        ({"image": ImageOptions(mean=Path("none.npy"))}, "none.npy: no such file"),
        ({"image": ImageOptions(mean=(1.0, 2.0))}, "mean has 2 values for BGR"),
        ({"image": ImageOptions(scale=(1.0, 2.0))}, "scale has 2 values for BGR"),
        ({"image": ImageOptions(mean=Path("two.npy"))}, "two.npy: the mean is 2x7x5, the net's"),
    ],
)
def test_options_that_do_not_fit(options, message, tmp_path, monkeypatch):
    """Said before the first image."""
    monkeypatch.chdir(tmp_path)
    np.save("two.npy", np.zeros((2, 7, 5)))
    np.save("three.npy", np.zeros((3, 7, 5)))
    net = small()
    weights = random_weights(net, 1)
    Classifier(net, weights, image=SMALL, labels=["cat"] * 6)  # the twins
    Classifier(net, weights, image=ImageOptions(mean=Path("three.npy"), scale=(1.0, 2.0, 3.0)))

    with pytest.raises(ResNetProtoError, match=message):
        Classifier(net, weights, **{"image": SMALL, **options})


@pytest.mark.parametrize("top", [0, -1, "5"])
def test_at_least_one_class(top):
    net = small()
    own = Classifier(net, random_weights(net, 1), image=SMALL)

    with pytest.raises(ResNetProtoError, match=f"top is {top!r}; it is how many classes"):
        own.predict(images(1), top=top)
    assert len(own.predict(images(1), top=np.int64(1))[0].top) == 1


def windowed(pool):
    """Without an InnerProduct, and a window or the whole map before the Softmax."""
    head = Pooling.of("pool", "c", "pool", pool="AVE", **pool)
    return Net(
        "t", (*without_inner_products().layers[:2], head, *without_inner_products().layers[3:])
    )


def test_a_net_that_takes_no_scales():
    """What it would give is seen before the first image; one crop is the twin."""
    whole, window = windowed({"global_pooling": True}), windowed({"kernel_h": 5, "kernel_w": 3})
    weights = random_weights(window, 1)
    Classifier(whole, weights, image=SMALL, scales=(8, 10))
    Classifier(window, weights, image=SMALL)

    with pytest.raises(ResNetProtoError, match=r"twice its size.* output 'prob' is 2x6x"):
        Classifier(window, weights, image=SMALL, scales=(8, 10))


def test_an_input_besides_images():
    other = make_layer("o", "Input", (), ("o",), {"input_param": {"shape": ({"dim": (2, 6)},)}})
    first, *rest = small().layers[:-1]
    end = Eltwise.of("sum", ("fc", "o"), "sum"), Softmax.of("prob", "sum", "prob")
    net = Net("two", (first, other, *rest, *end))

    with pytest.raises(ResNetProtoError, match="the net reads 'o' besides 'data'; a classifier"):
        Classifier(net, random_weights(net, 1), image=SMALL)


def test_weights_of_another_net(digits):
    with pytest.raises(ResNetProtoError, match="conv"):
        Classifier(small(), digits[1], image=SMALL)


def test_pillow_images_of_a_public_interface(digits):
    """What the README shows."""
    path = DIGITS / "images" / "07.png"

    (found,) = resnet_proto.Classifier(*digits, image=GREY).predict([Image.open(path)])

    assert found.image == "image 0"
    assert found.top[0].index == 0
