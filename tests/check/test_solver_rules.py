"""Each rule about solvers finds its bad solver, and passes over the good twin."""

from dataclasses import replace

import pytest
from good_nets import deploy, edited, of_type, train_val, without

from resnet_proto.check import check_text
from resnet_proto.check.solvers import RULES, rate_at_end
from resnet_proto.generate import generate
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import to_prototxt

GOOD = """
net: "train_val.prototxt"
test_iter: 1000
test_interval: 5000
base_lr: 0.1
lr_policy: "multistep"
gamma: 0.1
stepvalue: 150000
stepvalue: 300000
max_iter: 450000
momentum: 0.9
weight_decay: 0.0001
snapshot: 5000
snapshot_prefix: "snapshots/net"
"""
STEP = GOOD.replace('"multistep"', '"step"').replace("stepvalue: 150000\n", "").replace(
    "stepvalue: 300000", "stepsize: 150000"
)  # fmt: skip
POLY = GOOD.replace('"multistep"', '"poly"').replace("gamma: 0.1", "power: 1")
APART = GOOD.replace('net: "train_val', 'train_net: "train').replace(
    "test_iter", 'test_net: "test.prototxt"\ntest_iter'
)


@pytest.fixture
def folder(tmp_path):
    """A train_val net, and the same as two nets."""
    net = train_val("resnet-18")
    (tmp_path / "train_val.prototxt").write_text(to_prototxt(net))
    (tmp_path / "deploy.prototxt").write_text(to_prototxt(deploy("resnet-18")))
    (tmp_path / "train.prototxt").write_text(to_prototxt(net.filtered("TRAIN")))
    (tmp_path / "test.prototxt").write_text(to_prototxt(net.filtered("TEST")))
    text = to_prototxt(net).replace("val_lmdb", "no_lmdb")
    (tmp_path / "elsewhere.prototxt").write_text(text)
    for name in ("train_lmdb", "val_lmdb", "train.txt"):
        (tmp_path / name).mkdir()
    return tmp_path


