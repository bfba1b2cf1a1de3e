"""Strict averages: against the real Caffe, against PyTorch, and against themselves in parts."""

import pickle
import re

import numpy as np
import pytest
from oracles.training import in_solver, make_lmdb, run_caffe
from PIL import Image
from test_dask import cluster  # noqa: F401 - a fixture

from resnet_proto.errors import NetError, ResNetProtoError, ShapeError, WeightsError
from resnet_proto.evaluate.bn_stats import Batches, Transform, average, feed_of, training_net
from resnet_proto.evaluate.source import Item
from resnet_proto.formats import load, save
from resnet_proto.prototxt import parse_net, to_prototxt
from resnet_proto.weights import Weights, random_weights

N_IMAGES, SHAPE, BATCH = 15, (3, 9, 6), 4
STATISTICS = ("mean", "variance", "scale_factor")
DATA = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { mean_value: 100 mean_value: 110 mean_value: 120 scale: 0.0125 }
        data_param { source: "train" backend: LMDB batch_size: 4 } }
"""
INPUT = """
name: "small"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 6 } } }
"""
# in place and not, behind a product, a sum and an InnerProduct
LAYERS = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 5 kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" FIELDS }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 7 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv2" top: "bn2" FIELDS }
layer { name: "proj" type: "Convolution" bottom: "conv1" top: "proj"
        convolution_param { num_output: 7 kernel_size: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "bn2" bottom: "proj" top: "sum" }
layer { name: "bn3" type: "BatchNorm" bottom: "sum" top: "bn3" FIELDS }
layer { name: "relu3" type: "ReLU" bottom: "bn3" top: "bn3" }
layer { name: "pool" type: "Pooling" bottom: "bn3" top: "pool"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
        inner_product_param { num_output: 4 } }
LAST
"""
LAST = """
layer { name: "bn4" type: "BatchNorm" bottom: "fc" top: "bn4" FIELDS }
"""
LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """
base_lr: 0
lr_policy: "fixed"
max_iter: {}
snapshot_prefix: "tiny"
"""
EVERY = "batch_norm_param { moving_average_fraction: 1 }"
"""With it Caffe's running sums are plain sums, and its averages strict ones."""


def net_of(*parts, fields="", last=LAST):
    text = "".join(parts).replace("LAST", last).replace("FIELDS", fields)
    return parse_net(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a database of images, no two alike."""
    folder = tmp_path_factory.mktemp("bn-stats")
    images = np.random.default_rng(3).integers(0, 256, (N_IMAGES, *SHAPE), np.uint8)
    images[:, 1] //= 3
    make_lmdb(folder / "train", images, [0] * N_IMAGES)
    np.save(folder / "images.npy", images)
    return folder


def fresh(net):
    """Random weights whose statistics are 0, as before training."""
    arrays = dict(random_weights(net.at(phase="TRAIN"), 1, {"data": (BATCH, *SHAPE)}))
    return {k: v * 0 if k.rpartition(".")[2] in STATISTICS else v for k, v in arrays.items()}


def list_of_images(place, folder):
    """The images of the database as files, and ``list.txt`` of them."""
    lines = []
    for i, image in enumerate(np.load(place / "images.npy")):
        Image.fromarray(image[::-1].transpose(1, 2, 0)).save(folder / f"{i:02}.png")
        lines.append(f"{i:02}.png 0\n")
    (folder / "list.txt").write_text("".join(lines))


def averaged(net, place, weights, **options):
    trained = training_net(net)
    return average(trained, weights, feed_of(trained, folder=place), **options)


def distance(a, b):
    """Relative L2."""
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def in_caffe(binary, folder, net, weights, iterations):
    """What Caffe's TRAIN passes leave in each BatchNorm: label -> mean and variance."""
    save(folder / "start.caffemodel", weights, net.at(phase="TRAIN"))
    solver = in_solver(to_prototxt(net)) + SOLVER.format(iterations)
    (folder / "solver.prototxt").write_text(solver)
    status, log = run_caffe(
        binary, folder, "train", "-solver", "solver.prototxt", "-weights", "start.caffemodel"
    )
    assert status == 0, log[-2000:]
    after = load(folder / f"tiny_iter_{iterations}.caffemodel")
    return {
        layer.label: [blob.array() / layer.blobs[2].array() for blob in layer.blobs[:2]]
        for layer in after.layers if layer.type == "BatchNorm"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "batches"), [("", 1), (EVERY, 3)], ids=["one batch", "three batches"]
)
def test_as_caffe_accumulates(caffe_binary, place, fields, batches):
    """Forward passes at TRAIN without learning; the last images, in no full batch, are left out."""
    net = net_of(DATA, LAYERS, LOSS, fields=fields)
    weights = fresh(net)
    theirs = in_caffe(caffe_binary, place, net, weights, batches)

    ours = averaged(net, place, weights, batches=batches, in_order=True)

    assert ours.left_out == N_IMAGES - batches * BATCH
    assert list(ours.statistics) == list(theirs) == ["bn1", "bn2", "bn3", "bn4"]
    for label, (mean, variance) in ours.statistics.items():
        assert distance(mean, theirs[label][0]) < 1e-5
        assert distance(variance, theirs[label][1]) < 1e-5


