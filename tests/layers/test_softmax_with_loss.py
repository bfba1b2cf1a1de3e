"""SoftmaxWithLoss: what is summed, what is left out, what it is divided by."""

import math

import numpy as np
import pytest

from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import SoftmaxWithLoss, make_layer
from resnet_proto.net import Net

RNG = np.random.default_rng(0)


def loss(tops="a", **fields):
    return SoftmaxWithLoss.of("loss", ("x", "label"), tops, **fields)


def summed(x, label, axis, ignored):
    """The sum over all places, and how many count."""
    total, n = 0.0, 0
    for place in np.ndindex(*label.shape):
        scores = np.moveaxis(x, axis, -1)[place].tolist()
        if label[place] != ignored:
            exps = [math.exp(score) for score in scores]
            total -= math.log(exps[label[place]] / sum(exps))
            n += 1
    return total, n


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_place_by_place(axis, ignored, dtype):
    x = RNG.normal(size=(2, 3, 4, 5)).astype(dtype)
    rest = [size for i, size in enumerate(x.shape) if i != axis % 4]
    label = RNG.integers(0, x.shape[axis], rest)
    fields = {"axis": axis} | ({} if ignored is None else {"ignore_label": ignored})
    total, n = summed(x, label, axis, ignored)
    everything, outer = label.size, int(np.prod(x.shape[: axis % 4]))

    for more, divisor in (
        ({}, n),
        ({"normalization": "VALID"}, n),
        ({"normalization": "FULL"}, everything),
        ({"normalization": "BATCH_SIZE"}, outer),
        ({"normalization": "NONE"}, 1),
        ({"normalize": True}, n),
        ({"normalize": False}, outer),
        ({"normalize": False, "normalization": "FULL"}, everything),
    ):
        (y,) = loss(**fields, **more).forward([x, label.astype(dtype)], [])
        assert (y.shape, y.dtype) == ((), dtype)
        assert y == pytest.approx(total / divisor, rel=1e-6), more


def test_ends_of_the_scale():
    """Nothing to count gives 0; a probability of 0 counts as the least float."""
    x = np.array([[0.0, 1000.0]])

    assert loss(ignore_label=0).forward([x, np.zeros(1)], [])[0] == 0
    assert loss().forward([x, np.zeros(1)], [])[0] == pytest.approx(126 * math.log(2))


def test_tops():
    """None: Caffe makes one that has no name. Two: Caffe ends."""
    shapes = [(2, 3), (2,)]
    assert loss(()).top_shapes(shapes) == []
    assert loss(()).forward([np.ones((2, 3)), np.ones(2)], []) == []
    assert loss().top_shapes(shapes) == [()]

    with pytest.raises(ShapeError, match="cannot set up its second top; use a Softmax"):
        loss(("a", "b")).top_shapes(shapes)


@pytest.mark.parametrize(("tops", "n"), [((), 1), (("a",), 1), (("a",), 2), ((), 2)])
def test_loss_weight_counts_the_top_without_a_name(tops, n):
    data = make_layer("in", "Input", (), ("x", "label"), {
        "input_param": {"shape": ({"dim": (2, 3)}, {"dim": (2,)})}
    })  # fmt: skip
    fields = {"loss_weight": (1.0,) * n}
    net = Net("n", (data, make_layer("l", "SoftmaxWithLoss", ("x", "label"), tops, fields)))

    if n == 1:
        assert len(list(net.walk())) == 2
    else:
        with pytest.raises(ShapeError, match="has 2 loss_weight for 1 top;"):
            list(net.walk())


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3), (3,)], "need the same first size"),
        ([(2, 3), ()], "need the same first size"),
        ([(2, 3, 5), (2,)], "labels are 2; for 2x3x5 and axis 1 10 are needed"),
    ],
)
def test_refused_and_accepted(shapes, message):
    assert loss().top_shapes([(2, 3, 5), (2, 1, 5)]) == [()]

    with pytest.raises(ShapeError, match=message):
        loss().top_shapes(shapes)


def test_no_such_class():
    with pytest.raises(NetError, match="is given 3 where a number from 0 to 2 is needed"):
        loss().forward([np.ones((2, 3)), np.array([0.0, 3.0])], [])


def test_defaults_of_both_messages():
    """A net that spells them out is the same net."""
    plain = Net("n", (loss(),))
    spelled = Net("n", (loss(axis=1, normalization="VALID"),))

    assert plain != spelled
    assert plain.canonical() == spelled.canonical()
    assert plain.canonical() != Net("n", (loss(normalization="FULL"),)).canonical()