CASES = {
    "nets": (GOOD.replace("net:", "#"), GOOD, ("error", "net")),
    "nets: two": (GOOD + 'train_net: "train.prototxt"', GOOD, ("error", "train_net")),
    "nets: not there": (GOOD.replace("train_val", "tain_val"), GOOD, ("error", "net")),
    "required": (GOOD.replace("base_lr: 0.1", ""), GOOD, ("error", "base_lr")),
    "required: a rate of nan": (GOOD.replace("lr: 0.1", "lr: nan"), GOOD, ("error", "base_lr")),
    "required: a rate below 0": (GOOD.replace("lr: 0.1", "lr: -1"), GOOD, ("error", "base_lr")),
    "required: no length": (GOOD.replace("max_iter: 450000", ""), GOOD, ("error", "max_iter")),
    "required: a length of 0": (
        GOOD.replace("max_iter: 450000", "max_iter: 0"), GOOD, ("error", "max_iter"),
    ),
    "policy": (GOOD.replace('"multistep"', '"multi_step"'), GOOD, ("error", "lr_policy")),
    "policy: none": (GOOD.replace('lr_policy: "multistep"', ""), GOOD, ("error", "lr_policy")),
    "policy: no gamma": (GOOD.replace("gamma: 0.1", ""), GOOD, ("error", "gamma")),
    "policy: no stepsize": (STEP.replace("stepsize: 150000", ""), STEP, ("error", "stepsize")),
    "policy: no stepvalue": (STEP.replace('"step"', '"multistep"'), STEP,
                             ("warning", "stepvalue")),
    "policy: no power": (POLY.replace("power: 1", ""), POLY, ("warning", "power")),
    "steps": (GOOD.replace("150000", "350000"), GOOD, ("error", "stepvalue")),
    "steps: behind the end": (GOOD.replace("300000", "450000"), GOOD, ("note", "stepvalue")),
    "decay": (  # GoogLeNet's schedule with ResNet's length: facts, 3b, "DD all"
        STEP.replace("stepsize: 150000", "stepsize: 320000").replace("gamma: 0.1", "gamma: 0.96"),
        STEP, ("warning", "lr_policy"),
    ),
    "decay: steps behind the end": (
        GOOD.replace("max_iter: 450000", "max_iter: 100000"), GOOD, ("warning", "lr_policy"),
    ),
    "decay: poly of power 0": (POLY.replace("power: 1", "power: 0"), POLY,
                               ("warning", "lr_policy")),
    "decay: fixed": (
        GOOD.replace('"multistep"', '"fixed"'),
        GOOD.replace('"multistep"', '"fixed"').replace("max_iter: 450000", "max_iter: 400"),
        ("note", "lr_policy"),
    ),
    "momentum": (GOOD.replace("0.9", "1"), GOOD, ("error", "momentum")),
    "momentum: none": (GOOD.replace("momentum: 0.9", ""), GOOD, ("note", "momentum")),
    "momentum: refused": (GOOD + 'type: "AdaGrad"', GOOD + 'type: "Adam"', ("error", "momentum")),
    "solver-type": (GOOD + 'type: "sgd"', GOOD + 'type: "SGD"', ("error", "type")),
    "solver-type: old": (GOOD + "solver_type: NESTEROV", GOOD + 'type: "Nesterov"',
                         ("note", "solver_type")),
    "solver-type: both": (GOOD + 'solver_type: SGD type: "SGD"', GOOD, ("error", "solver_type")),
    "tests": (GOOD.replace("test_interval: 5000", ""), GOOD, ("error", "test_interval")),
    "tests: none": (GOOD.replace("test_iter: 1000", ""), GOOD, ("warning", "test_iter")),
    "tests: of no passes": (GOOD.replace("1000", "0"), GOOD, ("error", "test_iter")),
    "tests: too few": (APART.replace("test_iter: 1000", ""), APART, ("error", "test_iter")),
    "tests: too many": (APART + "test_iter: 10", APART, ("error", "test_iter")),
    "coverage": (GOOD.replace("1000", "999"), GOOD, ("warning", "test_iter")),
    "snapshots": (GOOD.replace("snapshot_prefix:", "#"), GOOD, ("warning", "snapshot_prefix")),
    "swapped-nets": (
        APART.replace("train.", "x.").replace("test.p", "train.p").replace("x.", "test."),
        APART, ("warning", "train_net"),
    ),
    "swapped-nets: a deploy net": (GOOD.replace("train_val", "deploy"), GOOD, ("error", "net")),
    "not-there": (GOOD.replace("train_val", "elsewhere"), GOOD, ("note", "net")),
}  # fmt: skip


def found(text, folder, **options):
    report = check_text(text, "solver.prototxt", folder=folder, **options)
    return {(x.rule, x.level, x.field) for x in report.findings}


@pytest.mark.parametrize("case", CASES)
def test_the_bad_solver_and_its_good_twin(case, folder):
    bad, good, expected = CASES[case]
    rule = case.partition(":")[0]

    assert (rule, *expected) in found(bad, folder)
    assert not {row for row in found(good, folder) if row[0] == rule}


def test_every_rule_has_a_case():
    """Those that need databases have theirs in test_data_rules.py."""
    cases = {case.partition(":")[0] for case in CASES}
    assert cases | {"epochs", "same-data"} == set(RULES)


@pytest.mark.parametrize("text", [GOOD, STEP, POLY, APART])
def test_good_solvers_have_nothing(text, folder):
    assert not found(text, folder)


# ---- what a test sees


def test_the_caller_knows_how_many_images_there_are(folder):
    """1000 passes of 50 images."""
    assert not found(GOOD, folder, test_images=50_000)
    assert found(GOOD, folder, test_images=50_001) == {("coverage", "warning", "test_iter")}
    assert not found(GOOD, folder, test_images=49_951)
    assert found(GOOD, folder, test_images=49_950) == {("coverage", "note", "test_iter")}


def test_a_solver_that_says_how_many_images_there_are(tmp_path):
    """As `gen` writes it; the preset of the same name has others."""
    spec = PRESETS["resnet-18"].spec
    texts = generate(replace(spec, training=replace(spec.training, test_images=1997)))
    (tmp_path / "train_val.prototxt").write_text(texts["train_val.prototxt"])
    for name in ("train_lmdb", "val_lmdb"):
        (tmp_path / name).mkdir()
    text = texts["solver.prototxt"]

    assert not found(text, tmp_path)
    assert found(text.replace("test_iter: 40 ", "test_iter: 39 "), tmp_path) == {
        ("coverage", "warning", "test_iter")
    }