def test_shared_statistics_in_caffe(caffe_binary, place, tmp_path):
    """Two BatchNorms with one mean and one variance: both average over both."""
    names = "".join(f'param {{ name: "{name}" lr_mult: 0 decay_mult: 0 }} ' for name in STATISTICS)
    net = net_of(DATA, LAYERS, LOSS, fields=EVERY)
    text = to_prototxt(net)
    for label in ("bn2", "bn3"):
        text = text.replace(f'name: "{label}"\n', f'name: "{label}"\n  {names}\n')
    net = parse_net(text)
    weights = fresh(net)
    theirs = in_caffe(caffe_binary, place, net, weights, 2)

    stored = Weights.of(weights)
    averages = averaged(net, place, weights, batches=2, in_order=True)
    save(tmp_path / "out.caffemodel", averages.written(stored), net.at(phase="TRAIN"))
    ours = load(tmp_path / "out.caffemodel")

    assert distance(*(averages.statistics[label][1][:7] for label in ("bn2", "bn3"))) > 0.01
    for label in ("bn2", "bn3"):
        assert distance(ours[f"{label}.mean"], theirs[label][0]) < 1e-5
        assert distance(ours[f"{label}.variance"], theirs[label][1]) < 1e-5
        assert ours[f"{label}.scale_factor"] == 1


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_as_torch_computes(torch, place, dtype, tolerance):
    """Torch's own BatchNorm in train(), momentum None: a cumulative average, in float64.

    A deploy net, which says that its stored statistics normalise; gamma and beta within; a BN.
    """
    fields = "batch_norm_param { use_global_stats: true eps: 0.001 }"
    net = net_of(INPUT, LAYERS, fields=fields)
    text = to_prototxt(net).replace("eps: 0.001", "eps: 0.001\n    scale_bias: true", 1)
    last = to_prototxt(net_of("LAST", fields=fields))
    bn = 'layer { name: "bn4" type: "BN" bottom: "fc" top: "bn4" bn_param { eps: 0.002 } }'
    net = parse_net(text.replace(last[last.index("layer") :].rstrip(), bn))
    weights = dict(random_weights(net))
    images = torch.tensor(np.load(place / "images.npy")).double()
    w = {key: torch.tensor(value).double() for key, value in weights.items()}
    bns = {
        label: torch.nn.BatchNorm2d(n, float(np.float32(eps)), None, affine=False).double()
        for label, n, eps in zip(
            ("bn1", "bn2", "bn3", "bn4"), (5, 7, 7, 4), (1e-3, 1e-3, 1e-3, 2e-3), strict=True
        )
    }
    conv = torch.nn.functional.conv2d

    def channels(name):
        return w[name].reshape(1, -1, 1, 1)

    for i in range(0, 12, 4):
        x = conv(images[i : i + 4], w["conv1.weight"], w["conv1.bias"], (2, 2), (1, 0))
        x = bns["bn1"](x) * channels("bn1.weight") + channels("bn1.bias")
        x = (x * channels("scale1.weight") + channels("scale1.bias")).relu()
        x = bns["bn2"](conv(x, w["conv2.weight"], None, 1, 1)) + conv(
            x, w["proj.weight"], w["proj.bias"]
        )
        x = torch.nn.functional.max_pool2d(bns["bn3"](x).relu(), 2, 2, ceil_mode=True)
        bns["bn4"]((x.flatten(1) @ w["fc.weight"].T + w["fc.bias"])[:, :, None, None])
    trained = training_net(net)
    feed = feed_of(trained, str(place / "train"), 4)

    ours = average(trained, weights, feed, in_order=True, dtype=dtype)

    assert ours.n_batches == 3
    for label, bn in bns.items():
        mean, variance = ours.statistics[label]
        assert distance(mean, bn.running_mean.numpy()) < tolerance
        assert distance(variance, bn.running_var.numpy()) < tolerance


