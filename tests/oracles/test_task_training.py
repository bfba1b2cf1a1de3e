"""The Caffe that trains: localization and segmentation learn, and Proposal gives our regions."""

import re
from dataclasses import replace

import numpy as np
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward
from resnet_proto.formats import save
from resnet_proto.layers import DummyData, InnerProduct, Input, Proposal, Reshape
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import to_prototxt
from resnet_proto.spec import for_task
from resnet_proto.training.tasks import FINISH
from resnet_proto.training.train_val import to_train_val

training = pytest.importorskip("oracles.training", reason="nothing here runs `caffe train`")

SOLVER = """
net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 max_iter: 10 display: 1
test_iter: 1 test_interval: 10 test_initialization: false random_seed: 1 solver_mode: CPU
snapshot_after_train: false
"""


@pytest.mark.parametrize("task", ["localization", "segmentation"])
def test_it_learns(task, caffe_binary, tmp_path):
    """Ten iterations on noise of one class, forward and backward: the loss falls.

    BatchNorm is not frozen: `caffe train` of this fork takes no weights, so there would be no
    statistics.
    """
    spec = for_task(PRESETS["resnet-50"].spec, task)
    recipe = {"data": "dummy", "batch": 2, "freeze_batch_norm": False, "freeze_scale": False}
    spec = replace(
        spec, width=(8,), stem_width=8, classes=5, input_size=65,
        training=replace(spec.training, **recipe),
    )  # fmt: skip
    net = to_train_val(deploy_net(spec), spec.training, FINISH[task])
    (tmp_path / "net.prototxt").write_text(to_prototxt(net))
    (tmp_path / "solver.prototxt").write_text(SOLVER)

    status, log = training.run_caffe(caffe_binary, tmp_path, "train", "-solver", "solver.prototxt")

    assert status == 0, log[-2000:]
    values = [loss for _, loss in training.losses(log)]
    assert np.isfinite(values).all()
    assert values[-1] < values[0] / 2


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("task", ["localization", "segmentation"])
def test_whole_nets_load(task, phase, caffe_binary, tmp_path):
    spec = for_task(PRESETS["resnet-50"].spec, task)
    spec = replace(spec, training=replace(spec.training, data="dummy", batch=1))
    net = to_train_val(deploy_net(spec), spec.training, FINISH[task])

    status, log = training.load(caffe_binary, tmp_path, to_prototxt(net), phase)

    assert status == 0, log[-2000:]


@pytest.mark.parametrize("seed", range(4))
def test_proposals(seed, caffe_binary, tmp_path):
    """Its scales are divided by base_size, and no side is rounded: ratios whose sides are whole.

    What goes in lies in the weights of a matrix, what comes out in the log, in six digits.
    """
    rng = np.random.default_rng(seed)
    rows, columns = 5 + seed, 7
    inputs = {
        "scores": rng.uniform(size=(1, 18, rows, columns)),
        "moves": 0.2 * rng.normal(size=(1, 36, rows, columns)),
        "im_info": np.array([[16 * rows - 3, 16 * columns - 5, 1]]),
    }
    inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
    values = {"ratio": (0.25, 1, 4), "min_size": 20, "nms_thresh": 0.6}
    values["post_nms_topn"] = (6, 40)[seed % 2]
    given = [Input.of(k, (), k, shape={"dim": v.shape}) for k, v in inputs.items()]
    made = [DummyData.of("one", (), "one", shape={"dim": (1, 1)}, data_filler={"value": 1.0})]
    for name, value in inputs.items():
        flat = f"{name}_values"
        made += [
            InnerProduct.of(flat, "one", flat, num_output=value.size, bias_term=False),
            Reshape.of(name, flat, name, shape={"dim": value.shape}),
        ]

    def net(first, factor):
        scales = tuple(factor * scale for scale in (2.0, 4.0, 8.0))
        tops = ("rois", "best")
        return Net("p", (*first, Proposal.of("p", tuple(inputs), tops, scale=scales, **values)))

    ours = forward(net(given, 1), {}, inputs)
    (tmp_path / "net.prototxt").write_text(to_prototxt(net(made, 16)))
    weights = {f"{name}_values.weight": v.reshape(-1, 1) for name, v in inputs.items()}
    save(tmp_path / "net.caffemodel", weights, Net("p", tuple(made)))
    arguments = ("-model", "net.prototxt", "-weights", "net.caffemodel", "-iterations", "1")
    status, log = training.run_caffe(caffe_binary, tmp_path, "test", *arguments)

    assert status == 0, log[-2000:]
    for name in ("rois", "best"):
        theirs = [float(text) for text in re.findall(rf"Batch 0, {name} = (\S+)", log)]
        assert ours[name].size > 5
        np.testing.assert_allclose(ours[name].ravel(), theirs, rtol=1e-5, atol=1e-5)
