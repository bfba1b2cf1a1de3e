"""What we say that Caffe does with weights and a net, against what the real Caffe does.

Each case is one layer of a caffemodel for a net of two, or some groups of an HDF5 file. Blobs of
zeros are written, and the fillers are ones: so the sums that come out tell what was copied and
what was left.
"""

import h5py
import numpy as np
import pytest
from wire import field, layer, layers, legacy, packed, shape, unpacked

from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import ResNetProtoError
from resnet_proto.fit import match
from resnet_proto.formats import load
from resnet_proto.prototxt import read_prototxt

NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer {
  name: "a" type: "InnerProduct" bottom: "data" top: "a"
  inner_product_param {
    num_output: 4
    weight_filler { type: "constant" value: 1 } bias_filler { type: "constant" value: 1 }
  }
}
layer {
  name: "SECOND" type: "InnerProduct" bottom: "a" top: "b"
  inner_product_param {
    num_output: 5 bias_term: false weight_filler { type: "constant" value: 1 }
  }
}
layer {
  name: "gate" type: "Scale" bottom: "b" top: "c"
  scale_param { axis: 0 num_axes: 0 filler { type: "constant" value: 1 } }
}
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def zeros(n):
    return packed(5, *[0] * n)


def a(*blobs, name="a", type="InnerProduct"):
    return layer(name, type, *blobs)


W, B = shape(4, 3) + zeros(12), shape(4) + zeros(4)
GOOD = a(W, B)
CASES = {
    "both blobs": GOOD,
    "another type": a(W, B, type="Crop"),
    "old shapes": a(legacy(1, 1, 4, 3) + zeros(12), legacy(1, 1, 1, 4) + zeros(4)),
    "old bias from the left": a(W, legacy(4, 1, 1, 1) + zeros(4)),
    "old weight from the left": a(legacy(4, 3, 1, 1) + zeros(12), B),
    "old shape goes first": a(W, shape(5) + legacy(1, 1, 1, 4) + zeros(4)),
    "right shape, wrong old one": a(W, shape(4) + legacy(4, 1, 1, 1) + zeros(4)),
    "bias with an axis more": a(W, shape(1, 4) + zeros(4)),
    "turned weight": a(shape(3, 4) + zeros(12), B),
    "flat weight": a(shape(12) + zeros(12), B),
    "without a shape": a(zeros(12), B),
    "bias without a shape": a(W, zeros(4)),
    "one blob": a(W),
    "three blobs": a(W, B, B),
    "no blob": a(),
    "doubles": a(shape(4, 3) + packed(8, *[0] * 12), B),
    "doubles go first": a(shape(4, 3) + zeros(5) + packed(8, *[0] * 12), B),
    "unpacked": a(shape(4, 3) + unpacked(5, *[0] * 12), shape(4) + unpacked(5, 0, 0) + zeros(2)),
    "another name": a(W, B, name="old"),
    "nothing but others": a(shape(2) + zeros(2), name="old") + a(name="split"),
    "twice": GOOD + GOOD,
    "twice, the second is wrong": GOOD + a(W),
    "2014": layers("a", 14, legacy(1, 1, 4, 3) + zeros(12), legacy(1, 1, 1, 4) + zeros(4)),
    "2014, wrong": layers("a", 14, legacy(1, 1, 3, 4) + zeros(12), legacy(1, 1, 1, 4) + zeros(4)),
    "one value": GOOD + a(shape() + zeros(1), name="gate"),
    "one value without a shape": GOOD + a(zeros(1), name="gate"),
    "one value in one axis": GOOD + a(shape(1) + zeros(1), name="gate"),
    "one old value": GOOD + a(legacy(1, 1, 1, 1) + zeros(1), name="gate"),
    "blobs for a layer without": GOOD + a(shape(1) + zeros(1), name="relu"),
    "no blobs for a layer without": GOOD + a(name="relu"),
    "unknown fields": field(77, b"x") + layer("a", "Crop", W + field(20, 1), B, more=field(210, 5)),
}
"""The net's second layer is 'b' here; it is not in the file, and keeps its filler."""
SAME_NAME = {
    "first of a name": a(W, B),
    "second of a name": a(W, B) + a(shape(5, 4) + zeros(20)),
    "only the second": a(shape(5, 4) + zeros(20)),
}
"""The net's second layer is an 'a' too."""
GROUPS = {
    "both": {"a/0": (4, 3), "a/1": (4,)},
    "one": {"a/0": (4, 3)},
    "three": {"a/0": (4, 3), "a/1": (4,), "a/2": ()},
    "second only": {"a/1": (4,)},
    "old bias": {"a/0": (4, 3), "a/1": (1, 1, 1, 4)},
    "turned": {"a/0": (3, 4), "a/1": (4,)},
    "scalar": {"a/0": (4, 3), "a/1": (4,), "gate/0": ()},
    "scalar in one axis": {"gate/0": (1,)},
    "for a layer without": {"relu/0": (1,)},
    "another name": {"x/0": (4, 3)},
    "a slash": {"q/b/0": (5, 4)},
    "a slash, and its part": {"q/b/0": (5, 4), "q/0": (3,)},
    "within another": {"a/0": (4, 3), "a/1": (4,), "a/b/0": (5, 4)},
    "within, in place of one": {"a/0": (4, 3), "a/b/0": (5, 4)},
    "first of a name": {"a/0": (4, 3), "a/1": (4,)},
    "last of a name": {"a/0": (5, 4)},
    "both of a name": {"a/0": (5, 4), "a#2/0": (5, 4)},
}
"""Blobs of HDF5 files."""
SECONDS = {"a slash": "q/b", "a slash, and its part": "q/b", "within another": "a/b",
           "within, in place of one": "a/b", "first of a name": "a", "last of a name": "a",
           "both of a name": "a"}  # fmt: skip
