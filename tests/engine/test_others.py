"""The engines that are not ours: what they give, and when they go wrong."""

import fcntl
import os
import stat
import sys
import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from small_nets import net, random_input, random_weights, residual

from resnet_proto import load, read_prototxt, save, to_prototxt
from resnet_proto.build import deploy_net
from resnet_proto.engine import ENGINES, random_inputs, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.others import caffe_words, read_job, run_jobs, write_job
from resnet_proto.errors import (
    NetError,
    ResNetProtoError,
    ShapeError,
    UnknownLayerError,
    WeightsError,
)
from resnet_proto.formats.onnx_layers import WRITERS
from resnet_proto.layers import (
    REGISTRY,
    BatchNorm,
    Convolution,
    Eltwise,
    InnerProduct,
    Input,
    Pooling,
    ReLU,
    Scale,
    Softmax,
    make_layer,
)
from resnet_proto.net import Net
from resnet_proto.spec import ResNetSpec
from resnet_proto.weights import Weights, blob_names
from resnet_proto.weights import random_weights as even_weights

NET = Net(
    "tiny",
    (
        Input.of("data", (), "data", shape=({"dim": (2, 3, 7, 5)},)),
        ReLU.of("relu", "data", "relu"),
    ),
)
X = np.linspace(-1, 1, 2 * 3 * 7 * 5, dtype=np.float32).reshape(2, 3, 7, 5)

# A module 'caffe' that does what the environment says, in the place of the real one.
FAKE = """
import fcntl, os, sys, time
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
        deed = os.environ["FAKE_CAFFE"]
        if deed == "abort":
            os.write(2, b"F1124 11:02:03.456 77 net.cpp:9] Check failed: x == y (1 vs. 2) no\\n"
                        b"*** Check failure stack trace: ***\\n    @ 0x1234 main\\n")
            os.abort()
        if deed == "raise": raise RuntimeError("no such file")
        if deed == "exit": os._exit(3)
        if deed == "sleep":
            held = open(os.path.join(os.path.dirname(__file__), "held"), "w")
            fcntl.flock(held, fcntl.LOCK_EX)
            time.sleep(1000)
    def reshape(self): pass
    def _top_ids(self, i): return [i]
    def _forward(self, first, last):
        self.blobs["relu"].data = np.maximum(self.blobs["data"].data, 0)
"""


@pytest.fixture
def fake_caffe(tmp_path, monkeypatch):
    """Put the fake module where this Python finds it."""
    (tmp_path / "caffe.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAKE_CAFFE", "work")
    return sys.executable


@pytest.fixture
def job(tmp_path):
    """A folder with a job for a net that nobody reads."""
    folder = tmp_path / "job"
    folder.mkdir()
    write_job(folder, tmp_path / "net.prototxt", None, {"data": X})
    return folder


def test_a_child_that_works(fake_caffe, job):
    """The twin of everything below."""
    run_jobs(fake_caffe, [job])

    blobs = read_job(job)
    assert list(blobs) == ["data", "relu"]
    np.testing.assert_array_equal(blobs["relu"], np.maximum(X, 0))


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("abort", r"Caffe refuses the net: Check failed: x == y \(1 vs\. 2\) no$"),
        ("raise", "RuntimeError: no such file"),
        ("exit", "nothing was said"),
    ],
)
def test_a_child_that_gives_up(fake_caffe, job, monkeypatch, deed, message):
    monkeypatch.setenv("FAKE_CAFFE", deed)
    run_jobs(fake_caffe, [job])

    with pytest.raises(ResNetProtoError, match=message):
        read_job(job)


def test_a_child_that_hangs(fake_caffe, job, tmp_path, monkeypatch):
    """It is ended, and its fork with it: the lock that it held is free, once it is gone."""
    monkeypatch.setenv("FAKE_CAFFE", "sleep")

    with pytest.raises(ResNetProtoError, match=r"did not end within 1\.5 s"):
        run_jobs(fake_caffe, [job], timeout=1.5)

    with (tmp_path / "held").open("a") as held:
        assert any(is_free(held) for _ in range(100))


def is_free(held):
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.1)
        return False
    return True


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut off"])
def test_garbage_for_an_answer(fake_caffe, job, content):
    run_jobs(fake_caffe, [job])
    (job / "blobs.npz").write_bytes(content)

    with pytest.raises(ResNetProtoError, match="Caffe's answer cannot be read"):
        read_job(job)


