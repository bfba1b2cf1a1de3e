"""Solvers and their nets, as Caffe sets them up."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from oracles.training import ABORTED, run_caffe

from resnet_proto import read_solver
from resnet_proto.check import check_text
from resnet_proto.cli import main
from resnet_proto.errors import PrototxtError
from resnet_proto.schema import fields
from resnet_proto.solver import type_of


def net(name, *, state=""):
    """A net whose layers say the states that admit them."""
    rules = {
        "train": "include { phase: TRAIN }",
        "test": "include { phase: TEST }",
        "fine": 'include { stage: "fine" }',
        "coarse": 'include { stage: "coarse" }',
        "not_fine": 'include { phase: TEST not_stage: "fine" }',
        "high": "include { min_level: 2 }",
        "own": 'include { stage: "own" }',
    }
    layers = "".join(
        f'layer {{ name: "{name}_{key}" type: "ReLU" bottom: "fc" top: "{key}" {rule} }}\n'
        for key, rule in rules.items()
    )
    return f"""
{state}
layer {{ name: "{name}_in" type: "DummyData" top: "data"
        dummy_data_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "{name}_fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param {{ num_output: 4 }} }}
{layers}
layer {{ name: "{name}_loss" type: "EuclideanLoss" bottom: "fc" bottom: "fc" top: "loss" }}
"""


REST = """
base_lr: 0.1 lr_policy: "fixed" max_iter: 0 snapshot_after_train: false test_interval: 1
"""
TEST_NETS = 'test_net: "b" test_net: "a" test_iter: 1 test_iter: 1'
SOLVERS = {
    "a net": 'net: "a"',
    "a net and a test": 'net: "a" test_iter: 1',
    "a net tested twice": 'net: "a" test_iter: 1 test_iter: 1 '
    'test_state { stage: "fine" } test_state { stage: "coarse" level: 2 }',
    "a net within": f"net_param {{ {net('i')} }} test_iter: 1",
    "two": 'train_net: "a" test_net: "b" test_iter: 1',
    "all ways": f'net: "a" {TEST_NETS} test_iter: 1 test_net_param {{ {net("i")} }} test_iter: 1 '
    'test_state { level: 2 } test_state { stage: "fine" } test_state { } '
    'test_state { stage: "coarse" }',
    "train within": f'train_net_param {{ {net("i")} }} {TEST_NETS} train_state {{ stage: "fine" }}',
    "train of stages": 'net: "own" train_state { stage: "fine" stage: "coarse" }',
    "tests of stages": 'net: "own" test_iter: 1 test_state { stage: "fine" }',
    "a phase of its own": 'net: "a" train_state { phase: TEST } test_iter: 1 '
    "test_state { phase: TRAIN }",
    "a net with a level": 'net: "high" test_iter: 1',
    "a net with a phase": 'net: "phase" test_iter: 1',
}
FILES = {
    "a": net("a"),
    "b": net("b"),
    "own": net("o", state='state { stage: "own" }'),
    "high": net("h", state="state { level: 3 }"),
    "phase": net("p", state="state { phase: TEST }"),
}
REFUSED = {
    "no net": ("test_iter: 1", 'net: "a" test_iter: 1'),
    "two nets": ('net: "a" train_net: "b"', 'net: "a"'),
    "a test without test_iter": ('net: "a" test_net: "b"', 'net: "a" test_net: "b" test_iter: 1'),
    "too many test_iter": (
        'train_net: "a" test_net: "b" test_iter: 1 test_iter: 1',
        'train_net: "a" test_net: "b" test_iter: 1',
    ),
    "too few test_state": (
        'net: "a" test_iter: 1 test_iter: 1 test_state { }',
        'net: "a" test_iter: 1 test_iter: 1 test_state { } test_state { }',
    ),
    "too many test_state": (
        'net: "a" test_iter: 1 test_state { } test_state { }',
        'net: "a" test_iter: 1 test_state { }',
    ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_caffe(binary, folder, text):
    """Names of the layers of each net that Caffe makes, in its order."""
    (folder / "s").write_text(text + REST)
    status, log = run_caffe(binary, folder, "train", "-solver", "s")
    nets = re.split(r"Initializing net from parameters:", log)[1:]
    made = [re.findall(r"Creating Layer (\S+)", part) for part in nets]
    return status, [[x for x in names if not x.endswith("_split")] for names in made], log


@pytest.mark.parametrize("name", SOLVERS)
def test_the_nets_that_caffe_makes(folder, caffe_binary, name):
    """Which, in which order, and in which state."""
    status, theirs, log = in_caffe(caffe_binary, folder, SOLVERS[name])
    assert status == 0, log[-2000:]

    solver = read_solver(folder / "s")

    nets = (solver.train, *solver.tests)
    ours = [[layer.name for layer in net.upgraded().filtered().layers] for net in nets]
    if name == "a net with a level":  # `caffe train` says level 0 for the net to train
        assert "h_high" in ours[0]
        ours[0].remove("h_high")
    assert ours == theirs


@pytest.mark.parametrize("name", REFUSED)
def test_what_caffe_refuses(folder, caffe_binary, name):
    bad, good = REFUSED[name]
    assert in_caffe(caffe_binary, folder, bad)[0] == ABORTED
    assert in_caffe(caffe_binary, folder, good)[0] == 0

    assert errors(bad)
    assert not errors(good)


def errors(text):
    """Those of the rules about which nets there are."""
    found = check_text(text + REST, "s").findings
    return [x for x in found if x.level == "error" and x.rule in ("nets", "tests")]


def test_check_looks_at_each_state(folder):
    """A fault that one of two tests has: level 2, and stages on which layers depend."""
    fault = (
        'layer { name: "z" type: "ReLU" bottom: "nowhere" top: "z" '
        'include { phase: TEST min_level: 2 stage: "fine" } }'
    )
    (folder / "a").write_text(FILES["a"] + fault)
    text = 'net: "a" test_iter: 1 test_iter: 1 test_state { STATE } test_state { }' + REST

    bad = check_text(text.replace("STATE", 'level: 2 stage: "fine"'), "s")
    good = check_text(text.replace("STATE", "level: 2"), "s")

    assert [x.layers for x in bad.findings if x.rule == "does-not-fit"] == [("z",)]
    assert not [x for x in good.findings if x.rule == "does-not-fit"]


def test_an_old_type():
    """By its number too, as Caffe's parser has it."""
    for name, number in fields("SolverParameter")["solver_type"].values.items():
        text = f'net: "a" solver_type: {number} momentum: 0.9' + REST
        found = [x for x in check_text(text, "s").findings if x.field == "solver_type"]
        assert type_of({"solver_type": name}).upper() == name
        assert found[0].remedy == f'write type: "{type_of({"solver_type": name})}"'
        refused = any(x.rule == "momentum" for x in check_text(text, "s").findings)
        assert refused is (name in ("ADAGRAD", "RMSPROP"))
    assert type_of({}) == "SGD"
    assert type_of({"type": "Adam"}) == "Adam"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('train_net: "a" net: "b"', "this one has net and train_net; give one of net"),
        ("display: 3", "this one has none; give one of net, net_param"),
        ('net: "nowhere"', r"'nowhere' is not there, neither in the current directory nor"),
        ('net: "s"', "'s' is a solver; name the net"),
        (FILES["a"], "this is not a solver"),
        ('net: "a" test_iter: 1 test_state { level: x }', r"s:1:43: expected an integer"),
    ],
)
def test_refusals(folder, text, words):
    (folder / "s").write_text(text + (REST if "layer" not in text else ""))
    with pytest.raises(PrototxtError, match=words):
        read_solver("s")

    (folder / "s").write_text('net: "a"' + REST)
    assert read_solver("s").train.source == "a"


