"""What a file is that begins so."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from resnet_proto.errors import FormatError
from resnet_proto.sniff import HEAD, KINDS, kind, refuse


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
