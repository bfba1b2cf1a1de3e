"""The walk: what is refused, each with a twin that is accepted."""

import numpy as np
import pytest

from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import NetError, ResNetProtoError, ShapeError, UnknownLayerError
from resnet_proto.layers import Layer, ReLU, make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt

HEADER = 'name: "t" input: "data" input_shape { dim: 2 dim: 3 dim: 7 dim: 5 }\n'


def layer(name, type, bottoms="data", tops=None, rest=""):
    lines = [f'name: "{name}" type: "{type}"']
    lines += [f'bottom: "{b}"' for b in bottoms.split()]
    lines += [f'top: "{t}"' for t in (tops or name).split()]
    return f"layer {{ {' '.join(lines)} {rest} }}\n"


CONV = "convolution_param {{ num_output: 4 kernel_size: {} }}"

REFUSED = {
    "blob before it is made": (
        layer("a", "ReLU", "conv") + layer("conv", "ReLU"),
        layer("conv", "ReLU") + layer("a", "ReLU", "conv"),
        r"layer 'a' \(ReLU\) reads blob 'conv', which no layer before it writes; known here: data",
    ),
    "two writers of a top": (
        layer("a", "ReLU", tops="x") + layer("b", "ReLU", tops="x"),
        layer("a", "ReLU", tops="x") + layer("b", "ReLU", "x", "x"),
        r"layer 'b' \(ReLU\) writes blob 'x', which another layer has written",
    ),
    "in place over the second bottom": (
        layer("a", "ReLU") + layer("s", "Eltwise", "data a", "a"),
        layer("a", "ReLU") + layer("s", "Eltwise", "a data", "a"),
        r"layer 's' \(Eltwise\) writes blob 'a'",
    ),
    "in place over a blob that another layer reads": (
        layer("a", "ReLU") + layer("b", "ReLU", "data", "data"),
        layer("b", "ReLU", "data", "data") + layer("a", "ReLU"),
        r"layer 'b' \(ReLU\) overwrites blob 'data' in place, which 1 other bottom reads",
    ),
    "Eltwise of two shapes": (
        layer("c", "Convolution", rest=CONV.format(1)) + layer("s", "Eltwise", "data c"),
        layer("c", "Convolution", rest=CONV.format(1).replace("4", "3"))
        + layer("s", "Eltwise", "data c"),
        r"layer 's' \(Eltwise\): needs bottoms of one shape, has 'data' 2x3x7x5, 'c' 2x4x7x5",
    ),
    "kernel larger than the map": (
        layer("c", "Convolution", rest=CONV.format(7)),
        layer("c", "Convolution", rest=CONV.format(5)),
        r"layer 'c' \(Convolution\): kernel 7x7 is larger than the padded bottom 2x3x7x5",
    ),
    "pooling larger than the map": (
        layer("p", "Pooling", rest="pooling_param { kernel_size: 9 }"),
        layer("p", "Pooling", rest="pooling_param { kernel_size: 5 }"),
        r"layer 'p' \(Pooling\): kernel 9x9 is larger",
    ),
    "one bottom too few": (
        layer("s", "Eltwise"),
        layer("s", "Eltwise", "data data"),
        r"layer 's' \(Eltwise\): takes at least 2 bottom, has 1",
    ),
    "both kinds of rules": (
        layer("r", "ReLU", rest="include { phase: TEST } exclude { phase: TRAIN }"),
        layer("r", "ReLU", rest="include { phase: TEST }"),
        "layer 'r' has include and exclude rules",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    wrong, right, message = REFUSED[case]
    list(read_prototxt(HEADER + right).walk())

    with pytest.raises(NetError, match=message):
        list(read_prototxt(HEADER + wrong).walk())


def test_caffe_refuses_and_accepts_the_same(tmp_path, caffe_python):
    folders = {}
    for case, texts in REFUSED.items():
        for kind, text in zip(("wrong", "right"), texts, strict=False):
            folder = folders[case, kind] = tmp_path / f"{case} {kind}"
            folder.mkdir()
            (folder / "net.prototxt").write_text(HEADER + text)
            write_job(folder, folder / "net.prototxt", None, {"data": np.zeros((2, 3, 7, 5))})

    run_jobs(caffe_python, list(folders.values()))

    for (case, kind), folder in folders.items():
        if kind == "right":
            read_job(folder)
        else:
            with pytest.raises(ResNetProtoError, match="Caffe refuses the net"):
                read_job(folder)
                pytest.fail(f"Caffe accepts: {case}")


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(HEADER + layer("a", "ReLU", "conv"))

    with pytest.raises(NetError, match=r"deploy\.prototxt: layer 'a'"):
        list(read_prototxt(path).walk())
    assert read_prototxt(path) == read_prototxt(path.read_text())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("input: 'a' input_dim: 1 input_dim: 3 input_dim: 7", "3 input_dim for 1 input"),
        ("input: 'a' input_shape { dim: 1 } input_shape { dim: 2 }", "2 input_shape for 1 input"),
        ("input: 'a' input_dim: 1 input_shape { dim: 1 }", "both input_shape and input_dim"),
        ("input: 'a' input_shape { dim: -3 }", "blob 'a' would be -3; no size may be negative"),
        (
            "input: 'a' input_shape { dim: 65536 dim: 65536 }",
            "65536x65536; Caffe's limit is 2147483647",
        ),
        (
            "input: 'a' input_shape { dim: 1 } input: 'a' input_shape { dim: 1 }",
            "its top 'a' twice",
        ),
    ],
)
def test_refused_inputs(header, message):
    assert read_prototxt(
        "input: 'a' input_dim: 1 input_dim: 3 input_dim: 7 input_dim: 5"
    ).inputs() == {"a": (1, 3, 7, 5)}

    with pytest.raises(NetError, match=message):
        list(read_prototxt(header).walk())


