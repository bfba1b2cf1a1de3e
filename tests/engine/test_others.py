"""The engines that are not ours, when they go wrong."""

import os
import stat
import sys
import time

import numpy as np
import pytest

from resnet_proto.engine import run
from resnet_proto.engine.others import caffe_words, read_job, run_jobs, write_job
from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import Input, ReLU
from resnet_proto.net import Net

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
import os, sys, time
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
    def __init__(self, *args):
        deed = os.environ["FAKE_CAFFE"]
        if deed == "abort":
            os.write(2, b"F1124 11:02:03.456 77 net.cpp:9] Check failed: x == y (1 vs. 2) no\\n"
                        b"*** Check failure stack trace: ***\\n    @ 0x1234 main\\n")
            os.abort()
        if deed == "raise": raise RuntimeError("no such file")
        if deed == "exit": os._exit(3)
        if deed == "sleep": time.sleep(60)
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


def test_a_child_that_hangs(fake_caffe, job, monkeypatch):
    """It is ended, and its fork with it."""
    monkeypatch.setenv("FAKE_CAFFE", "sleep")
    start = time.monotonic()

    with pytest.raises(ResNetProtoError, match=r"did not end within 1\.5 s"):
        run_jobs(fake_caffe, [job], timeout=1.5)

    assert time.monotonic() - start < 20


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


def test_opencv_5_has_no_importer(monkeypatch):
    cv2 = pytest.importorskip("cv2")
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