def test_no_answer(job):
    with pytest.raises(ResNetProtoError, match="Caffe's answer cannot be read"):
        read_job(job)


def test_pickle_is_not_read(fake_caffe, job):
    """The answer of another process runs nothing here."""
    run_jobs(fake_caffe, [job])
    np.savez(job / "blobs.npz", np.array([{}], dtype=object), np.zeros(1))

    with pytest.raises(ResNetProtoError, match="Caffe's answer cannot be read"):
        read_job(job)


def test_a_python_without_caffe(job, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)

    with pytest.raises(ResNetProtoError, match=r"cannot run Caffe .*No module named 'caffe'"):
        run_jobs(sys.executable, [job])


def test_what_a_program_says_first(job, tmp_path):
    """The shim of pyenv explains itself and then gives tips; a traceback is told by its end."""
    shim = tmp_path / "python3.9"
    shim.write_text(
        "#!/bin/sh\n"
        "echo; echo 'pyenv: python3.9: command not found'; echo; echo 'Note: see pyenv help.'\n"
        "echo 'a tip' >&2; exit 127\n".replace("echo", "echo >&2")
    )
    shim.chmod(0o755)

    with pytest.raises(ResNetProtoError, match=r"\(status 127\): pyenv: python3.9: command not"):
        run_jobs(str(shim), [job])


def test_no_python(job, tmp_path):
    with pytest.raises(ResNetProtoError, match="nowhere: cannot be run: No such file"):
        run_jobs(str(tmp_path / "nowhere"), [job])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may run what is executable for anybody")
def test_a_python_that_is_no_program(job, tmp_path):
    script = tmp_path / "python"
    script.write_text("")
    script.chmod(stat.S_IRUSR)

    with pytest.raises(ResNetProtoError, match="Permission denied"):
        run_jobs(str(script), [job])


def test_caffe_needs_a_python_of_its_own(monkeypatch):
    monkeypatch.delenv("CAFFE_PYTHON", raising=False)

    with pytest.raises(ResNetProtoError, match="--caffe-python or CAFFE_PYTHON"):
        run("caffe", NET, {}, {"data": X})


def test_opencv_5_has_no_importer(monkeypatch, cv2):
    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe")

    with pytest.raises(ResNetProtoError, match=r"no Caffe importer .*opencv-python-headless<5"):
        run("opencv", NET, {}, {"data": X})


def test_opencv_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)

    with pytest.raises(ResNetProtoError, match="pip install 'opencv-python-headless<5'"):
        run("opencv", NET, {}, {"data": X})


def test_unknown_engine():
    with pytest.raises(ResNetProtoError, match="unknown engine 'tensorrt'; known: numpy, float64"):
        run("tensorrt", NET, {}, {"data": X})


def test_input_is_missing():
    with pytest.raises(ResNetProtoError, match="input 'data' is missing; the net needs 2x3x7x5"):
        run("float64", NET, {}, {})


def test_output_is_missing():
    with pytest.raises(ResNetProtoError, match="'res6'"):
        run("float64", NET, {}, {"data": X}, outputs=["res6"])


def test_caffe_words_of_a_net_that_cannot_be_parsed():
    log = (
        "WARNING: Logging before InitGoogleLogging() is written to STDERR\n"
        "[libprotobuf ERROR google/protobuf/text_format.cc:324] Error parsing text-format "
        'caffe.NetParameter: 1:8: Message type "caffe.NetParameter" has no field named "naem".\n'
        "F0930 08:07:06.5 8 upgrade_proto.cpp:90] Check failed: ReadProtoFromTextFile() Failed\n"
        "*** Check failure stack trace: ***\n"
    )

    assert caffe_words(log, -6) == (
        'Error parsing text-format caffe.NetParameter: 1:8: Message type "caffe.NetParameter" has '
        'no field named "naem".; Check failed: ReadProtoFromTextFile() Failed'
    )


def test_a_crash_without_a_word():
    assert caffe_words("", -11) == "ended by SIGSEGV"


# onnxruntime and torch: the same arithmetic in other hands.


@pytest.fixture(params=["onnxruntime", "torch"])
def engine(request):
    if request.param == "torch":
        request.getfixturevalue("torch")
    return request.param


