"""Shared weights: the real Caffe's blobs, copies that differ, and what it refuses."""

import re
from contextlib import suppress

import numpy as np
import pytest
import wire
from oracles.nets_in_caffe import ask

from resnet_proto.engine import run
from resnet_proto.engine.compare import compare
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.engine.plain import forward
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import NetError, ResNetProtoError, UnknownLayerError, WeightsError
from resnet_proto.fit import match
from resnet_proto.formats import convert, load, save
from resnet_proto.memory import memory
from resnet_proto.prototxt import parse_net, read_prototxt
from resnet_proto.report.summary import summarize
from resnet_proto.weights import Weights, random_weights

TWO = """layer {
  name: "in" type: "Input" top: "data" top: "other"
  input_param { shape { dim: 2 dim: 3 SIDES } shape { dim: 4 dim: 3 SIDES } }
}
"""
FLAT, MAPS = TWO.replace("SIDES", ""), TWO.replace("SIDES", "dim: 7 dim: 5")
SEQUENCE = """layer {
  name: "in" type: "Input" top: "x" top: "cont"
  input_param { shape { dim: 5 dim: 2 dim: 4 } shape { dim: 5 dim: 2 } }
}
"""
W, V = 'name: "w"', 'name: "v"'
LOOSE = " share_mode: PERMISSIVE"


def layer(type, name, bottoms, params, fields):
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    named = " ".join(f"param {{ {param} }}" for param in params)
    return f'layer {{ name: "{name}" type: "{type}" {reads} top: "{name}" {named} {fields} }}\n'


def product(name, bottom, n, *params, bias=False):
    fields = f"num_output: {n} bias_term: {str(bias).lower()}"
    return layer("InnerProduct", name, bottom, params, f"inner_product_param {{ {fields} }}")


def convolution(name, bottom, *params, **more):
    fields = {"num_output": 4, "kernel_h": 3, "kernel_w": 2, **more}
    text = " ".join(f"{key}: {value}" for key, value in fields.items())
    return layer("Convolution", name, bottom, params, f"convolution_param {{ {text} }}")


def norm(name, bottom, *params):
    return layer("BatchNorm", name, bottom, params, "")


def scale(name, bottom, *params):
    return layer("Scale", name, bottom, params, "scale_param { bias_term: true }")


def recurrent(type, name, *params, bottoms="x cont"):
    return layer(type, name, bottoms, params, "recurrent_param { num_output: 4 }")


