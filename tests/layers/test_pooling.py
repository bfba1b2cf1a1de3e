"""Pooling against nested loops: rounding up, clipping, the divisor at the border, the mask."""

import math
from dataclasses import replace

import numpy as np
import pytest

from resnet_proto.engine import forward, run
from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import Input, Pooling, make_layer
from resnet_proto.net import Net
from resnet_proto.words import Word

X = np.random.default_rng(0).normal(size=(2, 3, 7, 5))
SIZES = {"kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 1, "pad_h": 1, "pad_w": 0}


def windows(size, kernel, stride, pad, out):
    """Per axis, for each window: the rows it sees, and how many it counts."""
    for o in range(out):
        start = o * stride - pad
        seen = [i for i in range(start, start + kernel) if 0 <= i < size]
        yield seen, min(start + kernel, size + pad) - start


def looped(x, pool, kernel, stride, pad, out):
    y = np.empty((*x.shape[:2], *out))
    axes = [
        list(windows(*axis)) for axis in zip(x.shape[2:], kernel, stride, pad, out, strict=True)
    ]
    for n, c, r, k in np.ndindex(*y.shape):
        (rows, height), (columns, width) = axes[0][r], axes[1][k]
        seen = [x[n, c, i, j] for i in rows for j in columns]
        y[n, c, r, k] = max(seen) if pool == "MAX" else math.fsum(seen) / (height * width)
    return y


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [
        ((3, 2), (2, 1), (1, 0)),
        ((3, 3), (2, 2), (0, 0)),
        ((3, 4), (3, 2), (2, 1)),
        ((2, 5), (2, 3), (1, 3)),
        ((6, 4), (3, 2), (0, 3)),  # fewer windows than values in one
    ],
)
def test_is_what_nested_loops_give(pool, kernel, stride, pad):
    """Rounded up; the divisor counts padding, but no further than size + pad."""
    fields = zip(("kernel", "stride", "pad"), (kernel, stride, pad), strict=True)
    sides = {
        f"{name}_{side}": v for name, pair in fields for side, v in zip("hw", pair, strict=True)
    }
    layer = Pooling.of("p", "x", "y", pool=pool, **sides)
    (shape,) = layer.top_shapes([X.shape])

    (y,) = layer.forward([X], [])

    np.testing.assert_allclose(y, looped(X, pool, kernel, stride, pad, shape[2:]))


@pytest.mark.parametrize(
    ("size", "fields", "out"),
    [
        (112, {"kernel_size": 3, "stride": 2}, 56),  # 54.5 windows, rounded up
        (112, {"kernel_size": 3, "stride": 2, "pad": 1}, 57),
        (112, {"kernel_size": 3, "stride": 2, "round_mode": "FLOOR"}, 55),
        (4, {"kernel_size": 2, "stride": 2, "pad": 1}, 3),
        (5, {"kernel_size": 2, "stride": 3, "pad": 1}, 2),  # a third would start outside: clipped
        (2, {"kernel_size": 3, "stride": 2}, 1),
        (32, {"kernel_size": 1, "stride": 2}, 17),  # not clipped without pad
    ],
)
def test_output_size(size, fields, out):
    (shape,) = Pooling.of("p", "x", "y", **fields).top_shapes([(2, 3, size, size)])

    assert shape == (2, 3, out, out)


def test_average_of_a_corner():
    """Drawn: with pad 1 the corner's window of 2x2 holds one value and counts four."""
    layer = Pooling.of("p", "x", "y", pool="AVE", kernel_size=2, stride=2, pad=1)
    x = np.array([[[[4.0, 8.0, 12.0], [16.0, 20.0, 24.0], [28.0, 32.0, 36.0]]]])

    (y,) = layer.forward([x], [])

    # 4/4             (8+12)/4
    # (16+28)/4       (20+24+32+36)/4
    assert y.tolist() == [[[[1.0, 5.0], [11.0, 28.0]]]]


def test_mask_is_the_place_of_the_first_maximum():
    """The second top, h * W + w as a float."""
    layer = make_layer(
        "p",
        "Pooling",
        ("x",),
        ("y", "m"),
        {"pooling_param": {"kernel_size": 2, "stride": 2, "pad": 1}},
    )
    x = np.array([[[[1.0, 5.0, 5.0], [2.0, 7.0, 3.0]]]], np.float32)

    y, mask = layer.forward([x], [])

    assert y.tolist() == [[[[1.0, 5.0], [2.0, 7.0]]]]
    assert mask.tolist() == [[[[0.0, 1.0], [3.0, 4.0]]]]
    assert mask.dtype == np.float32


def test_nothing_below_the_lowest_float_wins():
    """NaN and -inf lose against -FLT_MAX, and have no place."""
    layer = make_layer("p", "Pooling", ("x",), ("y", "m"), {"pooling_param": {"kernel_size": 2}})
    x = np.array([[[[np.nan, -np.inf, 3.0], [-np.inf, np.nan, np.nan]]]], np.float32)

    y, mask = layer.forward([x], [])

    assert y.tolist() == [[[[-float(np.finfo(np.float32).max), 3.0]]]]
    assert mask.tolist() == [[[[-1.0, 2.0]]]]