def test_an_unknown_layer_ends_the_walk():
    """The layers before it are handed out."""
    net = read_prototxt(
        HEADER + layer("r", "ReLU") + layer("p", "Pythagoras") + layer("s", "ReLU", "p")
    )
    walk = net.walk()

    assert [next(walk).label, next(walk).label] == ["input", "r"]
    with pytest.raises(
        UnknownLayerError, match=r"layer 'p' has type 'Pythagoras'.*known: BatchNorm"
    ):
        next(walk)


def test_a_repeated_name_gets_a_number():
    net = read_prototxt(HEADER + 3 * layer("r", "ReLU", "data", "data"))

    assert [step.label for step in net.walk()] == ["input", "r", "r#2", "r#3"]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("", "TRAIN TEST"),
        ("include { phase: TEST }", "TEST"),
        ("exclude { phase: TEST }", "TRAIN"),
        ("include { phase: TRAIN } include { phase: TEST }", "TRAIN TEST"),
        ("exclude {}", ""),
        ("include { stage: 'deploy' }", ""),
        ("include { not_stage: 'deploy' }", "TRAIN TEST"),
        ("include { min_level: 1 }", ""),
        ("exclude { min_level: 1 }", "TRAIN TEST"),
        ("include { phase: TEST max_level: 0 }", "TEST"),
        ("phase: TEST", "TRAIN TEST"),
    ],
)
def test_rules(rule, kept):
    """net.cpp, FilterNet: a rule holds when all it says holds."""
    net = read_prototxt(HEADER + layer("r", "ReLU", rest=rule))

    assert [phase for phase in ("TRAIN", "TEST") if net.filtered(phase).layers] == kept.split()


def test_rules_with_level_and_stages():
    net = read_prototxt(
        HEADER + layer("r", "ReLU", rest="include { stage: 'a' stage: 'b' min_level: 2 }")
    )

    assert net.filtered(level=2, stages=("a", "b", "c")).layers
    assert not net.filtered(level=1, stages=("a", "b")).layers
    assert not net.filtered(level=2, stages=("a",)).layers


def test_canonical_is_blind_to_spelling():
    short = layer("c", "Convolution", rest="convolution_param { num_output: 2 kernel_size: 3 }")
    long = short.replace(
        "kernel_size: 3", "pad: 0 stride: 1 kernel_size: 3 bias_term: true dilation: 1"
    )
    other = short.replace("kernel_size: 3", "kernel_size: 3 kernel_size: 2")

    assert read_prototxt(short).canonical() == read_prototxt(long).canonical()
    assert read_prototxt(short).canonical() != read_prototxt(other).canonical()
    assert read_prototxt(short) != read_prototxt(long)


def test_of_refuses_a_field_that_the_type_lacks():
    assert ReLU.of("r", "a", "a", negative_slope=0.5).negative_slope == 0.5

    with pytest.raises(NetError, match="layer 'r': ReLU has no field 'slope'"):
        ReLU.of("r", "a", "a", slope=0.5)


def test_a_layer_no_class_knows_is_plain():
    assert type(make_layer("a", "Pythagoras")) is Layer
    assert type(make_layer("a", "ReLU")) is ReLU


def test_shape_error_is_a_net_error():
    """So that one ``except`` is enough."""
    net = Net(
        "t",
        (ReLU("r", "ReLU", ("a", "b"), ("c",)),),
        {"input": ("a", "b"), "input_shape": ({"dim": (1,)},) * 2},
    )

    with pytest.raises(ShapeError, match="takes 1 bottom, has 2"):
        list(net.walk())
