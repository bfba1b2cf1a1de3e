"""examples/build-caffe.sh, with programs in place of pip, protoc and g++ that do next to nothing.

The real build is what tests/oracles/test_training.py runs.
"""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "build-caffe.sh"
FILES = (
    "src/caffe/net.cpp src/caffe/layers/sigmoid_layer.cpp src/caffe/solvers/sgd_solver.cpp "
    "src/caffe/util/io.cpp src/caffe/proto/caffe.proto LICENSE tools/caffe.cpp"
)
PROGRAMS = {
    # `python -m pip --version`, or `python -m pip download ... --dest FOLDER`
    "python": f"""
case "$*" in *download*) ;; *) exit ;; esac
for folder; do :; done
cd "$folder" && mkdir brocolli-caffe-9.0.2 && cd brocolli-caffe-9.0.2
for file in {FILES}; do mkdir -p "$(dirname $file)" && echo > $file; done
cd .. && tar -czf brocolli-caffe-9.0.2.tar.gz brocolli-caffe-9.0.2
rm -r brocolli-caffe-9.0.2
""",
    "dpkg-query": """
case " $LACKING " in *" $4 "*) exit 1 ;; esac
echo install ok installed
""",
    "protoc": "",
    # an "object" or "binary" is a script that succeeds
    "g++": """
echo "$*" >> "$CALLS"
case "$*" in
    *-print-multiarch*) echo x; exit ;;
    *"$REFUSED"*) echo "error: no" >&2; exit 1 ;;
esac
sleep 0.02
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2" && chmod +x "$2"
""",
}


class Machine:
    """A folder of such programs, and a cache folder."""

    def __init__(self, folder):
        self.binaries, self.cache = folder / "bin", folder / "cache"
        self.calls = folder / "calls"
        self.target = self.cache / "resnet-proto" / "caffe-9.0.2-2"
        self.binaries.mkdir()
        self.calls.touch()
        for name, body in PROGRAMS.items():
            (self.binaries / name).write_text(f"#!/bin/sh\n{body}")
            (self.binaries / name).chmod(0o755)

    def start(self, *args, lacking="", refused="nothing is"):
        env = {
            **os.environ,
            "PATH": f"{self.binaries}:{os.environ['PATH']}",
            "PYTHON": "python",
            "JOBS": "3",
            "XDG_CACHE_HOME": str(self.cache),
            "CALLS": str(self.calls),
            "LACKING": lacking,
            "REFUSED": refused,
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["bash", SCRIPT, *args], env=env, text=True, stdout=pipe, stderr=pipe
        )

    def run(self, *args, **options):
        process = self.start(*args, **options)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def left(self):
        """What lies in the cache besides the lock."""
        folder = self.target.parent
        return sorted(f.name for f in folder.iterdir() if f.suffix != ".lock")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_missing_packages_are_named_at_once(machine):
    status, out, err = machine.run(lacking="g++ liblmdb-dev")

    assert (status, out) == (1, "")
    assert "apt-get install -y --no-install-recommends g++ liblmdb-dev\n" in err
    assert not machine.cache.exists()
    assert machine.run("--missing", lacking="g++ liblmdb-dev")[1] == "g++\nliblmdb-dev\n"
    assert machine.run("--missing")[1] == ""


def test_python_without_pip_is_a_missing_package(machine):
    (machine.binaries / "python").write_text("#!/bin/sh\nexit 1\n")

    assert machine.run("--missing")[1] == "python3-pip\n"


def test_it_is_built_once(machine):
    assert machine.run("--find")[:2] == (1, "")
    status, out, err = machine.run()

    assert status == 0, err
    assert out == f"{machine.target / 'caffe'}\n"
    assert machine.left() == ["caffe-9.0.2-2"]
    assert {"caffe", "convert_imageset", "LICENSE"} < {f.name for f in machine.target.iterdir()}
    n_calls = len(machine.calls.read_text().splitlines())
    for again in (machine.run(), machine.run("--find"), machine.run(lacking="g++")):
        assert again == (0, out, "")
    assert len(machine.calls.read_text().splitlines()) == n_calls


def test_one_that_does_not_run_is_built_again(machine):
    machine.target.mkdir(parents=True)
    (machine.target / "caffe").write_text("#!/bin/sh\nexit 127\n")
    (machine.target / "caffe").chmod(0o755)

    assert machine.run("--find")[:2] == (1, "")
    assert machine.run()[0] == 0
    assert machine.run("--find")[0] == 0


def test_two_runs_build_it_once(machine):
    runs = [machine.start(), machine.start()]
    results = [run.communicate(timeout=300) for run in runs]

    assert [run.returncode for run in runs] == [0, 0], results
    assert {out for out, _ in results} == {f"{machine.target / 'caffe'}\n"}
    assert machine.calls.read_text().count("caffe.pb.cc -o") == 1


@pytest.mark.parametrize("refused", ["caffe.pb.cc", "sigmoid_layer.cpp", "tools/caffe.cpp", "-s "])
def test_a_build_that_fails_leaves_nothing(machine, refused):
    status, out, err = machine.run(refused=refused)

    assert (status, out) == (1, ""), err
    assert machine.left() == []
    assert machine.run()[0] == 0


def test_unknown_option(machine):
    status, _, err = machine.run("--finds")

    assert status == 2
    assert "--finds" in err
    assert "--packages" in machine.run("--help")[1]