def both(some_net, engine, weights=None, **options):
    """Our definition in float64 and the engine's answer: the same names in the same order."""
    weights = random_weights(some_net) if weights is None else weights
    inputs = random_input(some_net)
    ours = run("float64", some_net, weights, inputs, **options)
    theirs = run(engine, some_net, weights, inputs, **options)
    assert list(ours) == list(theirs)
    assert {str(value.dtype) for value in theirs.values()} == {"float32"}
    return ours, theirs


def assert_equal(ours, theirs):
    for row in compare(ours, theirs):
        assert row.shape == row.reference, row
        assert row.within(TOLERANCE), row


def two(type, bottoms=("data", "other"), **values):
    """A layer of two bottoms and one top, and an Input for the second."""
    message = REGISTRY[type].message
    return make_layer("two", type, bottoms, ("two",), {message: values} if values else {})


def other(*shape):
    return Input.of("other", (), "other", shape=({"dim": shape},))


def conv(name, bottom, **values):
    return Convolution.of(name, bottom, name, **{"num_output": 4, "kernel_size": 3, **values})


ODD = {
    "residual": residual(),
    "strides, pads, dilations, groups": net(
        conv("a", "data", kernel_size=(3, 2), stride=(2, 1), pad=(1, 0), bias_term=False),
        conv("b", "data", num_output=6, kernel_size=(2, 3), dilation=(3, 1), group=3, pad=(0, 2)),
        Convolution.of(
            "c", "b", "c", num_output=6, kernel_h=1, kernel_w=2, stride_h=1, stride_w=2, group=6
        ),
    ),
    "a kernel larger than the padded bottom": net(  # trunc(-1 / 2) + 1 is one window
        conv("a", "data", stride=2),
        conv("b", "data", stride=(2, 1), pad=(0, 1)),
        shape=(2, 3, 2, 5),
    ),
    "one convolution for two bottoms": net(
        other(2, 3, 7, 5),
        make_layer(
            "two",
            "Convolution",
            ("data", "other"),
            ("x", "y"),
            {"convolution_param": {"num_output": 4, "kernel_size": (3,)}},
        ),
    ),
    "convolution along one axis": net(conv("a", "data", stride=2), shape=(2, 3, 7)),
    "convolution along three axes": net(
        conv("a", "data", kernel_size=(3, 2, 1), stride=(2, 1, 1), pad=(1, 0, 2)),
        shape=(2, 3, 7, 5, 4),
    ),
    "convolution without spatial axes": net(conv("a", "data"), shape=(2, 3)),
    "convolution from another axis on": net(
        conv("a", "data", axis=2, kernel_size=2),
        conv("b", "data", axis=0, kernel_size=(2, 3, 1)),
        conv("c", "data", axis=-1, group=5, num_output=10),
    ),
    "BatchNorm": net(
        BatchNorm.of("a", "data", "a", eps=0.01),
        BatchNorm.of("b", "data", "b", use_global_stats=False),
        BatchNorm.of("c", "data", "c", use_global_stats=True),
    ),
    "BatchNorm of a matrix": net(
        BatchNorm.of("a", "data", "a"),
        BatchNorm.of("b", "data", "b", use_global_stats=False),
        shape=(7, 3),
    ),
    "BatchNorm of one value for each channel": net(  # it is its own mean
        BatchNorm.of("b", "data", "b", use_global_stats=False), shape=(1, 3, 1, 1)
    ),
    "Scale": net(
        Scale.of("a", "data", "a"),
        Scale.of("b", "data", "b", axis=-2, num_axes=2, bias_term=True),
        Scale.of("c", "data", "c", axis=1, num_axes=-1, bias_term=True),
        Scale.of("d", "data", "d", axis=2, num_axes=0, bias_term=True),
        Scale.of("e", "data", "e", axis=0, bias_term=True),
    ),
    "Scale by a blob": net(other(3, 7), two("Scale", axis=1, bias_term=True)),
    "Scale by a scalar": net(other(), two("Scale")),
    "Scale by itself": net(two("Scale", ("data", "data"), axis=0)),
    "ReLU": net(
        ReLU.of("a", "data", "a"),
        ReLU.of("b", "data", "b", negative_slope=0.1),
        ReLU.of("c", "data", "c", negative_slope=-2.0),
    ),
    "Eltwise": net(
        other(2, 3, 7, 5),
        Eltwise.of("a", ("data", "other", "data"), "a", coeff=(0.5, -1.0, 1.0)),
        Eltwise.of("b", ("data", "other", "a"), "b", operation="PROD"),
        Eltwise.of("c", ("data", "other", "a"), "c", operation="MAX"),
        Eltwise.of("d", ("data", "other"), "d", operation="MAX", coeff=(-2.0, 3.0)),  # not used
        Eltwise.of("e", ("data", "data"), "e"),
        Eltwise.of("f", ("a", "b"), "f", operation="PROD"),
    ),
    "InnerProduct": net(
        InnerProduct.of("a", "data", "a", num_output=4),
        InnerProduct.of("b", "data", "b", num_output=4, axis=-1, transpose=True),
        InnerProduct.of("c", "data", "c", num_output=4, axis=2, bias_term=False),
        InnerProduct.of("d", "data", "d", num_output=4, axis=0, transpose=True),
        InnerProduct.of("e", "a", "e", num_output=3, bias_term=False),
    ),
    "Softmax": net(
        Softmax.of("a", "data", "a"),
        Softmax.of("b", "data", "b", axis=0),
        Softmax.of("c", "data", "c", axis=-1),
    ),
    "an input that is overwritten, then read": net(
        BatchNorm.of("bn", "data", "data"),
        ReLU.of("relu", "data", "data", negative_slope=0.5),
        Softmax.of("after", "data", "after"),
    ),
    "two layers of one name": net(
        conv("a", "data"), Convolution.of("a", "a", "b", num_output=5, kernel_size=1)
    ),
    "blobs with the names of weights": net(
        ReLU.of("relu", "data", "a.weight"), conv("a", "a.weight"), Scale.of("a/Mul", "a", "a")
    ),
    "a scalar": net(ReLU.of("relu", "data", "relu"), shape=()),
}


