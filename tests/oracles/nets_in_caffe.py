"""Ask the real Caffe about nets: jobs in, a row for each out; see ``net_child.py``."""

import json
import subprocess
from pathlib import Path

CHILD = Path(__file__).with_name("net_child.py")


def ask(python, folder, jobs):
    """The answers; ``net`` of a job is its text."""
    for i, job in enumerate(jobs):
        file = folder / f"{i}.prototxt"
        file.write_text(job["net"])
        job["net"] = str(file)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    subprocess.run([python, str(CHILD), str(folder)], check=True, timeout=600)
    return json.loads((folder / "answers.json").read_text())
