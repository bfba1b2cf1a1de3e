"""``resnet-proto verify``: rows, verdict and exit status."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import resnet_proto.engine
from resnet_proto import engine, random_weights, read_prototxt, save
from resnet_proto.cli import main

TEXT = """
name: "tiny"
layer {
  name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 }
}
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 }
}
layer {
  name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 6 }
}
"""
BLOBS = ["data", "conv", "pool", "fc"]


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT)
    return str(path)


def call(net_file, *arguments, against="float64", weights="random"):
    return CliRunner().invoke(
        main, ["verify", net_file, "--weights", weights, "--against", against, *arguments]
    )


@pytest.fixture
def wrong(monkeypatch):
    """An engine 'float64' that is wrong from a blob on."""

    def break_it(blob, change):
        right = engine.ENGINES["float64"]

        def changed(job):
            blobs = right(job)
            for name in BLOBS[BLOBS.index(blob) :]:
                blobs[name] = change(blobs[name])
            return blobs

        monkeypatch.setitem(resnet_proto.engine.ENGINES, "float64", changed)

    return break_it


def test_one_row_for_each_blob(net_file):
    result = call(net_file)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["blob", "-" * 4, *BLOBS]
    assert lines[1] == "----  -------  -----------"
    assert lines[-1].startswith("numpy against float64: 4 blobs within 1e-05; the worst is '")


def test_the_first_blob_over_is_named(net_file, wrong):
    wrong("pool", lambda value: value * (1 + 1e-4))

    result = call(net_file)

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == (
        "numpy against float64: 2 of 4 blobs over 1e-05; the first is 'pool' with 1.00e-04"
    )
    assert [line.split()[0] for line in result.stdout.splitlines() if line.endswith("over")] == [
        "pool", "fc",
    ]  # fmt: skip


def test_tolerance(net_file, wrong):
    wrong("fc", lambda value: value * (1 + 1e-4))

    assert call(net_file, "--tolerance", "1e-3").exit_code == 0
    assert call(net_file, "--tolerance", "1e-5").exit_code == 1


@pytest.mark.parametrize("change", [lambda v: v * np.nan, lambda v: v[:1], lambda v: v * 0])
def test_nan_other_shape_and_zero_are_over(net_file, wrong, change):
    wrong("fc", change)

    result = call(net_file, "--json")

    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert shown["first_over"] == "fc"
    assert shown["blobs"][-1]["distance"] is None  # JSON has no nan and no infinity


def test_the_shape_of_the_reference(net_file, wrong):
    wrong("fc", lambda value: value[:1])

    *equal, other = json.loads(call(net_file, "--json").stdout)["blobs"]

    assert (other["shape"], other["reference_shape"]) == ([2, 6], [1, 6])
    assert all("reference_shape" not in row for row in equal)


@pytest.mark.parametrize("tolerance", ["nan", "inf"])
def test_a_tolerance_is_a_number(net_file, tolerance):
    """Nothing would be over it, and JSON cannot hold it."""
    result = call(net_file, "--tolerance", tolerance)

    assert result.exit_code == 2
    assert f"'{tolerance}' is not a number of 0 or more" in result.stderr
    assert call(net_file, "--tolerance", "1").exit_code == 0


def test_weights_with_a_layer_more(net_file, tmp_path):
    """They may be of another net that has the same names."""
    path = tmp_path / "w.caffemodel"
    net = read_prototxt(TEXT)
    more = read_prototxt(TEXT + TEXT[TEXT.index('layer {\n  name: "fc"') :].replace("fc", "more"))
    for some, warned in ((net, False), (more, True)):
        save(path, random_weights(some), some)
        result = call(net_file, weights=str(path))
        assert result.exit_code == 0, result.output
        assert ("layer 'more', which the net lacks" in result.stderr) == warned


@pytest.mark.usefixtures("cv2")
def test_nothing_is_left_to_compare(net_file):
    """OpenCV has no layer for an input."""
    result = call(net_file, "--until", "data", against="opencv")

    assert result.exit_code == 1
    assert "nothing to compare: no blob is on both sides; ours: data; theirs: none" in result.stderr


def test_one_engine_is_not_compared_with_itself(net_file):
    result = call(net_file, "--engine", "float64")

    assert result.exit_code == 2
    assert "--engine and --against are both float64; name two engines" in result.stderr
    assert call(net_file, "--engine", "float64", against="numpy").exit_code == 0


def test_no_common_blob(net_file, monkeypatch):
    monkeypatch.setitem(resnet_proto.engine.ENGINES, "float64", lambda job: {"x": np.ones(1)})

    result = call(net_file)

    assert result.exit_code == 1
    assert "nothing to compare" in result.stderr


def test_json(net_file):
    shown = json.loads(call(net_file, "--json").stdout)

    assert shown["against"] == "float64"
    assert shown["first_over"] is None
    assert [row["blob"] for row in shown["blobs"]] == BLOBS
    assert shown["blobs"][1]["shape"] == [2, 4, 5, 3]


def test_until(net_file):
    result = call(net_file, "--until", "conv", "--json")

    assert [row["blob"] for row in json.loads(result.stdout)["blobs"]] == BLOBS[:2]


@pytest.mark.usefixtures("cv2")
def test_opencv_reads_what_we_write(net_file):
    """Random weights have no file: prototxt and caffemodel are written for it."""
    result = call(net_file, against="opencv")

    assert result.exit_code == 0, result.output
    assert "numpy against opencv: 3 blobs within 1e-05" in result.stdout


def test_caffe_reads_what_we_write(net_file, caffe_python):
    result = call(net_file, "--caffe-python", caffe_python, against="caffe")

    assert result.exit_code == 0, result.output
    assert "numpy against caffe: 4 blobs within 1e-05" in result.stdout


def test_caffe_refuses_with_its_own_words(tmp_path, caffe_python):
    """What only Caffe sees: the file is its own to read."""
    path, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    path.write_text(TEXT + 'layer { name: "x" type: "Nonsense" bottom: "fc" top: "x" }')
    net = read_prototxt(TEXT)
    save(weights, random_weights(net), net)
    engines = ("--engine", "caffe", "--caffe-python", caffe_python)

    result = call(str(path), *engines, weights=str(weights))

    assert result.exit_code == 1
    assert "Unknown layer type: Nonsense" in result.stderr