@pytest.mark.parametrize("name", ODD)
def test_equal_to_the_definition(engine, name):
    assert_equal(*both(ODD[name], engine))


@pytest.mark.parametrize("name", ["residual", "an input that is overwritten, then read"])
def test_equal_to_the_fast_way(engine, name):
    weights, inputs = random_weights(ODD[name]), random_input(ODD[name])

    assert_equal(*(run(each, ODD[name], weights, inputs) for each in ("numpy", engine)))


@pytest.mark.parametrize("unit", ["basic", "bottleneck"])
def test_every_blob_of_a_generated_net(engine, unit):
    """With the weights of ``--weights random`` and an image's range, as `verify` does it."""
    some_net = deploy_net(ResNetSpec("small", (1, 2), unit, width=8, stem_width=6, classes=10))
    weights, inputs = even_weights(some_net), random_inputs(some_net)

    assert_equal(*(run(each, some_net, weights, inputs) for each in ("numpy", engine)))


@pytest.mark.parametrize("factor", [0, 1, 999.98])
def test_scale_factor(engine, factor):
    """0 gives mean 0 and variance 0, so the bottom times 316.2."""
    some_net = net(BatchNorm.of("bn", "data", "bn"))
    weights = {**random_weights(some_net), "bn.scale_factor": np.array([factor], np.float32)}

    ours, theirs = both(some_net, engine, weights)

    assert_equal(ours, theirs)
    if factor == 0:
        np.testing.assert_allclose(theirs["bn"], theirs["data"] / 1e-5**0.5, rtol=1e-6)


def test_a_mean_that_is_large(engine):
    """Where nothing has rounded by as much before, no digits are lost: onnxruntime would."""
    some_net = net(BatchNorm.of("bn", "data", "bn"), BatchNorm.of("again", "bn", "again"))
    inputs = {"data": 1000 + random_input(some_net)["data"] / 10}
    weights = random_weights(some_net)
    weights["bn.mean"] = np.full(3, 1000, np.float32)
    weights["bn.variance"] = np.full(3, 0.01, np.float32)
    weights["bn.scale_factor"] = np.ones(1, np.float32)

    for row in compare(*(run(name, some_net, weights, inputs) for name in ("float64", engine))):
        assert row.within(1e-6), row


def poolings(pool, round_mode):
    """Every pooling of some kernels, strides and pads that Caffe gives a sensible value."""
    kernels = [(1, 1), (2, 1), (3, 2), (2, 3), (4, 5)]
    for kernel, stride, pad in product(
        kernels, [(1, 1), (2, 1), (3, 2), (4, 3)], [(0, 0), (1, 0), (0, 1), (2, 1), (3, 4)]
    ):
        fields = zip(("kernel", "stride", "pad"), (kernel, stride, pad), strict=True)
        sides = {
            f"{field}_{s}": v for field, pair in fields for s, v in zip("hw", pair, strict=True)
        }
        name = f"{kernel} {stride} {pad}"
        layer = Pooling.of(name, "data", name, pool=pool, round_mode=round_mode, **sides)
        try:
            yield layer, layer.end_pad((2, 3, 9, 7)), layer.divisors((2, 3, 9, 7))
        except ShapeError:
            continue  # a pad of the kernel's size, or a window outside the image


