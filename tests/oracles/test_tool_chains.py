"""Profiles of tool chains that can be run here, OpenCV 4, MNN and nncase, against these themselves.

What a profile takes they take, with the same result; what it finds is really refused, or gives
another result.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracles.onnx_graphs import Model

from resnet_proto import forward, random_weights, read_prototxt, save, to_prototxt
from resnet_proto.build import deploy_net
from resnet_proto.check.target import load_target
from resnet_proto.engine import random_inputs, run
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.errors import ResNetProtoError
from resnet_proto.formats.onnx_reader import read
from resnet_proto.presets import PRESETS
from resnet_proto.retarget import left_over, retargeted
from resnet_proto.weights import Weights

CHILD = Path(__file__).with_name("onnx_child.py")
HEAD = """
layer { name: "in" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 10 dim: 17 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 5 kernel_size: 3 } }
"""


def net(kind, more="", bottoms=("c",)):
    reads = " ".join(f'bottom: "{name}"' for name in bottoms)
    return read_prototxt(HEAD + f'layer {{ name: "y" type: "{kind}" {reads} top: "y" {more} }}')


def behind_relu(some_net):
    """With a ReLU in place on the blob that its last layer reads."""
    relu = net("ReLU").layers[2]
    relu = replace(relu, name="r", tops=relu.bottoms)
    return replace(some_net, layers=(*some_net.layers[:2], relu, some_net.layers[2]))


POOL = "pooling_param {{ kernel_size: 3 stride: 2 pad: 1 {} }}"
DEPTHWISE = "convolution_param { num_output: 5 kernel_size: 3 group: 5 }"
PAIRS = "convolution_param { num_output: 4 kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 }"
SCALED = "log_param { base: 2 shift: 90 }"

# Target, and a net that ``retargeted`` mends.
MENDED = {
    "opencv-4 round_mode": net("Pooling", POOL.format("round_mode: FLOOR")),
    "opencv-4 LRN": net("LRN", "lrn_param { beta: 0.5 }"),
    "opencv-4 DepthwiseConvolution": net("DepthwiseConvolution", DEPTHWISE),
    "mnn round_mode": net("Pooling", POOL.format("round_mode: FLOOR")),
    "mnn ceil_mode": net("Pooling", POOL.format("pool: AVE ceil_mode: false")),
    "mnn rows and columns": net("Convolution", PAIRS),
    "nncase bias": net(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }"
    ),
    "nncase rows and columns": net(
        "Convolution",
        "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 }",
    ),
    "nncase ceil_mode": net("Pooling", POOL.format("pool: AVE ceil_mode: false")),
    "mnn coeff of 1": net("Eltwise", "eltwise_param { coeff: 1 coeff: 1 }", ("c", "c")),
}
# Target, a net that it does not take, and a twin that it takes.
REFUSED = {
    "opencv-4 Clip": (net("Clip", "clip_param { min: -9 max: 9 }"), net("ReLU6")),
    "opencv-4 transpose": (
        net("InnerProduct", "inner_product_param { num_output: 6 transpose: true }"),
        net("InnerProduct", "inner_product_param { num_output: 6 }"),
    ),
    "opencv-4 Log": (
        replace(net("Log", SCALED, ("a",)), layers=(
            *net("AbsVal").layers[:2], replace(net("AbsVal").layers[2], name="a", tops=("a",)),
            net("Log", SCALED, ("a",)).layers[2])),
        replace(net("Log", "", ("a",)), layers=(
            *net("AbsVal").layers[:2], replace(net("AbsVal").layers[2], name="a", tops=("a",)),
            net("Log", "", ("a",)).layers[2])),
    ),
    "mnn Clip": (net("Clip", "clip_param { min: -9 max: 9 }"), net("ReLU6")),
    "mnn coeff": (
        net("Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 }", ("c", "c")),
        net("Eltwise", "", ("c", "c")),
    ),
    "mnn Softmax": (net("Softmax"), net("Sigmoid")),
    "nncase Sigmoid": (net("Sigmoid"), net("Softmax")),
    "nncase slope": (net("ReLU", "relu_param { negative_slope: 0.1 }"), net("ReLU")),
    "nncase coeff": (
        net("Eltwise", "eltwise_param { coeff: 1 coeff: 0.5 }", ("c", "c")),
        net("Eltwise", "eltwise_param { coeff: -1 coeff: -1 }", ("c", "c")),
    ),
    "nncase average": (
        net("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
        net("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 round_mode: FLOOR }"),
    ),
    "nncase pad": (net("Pooling", POOL.format("")), behind_relu(net("Pooling", POOL.format("")))),
}  # fmt: skip


def small(**fields):
    sizes = {"width": 4, "stem_width": 8, "classes": 10, "input_size": 68}
    return deploy_net(replace(PRESETS["resnet-50"].spec, **sizes, **fields))


WHOLE = {
    "v1": small(),
    "v1.5": small(stride_in="3x3", pool="padded", head="global"),
}


@pytest.fixture
def chain(request, tmp_path):
    """Target, net, weights and inputs -> what the tool chain gives; None where it refuses."""

    def asked(name, some_net, weights, inputs):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        proto, model = folder / "model.prototxt", folder / "model.caffemodel"
        proto.write_text(to_prototxt(some_net))
        save(model, weights, some_net)
        last = some_net.layers[-1].tops[0]
        if name == "opencv-4":
            request.getfixturevalue("cv2")
            files = {"net_file": proto, "weights_file": model}
            try:
                return run("opencv", some_net, weights, inputs, outputs=[last], **files)[last]
            except ResNetProtoError:
                return None
        np.savez(folder / "inputs.npz", **inputs)
        (folder / "output.txt").write_text(last)
        command = [request.getfixturevalue(f"{name}_python"), str(CHILD), name, str(folder)]
        subprocess.run(command, cwd=folder, capture_output=True, check=False)  # it may crash
        answer = folder / "answer.npy"
        return np.load(answer, allow_pickle=False) if answer.exists() else None

    return asked


def apart(ours, theirs):
    """Whether a result is none, or another."""
    if theirs is None or ours.shape != theirs.shape:
        return True
    return not relative_l2(theirs, ours) <= 1e-3


def held(some_net):
    weights, inputs = random_weights(some_net), random_inputs(some_net)
    last = some_net.layers[-1].tops[0]
    return weights, inputs, forward(some_net, weights, inputs)[last]


@pytest.mark.parametrize("case", MENDED)
def test_what_is_mended(chain, case):
    """It was refused or wrong, and is right then."""
    target, some_net = load_target(case.split()[0]), MENDED[case]
    weights, inputs, ours = held(some_net)

    before = chain(target.name, some_net, weights, inputs)
    new, values, done = retargeted(some_net, weights, target)
    after = chain(target.name, new, Weights.of(values), inputs)

    assert left_over(some_net, weights, target)
    assert apart(ours, before)
    assert done
    assert not left_over(new, values, target)
    assert relative_l2(after, ours) <= TOLERANCE


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(chain, case):
    """It is refused, or gives another result, and its twin is taken."""
    target = load_target(case.split()[0])
    wrong, right = REFUSED[case]
    weights, inputs, ours = held(wrong)

    new, values, _ = retargeted(wrong, weights, target)

    assert left_over(new, values, target)
    assert apart(ours, chain(target.name, wrong, weights, inputs))
    weights, inputs, ours = held(right)
    assert not left_over(right, weights, target)
    assert relative_l2(chain(target.name, right, weights, inputs), ours) <= TOLERANCE


@pytest.mark.parametrize(("low", "high"), [(0, 6), (0, 1), (-1, 1)])
@pytest.mark.parametrize("name", ["opencv-4", "mnn"])
def test_limits(chain, tmp_path, name, low, high):
    """Those of ONNX, of which ``retargeted`` makes a ReLU6, a ReLU6 between Powers, or nothing."""
    model = Model(np.random.default_rng(3), 13)
    weight = model.constant(model.rng.normal(size=(5, 3, 3, 2)) * 3)
    x = model.node("Conv", model.input(1, 3, 10, 17), weight)
    x = model.node("Clip", x, model.constant(low), model.constant(high))
    model.node("Sigmoid", x)  # MNN knows a last Power by its layer's name only
    model.proto(path=tmp_path / "model.onnx")
    some_net, weights = read(tmp_path / "model.onnx")
    inputs = random_inputs(some_net)

    new, values, _ = retargeted(some_net, weights, load_target(name))
    theirs = chain(name, new, Weights.of(values), inputs)

    assert len(new.layers) == {(0, 6): 4, (0, 1): 6, (-1, 1): 9}[low, high]
    assert not left_over(new, values, load_target(name))
    (ours,) = forward(some_net, weights, inputs, outputs=some_net.outputs()).values()
    assert relative_l2(theirs, ours) <= TOLERANCE


@pytest.mark.parametrize("which", WHOLE)
@pytest.mark.parametrize("name", ["opencv-4", "mnn", "nncase"])
def test_a_whole_net(chain, name, which):
    """All layers of ResNet-50, scores before the softmax that would hide a difference."""
    scores = replace(WHOLE[which], layers=WHOLE[which].layers[:-1])
    weights, inputs, ours = held(scores)

    new, values, _ = retargeted(scores, weights, load_target(name))

    assert not left_over(new, values, load_target(name))
    theirs = chain(name, new, Weights.of(values), inputs)
    assert relative_l2(theirs.reshape(ours.shape), ours) <= TOLERANCE