EMBED = "embed_param { input_dim: 9 num_output: 5 bias_term: false }"
ALL = [W, V, 'name: "u"']
TAKEN = {
    "a weight": FLAT + product("a", "data", 5, W) + product("b", "other", 5, W),
    "a weight, each its bias": FLAT
    + product("a", "data", 5, W, bias=True)
    + product("b", "other", 5, W, bias=True),
    "weight and bias": FLAT
    + product("a", "data", 5, W, V, bias=True)
    + product("b", "other", 5, W, V, bias=True),
    "only the bias": FLAT
    + product("a", "data", 5, "", V, bias=True)
    + product("b", "other", 5, "", V, bias=True),
    "three layers": FLAT
    + product("a", "data", 3, W)
    + product("b", "a", 3, W)
    + product("c", "b", 3, W),
    "another shape": FLAT + product("a", "data", 5, W) + product("b", "a", 3, W + LOOSE),
    "within a layer": FLAT
    + product("a", "data", 1, V)
    + product("b", "a", 5, W, W + LOOSE, bias=True),
    "weight and bias crosswise": FLAT
    + product("a", "data", 1, V)
    + product("b", "a", 3, W, V + LOOSE, bias=True),
    "a rate given once": FLAT
    + product("a", "data", 5, W)
    + product("b", "other", 5, W + " lr_mult: 3"),
    "one rate": FLAT
    + product("a", "data", 5, W + " lr_mult: 3 decay_mult: 0")
    + product("b", "other", 5, W + " lr_mult: 3 decay_mult: 0"),
    "a name by itself": FLAT + product("a", "data", 5, W) + product("b", "other", 5, V),
    "an empty name": FLAT
    + product("a", "data", 5, 'name: ""')
    + product("b", "other", 4, 'name: ""'),
    "convolutions": MAPS + convolution("a", "data", W, V) + convolution("b", "other", W, V),
    "convolutions with other strides": MAPS
    + convolution("a", "data", W, V)
    + convolution("b", "other", W, V, stride=2, pad=1),
    "convolution and product": MAPS
    + convolution("a", "data", W, bias_term="false")
    + layer("Reduction", "mean", "data", [], "reduction_param { axis: 2 operation: MEAN }")
    + product("b", "mean", 24, W + LOOSE),
    "statistics": MAPS + norm("a", "data", *ALL) + norm("b", "other", *ALL),
    "statistics, rates of their own": MAPS
    + norm("a", "data", W + " lr_mult: 1", V, "")
    + norm("b", "other", W + " lr_mult: 2", V, ""),
    "mean of two": MAPS
    + norm("a", "data", W + " lr_mult: 0")
    + norm("b", "other", W + " lr_mult: 0"),
    "mean and gamma": MAPS + norm("a", "data", W, "", "") + scale("b", "data", W + " lr_mult: 0"),
    "gamma and beta": MAPS + scale("a", "data", W, V) + scale("b", "other", W, V),
    "gamma is beta": MAPS + scale("a", "data", W, W),
    "RNN": SEQUENCE + recurrent("RNN", "a", *ALL) + recurrent("RNN", "b", *ALL),
    "LSTM": SEQUENCE + recurrent("LSTM", "a", *ALL) + recurrent("LSTM", "b", *ALL),
    "the state's weight of two LSTM": SEQUENCE
    + recurrent("LSTM", "a", "", "", W)
    + recurrent("LSTM", "b", "", "", W),
    "biases of one RNN": SEQUENCE + recurrent("RNN", "a", "", W, "", "", W),
    "matrices of one RNN": SEQUENCE + recurrent("RNN", "a", "", "", W, W, ""),
    "an RNN with a bottom for all steps": SEQUENCE.replace(
        'top: "cont"', 'top: "cont" top: "s"').replace(
        "shape { dim: 5 dim: 2 } }", "shape { dim: 5 dim: 2 } shape { dim: 2 dim: 4 } }")
    + recurrent("RNN", "a", "", "", "", W, bottoms="x cont s")
    + recurrent("RNN", "b", "", "", W),
    "PReLU": MAPS
    + layer("PReLU", "a", "data", [W], "")
    + layer("PReLU", "b", "other", [W], ""),
    "Parameter": FLAT
    + product("a", "data", 5, W)
    + layer("Parameter", "b", "", [W], "parameter_param { shape { dim: 5 dim: 3 } }"),
    "Embed": FLAT
    + layer("Embed", "a", "data", [W], EMBED)
    + product("b", "data", 15, W + LOOSE),
    "two layers of one name": FLAT
    + product("a", "data", 5, W)
    + product("a", "other", 5, W).replace('top: "a"', 'top: "b"'),
}  # fmt: skip
REFUSED = {
    "another shape": FLAT + product("a", "data", 5, W) + product("b", "a", 3, W),
    "another shape, the owner permits": FLAT
    + product("a", "data", 5, W + LOOSE)
    + product("b", "a", 3, W),
    "another count": FLAT + product("a", "data", 5, W) + product("b", "a", 4, W + LOOSE),
    "within a layer": FLAT + product("a", "data", 1) + product("b", "a", 5, W, W, bias=True),
    "two rates": FLAT
    + product("a", "data", 5, W + " lr_mult: 2")
    + product("b", "other", 5, W + " lr_mult: 1"),
    "two rates behind an owner without": FLAT
    + product("a", "data", 5, W)
    + product("b", "other", 5, W + " lr_mult: 2")
    + product("c", "other", 5, W + " lr_mult: 1"),
    "two decays": FLAT
    + product("a", "data", 5, W + " decay_mult: 2")
    + product("b", "other", 5, W + " decay_mult: 0"),
    "a gamma with a rate": MAPS
    + norm("a", "data", W, "", "")
    + scale("b", "data", W + " lr_mult: 1"),
    "two means, which have rates": MAPS + norm("a", "data", W, V) + norm("b", "other", W, V),
    "more names than blobs": FLAT + product("a", "data", 5, W, V),
}


class Case:
    """A net with weights and inputs; in its file each copy of a blob is another."""

    def __init__(self, folder, text, seed):
        self.folder = folder
        folder.mkdir()
        (folder / "net.prototxt").write_text(text)
        self.net = read_prototxt(folder / "net.prototxt")
        self.file = folder / "net.caffemodel"
        rng = np.random.default_rng(seed)
        self.inputs = {
            name: rng.integers(0, 2 if name == "cont" else 9, shape).astype(np.float32)
            for name, shape in self.net.inputs().items()
        }
        alone = parse_net(re.sub('name: "[wvu]?"|share_mode: PERMISSIVE', "", text))
        with suppress(NetError):  # more names than blobs
            save(self.file, random_weights(alone, seed), alone)
        weights = self.file if self.file.exists() else None
        write_job(folder, folder / "net.prototxt", weights, self.inputs)


