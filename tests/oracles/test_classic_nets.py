"""The nets that Caffe's users know best: every blob equals the real Caffe's.

They are drawn in ``tests/nets/``. With RESNET_PROTO_FULL_SIZE=1 all have their real size, which
takes gigabytes; without it those of ``SMALLER`` are narrower, with every layer.
"""

import os
import re
from functools import cached_property

import numpy as np
import pytest
from nets.classic import NETS, SMALLER
from nets.pen import Pen

from resnet_proto.engine import forward, random_inputs, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.job import Job, scratch
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.engine.planned import Plan
from resnet_proto.layers import Deconvolution, count
from resnet_proto.memory import memory
from resnet_proto.prototxt import to_prototxt
from resnet_proto.weights import random_weights

FULL_SIZE = os.environ.get("RESNET_PROTO_FULL_SIZE") == "1"


class Case:
    """A net with random weights and input."""

    def __init__(self, name):
        self.name = name
        self.net = (NETS[name] if FULL_SIZE else SMALLER.get(name, NETS[name]))()
        self.weights = random_weights(self.net)
        self.inputs = random_inputs(self.net)

    @cached_property
    def ours(self):
        """Every blob, by our plain forward pass."""
        return forward(self.net, self.weights, self.inputs)

    @property
    def scores(self):
        """The last blob before a softmax, which hides every bug where it is saturated."""
        last = self.net.layers[-1]
        return last.bottoms[0] if last.type == "Softmax" else last.tops[0]


@pytest.fixture(scope="module", params=NETS)
def case(request):
    """One net at a time: they are large."""
    return Case(request.param)


@pytest.fixture(scope="module")
def in_caffe(caffe_python):
    """A folder for each net, where the real Caffe has left every blob and its log."""
    with scratch() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOG_minloglevel", "0")
        patch.setenv("GLOG_logtostderr", "1")
        for name in NETS:
            case, job = Case(name), folder / name
            job.mkdir()
            write_job(job, *Job(case.net, case.weights, case.inputs).files(job), case.inputs)
        run_jobs(caffe_python, [folder / name for name in NETS])
        yield folder


def assert_all_within(rows):
    assert not [row for row in rows if not row.within(TOLERANCE)]


def test_every_blob_equals_caffes(case, in_caffe):
    theirs = read_job(in_caffe / case.name)

    rows = compare(case.ours, theirs)

    assert len(rows) == len(case.ours) == len(theirs)
    assert_all_within(rows)
    assert 0.1 < abs(theirs[case.scores]).mean() < 1000  # the weights keep values in sight


def test_the_plan_equals_plain(case):
    """With every blob kept, and with few, so that layers are joined."""
    plan = Plan(case.net, case.weights)

    every = compare(plan.run(case.inputs), case.ours)
    last = compare(plan.run(case.inputs, outputs=[case.scores]), case.ours)

    assert len(every) == len(case.ours)
    assert_all_within([*every, *last])


@pytest.mark.usefixtures("cv2", "onnxruntime")
@pytest.mark.parametrize("engine", ["opencv", "onnxruntime"])
def test_equal_to_others(case, engine):
    theirs = run(engine, case.net, case.weights, case.inputs, outputs=[case.scores])

    assert_all_within(compare(theirs, case.ours))


@pytest.mark.usefixtures("torch")
def test_equal_to_torch_which_counts_our_macs(case):
    """Its counter sees fixed upsampling as well, which is not among our MACs."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        theirs = run("torch", case.net, case.weights, case.inputs, outputs=[case.scores])

    steps = list(case.net.walk())
    fixed = sum(
        count(step.bottoms[0]) * count(step.blobs["weight"][1:])
        for step in steps
        if step.layer.fixed
    )
    assert counter.get_total_flops() == 2 * (sum(step.macs for step in steps) + fixed)
    assert_all_within(compare(theirs, case.ours))


@pytest.mark.usefixtures("keras")
@pytest.mark.filterwarnings("ignore")
def test_equal_to_keras(case):
    """Every blob that no layer hides: a Scale goes into the BatchNorm before it."""
    from resnet_proto.engine.keras_model import draw, run_model

    drawing = draw(case.net, case.weights)

    rows = compare(run_model(drawing.model, case.inputs, drawing.blobs), case.ours)

    assert {row.blob for row in rows} == case.ours.keys() - {"data"}
    assert_all_within(rows)


def test_caffe_logs_our_bytes(case, in_caffe):
    """Every top, those in place and those of the Splits that it inserts too."""
    log = (in_caffe / case.name / "log").read_text()

    *_, last = re.findall(r"Memory required for data: (\d+)", log)

    assert memory(case.net, phases=("test",)).logged == {"test": int(last)}


def test_fixed_upsampling_is_what_caffe_fills(caffe_python):
    """Without a weight file Caffe fills bilinear kernels by itself: filler.hpp, BilinearFiller.

    Older Caffes, and the one that trains, fill those of 2 and 3 otherwise, and not symmetrically.
    """
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    kernels = (1, 2, 3, 4, 5, 16)
    pen = Pen("upsampling", *x.shape)
    for kernel in kernels:
        fields = {"kernel_size": kernel, "stride": 2, "group": 3, "bias_term": False}
        filler = {"weight_filler": {"type": "bilinear"}}
        pen.put(Deconvolution, f"{kernel}", "data", lr_mult=0, num_output=3, **fields, **filler)

    ours = forward(pen.net, random_weights(pen.net), x)
    with scratch() as job:
        (job / "net.prototxt").write_text(to_prototxt(pen.net))
        write_job(job, job / "net.prototxt", None, {"data": x})
        run_jobs(caffe_python, [job])
        theirs = read_job(job)

    assert_all_within(compare(ours, theirs))
    assert theirs.keys() == ours.keys() == {"data", *map(str, kernels)}
