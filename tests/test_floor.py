"""Floor pooling in three dialects: one result, in the Caffe that has the words for it."""

from dataclasses import replace

import numpy as np
import pytest
from oracles.training import ABORTED, run_net

from resnet_proto import read_prototxt, to_prototxt
from resnet_proto.build import deploy_net
from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.job import Job
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import NetError, ShapeError
from resnet_proto.floor import DIALECTS, spelled
from resnet_proto.layers import Convolution, Input, Pooling, ReLU, make_layer
from resnet_proto.net import Net
from resnet_proto.spec import ResNetSpec
from resnet_proto.weights import random_weights

SHAPE = (2, 3, 9, 14)
X = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
N = 150


def net(*layers, shape=SHAPE):
    return Net("t", (Input.of("in", (), "data", shape=({"dim": shape},)), *layers))


def floor(name="p", bottom="data", tops=None, **fields):
    return Pooling.of(name, bottom, tops or name, round_mode="FLOOR", **fields)


def random_poolings(seed, *, n=N):
    """A net of many floor poolings, on maps of several sizes, of which most have to round."""
    rng = np.random.default_rng(seed)
    layers = []
    inputs = []
    for size in range(3):
        height, width = (int(x) for x in rng.choice(np.arange(5, 16), 2, replace=False))
        inputs.append((f"data{size}", (2, 3, height, width)))
    while len(layers) < n:
        (kh, kw), (sh, sw) = rng.integers(1, 6, (2, 2)).tolist()
        ph, pw = int(rng.integers(kh)), int(rng.integers(kw))
        pool = str(rng.choice(["MAX", "AVE"]))
        name, shape = inputs[int(rng.integers(len(inputs)))]
        sides = {"kernel_h": kh, "kernel_w": kw, "stride_h": sh, "stride_w": sw,
                 "pad_h": ph, "pad_w": pw}  # fmt: skip
        label = f"p{len(layers)}"
        tops = (label, f"{label}_mask") if pool == "MAX" and rng.random() < 0.3 else label
        layer = floor(label, name, tops, pool=pool, **sides)
        try:
            layer.spans(shape)
            layer.top_shapes([shape])
        except ShapeError:
            continue  # a kernel larger than the map
        layers.append(layer)
    first = [Input.of(f"in_{k}", (), k, shape=({"dim": v},)) for k, v in inputs]
    arrays = {k: rng.normal(size=v).astype(np.float32) for k, v in inputs}
    return Net("poolings", (*first, *layers)), arrays


def in_caffe(python, folder, *nets):
    """Nets with weights and inputs, each in the real Caffe: their blobs."""
    places = []
    for i, (net, weights, inputs) in enumerate(nets):
        places.append(folder / str(i))
        places[-1].mkdir()
        write_job(places[-1], *Job(net, dict(weights or {}), inputs).files(places[-1]), inputs)
    run_jobs(python, places)
    return [read_job(place) for place in places]


def assert_equal(ours, theirs, names):
    for name in names:
        assert ours[name].shape == theirs[name].shape, name
        assert relative_l2(ours[name], theirs[name]) <= TOLERANCE, name


def tops(net):
    return [name for layer in net.layers if layer.type == "Pooling" for name in layer.tops]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_real_caffe_takes_round_mode_and_old_layers(caffe_python, tmp_path, seed):
    """Each blob is equal to what the Caffe that knows round_mode makes of the field."""
    whole, inputs = random_poolings(seed)
    old, weights = spelled(whole, {}, "old-layers")

    theirs, ours = in_caffe(caffe_python, tmp_path, (whole, {}, inputs), (old, weights, inputs))

    assert "round_mode" not in to_prototxt(old)
    counts = [sum(layer.type == "Convolution" for layer in x.layers) for x in (whole, old)]
    assert counts[0] == 0
    assert counts[1] > N // 4  # there was something to do
    assert_equal(ours, theirs, tops(whole))
    own = forward(old, weights, inputs, dtype="float64")
    assert_equal(own, theirs, tops(whole))


