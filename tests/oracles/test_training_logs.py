"""Logs that the real Caffe writes: interrupted and resumed; the learning rate of each policy."""

import pytest
from oracles.test_training import NET, SOLVER, folder  # noqa: F401
from oracles.training import run_caffe

from resnet_proto.report.curves import drops, to_csv
from resnet_proto.solver import learning_rate
from resnet_proto.text_format import parse
from resnet_proto.training_log import SMOOTHED, TEST, TRAIN, read_log, read_logs

LONGER = SOLVER.replace("max_iter: 10", "max_iter: 30\nsnapshot: 10").replace(
    "display: 1", "display: 5"
)
POLICIES = {
    "fixed": "",
    "step": "gamma: 0.5 stepsize: 3",
    "exp": "gamma: 0.9",
    "inv": "gamma: 0.3 power: 0.75",
    "multistep": "gamma: 0.1 stepvalue: 2 stepvalue: 7 stepvalue: 8",
    "poly": "power: 1.5",
    "sigmoid": "gamma: -0.4 stepsize: 5",
}


def train(caffe_binary, folder, solver, *args):  # noqa: F811
    """The log of a training."""
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(solver)
    args = ("train", "-solver", "solver.prototxt", *args)
    status, log = run_caffe(caffe_binary, folder, *args, timeout=300)
    assert status == 0, log
    return log


def test_resumed_at_an_epoch_boundary(caffe_binary, folder):  # noqa: F811
    """A training that is killed and resumed gives the rows of one that is not.

    40 images, batches of 10: at iteration 20 the data begins anew anyway.
    """
    whole = train(caffe_binary, folder, LONGER)
    cut = whole[: whole.index("Iteration 25")]
    resumed = train(caffe_binary, folder, LONGER, "-snapshot", "tiny_iter_20.solverstate")
    expected = read_log(whole.splitlines())
    assert [row.iteration for row in expected.rows if row.phase == TEST] == [0, 10, 20, 30]
    (run,) = read_logs([("cut", cut.splitlines()), ("resumed", resumed.splitlines())])
    assert run.parts == ((0, ""), (20, "tiny_iter_20.solverstate"))
    assert run.end == expected.end == "done"
    assert run.max_iter == 30
    for phase in (TRAIN, TEST):
        ours, theirs = run.outputs(phase), expected.outputs(phase)
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {SMOOTHED}:
            for (at, value), (also_at, other) in zip(ours[name], theirs[name], strict=True):
                assert at == also_at
                assert value == pytest.approx(other, rel=1e-3, abs=1e-6), (phase, name, at)
    assert len(to_csv([run]).splitlines()) == 1 + len(expected.rows)


@pytest.mark.parametrize("policy", POLICIES)
def test_learning_rate(caffe_binary, folder, policy):  # noqa: F811
    """Caffe logs six digits of the rate of every iteration."""
    text = SOLVER.replace('lr_policy: "fixed"', f'lr_policy: "{policy}" {POLICIES[policy]}')
    run = read_log(train(caffe_binary, folder, text).splitlines())
    rates = {row.iteration: row.rate for row in run.rows if row.rate is not None}
    assert list(rates) == list(range(10))
    fields = parse(text, "SolverParameter", source="solver")
    # half of the last digit, and float32
    expected = pytest.approx(list(rates.values()), rel=5.1e-6)
    assert [learning_rate(fields, at) for at in rates] == expected
    assert len(set(rates.values())) > 1 or policy == "fixed"


@pytest.mark.parametrize(
    ("policy", "fields", "fallen"),
    [("multistep", "stepvalue: 2 stepvalue: 7", [2, 7]), ("step", "stepsize: 3", [3, 6])],
)
def test_a_rate_that_falls_between_two_lines(caffe_binary, folder, policy, fields, fallen):  # noqa: F811
    """Caffe says the rate at iterations 0, 4 and 8."""
    policy = f'lr_policy: "{policy}" gamma: 0.1 {fields}'
    text = SOLVER.replace("display: 1", "display: 4").replace('lr_policy: "fixed"', policy)
    run = read_log(train(caffe_binary, folder, text).splitlines())
    assert list(drops(run)) == fallen
