"""Deconvolution against nested loops, over any number of spatial axes."""

import numpy as np
import pytest

from resnet_proto.errors import ShapeError
from resnet_proto.layers import Convolution, Deconvolution

RNG = np.random.default_rng(0)


def looped(x, weight, bias, group, kernel, stride, pad, dilation, out):
    """Every value adds its kernel, one product at a time. x is (N, C, ...)."""
    y = np.zeros((len(x), *out))
    y += bias.reshape(-1, *(1 for _ in kernel))
    inputs, outputs = x.shape[1] // group, out[0] // group
    for n, c, *place in np.ndindex(*x.shape):
        for o in range(outputs):
            for tap in np.ndindex(*kernel):
                to = [
                    a * s + t * d - p
                    for a, s, t, d, p in zip(place, stride, tap, dilation, pad, strict=True)
                ]
                if all(0 <= a < size for a, size in zip(to, out[1:], strict=True)):
                    y[(n, c // inputs * outputs + o, *to)] += (
                        x[(n, c, *place)] * weight[(c, o, *tap)]
                    )
    return y


@pytest.mark.parametrize(
    ("spatial", "kernel", "stride", "pad", "dilation", "out"),
    [
        ((7, 5), (3, 2), (2, 1), (1, 0), (1, 1), (13, 6)),
        ((4, 5), (4, 3), (2, 3), (1, 2), (1, 2), (8, 13)),
        ((3, 2), (1, 1), (1, 1), (0, 0), (1, 1), (3, 2)),
        ((6,), (3,), (4,), (2,), (3,), (23,)),
        ((2, 4, 3), (2, 1, 3), (1, 2, 3), (0, 0, 1), (2, 1, 1), (4, 7, 7)),
        ((), (), (), (), (), ()),
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_is_what_nested_loops_give(spatial, kernel, stride, pad, dilation, out, group):
    fields = {"kernel_size": kernel, "stride": stride, "pad": pad, "dilation": dilation}
    fields = fields if spatial else {"kernel_size": (1,)}
    layer = Deconvolution.of("d", "x", "y", num_output=6, group=group, **fields)
    x = RNG.normal(size=(2, 4, *spatial))
    shapes = layer.blob_shapes([x.shape])
    weight, bias = (RNG.normal(size=shape) for shape in shapes.values())

    (y,) = layer.forward([x], [weight, bias])

    assert shapes == {"weight": (4, 6 // group, *kernel), "bias": (6,)}
    assert layer.top_shapes([x.shape]) == [(2, 6, *out)] == [y.shape]
    expected = looped(x, weight, bias, group, kernel, stride, pad, dilation, (6, *out))
    np.testing.assert_allclose(y, expected)


def test_channels_on_another_axis():
    """Everything before the channels is a batch."""
    fields = {"num_output": 3, "kernel_size": 2, "stride": 3}
    layer = Deconvolution.of("d", "x", "y", axis=2, **fields)
    x = RNG.normal(size=(2, 5, 4, 3, 6))
    blobs = [RNG.normal(size=shape) for shape in layer.blob_shapes([x.shape]).values()]

    (y,) = layer.forward([x], blobs)

    (flat,) = Deconvolution.of("d", "x", "y", **fields).forward([x.reshape(10, 4, 3, 6)], blobs)
    assert y.shape == (2, 5, 3, 8, 17)
    np.testing.assert_array_equal(y, flat.reshape(y.shape))


def test_is_the_transpose_of_a_convolution():
    """<conv(a), b> = <a, deconv(b)> with the same weight."""
    fields = {"kernel_size": (3, 2), "stride": (2, 1), "pad": (1, 0), "bias_term": False}
    conv = Convolution.of("c", "x", "y", num_output=4, **fields)
    deconv = Deconvolution.of("d", "y", "x", num_output=3, **fields)
    a, b = RNG.normal(size=(2, 3, 7, 5)), RNG.normal(size=(2, 4, 4, 4))
    weight = RNG.normal(size=(4, 3, 3, 2))

    (there,), (back,) = conv.forward([a], [weight]), deconv.forward([b], [weight])

    assert np.vdot(there, b) == pytest.approx(np.vdot(a, back))


def test_figures():
    layer = Deconvolution.of("d", ("a", "b"), ("y", "z"), num_output=6, kernel_size=3, group=2)
    shapes = [(2, 4, 7, 5)] * 2
    tops, blobs = layer.top_shapes(shapes), layer.blob_shapes(shapes)

    assert layer.blob_names(2) == ("weight", "bias")
    assert layer.macs(shapes, tops, blobs) == 2 * (2 * 4 * 7 * 5) * (3 * 3 * 3)


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ({"kernel_size": 3, "pad": 4}, {"kernel_size": 3, "pad": 3}, "pad 4x4 leaves nothing"),
        ({"kernel_size": 3, "group": 3}, {"kernel_size": 3, "group": 2}, "group 3 does not divide"),
        ({"kernel_size": ()}, {"kernel_size": 1}, "kernel_size has 0 values"),
        ({"kernel_size": 2, "stride": 0}, {"kernel_size": 2, "stride": 1}, "stride is 0x0"),
    ],
)
def test_refused_and_accepted(refused, accepted, message):
    Deconvolution.of("d", "x", "y", num_output=4, **accepted).top_shapes([(2, 4, 6, 5)])

    with pytest.raises(ShapeError, match=message):
        Deconvolution.of("d", "x", "y", num_output=4, **refused).top_shapes([(2, 4, 6, 5)])