@pytest.mark.parametrize("round_mode", ["CEIL", "FLOOR"])
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_sweep_of_poolings(engine, pool, round_mode):
    rows = list(poolings(pool, round_mode))
    assert len(rows) > 40
    assert any(max(end) > max(layer.pad_h, layer.pad_w) for layer, end, _ in rows) == (
        round_mode == "CEIL"
    )
    assert any(len(set(divisors.flat)) > 1 for _, _, divisors in rows) == (round_mode == "CEIL")

    assert_equal(*both(net(*(layer for layer, _, _ in rows), shape=(2, 3, 9, 7)), engine))


@pytest.mark.parametrize(("until", "names"), [
    ("conv1", "data conv1"), ("pool1", "data conv1 pool1"), ("a1", "data conv1 pool1 a1"),
])  # fmt: skip
def test_until(engine, until, names):
    """A blob is complete after its ReLU; what comes behind is not computed."""
    ours, theirs = both(residual(), engine, until=until)

    assert " ".join(theirs) == names
    assert_equal(ours, theirs)


def test_outputs_only_what_they_need(engine):
    """'a2a' needs neither the other branch nor its weights."""
    weights = random_weights(residual())
    few = {k: v for k, v in weights.items() if k.split(".")[0].split("_")[-1] in ("conv1", "a2a")}

    ours, theirs = both(residual(), engine, few, outputs=["a2a", "pool1"])

    assert list(theirs) == ["a2a", "pool1"]
    assert_equal(ours, theirs)


def test_what_is_handed_in_stays_as_it_is(engine):
    """Arrays of a mapped file can only be read; nothing warns about them."""
    some_net = net(ReLU.of("relu", "data", "data"), conv("a", "data"))
    weights, inputs = random_weights(some_net), random_input(some_net)
    for value in (*weights.values(), *inputs.values()):
        value.flags.writeable = False

    blobs = run(engine, some_net, weights, inputs)

    blobs["data"] += 1
    assert not np.shares_memory(blobs["data"], inputs["data"])


MASKED = make_layer(
    "p",
    "Pooling",
    ("data",),
    ("y", "mask"),
    {"pooling_param": {"kernel_h": 3, "kernel_w": 2, "stride": 2, "pad": 1}},
)


def test_mask_in_torch(torch):
    """The place of the first maximum in the bottom, not in what is padded around it."""
    some_net = net(MASKED)
    inputs = {"data": np.round(random_input(some_net)["data"])}  # many values are equal

    ours, theirs = (run(each, some_net, {}, inputs) for each in ("float64", "torch"))

    np.testing.assert_array_equal(ours["mask"], theirs["mask"])


