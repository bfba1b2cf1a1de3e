"""Data layers: the shapes that the real Caffe takes from files, and what it refuses.

Data and HDF5Data are elsewhere: ``tests/data`` and ``test_training.py`` have databases.
"""

import json
import subprocess
from contextlib import suppress

import numpy as np
import pytest

from resnet_proto.errors import NetError
from resnet_proto.layers import make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import to_prototxt

ROWS, COLUMNS = 13, 17
CHILD = """
import json, os, sys
os.environ["GLOG_minloglevel"] = "3"
import caffe
for name in sys.argv[1:]:
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        net = caffe.Net(name, caffe.TEST)
        tops = {k: [list(b.data.shape), float(b.data.flat[0])] for k, b in net.blobs.items()}
        with open(name + ".json", "w") as file:
            json.dump(tops, file)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory, cv2):
    """A list of one image, and a window file of it."""
    folder = tmp_path_factory.mktemp("images")
    image = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)
    cv2.imwrite(str(folder / "a.png"), image)
    (folder / "list").write_text(f"{folder}/a.png 3\n")
    windows = "2\n3 0.9 1 1 9 9\n0 0.1 2 2 8 8\n"
    (folder / "windows").write_text(f"# 0\n{folder}/a.png\n3\n{ROWS}\n{COLUMNS}\n{windows}")
    return folder


def dummy(*tops, **fields):
    return "DummyData", tops, {"dummy_data_param": fields}


def memory(*sides):
    fields = dict(zip(("batch_size", "channels", "height", "width"), sides, strict=False))
    return "MemoryData", ("a", "b"), {"memory_data_param": fields}


def image(crop=None, tops=("a", "b"), **fields):
    transform = {"transform_param": {"crop_size": crop}} if crop else {}
    return "ImageData", tops, {"image_data_param": {"source": "list", **fields}, **transform}


def window(crop=None, **fields):
    transform = {"transform_param": {"crop_size": crop}} if crop else {}
    return (
        "WindowData",
        ("a", "b"),
        {"window_data_param": {"source": "windows", **fields}, **transform},
    )


A, B = {"dim": (2, 3, 7)}, {"dim": (5,)}
FILL = {"value": 2.5}
LAYERS = [
    dummy("a", shape=(A,)),
    dummy("a", "b", shape=(A,), data_filler=(FILL,)),
    dummy("a", "b", shape=(A, B), data_filler=(FILL, {"type": "constant"})),
    dummy("a", "b", num=(2,), channels=(3, 4), height=(7,), width=(5, 6)),
    dummy("a", "b", "c", shape=(A, B)),
    dummy("a", shape=(A, B)),
    dummy("a", "b", "c", shape=(A,), data_filler=(FILL, FILL)),
    dummy("a", shape=(A,), num=(2,), channels=(3,), height=(7,), width=(5,)),
    dummy("a", num=(2,), channels=(3,), height=(7,)),
    dummy("a"),
    dummy("a", shape=(A,), data_filler=({"type": "konstant"},)),
    dummy(shape=(A,)),
    memory(2, 3, 7, 5),
    memory(2, 3, 7),
    memory(0, 3, 7, 5),
    image(crop=6),
    image(crop=6, batch_size=4, is_color=False),
    image(new_height=7, new_width=5, batch_size=2),
    image(crop=4, new_height=7, new_width=5),
    image(crop=6, new_height=7, new_width=5),
    image(crop=6, new_height=7),
    image(crop=6, batch_size=0),
    image(crop=6, tops=("a",)),
    image(crop=6, crop_size=5, batch_size=2),
    window(crop=6, batch_size=4),
    window(crop=6),
    window(batch_size=4, crop_size=6),
]


def test_shapes_are_caffes(caffe_python, files):
    names = []
    for i, (type, tops, fields) in enumerate(LAYERS):
        fields = {k: {**v, "source": str(files / v["source"])} if "source" in v else v
                  for k, v in fields.items()}  # fmt: skip
        names.append(files / f"{i}.prototxt")
        names[-1].write_text(to_prototxt(Net("n", (make_layer("in", type, (), tops, fields),))))

    subprocess.run([caffe_python, "-c", CHILD, *map(str, names)], check=True, timeout=300)

    refused = 0
    for name, (type, tops, fields) in zip(names, LAYERS, strict=True):
        layer = make_layer("in", type, (), tops, fields)
        answer = name.with_name(f"{name.name}.json")
        theirs = json.loads(answer.read_text()) if answer.exists() else None
        with suppress(NetError):
            step = None
            (step,) = Net("n", (layer,)).walk()
        if step is None:
            assert theirs is None, f"we refuse, Caffe does not: {layer} {theirs}"
            refused += 1
            continue
        assert theirs is not None, f"Caffe refuses, we do not: {layer}"
        assert {k: tuple(v[0]) for k, v in theirs.items()} == dict(
            zip(tops, step.tops, strict=True)
        )
        if type == "DummyData":
            assert [layer.fill(top) for top in tops] == [theirs[top][1] for top in tops]
    assert 0 < refused < len(LAYERS)


def test_the_old_crop_size_is_not_looked_at(caffe_python, files):
    """The image has its own size, which we cannot know: a net file of V1 would be upgraded."""
    type, tops, fields = image(crop_size=5, batch_size=2)
    layer = make_layer("in", type, (), tops, fields)
    with pytest.raises(NetError, match="set crop_size in transform_param"):
        list(Net("n", (layer,)).walk())
    fields["image_data_param"]["source"] = str(files / "list")
    name = files / "old.prototxt"
    name.write_text(to_prototxt(Net("n", (make_layer("in", type, (), tops, fields),))))

    subprocess.run([caffe_python, "-c", CHILD, str(name)], check=True, timeout=300)

    theirs = json.loads(name.with_name("old.prototxt.json").read_text())
    assert theirs["a"][0] == [2, 3, ROWS, COLUMNS]
