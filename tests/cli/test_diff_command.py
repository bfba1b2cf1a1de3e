"""``diff``: what it says of weights and nets, against files that were changed on purpose."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_proto.cli import main
from resnet_proto.formats import convert, save
from resnet_proto.prototxt import read_prototxt
from resnet_proto.report.diff import PART, diff_nets, diff_weights, distances
from resnet_proto.weights import Weights

NET = """
input: "data" input_dim: 2 input_dim: 3 input_dim: 7 input_dim: 5
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 %s }
}
layer {
  name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 6 }
}
"""
SAME = NET % "pad: 0 stride: 1"


def arrays():
    rng = np.random.default_rng(5)
    shapes = {
        "conv.weight": (4, 3, 3, 3),
        "conv.bias": (4,),
        "fc.weight": (6, 60),
        "fc.bias": (6,),
    }
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["diff", *map(str, arguments)], input=stdin)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.prototxt").write_text(NET % "")
    save("a.npz", arrays())
    return tmp_path


@pytest.mark.parametrize("name", ["b.caffemodel", "b.safetensors", "b.h5", "b.npz"])
def test_formats_hold_the_same(name, folder):
    net = read_prototxt(NET % "")
    convert("a.npz", name, net=net)

    result = run("a.npz", name)

    assert result.output == "4 blobs equal\n"
    assert result.exit_code == 0


def test_weights_that_differ(folder):
    other = arrays()
    other["conv.weight"] = other["conv.weight"] * np.float32(1.5)
    other["fc.weight"] = other["fc.weight"][:, :59]
    other["new.weight"] = np.ones((3, 2), "float32")
    del other["fc.bias"]
    save("b.npz", other)

    result = run("a.npz", "b.npz")

    assert result.exit_code == 1
    rows = [line.split() for line in result.output.splitlines()]
    assert rows[0] == ["blob", "A", "B", "relative", "L2", "largest"]
    assert rows[2] == ["conv.weight", "4x3x3x3", "4x3x3x3", "3.33e-01", "3.33e-01"]
    assert rows[3:6] == [
        ["fc.weight", "6x60", "6x59"],
        ["fc.bias", "6", "-"],
        ["new.weight", "-", "3x2"],
    ]
    assert result.output.splitlines()[-1] == (
        "1 blob only in a.npz, 1 blob only in b.npz, 1 blob of different shapes, "
        "1 blob of different values, 1 blob equal"
    )
    found = json.loads(run("a.npz", "b.npz", "--json").output)
    assert found["equal"] == 1
    assert found["blobs"][0]["distance"] == pytest.approx(1 / 3, rel=1e-6)
    assert [row["other"] for row in found["blobs"]] == [[4, 3, 3, 3], [6, 59], None, [3, 2]]


def test_arrays_without_a_dot_in_their_names(folder):
    """Blobs of a net, as `forward` writes them."""
    for name, factor in (("a.npz", 1.0), ("b.npz", 1.5)):
        np.savez(name, pool5=factor * np.ones((2, 3, 1, 1)), fc=np.ones((2, 6)))

    lines = run("a.npz", "b.npz").output.splitlines()

    assert [line.split()[0] for line in lines[2:]] == ["pool5", "1"]
    assert lines[-1] == "1 blob of different values, 1 blob equal"


def test_tolerance(folder):
    save("b.npz", {name: value * np.float32(1 + 1e-6) for name, value in arrays().items()})

    assert run("a.npz", "b.npz").exit_code == 1
    result = run("a.npz", "b.npz", "--tolerance", "1e-5")
    assert (result.exit_code, result.output) == (0, "4 blobs within 1e-05\n")


def test_what_is_no_number():
    one = np.array([1, np.nan, np.inf, -np.inf, 2])

    assert distances(one, one.copy()) == (0, 0)
    assert np.isnan(distances(one, np.array([1, 0, np.inf, -np.inf, 2]))).all()
    assert distances(one, np.array([1, np.nan, -np.inf, -np.inf, 2]))[0] == np.inf


def test_part_by_part():
    """The figures are those of all values at once, wherever the largest lie."""
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, 3, PART // 2 + 11))
    one[2, 5], other[0, 3] = 30, 40

    error = np.linalg.norm(one - other) / np.linalg.norm(other)

    assert distances(one, other) == pytest.approx((error, abs(one - other).max() / 40))
    assert distances(np.zeros(3), np.zeros(3)) == (0, 0)
    assert distances(np.ones(3), np.zeros(3)) == (np.inf, np.inf)


def test_legacy_shapes_and_numbered_blobs():
    values = arrays()
    legacy = {**values, "fc.bias": values["fc.bias"].reshape(1, 1, 1, 6)}
    numbered = {f"{k.split('.')[0]}.{int('bias' in k)}": v for k, v in values.items()}

    for other in (legacy, numbered):
        rows = diff_weights(Weights.of(values), Weights.of(other))
        assert [row.distance for row in rows] == [0, 0, 0, 0]


def test_nets(folder):
    (folder / "same.prototxt").write_text(SAME)
    (folder / "b.prototxt").write_text(
        NET.replace('"fc"', '"fc9"') % "pad: 1 weight_filler { type: 'msra' }"
    )

    assert run("a.prototxt", "same.prototxt").output == "the same net, after Caffe's defaults\n"
    result = run("a.prototxt", "b.prototxt")
    assert result.exit_code == 1
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[2:6] == [
        ["conv", "pad", "0", "1"],
        ["conv", "weight_filler.type", "-", "msra"],
        ["fc", "(layer)", "InnerProduct", "-"],
        ["fc9", "(layer)", "-", "InnerProduct"],
    ]
    assert result.output.splitlines()[-2:] == [
        "4 differences in 3 layers",
        "they part: layer 'conv' (Convolution) has pad 0; the other net has 1",
    ]
    renamed = (NET % "").replace('"fc"', '"fc9"')
    assert run("a.prototxt", "-", stdin=renamed).output.splitlines()[-1] == (
        "they compute the same, names aside"
    )


def test_rules_order_and_the_net_itself():
    one = read_prototxt(NET % "")
    rule = {"include": ({"phase": "TEST"},)}
    ruled = read_prototxt((NET % "").replace('top: "fc"', 'top: "fc" include { phase: TEST }'))
    side = 'layer { name: "%s" type: "ReLU" bottom: "fc" top: "%s" }'
    ab, ba = (
        read_prototxt(NET % "" + "".join(side % (x, x) for x in order)) for order in ("ab", "ba")
    )

    assert [(r.layer, r.field, r.other) for r in diff_nets(one, ruled)] == [
        ("fc", "include", rule["include"])
    ]
    assert [(r.layer, r.field, r.one, r.other) for r in diff_nets(ab, ba)] == [
        ("", "order of layers", "a", "b")
    ]
    forced = read_prototxt(f"name: 'x' force_backward: true {NET % ''}")
    assert [(r.field, r.one, r.other) for r in diff_nets(one, forced)] == [
        ("name", "", "x"),
        ("force_backward", None, True),
    ]


def test_a_net_within_weights(folder):
    convert("a.npz", "b.npz", net=read_prototxt(SAME))

    assert run("a.prototxt", "b.npz").exit_code == 0
    assert "contains no prototxt" in run("a.prototxt", "a.npz").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.npz", "none.npz"), "none.npz: no such file"),
        (("none.prototxt", "a.prototxt"), "none.prototxt: no such file"),
        (("a.npz", "."), "cannot be read: Is a directory"),
        (("a.prototxt", "a.caffemodel"), "a.caffemodel is a caffemodel, a.prototxt is not; give"),
    ],
)
def test_refused(arguments, words, folder):
    save("a.caffemodel", arrays(), read_prototxt("a.prototxt"))

    result = run(*arguments)

    assert result.exit_code == 1
    assert words in result.stderr
    assert run("a.npz", "a.npz").exit_code == 0


def test_of_many_differences_the_first_are_shown(folder):
    """Of each kind; --json has all."""
    ours = {f"a{i}.weight": np.full((2, 3), i, np.float32) for i in range(1, 24)}
    theirs = {f"b{i}.weight": np.zeros((2, 3), np.float32) for i in range(22)}
    both = {"c.weight": np.ones(4, np.float32)}
    save("x.npz", ours | both)
    save("b.npz", dict(list(theirs.items())[:20]))
    save("y.npz", theirs | {"c.weight": 2 * both["c.weight"]})

    shown = run("x.npz", "y.npz").stdout.splitlines()
    listed = json.loads(run("x.npz", "y.npz", "--json").stdout)["blobs"]

    names = [line.split()[0] for line in shown[2:-2]]
    assert names == [*list(ours)[:20], "c.weight", *list(theirs)[:20]]
    assert shown[-2] == "... and 5 more; --json has all"
    assert len(listed) == 46
    assert "--json" not in run("y.npz", "y.npz").stdout + run("a.npz", "b.npz").stdout


def test_of_many_layers_the_first_are_shown(folder):
    layer = 'layer { name: "%s%d" type: "ReLU" bottom: "data" top: "data" }'
    for name, n in (("p", 30), ("q", 20)):
        text = "".join(layer % (name, i) for i in range(n))
        (folder / f"{name}.prototxt").write_text(f'name: "n" {text}')

    shown = run("p.prototxt", "q.prototxt").stdout.splitlines()

    assert [line.split()[0] for line in shown if line[0] in "pq"] == [
        *(f"p{i}" for i in range(20)), *(f"q{i}" for i in range(20)),
    ]  # fmt: skip
    assert "... and 10 more; --json has all" in shown
    assert "50 differences in 50 layers" in shown
