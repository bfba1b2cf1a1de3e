"""Nets on labelled images: the same rows from any number of workers, and what is left out."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest
from oracles.training import make_lmdb
from PIL import Image

from resnet_proto import Classifier, load, random_weights, read_prototxt, save
from resnet_proto.data.images import Options
from resnet_proto.data.sources import find_images
from resnet_proto.data.write import Plan, write
from resnet_proto.engine import run
from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.evaluation import COLUMNS, Judging, evaluate, lines_of, shard_size
from resnet_proto.evaluate.source import find_source, found_again
from resnet_proto.evaluate.task import Shard
from resnet_proto.preprocess import ImageOptions
from resnet_proto.prototxt import parse_net
from resnet_proto.schema import encode
from resnet_proto.weights import Weights

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
GREY = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY")
N = 130


def net_of(height=8, width=8):
    net = read_prototxt(DIGITS / "deploy.prototxt")
    return net.with_input_shapes({"data": (1, 1, height, width)})


def weights_of(seed=None):
    """Those of the example; with a seed, worse ones."""
    weights = load(DIGITS / "digits.caffemodel")
    if seed is None:
        return weights
    arrays = {key: np.array(weights[key]) for key in weights}
    noise = np.random.default_rng(seed).standard_normal(arrays["fc10.weight"].shape)
    return Weights.of({**arrays, "fc10.weight": arrays["fc10.weight"] + 1.5 * noise})


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Digits in the midst of 11x14 noise."""
    path = tmp_path_factory.mktemp("evaluation") / "lmdb"
    rng = np.random.default_rng(3)
    found = find_images("digits")
    images = rng.integers(0, 90, (N, 1, 11, 14)).astype(np.uint8)
    for i in range(N):
        images[i, 0, 2:10, 3:11] |= found.read(i)
    make_lmdb(path, images, found.labels[:N])
    return path, images


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each digit, with PNG files."""
    root = tmp_path_factory.mktemp("folders")
    found = find_images("digits")
    for i in range(60):
        folder = root / str(found.labels[i])
        folder.mkdir(exist_ok=True)
        Image.fromarray(found.read(i)).save(folder / f"{i:03}.png")
    return root


def same(a, b):
    """Whether two evaluations have the same bits."""
    return all(np.array_equal(getattr(a.rows, name), getattr(b.rows, name)) for name in COLUMNS)


def scores_by_hand(net, weights, images, top, left):
    """The net's own output of crops that begin at (top, left)."""
    _, _, height, width = net.inputs()["data"]
    x = (images[:, :, top : top + height, left : left + width].astype(float) - 78) * 0.0125
    return run("float64", net.with_input_shapes({"data": x.shape}), weights, {"data": x})["prob"]


def test_one_worker_or_four(database, tmp_path):
    """The same bits; and what was kept by four is not computed again by one."""
    path, _ = database
    classifier = Classifier(net_of(), weights_of(4), image=GREY)

    one = evaluate(classifier, path)
    four = evaluate(classifier, path, jobs=4, folder=tmp_path / "kept")
    told = []
    again = evaluate(
        classifier, path, folder=tmp_path / "kept", progress=lambda *at: told.append(at)
    )

    assert 0 < one.wrong(5) < one.wrong(1) < len(one) == N
    assert same(one, four)
    assert same(one, again)
    assert told == [(N, N, N)]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_evaluation import GREY, evaluate, net_of, weights_of, Classifier

def progress(done, before, total):
    if done > before + {more}:
        os.kill(os.getpid(), signal.SIGKILL)

evaluate(Classifier(net_of(), weights_of(4), image=GREY), {path!r}, folder=Path({kept!r}),
         progress=progress)
