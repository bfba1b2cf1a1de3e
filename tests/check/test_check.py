"""Files, what they are, and the law: nothing is wrong with what is right."""

import json
import re
from pathlib import Path

import pytest

from resnet_proto.check import (
    LEVELS,
    as_json,
    check_text,
    data,
    is_solver,
    joined,
    nets,
    solvers,
    target,
)
from resnet_proto.generate import generate
from resnet_proto.presets import PRESETS

ROOT = Path(__file__).parents[2]
NET = 'name: "x" input: "data" input_shape { dim: 2 dim: 3 }'
SOLVER = 'base_lr: 0.1 net: "x.prototxt"'
FILES = ("deploy.prototxt", "train_val.prototxt", "solver.prototxt", "solver_warmup.prototxt")


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_is_wrong_with_a_preset(name, tmp_path):
    """No error or warning on deploy net, train_val net and solvers; a bias is a note."""
    texts = generate(PRESETS[name].spec)
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    net = PRESETS[name].spec.training
    for source in (net.train_source, net.test_source):
        (tmp_path / source).mkdir(exist_ok=True)

    reports = [
        check_text(text, file, folder=tmp_path) for file, text in texts.items() if file in FILES
    ]

    biased = {"bias-before-batch-norm"} if name in ("resnet-50", "resnet-50-1by2") else set()
    assert {x.rule for report in reports for x in report.findings} == biased
    assert not any(report.count(level) for report in reports for level in ("error", "warning"))


@pytest.mark.parametrize(("depth", "notes"), [(50, 1), (101, 0), (152, 0)])
def test_nothing_is_wrong_with_a_released_net(deploy_file, depth, notes):
    """The bias of ResNet-50's conv1 is a note: the file has it."""
    report = check_text(deploy_file(depth).read_text(), "x")

    assert [(x.rule, x.layers) for x in report.findings] == (
        [("bias-before-batch-norm", ("conv1",))] * notes
    )


def test_the_released_half_width_net(half_width):
    """Each of its 53 convolutions has a bias before its BatchNorm."""
    (finding,) = check_text(half_width[0].read_text(), "x").findings

    assert (finding.level, finding.rule) == ("note", "bias-before-batch-norm")
    assert len(finding.layers) == 53


@pytest.mark.parametrize("file", sorted((ROOT / "generated").rglob("*.prototxt")), ids=str)
def test_nothing_is_wrong_with_what_is_checked_in(file):
    report = check_text(file.read_text(), str(file), folder=file.parent)

    assert report.count("error") == report.count("warning") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NET, False),
        (SOLVER, True),
        ('net_param { layer { name: "a" } } max_iter: 3', True),
        ('layer { name: "a" python_param { param_str: "base_lr: 0.1" } }', False),
        ("# base_lr: 0.1\n" + NET, False),
        ('lr_policy: "layer"', True),
        ("debug_info: true", False),
        ("", False),
        ("}}{{", False),
    ],
)
def test_a_solver_is_known_by_its_fields(text, expected):
    assert is_solver(text) == expected


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("solver.prototxt", NET, "this is a net, and its name is a solver's"),
        ("train_val.prototxt", SOLVER, "this is a solver, and its name is a net's"),
        ("solver.prototxt", SOLVER, ""),
        ("train_val.prototxt", NET, ""),
        ("x.prototxt", NET, ""),
    ],
)
def test_a_solver_where_a_net_is_expected(file, text, reason):
    found = [x for x in check_text(text, file).findings if x.rule == "misnamed"]

    assert [x.reason for x in found] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "x: error: this is empty; a prototxt holds"),
        ("layer { name: 3 }", "x: error: 1:15:"),
        ("layer { nam: 'a' }", "x: error: 1:9: LayerParameter has no field 'nam'"),
        ("layers { } layer { }", "x: error: the net has both 'layer' and 'layers'"),
        ("base_lr: 1 max_iter: x", "x: error: 1:22:"),
        ("input: 'a' input: 'b' input_dim: 1", "x: error: the net has 1 input_dim for 2 input"),
    ],
)
def test_what_cannot_be_read_is_an_error_on_one_line(text, start):
    report = check_text(text, "x")

    line = next(x.line for x in report.findings if x.rule == "unreadable")
    assert line.startswith(start)
    assert "\n" not in line


def test_lines_and_what_sums_them_up():
    text = NET + 'layer { name: "a" type: "Convolution" bottom: "data" top: "a" }'

    lines = list(check_text(text, "a.prototxt").lines())

    assert lines[0].startswith("a.prototxt: error: layer 'a': ")
    assert lines[-1] == "1 error in a.prototxt (net)"
    assert list(check_text(NET, "b").lines()) == ["nothing found in b (net)"]
    seven = joined([check_text(NET, f"{i}") for i in range(7)])
    assert list(seven.lines()) == ["nothing found in 7 files"]


def test_the_worst_goes_first():
    text = 'test_iter: 1 lr_policy: "poly" solver_type: SGD'

    levels = [LEVELS.index(x.level) for x in check_text(text, "x").findings]

    assert levels == sorted(levels)
    assert set(levels) == {0, 1, 2}


def test_reports_are_joined_and_go_to_json():
    report = joined([check_text(NET, "a"), check_text(SOLVER, "b"), check_text(SOLVER, "b")])

    data = json.loads(json.dumps(as_json(report)))

    assert [row["file"] for row in data["files"]] == ["a", "b"]
    assert data["counts"]["error"] == sum(x["level"] == "error" for x in data["findings"]) > 0
    assert {"file", "level", "rule", "layers", "field", "reason", "remedy"} == set(
        data["findings"][0]
    )


def test_every_rule_is_documented():
    """And docs/checking.md has no others."""
    page = (ROOT / "docs/checking.md").read_text()

    assert re.findall(r"^\| `([\w-]+)` \|", page, re.M) == [
        *nets.RULES, *data.RULES, *solvers.RULES, *target.TARGET_RULES
    ]  # fmt: skip


def test_names_that_cannot_be_printed_stay_on_their_line():
    text = 'layer { name: "a\\n\\033[31m" type: "ReLU" bottom: "b" top: "c" }'

    lines = list(check_text(text, "x").lines())

    assert len(lines) == 2
    assert lines[0].startswith(r"x: error: layer 'a\n\x1b[31m': reads blob 'b'")
