"""ONNX files in the runtimes that they are for: onnxruntime, OpenCV 4 and 5, MNN, ncnn.

The file that ``convert`` writes, folded and with a dynamic batch. Its scores, before any softmax,
equal our forward pass in float64; in onnxruntime every blob does.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets.classic import NETS, SMALLER

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward, random_inputs
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.onnx_file import results, save_onnx
from resnet_proto.formats.onnx import to_onnx
from resnet_proto.layers import (
    SPP,
    ArgMax,
    DetectionOutput,
    Im2col,
    Input,
    Pooling,
    PriorBox,
    Proposal,
    PSROIPooling,
    Upsample,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.spec import ResNetSpec
from resnet_proto.weights import random_weights

CHILD = Path(__file__).with_name("onnx_child.py")
FULL_SIZE = os.environ.get("RESNET_PROTO_FULL_SIZE") == "1"
SPECS = {
    "basic": {"unit": "basic"},
    "bottleneck": {"unit": "bottleneck", "pool": "padded"},
    "pre-activation": {"unit": "bottleneck", "order": "pre-activation"},
    "squeeze": {"unit": "bottleneck", "squeeze": 4, "head": "global"},
}


def small(fields):
    return deploy_net(ResNetSpec("small", (1, 2), width=8, stem_width=6, classes=10, **fields))


FAMILY = {
    **{name: partial(small, fields) for name, fields in SPECS.items()},
    **{
        name: partial(deploy_net, PRESETS[name].spec)
        for name in ("cifar-resnet-20", "cifar-preact-resnet-164", "resnet-18")
    },
}


def sequence(type):
    layer = {"recurrent_param": {"num_output": 5}}
    return make_layer("y", type, ("x", "cont"), "y", layer), {
        "x": (4, 2, 3), "cont": [[0, 0], [1, 1], [1, 0], [1, 1]],
    }  # fmt: skip


LOW = np.random.default_rng(0).uniform(0, 0.5, (20, 2))
BOXES = np.stack([np.hstack([LOW, LOW + 0.2 + LOW[::-1] / 2]), np.full((20, 4), 0.1)])
REGIONS = [[0, 2, 3, 12, 20], [1, 0, 0, 8, 9], [1, 5, 2, 6, 3]]
LAYERS = {
    "ArgMax": (ArgMax.of("y", "a", "y", axis=1, top_k=2), {"a": (2, 3, 7, 5)}),
    "DetectionOutput": (
        DetectionOutput.of(
            "y", ("a", "b", "c"), "y", num_classes=3, code_type="CENTER_SIZE", keep_top_k=10,
            confidence_threshold=0.01, nms_param={"nms_threshold": 0.45, "top_k": 15},
        ),
        {"a": (2, 80), "b": (2, 60), "c": BOXES.reshape(1, 2, 80)},
    ),
    "Im2col": (
        Im2col.of("y", "a", "y", kernel_size=(3, 2), stride=(2, 1), pad=(1, 0)), {"a": (2, 3, 7, 5)}
    ),
    "LSTM": sequence("LSTM"),
    "PSROIPooling": (
        PSROIPooling.of("y", ("a", "b"), "y", output_dim=3, group_size=2, spatial_scale=0.25),
        {"a": (2, 12, 7, 5), "b": REGIONS},
    ),
    "Pooling": (
        Pooling.of("y", "a", "y", pool="AVE", kernel_size=3, stride=2, pad=1), {"a": (2, 3, 7, 5)}
    ),
    "PriorBox": (
        PriorBox.of(
            "y", ("a", "b"), "y", min_size=(4.0, 9.0), max_size=(6.0, 12.0), aspect_ratio=2.0,
            clip=True,
        ),
        {"a": (2, 3, 7, 5), "b": (2, 3, 30, 22)},
    ),
    "Proposal": (
        Proposal.of("y", ("a", "b", "c"), "y", ratio=1.0, scale=1.0, post_nms_topn=4, min_size=1),
        {"a": (1, 2, 3, 4), "b": (1, 4, 3, 4), "c": [[48, 64, 1]]},
    ),
    "RNN": sequence("RNN"),
    "SPP": (SPP.of("y", "a", "y", pyramid_height=3), {"a": (2, 3, 13, 11)}),
    "Upsample": (
        Upsample.of("y", ("max", "mask"), "y", upsample_h=8, upsample_w=6), {"a": (2, 3, 8, 6)}
    ),
}  # fmt: skip
"""A layer and its inputs, or their shapes; a layer that others are needed for has one below."""
NOT_RUN = {
    "opencv": {"DetectionOutput", "Pooling", "PriorBox", "Proposal", "SPP"},  # GatherND, any size
    "opencv5": {"Proposal"},  # Loop
    "mnn": set(),
}


class Case:
    """A net up to its scores, its ONNX file, and what it is to give."""

    def __init__(self, name, folder):
        net = {**NETS, **({} if FULL_SIZE else SMALLER), **FAMILY}[name]()
        if net.layers[-1].type == "Softmax":  # saturated, it hides every bug
            net = replace(net, layers=net.layers[:-1])
        self.net, self.folder = net, folder
        self.weights = random_weights(net)
        self.inputs = random_inputs(net)
        self.scores = results(net)[-1]
        self.warnings = []
        self.proof = save_onnx(folder / "model.onnx", net, self.weights, warnings=self.warnings)
        self.hand_out()

    def hand_out(self):
        """What a runtime is to compute."""
        np.savez(self.folder / "inputs.npz", **self.inputs)
        (self.folder / "output.txt").write_text(self.scores)

    @cached_property
    def expected(self):
        blobs = forward(self.net, self.weights, self.inputs, dtype="float64", outputs=[self.scores])
        return blobs[self.scores]

    def answer(self, python, runtime):
        """What a runtime in another Python makes of the file."""
        for old in ("answer.npy", "error.txt"):
            (self.folder / old).unlink(missing_ok=True)
        command = [python, CHILD, runtime, self.folder]
        for timeout in (100, 100, 300):  # MNN hangs now and then, on no net in particular
            with suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=timeout, check=False
                )
                break
        else:
            pytest.fail(f"{runtime} did not end, three times")
        error = self.folder / "error.txt"
        assert not error.exists(), error.read_text()
        assert not done.returncode, done.stderr
        return np.load(self.folder / "answer.npy")


class OneLayer(Case):
    """A layer that becomes many nodes; some only when they are written for any size."""

    def __init__(self, type, folder):
        layer, given = LAYERS[type]
        rng = np.random.default_rng(1)
        self.inputs = {
            name: np.asarray(x if isinstance(x, (list, np.ndarray)) else rng.normal(size=x), "f")
            for name, x in given.items()
        }
        before = [Input.of(k, (), k, shape=({"dim": x.shape},)) for k, x in self.inputs.items()]
        if type == "Upsample":
            before.append(Pooling.of("pool", "a", ("max", "mask"), kernel_size=2, stride=2))
        self.net, self.folder = Net("one", (*before, layer)), folder
        self.weights, self.scores = random_weights(self.net), "y"
        dynamic = "size" if type in ("Pooling", "PriorBox", "SPP") else "none"
        model = to_onnx(self.net, self.weights, outputs=["y"], dynamic=dynamic)
        onnx.save(model, folder / "model.onnx")
        self.hand_out()


@pytest.mark.parametrize(
    ("type", "runtime"),
    [(type, runtime) for runtime, lacks in NOT_RUN.items() for type in LAYERS if type not in lacks],
)
def test_layers_of_many_nodes(type, runtime, request, tmp_path):
    case = OneLayer(type, tmp_path)
    python = sys.executable
    if runtime != "opencv":
        python = request.getfixturevalue(f"{runtime}_python")

    answer = case.answer(python, runtime.strip("5"))

    assert answer.shape == case.expected.shape
    assert relative_l2(answer, case.expected) <= TOLERANCE


@pytest.fixture(scope="module", params=[*NETS, *FAMILY])
def case(request, tmp_path_factory):
    """One net at a time; its files go with it."""
    folder = tmp_path_factory.mktemp(request.param)
    yield Case(request.param, folder)
    shutil.rmtree(folder)


def test_onnxruntime_layer_by_layer(case):
    """Every blob that is left when BatchNorm and Scale are folded."""
    assert case.proof.rows[-1].blob == case.scores
    assert len(case.proof.rows) > len(case.net.layers) / 4
    assert all(row.within(TOLERANCE) for row in case.proof.rows), case.proof.worst


def test_checker_and_shape_inference(case):
    onnx.checker.check_model(case.folder / "model.onnx", full_check=True)
    model = onnx.load(case.folder / "model.onnx")

    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)

    values = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
    shapes = {
        name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for name, value in values.items()
    }
    walked = {
        name: shape for step in case.net.walk()
        for name, shape in zip(step.layer.tops, step.tops, strict=True)
    }  # fmt: skip
    for name in {*shapes} & {*walked}:
        assert shapes[name][1:] == list(walked[name][1:]), name
    assert not {"BatchNormalization"} & {
        node.op_type for node in model.graph.node if after_conv(model, node)
    }


def after_conv(model, node):
    """Whether it reads what a Conv alone gives it."""
    made = {out: other for other in model.graph.node for out in other.output}
    readers = [other for other in model.graph.node if node.input[0] in other.input]
    before = made.get(node.input[0])
    return before is not None and before.op_type == "Conv" and len(readers) == 1


def test_the_batch_varies(case, onnxruntime):
    """Three images at a time give what each gives by itself; no net of these mixes them."""
    assert not case.warnings
    session = onnxruntime.InferenceSession(
        case.folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    ((name, image),) = case.inputs.items()
    other = -image[:1, :, ::-1]
    batch = np.concatenate([image[:1], other, image[:1]])

    (scores,) = session.run([case.scores], {name: batch})

    alone = [session.run([case.scores], {name: x})[0] for x in (image[:1], other)]
    assert relative_l2(scores, np.concatenate([*alone, alone[0]])) <= TOLERANCE


@pytest.mark.usefixtures("cv2")
def test_opencv_4(case):
    assert relative_l2(case.answer(sys.executable, "opencv"), case.expected) <= TOLERANCE


def test_opencv_5(case, opencv5_python):
    assert relative_l2(case.answer(opencv5_python, "opencv"), case.expected) <= TOLERANCE


def test_mnn(case, mnn_python):
    answer = case.answer(mnn_python, "mnn")

    assert answer.shape == case.expected.shape
    assert relative_l2(answer, case.expected) <= TOLERANCE


def test_ncnn(case, ncnn_python):
    """Through pnnx; ncnn takes an image at a time."""
    answer = case.answer(ncnn_python, "ncnn")

    assert answer.shape == case.expected.shape
    assert relative_l2(answer, case.expected) <= TOLERANCE
