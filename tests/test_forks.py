"""Which fork a net needs; and pieces of nets as the forks' own authors write them, which run."""

import numpy as np
import pytest
import wild

from resnet_proto.engine import forward
from resnet_proto.engine.planned import Plan
from resnet_proto.forks import needs
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.weights import random_weights


def net(*lines, shape="dim: 2 dim: 3 dim: 15 dim: 12"):
    return wild.data(shape) + "".join(lines)


def conv(type, name, bottom, fields):
    return wild.layer(type, name, bottom, more=f"convolution_param {{ {fields} }}")


FILLERS = "slope_filler { type: 'constant' value: 1 } bias_filler { type: 'constant' value: 0 }"
SCALES = "scale_filler { type: 'constant' value: 1 } shift_filler { type: 'constant' value: 0.001 }"
NETS = {
    # github hujie-frank/SENet
    "SENet": net(
        conv("Convolution", "up", "data", "num_output: 6 kernel_size: 1"),
        conv("Convolution", "proj", "data", "num_output: 6 kernel_size: 1"),
        wild.layer("Pooling", "squeeze", "up",
                   more="pooling_param { pool: AVE engine: CAFFE global_pooling: true }"),
        conv("Convolution", "down", "squeeze", "num_output: 6 kernel_size: 1"),
        wild.layer("Sigmoid", "gate", "down"),
        wild.layer("Axpy", "sum", "gate up proj"),
    ),
    # github hszhao/PSPNet, evaluation/prototxt, its second form and its first
    "PSPNet": net(
        wild.layer("BN", "bn", "data", "data",
                   f"bn_param {{ {FILLERS} frozen: true momentum: 0.95 }}"),
        wild.layer("Pooling", "pool", "data",
                   more="pooling_param { pool: AVE kernel_size: 5 stride: 5 }"),
        wild.layer("Interp", "interp", "pool", more="interp_param { height: 15 width: 12 }"),
        wild.layer("Interp", "zoom", "interp", more="interp_param { zoom_factor: 8 }"),
    ),
    "PSPNet's first": net(
        wild.layer("BN", "bn", "data", "data",
                   f"bn_param {{ {SCALES} moving_average: true decay: 0.05 }}"),
    ),
    # github alexgkendall/SegNet-Tutorial
    "SegNet": net(
        wild.layer("BN", "bn", "data", "data", f"bn_param {{ {SCALES} bn_mode: INFERENCE }}"),
        "layer { name: 'pool' type: 'Pooling' bottom: 'data' top: 'pool' top: 'pool_mask' "
        "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }",
        wild.layer("Upsample", "up", "pool pool_mask", "pool_D",
                   "upsample_param { scale: 2 upsample_w: 12 upsample_h: 15 }"),
    ),
    # github farmingyard/ShuffleNet: with a group and without
    "ShuffleNet": net(
        conv("Convolution", "wide", "data", "num_output: 6 kernel_size: 1"),
        wild.layer("ShuffleChannel", "shuffle", "wide", more="shuffle_channel_param { group: 3 }"),
        conv("ConvolutionDepthwise", "a", "shuffle",
             "num_output: 6 kernel_size: 3 stride: 2 pad: 1 bias_term: false"),
        conv("ConvolutionDepthwise", "b", "a",
             "num_output: 6 kernel_size: 3 stride: 1 pad: 1 group: 6 bias_term: false"),
    ),
    # github yonghenglh6/DepthwiseConvolution, chinakook/relu6.caffe
    "MobileNet": net(
        conv("DepthwiseConvolution", "dw", "data",
             "num_output: 3 bias_term: false pad: 1 kernel_size: 3 group: 3 stride: 1"),
        wild.layer("ReLU6", "relu", "dw", "dw"),
    ),
    # github weiliu89/caffe, branch ssd
    "SSD": net(
        wild.layer("Normalize", "norm", "data", more="norm_param { across_spatial: false "
                   "scale_filler { type: 'constant' value: 20 } channel_shared: false }"),
        wild.layer("Permute", "perm", "norm",
                   more="permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    ),
    # github soeaver/caffe-model
    "FPN": net(
        wild.layer("Pooling", "pool", "data",
                   more="pooling_param { kernel_size: 3 stride: 2 pad: 1 ceil_mode: false }"),
        wild.layer("Interp", "interp", "pool data", more="interp_param { use_blob_size: true }"),
    ),
    # github intel/caffe
    "Intel": net(
        wild.layer("BatchNorm", "bn", "data", "data",
                   "batch_norm_param { moving_average_fraction: 0.9 filler { value: 1 } "
                   "use_weight_bias: true bias_term: true }"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_nets_of_forks(name):
    """Read without --lenient, written back, run; the planned engine agrees."""
    given = read_prototxt(NETS[name])
    weights = random_weights(given)
    x = np.random.default_rng(0).normal(size=(2, 3, 15, 12)).astype(np.float32)

    blobs = forward(given, weights, x)

    assert read_prototxt(to_prototxt(given)) == given
    assert blobs.keys() == {top for layer in given.layers for top in layer.tops}
    for blob, value in Plan(given, weights).run(x).items():
        np.testing.assert_allclose(value, blobs[blob], rtol=1e-4, atol=1e-4)


def test_needs():
    """A net of mainline types needs none."""
    types = {name: {line.split(":")[0].strip() for line in needs(read_prototxt(text))[1:]}
             for name, text in NETS.items()}  # fmt: skip

    assert types == {
        "SENet": {"Axpy"},
        "PSPNet": {"BN", "Interp"},
        "PSPNet's first": {"BN"},
        "SegNet": {"BN", "Upsample"},
        "ShuffleNet": {"ConvolutionDepthwise", "ShuffleChannel"},
        "MobileNet": {"DepthwiseConvolution", "ReLU6"},
        "SSD": {"Normalize", "Permute"},
        "FPN": {"Interp"},
        "Intel": set(),
    }
