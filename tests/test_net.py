"""The walk: what is refused, each with a twin that is accepted."""

import io
from pathlib import Path

import numpy as np
import pytest

import resnet_proto
from resnet_proto.engine import forward
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import NetError, ResNetProtoError, ShapeError, UnknownLayerError
from resnet_proto.layers import Layer, ReLU, make_layer
from resnet_proto.net import Net, labels
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt

HEADER = 'name: "t" input: "data" input_shape { dim: 2 dim: 3 dim: 7 dim: 5 }\n'


def layer(name, type, bottoms="data", tops=None, rest=""):
    lines = [f'name: "{name}" type: "{type}"']
    lines += [f'bottom: "{b}"' for b in bottoms.split()]
    lines += [f'top: "{t}"' for t in (tops or name).split()]
    return f"layer {{ {' '.join(lines)} {rest} }}\n"


CONV = "convolution_param {{ num_output: 4 kernel_size: {} }}"

DILATED = "convolution_param {{ num_output: 4 kernel_h: 3 kernel_w: 2 dilation: {} }}"

NO_BIAS = "convolution_param { num_output: 2 kernel_size: 1 bias_term: false }"

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
        r"layer 'b' \(ReLU\) overwrites blob 'data' in place, which 1 other bottom or loss reads",
    ),
    "more parameters than blobs": (
        layer("c", "Convolution", rest="param {} param {} " + NO_BIAS),
        layer("c", "Convolution", rest="param {} " + NO_BIAS),
        r"layer 'c' \(Convolution\): has 2 param for 1 blob",
    ),
    "a rate for the statistics of BatchNorm": (
        layer("b", "BatchNorm", rest="param { lr_mult: 0 } param {}"),
        layer("b", "BatchNorm", rest="param { lr_mult: 0 } param {} param { lr_mult: 3 }"),
        r"layer 'b' \(BatchNorm\): its statistics are measured, not learned: give",
    ),
    "propagate_down for some bottoms": (
        layer("s", "Eltwise", "data data", rest="propagate_down: true"),
        layer("s", "Eltwise", "data data", rest="propagate_down: true propagate_down: false"),
        r"layer 's' \(Eltwise\): has 1 propagate_down for 2 bottoms",
    ),
    "more loss weights than tops": (
        layer("r", "ReLU", rest="loss_weight: 1 loss_weight: 0"),
        layer("r", "ReLU", rest="loss_weight: 0"),
        r"layer 'r' \(ReLU\): has 2 loss_weight for 1 top",
    ),
    "Eltwise of two shapes": (
        layer("c", "Convolution", rest=CONV.format(1)) + layer("s", "Eltwise", "data c"),
        layer("c", "Convolution", rest=CONV.format(1).replace("4", "3"))
        + layer("s", "Eltwise", "data c"),
        r"layer 's' \(Eltwise\): needs bottoms of one shape, has 'data' 2x3x7x5, 'c' 2x4x7x5; give",
    ),
    "kernel larger than the map": (
        layer("c", "Convolution", rest=CONV.format(7)),
        layer("c", "Convolution", rest=CONV.format(5)),
        r"layer 'c' \(Convolution\): kernel 7x7 is too large, the bottom with its pad has 7x5",
    ),
    "pooling larger than the map": (
        layer("p", "Pooling", rest="pooling_param { kernel_size: 9 }"),
        layer("p", "Pooling", rest="pooling_param { kernel_size: 5 }"),
        r"layer 'p' \(Pooling\): kernel 9x9 is too large, the bottom with its pad has 7x5",
    ),
    "dilated kernel larger than the padded map": (
        layer("c", "Convolution", rest=DILATED.format(4)),
        layer("c", "Convolution", rest=DILATED.format(3)),
        r"layer 'c' \(Convolution\): kernel 3x2 with dilation 4x4 spans 9x5, the bottom",
    ),
    "in place over a loss": (
        layer("a", "ReLU", rest="loss_weight: 1") + layer("b", "ReLU", "a", "a"),
        layer("a", "ReLU", rest="loss_weight: 0") + layer("b", "ReLU", "a", "a"),
        r"layer 'b' \(ReLU\) overwrites blob 'a' in place, which 1 other bottom or loss reads",
    ),
    "in place over a loss that is in place": (
        layer("a", "ReLU", "data", "data", "loss_weight: 2") + layer("b", "ReLU", "data", "data"),
        layer("b", "ReLU", "data", "data") + layer("a", "ReLU", "data", "data", "loss_weight: 2"),
        r"layer 'b' \(ReLU\) overwrites blob 'data' in place",
    ),
    "no type": (
        "layer { name: 'r' bottom: 'data' top: 'r' }",
        layer("r", "ReLU"),
        "layer 'r' has no type; give it one",
    ),
    "one bottom too few": (
        layer("s", "Eltwise"),
        layer("s", "Eltwise", "data data"),
        r"layer 's' \(Eltwise\): takes at least 2 bottoms, has 1",
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


BEHIND = [
    "blob before it is made",
    "two writers of a top",
    "in place over the second bottom",
    "in place over a blob that another layer reads",
    "in place over a loss",
    "no type",
    "both kinds of rules",
]


@pytest.mark.parametrize("case", BEHIND)
def test_refused_behind_an_unknown_layer(case):
    """Names and types are checked where no shapes are known."""
    wrong, right, message = REFUSED[case]
    first = HEADER + layer("u", "Pythagoras", "", "u")
    with pytest.raises(UnknownLayerError, match="layer 'u'"):
        list(read_prototxt(first + right).walk())

    with pytest.raises(NetError, match=message):
        list(read_prototxt(first + wrong).walk())


def test_a_loss_layer_has_its_weight_too_late_to_count(tmp_path, caffe_python):
    """The 1 that Caffe gives it is set after blobs are split, so it may be overwritten."""
    loss = layer("loss", "EuclideanLoss", "data data", "loss")
    text = HEADER + loss + layer("r", "ReLU", "loss", "loss")
    assert len(list(read_prototxt(text).walk())) == 3

    (tmp_path / "net.prototxt").write_text(text)
    write_job(tmp_path, tmp_path / "net.prototxt", None, {"data": np.zeros((2, 3, 7, 5))})
    run_jobs(caffe_python, [tmp_path])
    assert "loss" in read_job(tmp_path)


@pytest.mark.parametrize(
    ("type", "hint"),
    [
        ("Relu", " not known; docs/engines.md lists the types that are known; did you mean ReLU, "),
        ("Convolutoin", "lists the types that are known; did you mean Convolution"),
        ("Python", " not known; docs/engines.md lists the types that are known$"),
    ],
)
def test_a_type_that_was_meant(type, hint):
    """Only where Caffe itself has no such type."""
    with pytest.raises(UnknownLayerError, match=f"has type '{type}'.*{hint}"):
        list(read_prototxt(HEADER + layer("a", type)).walk())


def test_a_blob_that_was_meant():
    with pytest.raises(NetError, match="'Conv_1', which no layer before it writes; did you mean c"):
        list(read_prototxt(HEADER + layer("conv1", "ReLU") + layer("a", "ReLU", "Conv_1")).walk())


@pytest.mark.parametrize(
    ("more", "which"), [("", "the only one is 'd'"), ("input: 'e'", "the last is 'e'")]
)
def test_an_input_that_is_not_there(more, which):
    sizes = "input_shape { dim: 1 }" * (1 + bool(more))
    net = read_prototxt(f"input: 'd' {more} {sizes}")

    with pytest.raises(NetError, match=f"the net has no input 'image'; {which}"):
        net.with_input_shapes({"image": (1,)})


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
        ("input: 'a' input: 'b' input_shape { dim: 1 }", "1 input_shape for 2 input"),
        (
            "input: 'a' input_shape { dim: -3 }",
            "blob 'a' would be -3; no size may be negative; give",
        ),
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


@pytest.mark.parametrize(
    ("header", "inputs"),
    [
        ("input: 'a' input_shape { dim: 4 } input_shape { dim: 2 }", {"a": (4,)}),
        ("input: 'a' input_dim: 1 input_shape { dim: 6 dim: 5 }", {"a": (6, 5)}),
        (
            "input: 'a' input: 'b' input_shape { dim: 3 } input_shape { dim: 2 dim: 7 }",
            {"a": (3,), "b": (2, 7)},
        ),
    ],
)
def test_old_inputs_as_caffe_takes_them(header, inputs, tmp_path, caffe_python):
    """upgrade_proto.cpp, UpgradeNetInput: a shape goes before dims, what is too much is nothing."""
    net = read_prototxt(header)
    assert net.inputs() == inputs

    (tmp_path / "net.prototxt").write_text(header)
    values = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
    write_job(tmp_path, tmp_path / "net.prototxt", None, values)
    run_jobs(caffe_python, [tmp_path])
    assert {name: value.shape for name, value in read_job(tmp_path).items()} == inputs


def test_shapes_without_an_input_are_left_alone():
    """UpgradeNetInput is not called where there is no input."""
    net = read_prototxt("input_dim: 1 " + layer("r", "ReLU"))

    assert net.upgraded() == net


def test_stages_of_the_nets_own_state(tmp_path, caffe_python):
    """Caffe adds them to those that it is given."""
    text = (
        HEADER + "state { phase: TRAIN level: 3 stage: 'deploy' }\n"
        + layer("r", "ReLU", rest="include { stage: 'deploy' }")
        + layer("s", "ReLU", rest="include { stage: 'other' }")
        + layer("t", "ReLU", rest="include { phase: TRAIN }")
    )  # fmt: skip
    kept = [layer.name for layer in read_prototxt(text).filtered().layers]

    (tmp_path / "net.prototxt").write_text(text)
    write_job(tmp_path, tmp_path / "net.prototxt", None, {"data": np.zeros((2, 3, 7, 5))})
    run_jobs(caffe_python, [tmp_path])
    assert list(read_job(tmp_path)) == ["data", *kept] == ["data", "r"]


def test_no_phase_is_called_so():
    with pytest.raises(NetError, match="phase is 'test'; known: TEST, TRAIN"):
        list(read_prototxt(HEADER + layer("r", "ReLU")).walk("test"))


def test_a_name_that_looks_like_a_number():
    with pytest.raises(NetError, match=r"'a#2' is also a layer's own name|named 'a#2' repeat"):
        list(labels(["a", "a", "a#2"]))
    assert list(labels(["a", "a#2"])) == ["a", "a#2"]


def test_many_tops_take_no_time():
    """A set, and not a search for each: 300,000 names would take a quarter of an hour."""
    tops = " ".join(f"t{i}" for i in range(30_000))

    net = read_prototxt(layer("in", "Input", "", tops, "input_param { shape { dim: 1 } }"))

    assert len(net.inputs()) == 30_000


def test_an_unknown_layer_ends_the_walk():
    """The layers before it are handed out."""
    net = read_prototxt(
        HEADER + layer("r", "ReLU") + layer("p", "Pythagoras") + layer("s", "ReLU", "p")
    )
    walk = net.walk()

    assert [next(walk).label, next(walk).label] == ["input", "r"]
    with pytest.raises(
        UnknownLayerError, match=r"layer 'p' has type 'Pythagoras'.* known; docs/engines"
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

    assert net.at(level=2, stages=("a", "b", "c")).filtered().layers
    assert not net.at(level=1, stages=("a", "b")).filtered().layers
    assert not net.at(level=2, stages=("a",)).filtered().layers


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


def test_lists_become_tuples():
    """So that what is equal as text is equal as a net, and a net can be hashed."""
    net = Net("n", [make_layer("a", "ReLU", ["x"], ["y"])])

    assert net == Net("n", (ReLU("a", "ReLU", ("x",), ("y",)),))
    assert net == Net("n", [ReLU("a", "ReLU", ["x"], ["y"])])
    assert hash(net) == hash(read_prototxt(to_prototxt(net)))
    assert read_prototxt(to_prototxt(net)) == net
    assert ReLU("a", "ReLU", "data", "data").bottoms == ("data",)
    assert make_layer("a", "ReLU", "data").bottoms == ("data",)


def test_nan_equals_nothing():
    """It is read and written, but outside the law."""
    text = layer("r", "ReLU", rest="relu_param { negative_slope: %s }")
    net, twin = read_prototxt(text % "nan"), read_prototxt(text % "2")

    assert read_prototxt(to_prototxt(twin)) == twin
    assert to_prototxt(read_prototxt(to_prototxt(net))) == to_prototxt(net)
    assert read_prototxt(to_prototxt(net)) != net


def test_the_second_of_a_name_keeps_its_weights_without_the_first():
    text = (
        'input: "x" input_shape { dim: 2 dim: 3 }'
        'layer { name: "a" type: "Scale" bottom: "x" top: "z" }'
        'layer { name: "a" type: "Scale" bottom: "x" top: "y" }'
    )
    net = read_prototxt(text)
    weights = {"a.weight": np.full(3, 5.0), "a#2.weight": np.full(3, 7.0)}
    x = np.ones((2, 3))

    part = net.needed(["y"])

    assert forward(net, weights, {"x": x})["y"].ravel().tolist() == [7.0] * 6
    assert forward(part, weights, {"x": x})["y"].ravel().tolist() == [7.0] * 6
    assert net.needed(["z"]).layers == net.layers[:1]
    assert net.needed(["y", "z"]) == net


def test_shape_error_is_a_net_error():
    """So that one ``except`` is enough."""
    net = Net(
        "t",
        (ReLU("r", "ReLU", ("a", "b"), ("c",)),),
        {"input": ("a", "b"), "input_shape": ({"dim": (1,)},) * 2},
    )

    with pytest.raises(ShapeError, match="takes 1 bottom, has 2"):
        list(net.walk())


SMALL_NET = read_prototxt(HEADER + layer("a", "Convolution", rest=NO_BIAS))
VALUES = {"a.weight": np.ones((2, 3, 1, 1), np.float32)}
PATH = r"net is a file's name; read it: read_prototxt\('deploy.prototxt'\)"


@pytest.mark.parametrize(
    ("call", "right", "wrong", "message"),
    [
        (resnet_proto.to_prototxt, SMALL_NET, "deploy.prototxt", PATH),
        (resnet_proto.to_prototxt, SMALL_NET, {"layer": ()}, "net is a dict; expected a Net"),
        (resnet_proto.summarize, SMALL_NET, Path("deploy.prototxt"), PATH),
        (resnet_proto.random_weights, SMALL_NET, "deploy.prototxt", PATH),
        (lambda net: resnet_proto.save(io.BytesIO(), VALUES, net, to="npz"),
         SMALL_NET, "deploy.prototxt", PATH),
        (lambda net: resnet_proto.convert("in.npz", "out.npz", net),
         SMALL_NET, "deploy.prototxt", PATH),
        (resnet_proto.to_keras, None, "deploy.prototxt", PATH),
        (lambda net: resnet_proto.Classifier(net, {}), None, "deploy.prototxt", PATH),
        (SMALL_NET.with_input_shapes, {"": (4, 3, 8, 8)}, (4, 1, 8, 8),
         r"shapes is \(4, 1, 8, 8\); expected names and shapes"),
        (resnet_proto.deploy_net, PRESETS["cifar-resnet-56"].spec, "cifar-resnet-56",
         r"spec is the name of a preset; give PRESETS\['cifar-resnet-56'\].spec"),
        (resnet_proto.deploy_net, PRESETS["cifar-resnet-56"].spec, PRESETS["cifar-resnet-56"],
         r"spec is a preset; its spec is meant: PRESETS\['...'\].spec"),
        (resnet_proto.deploy_net, PRESETS["cifar-resnet-56"].spec, {"depth": 56},
         "spec is {'depth': 56}; expected a ResNetSpec"),
    ],
)  # fmt: skip
def test_what_is_no_net_is_said_to_be_none(call, right, wrong, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resnet_proto.save("in.npz", VALUES)
    if right is not None:
        call(right)

    with pytest.raises(ResNetProtoError, match=message):
        call(wrong)
