"""Prototxt text <-> net."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resnet_proto.render import render

if TYPE_CHECKING:
    from resnet_proto.net import Net


def to_prototxt(net: Net, *, templates: str | os.PathLike[str] | None = None) -> str:
    """The net as prototxt, as Caffe reads it.

    Args:
        net: any net, generated or read.
        templates: a folder whose templates go before the project's own.

    Raises:
        ResNetProtoError: a template that is wrong.
    """
    return render("net.prototxt.j2", templates=templates, net=net)