"""


def test_killed_half_way(database, tmp_path):
    """Twice; the third goes on, and its result is that of a run that nobody disturbed."""
    path, _ = database
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    for _ in range(2):
        code = KILLED.format(paths=paths, path=str(path), kept=str(tmp_path / "kept"), more=40)
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    classifier = Classifier(net_of(), weights_of(4), image=GREY)

    told = []
    resumed = evaluate(
        classifier, path, folder=tmp_path / "kept", progress=lambda *at: told.append(at)
    )

    assert told[0] == (100, 100, N)
    assert same(resumed, evaluate(classifier, path))


def test_a_folder_of_other_images_or_weights(database, tmp_path):
    path, images = database
    kept = tmp_path / "kept"
    evaluate(Classifier(net_of(), weights_of(4), image=GREY), path, folder=kept)

    for classifier, what in (
        (Classifier(net_of(), weights_of(5), image=GREY), "weights: "),
        (Classifier(net_of(), weights_of(4), image=GREY, batch=7), "batch 7"),
        (Classifier(net_of(11, 9), weights_of(4), image=GREY), "net: "),
    ):
        with pytest.raises(ResNetProtoError, match=f"results are of another task: now '.*{what}"):
            evaluate(classifier, path, folder=kept)
    make_lmdb(tmp_path / "lmdb", images, [*find_images("digits").labels[: N - 1], 0])
    with pytest.raises(ResNetProtoError, match="another task: now 'images: "):
        evaluate(Classifier(net_of(), weights_of(4), image=GREY), tmp_path / "lmdb", folder=kept)


def replace_file(path, image, *, time):
    """Another image under the same name, as old as the one before, or of its size."""
    before = path.stat()
    Image.fromarray(image).save(path)
    if time:
        with path.open("ab") as file:
            file.write(bytes(before.st_size - path.stat().st_size))
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size == before.st_size) == time
    assert (after.st_mtime_ns == before.st_mtime_ns) != time


@pytest.mark.parametrize("time", [True, False])
def test_an_image_that_was_replaced(folders, tmp_path, time):
    """Its shard is judged again, and no other."""
    place, kept = shutil.copytree(folders, tmp_path / "digits"), tmp_path / "kept"
    classifier = Classifier(net_of(), weights_of(4), image=GREY, batch=4)
    old = evaluate(classifier, place, folder=kept)
    assert old.made_of == evaluate(classifier, place).made_of

    told, warned = [], []
    image = np.zeros((8, 8), np.uint8) if time else np.random.default_rng(1).integers(
        0, 256, (9, 9), np.uint8
    )  # fmt: skip
    replace_file(sorted(place.rglob("*.png"))[30], image, time=time)
    new = evaluate(
        classifier, place, folder=kept, progress=lambda *at: told.append(at), warn=warned.append
    )

    assert told[0] == (56, 56, 60)
    assert ["1 of 15 shards are run again: " in text for text in warned] == [True]
    assert same(new, evaluate(classifier, place))
    assert not same(new, old)
    assert new.made_of[:-1] == old.made_of[:-1]  # of names and labels
    assert new.made_of[-1].partition(": ")[0] == "contents"
    assert new.made_of[-1] != old.made_of[-1]


def test_a_database_that_was_made_anew(database, tmp_path):
    """Of the same size, with one other image, that no sample has: all is judged again."""
    _, images = database
    classifier, kept, warned = Classifier(net_of(), weights_of(4), image=GREY), tmp_path / "k", []
    other = images.copy()
    other[1] = 255 - other[1]
    for stored in (images, other):
        shutil.rmtree(tmp_path / "lmdb", ignore_errors=True)
        make_lmdb(tmp_path / "lmdb", stored, find_images("digits").labels[:N])
        found = evaluate(classifier, tmp_path / "lmdb", folder=kept, warn=warned.append)

    assert same(found, evaluate(classifier, tmp_path / "lmdb"))
    assert not same(found, evaluate(classifier, database[0]))
    assert ["13 of 13 shards are run again" in text for text in warned] == [True]


def test_a_copy_of_images_elsewhere(folders, tmp_path):
    """A worker takes a copy with other times; not one of other content under the same names."""
    place = shutil.copytree(folders, tmp_path / "digits", copy_function=shutil.copy)
    sent = find_source(str(place)).again
    for path in place.rglob("*.png"):
        os.utime(path, (1, 1))

    assert len(found_again(*sent)) == 60
    for path in place.rglob("*.png"):
        Image.open(path).rotate(180).save(path)
    with pytest.raises(ResNetProtoError, match="other images than those that the run began with"):
        found_again(*sent)


def test_an_ensemble_is_the_mean_of_scores(database):
    """Of two nets of other sizes and weights, each with its own crop of what is stored."""
    path, images = database
    first, second = net_of(), net_of(11, 9)
    expected = (
        scores_by_hand(first, weights_of(4), images, 1, 3)
        + scores_by_hand(second, weights_of(6), images, 0, 2)
    ) / 2

    both = evaluate(
        [
            Classifier(first, weights_of(4), image=GREY),
            Classifier(second, weights_of(6), image=GREY, batch=3),
        ],
        path,
    )
    alone = evaluate(Classifier(first, weights_of(4), image=GREY), path)

    np.testing.assert_array_equal(both.rows.predicted, expected.argmax(axis=1))
    np.testing.assert_allclose(both.rows.confidence, expected.max(axis=1), rtol=1e-4)
    assert both.wrong() != alone.wrong()
    assert both.nets == ("Digits-ResNet-20",) * 2


def test_ten_crops_of_what_is_stored(database, tmp_path):
    """Floats, too, which no crop resizes."""
    path, images = database
    file = lmdb.open(str(tmp_path / "floats"), map_size=1 << 22)
    with file, file.begin(write=True) as records:
        for i, image in enumerate(images):
            shape = dict(zip(("channels", "height", "width"), image.shape, strict=True))
            values = {**shape, "float_data": image.ravel().astype(float).tolist(), "label": 0}
            records.put(b"%08d" % i, encode("Datum", values))
    net = net_of()
    weights = weights_of(4)
    corners = [(0, 0), (0, 6), (3, 0), (3, 6), (1, 3)]
    mirrored = images[:, :, :, ::-1]  # whose crops are the mirror images, from the other side
    parts = [scores_by_hand(net, weights, images, *at) for at in corners]
    parts += [scores_by_hand(net, weights, mirrored, top, 6 - left) for top, left in corners]
    expected = np.mean(parts, axis=0)
    options = ImageOptions(mean=(78.0,), scale=(0.0125,), channels="GRAY", crop=(11, 14))

    classifier = Classifier(net, weights, image=options, crops=10)
    larger = replace(options, crop=(12, 14))

    for source in (path, tmp_path / "floats"):
        rows = evaluate(classifier, source).rows
        np.testing.assert_array_equal(rows.predicted, expected.argmax(axis=1))
        np.testing.assert_allclose(rows.confidence, expected.max(axis=1), rtol=1e-4)
    with pytest.raises(ResNetProtoError, match="floats: 00000000: floats are not resized"):
        evaluate(Classifier(net, weights, image=larger, crops=10), tmp_path / "floats")


def test_scales_of_what_is_stored(database):
    """The whole image, resized; the net is made fully convolutional in each worker anew."""
    path, images = database
    classifier = Classifier(net_of(), weights_of(4), image=GREY, scales=(9, 12))
    scores = np.array(list(classifier.scores(image[0] for image in images)))

    found = evaluate(classifier, path, jobs=2)

    np.testing.assert_array_equal(found.rows.predicted, scores.argmax(axis=1))
    np.testing.assert_allclose(found.rows.confidence, scores.max(axis=1), rtol=1e-5)
    assert not same(found, evaluate(Classifier(net_of(), weights_of(4), image=GREY), path))


def test_every_source_gives_the_same_rows(folders, tmp_path):
    """Class folders, a list of their files, and an LMDB of encoded ones."""
    classifier = Classifier(net_of(), weights_of(4), image=GREY)
    found = find_images(str(folders))
    names = [found.name(i).decode() for i in range(len(found))]
    lines = [f"{name} {label}\n" for name, label in zip(names, found.labels, strict=True)]
    (tmp_path / "list.txt").write_text("".join(lines))
    whole = evaluate(classifier, "digits")
    own = [int(Path(name).stem) for name in names]

    by_folder = evaluate(classifier, folders, jobs=2)
    by_list = evaluate(classifier, tmp_path / "list.txt", root=folders)

    assert same(by_folder, by_list)
    np.testing.assert_array_equal(by_folder.rows.rank, whole.rows.rank[own])
    assert by_folder.names == tuple("0123456789")
    assert by_list.names == ()


@pytest.mark.parametrize("forced", [False, True])
def test_encoded_images_have_the_channels_of_the_net(folders, tmp_path, forced):
    """A net of one channel on an LMDB of PNG in colours, grey all the same."""
    grey, colours = tmp_path / "grey_lmdb", tmp_path / "colours_lmdb"
    for out, options in ((grey, Options(grey=True)), (colours, Options(encoded=True))):
        write(Plan(find_images(str(folders)), options, out, shuffle=False), jobs=1)
    classifier = Classifier(net_of(), weights_of(4), image=GREY)

    one = evaluate(classifier, grey)
    other = evaluate(classifier, find_source(str(colours), grey=True, forced=forced))

    assert same(one, other)


def test_images_that_cannot_be_read(folders, tmp_path):
    """They are counted and named, or end it; what was done until then is kept."""
    root = tmp_path / "classes"
    found = find_images(str(folders))
    for i in range(40):
        name = root / found.name(i).decode()
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(found.read(i))
    good = evaluate(Classifier(net_of(), weights_of(), image=GREY), root)
    bad = [root / found.name(i).decode() for i in (35, 38)]
    bad[0].write_bytes(bad[0].read_bytes()[:-30])
    bad[1].write_text("no image")
    classifier = Classifier(net_of(), weights_of(), image=GREY)

    some = evaluate(classifier, root, jobs=2)

    assert (len(good), good.left_out) == (40, 0)
    assert (len(some), some.left_out) == (38, 2)
    assert some.rows.place.tolist() == [i for i in range(40) if i not in (35, 38)]
    assert [Path(why.split(":")[0]).name for why in some.reasons] == [path.name for path in bad]
    with pytest.raises(ResNetProtoError, match=r"damaged.*leave it out.* 3 of 4 shards are kept"):
        evaluate(classifier, root, on_error="refuse", folder=tmp_path / "kept")
    for path in root.glob("*/*.png"):
        path.write_text("no image")
    with pytest.raises(ResNetProtoError, match=r"none of 40 images can be used: .*not an image"):
        evaluate(classifier, root)


def test_records_that_are_no_images(database, tmp_path, monkeypatch):
    """Garbage, a shape without its values, a damaged PNG: named, and the others are judged.

    A worker in another folder calls them the same.
    """
    monkeypatch.chdir(tmp_path)
    _, images = database
    make_lmdb(tmp_path / "lmdb", images[:9], range(9))
    bad = [
        b"garbage",
        encode("Datum", {"channels": 1, "height": 11, "width": 14, "data": b"12", "label": 3}),
        encode("Datum", {"data": b"\x89PNG\r\n\x1a\n" * 9, "encoded": True, "label": 3}),
    ]
    with lmdb.open(str(tmp_path / "lmdb")) as file, file.begin(write=True) as records:
        for i, value in enumerate(bad):
            records.put(b"%08d" % (2 * i), value)

    classifier = Classifier(net_of(), weights_of(), image=GREY)
    sent = pickle.dumps(Judging([classifier], find_source("lmdb", grey=True), False))

    found = evaluate(classifier, "lmdb")
    monkeypatch.chdir("/")
    task = pickle.loads(sent)
    task.prepare()

    assert lines_of(task.run(Shard(0, 0, 9))["reasons"]) == list(found.reasons)
    assert (len(found), found.left_out) == (6, 3)
    for why, key, words in zip(found.reasons, (0, 2, 4), ("not a Datum", "2 values", "image"),
                               strict=True):  # fmt: skip
        assert why.startswith(f"lmdb: {key:08}: ")
        assert words in why


@pytest.mark.parametrize("label", [10, -1])
def test_a_label_that_is_no_class(database, tmp_path, label):
    """Of a list before the first image is read; of an LMDB when it comes."""
    _, images = database
    make_lmdb(tmp_path / "lmdb", images[:5], [0, 1, 9, label, 2])
    classifier = Classifier(net_of(), weights_of(), image=GREY)

    with pytest.raises(ResNetProtoError, match=f"00000003 has label {label}, .* are 0 to 9"):
        evaluate(classifier, tmp_path / "lmdb")
    if label >= 0:
        (tmp_path / "list.txt").write_text(f"a.png 9\nb.png {label}\n")
        with pytest.raises(ResNetProtoError, match=f"b.png has label {label}"):
            evaluate(classifier, tmp_path / "list.txt")


def test_images_that_do_not_fit_the_net(database, tmp_path):
    """What would end Caffe: a smaller image, other channels."""
    _, images = database
    make_lmdb(tmp_path / "small", images[:5, :, :7], [0] * 5)
    make_lmdb(tmp_path / "colours", np.repeat(images[:5], 3, axis=1), [0] * 5)
    classifier = Classifier(net_of(), weights_of(), image=GREY)

    with pytest.raises(ResNetProtoError, match="7x14, smaller than the net's input 8x8"):
        evaluate(classifier, tmp_path / "small")
    with pytest.raises(ResNetProtoError, match="3 channels, the net's input is 1x1x8x8"):
        evaluate(classifier, tmp_path / "colours")


def test_nets_of_other_classes(database):
    path, _ = database
    text = (DIGITS / "deploy.prototxt").read_text().replace("num_output: 10", "num_output: 7")
    seven = parse_net(text, source="seven")
    nets = [
        Classifier(net_of(), weights_of(), image=GREY),
        Classifier(seven, random_weights(seven, 0), image=GREY),
    ]

    with pytest.raises(ResNetProtoError, match="'Digits-ResNet-20' 10, 'Digits-ResNet-20' 7;"):
        evaluate(nets, path)
    with pytest.raises(ResNetProtoError, match="has label 7, the net's classes are 0 to 6"):
        evaluate(nets[1], path)


def test_fewer_folders_than_classes_are_told(folders, tmp_path):
    """Labels are places in their order, which would be others."""
    (tmp_path / "some").mkdir()
    for name in "0123456":
        (tmp_path / "some" / name).symlink_to(folders / name)
    told = []
    classifier = Classifier(net_of(), weights_of(), image=GREY)

    evaluate(classifier, folders, warn=told.append)
    assert told == []
    evaluate(classifier, tmp_path / "some", warn=told.append)
    assert "7 classes, the net has 10" in told[0]


def test_what_changes_under_a_run(database, tmp_path):
    """A worker that finds other images or weights than the run began with says so."""
    _, images = database
    make_lmdb(tmp_path / "lmdb", images[:9], range(9))
    file = tmp_path / "digits.caffemodel"
    file.write_bytes((DIGITS / "digits.caffemodel").read_bytes())
    source = find_source(str(tmp_path / "lmdb"), grey=True)
    sent = pickle.dumps(Judging([Classifier(net_of(), load(file), image=GREY)], source, False))
    assert len(sent) < 100_000  # no weights in it
    shard = Shard(0, 0, 9)

    task = pickle.loads(sent)
    task.prepare()
    assert len(task.run(shard)["rank"]) == 9

    save(file, weights_of(4), net_of())
    with pytest.raises(ResNetProtoError, match="other weights than those that the run began with"):
        pickle.loads(sent).prepare()
    for old in (tmp_path / "lmdb").iterdir():
        old.unlink()
    make_lmdb(tmp_path / "lmdb", images[:9, :, :, ::-1], range(9))
    with pytest.raises(ResNetProtoError, match="other images than those that the run began with"):
        pickle.loads(sent).prepare()


def test_shards_are_whole_batches_whatever_the_workers():
    assert shard_size(5, 10) == 10
    assert shard_size(450, 10) == 10
    assert shard_size(5000, 10) == 80
    assert shard_size(50_000, 10) == 260
    assert shard_size(1_281_167, 32) == 256


def test_the_test_part_of_cifar(tmp_path):
    """Unless the other is asked for; training begins with the other."""
    rng = np.random.default_rng(0)
    for name, n in {**{f"data_batch_{i}": 2 for i in range(1, 6)}, "test_batch": 3}.items():
        records = rng.integers(0, 10, (n, 3073)).astype(np.uint8)
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    (tmp_path / "batches.meta.txt").write_text("".join(f"class{i}\n" for i in range(10)))

    found = find_source(str(tmp_path))

    assert (len(found), found.classes[9]) == (3, "class9")
    assert len(find_source(str(tmp_path), part="train")) == 10
    assert [item.image.shape for item in found.items([0, 2])] == [(32, 32, 3)] * 2
    assert len(found_again(*found.again)) == 3
