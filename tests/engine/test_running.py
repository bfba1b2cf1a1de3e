"""Engines that stay open: many runs, of other sizes, and when they go wrong."""

import fcntl
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_nets import data, net, random_input, random_weights, residual

from resnet_proto.engine import ENGINES, planned, start
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.plain import forward
from resnet_proto.engine.running import KEPT
from resnet_proto.errors import NetError, ResNetProtoError, ShapeError, WeightsError
from resnet_proto.fold import fold
from resnet_proto.layers import (
    SPP,
    BatchNorm,
    Convolution,
    InnerProduct,
    Pooling,
    ReLU,
    Scale,
    make_layer,
)
from resnet_proto.net import Net

NET = residual()
WEIGHTS = random_weights(NET)
NOT_FILES = ["numpy", "float64", "onnxruntime", "torch"]
"""The engines that are given our net: the others refuse two layers of one name, and read data."""
SHAPES = [(2, 3, 19, 13), (5, 3, 19, 13), (1, 3, 24, 31), (3, 3, 17, 40), (2, 3, 19, 13)]


def images(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def exact(some_net, weights, inputs, outputs):
    """Our definition in float64, at the inputs' own sizes."""
    sized = some_net.with_input_shapes({name: x.shape for name, x in inputs.items()})
    return forward(sized, weights, inputs, dtype="float64", outputs=outputs)


def assert_right(blobs, expected, outputs):
    assert list(blobs) == list(outputs)
    for name in outputs:
        assert blobs[name].shape == expected[name].shape
        assert relative_l2(blobs[name], expected[name]) <= TOLERANCE, name


@pytest.fixture(params=ENGINES)
def opened(request):
    """Open an engine that is here."""
    options = {}
    if request.param == "caffe":
        options["caffe_python"] = request.getfixturevalue("caffe_python")
    elif request.param in ("opencv", "torch", "onnxruntime"):
        request.getfixturevalue({"opencv": "cv2"}.get(request.param, request.param))

    def call(*arguments, **more):
        return start(request.param, *arguments, **options, **more)

    call.engine = request.param
    return call


@pytest.mark.parametrize("outputs", [["prob"], ["prob", "a2b", "fc"]])
def test_runs_of_many_sizes(opened, outputs):
    """Batch, rows and columns change from run to run; no run touches what another has given."""
    inputs = [{"data": images(shape, seed)} for seed, shape in enumerate(SHAPES)]

    with opened(NET, WEIGHTS, outputs=outputs) as running:
        blobs = [running.run(x) for x in inputs]

    dtypes = {value.dtype for found in blobs for value in found.values()}
    assert dtypes == {np.dtype("float64" if opened.engine == "float64" else "float32")}
    for x, found in zip(inputs, blobs, strict=True):
        assert_right(found, exact(NET, WEIGHTS, x, outputs), outputs)


def conv(name, bottom, top, **values):
    return Convolution.of(name, bottom, top, **{"num_output": 4, "kernel_size": 3, **values})


BETWEEN = net(
    conv("c", "data", "c"),
    BatchNorm.of("bn", "c", "n"),
    Scale.of("s", "n", "y", bias_term=True),
    ReLU.of("r", "y", "y"),
    conv("d", "y", "d", num_output=6, kernel_size=1),
)


@pytest.mark.parametrize("outputs", [["c"], ["n", "d", "y"]])
def test_what_folding_would_lose_is_there(opened, outputs):
    """A blob between a convolution and its BatchNorm or Scale, where somebody asks for it."""
    weights, inputs = random_weights(BETWEEN), {"data": images((3, 3, 9, 6))}

    with opened(BETWEEN, weights, outputs=outputs) as running:
        assert_right(running.run(inputs), exact(BETWEEN, weights, inputs, outputs), outputs)


def test_an_end_that_is_written_in_place(opened):
    """There whatever stands in the way may be joined."""
    some_net = net(*BETWEEN.layers[1:-1])
    weights, inputs = random_weights(some_net), {"data": images((3, 3, 9, 6))}

    with opened(some_net, weights, outputs=["y"]) as running:
        for _ in range(2):
            assert_right(running.run(inputs), exact(some_net, weights, inputs, ["y"]), ["y"])


def dense(name, bottom, top):
    return InnerProduct.of(name, bottom, top, num_output=5)


def test_a_size_that_the_weights_do_not_take(opened):
    """It is refused by the layer's name, and the engine goes on."""
    some_net = net(conv("c", "data", "c"), dense("fc", "c", "fc"))
    weights = random_weights(some_net)

    with opened(some_net, weights, outputs=["fc"]) as running:
        with pytest.raises(ShapeError, match=r"layer 'fc' \(InnerProduct\): weight is 5x60, and"):
            running.run({"data": images((2, 3, 8, 5))})
        for shape in ((4, 3, 7, 5), (1, 3, 7, 5)):
            inputs = {"data": images(shape)}
            assert_right(running.run(inputs), exact(some_net, weights, inputs, ["fc"]), ["fc"])


def test_a_layer_that_nobody_asks_for_takes_any_size(opened):
    """Not in Caffe, which sets up the whole net and ends: in its own words."""
    some_net = net(conv("c", "data", "c"), dense("aux", "c", "aux"), ReLU.of("r", "c", "r"))
    weights, inputs = random_weights(some_net), {"data": images((2, 3, 9, 6))}
    del weights["aux.weight"], weights["aux.bias"]

    with opened(some_net, weights, outputs=["r"]) as running:
        if opened.engine == "caffe":
            with pytest.raises(ResNetProtoError, match=r"refuses the net: .*Input size incompat"):
                running.run(inputs)
            return
        if opened.engine == "opencv":
            with pytest.raises(ResNetProtoError, match="OpenCV refuses the net: "):
                running.run(inputs)
            return
        blobs = running.run(inputs)
    c = exact(net(*some_net.layers[1:2]), weights, inputs, ["c"])["c"]
    assert_right(blobs, {"r": np.maximum(c, 0)}, ["r"])


def test_inputs_that_are_refused(opened):
    """By us, before the engine sees them; so it still works."""
    right = {"data": images((2, 3, 19, 13))}
    expected = exact(NET, WEIGHTS, right, ["fc"])
    with opened(NET, WEIGHTS, outputs=["fc"]) as running:
        for inputs, error, message in (
            ({}, NetError, "input 'data' is missing"),
            ({**right, "dato": 1}, NetError, "no input 'dato'"),
            ({"data": images((2, 4, 19, 13))}, ShapeError, "layer 'conv1' "),
            ({"data": images((2, 3, 19))}, ResNetProtoError, "layer 'conv1' "),
            ({"data": images((0, 3, 19, 13))}, ShapeError, "is 0x3x19x13"),
            ({"data": [[1.0], [2.0, 3.0]]}, ResNetProtoError, "input 'data' is list of object"),
            ({"data": right["data"] * 1j}, ResNetProtoError, "of complex64"),
            (right["data"], ResNetProtoError, "inputs is a ndarray; give a dict"),
        ):
            with pytest.raises(error, match=message):
                running.run(inputs)
            assert_right(running.run(right), expected, ["fc"])


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"outputs": []}, ResNetProtoError, "outputs is empty"),
    ({"outputs": "fc"}, ResNetProtoError, "outputs is 'fc'; give a list of names"),
    ({"outputs": ["fd"]}, NetError, "no blob 'fd'"),
    ({"weights": {**WEIGHTS, "fc.weight": np.zeros((5, 9))}}, WeightsError, "layer 'fc'"),
    ({"weights": {}}, WeightsError, "layer 'conv1'"),
    ({"net": "net.prototxt"}, ResNetProtoError, "net is a file's name"),
])  # fmt: skip
def test_what_cannot_be_started(opened, change, error, message):
    """Known when the engine is opened, not at its first run."""
    with pytest.raises(error, match=message):
        opened(**{"net": NET, "weights": WEIGHTS, "outputs": ["fc"], **change})


