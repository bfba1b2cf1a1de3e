"""BatchNorm: stored statistics, batch statistics, and the factor between them."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import BatchNorm
from resnet_proto.words import Word

X = np.random.default_rng(0).normal(3, 2, (2, 3, 7, 5))


def test_stored_statistics_are_divided_by_the_factor():
    """Channel by channel, with the sums that Caffe stores."""
    mean, variance, factor = np.array([1.0, -2.0, 3.0]), np.array([0.5, 4.0, 9.0]), 999.98
    layer = BatchNorm.of("b", "x", "y", eps=0.25)

    (y,) = layer.forward([X], [mean * factor, variance * factor, np.array([factor])])

    for c in range(3):
        np.testing.assert_allclose(y[:, c], (X[:, c] - mean[c]) / (variance[c] + 0.25) ** 0.5)


def test_factor_zero_is_not_the_identity():
    """Mean 0 and variance 0 leave x / sqrt(eps): 316.2 times x."""
    layer = BatchNorm.of("b", "x", "y")

    (y,) = layer.forward([X], [np.ones(3), np.ones(3), np.zeros(1)])
    (z,) = layer.forward([X], [np.full(3, np.nan), np.full(3, np.inf), np.zeros(1)])

    np.testing.assert_allclose(y, X * 316.22777, rtol=1e-6)
    np.testing.assert_array_equal(z, y)


def test_use_global_stats_false_takes_the_batch():
    """Also at TEST; the variance is the biased one. The blobs do not count."""
    layer = BatchNorm.of("b", "x", "y", use_global_stats=False, eps=0.0)

    (y,) = layer.forward([X], [np.full(3, np.nan), np.full(3, np.nan), np.ones(1)])

    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(np.square(y).sum(axis=(0, 2, 3)), 2 * 7 * 5)


@pytest.mark.parametrize(
    ("phase", "use_global_stats", "is_global"),
    [("TEST", None, True), ("TRAIN", None, False), ("TRAIN", True, True), ("TEST", False, False)],
)
def test_phase_of_the_layer(phase, use_global_stats, is_global):
    """Its own phase decides where use_global_stats is not set: batch_norm_layer.cpp, LayerSetUp.

    The Caffe of the other tests has no batch statistics: tests/oracles/test_training.py.
    """
    own = {} if use_global_stats is None else {"use_global_stats": use_global_stats}
    layer = BatchNorm(
        "b", "BatchNorm", ("x",), ("y",), {"batch_norm_param": own, "phase": Word(phase)}
    )
    x = np.random.default_rng(0).normal(2, 3, (2, 3, 7, 5))
    blobs = [np.zeros(3), np.ones(3), np.ones(1)]

    (y,) = layer.forward([x], blobs)

    expected = (
        x if is_global else (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 7, 5), (2, 3, 2, 4, 5)])
def test_channels_are_axis_1(shape):
    layer = BatchNorm.of("b", "x", "y", eps=0.0)
    x = np.ones(shape, np.float32)

    (y,) = layer.forward(
        [x], [np.zeros(3, np.float32), np.float32([1, 4, 16]), np.ones(1, np.float32)]
    )

    assert y.dtype == np.float32
    np.testing.assert_array_equal(np.unique(np.moveaxis(y, 1, 0)[1]), [0.5])


@pytest.mark.parametrize(
    ("fields", "n_inside"),
    [
        ({}, 0),
        ({"scale_bias": True}, 2),  # NVIDIA's
        ({"scale_filler": {"value": 1.0}}, 2),
        ({"bias_filler": {"value": 0.0}}, 2),
        ({"use_weight_bias": True}, 2),  # Intel's
        ({"filler": {"value": 1.0}}, 2),
        ({"use_weight_bias": True, "bias_term": False}, 1),
        ({"bias_term": False}, 1),
        ({"use_weight_bias": False, "filler": {"value": 1.0}}, 0),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_gamma_and_beta_inside(fields, n_inside, stored):
    """After the statistics, in both forks; what each channel becomes by their formula."""
    layer = BatchNorm.of("b", "x", "y", eps=0.25, use_global_stats=stored, **fields)
    mean, variance = np.array([1.0, -2.0, 3.0]), np.array([0.5, 4.0, 9.0])
    inside = [np.array([2.0, 0.5, -1.0]), np.array([0.25, -3.0, 1.0])][:n_inside]

    (y,) = layer.forward([X], [mean * 4, variance * 4, np.array([4.0]), *inside])

    assert (
        list(layer.blob_shapes([X.shape]).values())
        == [(3,), (3,), (1,), (3,), (3,)][: 3 + n_inside]
    )
    gamma, beta = [*inside, np.ones(3), np.zeros(3)][:2] if n_inside != 1 else (*inside, [0] * 3)
    for c in range(3):
        m, v = (mean[c], variance[c]) if stored else (X[:, c].mean(), X[:, c].var())
        expected = gamma[c] * (X[:, c] - m) / (v + 0.25) ** 0.5 + beta[c]
        np.testing.assert_allclose(y[:, c], expected)


def test_needs_a_channel_axis():
    assert BatchNorm.of("b", "x", "y").top_shapes([(2, 3)]) == [(2, 3)]

    with pytest.raises(ShapeError, match="channel axis"):
        BatchNorm.of("b", "x", "y").top_shapes([(2,)])
