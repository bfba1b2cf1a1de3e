"""One net of many types, as they stand in nets of people: every engine gives the same blobs."""

import numpy as np
import pytest

from resnet_proto.engine import run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.prototxt import read_prototxt
from resnet_proto.weights import random_weights

NET = """
name: "many"
layer { name: "in" type: "Input" top: "data" top: "label" top: "target"
  input_param { shape { dim: 2 dim: 3 dim: 22 dim: 18 } shape { dim: 2 } shape { dim: 2 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "prelu" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "lrn" type: "LRN" bottom: "conv" top: "lrn"
  lrn_param { local_size: 3 alpha: 1e-4 beta: 0.75 } }
layer { name: "pool" type: "Pooling" bottom: "lrn" top: "pool"
  pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "slice" type: "Slice" bottom: "pool" top: "s1" top: "s2" top: "s3"
  slice_param { slice_point: 2 slice_point: 5 } }
layer { name: "elu" type: "ELU" bottom: "s1" top: "s1" }
layer { name: "tanh" type: "TanH" bottom: "s2" top: "t2" }
layer { name: "power" type: "Power" bottom: "s3" top: "s3"
  power_param { power: 2 scale: 0.1 shift: 1 } }
layer { name: "cat" type: "Concat" bottom: "s1" bottom: "t2" bottom: "s3" bottom: "s2" top: "cat" }
layer { name: "up" type: "Deconvolution" bottom: "cat" top: "up"
  convolution_param { num_output: 11 kernel_size: 4 stride: 2 group: 11 } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "conv" top: "crop"
  crop_param { axis: 2 offset: 1 offset: 2 } }
layer { name: "bias" type: "Bias" bottom: "crop" top: "crop" }
layer { name: "mvn" type: "MVN" bottom: "crop" top: "mvn" }
layer { name: "drop" type: "Dropout" bottom: "mvn" top: "mvn" }
layer { name: "gate" type: "Sigmoid" bottom: "mvn" top: "gate" }
layer { name: "gated" type: "Eltwise" bottom: "mvn" bottom: "gate" top: "gated"
  eltwise_param { operation: PROD } }
layer { name: "squeeze" type: "Reduction" bottom: "gated" top: "squeeze"
  reduction_param { axis: 2 operation: MEAN } }
layer { name: "wide" type: "Reshape" bottom: "squeeze" top: "wide"
  reshape_param { shape { dim: 0 dim: -1 dim: 1 dim: 1 } } }
layer { name: "flat" type: "Flatten" bottom: "wide" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc"
  inner_product_param { num_output: 6 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
layer { name: "log" type: "Log" bottom: "prob" top: "log" }
layer { name: "tile" type: "Tile" bottom: "log" top: "tile" tile_param { tiles: 2 } }
layer { name: "quiet" type: "Silence" bottom: "tile" }
"""
LOSSES = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "hinge" type: "HingeLoss" bottom: "fc" bottom: "label" }
layer { name: "square" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "square" }
layer { name: "cross" type: "SigmoidCrossEntropyLoss" bottom: "fc" bottom: "target" top: "cross" }
layer { name: "top1" type: "Accuracy" bottom: "fc" bottom: "label" top: "top1" }
layer { name: "best" type: "ArgMax" bottom: "prob" top: "best" argmax_param { top_k: 2 } }
"""


@pytest.mark.parametrize("engine", ["numpy", "caffe", "onnxruntime", "torch"])
def test_equal_to_float64(engine, request):
    options = {}
    if engine == "caffe":
        options["caffe_python"] = request.getfixturevalue("caffe_python")
    if engine == "torch":
        request.getfixturevalue("torch")
    ours = engine in ("numpy", "caffe")  # ONNX and torch have no losses
    net = read_prototxt(NET + LOSSES if ours else NET)
    weights = random_weights(net)
    rng = np.random.default_rng(0)
    inputs = {
        "data": rng.normal(size=(2, 3, 22, 18)).astype(np.float32),
        "label": np.array([4, 1], np.float32),
        "target": rng.uniform(0, 1, (2, 6)).astype(np.float32),
    }

    theirs = run(engine, net, weights, inputs, **options)

    exact = run("float64", net, weights, inputs)
    assert theirs.keys() == exact.keys()
    for row in compare(theirs, exact):
        assert row.shape == row.reference, row
        assert row.within(TOLERANCE), row