@pytest.fixture(scope="module")
def cases(caffe_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    every = {("taken", name): text for name, text in TAKEN.items()}
    every |= {("refused", name): text for name, text in REFUSED.items()}
    done = {key: Case(folder / str(i), text, i) for i, (key, text) in enumerate(every.items())}
    run_jobs(caffe_python, [case.folder for case in done.values()])
    return done


@pytest.mark.parametrize("name", TAKEN)
def test_the_last_copy_counts(cases, name, torch, onnxruntime):
    """CopyTrainedLayersFrom writes each copy of a file over the one before."""
    case = cases["taken", name]
    theirs = read_job(case.folder)
    with load(case.file) as weights:
        assert {v.verdict for v in match(weights, case.net)} == {"copied"}
        answers = [
            forward(case.net, weights, case.inputs),
            forward(case.net, {**weights}, case.inputs),
            Plan(case.net, weights).run(case.inputs),
        ]
        for engine in ("torch", "onnxruntime"):
            with suppress(UnknownLayerError):  # RNN and LSTM in torch
                answers.append(run(engine, case.net, weights, case.inputs))
    for ours in answers:
        assert ours.keys() == theirs.keys()
        for row in compare(ours, theirs):
            assert row.within(1e-5), row


READ = [name for name, text in TAKEN.items() if 'bottom: "other"' in text]
"""OpenCV wants every input to be read by a layer."""


@pytest.mark.parametrize("name", READ)
def test_opencv_gets_what_caffe_has(cases, name, cv2):
    """It knows no names of param, so it is given a file in which all copies are the last."""
    case = cases["taken", name]
    with load(case.file) as weights:
        ours = run("opencv", case.net, weights, case.inputs,
                   net_file=case.folder / "net.prototxt", weights_file=case.file)  # fmt: skip
    for row in compare(ours, read_job(case.folder)):
        assert row.within(1e-5), row


@pytest.mark.parametrize("name", REFUSED)
def test_what_caffe_refuses(cases, name):
    case = cases["refused", name]

    with pytest.raises(NetError):
        list(case.net.walk())
    with pytest.raises(ResNetProtoError, match=r"Cannot share|mismatched|statistics|Too many"):
        read_job(case.folder)


@pytest.mark.parametrize("blob", ["a", "b", "c"])
def test_a_part_of_a_net_has_the_weights_of_the_whole(cases, blob):
    """The last copy is that of a layer that is not run."""
    case = cases["taken", "three layers"]
    theirs = read_job(case.folder)
    with load(case.file) as weights:
        for ours in (
            forward(case.net, weights, case.inputs, outputs=[blob]),
            forward(case.net, {**weights}, case.inputs, until=blob),
            Plan(case.net, weights).run(case.inputs, outputs=[blob]),
            run("onnxruntime", case.net, weights, case.inputs, outputs=[blob], until=blob),
        ):
            np.testing.assert_allclose(ours[blob], theirs[blob], rtol=1e-5)


def test_an_owner_that_is_not_run(cases):
    """Only what reads the other input is computed, with the weight of the layer that does not."""
    case = cases["taken", "weight and bias"]
    with load(case.file) as weights:
        only_owner = {key: value for key, value in weights.items() if key.startswith("a.")}

    for weights in (only_owner, Weights.of(only_owner)):
        whole = forward(case.net, weights, case.inputs)
        part = forward(case.net, weights, {"other": case.inputs["other"]}, outputs=["b"])
        np.testing.assert_array_equal(part["b"], whole["b"])
    random = random_weights(case.net, wanted=["b"])
    assert [*random] == ["a.weight", "a.bias"]
    forward(case.net, random, {"other": case.inputs["other"]}, outputs=["b"])


PAIR = FLAT + product("a", "data", 5, W) + product("b", "other", 5, W)
STORED = [("a", "a", (5, 3), 0), ("b", "b", (5, 3), 20), ("x", "b", (3, 5), 0)]
COPIES = {
    name: wire.layer(of, "InnerProduct", wire.shape(*shape) + wire.packed(5, *range(at, at + 15)))
    for name, of, shape, at in STORED
}
"""x is one of b that does not fit."""


@pytest.mark.parametrize(
    ("order", "copied", "refused"),
    [("ab", "ab", ""), ("ba", "ab", ""), ("a", "ab", ""), ("b", "ab", ""), ("ax", "a", "b")],
)
def test_files_with_some_of_the_copies(caffe_python, tmp_path, order, copied, refused):
    """A layer that the file lacks has the weights of one that it has; each copy has to fit."""
    (tmp_path / "net.prototxt").write_text(PAIR)
    (tmp_path / "net.caffemodel").write_bytes(b"".join(COPIES[name] for name in order))
    net = parse_net(PAIR)
    inputs = {name: np.ones(shape, np.float32) for name, shape in net.inputs().items()}
    write_job(tmp_path, tmp_path / "net.prototxt", tmp_path / "net.caffemodel", inputs)
    run_jobs(caffe_python, [tmp_path])

    with load(tmp_path / "net.caffemodel") as weights:
        verdicts = match(weights, net)
        assert sorted(v.layer for v in verdicts if v.verdict == "copied") == [*copied]
        assert [v.layer for v in verdicts if v.verdict == "refused"] == [*refused]
        if refused:
            with pytest.raises(WeightsError, match="'b' does not fit the net: weight is 3x5"):
                forward(net, weights, inputs)
            with pytest.raises(ResNetProtoError, match="Cannot copy param"):
                read_job(tmp_path)
            return
        ours = forward(net, weights, inputs)
    theirs = read_job(tmp_path)
    for blob in ("a", "b"):
        np.testing.assert_array_equal(ours[blob], theirs[blob])


def test_a_layer_without_the_weights_that_are_its_own():
    """Caffe leaves its bias at the filler, and says nothing; the shared weight is there."""
    text = FLAT + product("a", "data", 5, W, bias=True) + product("b", "other", 5, W, bias=True)
    net = parse_net(text)
    arrays = {"a.weight": np.ones((5, 3), np.float32), "a.bias": np.ones(5, np.float32)}

    verdicts = match(Weights.of(arrays), net)

    assert [(v.layer, v.verdict) for v in verdicts] == [
        ("a", "copied"),
        ("b", "left at its filler"),
    ]
    with pytest.raises(WeightsError, match="'b' does not fit the net: the weights have none"):
        forward(net, Weights.of(arrays), {"data": np.ones((2, 3)), "other": np.ones((4, 3))})
    whole = {**arrays, "b.bias": np.zeros(5, np.float32)}
    blobs = forward(net, Weights.of(whole), {"data": np.ones((2, 3)), "other": np.ones((4, 3))})
    assert (blobs["b"] == 3).all()


@pytest.mark.parametrize("name", ["a weight, each its bias", "another shape", "LSTM", "statistics"])
def test_files_are_those_that_caffe_writes(cases, caffe_python, tmp_path, name):
    """A caffemodel has the weights at each layer, in its shape; other formats have them once."""
    case = cases["taken", name]
    text = (case.folder / "net.prototxt").read_text()
    saved = tmp_path / "saved.caffemodel"
    job = {"net": text, "weights": str(case.file), "save": str(saved)}
    assert ask(caffe_python, tmp_path, [job]) != [None]

    ours, once, again = (tmp_path / name for name in ("w.caffemodel", "w.npz", "w2.caffemodel"))
    convert(case.file, ours, case.net)
    convert(case.file, once, case.net)
    convert(once, again)  # the net is within

    with load(saved) as theirs, load(ours) as direct, load(again) as back:
        for weights in (direct, back):
            assert [*weights] == [*theirs]
            for key in theirs:
                np.testing.assert_array_equal(weights[key], theirs[key])
        owners = {keys[0] for blobs in case.net.sharing().values() for keys in blobs.values()}
        shared = {
            f"{label}.{blob}" for label, blobs in case.net.sharing().items() for blob in blobs
        }
        with load(once) as single:
            assert {*single} == {*theirs} - (shared - owners)
            np.testing.assert_array_equal(
                forward(case.net, single, case.inputs)["b"],
                forward(case.net, direct, case.inputs)["b"],
            )


def test_what_is_shared_counts_once(cases):
    """Parameters, bytes of weights, random weights."""
    for name in TAKEN:
        net = cases["taken", name].net
        own = dict(owned(net))
        random = random_weights(net)
        assert [*random] == [*own]
        total = sum(own.values())
        summary = summarize(net)
        assert summary.parameters + summary.statistics == total
        assert memory(net, phases=["test"]).phases["test"]["weights"] == 4 * total


def owned(net):
    """Keys of blobs and their sizes, by the rule as it is written: the first of a name."""
    seen = set()
    for step in net.walk():
        params = step.layer.fields.get("param", ())
        for i, (blob, shape) in enumerate(step.blobs.items()):
            name = params[i].get("name", "") if i < len(params) else ""
            if name and name in seen:
                continue
            seen.add(name)
            yield f"{step.label}.{blob}", int(np.prod(shape))