def test_a_list_of_images_is_counted(folder):
    net = train_val("resnet-18", data="image-list", test_source="val.txt", test_batch=40)
    (folder / "train_val.prototxt").write_text(to_prototxt(net))
    (folder / "val.txt").write_text("a.jpg 0\n" * 401 + "\n")

    report = check_text(GOOD.replace("1000", "10"), "s", folder=folder)

    (finding,) = report.findings
    assert finding.line == (
        "s: warning: field 'test_iter': a test sees 10 x 40 = 400 images; val.txt lists 401; "
        "test_iter: 11 covers them (--test-images N if there are others)"
    )
    assert not check_text(GOOD.replace("1000", "11"), "s", folder=folder).findings


def test_other_classes_are_other_data(folder):
    """Only a net of the preset's classes is taken to have the preset's data."""
    net = edited(train_val("resnet-18"), "fc1000", {"num_output": 37})
    (folder / "train_val.prototxt").write_text(to_prototxt(net))

    assert not found(GOOD.replace("1000", "10"), folder)


def test_data_without_end_is_always_covered(folder):
    """DummyData makes as many images as are asked for."""
    net = train_val("resnet-18", data="dummy")
    (folder / "train_val.prototxt").write_text(to_prototxt(net))

    assert not found(GOOD.replace("1000", "10"), folder)


# ---- its nets


def test_a_solver_brings_its_net(folder):
    """Both phases, found beside the solver."""
    bad = edited(train_val("resnet-18"), "bn_conv1", {"use_global_stats": False})
    (folder / "train_val.prototxt").write_text(to_prototxt(bad))

    report = check_text(GOOD, "s", folder=folder)

    (finding,) = report.findings
    assert (finding.rule, finding.layers) == ("batch-statistics", ("bn_conv1",))
    assert finding.file == str(folder / "train_val.prototxt")
    assert "found beside it and not in the current directory" in report.checked[1].how


def test_the_current_directory_goes_first(folder, tmp_path_factory, monkeypatch):
    """Caffe opens the path as it is."""
    here = tmp_path_factory.mktemp("here")
    net = edited(train_val("resnet-18"), "bn_conv1", {"use_global_stats": False})
    (here / "train_val.prototxt").write_text(to_prototxt(net))
    monkeypatch.chdir(here)

    (note, other, _) = check_text(GOOD, "s", folder=folder).findings
    for name in ("train_lmdb", "val_lmdb"):
        (here / name).mkdir()
    report = check_text(GOOD, "s", folder=folder)

    assert f"(TEST) are in '{folder}' and not in the current directory, where the net" in note.line
    assert [x.file for x in report.findings] == ["s", "train_val.prototxt"]
    assert (other.rule, other.level, other.field) == ("other-net", "warning", "net")
    assert f"another {folder / 'train_val.prototxt'} lies beside the solver" in other.reason
    (folder / "train_val.prototxt").write_text(to_prototxt(net))  # the twin: the same net
    assert [x.rule for x in check_text(GOOD, "s", folder=folder).findings] == ["batch-statistics"]
    assert report.checked[1] == ("train_val.prototxt", "net", "of the solver")


def test_a_solver_where_its_net_is_expected(folder):
    (folder / "train_val.prototxt").write_text(GOOD)

    (finding,) = check_text(GOOD, "s", folder=folder).findings

    assert finding.reason == "'train_val.prototxt' is a solver"
    assert (finding.level, finding.field) == ("error", "net")


def test_a_net_within_the_solver(folder):
    inner = to_prototxt(edited(train_val("resnet-18"), "conv1", drop=("weight_filler",)))
    text = GOOD.replace('net: "train_val.prototxt"', f"net_param {{ {inner} }}")

    (finding,) = (x for x in check_text(text, "s").findings if x.rule != "not-there")

    assert (finding.rule, finding.file) == ("zero-weights", "s (net_param)")


def test_weights_of_a_file_need_no_fillers(folder):
    net = edited(train_val("resnet-18"), of_type("Convolution"), drop=("weight_filler",))
    net = edited(net, of_type("BatchNorm"), {"use_global_stats": True})
    (folder / "train_val.prototxt").write_text(to_prototxt(net))

    assert {row[:2] for row in found(GOOD, folder)} == {
        ("zero-weights", "error"), ("global-stats", "warning")
    }  # fmt: skip
    assert {row[:2] for row in found(GOOD + 'weights: "a.caffemodel"', folder)} == {
        ("global-stats", "note")
    }