def test_neither_workers_nor_interruptions_nor_order_matter(place, tmp_path, monkeypatch):
    """To the bit; and for the order of the batches, to 1e-12."""
    monkeypatch.setattr("resnet_proto.evaluate.bn_stats.SHARDS", 4)
    net = net_of(DATA.replace("batch_size: 4", "batch_size: 2 "), LAYERS)
    save(tmp_path / "start.npz", fresh(net), net.at(phase="TRAIN"))
    weights, done = load(tmp_path / "start.npz"), []
    once = averaged(net, place, weights)
    assert once.n_batches == 7

    def stop(images, before, total):
        done.append(images)
        if images > 3:
            raise ResNetProtoError("the power is gone")

    with pytest.raises(ResNetProtoError, match="the power is gone"):
        averaged(net, place, weights, folder=tmp_path / "kept", progress=stop)
    rest = []
    resumed = averaged(
        net, place, weights, jobs=2, folder=tmp_path / "kept",
        progress=lambda *images: rest.append(images),
    )  # fmt: skip
    assert done == [0, 4]
    assert rest[0] == (4, 4, 14)
    other = averaged(net, place, weights, seed=1)
    images = np.load(place / "images.npy")[:14].reshape(7, 2, *SHAPE)
    folder = tmp_path / "turned"
    folder.mkdir()
    make_lmdb(folder / "train", images[::-1].reshape(14, *SHAPE), [0] * 14)
    forward, backward = (averaged(net, where, weights, in_order=True) for where in (place, folder))

    for label, values in once.statistics.items():
        for a, b in zip(values, resumed.statistics[label], strict=True):
            assert np.array_equal(a, b)
        assert not np.array_equal(values[0], other.statistics[label][0])
        pairs = zip(forward.statistics[label], backward.statistics[label], strict=True)
        assert all(distance(a, b) < 1e-12 for a, b in pairs)
    with pytest.raises(ResNetProtoError, match="now 'seed: 1'"):
        averaged(net, place, weights, seed=1, folder=tmp_path / "kept")


def test_all_else_stays(place, tmp_path):
    """Only statistics change; float64 stays so, four axes stay four, a factor becomes 1."""
    net = net_of(DATA, LAYERS)
    weights = dict(random_weights(net.at(phase="TRAIN"), 1, {"data": (BATCH, *SHAPE)}))
    weights["bn2.mean"] = weights["bn2.mean"].astype(np.float64)
    weights["more.weight"] = np.ones((2, 3), np.float32)
    averages = averaged(net, place, weights, batches=2)

    after = averages.written(Weights.of(weights))

    assert list(after) == list(weights)
    for key, value in weights.items():
        name = key.rpartition(".")[2]
        assert (after[key].dtype, after[key].shape) == (value.dtype, value.shape)
        if name not in STATISTICS:
            assert np.array_equal(after[key], value)
    mean, variance = averages.statistics["bn2"]
    assert np.array_equal(after["bn2.mean"], mean)
    assert np.array_equal(after["bn2.variance"], variance.astype(np.float32))
    assert all(after[f"bn{i}.scale_factor"] == 1 for i in (1, 2, 3, 4))
    change = averages.changes(Weights.of(weights))["bn2"]
    old = weights["bn2.mean"] / weights["bn2.scale_factor"]
    assert change.mean == pytest.approx(np.max(np.abs(mean - old) / np.sqrt(variance + 1e-5)))