@pytest.mark.parametrize("seed", [3])
def test_the_forks_caffe_takes_ceil_mode_and_old_layers(caffe_binary, tmp_path, seed):
    """It refuses round_mode, and gives what our reading of that is."""
    whole, inputs = random_poolings(seed, n=60)
    expected = forward(whole, {}, inputs)
    (tmp_path / "w").mkdir()

    status, log, _ = run_net(caffe_binary, tmp_path / "w", whole, inputs)
    assert status == ABORTED
    assert 'no field named "round_mode"' in log

    for dialect in ("ceil_mode", "old-layers"):
        folder = tmp_path / dialect
        folder.mkdir()
        other, weights = spelled(whole, None, dialect)
        assert weights is None  # the filler gives them
        status, log, ours = run_net(caffe_binary, folder, other, inputs, blobs=tops(whole))
        assert status == 0, log[-2000:]
        assert_equal(ours, expected, tops(whole))


def test_resnet_50_as_torch_has_it(caffe_python, tmp_path):
    """Stride in the 3x3 and padded pooling."""
    spec = ResNetSpec("r", unit="bottleneck", pool="padded", stride_in="3x3", head="global")
    whole = deploy_net(spec).with_input_shapes({"data": (1, 3, 96, 128)})
    values = random_weights(whole)
    inputs = {"data": np.random.default_rng(5).normal(size=(1, 3, 96, 128)).astype(np.float32)}
    old, more = spelled(whole, values, "old-layers")

    theirs, ours = in_caffe(caffe_python, tmp_path, (whole, values, inputs), (old, more, inputs))

    assert list(more) == [*values, "pool1_floor.weight"]
    assert [x.name for x in old.layers if x not in whole.layers] == ["pool1", "pool1_floor"]
    assert_equal(ours, theirs, theirs)


@pytest.mark.parametrize(
    ("fields", "size", "strides", "left"),
    [
        ({"kernel_size": 3, "stride": 2}, (9, 15), (2, 2), None),  # nothing to round
        ({"kernel_size": 3, "stride": 2}, (9, 14), (2, 1), (1, 2)),
        ({"kernel_size": 3, "stride": 2}, (8, 15), (1, 2), (2, 1)),
        ({"kernel_size": 3, "stride": 2, "pad": 1}, (8, 14), (1, 1), (2, 2)),
        ({"kernel_size": 2, "stride": 2, "pad": 1}, (9, 13), (2, 2), None),  # clipped: alike
        ({"kernel_size": 2, "stride": 2}, (9, 12), (1, 2), (2, 1)),  # without a pad it is not
        (
            {"kernel_h": 1, "kernel_w": 2, "stride": 2, "pad_h": 0, "pad_w": 1},
            (8, 12),
            (2, 2),
            None,
        ),
        ({"kernel_h": 1, "kernel_w": 2, "stride": 2}, (8, 12), (1, 2), (2, 1)),  # ceil: outside
        ({"kernel_size": 2, "stride": 4}, (8, 14), (2, 4), (2, 1)),  # half the way
        ({"kernel_size": 3, "stride": 1}, (9, 14), (1, 1), None),
        ({"global_pooling": True}, (9, 14), (1, 1), None),
    ],
)
def test_only_where_it_rounds(fields, size, strides, left):
    """``left`` are rows and columns that the Convolution behind it passes over."""
    whole = net(floor(**fields), shape=(2, 3, *size))

    old, weights = spelled(whole, {}, "old-layers")

    pool, *chosen = old.layers[1:]
    assert pool.windows((2, 3, *size))[1] == strides
    assert not pool.floor
    assert [x.windows(2)[1] for x in chosen] == ([left] if left else [])
    assert list(weights) == ["p_floor.weight"] * bool(left)
    x = np.random.default_rng(1).normal(size=(2, 3, *size)).astype(np.float32)
    assert np.array_equal(forward(old, weights, x)["p"], forward(whole, {}, x)["p"])


