"""What the real Caffe makes of nets: ``python net_child.py FOLDER``, in the Python that has it.

``jobs.json`` there is a list of jobs: net, phase, level, stages, weights, save (a caffemodel to
write), reshape (blob -> shape). ``answers.json`` beside it has a row for each: None where Caffe
ends, else the layers (without Caffe's own Splits), the shapes of all blobs and of all weights.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "3")

import caffe


def answer(job):
    net = caffe.Net(
        job["net"],
        caffe.TRAIN if job.get("phase") == "TRAIN" else caffe.TEST,
        level=job.get("level", 0),
        stages=job.get("stages", []),
    )
    if "weights" in job:
        net.copy_from(job["weights"])
    if "save" in job:
        net.save(job["save"])
    for name, shape in job.get("reshape", {}).items():
        net.blobs[name].reshape(*shape)
    net.reshape()
    own = [i for i, name in enumerate(net._layer_names) if "_split" not in name]
    return {
        "layers": [net._layer_names[i] for i in own],
        "blobs": {k: list(b.data.shape) for k, b in net.blobs.items() if "_split_" not in k},
        "weights": {k: [list(b.data.shape) for b in blobs] for k, blobs in net.params.items()},
    }


folder = Path(sys.argv[1])
answers = []
for job in json.loads((folder / "jobs.json").read_text()):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(write, json.dumps(answer(job)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    answers.append(json.loads(text) if text else None)
(folder / "answers.json").write_text(json.dumps(answers))
