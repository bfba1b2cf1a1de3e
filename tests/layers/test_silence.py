"""Silence: reads, and makes nothing."""

import numpy as np
import pytest

from resnet_proto.engine import forward
from resnet_proto.errors import ShapeError
from resnet_proto.layers import Input, Silence
from resnet_proto.net import Net

DATA = Input.of("in", (), ("a", "b"), shape=({"dim": (2, 3)}, {"dim": (4,)}))


def test_reads_any_blobs():
    net = Net("n", (DATA, Silence.of("quiet", ("a", "b"), ())))

    blobs = forward(net, {}, {"a": np.ones((2, 3)), "b": np.ones(4)})

    assert list(blobs) == ["a", "b"]


def test_no_top():
    net = Net("n", (DATA, Silence.of("quiet", ("a", "b"), "c")))

    with pytest.raises(ShapeError, match="takes 0 tops, has 1"):
        list(net.walk())
