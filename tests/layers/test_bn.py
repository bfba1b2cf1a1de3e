"""BN of three forks, by nested loops."""

import numpy as np
import pytest

from resnet_proto.engine import forward
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import ShapeError
from resnet_proto.layers import BN, Convolution, Input, ReLU
from resnet_proto.net import Net
from resnet_proto.weights import random_weights

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (2, 3, 7, 5))
SLOPE, BIAS, MEAN = RNG.normal(size=(3, 1, 3, 1, 1))
VARIANCE = RNG.uniform(0.1, 2, (1, 3, 1, 1))
FILLER = {"value": 1.0}


def by_loops(mean, variance, eps):
    y = np.empty_like(X)
    for n, c, h, w in np.ndindex(X.shape):
        centred = X[n, c, h, w] - mean.flat[c]
        y[n, c, h, w] = SLOPE.flat[c] * centred / (variance.flat[c] + eps) ** 0.5 + BIAS.flat[c]
    return y


@pytest.mark.parametrize(
    ("fields", "eps"),
    [
        ({}, 1e-5),
        ({"slope_filler": FILLER, "frozen": True, "momentum": 0.95, "eps": 0.25}, 0.25),
        ({"scale_filler": FILLER, "moving_average": True, "decay": 0.05}, 1e-10),
        ({"moving_average": True, "var_eps": 0.25, "eps": 4.0}, 0.25),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stored_statistics(fields, eps, dtype):
    blobs = [blob.astype(dtype) for blob in (SLOPE, BIAS, MEAN, VARIANCE)]

    (y,) = BN.of("b", "x", "y", **fields).forward([X.astype(dtype)], blobs)

    assert y.dtype == dtype
    np.testing.assert_allclose(y, by_loops(MEAN, VARIANCE, eps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "blobs", "eps"),
    [
        ({"decay": 0.05, "var_eps": 0.25}, (SLOPE, BIAS, np.full(3, np.nan), np.ones(3)), 0.25),
        ({"scale_filler": FILLER, "shift_filler": FILLER}, (SLOPE, BIAS), 1e-9),
        ({"bn_mode": "LEARN"}, (SLOPE, BIAS), 1e-9),
    ],
)
def test_statistics_of_the_batch(fields, blobs, eps):
    """Where PSPNet's first has no moving average; and as SegNet learns."""
    mean = np.array([X[:, c].mean() for c in range(3)])
    variance = np.array([((X[:, c] - mean[c]) ** 2).mean() for c in range(3)])

    (y,) = BN.of("b", "x", "y", **fields).forward([X], list(blobs))

    np.testing.assert_allclose(y, by_loops(mean, variance, eps), rtol=1e-6, atol=1e-9)


def test_inference_of_segnet_is_a_factor_and_an_offset():
    layer = BN.of("b", "x", "y", scale_filler=FILLER, shift_filler=FILLER, bn_mode="INFERENCE")

    (y,) = layer.forward([X], [SLOPE, BIAS])

    np.testing.assert_allclose(y, SLOPE * X + BIAS, rtol=1e-12, atol=1e-12)
    assert layer.blob_shapes([X.shape]) == {"weight": (1, 3, 1, 1), "bias": (1, 3, 1, 1)}


def test_blobs():
    shapes = BN.of("b", "x", "y", frozen=True).blob_shapes([X.shape])

    assert shapes == dict.fromkeys(("weight", "bias", "mean", "variance"), (1, 3, 1, 1))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 7)])
def test_fewer_axes(shape):
    """SegNet's gives four (``top[0]->Reshape``), PSPNet's as many as there are (ReshapeLike)."""
    whole, segnet = BN.of("b", "x", "y"), BN.of("b", "x", "y", bn_mode="INFERENCE")
    x = X[:2, :3, :, 0] if len(shape) == 3 else X[:2, :3, 0, 0]

    (y,) = whole.forward([x], [SLOPE, BIAS, MEAN, VARIANCE])
    (z,) = segnet.forward([x], [SLOPE, BIAS])

    assert [y.shape] == whole.top_shapes([shape]) == [shape]
    assert [z.shape] == segnet.top_shapes([shape]) == [(*shape, 1, 1)[:4]]


@pytest.mark.parametrize("fields", [{"eps": 0.25}, {"bn_mode": "INFERENCE"}])
def test_is_folded_into_a_convolution(fields):
    net = Net(
        "n",
        (
            Input.of("x", (), "x", shape={"dim": X.shape}),
            Convolution.of("c", "x", "c", num_output=3, kernel_size=(3, 2)),
            BN.of("b", "c", "c", **fields),
            ReLU.of("r", "c", "c"),
        ),
    )
    weights = random_weights(net)
    plan = Plan(net, weights)

    assert len(plan.prepare(["c"]).tasks) == 1
    (y,) = plan.run(X, ["c"]).values()
    (expected,) = forward(net, weights, X, outputs=["c"], dtype="float64").values()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_more_axes_are_refused():
    with pytest.raises(ShapeError, match="at most 4 axes"):
        BN.of("b", "x", "y").top_shapes([(2, 3, 7, 5, 1)])