def test_unknown_engine():
    with pytest.raises(ResNetProtoError, match="unknown engine 'tensorrt'; known: numpy, float64"):
        start("tensorrt", NET, WEIGHTS, outputs=["fc"])


def test_closed(opened):
    running = opened(NET, WEIGHTS, outputs=["fc"])
    running.run(random_input(NET))
    running.close()
    running.close()

    with pytest.raises(ResNetProtoError, match=rf"engine '{opened.engine}' is closed; start it"):
        running.run(random_input(NET))


@pytest.mark.parametrize("opened", NOT_FILES, indirect=True)
def test_several_inputs_and_layers_of_one_name(opened):
    """What is folded and what is found by place: ``bn`` is the name of two layers."""
    some_net = net(
        data(2, 4, 5, name="other"),
        conv("c", "data", "c"),
        BatchNorm.of("bn", "c", "c"),
        conv("d", "c", "d", num_output=2),
        BatchNorm.of("bn", "d", "e"),
        ReLU.of("r", "other", "side"),
    )
    weights = random_weights(some_net)
    inputs = {"data": images((3, 3, 9, 8)), "other": images((3, 4, 6), 1)}
    asked = ["side", "e"]

    with opened(some_net, weights, outputs=asked) as running:
        assert_right(running.run(inputs), exact(some_net, weights, inputs, asked), asked)
    with opened(some_net, weights, outputs=["e"]) as running:
        assert_right(
            running.run({"data": inputs["data"]}), exact(some_net, weights, inputs, ["e"]), ["e"]
        )