def test_a_large_mean_keeps_its_variance(place):
    """E[x^2] - E[x]^2 in float32 would have none left."""
    net = net_of(DATA, LAYERS)
    weights = fresh(net)
    moved = {**weights, "conv1.bias": weights["conv1.bias"] + 1000}

    one, other = (averaged(net, place, w, batches=2).statistics for w in (weights, moved))

    assert distance(other["bn1"][1], one["bn1"][1]) < 1e-4  # conv1's own float32


def test_a_data_layer_crops_and_mirrors_by_the_seed():
    """Caffe's own places, each about as often; the same for one seed and image."""
    image = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)
    mean = np.arange(2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4) / 8
    whole = (image - mean) * np.float32(0.5)
    windows = [whole[:, i : i + 3, j : j + 3] for i in range(3) for j in range(2)]
    windows += [window[:, :, ::-1] for window in windows]
    reader = Transform(3, True, mean, 0.5)

    seen = [reader(Item(i, "x", 0, stored=image), 7) for i in range(600)]

    again = [reader(Item(i, "x", 0, stored=image), 7) for i in range(600)]
    assert all(map(np.array_equal, seen, again))
    counts = [sum(np.array_equal(x, window) for x in seen) for window in windows]
    assert sum(counts) == 600
    assert min(counts) > 25
    plain = Transform(3, False, mean, 0.5)
    assert any(np.array_equal(plain(Item(0, "x", 0, stored=image), 7), w) for w in windows[:6])


SEGNET = 'layer { name: "bn" type: "BN" bottom: "data" top: "bn" bn_param { bn_mode: LEARN } }'
ONE = """
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { global_pooling: true
        pool: AVE } }
layer { name: "bn" type: "BatchNorm" bottom: "pool" top: "pool" }
"""


@pytest.mark.parametrize(
    ("parts", "change", "options", "error", "words"),
    [
        ((DATA, LOSS.replace("fc", "data")), {}, {}, NetError, "has no BatchNorm with statistics"),
        ((DATA, SEGNET), {}, {}, NetError, "has no BatchNorm with statistics"),
        ((DATA, LAYERS), {"conv2.weight": np.ones((7, 4, 3, 3), "f4")}, {}, WeightsError,
         "layer 'conv2': weight is 7x4x3x3 in the weights, the net needs 7x5x3x3"),
        ((DATA, LAYERS), {"bn2.mean": None}, {}, WeightsError, "'bn2': mean is missing"),
        ((DATA, LAYERS), {"conv2.weight": np.full((7, 5, 3, 3), np.nan, "f4")}, {},
         ResNetProtoError, "layer 'bn2': statistics of batch 0 are not finite"),
        ((DATA, ONE), {}, {"batch": 1}, ShapeError,
         "layer 'bn' (BatchNorm): its bottom is 1x3x1x1"),
        ((DATA, LAYERS), {}, {"batch": 16}, ResNetProtoError, "15 images, a batch has 16"),
        ((DATA, LAYERS), {}, {"batches": 4}, ResNetProtoError,
         "15 images are 3 batches of 4, 4 are"),
        ((DATA.replace("scale: 0", "crop_size: 7 scale: 0"), LAYERS), {}, {}, ResNetProtoError,
         "an image of 9x6, crop_size is 7"),
        ((DATA.replace("mean_value: 100", ""), LAYERS), {}, {}, ResNetProtoError,
         "an image of 3 channels, the data layer's mean has 2"),
        ((DATA.replace('"train"', '"nowhere"'), LAYERS), {}, {}, ResNetProtoError, "nowhere"),
        ((DATA.replace("TRAIN", "TEST"), LAYERS), {}, {}, NetError, "no data layer says where"),
        ((DATA.replace('source: "train"', ""), LAYERS), {}, {}, NetError, "has no source; give"),
        ((DATA.replace("batch_size: 4", ""), LAYERS), {}, {}, NetError, "batch_size is 0; give"),
        ((INPUT, LAYERS), {}, {}, NetError, "no data layer says where images are; give --data"),
    ],
)  # fmt: skip
def test_refused(place, parts, change, options, error, words):
    """Each with its reason; ``test_accepted`` is the twin of all."""
    net = net_of(*parts)
    weights = {**fresh(net_of(DATA, LAYERS)), "bn.mean": np.zeros(3), "bn.variance": np.zeros(3),
               "bn.scale_factor": np.zeros(1), **change}  # fmt: skip
    weights = {key: value for key, value in weights.items() if value is not None}
    batch = options.pop("batch", None)

    with pytest.raises(error, match=re.escape(words)):
        trained = training_net(net)
        average(trained, weights, feed_of(trained, None, batch, folder=place), **options)