def test_what_is_not_a_number_stays_where_it_was():
    """Rows that are passed over reach nothing."""
    whole = net(floor(kernel_size=2, stride=2), shape=(1, 2, 5, 9))
    old, weights = spelled(whole, {}, "old-layers")
    x = np.zeros((1, 2, 5, 9), np.float32)
    x[0, 0, 4], x[0, 0, 1, 2], x[0, 1, 0, 8] = np.nan, np.inf, np.inf

    ours, theirs = (forward(n, w, x)["p"] for n, w in ((old, weights), (whole, {})))

    assert np.isinf(ours).sum() == 1
    assert np.array_equal(ours, theirs)


def test_dialects():
    whole = net(
        floor("a", kernel_size=2, stride=2),
        Pooling.of("b", "data", "b", kernel_size=2, stride=2, round_mode="CEIL"),
        Pooling.of("c", "data", "c", kernel_size=2, stride=2, ceil_mode=True),
        Pooling.of("d", "data", "d", kernel_size=2, stride=2, ceil_mode=False),
        Pooling.of("e", "data", "e", kernel_size=2, stride=2),
    )
    words = {}
    for dialect in DIALECTS:
        other, weights = spelled(whole, {}, dialect)
        words[dialect] = [x.param.keys() & {"round_mode", "ceil_mode"} for x in other.layers[1:]]
        assert read_prototxt(to_prototxt(other)) == other
        assert spelled(other, None, dialect)[0] == other
        for name, value in forward(whole, {}, X).items():
            assert np.array_equal(forward(other, weights, X)[name], value)

    assert words["round_mode"] == [{"round_mode"}, set(), set(), {"round_mode"}, set()]
    assert words["ceil_mode"] == [{"ceil_mode"}, set(), set(), {"ceil_mode"}, set()]
    assert not any(words["old-layers"])
    back, _ = spelled(spelled(whole, None, "ceil_mode")[0], None, "round_mode")
    assert back == spelled(whole, None, "round_mode")[0]


def test_without_a_word_nothing_changes():
    whole = net(Pooling.of("p", "data", "p", kernel_size=2, stride=2), ReLU.of("r", "p", "p"))
    weights = {"x.weight": X}

    for dialect in DIALECTS:
        assert spelled(whole, weights, dialect) == (whole, weights)


def test_names_that_are_taken():
    whole = net(
        floor(kernel_size=2, stride=2),
        ReLU.of("p_floor", "p", "p_dense"),
        Convolution.of("p_floor_2", "p_dense", "c", num_output=2, kernel_size=1),
    )
    weights = random_weights(whole)

    old, more = spelled(whole, weights, "old-layers")

    names = [layer.name for layer in old.layers]
    assert names == ["in", "p", "p_floor_3", "p_floor", "p_floor_2"]
    ours, theirs = forward(old, more, X), forward(whole, weights, X)
    assert_equal(ours, theirs, theirs)


def test_rules_stay_with_both():
    rule = {"include": ({"phase": "TEST"},)}
    pool = floor(kernel_size=2, stride=2)
    whole = net(replace(pool, fields={**pool.fields, **rule}))

    old, _ = spelled(whole, None, "old-layers")

    assert [layer.fields.get("include") for layer in old.layers[1:]] == [rule["include"]] * 2


def test_old_layers_need_shapes():
    unknown = make_layer("u", "Unknown", ("data",), ("u",))
    whole = net(unknown, floor(bottom="u", kernel_size=2, stride=2))

    with pytest.raises(NetError, match="layer 'u'"):
        spelled(whole, None, "old-layers")
    assert spelled(whole, None, "ceil_mode")[0].layers[-1].param["ceil_mode"] is False
