"""A net in our engine and in the real Caffe, and whether the two agree.

One Caffe process serves many nets: it forks for each, because a refusal ends the process.
"""

import subprocess
from itertools import combinations, count

import numpy as np

from resnet_proto.engine import forward
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.others import CHILD, read_job, write_job
from resnet_proto.errors import NetError, PrototxtError, ResNetProtoError
from resnet_proto.formats import save
from resnet_proto.net import overwritten
from resnet_proto.prototxt import read_prototxt

GARBAGE = (
    "where a number from 0 to",  # labels beyond the classes: Caffe reads outside its arrays
    "whether they are similar is said of",  # fewer labels than pairs: likewise
    "shares its memory",  # Caffe reads what another layer has overwritten
    "cannot work in place",  # the layer itself reads what it has overwritten
)
"""Refusals of ours where Caffe computes something, but not what the net says."""
N_ROUNDINGS = 8
FACTOR = 4


class WarmCaffe:
    """Args: a Python that can ``import caffe``; a folder for its jobs."""

    def __init__(self, python, folder):
        self.folder, self.numbers, self.waiting = folder, count(), []
        self.log = (folder / "log").open("w")
        self.child = subprocess.Popen(
            [python, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def close(self):
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()
        self.log.close()

    def give(self, text, weights, inputs):
        """Begin with a net; ``text`` is its prototxt, where FOLDER stands for the job's."""
        job = self.folder / str(next(self.numbers))
        job.mkdir()
        text = text.replace("FOLDER", str(job))
        (job / "net.prototxt").write_bytes(text.encode("utf-8", "surrogateescape"))
        model = job / "net.caffemodel" if weights else None
        if model:
            save(model, weights, read_prototxt(text))
        write_job(job, job / "net.prototxt", model, inputs)
        print(job, file=self.child.stdin, flush=True)
        self.waiting.append(job)
        return job

    def parses(self, job):
        """Whether Caffe's parser takes a text that was given, whatever becomes of the net."""
        self.answer(job)
        return "Error parsing text-format" not in (job / "log").read_text(errors="replace")

    def answer(self, job):
        """Caffe's blobs, or why it refuses. Answers come in the order of the jobs."""
        while job in self.waiting:
            assert self.child.stdout.readline(), (self.folder / "log").read_text()
            self.waiting.pop(0)
        try:
            return read_job(job)
        except ResNetProtoError as refusal:
            return refusal


def random_blobs(net, rng):
    """Weights with every sign; a variance is positive, a scale_factor may be 0."""
    weights = {}
    for step in net.walk():
        for name, shape in step.blobs.items():
            value = rng.normal(size=shape).astype(np.float32)
            if name == "variance":
                value = np.abs(value)
            if name == "scale_factor":
                value = np.full(shape, rng.choice([0, 1, 999.98]), np.float32)
            weights[f"{step.label}.{name}"] = value
    return weights


def ours(text, rng, given):
    """Inputs, weights and blobs; or why we refuse. ``given`` are inputs that are not any."""
    inputs, weights = {}, {}
    try:
        net = read_prototxt(text)
        for name, shape in net.inputs().items():
            value = given.get(name, 4 * rng.normal(size=shape))
            inputs[name] = np.asarray(value, np.float32)
        weights = random_blobs(net, rng)
        return inputs, weights, forward(net, weights, inputs)
    except (NetError, PrototxtError) as refusal:
        return inputs, weights, refusal


def disagreement(text, weights, inputs, blobs, theirs):
    """What is not the same in both, in words; nothing if all is."""
    if "Caffe gives no sensible value" in str(blobs):
        return outside_the_image(theirs)
    if isinstance(theirs, ResNetProtoError):
        refused = isinstance(blobs, ResNetProtoError) or not_run(text, str(theirs))
        return "" if refused else f"we do not refuse what {theirs}"
    if isinstance(blobs, ResNetProtoError) and any(words in str(blobs) for words in GARBAGE):
        return ""
    if isinstance(blobs, ResNetProtoError):
        return f"Caffe does not refuse what we do: {blobs}"
    for name in overwritten(read_prototxt(text).reaching(None, None).layers):
        theirs.pop(name, None)
        blobs.pop(name, None)
    if blobs.keys() != theirs.keys():
        return f"our blobs are {list(blobs)}, Caffe's {list(theirs)}"
    if any(np.shares_memory(a, b) for a, b in combinations(blobs.values(), 2)):
        return "two blobs share memory"
    for name, value in blobs.items():
        other = theirs[name]
        if value.shape != other.shape:
            return f"'{name}' is {value.shape}, Caffe's {other.shape}"
        distance = far(value, other)
        if not distance <= TOLERANCE and not rounded(text, weights, inputs, name, value, other):
            return f"'{name}' differs by {distance:.1e}: {value.ravel()[:9]}, {other.ravel()[:9]}"
    return ""


def not_run(text, reason):
    """Whether Caffe ended with what nobody asks us for: no layer at all, or one without a top.

    A loss without a top reads outside its arrays for a label beyond the classes.
    """
    layers = read_prototxt(text).upgraded().filtered().layers
    crashed = "ended by SIG" in reason and any(not layer.tops for layer in layers)
    return crashed or (not layers and "empty sequence" in reason)


def far(value, other):
    """Relative L2; a nan of both is no error, a nan of one is nan."""
    both = np.isnan(value) & np.isnan(other)
    return relative_l2(np.where(both, 0, value), np.where(both, 0, other))


def outside_the_image(theirs):
    """A pooling window that lies there, which Caffe's Reshape allows: its loops find nothing."""
    if isinstance(theirs, ResNetProtoError):
        return f"Caffe does not even begin: {theirs}"
    if "out0" not in theirs:
        return ""  # a net of several layers: where the window lies they do not show
    value = theirs["out0"]
    empty = np.isnan(value) | np.isin(abs(value), [0, np.finfo(np.float32).max])
    if not (empty[:, :, -1].all() or empty[:, :, :, -1].all()):
        return f"Caffe's last windows are not empty: {value}"
    return ""


def rounded(text, weights, inputs, name, value, other):
    """Whether two float32 values differ by no more than rounding explains.

    A sum whose terms cancel is smaller than the error of its terms, and then no two float32
    programs agree to 1e-5 of it. What is right is known in float64. Caffe's must be as near to
    it as our float32 passes are whose inputs and weights differ in the last bit; and ours as near
    as Caffe's, or as float64 passes of such inputs are. So neither a wrong formula nor one that
    rounds worse than Caffe's gets through.
    """
    net = read_prototxt(text)
    exact = forward(net, weights, inputs, dtype="float64")[name]
    rng = np.random.default_rng(0)
    shaken = [(last_bits(weights, rng), last_bits(inputs, rng)) for _ in range(N_ROUNDINGS)]
    spread32, spread64 = (
        max(off(forward(net, *each, dtype=dtype)[name], exact) for each in shaken)
        for dtype in ("float32", "float64")
    )
    ours_off, theirs_off = off(value, exact), off(other, exact)
    return theirs_off <= FACTOR * spread32 and ours_off <= FACTOR * max(theirs_off, spread64)


def last_bits(arrays, rng):
    """The same numbers, rounded otherwise; whole numbers, which may be labels, as they are."""
    shaken = {}
    for name, value in arrays.items():
        other = value * (1 + rng.uniform(-1, 1, value.shape) * 2.0**-23)
        shaken[name] = np.where(value == np.round(value), value, other)
    return shaken


def off(value, exact):
    """How far from what is right; a nan of both is right, a nan of one is all of it."""
    with np.errstate(invalid="ignore"):
        gap = np.where(np.isnan(value) & np.isnan(exact), 0, value.astype(np.float64) - exact)
    return float(np.linalg.norm(gap.ravel()))