@pytest.mark.parametrize(
    ("parts", "batch", "batches"),
    [((DATA, LAYERS), 15, 1), ((DATA, LAYERS), None, 3), ((DATA, ONE), 2, 7),
     ((DATA.replace("scale: 0", "crop_size: 6 scale: 0"), ONE), None, 3)],
)  # fmt: skip
def test_accepted(place, parts, batch, batches):
    net = net_of(*parts)
    weights = {**fresh(net_of(DATA, LAYERS)), "bn.mean": np.zeros(3), "bn.variance": np.zeros(3),
               "bn.scale_factor": np.zeros(1)}  # fmt: skip
    trained = training_net(net)

    found = average(trained, weights, feed_of(trained, None, batch, folder=place), batches=batches)

    assert found.n_batches == batches


def test_images_of_two_sizes(tmp_path, place):
    """The one that differs is named; with a crop both are taken."""
    import lmdb

    from resnet_proto.schema import encode

    opened = lmdb.open(str(tmp_path / "train"), map_size=1 << 20)
    with opened as database, database.begin(write=True) as records:
        for i in range(8):
            tree = {"channels": 3, "height": 9, "width": 6 + (i == 5), "label": 0}
            tree["data"] = bytes(range(3 * 9 * tree["width"]))
            records.put(b"%08d" % i, encode("Datum", tree))
    weights = fresh(net_of(DATA, LAYERS))
    with pytest.raises(ResNetProtoError, match=r"00000005 is 3x9x7, the first image is 3x9x6"):
        averaged(net_of(DATA, LAYERS), tmp_path, weights)
    crop = DATA.replace("scale: 0", "crop_size: 6 scale: 0")
    some = {**weights, "bn.mean": np.zeros(3), "bn.variance": np.ones(3),
            "bn.scale_factor": np.ones(1)}  # fmt: skip
    net = net_of(crop, ONE)

    assert averaged(net, tmp_path, some).n_batches == 2


def test_a_dask_cluster(place, tmp_path, cluster, monkeypatch):  # noqa: F811
    """Processes in other folders find weights and images, of relative paths, or are sent them."""
    _, _, address = cluster
    monkeypatch.chdir(tmp_path)
    net = net_of(DATA, LAYERS)
    arrays = fresh(net)
    save("start.npz", arrays, net.at(phase="TRAIN"))
    list_of_images(place, tmp_path)
    trained = training_net(net)
    cases = [(None, load("start.npz")), ("list.txt", load("start.npz")), ("list.txt", arrays)]
    feeds = [feed_of(trained, data, folder=place) for data, _ in cases]

    found = [average(trained, weights, feed, dask=address).statistics
             for feed, (_, weights) in zip(feeds, cases, strict=True)]  # fmt: skip

    for label, values in average(trained, arrays, feeds[0]).statistics.items():
        assert all(np.array_equal(a, b) for one in found
                   for a, b in zip(values, one[label], strict=True))  # fmt: skip