# What is refused, by which engine, and a twin that is accepted.
REFUSED = {
    "STOCHASTIC": (
        ["onnxruntime", "torch"],
        net(Pooling.of("p", "data", "y", kernel_size=3, pool="STOCHASTIC")),
        net(Pooling.of("p", "data", "y", kernel_size=3, pool="AVE")),
        UnknownLayerError,
        "layer 'p': STOCHASTIC pooling can be computed by engine numpy only",
    ),
    "a window outside the image": (
        ["onnxruntime", "torch"],
        net(Pooling.of("p", "data", "y", kernel_size=1, stride=2), shape=(2, 3, 7, 6)),
        net(Pooling.of("p", "data", "y", kernel_size=1, stride=2), shape=(2, 3, 7, 5)),
        ShapeError,
        "the last of 4 windows starts at 6, outside 6 rows or columns",
    ),
    "a sum in place": (
        ["onnxruntime", "torch"],
        net(other(2, 3, 7, 5), Eltwise.of("e", ("data", "other"), "data")),
        net(other(2, 3, 7, 5), Eltwise.of("e", ("data", "other"), "data", operation="PROD")),
        NetError,
        r"layer 'e' \(Eltwise\) cannot work in place",
    ),
    "four spatial axes": (
        ["torch"],
        net(conv("c", "data", kernel_size=2), shape=(2, 3, 4, 5, 3, 2)),
        net(conv("c", "data", kernel_size=2), shape=(2, 3, 4, 5, 3)),
        UnknownLayerError,
        r"layer 'c' \(Convolution\): torch knows 3 spatial axes, not 4",
    ),
    "dilation 0": (
        ["onnxruntime", "torch"],
        net(conv("c", "data", kernel_size=1, dilation=(0, 1), bias_term=False)),
        net(conv("c", "data", kernel_size=1, dilation=(2, 1), bias_term=False)),
        UnknownLayerError,
        r"layer 'c' \(Convolution\): .*dilation 0",
    ),
    "an empty blob": (
        ["onnxruntime", "torch"],
        net(ReLU.of("relu", "data", "relu"), shape=(0, 3)),
        net(ReLU.of("relu", "data", "relu"), shape=(1, 3)),
        ShapeError,
        "blob 'data' is 0x3",
    ),
    "a type that nobody knows": (
        ["onnxruntime", "torch"],
        net(make_layer("crop", "Crop9", ("data",), ("out",))),
        net(ReLU.of("crop", "data", "out")),
        UnknownLayerError,
        "layer 'crop' has type 'Crop9'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_accepted(engine, name):
    by, refused, accepted, error, message = REFUSED[name]
    assert_equal(*both(accepted, engine))

    if engine in by:
        has_weights = name in ("four spatial axes", "dilation 0")
        weights = random_weights(refused) if has_weights else {}
        with pytest.raises(error, match=message):
            run(engine, refused, weights, random_input(refused))
    else:
        assert_equal(*both(refused, engine))


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"weights": {}}, WeightsError, "layer 'a': weight is missing in the weights"),
    ({"inputs": {"data": X[:1]}}, ShapeError, "'data' is"),
    ({"outputs": ["aa"]}, NetError, "no blob 'aa' to compute; did you mean data, a"),
    ({"until": "aa"}, NetError, "no blob 'aa' to compute; did you mean data, a"),
])  # fmt: skip
def test_requests_that_are_refused(engine, change, error, message):
    some_net = net(conv("a", "data"))
    request = {"net": some_net, "weights": random_weights(some_net), "inputs": {"data": X}}
    run(engine, **request)

    with pytest.raises(error, match=message):
        run(engine, **{**request, **change})


def test_a_type_that_only_we_know(engine, monkeypatch):
    table = {
        "onnxruntime": "resnet_proto.formats.onnx_layers.WRITERS",
        "torch": "resnet_proto.engine.torch_layers.FUNCTIONS",
    }[engine]
    run(engine, NET, {}, {"data": X})
    monkeypatch.setattr(table, {})

    with pytest.raises(UnknownLayerError, match="layer 'relu' has type 'ReLU', which"):
        run(engine, NET, {}, {"data": X})


def test_torch_knows_the_types_that_onnx_knows(torch):
    from resnet_proto.engine.torch_layers import FUNCTIONS

    assert WRITERS.keys() - FUNCTIONS.keys() == {
        "ArgMax", "DetectionOutput", "Filter", "Im2col", "LSTM", "LSTMUnit", "PriorBox",
        "PSROIPooling", "Proposal", "RNN", "ROIPooling", "SPP", "Upsample",
    }  # fmt: skip
    assert FUNCTIONS.keys() <= WRITERS.keys()


def test_onnxruntime_refuses_with_its_own_words(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no kernel for Relu(13)")

    run("onnxruntime", NET, {}, {"data": X})
    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)

    with pytest.raises(ResNetProtoError, match=r"onnxruntime refuses the net: no kernel for Relu"):
        run("onnxruntime", NET, {}, {"data": X})


@pytest.mark.parametrize(("engine", "package", "extra"), [
    ("onnxruntime", "onnxruntime", "onnx"),
    ("onnxruntime", "onnx", "onnx"),
    ("torch", "torch", "torch"),
])  # fmt: skip
def test_a_package_is_not_there(monkeypatch, engine, package, extra):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ResNetProtoError, match=rf"pip install 'resnet-proto\[{extra}\]'"):
        run(engine, NET, {}, {"data": X})


# What is checked before any engine runs, and what cuts leave out.

READERS = ["caffe", "opencv"]
"""The engines that read files: a layer that those lack stays at its filler, without a word."""


