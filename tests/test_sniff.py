"""What a file is that begins so."""

import io
import pickle
import zipfile

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from google.protobuf.message_factory import GetMessageClass
from PIL import Image

from resnet_proto import schema
from resnet_proto.cli import main
from resnet_proto.errors import FormatError
from resnet_proto.sniff import HEAD, KINDS, ONNX, SOLVERSTATE, kind, refuse


def image(name):
    file = io.BytesIO()
    Image.fromarray(np.zeros((7, 5, 3), np.uint8)).save(file, name)
    return file.getvalue()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "BMP"])
def test_images(name):
    assert kind(image(name)[:HEAD]).what == f"an image ({name})"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles(protocol):
    assert kind(pickle.dumps({"a": 1}, protocol)).what.startswith("a pickle")


def test_keras_and_other_archives():
    """Keras writes its metadata first; one of another program's is a zip archive."""
    for text, what in (('{"keras_version": "3.3.3"}', "a Keras model"), ('{"a": 1}', "a zip arch")):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("metadata.json", text)
        assert kind(file.getvalue()[:HEAD]).what.startswith(what)


def test_no_kind_is_taken_for_another():
    """Each begins as it does itself, and what nobody knows is nothing."""
    assert len({found.what for _, found in KINDS}) == len(KINDS)
    for head in (b"BMW: a text", b"\x80\x01", b"\xfe\xed\xfa", b"\n\x05LeNe"):
        assert kind(head) is None or kind(head).what == "a text file"


def test_a_caffemodel_is_one_where_it_is_wanted():
    for head in (b"\n\x05LeNet\xa2\x06\x10", b"\xa2\x06\x10", b"\n\x05LeNet\x12\x10"):
        refuse("x", head, "a caffemodel")
        with pytest.raises(FormatError, match=r"x is a caffemodel, not an npz file; give it the"):
            refuse("x", head, "an npz file")


@pytest.mark.parametrize(
    "text",
    ['name: "x"', "layers {", "# a net\nlayer: {", 'net: "x"', "train_net_param {", "base_lr: 0.1",
     "# effective batch\ntest_iter: 3", "solver_mode: CPU"],
)  # fmt: skip
def test_nets_and_solvers_are_prototxt(text):
    assert kind(text.encode()).what == "a prototxt (text)"
    assert kind(b"the " + text.encode()).what == "a text file"


def onnx_model(**fields):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    return onnx.helper.make_model(graph, **fields).SerializeToString()


ONNX_MODELS = {
    "as the package makes it": onnx_model(),
    "as torch makes it": onnx_model(producer_name="pytorch", producer_version="2.7.1"),
    "an old one": onnx_model(producer_name="CNTK", producer_version="2.4", ir_version=3,
                             domain="ai.cntk", model_version=1),
    "a doc string": onnx_model(doc_string="made by hand"),
    "the bare minimum": bytes.fromhex("0808") + b"\x3a\x02" + b"\x12\x00",
}  # fmt: skip


@pytest.mark.parametrize("model", ONNX_MODELS.values(), ids=ONNX_MODELS)
def test_onnx_models(model):
    """They begin with a number and a text, as a solver state does."""
    assert kind(model[:HEAD]) is ONNX
    with pytest.raises(FormatError, match="an ONNX model, not a caffemodel; resnet-proto convert"):
        refuse("x", model, "a caffemodel")


def solver_state(**fields):
    message = GetMessageClass(schema.message("SolverState"))(**fields)
    return message.SerializeToString()


BLOB = {"shape": {"dim": [3, 2]}, "data": [0.5] * 6}
STATES = {
    "early": {"iter": 5, "learned_net": "net_iter_5.caffemodel", "history": [BLOB]},
    "no net": {"iter": 8, "history": [BLOB]},
    "an old blob": {"iter": 7, "learned_net": "n",
                    "history": [{"num": 1, "channels": 1, "height": 3, "width": 2}]},
    "values alone": {"iter": 3, "history": [{"data": [0.0, 1.0]}]},
    "no history": {"iter": 9, "learned_net": "net_iter_9.caffemodel", "current_step": 1},
    "before the first": {"iter": 0, "learned_net": "net_iter_0.caffemodel"},
    "of two bytes, one like a tag": {"iter": 7500, "learned_net": "n_7500.caffemodel"},
    "another": {"iter": 6500, "learned_net": "net_iter_6500.caffemodel", "history": [BLOB]},
    "late": {"iter": 300000, "learned_net": "a" * 300, "history": [BLOB], "current_step": 2},
}  # fmt: skip


@pytest.mark.parametrize("fields", STATES.values(), ids=STATES)
def test_solver_states(fields):
    """Also those of a few iterations, whose first bytes are an ONNX model's."""
    assert kind(solver_state(**fields)[:HEAD]) is SOLVERSTATE


def test_an_onnx_model_says_what_to_do(tmp_path):
    """As a net and as weights; `inspect` does not take it for a solver state."""
    path = tmp_path / "x.onnx"
    path.write_bytes(ONNX_MODELS["as torch makes it"])

    for arguments in (["summary", path], ["inspect", path], ["diff", path, path]):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == 1, result.output
        assert "x.onnx is an ONNX model" in result.output, arguments
        assert "resnet-proto convert IN.onnx OUT.caffemodel" in result.output
