"""A spec -> the files of its net, by name -> a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from resnet_proto.build import deploy_net
from resnet_proto.errors import ResNetProtoError
from resnet_proto.files import atomic
from resnet_proto.prototxt import to_prototxt
from resnet_proto.spec import ResNetSpec

FILES = {"deploy": "deploy.prototxt"}
"""What ``--only`` calls a file -> its name."""


def generate(
    spec: ResNetSpec, *, templates: str | os.PathLike[str] | None = None
) -> dict[str, str]:
    """The text of each file of a net, by file name.

    Args:
        spec: the net.
        templates: a folder of templates that go before the project's own.
    """
    return {FILES["deploy"]: to_prototxt(deploy_net(spec), templates=templates)}


def write_files(
    texts: Mapping[str, str], folder: str | os.PathLike[str], *, force: bool = False
) -> dict[Path, str]:
    """Write files into a folder, each as a whole or not at all.

    Args:
        texts: file name -> content.
        folder: made if it is missing.
        force: overwrite files whose content differs.

    Returns:
        each path with what happened: ``written``, or ``unchanged`` where it held this already.

    Raises:
        ResNetProtoError: a file exists with other content; then none is written.
    """
    done: dict[Path, str] = {}
    for name, text in texts.items():
        path = Path(folder) / name
        try:
            same = path.read_bytes() == text.encode()
        except FileNotFoundError:
            done[path] = "written"
            continue
        except OSError as error:
            raise ResNetProtoError(f"{path}: cannot be read: {error.strerror}") from None
        if not same and not force:
            raise ResNetProtoError(
                f"{path} exists with other content; "
                "--force overwrites it, --out DIR writes elsewhere"
            )
        done[path] = "unchanged" if same else "written"
    for path, state in done.items():
        if state == "written":
            with atomic(path) as file:
                file.write(texts[path.name].encode())
    return done
