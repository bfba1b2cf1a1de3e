"""A spec -> the files of its net, by name -> a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from resnet_proto.build import deploy_net
from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import atomic, unreadable
from resnet_proto.forks import needs
from resnet_proto.prototxt import to_prototxt
from resnet_proto.recipe import Training
from resnet_proto.render import render
from resnet_proto.spec import ResNetSpec
from resnet_proto.training.solver import solvers
from resnet_proto.training.tasks import FINISH
from resnet_proto.training.train_val import to_train_val

FILES = {
    "deploy": "deploy.prototxt",
    "train_val": "train_val.prototxt",
    "solver": "solver.prototxt",
    "solver_warmup": "solver_warmup.prototxt",
    "train": "train.sh",
}
"""What ``--only`` calls a file -> its name."""


def generate(
    spec: ResNetSpec,
    *,
    templates: str | os.PathLike[str] | None = None,
    only: str | None = None,
) -> dict[str, str]:
    """The text of each file of a net, by file name; ``solver_warmup`` only where there is one.

    Args:
        spec: the net.
        only: one key of ``FILES``; all by default.
        templates: a folder of templates that go before the project's own.

    Raises:
        ResNetProtoError: the spec's fields contradict each other.
    """
    net = deploy_net(spec)
    nets = {"deploy": net}
    if only != "deploy":
        nets["train_val"] = to_train_val(net, spec.training, FINISH[spec.task])
    texts = {
        FILES[kind]: to_prototxt(net, templates=templates, comments=needs(net))
        for kind, net in nets.items()
        if only in (None, kind)
    }
    if only not in nets:
        texts |= launch_files(spec.title, spec.training, templates=templates)
    return {name: text for name, text in texts.items() if only is None or name == FILES[only]}


def launch_files(
    name: str, training: Training, *, templates: str | os.PathLike[str] | None = None
) -> dict[str, str]:
    """The solvers and the script that starts them, by file name.

    There is no script where only a program can hand the images in.
    """
    prefix = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-").lower() or "net"
    found = solvers(training, prefix)
    texts = {
        file: render("solver.prototxt.j2", templates=templates, solver=solver)
        for file, solver in found.items()
    }
    if training.data == "memory":
        return texts
    weights = f" --weights {quote(training.weights)}" if training.weights else ""
    frozen = training.freeze or training.freeze_batch_norm
    if frozen and not weights:  # without statistics a map overflows
        weights = ' --weights "${WEIGHTS:?names the caffemodel to begin with}"'
    texts[FILES["train"]] = render(
        "train_py_faster_rcnn.sh.j2" if training.launcher == "py-faster-rcnn" else "train.sh.j2",
        templates=templates,
        name=" ".join(name.split()),
        prefix=prefix,
        training=training,
        warm_up=FILES["solver_warmup"] in found,
        gpus=training.gpus if training.uses_gpus else 0,
        weights=weights,
        reads=[quote(path) for path in training.reads],
        begins=[quote(file) for file in training.weights.split(",") if file],
        quote=quote,
    )
    return texts


def encoded(text: str) -> bytes:
    """The bytes of a text; those of a name that is no UTF-8 are kept as they were given."""
    return text.encode("utf-8", "surrogateescape")


def write_files(
    texts: Mapping[str, str],
    folder: str | os.PathLike[str],
    *,
    force: bool = False,
    elsewhere: str = "",
) -> dict[Path, str]:
    """Write files into a folder, each as a whole or not at all; scripts can be executed.

    Args:
        texts: file name -> content.
        folder: made if it is missing.
        force: overwrite files whose content differs.
        elsewhere: for the refusal: the options that name another place.

    Returns:
        each path with what happened: ``written``, or ``unchanged`` where it held this already.

    Raises:
        ResNetProtoError: a file exists with other content; then none is written.
    """
    done: dict[Path, str] = {}
    for name, text in texts.items():
        path = Path(folder) / name
        try:
            if not path.exists():
                done[path] = "written"
                continue
            if path.is_dir():
                raise ResNetProtoError(f"{path} is a folder; give the name of a file")
            same = path.is_file() and path.read_bytes() == encoded(text)
        except OSError as error:
            raise ResNetProtoError(unreadable(path, error)) from None
        if not same and not force:
            raise ResNetProtoError(
                f"{path} exists with other content; --force overwrites it"
                + (f", {elsewhere} writes elsewhere" if elsewhere else "")
            )
        done[path] = "unchanged" if same else "written"
    for path, state in done.items():
        if state == "written":
            with atomic(path) as file:
                file.write(encoded(texts[path.name]))
            if path.suffix == ".sh":
                path.chmod(path.stat().st_mode | 0o111)
    return done