@pytest.fixture(params=READERS)
def reader(request):
    """Call an engine that reads files."""
    options = {}
    if request.param == "caffe":
        options["caffe_python"] = request.getfixturevalue("caffe_python")
    else:
        request.getfixturevalue("cv2")

    def call(*arguments, **more):
        return run(request.param, *arguments, **options, **more)

    return call


TWO = net(
    conv("a", "data", kernel_size=1),
    Convolution.of("b", "a", "b", num_output=5, kernel_size=1),
    Softmax.of("prob", "b", "prob"),
)


@pytest.mark.parametrize("wrap", [dict, Weights.of])
def test_a_layer_without_weights_is_refused(reader, wrap):
    weights, inputs = random_weights(TWO), random_input(TWO)
    few = {key: value for key, value in weights.items() if key.startswith("a.")}
    assert_equal(run("float64", TWO, weights, inputs), reader(TWO, wrap(weights), inputs))
    assert list(reader(TWO, wrap(few), inputs, outputs=["a"])) == ["a"]

    with pytest.raises(WeightsError, match="layer 'b'"):
        reader(TWO, wrap(few), inputs)


def test_a_file_without_a_layer_is_refused(reader, tmp_path):
    """The user's own caffemodel goes to the engine as it is."""
    files = {"net_file": tmp_path / "n.prototxt", "weights_file": tmp_path / "w.caffemodel"}
    files["net_file"].write_text(to_prototxt(TWO))
    weights, inputs = random_weights(TWO), random_input(TWO)
    save(files["weights_file"], weights, TWO)
    ours = run("float64", TWO, load(files["weights_file"]), inputs)
    assert_equal(ours, reader(TWO, load(files["weights_file"]), inputs, **files))

    shorter = replace(TWO, layers=TWO.layers[:2])
    save(files["weights_file"], {k: weights[k] for k in ("a.weight", "a.bias")}, shorter)

    with pytest.raises(WeightsError, match=r"layer 'b' .*: the weights have none for it"):
        reader(TWO, load(files["weights_file"]), inputs, **files)


def test_two_layers_of_one_name(reader):
    """Caffe copies the weights of both to the first and leaves the second at its filler."""
    again = replace(TWO, layers=(*TWO.layers[:2], replace(TWO.layers[2], name="a")))
    weights, inputs = random_weights(again), random_input(again)
    assert "b" in run("float64", again, weights, inputs)

    with pytest.raises(ResNetProtoError, match="layer 'a#2' is the second of its name"):
        reader(again, weights, inputs)


def test_two_layers_of_one_name_without_weights(reader):
    some_net = net(ReLU.of("r", "data", "a"), Softmax.of("p", "a", "b"), ReLU.of("r", "b", "b"))
    inputs = random_input(some_net)

    assert_equal(run("float64", some_net, {}, inputs), reader(some_net, {}, inputs))


def test_layers_beyond_the_net_are_left_out(reader):
    """Arrays without types could not be written."""
    weights, inputs = random_weights(TWO), random_input(TWO)
    more = {**weights, "beyond.0": np.ones(3)}

    assert_equal(run("float64", TWO, weights, inputs), reader(TWO, more, inputs))


def test_float64_weights(reader, tmp_path):
    """OpenCV cannot read them: it gets float32."""
    weights = {key: value.astype(np.float64) for key, value in random_weights(TWO).items()}
    inputs, file = random_input(TWO), tmp_path / "w.caffemodel"
    save(file, weights, TWO)
    ours = run("float64", TWO, weights, inputs)

    assert_equal(ours, reader(TWO, weights, inputs))
    assert_equal(ours, reader(TWO, load(file), inputs, weights_file=file))


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"inputs": {"data": X[:1]}}, ShapeError, "input 'data' is 1x3x7x5, the net needs 2x3x7x5"),
    ({"inputs": {"data": X, "dato": X}}, NetError, "no input 'dato'"),
    ({"inputs": {"data": X * 1j}}, ResNetProtoError, "input 'data' is ndarray of complex64"),
    ({"inputs": {"data": "x"}}, ResNetProtoError, "input 'data' is str"),
    ({"until": "aa"}, NetError, "no blob 'aa' to compute"),
    ({"outputs": "a"}, ResNetProtoError, "outputs is 'a'; give a list of names"),
])  # fmt: skip
def test_requests_that_files_do_not_see(reader, change, error, message):
    request = {"net": TWO, "weights": random_weights(TWO), "inputs": {"data": X}}
    assert "b" in reader(*request.values())

    options = {key: value for key, value in change.items() if key not in request}
    with pytest.raises(error, match=message):
        reader(*{**request, **change}.values() if not options else request.values(), **options)