def test_global_pooling_takes_the_map():
    (y,) = Pooling.of("p", "x", "y", pool="AVE", global_pooling=True).forward([X], [])

    np.testing.assert_allclose(y[:, :, 0, 0], X.mean(axis=(2, 3)))


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (4, 3)),
        ({"ceil_mode": True}, (4, 3)),
        ({"ceil_mode": False}, (3, 2)),
        ({"round_mode": "FLOOR"}, (3, 2)),
        ({"ceil_mode": False, "round_mode": "FLOOR"}, (3, 2)),
        ({"ceil_mode": True, "round_mode": "CEIL"}, (4, 3)),
    ],
)
def test_ceil_mode_is_round_mode_of_forks(fields, size):
    """Kernel 2 and stride 2 on 7x5: 3.5 and 2.5 steps."""
    layer = Pooling.of("p", "x", "y", kernel_size=2, stride=2, **fields)

    assert layer.top_shapes([X.shape]) == [(2, 3, *size)]


@pytest.mark.parametrize(("ceil", "mode"), [(True, "FLOOR"), (False, "CEIL")])
def test_ceil_mode_against_round_mode(ceil, mode):
    layer = Pooling.of("p", "x", "y", kernel_size=2, ceil_mode=ceil, round_mode=mode)

    with pytest.raises(ShapeError, match=f"round_mode: {mode} and ceil_mode: .* contradict"):
        layer.top_shapes([X.shape])


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_window_outside_the_image_is_refused(pool):
    """Caffe gives -FLT_MAX or NaN there; 32 rows, kernel 1 and stride 2 make 17 windows."""
    layer = Pooling.of("p", "x", "y", pool=pool, kernel_size=1, stride=2)
    layer.forward([np.zeros((1, 1, 31, 31))], [])

    with pytest.raises(ShapeError, match="the last of 17 windows starts at 32, outside 32 rows"):
        layer.forward([np.zeros((1, 1, 32, 32))], [])


@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 2), (2, 1)), ((2, 4), (2, 3)), ((1, 1), (1, 2)), ((7, 5), (1, 1))]
)
@pytest.mark.parametrize("lowest", [0.0, -0.5])
def test_stochastic_is_what_the_cuda_kernel_gives(kernel, stride, lowest):
    """Nested loops as StoPoolForwardTest has them: pooling_layer.cu. Caffe's CPU path aborts."""
    x = np.random.default_rng(1).uniform(lowest, 1, (2, 3, 7, 5))
    x[0, 0] = 0
    sides = {"kernel_h": kernel[0], "kernel_w": kernel[1]}
    sides |= {"stride_h": stride[0], "stride_w": stride[1]}
    layer = Pooling.of("p", "x", "y", pool="STOCHASTIC", **sides)
    (shape,) = layer.top_shapes([x.shape])
    expected = np.zeros(shape)
    for n, c, ph, pw in np.ndindex(*shape):
        total = squares = 0.0
        for h in range(ph * stride[0], min(ph * stride[0] + kernel[0], 7)):
            for w in range(pw * stride[1], min(pw * stride[1] + kernel[1], 5)):
                total += x[n, c, h, w]
                squares += x[n, c, h, w] ** 2
        if total > 0:
            expected[n, c, ph, pw] = squares / total

    (y,) = layer.forward([x], [])

    np.testing.assert_allclose(y, expected)
    assert (y == 0).any()
    assert (y > 0).any()


def test_stochastic_in_a_net():
    """The engines that are ours compute it, in silence; it is never folded away."""
    data = Input.of("in", (), "x", shape={"dim": X.shape})
    layer = Pooling.of("p", "x", "y", pool="STOCHASTIC", kernel_size=2)
    net, x = Net("n", (data, layer)), {"x": np.maximum(X, 0)}

    plain, planned = forward(net, {}, x, dtype="float64"), run("numpy", net, {}, x)

    np.testing.assert_allclose(planned["y"], plain["y"], rtol=1e-6)

    layer = replace(layer, fields={**layer.fields, "phase": Word("TRAIN")})
    with pytest.raises(NetError, match=r"\(Pooling\) draws at random in Caffe, .* leave its phase"):
        forward(Net("n", (data, layer)), {}, x)


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"kernel_size": 3, "pad": 3}, {"kernel_size": 3, "pad": 2}, "must be smaller than kernel"),
        ({"kernel_h": 3}, {"kernel_h": 3, "kernel_w": 2}, "go together"),
        ({"kernel_h": 3}, {"kernel_h": 3, "kernel_size": 2}, "go together"),
        ({"stride": 2}, {"kernel_size": 1}, "kernel is 0x0"),
        (
            {"kernel_size": 2, "stride": 2, "stride_h": 1},
            {"kernel_size": 2, "stride": 2},
            "go together",
        ),
        ({"global_pooling": True, "kernel_size": 2}, {"global_pooling": True}, "whole map"),
        ({"global_pooling": True, "pad": 1}, {"global_pooling": True, "pad": 0}, "pad"),
        (
            {"kernel_size": 9},
            {"kernel_size": 9, "pad": 2},
            "9x9 is too large, the bottom with its pad has 7x5",
        ),
        ({"pool": "STOCHASTIC", "kernel_size": 3, "pad": 1}, {"kernel_size": 3, "pad": 1}, "pad"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    Pooling.of("p", "x", "y", **accepted).top_shapes([X.shape])

    with pytest.raises(ShapeError, match=message):
        Pooling.of("p", "x", "y", **refused).top_shapes([X.shape])


def test_only_the_maximum_has_a_mask():
    fields = {"pool": "AVE", "kernel_size": 2}
    assert (
        len(make_layer("p", "Pooling", "x", "y", {"pooling_param": fields}).top_shapes([X.shape]))
        == 1
    )

    with pytest.raises(ShapeError, match="only MAX has a mask"):
        make_layer("p", "Pooling", "x", ("y", "m"), {"pooling_param": fields}).top_shapes([X.shape])
