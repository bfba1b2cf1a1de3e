"""Which layers a state admits: random rules, in the real Caffe and here."""

import random
import subprocess

import pytest
from oracles.nets_in_caffe import ask

from resnet_proto.check import check_file
from resnet_proto.errors import NetError
from resnet_proto.prototxt import parse_net

STAGES = ("a", "b", "deploy")
N = 120


def some(rng):
    return [name for name in STAGES if rng.random() < 0.35]


def rule(rng):
    """What one rule asks for; often it is empty."""
    parts = [f"phase: {rng.choice(['TRAIN', 'TEST'])}"] if rng.random() < 0.3 else []
    parts += [f"min_level: {rng.randint(-2, 2)}"] if rng.random() < 0.3 else []
    parts += [f"max_level: {rng.randint(-2, 2)}"] if rng.random() < 0.3 else []
    parts += [f"stage: '{name}'" for name in some(rng) if rng.random() < 0.6]
    parts += [f"not_stage: '{name}'" for name in some(rng) if rng.random() < 0.6]
    return " ".join(parts)


def layer(rng, i):
    kind = rng.choice(["include", "exclude", "none"])
    kinds = [kind] * (0 if kind == "none" else rng.randint(1, 3))
    if kinds and rng.random() < 0.03:
        kinds += ["include", "exclude"]
    rules = " ".join(f"{kind} {{ {rule(rng)} }}" for kind in kinds)
    phase = rng.choice(["", "phase: TEST ", "phase: TRAIN "])  # which admits nothing
    return f'layer {{ name: "r{i}" type: "ReLU" bottom: "data" top: "r{i}" {phase}{rules} }}\n'


def case(seed):
    rng = random.Random(seed)
    text = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 } } }\n'
    if rng.random() < 0.4:
        own = " ".join(f"stage: '{name}'" for name in some(rng))
        phase, level = rng.choice(["TRAIN", "TEST"]), rng.randint(-2, 2)
        text += f"state {{ phase: {phase} level: {level} {own} }}\n"
    text += "".join(layer(rng, i) for i in range(rng.randint(1, 6)))
    phase = rng.choice(["TRAIN", "TEST"])
    state = {"phase": phase, "level": rng.choice([0, 0, -2, -1, 1, 2]), "stages": some(rng)}
    return {"net": text, **state}


@pytest.fixture(scope="module")
def cases(caffe_python, tmp_path_factory):
    jobs = [case(seed) for seed in range(N)]
    answers = ask(caffe_python, tmp_path_factory.mktemp("states"), [dict(job) for job in jobs])
    return list(zip(jobs, answers, strict=True))


def test_the_same_layers(cases):
    """Those of net.cpp, FilterNet, or a refusal."""
    refused, dropped = 0, 0
    for job, theirs in cases:
        text = job["net"]
        net = parse_net(text).at(**{k: v for k, v in job.items() if k != "net"})
        try:
            ours = [layer.name for layer in net.filtered().layers]
        except NetError:
            assert theirs is None, text
            refused += 1
            continue
        assert theirs is not None, text
        assert ours == theirs["layers"], (text, job)
        assert [step.label for step in net.walk()] == ours
        dropped += len(ours) < len(net.layers)
    assert 2 < refused < N / 4
    assert N / 4 < dropped < N


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("", True),
        ("phase: TRAIN", True),
        ("include {}", True),
        ("exclude {}", False),
        ("include { not_stage: '' }", True),
        ("include { min_level: 1 max_level: -1 }", False),
    ],
)
def test_a_rule_by_itself(caffe_python, tmp_path, rules, kept):
    text = case(0)["net"].split("\n")[0] + "\n"
    text += f'layer {{ name: "r" type: "ReLU" bottom: "data" top: "r" {rules} }}'

    (theirs,) = ask(caffe_python, tmp_path, [{"net": text}])

    ours = [layer.name for layer in parse_net(text).filtered().layers]
    assert theirs["layers"] == ours == ["in", "r"][: 1 + kept]


NORM = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 20 dim: 3 } shape { dim: 20 } } }
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn"
        param { lr_mult: RATE } param { lr_mult: RATE } param { lr_mult: RATE } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "bn" bottom: "label" top: "loss" }
"""
SOLVER = """base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "x" solver_mode: CPU
"""


@pytest.mark.parametrize("rate", [0, 1])
@pytest.mark.parametrize("within", [False, True])
def test_rates_of_a_batch_norm_in_a_solver(caffe_python, tmp_path, within, rate):
    """Caffe sets them to 0 in a net of a file, and ends at them in a net within a solver."""
    net = NORM.replace("RATE", str(rate))
    (tmp_path / "net.prototxt").write_text(net)
    named = f"net_param {{ {net} }}" if within else f'net: "{tmp_path}/net.prototxt"'
    (tmp_path / "solver.prototxt").write_text(SOLVER + named)
    code = "import sys, caffe; caffe.SGDSolver(sys.argv[1])"

    theirs = subprocess.run(
        [caffe_python, "-c", code, tmp_path / "solver.prototxt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    refused = bool(within and rate)
    assert (theirs.returncode != 0) == refused, theirs.stderr[-2000:]
    report = check_file(str(tmp_path / "solver.prototxt"))
    errors = [x.rule for x in report.findings if x.level == "error"]
    assert errors == ["statistics-rates"] * refused