def test_a_train_net_without_a_loss_and_a_test_net_with_one(folder):
    net = without(train_val("resnet-18").filtered("TRAIN"), "loss")
    (folder / "train.prototxt").write_text(to_prototxt(net))

    (finding,) = check_text(APART, "s", folder=folder).findings

    assert (finding.rule, finding.level, finding.field) == ("swapped-nets", "error", "train_net")
    assert "swapped" in finding.reason


def test_a_train_only_net_is_checked_in_its_phase(folder):
    assert not check_text((folder / "train.prototxt").read_text(), "x").findings
    assert not check_text((folder / "test.prototxt").read_text(), "x").findings


# ---- the learning rate


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"lr_policy": "fixed"}, 1),
        ({"lr_policy": "step", "gamma": 0.5, "stepsize": 30}, 0.5**3),
        ({"lr_policy": "step", "gamma": 0.5, "stepsize": 0}, None),
        ({"lr_policy": "multistep", "gamma": 0.5, "stepvalue": (10, 99, 100)}, 0.5**2),
        ({"lr_policy": "exp", "gamma": 0.9}, 0.9**99),
        ({"lr_policy": "exp", "gamma": 1e30}, float("inf")),
        ({"lr_policy": "inv", "gamma": 0.1, "power": 0.75}, (1 + 9.9) ** -0.75),
        ({"lr_policy": "inv", "gamma": -1 / 99, "power": 0.75}, float("inf")),
        ({"lr_policy": "inv", "gamma": -1.0, "power": 0.5}, float("nan")),
        ({"lr_policy": "inv", "gamma": -1.0, "power": 2.0}, 98**-2.0),
        ({"lr_policy": "poly", "power": 2.0}, 0.01**2),
        ({"lr_policy": "sigmoid", "gamma": 0.1, "stepsize": 5}, None),
        ({"lr_policy": "poly"}, None),
        ({"lr_policy": "zigzag"}, None),
    ],
)
def test_the_rate_of_the_last_iteration(fields, expected):
    """sgd_solver.cpp, GetLearningRate."""
    assert rate_at_end({**fields, "max_iter": 100}) == (
        None if expected is None else pytest.approx(expected, nan_ok=True)
    )


def test_what_is_not_there_with_what_makes_it(folder, monkeypatch):
    """Where the net is, so that Caffe finds both; of a net alone nothing is said."""
    text = to_prototxt(train_val("resnet-18")).replace(
        "mean_value: 104", 'mean_file: "mean.binaryproto"\n mean_value: 104'
    )
    (folder / "train_val.prototxt").write_text(text)
    (folder / "train_lmdb").rmdir()

    database, mean = (x for x in check_text(GOOD, "s", folder=folder).findings)

    assert database.line == (
        "s: note: field 'net': 'train_lmdb' (TRAIN) is not there, neither in the current directory "
        "nor beside the solver; Caffe takes paths from the folder it is started in; "
        "`resnet-proto data lmdb IMAGES train_lmdb` makes such a database"
    )
    assert "'mean.binaryproto' (TRAIN) is not there" in mean.reason
    assert mean.remedy.startswith("`resnet-proto data mean LMDB mean.binaryproto` makes it")
    assert not [x for x in check_text(text, "n", folder=folder).findings if x.rule == "not-there"]
    (folder / "here" / "train_lmdb").mkdir(parents=True)
    monkeypatch.chdir(folder / "here")
    (folder / "mean.binaryproto").touch()
    (other,) = (x for x in check_text(GOOD, "s", folder=folder).findings if x.rule == "not-there")
    assert other.line == (
        f"s: note: field 'net': 'train_lmdb' (TRAIN) is in the current directory and not in "
        f"'{folder}', where the net is, so Caffe is started there, and does not find it; "
        "move it, or name it as seen from there"
    )
    (folder / "here" / "train_lmdb").rename(folder / "train_lmdb")
    assert not [x for x in check_text(GOOD, "s", folder=folder).findings if x.rule == "not-there"]
