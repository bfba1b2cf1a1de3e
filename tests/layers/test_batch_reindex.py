"""BatchReindex: images by number, again and again."""

import numpy as np
import pytest

from resnet_proto.errors import NetError, ShapeError
from resnet_proto.layers import BatchReindex

LAYER = BatchReindex.of("b", ("x", "i"), "y")
X = np.random.default_rng(0).normal(size=(3, 2, 5))


def test_images():
    (y,) = LAYER.forward([X, np.array([2.0, 0.0, 2.0, 1.0])], [])

    assert LAYER.top_shapes([X.shape, (4,)]) == [y.shape] == [(4, 2, 5)]
    for image, n in zip(y, (2, 0, 2, 1), strict=True):
        np.testing.assert_array_equal(image, X[n])


@pytest.mark.parametrize("number", [-1.0, 3.0])
def test_no_such_image(number):
    with pytest.raises(NetError, match="where a number from 0 to 2 is needed"):
        LAYER.forward([X, np.array([0.0, number])], [])


@pytest.mark.parametrize("shapes", [[(3, 2), (4, 1)], [(), (4,)]])
def test_refused(shapes):
    with pytest.raises(ShapeError, match=r"takes \(N, ...\) and \(M,\)"):
        LAYER.top_shapes(shapes)