@pytest.mark.parametrize("opened", NOT_FILES, indirect=True)
def test_data_layers(opened):
    """What a data layer would read is handed in, of any shape; it may not be known before."""
    read = {"data_param": {"source": "lmdb", "batch_size": 2}}
    some_net = Net("t", (make_layer("in", "Data", (), ("data",), read), *residual().layers[1:]))

    with opened(some_net, WEIGHTS, outputs=["fc"]) as running:
        for shape in SHAPES[:3]:
            inputs = {"data": images(shape)}
            assert_right(running.run(inputs), exact(NET, WEIGHTS, inputs, ["fc"]), ["fc"])


def test_weights_are_folded_once(monkeypatch):
    """For all sizes; and what is known of sizes is not kept for ever."""
    folds = []
    monkeypatch.setattr(planned, "fold", lambda *args: folds.append(args) or fold(*args))

    with start("numpy", NET, WEIGHTS, outputs=["prob"]) as running:
        once = len(folds)
        for n in range(1, KEPT + 5):
            running.run({"data": images((n, 3, 19 + n, 13))})

        assert once == len(folds) > 0
        assert len(running._sizes) == KEPT
        plans = list(running._sizes.values())
        assert len({id(plan.store) for plan in plans}) == 1


@pytest.mark.parametrize(("pool", "models"), [
    (Pooling.of("p", "c", "p", pool="AVE", kernel_size=3, stride=2), 1),
    (SPP.of("p", "c", "p", pyramid_height=2), 1),
    (Pooling.of("p", "c", "p", kernel_size=2, stride=3), 3),
])  # fmt: skip
def test_onnx_models(onnxruntime, pool, models):
    """One for all sizes, or one for each where the graph depends on it."""
    some_net = net(conv("c", "data", "c"), pool, shape=(2, 3, 10, 12))
    weights = random_weights(some_net)
    shapes = [(2, 3, 10, 12), (4, 3, 10, 12), (1, 3, 15, 13), (3, 3, 18, 21), (3, 3, 15, 13)]

    with start("onnxruntime", some_net, weights, outputs=["p"]) as running:
        for shape in shapes:
            inputs = {"data": images(shape)}
            assert_right(running.run(inputs), exact(some_net, weights, inputs, ["p"]), ["p"])
        assert len({id(session) for *_, session in running._sizes.values()}) == models


# The real Caffe's place is taken by a module that does what the first value of its input says.