def test_nets_beside_the_solver(folder, tmp_path_factory, monkeypatch):
    (folder / "s").write_text('net: "a" test_iter: 1' + REST)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    solver = read_solver(folder / "s")

    assert solver.train.source == str(folder / "a")
    assert solver.fields["max_iter"] == 0


def test_another_net_beside_the_solver(folder, tmp_path_factory, monkeypatch):
    """The current directory goes first, as in Caffe; it is said once, if they differ."""
    (folder / "s").write_text('net: "a" test_iter: 1' + REST)
    beside = (folder / "a").read_text()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    Path("a").write_text(beside + "# another")

    warned = run("summary", folder / "s")
    Path("a").write_text(beside)
    same = run("summary", folder / "s")

    assert warned.exit_code == same.exit_code == 0
    assert warned.stderr.count(f"another {folder / 'a'} lies beside the solver, and train.sh") == 1
    assert "Warning" not in same.stderr


# ---- where a net is expected


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)


def test_commands_take_a_solver(folder):
    """Each phase has its net, in the solver's stages and those that are asked for."""
    (folder / "s").write_text(SOLVERS["all ways"] + REST)

    train = run("summary", "s", "--phase", "TRAIN")
    test = run("summary", "s")
    more = run("summary", "s", "--net-stage", "coarse")

    assert train.stderr == "s is a solver; its net at phase TRAIN: a\n"
    assert "a_train" in train.stdout
    assert test.stderr == "s is a solver; its net at phase TEST: s (test_net_param)\n"
    assert "i_high" in test.stdout
    assert "i_coarse" not in test.stdout
    assert "i_coarse" in more.stdout
    both = run("memory", "s", "--phase", "train", "--json")
    assert both.stdout == run("memory", "a", "--phase", "train", "--json").stdout
    assert run("summary", "-", stdin=(folder / "s").read_text()).stdout == test.stdout
    forward = run("forward", "s", "--weights", "random", "--json")
    assert forward.exit_code == 0, forward.output
    verify = run("verify", "s", "--weights", "random", "--against", "float64")
    assert verify.exit_code == 0, verify.output


def test_a_solver_of_many_tests(folder):
    """Its net is read once."""
    (folder / "s").write_text('net: "a"' + " test_iter: 1" * 3000 + REST)

    assert len(read_solver("s").tests) == 3000
    check_text((folder / "s").read_text(), "s")
