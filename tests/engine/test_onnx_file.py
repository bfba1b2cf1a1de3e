"""ONNX files that are verified before they take their names."""

import sys

import numpy as np
import onnx
import pytest

from resnet_proto.build import deploy_net
from resnet_proto.engine import onnx_file, random_inputs
from resnet_proto.engine.compare import TOLERANCE
from resnet_proto.engine.onnx_file import results, save_onnx
from resnet_proto.errors import FormatError, NetError, ResNetProtoError
from resnet_proto.formats.onnx import write_model
from resnet_proto.layers import (
    Convolution,
    Embed,
    InnerProduct,
    Input,
    Power,
    Proposal,
    ReLU,
    Reshape,
    ROIPooling,
    Silence,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.spec import ResNetSpec
from resnet_proto.weights import random_weights

SMALL = deploy_net(ResNetSpec("small", (1, 2), "bottleneck", width=8, stem_width=6, classes=10))


def net(*layers, shape=(2, 3, 7, 5)):
    return Net("t", (Input.of("in", (), "data", shape=({"dim": shape},)), *layers))


def test_results_are_what_nobody_reads():
    some_net = net(
        ReLU.of("a", "data", "a"), ReLU.of("b", "a", "b"), ReLU.of("c", "a", "c"),
        ReLU.of("d", "c", "c"), Silence.of("s", "b", ()),
    )  # fmt: skip

    assert results(some_net) == ("b", "c")
    with pytest.raises(NetError, match="the net computes nothing"):
        results(net())


def test_a_model_that_one_file_cannot_hold(tmp_path, monkeypatch):
    """With a limit of 1 kB in the place of 2 GB: two files, and still verified."""
    monkeypatch.setattr(onnx_file, "LIMIT", 1000)
    weights = random_weights(SMALL)
    warnings = []

    proof = save_onnx(tmp_path / "m.onnx", SMALL, weights, warnings=warnings)

    assert proof.worst.within(TOLERANCE)
    (warning,) = warnings
    assert warning.endswith(f"are in {tmp_path / 'm.onnx.data'}; keep the two together")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)


@pytest.mark.parametrize("mine", ["m.onnx", "m.onnx.data", None])
def test_a_model_of_two_files_with_one_in_the_way(tmp_path, monkeypatch, mine):
    """It is kept, and the other is not written."""
    monkeypatch.setattr(onnx_file, "LIMIT", 1000)
    if mine is None:
        save_onnx(tmp_path / "m.onnx", SMALL, random_weights(SMALL), verify=False, force=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
        return
    (tmp_path / mine).write_bytes(b"mine")

    with pytest.raises(ResNetProtoError, match=f"{mine} exists with other content"):
        save_onnx(tmp_path / "m.onnx", SMALL, random_weights(SMALL), verify=False, force=False)

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(mine, b"mine")]


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_a_refused_model_of_two_files_leaves_nothing(tmp_path, monkeypatch, old, installed):
    """What was there stays, the values too; a model that is right takes the place of both."""
    monkeypatch.setattr(onnx_file, "LIMIT", 1000)
    if not installed:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    weights = random_weights(SMALL)
    before = {"m.onnx": b"old", "m.onnx.data": b"old values"} if old else {}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)

    def files():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "TOLERANCE", 0.0)
        with pytest.raises(FormatError, match="are not what the net computes"):
            save_onnx(tmp_path / "m.onnx", SMALL, weights)
    assert files() == before

    save_onnx(tmp_path / "m.onnx", SMALL, weights)
    proven = files()
    save_onnx(tmp_path / "m.onnx", SMALL, weights, verify=False)
    assert proven.keys() == files().keys() == {"m.onnx", "m.onnx.data"}
    assert proven["m.onnx.data"] == files()["m.onnx.data"]
    assert onnx.load_model_from_string(proven["m.onnx"]) == onnx.load(
        tmp_path / "m.onnx", load_external_data=False
    )


def test_what_is_chosen_is_held_against_the_models_own_scores(tmp_path, monkeypatch):
    """And what is behind it against its own regions; a threshold that is wrong is found."""
    some_net = net(
        Convolution.of("s", "data", "s", num_output=12, kernel_size=3, pad=1),
        Convolution.of("m", "data", "m", num_output=24, kernel_size=3, pad=1),
        Power.of("moves", "m", "moves", scale=0.01),
        Power.of("i", "data", "i", scale=0, shift=60),
        Proposal.of(
            "p", ("s", "moves", "i"), "rois", ratio=(0.5, 1.0), scale=(0.5, 1.0, 2.0), min_size=0,
            nms_thresh=0.3, feat_stride=8,
        ),
        ROIPooling.of("r", ("data", "rois"), "r", pooled_h=3, pooled_w=2, spatial_scale=0.125),
        InnerProduct.of("fc", "r", "fc", num_output=4),
    )  # fmt: skip
    weights = random_weights(some_net)

    proof = save_onnx(tmp_path / "m.onnx", some_net, weights, dynamic="none")

    rows = {row.blob: row for row in proof.rows}
    assert rows.keys() == {"s", "m", "moves", "i", "rois", "r", "fc"}
    assert proof.worst.within(TOLERANCE)
    assert 10 < rows["rois"].shape[0] < 300, rows["rois"]
    (value,) = onnx.load(tmp_path / "m.onnx").graph.output
    assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [0, 4]

    def wrong(file, drawing, *args):
        values = drawing.graph.initializers
        values["p.nms_thresh"] = values["p.nms_thresh"] * 0
        write_model(file, drawing, *args)

    monkeypatch.setattr(onnx_file, "write_model", wrong)
    with pytest.raises(FormatError, match=r"over 1e-05\. The file was not kept") as refused:
        save_onnx(tmp_path / "m.onnx", some_net, weights, dynamic="none")
    assert "are not what the net computes" in str(refused.value)


