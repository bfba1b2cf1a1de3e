"""Profiles of tool chains: each loads, and each rule finds what it is about and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from resnet_proto import read_prototxt
from resnet_proto.check import check_text
from resnet_proto.check.nets import view
from resnet_proto.check.target import (
    NAMES,
    QUANTITIES,
    TARGET_RULES,
    Aim,
    Limit,
    Target,
    check_target,
    fields_of_1_0,
    load_target,
)
from resnet_proto.layers import REGISTRY
from resnet_proto.schema import MAINLINE_TYPES, fields

INPUT = """
layer { name: "in" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 4 dim: 9 dim: 14 } } }
"""
BASE = Target(
    "chain", "the chain", "1", dict.fromkeys(REGISTRY, "its list"), (),
    sources=dict.fromkeys(
        "header batch batch_norm floor spelled pairs factor zero_pad text".split(),
        "its page",
    ),
)  # fmt: skip


def found(text, weights=None, /, **changes):
    """Rule and finding of a net against a target that takes all but for some changes."""
    net = read_prototxt(text if "input" in text else INPUT + text)
    aim = Aim(replace(BASE, **changes), net, view(net, "TEST"), weights)
    return list(check_target(aim))


def layer(kind, more="", bottom="data", name="x"):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {more} }}\n'


def limited(types, quantity, *among, least=0.0, most=0.0, why=""):
    return {"limits": (Limit(types, quantity, least, most, among or None, why, "its page"),)}


CONV = "convolution_param { num_output: 3 kernel_size: 3 %s }"
POOL = "pooling_param { kernel_size: 3 stride: 2 %s }"
BN_PARTS = {"x.mean": np.ones(4), "x.variance": np.ones(4), "x.scale_factor": np.ones(1)}
NO_RELU = {"types": {"Convolution": "its list"}}

# rule: the net that it finds, its twin, the target, and words of the finding
CASES = {
    "target-deploy": (layer("SoftmaxWithLoss"), layer("Softmax"), {}, "takes the net for infer"),
    "target-type": (layer("ReLU"), layer("Convolution", CONV % ""), NO_RELU,
                    "takes no ReLU (its list)"),
    "target-type, depthwise": (
        layer("ConvolutionDepthwise", "convolution_param { num_output: 4 kernel_size: 3 }"),
        layer("Convolution", CONV % ""), NO_RELU, "`convert --target chain`",
    ),
    "target-value": (
        layer("Convolution", "convolution_param { num_output: 3 kernel_h: 3 kernel_w: 7 }"),
        layer("Convolution", "convolution_param { num_output: 3 kernel_h: 3 kernel_w: 5 }"),
        limited(("Convolution",), "kernel", least=1, most=5),
        "kernel 3x7 in a Convolution: the chain takes 1 to 5 (its page)",
    ),
    "target-value, a word": (
        layer("Pooling", POOL % "pool: STOCHASTIC"), layer("Pooling", POOL % "pool: AVE"),
        limited(("Pooling",), "pool", "MAX", "AVE", why="so there"),
        "pool stochastic in a Pooling: the chain takes MAX or AVE, so there (its page)",
    ),
    "target-value, of a tuple": (
        layer("ReLU", name="r") + 'layer { name: "x" type: "Eltwise" bottom: "data" bottom: "r" '
        'top: "x" eltwise_param { coeff: 1 coeff: 2 } }',
        layer("ReLU", name="r") + 'layer { name: "x" type: "Eltwise" bottom: "data" bottom: "r" '
        'top: "x" eltwise_param { coeff: 1 coeff: 1 } }',
        limited(("Eltwise",), "coeff", 1.0), "coeff 1.0x2.0 in a Eltwise",
    ),
    "target-value, of a ratio": (
        layer("Pooling", "pooling_param { kernel_size: 1 stride: 3 }"),
        layer("Pooling", "pooling_param { kernel_size: 1 stride: 2 }"),
        limited(("Pooling",), "stride_for_kernel", least=0, most=2), "stride/kernel 3.0x3.0",
    ),
    "target-header": (
        'input: "data" input_dim: 1 input_dim: 4 input_dim: 9 input_dim: 14\n' + layer("ReLU"),
        INPUT + layer("ReLU"), {"header": ("layer",)},
        "written as input and input_dim, the chain reads Input layers (its page)",
    ),
    "target-header, several": (
        'input: "data" input: "b" input_dim: 1 input_dim: 4 input_dim: 9 input_dim: 14 '
        'input_dim: 1 input_dim: 4 input_dim: 9 input_dim: 14\n' + layer("ReLU"),
        'input: "data" input_dim: 1 input_dim: 4 input_dim: 9 input_dim: 14\n' + layer("ReLU"),
        {"header": ("input_dim",)}, "several input, and input_dim",
    ),
    "target-batch": (
        'input: "data" input_shape { dim: 2 dim: 4 dim: 9 dim: 14 }\n' + layer("ReLU"),
        'input: "data" input_shape { dim: 1 dim: 4 dim: 9 dim: 14 }\n' + layer("ReLU"),
        {"batch": 1}, "input 'data' has a batch of 2, the chain takes 1",
    ),
    "target-batch-norm": (layer("BatchNorm"), layer("Scale"), {"batch_norm": True},
                          "as part of the layer before it only"),
    "target-floor": (
        layer("Pooling", POOL % "round_mode: FLOOR"), layer("Pooling", POOL % "ceil_mode: false"),
        {"floor": ("ceil_mode",)}, "round_mode in a Pooling: the chain knows ceil_mode (its page)",
    ),
    "target-floor, none": (
        layer("Pooling", POOL % "ceil_mode: true"), layer("Pooling", POOL % ""), {"floor": ()},
        "knows no such field, as far as its sources say",
    ),
    "target-value, beyond a pad": (
        layer("Pooling", POOL % "pool: AVE"),
        layer("Pooling", POOL % "pool: AVE round_mode: FLOOR"),
        limited(("Pooling",), "average_beyond_pad", 0), "average_beyond_pad 0x1 in a Pooling",
    ),
    "target-value, beyond a pad that is there": (
        layer("Pooling", "pooling_param { pool: AVE kernel_size: 4 stride: 3 pad: 1 }"),
        layer("Pooling", "pooling_param { pool: AVE kernel_size: 4 stride: 3 }"),
        limited(("Pooling",), "padded_average_beyond_pad", 0),
        "padded_average_beyond_pad 2x0 in a Pooling",
    ),
    "target-pad": (
        layer("ReLU", "relu_param { negative_slope: 0.1 }", name="r")
        + layer("Pooling", POOL % "", "r"),
        layer("ReLU", name="r") + layer("Dropout", "", "r", "d") + layer("Pooling", POOL % "", "d"),
        {"zero_pad": True}, "a maximum past the image of what may be negative",
    ),
    "target-pad, without a pad": (
        layer("Pooling", "pooling_param { kernel_size: 3 pad: 1 }"),
        layer("Pooling", "pooling_param { kernel_size: 3 }"), {"zero_pad": True},
        "a maximum past the image",
    ),
    "target-spelled": (
        layer("LRN", "lrn_param { beta: 0.5 }"), layer("LRN", "lrn_param { alpha: 1 }"),
        {"spelled": {"LRN": ("alpha",)}}, "alpha is not spelled in a LRN",
    ),
    "target-pairs": (
        layer("Convolution", "convolution_param { num_output: 3 kernel_size: 3 kernel_size: 2 }"),
        layer("Convolution", "convolution_param { num_output: 3 kernel_size: 3 kernel_size: 3 }"),
        {"pairs": True}, "rows and columns of kernel_size: the chain reads kernel_h and kernel_w",
    ),
    "target-pairs, the other way": (
        layer("Convolution", CONV % "stride_h: 2 stride_w: 1"),
        layer("Convolution", CONV % "stride: 2 stride: 1"), {"pairs": False},
        "rows and columns of stride: the chain reads stride twice",
    ),
    "target-text": (
        layer("BatchNorm", "batch_norm_param { scale_bias: true }"),
        layer("BatchNorm", "batch_norm_param { eps: 0.1 } param { lr_mult: 0 }"), {"text": True},
        "knows no field scale_bias (its page)",
    ),
    "target-weights": (
        (layer("BatchNorm"), {"x.mean": np.ones(4)}), (layer("BatchNorm"), BN_PARTS), {},
        "no variance in the weights",
    ),
    "target-weights, a factor": (
        (layer("BatchNorm"), BN_PARTS | {"x.scale_factor": np.zeros(1)}),
        (layer("BatchNorm"), BN_PARTS), {"factor": True}, "a scale factor of 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_rule_finds_one_thing_and_its_twin_nothing(case):
    wrong, right, changes, words = CASES[case]
    changes = {"floor": ("round_mode", "ceil_mode"), **changes}

    ((rule, item),) = found(*((wrong,) if isinstance(wrong, str) else wrong), **changes)

    assert rule == case.split(",")[0]
    assert words in f"{item.reason}; {item.remedy}"
    assert found(*((right,) if isinstance(right, str) else right), **changes) == []


def test_each_rule_has_a_case():
    assert {case.split(",")[0] for case in CASES} == {*TARGET_RULES}


@pytest.mark.parametrize("name", NAMES)
def test_profile(name):
    """It loads; its types and fields are known here, and each line names a source."""
    target = load_target(name)

    assert target.name == name
    assert set(target.types) <= {*REGISTRY}
    assert {"Convolution", "Pooling", "ReLU", "Eltwise", "BatchNorm", "Scale"} <= {*target.types}
    assert all(len(source) > 10 for source in target.types.values())
    assert target.sources["floor"]
    assert set(target.floor) <= {"round_mode", "ceil_mode"}
    for one in target.limits:
        assert one.source
        for kind in one.types:
            assert kind in target.types, f"{kind} has a limit and is not taken"
            assert one.quantity in QUANTITIES or one.quantity in REGISTRY[kind].known_fields()
    for kind, names in target.spelled.items():
        assert set(names) <= {*REGISTRY[kind].known_fields()}


def test_caffe_1_0_knows_what_the_real_caffe_knows(caffe_python):
    """Its types and fields are those of a mainline build, but for what that has got since."""
    import json
    import subprocess

    script = (
        "import json; from caffe.proto import caffe_pb2 as p; print(json.dumps({name: [f.name "
        "for f in d.fields] for name, d in p.DESCRIPTOR.message_types_by_name.items()}))"
    )
    done = subprocess.run([caffe_python, "-c", script], capture_output=True, text=True, check=True)
    real = {name: {*names} for name, names in json.loads(done.stdout.splitlines()[-1]).items()}
    since = {"round_mode", "swish_param"}  # mainline of 2018
    own = {"permute_param"}  # of that build

    for message, later in fields_of_1_0().items():
        ours = {*fields(message)} - later
        assert ours <= real[message] - since, message
        assert later & real[message] <= since | own, message
    for kind in load_target("caffe-1.0").types:
        message = REGISTRY[kind].message
        kinds = fields("LayerParameter")[message].message if message else ""
        if kinds and kinds not in fields_of_1_0():
            assert {*fields(kinds)} <= real[kinds], kind
    assert {*load_target("caffe-1.0").types} == {*MAINLINE_TYPES} - {"Clip", "Swish", "Python"}


def test_the_finding_is_in_the_report():
    """With --target a net is looked at for TEST only, and the other rules are there still."""
    text = INPUT + layer("Pooling", POOL % "round_mode: FLOOR")

    report = check_text(text, "deploy.prototxt", target="openvino")
    silent = check_text(text, "deploy.prototxt")

    assert [(x.rule, x.level, x.layers) for x in report.findings] == [
        ("target-floor", "error", ("x",))
    ]
    assert "pooling_ext.py" in report.findings[0].line
    assert not silent.findings


@pytest.mark.parametrize("name", NAMES)
def test_a_window_outside_the_image(name):
    """Caffe gives it no sensible value; no target has a word about it."""
    text = INPUT + layer("Pooling", "pooling_param { pool: AVE kernel_size: 1 stride: 3 }")

    findings = check_text(text, "net", target=name).findings

    assert {x.rule for x in findings} <= {"target-value"}  # CANN's stride of at most two kernels


def test_shapes_that_are_not_known_are_no_finding():
    """What can be said by types and fields is said, and the rest is not."""
    text = INPUT + layer("Unknown") + layer("Pooling", POOL % "pool: STOCHASTIC", "x", "y")

    rules = [rule for rule, _ in found(text, **limited(("Pooling",), "pool", "MAX"))]

    assert rules == ["target-type"]
