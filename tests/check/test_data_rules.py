"""Each rule about data finds its bad net or database, and passes over the good twin.

Where a rule says that Caffe ends, the real one does, and with the twin it does not.
"""

import sys

import numpy as np
import pytest
from oracles.training import ABORTED, make_lmdb, run_caffe

from resnet_proto.check import check_file, check_text
from resnet_proto.check.data import RULES
from resnet_proto.check.solvers import RULES as SOLVER_RULES
from resnet_proto.data.images import Options, datum
from resnet_proto.data.lmdb import Writer
from resnet_proto.formats.binaryproto import write

COUNT, ROWS, COLUMNS, CLASSES = 24, 9, 12, 4
NET = """
layer {{ name: "in" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
        data_param {{ source: "train" backend: LMDB batch_size: 5 }} transform_param {{ {0} }} }}
layer {{ name: "in" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
        data_param {{ source: "val" backend: LMDB batch_size: 4 }} transform_param {{ {0} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param {{ num_output: {1} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""
SOLVER = """
net: "net.prototxt"
base_lr: 0.1
lr_policy: "step"
gamma: 0.1
stepsize: 100
max_iter: 200
momentum: 0.9
test_iter: 6
test_interval: 5
snapshot_prefix: "net"
"""
ONE_ITERATION = """
net: "net.prototxt"
base_lr: 0.01
lr_policy: "fixed"
max_iter: 2
snapshot_after_train: false
"""


def images(seed=0, count=COUNT, channels=3, rows=ROWS, columns=COLUMNS):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, rows, columns), np.uint8)


def mixed(count=COUNT, classes=CLASSES):
    return [(7 * i) % classes for i in range(count)]


def files(folder, train=None, val=None, transform="crop_size: 8", classes=CLASSES):
    """A net with its databases; each is images and labels."""
    make_lmdb(folder / "train", *(train or (images(1), mixed())))
    make_lmdb(folder / "val", *(val or (images(2), mixed())))
    (folder / "net.prototxt").write_text(NET.format(transform, classes))
    return folder


def found(folder, file="net.prototxt"):
    report = check_file(str(folder / file))
    return {(x.rule, x.level) for x in report.findings if x.rule not in ("missing-relu",)}


def said(folder, file="net.prototxt"):
    return "\n".join(check_file(str(folder / file)).lines())


def two_sizes(folder):
    """A database of images of two sizes."""
    writer = Writer(folder)
    for i in range(COUNT):
        rows = ROWS + i % 2
        pixels = np.full((rows, COLUMNS, 3), i, np.uint8)
        writer.append([(b"%08d" % i, datum(pixels, i % CLASSES, Options(), "x")[0])])
    writer.close()


def edit(folder, old, new, file="net.prototxt"):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def replaced(folder, name):
    """The place of a database, empty."""
    for path in (folder / name).iterdir():
        path.unlink()
    return folder / name


def with_two_sizes(folder):
    two_sizes(replaced(folder, "train"))
    edit(folder, "crop_size: 8", "")


def with_a_mean(folder):
    """Of the size of the crop, not of the images."""
    write(folder / "mean.binaryproto", np.ones((3, 8, 8), np.float32))
    edit(folder, "crop_size: 8", 'crop_size: 8 mean_file: "mean.binaryproto"')


def with_no_mean(folder):
    (folder / "mean.binaryproto").write_bytes(b"no mean")
    edit(folder, "crop_size: 8", 'crop_size: 8 mean_file: "mean.binaryproto"')


# rule -> what is done to the good files, level, words of the message, whether Caffe ends
CASES = {
    "data-backend": (  # the Caffe at hand has no LevelDB, and ends whatever lies there
        lambda folder: edit(folder, "backend: LMDB", ""), "error", "backend is LEVELDB", False,
    ),
    "data-size": (
        lambda folder: edit(folder, "crop_size: 8", "crop_size: 10"), "error",
        "crop_size 10 is larger than images of 'train', 9x12", True,
    ),
    "data-size: two sizes": (
        with_two_sizes, "error", "images of 2 sizes, as 9x12 and 10x12, and there is no", True,
    ),
    "data-size: no room": (
        lambda folder: files_of(folder, images(1, rows=8, columns=8)), "note",
        "no larger than crop_size 8", False,
    ),
    "data-mean": (
        lambda folder: edit(folder, "crop_size: 8", "crop_size: 8 mean_value: 1 mean_value: 2"),
        "error", "2 mean_value for images of 3 channels", True,
    ),
    "data-mean: a file": (
        with_a_mean, "error", "mean_file 'mean.binaryproto' is 3x8x8, images of 'train' are 3x9x12",
        True,
    ),
    "data-mean: no file": (with_no_mean, "error", "mean.binaryproto", True),
    "data-labels": (
        lambda folder: edit(folder, "num_output: 4", "num_output: 3"), "error",
        "6 of the 24 images of 'train': label 3, and the net has 3 classes", False,
    ),
    "data-labels: below 0": (
        lambda folder: files_of(folder, images(), [-1, *mixed()[1:]]), "error",
        "1 of the 24 images of 'train': label -1, and", False,
    ),
    "data-labels: one class": (
        lambda folder: files_of(folder, images(), [2] * COUNT), "warning",
        "all have label 2: there is nothing to learn", False,
    ),
    "data-labels: a class without images": (
        lambda folder: edit(folder, "num_output: 4", "num_output: 7"), "warning",
        "3 of the net's 7 classes have no image in 'train', as 4", False,
    ),
    "data-order": (
        lambda folder: files_of(folder, images(), sorted(mixed())), "warning",
        "'train' has one class after the other", False,
    ),
    "data-few": (
        lambda folder: edit(folder, "batch_size: 5", "batch_size: 25"), "warning",
        "a batch is 25 images, 'train' has 24", False,
    ),
}  # fmt: skip


def files_of(folder, values, labels=None):
    make_lmdb(replaced(folder, "train"), values, mixed(len(values)) if labels is None else labels)


@pytest.mark.parametrize("case", CASES)
def test_the_bad_data_and_its_good_twin(case, tmp_path):
    change, level, words, _ = CASES[case]
    files(tmp_path)
    assert not found(tmp_path)

    change(tmp_path)

    rule = case.partition(":")[0]
    assert (rule, level) in found(tmp_path)
    assert {name for name, _ in found(tmp_path)} == {rule}
    assert words in said(tmp_path)


def test_every_rule_has_a_case():
    assert {case.partition(":")[0] for case in CASES} == set(RULES)


@pytest.mark.parametrize("case", [None, *(case for case in CASES if CASES[case][3])])
def test_caffe_ends_where_we_say_so(case, tmp_path, caffe_binary):
    files(tmp_path)
    if case:
        CASES[case][0](tmp_path)
    (tmp_path / "train.prototxt").write_text(ONE_ITERATION)

    status, log = run_caffe(caffe_binary, tmp_path, "train", "-solver", "train.prototxt")

    if case is None:
        assert status == 0, log
    else:
        assert status == ABORTED, log
        assert "Check failed" in log


def test_another_database_of_this_name_lies_in_the_current_directory(tmp_path, monkeypatch):
    """A solver whose net lies beside it is started there, as train.sh does it."""
    here, own = tmp_path / "here", tmp_path / "own"
    here.mkdir()
    own.mkdir()
    files(here, train=(images(channels=1), mixed()))
    net = (here / "net.prototxt").rename(here / "other.prototxt")
    (files(own) / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(here)

    assert "same-data" not in {rule for rule, _ in found(own, "solver.prototxt")}

    net.rename(here / "net.prototxt")  # Caffe, started here, takes this one
    assert "same-data" in {rule for rule, _ in found(own, "solver.prototxt")}


def test_the_shape_of_data_goes_through_the_net(tmp_path):
    """Without a crop only the database says it, and so for one channel; then rules can look."""
    edit(files(tmp_path), "crop_size: 8", "")
    text = """
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 2 kernel_size: 11 weight_filler { type: "msra" } } }
    layer { name: "fc" """
    assert not found(tmp_path)
    edit(tmp_path, 'layer { name: "fc"', text)
    edit(tmp_path, 'bottom: "data" top: "fc"', 'bottom: "conv" top: "fc"')

    assert ("does-not-fit", "error") in found(tmp_path)
    edit(tmp_path, "kernel_size: 11", "kernel_size: 9")
    assert not found(tmp_path)


def test_encoded_images_have_their_size_in_their_heads(tmp_path):
    files(tmp_path)
    writer = Writer(replaced(tmp_path, "train"))
    for i in range(COUNT):
        pixels = np.full((7, 9, 3), i, np.uint8)
        writer.append([(b"%08d" % i, datum(pixels, i * 7 % 4, Options(encoded=True), "x")[0])])
    writer.close()

    assert "crop_size 8 is larger than images of 'train', 7x9" in said(tmp_path)
    edit(tmp_path, "crop_size: 8", "crop_size: 6 force_gray: true mean_value: 1 mean_value: 2")
    assert "2 mean_value for images of 1 channel;" in said(tmp_path)


def test_solvers_count_what_is_there(tmp_path):
    """Passes of a test, the comment of a solver of ours, and less than an epoch."""
    files(tmp_path, transform="crop_size: 8")
    solver = tmp_path / "solver.prototxt"
    solver.write_text(SOLVER)
    assert not found(tmp_path, "solver.prototxt")

    edit(tmp_path, "test_iter: 6", "test_iter: 5", "solver.prototxt")
    assert "a test sees 5 x 4 = 20 images; 'val' holds 24; test_iter: 6 covers them" in said(
        tmp_path, "solver.prototxt"
    )
    edit(tmp_path, "test_iter: 5", "test_iter: 7", "solver.prototxt")
    assert found(tmp_path, "solver.prototxt") == {("coverage", "note")}

    solver.write_text("# 1,000 training images\n" + SOLVER)
    assert found(tmp_path, "solver.prototxt") == {("epochs", "warning")}
    assert "is for 1,000 training images, as the solver says, and 'train' holds 24" in said(
        tmp_path, "solver.prototxt"
    )
    solver.write_text("# 24 training images\n" + SOLVER)
    assert not found(tmp_path, "solver.prototxt")

    short = SOLVER.replace("200", "4").replace("stepsize: 100", "stepsize: 2")
    solver.write_text(short)
    assert found(tmp_path, "solver.prototxt") == {("epochs", "warning")}
    assert "the training sees 20 images with one GPU, 'train' holds 24" in said(
        tmp_path, "solver.prototxt"
    )
    solver.write_text(short + "iter_size: 2")
    assert not found(tmp_path, "solver.prototxt")


def test_train_and_test_data_go_together(tmp_path):
    files(tmp_path)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    edit(tmp_path, 'source: "val"', 'source: "../' + tmp_path.name + '/train"')
    assert found(tmp_path, "solver.prototxt") == {("same-data", "warning")}
    edit(tmp_path, 'source: "../' + tmp_path.name + '/train"', 'source: "val"')
    make_lmdb(replaced(tmp_path, "val"), images(1, channels=1), mixed())
    assert found(tmp_path, "solver.prototxt") == {("same-data", "error")}
    assert {"epochs", "same-data"} <= set(SOLVER_RULES)


def test_ignored_labels_are_no_class(tmp_path):
    files(tmp_path, train=(images(), [9, *mixed()[1:]]))
    assert found(tmp_path) == {("data-labels", "error")}
    edit(tmp_path, 'top: "loss"', 'top: "loss" loss_param { ignore_label: 9 }')
    assert not found(tmp_path)


def test_without_the_database_nothing_is_said(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET.format("crop_size: 8", CLASSES))
    assert not found(tmp_path)


def test_the_current_directory_goes_first(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        files(tmp_path / name)
    edit(tmp_path / "there", "crop_size: 8", "crop_size: 10")
    make_lmdb(replaced(tmp_path / "here", "train"), images(rows=12), mixed())
    make_lmdb(replaced(tmp_path / "here", "val"), images(rows=12), mixed())
    monkeypatch.chdir(tmp_path / "here")
    assert not found(tmp_path / "there")
    text = (tmp_path / "there" / "net.prototxt").read_text()
    assert not check_text(text, "-").findings


@pytest.mark.parametrize("size", [0, 100, 8192, 20_000])
def test_a_damaged_database_is_said(tmp_path, size):
    """Cut off anywhere: a page behind the end of the file would end the process."""
    files(tmp_path)
    data = tmp_path / "train" / "data.mdb"
    data.write_bytes(data.read_bytes()[:size])
    if size:
        assert ("data-unreadable", "error") in found(tmp_path)
    else:
        assert found(tmp_path) <= {("data-unreadable", "error"), ("data-size", "error")}
        assert found(tmp_path)


def folder_of_images(path):
    (path / "class").mkdir(parents=True)


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        (folder_of_images, "not the folder of an LMDB: there is no data.mdb in it; `resnet-proto"),
        (lambda path: path.write_text("x"), "a file; an LMDB is the folder that data.mdb lies in"),
        (lambda path: path.symlink_to("nowhere"), "no such folder"),
    ],
)
def test_what_stands_in_the_place_of_an_lmdb(tmp_path, caffe_binary, instead, message):
    """The real Caffe ends at it; of a LevelDB nothing is known."""
    files(tmp_path)
    (tmp_path / "train.prototxt").write_text(ONE_ITERATION)
    train = (caffe_binary, tmp_path, "train", "-solver", "train.prototxt")
    assert run_caffe(*train)[0] == 0
    replaced(tmp_path, "train").rmdir()
    instead(tmp_path / "train")

    assert found(tmp_path) == {("data-unreadable", "error")}
    assert f"{tmp_path / 'train'}: {message}" in said(tmp_path)
    assert run_caffe(*train)[0] == ABORTED
    edit(tmp_path, "backend: LMDB batch_size: 5", "batch_size: 5")
    assert not found(tmp_path)


def test_records_that_are_no_images(tmp_path):
    files(tmp_path)
    writer = Writer(replaced(tmp_path, "train"))
    writer.append([(b"0", b"\xff\xff\xff")])
    writer.close()
    assert found(tmp_path) == {("data-unreadable", "error")}


def test_the_package_lmdb_is_not_needed(tmp_path, monkeypatch):
    files(tmp_path)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert not found(tmp_path)
    edit(tmp_path, "crop_size: 8", "crop_size: 10")
    assert found(tmp_path) == {("data-size", "error")}
