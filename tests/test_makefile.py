"""``make help``, and a ``.venv`` that was left half-made."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"
WORKS = "#!/bin/sh\necho pip >> log\n"
BROKEN = "#!/bin/sh\nexit 1\n"
PYTHON = """#!/bin/sh
echo "$@" | cut -c1-20 >> log
if [ "$2" = venv ]; then mkdir -p .venv/bin; cp works .venv/bin/python; fi
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


def make(*arguments, cwd=MAKEFILE.parent):
    return subprocess.run(
        ["make", *arguments], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout


def test_help_lists_every_target():
    (targets,) = re.findall(r"^\.PHONY: (.*)", MAKEFILE.read_text(), re.M)

    shown = make("help")

    assert sorted(re.findall(r"make ([a-z-]+) +\S", shown)) == sorted(targets.split())


@pytest.mark.parametrize("python", [None, BROKEN, WORKS])
def test_a_python_without_pip_is_made_anew(tmp_path, python):
    """And one that has it is left alone."""
    shutil.copy(MAKEFILE, tmp_path)
    for name, text in (("python", PYTHON), ("works", WORKS), (".venv/bin/python", python)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            path.write_text(text)
            path.chmod(0o755)
    for name in ("setup.cfg", "pyproject.toml"):
        (tmp_path / name).touch()

    make("PYTHON=./python", ".venv/ready-for-make", cwd=tmp_path)

    made = "-m venv --clear .ven" in (tmp_path / "log").read_text().splitlines()
    assert made == (python is not WORKS)
    assert (tmp_path / ".venv/ready-for-make").exists()
