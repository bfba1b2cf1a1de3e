"""``convert --floor``: the prototxt that is written beside the caffemodel, and the proof."""

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto import forward, load, random_weights, read_prototxt, save
from resnet_proto.cli import main

DEPLOY = """
layer { name: "in" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 12 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 6 } }
"""
NET = read_prototxt(DEPLOY)
WEIGHTS = random_weights(NET)


@pytest.mark.parametrize(
    ("dialect", "word", "blobs"),
    [
        ("round_mode", "round_mode: FLOOR", 4),
        ("ceil_mode", "ceil_mode: false", 4),
        ("old-layers", 'name: "pool_floor"', 5),
    ],
)
def test_floor(tmp_path, dialect, word, blobs):
    (tmp_path / "net.prototxt").write_text(DEPLOY)
    save(tmp_path / "in.caffemodel", WEIGHTS, NET)
    out = tmp_path / "out.caffemodel"
    args = [tmp_path / "in.caffemodel", out, "--net", tmp_path / "net.prototxt"]

    result = CliRunner().invoke(main, ["convert", *map(str, args), "--floor", dialect])

    assert result.exit_code == 0, result.output
    assert "the new net against the old, random input: 3 blobs within 1e-05" in result.stderr
    text = (tmp_path / "out.prototxt").read_text()
    words = ("round_mode: FLOOR", "ceil_mode: false", 'name: "pool_floor"')
    assert [x for x in words if x in text] == [word]
    weights = load(out)
    assert len(weights) == blobs
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 9)).astype(np.float32)
    ours, theirs = forward(read_prototxt(text), weights, x), forward(NET, WEIGHTS, x)
    assert np.array_equal(ours["fc"], theirs["fc"])
