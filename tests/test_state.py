"""Phase, level and stages; the real Caffe is asked in ``oracles/test_states.py``."""

import pytest

from resnet_proto.engine import forward, run
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import NetError
from resnet_proto.fit import match
from resnet_proto.layers import ReLU, make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import parse_net
from resnet_proto.report.summary import summarize
from resnet_proto.state import DEFAULT, State
from resnet_proto.weights import random_weights

IP = """layer {
  name: "%s" type: "InnerProduct" bottom: "data" top: "%s" %s
  inner_product_param { num_output: %d }
}
"""
NET = parse_net(
    'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }\n'
    + IP % ("small", "y", 'include { not_stage: "big" }', 5)
    + IP % ("big", "y", 'include { stage: "big" min_level: 2 }', 7)
    + IP % ("trained", "z", "include { phase: TRAIN }", 4)
)
BIG = NET.at(level=3, stages=("big",))


def test_no_phase_is_called_so():
    assert State("TRAIN").phase == "TRAIN"
    with pytest.raises(NetError, match="phase is 'train'; known: TEST, TRAIN"):
        State("train")


def test_a_level_has_32_bits():
    assert State(level=-(2**31)).level == -(2**31)
    with pytest.raises(NetError, match="level is 2147483648; a number of 32 bits"):
        State(level=2**31)
    with pytest.raises(NetError, match="level is high; a number of 32 bits"):
        State(level="high")


def test_one_stage_is_no_list_of_letters():
    assert State(stages="ab") == State(stages=("ab",)) == State(stages=["ab"])
    with pytest.raises(NetError, match=r"stages is \(1, 'ab'\); names are needed"):
        State(stages=[1, "ab"])


def test_a_net_is_the_same_net_in_any_state():
    """It is looked at for a state; what its text says is all there."""
    assert NET.state == DEFAULT
    assert BIG == NET
    assert BIG.at(phase="TRAIN").state == State("TRAIN", 3, ("big",))
    assert BIG.upgraded().filtered().state == BIG.state


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (NET, ["in", "small"]),
        (NET.at(phase="TRAIN"), ["in", "small", "trained"]),
        (BIG, ["in", "big"]),
        (BIG.at(phase="TRAIN"), ["in", "big", "trained"]),
        (BIG.at(level=1), ["in"]),
    ],
)
def test_every_answer_is_of_the_layers_of_the_state(net, names):
    """The walk, what weights do, random weights, a summary: none asks for another state."""
    weights = random_weights(net)

    assert [layer.name for layer in net.filtered().layers] == names
    assert [step.label for step in net.walk()] == names
    assert [layer.label for layer in weights.layers] == names
    assert [v.layer for v in match(weights, net) if v.verdict == "copied"] == names[1:]
    assert [row.layer for row in summarize(net).rows] == names
    assert [layer.name for layer in net.filtered("TEST").layers] == [
        name for name in names if name != "trained"
    ]


def test_inputs_and_data_of_a_state():
    data = {"input_param": {"shape": ({"dim": (2, 3)},)}, "include": ({"stage": ("a",)},)}
    dummy = {"dummy_data_param": {"shape": ({"dim": (4, 3)},)}, "exclude": ({"stage": ("a",)},)}
    net = Net("t", (make_layer("in", "Input", (), ("data",), data),
                    make_layer("d", "DummyData", (), ("data",), dummy),
                    ReLU.of("r", "data", "r")))  # fmt: skip

    assert net.inputs() == {}
    assert [*net.data_tops()] == ["data"]
    assert net.at(stages="a").inputs() == {"data": (2, 3)}
    assert net.at(stages="a").data_tops() == {}
    assert [step.tops[0] for step in net.walk()] == [(4, 3)] * 2


def test_a_run_is_of_the_state():
    import numpy as np

    x = np.ones((2, 3), np.float32)
    for net, columns in ((NET, 5), (BIG, 7)):
        weights = random_weights(net)
        for y in (
            forward(net, weights, x)["y"],
            Plan(net, weights).run(x)["y"],
            run("torch", net, weights, {"data": x})["y"],
            run("onnxruntime", net, weights, {"data": x})["y"],
            run("opencv", net, weights, {"data": x})["y"],
        ):
            assert y.shape == (2, columns)


@pytest.mark.parametrize("engine", ["numpy", "float64", "torch", "onnxruntime", "opencv", "caffe"])
def test_nothing_is_computed_at_train(engine):
    """Layers are defined at TEST: BatchNorm would take the batch's statistics, Dropout drop."""
    import numpy as np

    inputs = {"data": np.ones((2, 3), np.float32)}
    net = NET.at(phase="TRAIN")

    with pytest.raises(NetError, match=r"the net is at phase TRAIN; .*what layers do at TEST"):
        run(engine, net, random_weights(net), inputs)
    with pytest.raises(NetError, match="phase TRAIN"):
        forward(net, random_weights(net), inputs)
    with pytest.raises(NetError, match="phase TRAIN"):
        Plan(net, random_weights(net))