FAKE = """
import fcntl, os, time
from pathlib import Path
import numpy as np
TEST = 1
class Blob:
    def __init__(self): self.data = np.zeros((2, 3, 7, 5), np.float32)
    def reshape(self, *shape): pass
class Layer:
    type = "ReLU"
class Net:
    layers = [Layer(), Layer()]
    blobs = {"data": Blob(), "relu": Blob()}
    _blob_names = ["data", "relu"]
    _layer_names = ["in", "relu"]
    def __init__(self, *args):
        self.held = open(Path(__file__).with_name("held"), "w")
        fcntl.flock(self.held, fcntl.LOCK_EX)
        if os.environ.get("FAKE_CAFFE") == "refuse": self.refuse()
    def refuse(self):
        os.write(2, b"F1124 11:02:03.456 77 net.cpp:9] Check failed: x == y (1 vs. 2) no\\n")
        os.abort()
    def copy_from(self, weights): pass
    def reshape(self): pass
    def _top_ids(self, i): return [i]
    def _forward(self, first, last):
        deed = self.blobs["data"].data[0, 0, 0, 0]
        if deed == 1: self.refuse()
        if deed == 2: time.sleep(1000)
        if deed == 3: raise RuntimeError("no such blob")
        if deed == 4: os._exit(3)
        if deed == 5: os.kill(os.getpid(), 9)
        self.blobs["relu"].data = np.maximum(self.blobs["data"].data, 0)
"""
TINY = net(ReLU.of("relu", "data", "relu"))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Open the engine 'caffe' with the fake in its place; files go where one can look."""
    (tmp_path / "caffe.py").write_text(FAKE)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def call(timeout=60.0):
        return start(
            "caffe", TINY, {}, outputs=["relu"], caffe_python=sys.executable, timeout=timeout
        )

    return call


def assert_nothing_is_left(folder):
    """The process is gone, so the lock that it held is free; and so are its files."""
    with (folder / "held").open("a") as held:
        for _ in range(100):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
        else:
            pytest.fail("the process is still there")
    assert not list((folder / "tmp").iterdir())


def deed(number):
    x = np.zeros((2, 3, 7, 5), np.float32)
    x[0, 0, 0, 0] = number
    return {"data": x}


def test_a_child_that_stays(fake, tmp_path):
    """The twin of everything below: one process for all runs."""
    with fake() as running:
        for number in (-7, 8, 9):
            blobs = running.run(deed(number))
            np.testing.assert_array_equal(blobs["relu"], np.maximum(deed(number)["data"], 0))
        assert list((tmp_path / "tmp").iterdir())

    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("number", "message"), [
    (1, r"Caffe refuses the net: Check failed: x == y \(1 vs\. 2\) no$"),
    (2, r"did not end within 1\.5 s"),
    (3, "RuntimeError: no such blob"),
    (4, "Caffe refuses the net: nothing was said"),
    (5, "ended by SIGKILL, from outside; was there enough memory"),
])  # fmt: skip
def test_a_child_that_gives_up(fake, tmp_path, number, message):
    running = fake(1.5 if number == 2 else 60)
    running.run(deed(0))

    with pytest.raises(ResNetProtoError, match=message):
        running.run(deed(number))

    assert_nothing_is_left(tmp_path)
    with pytest.raises(ResNetProtoError, match="engine 'caffe' is closed; start it again"):
        running.run(deed(0))


def test_a_net_that_is_refused_when_it_is_opened(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_CAFFE", "refuse")

    with pytest.raises(ResNetProtoError, match=r"Caffe refuses the net: Check failed: x == y"):
        fake()

    assert_nothing_is_left(tmp_path)


def test_an_interrupt(fake, tmp_path, monkeypatch):
    """An answer that is late would be taken for the next one's: the child goes."""
    running = fake()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_proto.engine.others.select.poll", interrupt)
    with pytest.raises(KeyboardInterrupt):
        running.run(deed(0))

    assert_nothing_is_left(tmp_path)


def test_forgotten(fake, tmp_path):
    running = fake()
    running.run(deed(0))
    del running
    gc.collect()

    assert_nothing_is_left(tmp_path)


def test_a_parent_that_is_killed(fake, tmp_path):
    """The child ends with its input; files are left then, as the parent was to remove them."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from small_nets import net, ReLU
from resnet_proto.engine import start
tiny = net(ReLU.of("relu", "data", "relu"))
running = start("caffe", tiny, {{}}, outputs=["relu"], caffe_python=sys.executable)
print("open", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "other")}
    (tmp_path / "other").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "open\n", done.stderr
    assert done.returncode == -signal.SIGKILL

    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("script", "message"), [
    ("exit 0", "is not a Python that can `import caffe`: it did nothing"),
    ("echo hello; exit 0", "is not a Python that can `import caffe`: it did nothing"),
    ("echo no such thing >&2; exit 4", r"cannot run Caffe \(status 4\): no such thing"),
])  # fmt: skip
def test_a_program_that_is_no_python(tmp_path, script, message):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)

    with pytest.raises(ResNetProtoError, match=message):
        start("caffe", TINY, {}, outputs=["relu"], caffe_python=str(program))


def test_a_folder_that_cannot_be_written(fake, tmp_path):
    """A full disk in the middle of everything."""
    running = fake()
    folder = running._folder
    (folder / "inputs.npz").unlink()
    (folder / "inputs.npz").mkdir()

    with pytest.raises(ResNetProtoError, match="cannot be written: Is a directory"):
        running.run(deed(0))

    assert_nothing_is_left(tmp_path)
