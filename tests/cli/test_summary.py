"""The command ``summary``."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from terminal import shown

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.layers import make_layer
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.report.summary import by_parts, summarize
from resnet_proto.report.words import thousands
from resnet_proto.structure import structure
from resnet_proto.words import columns_of

DATA = make_layer("x", "Input", (), ("x",), {"input_param": {"shape": ({"dim": (2, 3, 7, 5)},)}})


def parts_of(path):
    """What a table by parts is made of."""
    net = read_prototxt(path)
    return summarize(net), structure(net)


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["summary", *arguments], input=stdin)


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(to_prototxt(deploy_net(PRESETS["resnet-18"].spec)))
    return str(path)


def test_table(net):
    lines = run(net).stdout.splitlines()

    assert lines[0].split() == ["layer", "type", "top", "parameters", "MACs", "activation", "bytes"]
    assert lines[3].split() == [
        "conv1",
        "Convolution",
        "1x64x112x112",
        "9,408",
        "118,013,952",
        "3,211,264",
    ]
    assert lines[4].split() == ["bn_conv1", "BatchNorm", "1x64x112x112"]
    assert lines[-2].split() == [
        "total",
        "90",
        "layers",
        "11,689,512",
        "1,814,073,344",
        "14,360,384",
    ]
    assert lines[-1] == "BatchNorm statistics, not learned: 9,620 values"


def test_json(net):
    summary = json.loads(run(net, "--json").stdout)

    assert summary["rows"][-2] == {
        "layer": "fc1000",
        "type": "InnerProduct",
        "tops": {"fc1000": [1, 1000]},
        "parameters": 513_000,
        "statistics": 0,
        "macs": 512_000,
        "activation_bytes": 4_000,
    }
    assert summary["unknown"] is None


def test_bytes_of_a_top_in_place_are_those_beyond_its_blob():
    """A product that grows its bottom, and a second top that is not in place."""
    text = (
        'input: "data" input_shape { dim: 2 dim: 3 dim: 7 dim: 5 }\n'
        'layer { name: "f" type: "InnerProduct" bottom: "data" top: "data"\n'
        "  inner_product_param { num_output: 500 } }\n"
        'layer { name: "g" type: "InnerProduct" bottom: "data" top: "data"\n'
        "  inner_product_param { num_output: 4 } }\n"
        'layer { name: "c" type: "Convolution" bottom: "data" bottom: "data" top: "c" top: "d"\n'
        "  convolution_param { num_output: 1 axis: 0 kernel_size: 1 } }\n"
        'layer { name: "e" type: "Convolution" bottom: "c" bottom: "d" top: "c" top: "e"\n'
        "  convolution_param { num_output: 1 axis: 0 kernel_size: 1 } }\n"
    )

    shown = json.loads(run("-", "--json", stdin=text).stdout)

    # data 2x3x7x5, then 2x500 in place, then 2x4 in place; c and d 1x4, then e beside c
    assert [row["activation_bytes"] for row in shown["rows"]] == [840, 3160, 0, 32, 16]


def test_stdin_gives_the_same(net):
    assert run("-", stdin=Path(net).read_text()).stdout == run(net).stdout


def test_phase():
    text = (
        'input: "data" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "a" type: "ReLU" bottom: "data" top: "a" include { phase: TRAIN } }\n'
        'layer { name: "b" type: "ReLU" bottom: "data" top: "b" include { phase: TEST } }\n'
    )

    layers = {
        phase: [
            row["layer"]
            for row in json.loads(run("-", "--json", "--phase", phase, stdin=text).stdout)["rows"]
        ]
        for phase in ("TRAIN", "TEST")
    }

    assert layers == {"TRAIN": ["input", "a"], "TEST": ["input", "b"]}


def test_up_to_an_unknown_layer():
    text = (
        'input: "data" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "a" type: "ReLU" bottom: "data" top: "a" }\n'
        'layer { name: "b" type: "Pythagoras" bottom: "a" top: "b" }\n'
        'layer { name: "c" type: "ReLU" bottom: "b" top: "c" }\n'
    )

    result = run("-", stdin=text)

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split() for line in lines[3:6]] == [
        ["a", "ReLU", "2x3", "24"],
        ["b", "Pythagoras", "?", "?", "?", "?"],
        ["c", "ReLU", "?", "?", "?", "?"],
    ]
    assert lines[7].split() == "total 4 layers at least 0 at least 0 at least 48".split()
    assert lines[8] == "BatchNorm statistics, not learned: at least 0 values"
    assert lines[-1].startswith("Incomplete: stdin: layer 'b' has type 'Pythagoras'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'a' }", "reads blob 'x'"),
        (
            "layer { name: 'a' type: 'LRN' } layer { name: 'b' bottom: 'x' }",
            "layer 'b' has no type",
        ),
        ("layer { name: 'a'", "not closed"),
        ("layer { name: 'a' type: 'ReLU' kernel: 3 }", "kernel"),
    ],
)
def test_refused_without_a_traceback(text, message):
    result = run("-", stdin=text)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_file_names_it():
    result = run("no/such.prototxt")

    assert result.exit_code in (1, 2)
    assert "no/such.prototxt" in result.stderr


def test_csv_has_every_layer_with_its_part(net, tmp_path):
    path = tmp_path / "layers.csv"

    result = run(net, "--csv", str(path))
    rows = list(csv.DictReader(io.StringIO(path.read_text())))

    assert result.stdout == run(net).stdout
    assert [row["layer"] for row in rows] == [
        row["layer"] for row in json.loads(run(net, "--json").stdout)["rows"]
    ]
    assert sum(int(row["parameters"]) for row in rows) == 11_689_512
    assert [row["part"] for row in rows if row["type"] == "Eltwise"] == [
        f"stage {i}" for i in (1, 1, 2, 2, 3, 3, 4, 4)
    ]
    assert run(net, "--csv", "-").stdout == path.read_text()


def test_csv_and_json_do_not_share_stdout(net):
    result = run(net, "--csv", "-", "--json")

    assert result.exit_code == 2
    assert "leave one out" in result.stderr


def test_compare_has_the_figures_of_both(net, tmp_path):
    """Of 34 layers stage 1 has one unit more: two convolutions 3x3, 64, with their Scales."""
    other = tmp_path / "34.prototxt"
    other.write_text(to_prototxt(deploy_net(PRESETS["resnet-34"].spec)))

    facts = json.loads(run(net, "--compare", str(other), "--json").stdout)
    lines = run(net, "--compare", str(other)).stdout.splitlines()

    first = facts["parts"][1]
    assert first["units"] == [2, 3]
    assert first["parameters"][1] - first["parameters"][0] == 2 * (64 * 64 * 9 + 2 * 64)
    assert facts["parameters"] == [11_689_512, 21_797_672]  # torchvision's counts
    assert facts["parameters"] == [
        sum(part["parameters"][i] for part in facts["parts"]) for i in (0, 1)
    ]
    assert lines[:2] == ["A: ResNet-18, 90 layers", "B: ResNet-34, 162 layers"]
    assert max(map(len, lines)) <= 80
    assert all(word in lines[3] for word in ("parameters", "MACs", "activations"))
    assert lines[-1].split()[:6] == ["total", "11.7", "M", "21.8", "M", "1.86"]


def test_compare_with_a_net_of_other_parts(net):
    text = (
        'input: "x" input_shape { dim: 2 dim: 3 }'
        'layer { name: "a" type: "ReLU" bottom: "x" top: "a" }'
    )

    facts = json.loads(run(net, "--compare", "-", "--json", stdin=text).stdout)

    assert {part["part"]: part["units"][1] for part in facts["parts"]} == {
        "stem": 0, "stage 1": None, "stage 2": None, "stage 3": None, "stage 4": None, "head": None,
    }  # fmt: skip


# ---- one layer

LAYERS = """
input: "x" input_shape { dim: 2 dim: 3 dim: 7 dim: 5 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { name: "w" lr_mult: 0.1 }
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 bias_term: true
    weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "d" param { name: "w" }
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 bias_term: false } }
layer { name: "bn\\033" type: "BatchNorm" bottom: "c" top: "c"
  batch_norm_param { use_global_stats: true } }
layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "d" top: "sum"
  eltwise_param { coeff: 1 coeff: -0.5 } }
layer { name: "who" type: "Who" bottom: "sum" top: "e" }
"""


def test_all_of_a_layer():
    """Each field once, what Caffe fills in marked; figures by hand."""
    result = run("-", "--layer", "c", "--layer", "sum", stdin=LAYERS)
    first, second = (
        [re.split(" {2,}", line) for line in part.splitlines()]
        for part in result.stdout.split("\n\n")
    )

    assert first[:13] == [
        ["layer", "c"],
        ["type", "Convolution: 3x2, 4"],
        ["place", "stage 1, unit 1"],
        ["bottom", "x: 2x3x7x5, of layer input"],  # `c#2` is the shorter way
        ["top", "c: 2x4x5x4"],
        ["blob", "weight: 4x3x3x2, one with c#2.weight"],
        ["blob", "bias: 4"],
        ["parameters", str(4 * 3 * 3 * 2 + 4)],
        ["MACs", f"{2 * 4 * 5 * 4 * 3 * 3 * 2:,}"],
        ["activation bytes", str(2 * 4 * 5 * 4 * 4)],
        ["weight bytes", str((4 * 3 * 3 * 2 + 4) * 4)],
        ["param.name", "w"],
        ["param.lr_mult", "0.1"],
    ]
    assert ["convolution_param.kernel_w", "2"] in first
    assert ["convolution_param.stride", "1 (default)"] in first
    assert ["convolution_param.weight_filler", "type gaussian std 0.01"] in first
    assert ["convolution_param.bias_filler", "type constant value 0 (default)"] in first
    assert [key for key, _ in first if key.endswith("note")] == ["note"]  # a bias before BatchNorm
    assert ["eltwise_param.coeff", "1, -0.5"] in second
    assert ["bottom", "d: 2x4x5x4, of layer c#2, the shortcut"] in second
    assert result.stderr == ""


def test_all_of_a_layer_as_json():
    shown = json.loads(
        run("-", "--layer", "c#2", "--layer", "bn\x1b", "--json", stdin=LAYERS).stdout
    )
    second, norm = shown["layers"]

    assert second["bottoms"] == [
        {"blob": "x", "shape": [2, 3, 7, 5], "layer": "input", "shortcut": True}
    ]
    assert second["blobs"] == [{"blob": "weight", "shape": [4, 3, 3, 2], "one_with": ["c.weight"]}]
    assert (second["parameters"], second["weight_bytes"]) == (0, 0)  # they are the first one's
    assert second["fields"]["convolution_param.kernel_h"] == {"value": 3, "default": False}
    assert second["fields"]["convolution_param.group"] == {"value": 1, "default": True}
    assert norm["fields"]["batch_norm_param.eps"] == {"value": 1e-05, "default": True}
    assert norm["statistics"] == 2 * 4 + 1
    assert norm["activation_bytes"] == 0  # in place
    assert "type 'Who'" in shown["unknown"]


def test_a_blob_of_many_layers():
    """Eight are named; in JSON all."""
    text = 'input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 5 }' + "".join(
        f'layer {{ name: "c{i}" type: "Convolution" bottom: "x" top: "c{i}" param {{ name: "w" }} '
        "convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }"
        for i in range(12)
    )
    names = [f"c{i}.weight" for i in range(12) if i != 2]
    (shown,) = json.loads(run("-", "--layer", "c2", "--json", stdin=text).stdout)["layers"]

    assert shown["blobs"] == [{"blob": "weight", "shape": [2, 3, 1, 1], "one_with": names}]
    assert (
        f"one with {', '.join(names[:8])} and 3 more\n"
        in run("-", "--layer", "c2", stdin=text).stdout
    )
    few = text.partition('layer { name: "c9"')[0]
    assert f"one with {', '.join(names[:8])}\n" in run("-", "--layer", "c2", stdin=few).stdout


def test_a_field_that_is_not_finite():
    """Null in JSON, as all such numbers are."""
    power = 'name: "p" type: "Power" bottom: "x" top: "p" power_param { scale: inf }'
    text = f"{LAYERS} layer {{ {power} }}"
    (shown,) = json.loads(run("-", "--layer", "p", "--json", stdin=text).stdout)["layers"]

    assert shown["fields"]["power_param.scale"] == {"value": None, "default": False}
    assert shown["fields"]["power_param.shift"] == {"value": 0, "default": True}
    assert "power_param.scale  inf\n" in run("-", "--layer", "p", stdin=text).stdout


def test_all_of_a_layer_whose_shapes_are_not_known():
    result = run("-", "--layer", "who", stdin=LAYERS)

    assert ["top", "e:", "?"] in [line.split() for line in result.stdout.splitlines()]
    assert "layer 'who' has type 'Who'" in result.stderr


def test_all_of_a_layer_in_a_unit(net):
    lines = run(net, "--layer", "res3a_branch1").stdout.splitlines()

    assert "stage 2, unit 1" in lines[2]
    assert lines[3].endswith(", the shortcut")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--layer", "bn"), "has no layer 'bn'; did you mean bn\\x1b?"),
     (("--layer", ""), "has no layer ''; `summary` without --layer lists them"),
     (("--layer", "c", "--csv", "-"), "--layer"), (("--layer", "c", "--compare", "x"), "--layer")],
)  # fmt: skip
def test_a_layer_that_there_is_not(arguments, message):
    result = run("-", *arguments, stdin=LAYERS)

    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "\x1b" not in result.output


@pytest.mark.parametrize("width", [60, 80, 200])
def test_by_parts_fits_the_terminal(width):
    net = deploy_net(PRESETS["resnet-50-1by2"].spec)  # with long names

    lines = list(by_parts(summarize(net), structure(net), width))

    kinds = [kind for kind, _ in lines]
    assert kinds.count("row") == len(net.upgraded().layers)
    assert [line[:7] for kind, line in lines if kind == "section"][1:5] == [
        f"stage {i}" for i in (1, 2, 3, 4)
    ]
    assert max(len(line) for _, line in lines) <= width
    assert ("\N{HORIZONTAL ELLIPSIS}" in "".join(line for _, line in lines)) == (width < 100)
    assert ("parameters" in lines[0][1]) == (width == 200)


def test_names_of_any_letters_keep_the_columns(tmp_path):
    """A mark is as wide as its escape, a letter of East Asia two columns, an accent none."""
    names = ("\u202ea", "plain", "b\x01", "卷积" * 20, "e\u0301")
    layers = (make_layer(name, "ReLU", ("x",), (name,)) for name in names)
    path = tmp_path / "net.prototxt"
    path.write_text(to_prototxt(Net("n", (DATA, *layers))))

    lines = run(str(path)).stdout.splitlines()
    grouped = [line for _, line in by_parts(*parts_of(path), 80)]

    for table in (lines, grouped):
        starts = {columns_of(line[: line.index("ReLU")]) for line in table if "ReLU" in line}
        assert len(starts) == 1
    assert max(map(columns_of, grouped)) <= 80
    assert "\\u202ea" in lines[3]


def test_a_real_terminal_gets_groups_and_a_pipe_the_plain_table(net):
    lines = shown(100, "summary", net)

    assert re.match("stage 4 +2 units", next(line for line in lines if "stage 4" in line))
    assert "11.7 M" in lines[-1]
    assert "stage 4" not in run(net).stdout


def test_thousands():
    said = [
        thousands(n) for n in (0, 7, 999, 1_000, 9_994, 9_995, 99_949, 99_950, 999_499, 999_500)
    ]

    assert said == [
        "", "7", "999", "1.00 k", "9.99 k", "10.0 k", "99.9 k", "100 k", "999 k", "1.00 M",
    ]  # fmt: skip
    assert thousands(3.2e15) == "3200 T"
