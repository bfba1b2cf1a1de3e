"""Chains of limits as ReLU6 or Clip: what they become, the same result, and what stays."""

import numpy as np
import onnx
import onnxruntime
import pytest
from oracles.onnx_graphs import Model

from resnet_proto import forward, read_prototxt, to_prototxt
from resnet_proto.check.target import NAMES, load_target
from resnet_proto.clips import clipped
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.onnx_file import save_onnx
from resnet_proto.formats.onnx_reader import read
from resnet_proto.graph import difference
from resnet_proto.retarget import left_over, retargeted

X = np.random.default_rng(2).normal(size=(2, 3, 7, 6)).astype(np.float32) * 4
HEAD = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 6 } } }
"""
LAYER = 'layer {{ name: "{}" type: "{}" {} top: "{}" {} }}\n'


@pytest.fixture(scope="module")
def limits(tmp_path_factory):
    """A model with Clip(0, 6), Clip(-1, 1), two hard sigmoids; what onnxruntime makes of it."""
    rng = np.random.default_rng(1)
    model = Model(rng, 13)

    def conv(x, n, channels):
        weight = model.constant(rng.normal(size=(n, channels, 3, 3)))
        return model.node("Conv", x, weight, pads=[1, 1, 1, 1])

    def clip(x, low, high):
        return model.node("Clip", x, model.constant(low), model.constant(high))

    x = clip(conv(model.input(*X.shape), 5, 3), 0, 6)
    x = conv(clip(conv(x, 4, 5), -1, 1), 6, 4)
    x = model.node("Mul", x, model.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    gate = clip(model.node("Add", conv(x, 6, 6), model.constant(3)), 0, 6)
    model.node("Mul", x, model.node("Div", gate, model.constant(6)))
    path = tmp_path_factory.mktemp("limits") / "limits.onnx"
    model.proto(path=path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return path, session.run(None, {"x0": X})[0]


def types_of(net, *kept):
    return [layer.type for layer in net.layers if layer.type in kept]


def text(*layers):
    """A net of layers: name, type, bottoms, top and more."""
    body = ""
    for name, kind, bottoms, top, more in layers:
        body += LAYER.format(name, kind, " ".join(f'bottom: "{x}"' for x in bottoms), top, more)
    return read_prototxt(HEAD + body)


def chain(low="relu", *, x="x", start="a", more=(), high=-2.5, slope=""):
    """The smaller of ``-high`` and the larger of 0 and x, layer by layer."""
    return text(
        *more,
        (low, "ReLU", [x], start, slope),
        ("n", "Power", [start], "n", "power_param { scale: -1 }"),
        ("v", "Power", ["n"], "v", f"power_param {{ scale: 0 shift: {high} }}"),
        ("m", "Eltwise", ["n", "v"], "m", "eltwise_param { operation: MAX }"),
        ("y", "Power", ["m"], "y", "power_param { scale: -1 }"),
    )


@pytest.mark.parametrize("name", NAMES)
def test_targets(limits, name):
    """One layer for each activation where the target has it, and the same result everywhere."""
    path, expected = limits
    net, weights = read(path)
    target = load_target(name)
    known = {"ReLU6", "Clip"} & {*target.types}

    new, values, done = retargeted(net, weights, target)

    assert not known or not left_over(new, values, target)
    assert ("limits as ReLU6 or Clip" in done) == bool(known)
    new, same = clipped(net, target.types), not known
    assert (new is net) == same
    assert (
        types_of(new, "Clip", "ReLU6")
        == {
            (): [],
            ("Clip",): ["Clip", "Clip", "Clip", "Clip"],
            ("ReLU6",): ["ReLU6", "ReLU6", "ReLU6"],
            ("Clip", "ReLU6"): ["ReLU6", "Clip", "Clip", "ReLU6"],
        }[tuple(sorted(known))]
    )
    assert len(new.layers) == {0: 31, 1: 14 if "Clip" in known else 20, 2: 14}[len(known)]
    assert read_prototxt(to_prototxt(new)) == new
    (last,) = new.outputs()
    assert relative_l2(forward(new, weights, X)[last], expected) <= TOLERANCE


def test_to_onnx_and_back(limits, tmp_path):
    """A Clip for each, of which reading makes the same chains."""
    path, _ = limits
    net, weights = read(path)

    save_onnx(tmp_path / "again.onnx", net, weights, dynamic="none")
    ops = [node.op_type for node in onnx.load(tmp_path / "again.onnx").graph.node]
    again, _ = read(tmp_path / "again.onnx")

    assert ops.count("Clip") == 4
    assert not {"Max", "Min", "Relu"} & {*ops}
    assert difference(again, net) is None


@pytest.mark.parametrize(
    "net",
    [
        chain(),
        chain(x="c", start="c", more=[("c", "TanH", ["x"], "c", ""),
                                      ("s", "Power", ["c"], "c", "power_param { scale: 9 }")]),
        chain(start="x"),
        chain(x="c", more=[("c", "TanH", ["x"], "c", ""), ("o", "AbsVal", ["c"], "o", "")]),
    ],
    ids=["apart", "in place", "in place on the input", "of a blob that others read"],
)  # fmt: skip
@pytest.mark.parametrize("high", [-6, -2.5, -1])
@pytest.mark.parametrize("types", [("ReLU6",), ("Clip",)])
def test_every_blob_is_the_same(net, high, types):
    """Also where the chain overwrites its bottom, whose name has other values then."""
    net = read_prototxt(to_prototxt(net).replace("shift: -2.5", f"shift: {high}"))
    old = forward(net, {}, X)

    new = clipped(net, types)

    assert types_of(new, *types) == [*types] * (types == ("Clip",) or high != -2.5)
    for name, value in forward(new, {}, X).items():
        assert name not in old or name == "x" or relative_l2(value, old[name]) <= TOLERANCE, name
    assert 0 < old["y"].max() <= -high


def test_in_place(tmp_path):
    """What works in place still does: the blob has the last name."""
    before = [("c", "TanH", ["x"], "c", ""), ("s", "Power", ["c"], "c", "power_param { scale: 9 }")]
    new = clipped(chain(x="c", start="c", more=before, high=-6), ("ReLU6",))

    assert [(x.type, x.bottoms, x.tops) for x in new.layers[1:]] == [
        ("TanH", ("x",), ("y",)), ("Power", ("y",), ("y",)), ("ReLU6", ("y",), ("y",))
    ]  # fmt: skip


def test_a_hard_sigmoid_of_a_power():
    """The factor goes into the Power before it, unless another layer reads that."""
    power = ("p", "Power", ["x"], "p", "power_param { scale: 0.5 shift: 0.25 }")
    taken = clipped(chain(x="p", more=[power], high=-1), ("ReLU6",))
    kept = clipped(chain(x="p", more=[power, ("o", "TanH", ["p"], "o", "")], high=-1), ("ReLU6",))

    assert [x.type for x in taken.layers] == ["Input", "Power", "ReLU6", "Power"]
    assert taken.layers[1].param == {"scale": 3, "shift": 1.5}
    assert [x.type for x in kept.layers] == ["Input", "Power", "TanH", "Power", "ReLU6", "Power"]


@pytest.mark.parametrize(
    "net",
    [
        chain(high=2.5),
        chain(high=0),
        chain(slope="relu_param { negative_slope: 0.1 }"),
        *(
            read_prototxt(to_prototxt(chain()) + LAYER.format("o", "TanH", bottom, "o", ""))
            for bottom in map('bottom: "{}"'.format, "anvm")
        ),
        read_prototxt(to_prototxt(chain()).replace("operation: MAX", "operation: SUM")),
        read_prototxt(to_prototxt(chain()).replace("scale: -1", "scale: -1 shift: 1")),
        read_prototxt(to_prototxt(chain()).replace("scale: 0", "scale: 0 power: 2")),
    ],
)  # fmt: skip
def test_what_stays(net):
    """Limits that cross or are equal, a leaky ReLU, blobs within that others read, another sum."""
    assert clipped(chain(), ("Clip",)) != chain()
    assert clipped(net, ("Clip", "ReLU6")) is net