def test_a_net_that_loses_digits_is_blamed_itself(tmp_path):
    """A difference of large numbers, of which float32 has three digits; its twin has them all."""
    moves = [
        (Power.of("far", "data", "far", shift=shift), Power.of("back", "far", "y", shift=-shift))
        for shift in (1e7, 1.0)
    ]

    with pytest.raises(FormatError, match=r"'y' .* over 1e-05; our own forward pass in float32 is"):
        save_onnx(tmp_path / "m.onnx", net(*moves[0]), {})
    assert list(tmp_path.iterdir()) == []
    assert save_onnx(tmp_path / "m.onnx", net(*moves[1]), {}).worst.within(TOLERANCE)


def test_a_batch_that_cannot_vary_is_said(tmp_path):
    some_net = net(
        Reshape.of("p", "data", "p", shape={"dim": (2, -1)}),
        InnerProduct.of("fc", "p", "fc", num_output=4),
    )
    warnings = []

    proof = save_onnx(tmp_path / "m.onnx", some_net, random_weights(some_net), warnings=warnings)

    assert proof.worst.within(TOLERANCE)
    (warning,) = warnings
    assert warning.startswith("the batch is 2 and cannot vary: layer 'p' (Reshape)")
    (value,) = onnx.load(tmp_path / "m.onnx").graph.input
    assert value.type.tensor_type.shape.dim[0].dim_value == 2


def test_what_random_inputs_do_not_fit(tmp_path):
    """An Embed takes whole numbers: the file is written, and it is said that nothing was run."""
    half = Power.of("half", "data", "half", scale=0.5)
    some_net = net(half, Embed.of("e", "half", "e", input_dim=4, num_output=3), shape=(2, 5))

    proof = save_onnx(tmp_path / "m.onnx", some_net, random_weights(some_net))

    assert not proof.rows
    assert "our own forward pass does not run on random inputs: layer 'e'" in proof.missing
    assert (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_an_input_that_a_layer_overwrites(tmp_path, monkeypatch, installed):
    """In the model it is `data@<layer>`, and gets what the net's own gets."""
    if not installed:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    some_net = net(
        Power.of("half", "data", "data", scale=0.5),
        Convolution.of("c", "data", "c", num_output=4, kernel_size=3),
    )

    proof = save_onnx(tmp_path / "m.onnx", some_net, random_weights(some_net))

    assert [value.name for value in onnx.load(tmp_path / "m.onnx").graph.input] == ["data@in"]
    assert {row.blob for row in proof.rows} == {"data", "c"}
    assert proof.worst.within(TOLERANCE)


def test_inputs_that_are_no_images(tmp_path):
    """Words for an Embed, and where sequences begin: the file is run."""
    words, cont = (Input.of(k, (), k, shape=({"dim": (5, 3)},)) for k in ("words", "cont"))
    fields = {"recurrent_param": {"num_output": 4}}
    some_net = Net("t", (
        words, cont,
        Embed.of("e", "words", "e", input_dim=7, num_output=3),
        make_layer("r", "LSTM", ("e", "cont"), ("r",), fields),
    ))  # fmt: skip
    inputs = random_inputs(some_net)
    assert set(inputs["words"].ravel()) <= set(range(7))
    assert set(inputs["cont"].ravel()) == {0, 1}

    proof = save_onnx(tmp_path / "m.onnx", some_net, random_weights(some_net))

    assert {row.blob for row in proof.rows} == {"e", "r"}


@pytest.mark.parametrize("fold_bn", [True, False])
def test_without_onnxruntime_the_file_is_read_back(tmp_path, monkeypatch, fold_bn):
    """The same blobs; and a file that is wrong is found by that, too."""
    weights = random_weights(SMALL)
    with_it = save_onnx(tmp_path / "m.onnx", SMALL, weights, fold_bn=fold_bn)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    proof = save_onnx(tmp_path / "m.onnx", SMALL, weights, fold_bn=fold_bn)

    assert (with_it.by, proof.by) == ("onnxruntime", "our own reading of the file")
    assert {row.blob for row in proof.rows} == {row.blob for row in with_it.rows}
    assert proof.worst.within(TOLERANCE)

    def wrong(file, drawing, *args):
        values = drawing.graph.initializers
        name = max(values, key=lambda name: values[name].size)
        values[name] = values[name] * np.float32(1.001)
        write_model(file, drawing, *args)

    monkeypatch.setattr(onnx_file, "write_model", wrong)
    with pytest.raises(FormatError, match="are not what the net computes"):
        save_onnx(tmp_path / "m.onnx", SMALL, weights, fold_bn=fold_bn)


def test_every_blob_is_compared(tmp_path):
    """Also those between, and a nan is the worst."""
    proof = save_onnx(tmp_path / "m.onnx", SMALL, random_weights(SMALL), fold_bn=False)

    assert {row.blob for row in proof.rows} == {
        top for layer in SMALL.upgraded().layers for top in layer.tops
    } - {"data"}
    assert np.isfinite([row.distance for row in proof.rows]).all()
