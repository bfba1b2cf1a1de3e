"""Hundreds of random layers, nets and texts against the real Caffe: ``make fuzz``.

The generators are those of the tests. Where numpy's numbers give a case on which the two
disagree, hypothesis draws from the same generator until it has one too, and shrinks it; the
smallest is printed as a row of the table that ``test_random.py`` or ``test_text_format.py`` keeps.
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from oracles.configurations import CONFIGURATIONS, one_layer_net  # noqa: E402
from oracles.random_nets import random_net  # noqa: E402
from oracles.random_texts import random_text  # noqa: E402
from oracles.warm import WarmCaffe, disagreement, ours  # noqa: E402

from resnet_proto.errors import PrototxtError  # noqa: E402
from resnet_proto.prototxt import to_prototxt  # noqa: E402
from resnet_proto.text_format import parse  # noqa: E402

CAFFE = ROOT / ".oracles" / "caffe" / "bin" / "python"
TRIES = 20
"""So many times as many cases does hypothesis draw, until it has one to shrink."""
FEW = 6
"""Arrays of whole numbers up to this size are drawn one by one, so that they shrink."""


class Drawn:
    """What the generators need of numpy's Generator, drawn by hypothesis.

    Numbers shrink to the lowest, and probabilities to what is not set. Arrays come from a seed.
    """

    def __init__(self, draw):
        self.draw = draw
        self.arrays = np.random.default_rng(draw(st.integers(0, 9)))

    def integers(self, low, high=None, size=None, endpoint=False):
        low, high = (0, low) if high is None else (low, high)
        if size is not None and np.prod(size) > FEW:
            return self.arrays.integers(low, high, size, endpoint=endpoint)
        one = st.integers(low, high if endpoint else high - 1)
        if size is None:
            return self.draw(one)
        return np.array([self.draw(one) for _ in range(np.prod(size, dtype=int))]).reshape(size)

    def random(self):
        return 0.99 - self.draw(st.integers(0, 99)) / 100

    def choice(self, values, size=None, replace=True, p=None):
        values = list(values)
        if size is None:
            return self.draw(st.sampled_from(values))
        chosen = []
        for _ in range(size):
            chosen.append(values[self.draw(st.integers(0, len(values) - 1))])
            if not replace:
                values.remove(chosen[-1])
        return np.array(chosen)

    def uniform(self, low=0.0, high=1.0, size=None):
        if size is not None:
            return self.arrays.uniform(low, high, size)
        return low + (high - low) * self.draw(st.integers(0, 99)) / 100

    def normal(self, size=None):
        return (
            self.draw(st.integers(-30, 30)) / 10 if size is None else self.arrays.normal(size=size)
        )


def check_net(made, caffe):
    """Args: a net and the inputs that are not any. ``test_random.py`` runs it the same way."""
    net, values = made
    text = to_prototxt(net)
    inputs, weights, blobs = ours(text, np.random.default_rng(0), values)
    job = caffe.give(text, weights, inputs)
    theirs = caffe.answer(job)
    problem = disagreement(text, weights, inputs, blobs, theirs)
    shutil.rmtree(job)
    if problem:
        kept = {name: value.tolist() for name, value in values.items()}
        raise AssertionError(
            f'{problem}\n    "NAME": (\n        """\n{text}""",\n        {kept},\n    ),'
        )


def check_text(text, caffe):
    """Whether the parsers take the same."""
    try:
        parse(text, "NetParameter")
        refusal = None
    except PrototxtError as error:
        refusal = str(error)
    job = caffe.give(text, {}, {})
    taken = caffe.parses(job)
    shutil.rmtree(job)
    if taken == bool(refusal):
        raise AssertionError(f"we say {refusal}, Caffe takes it: {taken}\n    {text!r},")


def fuzz(make, check, caffe, n, number):
    """The words on a case of ``n`` on which the two disagree, or nothing.

    numpy's numbers search, because they are spread evenly; hypothesis' are not, but they shrink.
    """
    rng = np.random.default_rng(number)
    for _ in range(n):
        case = make(rng)
        try:
            check(case, caffe)
        except Exception as error:  # a traceback of ours is a find too
            smallest = shrunk(make, check, caffe, TRIES * n, number)
            return smallest or f"{type(error).__name__}: {error}"
    return ""


def shrunk(make, check, caffe, n, number):
    """The words on the smallest case, if any of ``n`` is one."""

    @st.composite
    def cases(draw):
        return make(Drawn(draw))

    @seed(number)
    @settings(
        max_examples=n,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(cases())
    def run(case):
        check(case, caffe)

    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", help="a layer type, nets or texts; all of them if not given")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    options = parser.parse_args()
    kinds = {
        type: (lambda rng, type=type: one_layer_net(type, rng), check_net)
        for type in sorted(CONFIGURATIONS)
    }
    kinds |= {"nets": (random_net, check_net), "texts": (random_text, check_text)}
    if options.type and options.type not in kinds:
        parser.error(f"no type '{options.type}'; known: {', '.join(kinds)}")
    print(f"seed {options.seed}")
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        caffe = WarmCaffe(os.environ.get("CAFFE_PYTHON", CAFFE), Path(folder))
        for kind in [options.type] if options.type else kinds:
            problem = fuzz(*kinds[kind], caffe, options.n, options.seed)
            print(f"{kind}: {problem or f'{options.n} alike'}", flush=True)
            found += bool(problem)
        caffe.close()
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