@pytest.fixture
def no_scale(monkeypatch):
    """Scale is a type that only Caffe knows."""

    def forget():
        monkeypatch.delitem(REGISTRY.classes, "Scale")
        monkeypatch.delitem(REGISTRY.modules, "Scale")
        blob_names.cache_clear()

    yield forget
    monkeypatch.undo()
    blob_names.cache_clear()


def test_layers_of_types_that_only_caffe_knows(caffe_python, no_scale):
    """Their weights are handed on, and those of the layers behind them."""
    scaled = net(
        Scale.of("s", "data", "s", bias_term=True), conv("a", "s"), conv("b", "a"), shape=X.shape
    )
    weights, inputs = random_weights(scaled), random_input(scaled)
    right = run("float64", scaled, weights, inputs)
    weights |= {"s.0": weights.pop("s.weight"), "s.1": weights.pop("s.bias")}
    no_scale()
    unknown = read_prototxt(to_prototxt(scaled))

    theirs = run("caffe", unknown, weights, inputs, caffe_python=caffe_python)

    assert_equal(right, theirs)


def test_until_an_input():
    """OpenCV has no layer for it: nothing is left to compare."""
    pytest.importorskip("cv2")
    inputs = random_input(TWO)

    assert run("opencv", TWO, random_weights(TWO), inputs, until="data") == {}


@pytest.mark.parametrize("name", ["numpy", "float64", "onnxruntime"])
def test_no_blob_is_asked_for(name):
    assert run(name, NET, {}, {"data": X}, outputs=[]) == {}


SIDE = net(
    other(3, 4),
    ReLU.of("a", "data", "a"),
    make_layer("side", "Mystery", ("other",), ("side",)),
    ReLU.of("b", "a", "b"),
    make_layer("behind", "Mystery", ("side",), ("end",)),
)


@pytest.mark.parametrize("name", ["numpy", "float64", "onnxruntime"])
def test_what_is_not_needed_is_not_asked_for(name):
    """Neither an input nor the type of a layer, wherever they stand."""
    blobs = run(name, SIDE, {}, {"data": X}, outputs=["b"])
    np.testing.assert_array_equal(blobs["b"], np.maximum(X, 0))

    with pytest.raises(NetError, match="input 'other' is missing; the net needs 3x4"):
        run(name, SIDE, {}, {"data": X}, outputs=["side"])
    with pytest.raises(UnknownLayerError, match="layer 'side' has type 'Mystery'"):
        run(name, SIDE, {}, {"data": X, "other": np.ones((3, 4))}, outputs=["side"])


def test_an_input_that_is_not_needed(reader):
    some_net = net(other(3, 4), ReLU.of("a", "data", "a"), ReLU.of("b", "other", "b"))

    assert list(reader(some_net, {}, {"data": X}, outputs=["a"])) == ["a"]
    with pytest.raises(NetError, match="input 'other' is missing"):
        reader(some_net, {}, {"data": X})


def test_refusals_name_the_file_once(tmp_path):
    """Also what can be part of a net, but not of a run."""
    path = tmp_path / "n.prototxt"
    late = net(
        Pooling.of("p", "data", "y", kernel_size=1, stride=2),
        Eltwise.of("e", ("data", "data"), "e"),
        shape=(2, 3, 7, 6),
    )
    path.write_text(to_prototxt(late))
    read, inputs = read_prototxt(path), random_input(late)
    for name in ("numpy", "float64", "onnxruntime"):
        run(name, read, {}, inputs, outputs=["e"])
        for options in ({"outputs": ["y"]}, {"until": "no"}):
            with pytest.raises(NetError) as caught:
                run(name, read, {}, inputs, **options)
            assert str(caught.value).count(str(path)) == 1


def test_a_program_that_is_no_python(job, tmp_path):
    """It ends well and has done nothing, as /bin/true."""
    script = tmp_path / "true"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)

    with pytest.raises(ResNetProtoError, match="true is not a Python that can `import caffe`"):
        run_jobs(str(script), [job])


def test_names_and_order():
    assert " ".join(ENGINES) == "numpy float64 caffe opencv onnxruntime torch"