"""What the net's second layer is called for some of them."""


def hdf5(path, groups, dtype="f4"):
    """An HDF5 file of zeros."""
    with h5py.File(path, "w") as file:
        for name, sizes in groups.items():
            file.create_dataset(f"data/{name}", data=np.zeros(sizes, dtype))


class Case:
    """A net and a file, what we say and what Caffe does."""

    def __init__(self, folder, second, data):
        self.folder = folder
        folder.mkdir()
        (folder / "net.prototxt").write_text(NET.replace("SECOND", second))
        if isinstance(data, dict):
            hdf5(folder / "net.caffemodel", data)  # known by its content
        else:
            (folder / "net.caffemodel").write_bytes(data)
        write_job(folder, folder / "net.prototxt", folder / "net.caffemodel", {"data": X})
        self.net = read_prototxt(folder / "net.prototxt")
        with load(folder / "net.caffemodel") as weights:
            self.verdicts = match(weights, self.net)

    def of(self, verdict):
        return {v.layer for v in self.verdicts if v.verdict == verdict}

    def expected(self):
        """The blobs, if Caffe does what we say."""
        left = self.of("left at its filler")
        copied = {v.layer.partition("#")[0] for v in self.verdicts if v.verdict == "copied"} - left
        first = np.zeros((2, 4)) if "a" in copied else X.sum(1, keepdims=True) + np.ones((2, 4))
        second = first.sum(1, keepdims=True) * np.ones((2, 5))
        second *= "a" in copied or "a#2" in left or bool({"b", "q/b", "a/b"} & left)
        return {"a": first, "b": second, "c": second * (0 if "gate" in copied else 1)}


@pytest.fixture(scope="module")
def cases(caffe_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("match")
    every = {name: ("b", data) for name, data in CASES.items()}
    every |= {name: ("a", data) for name, data in SAME_NAME.items()}
    every |= {f"hdf5: {name}": (SECONDS.get(name, "b"), data) for name, data in GROUPS.items()}
    done = {
        name: Case(folder / str(i), second, data)
        for i, (name, (second, data)) in enumerate(every.items())
    }
    run_jobs(caffe_python, [case.folder for case in done.values()])
    return done


@pytest.mark.parametrize("name", [*CASES, *SAME_NAME, *(f"hdf5: {name}" for name in GROUPS)])
def test_caffe_does_what_we_say(cases, name):
    case = cases[name]
    assert not case.of("unknown")

    if refused := case.of("refused"):
        layer_name = next(iter(refused)).partition("#")[0]
        words = rf"Cannot copy param . weights from layer '{layer_name}'|for layer {layer_name}$"
        words += r"|count_ == proto\.data_size|Cannot load blob from hdf5; shape mismatch"
        with pytest.raises(ResNetProtoError, match=words):
            read_job(case.folder)
    else:
        blobs = read_job(case.folder)
        for blob, value in case.expected().items():
            np.testing.assert_array_equal(blobs[blob], value, err_msg=blob)


def test_both_answers_are_frequent(cases):
    refused = [name for name, case in cases.items() if case.of("refused")]

    assert 8 < len(refused) < len(cases) - 8
    assert 5 < sum(name.startswith("hdf5") for name in refused) < len(GROUPS) - 5
    assert cases["another name"].of("ignored") == {"old"}
    assert cases["another name"].of("left at its filler") == {"a", "b", "gate"}
    assert cases["first of a name"].of("left at its filler") == {"a#2", "gate"}