def test_other_images_there(place, tmp_path):
    """What a process finds is what the run began with, or the run ends."""
    trained = training_net(net_of(DATA, LAYERS))
    save(tmp_path / "start.npz", fresh(trained), trained)
    list_of_images(place, tmp_path)
    feed = feed_of(trained, str(tmp_path / "list.txt"))
    task = Batches(trained, load(tmp_path / "start.npz"), feed, 3)
    sent = pickle.dumps(task)

    pickle.loads(sent).prepare()
    (tmp_path / "list.txt").write_text("01.png 0\n" * 12)
    with pytest.raises(ResNetProtoError, match="other images than those that the run began with"):
        pickle.loads(sent).prepare()
    save(tmp_path / "start.npz", random_weights(trained, 2, {"data": (BATCH, *SHAPE)}), trained)
    with pytest.raises(ResNetProtoError, match=r"start\.npz: other weights than those"):
        pickle.loads(sent).prepare()


def test_an_image_that_was_replaced(place, tmp_path):
    """Its shard is computed again, whichever the batches are that have it."""
    trained = training_net(net_of(DATA, LAYERS))
    list_of_images(place, tmp_path)
    feed, weights = feed_of(trained, str(tmp_path / "list.txt")), fresh(trained)
    folder, rest = tmp_path / "kept", []
    average(trained, weights, feed, folder=folder)
    (tmp_path / "09.png").write_bytes((tmp_path / "08.png").read_bytes())

    found = average(
        trained, weights, feed, folder=folder, progress=lambda *images: rest.append(images)
    )

    assert rest[0] == (8, 8, 12)
    for label, values in average(trained, weights, feed).statistics.items():
        assert all(map(np.array_equal, values, found.statistics[label]))


def test_a_list_of_images_as_the_database_of_them(place, tmp_path):
    """ImageData, and --data in the place of the layer's source: the same pixels, BGR."""
    list_of_images(place, tmp_path)
    listed = DATA.replace('"Data"', '"ImageData"').replace("backend: LMDB ", "")
    listed = listed.replace("data_param", "image_data_param").replace('"train"', '"list.txt"')
    weights = fresh(net_of(DATA, LAYERS))
    expected = averaged(net_of(DATA, LAYERS), place, weights).statistics
    database = training_net(net_of(DATA, LAYERS))

    of_list = averaged(net_of(listed, LAYERS), tmp_path, weights)
    of_data = average(database, weights, feed_of(database, str(tmp_path / "list.txt")))
    larger = listed.replace("batch_size", "new_height: 18 new_width: 12 batch_size")
    warped = training_net(net_of(larger, ONE))
    feed = feed_of(warped, folder=tmp_path)

    for label, values in expected.items():
        assert all(map(np.array_equal, values, of_list.statistics[label]))
        assert all(map(np.array_equal, values, of_data.statistics[label]))
    assert feed.array([3, 4], 0).shape == (2, 3, 18, 12)


def test_a_mean_file_and_grey(place, tmp_path):
    """A map is subtracted where the crop is; force_gray is for encoded images only, as in Caffe."""
    np.save(tmp_path / "mean.npy", np.load(place / "images.npy").mean(0).astype(np.float32))
    text = re.sub(r"mean_value.*? scale", 'mean_file: "mean.npy" force_gray: true scale', DATA)
    net = training_net(net_of(text, LAYERS))

    x = feed_of(net, str(place / "train"), folder=tmp_path).array(range(N_IMAGES), 0)

    np.save(tmp_path / "mean.npy", np.zeros((2, *SHAPE)))
    with pytest.raises(ResNetProtoError, match="the mean is 2x3x9x6"):
        feed_of(net, str(place / "train"), folder=tmp_path)
    assert x.shape == (N_IMAGES, *SHAPE)
    assert np.abs(x.mean(0)).max() < 1e-5
